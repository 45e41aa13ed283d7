"""How unevenly a quantity is shared out: over heads, over layers, over tokens."""

import numpy as np
from jaxtyping import Float, Real

from localize.errors import LocalizeError


def gini(values: Real[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Gini coefficient along an axis: 0 if all n have the same, (n - 1) / n if one has everything.

    >>> gini(np.array([0.0, 0.0, 0.0, 5.0]))
    array(0.75)

    Args:
        values: Non-negative, any unit.
        axis: The axis over which the quantity is shared; it is gone from the result.

    Returns:
        Dimensionless, in [0, 1); nan where the sum is 0 or a value is nan.

    Raises:
        LocalizeError: (a ValueError) If a value is negative or infinite.
    """
    wrong = values[(values < 0) | np.isinf(values)]
    if wrong.size:
        raise LocalizeError(f"gini: values holds {wrong.flat[0]}; shares are defined for finite values of at least 0.")
    ordered = np.sort(np.moveaxis(values, axis, -1).astype(np.float64), axis=-1)
    n, total = ordered.shape[-1], ordered.sum(-1)
    ahead_less_behind = 2 * np.arange(1, n + 1) - n - 1
    return np.where(total > 0, ordered @ ahead_less_behind / (n * np.where(total > 0, total, 1.0)), np.nan)
