"""How unevenly a quantity is shared out: over heads, over layers, over tokens."""

import numpy as np
from jaxtyping import Float, Real

from localize.errors import LocalizeError, caller, public


@public
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
        raise LocalizeError(
            f"{caller()}: values holds {wrong.flat[0]}; shares are defined for finite values of at least 0."
        )
    ordered = np.sort(np.moveaxis(values, axis, -1).astype(np.float64), axis=-1)
    n, total = ordered.shape[-1], ordered.sum(-1)
    ahead_less_behind = 2 * np.arange(1, n + 1) - n - 1
    return np.where(total > 0, ordered @ ahead_less_behind / (n * np.where(total > 0, total, 1.0)), np.nan)


@public
def cumulated_share(
    choosing: Real[np.ndarray, "row item"], scoring: Real[np.ndarray, "row item"]
) -> Float[np.ndarray, "row count"]:
    """How much of a quantity the first 0, 1, 2, ... items carry, taken in the order of another one.

    Items that tie in `choosing` share what they score, so that no order among them is preferred. Where `choosing` says nothing of
    `scoring`, the expected curve is the diagonal.

    >>> cumulated_share(np.array([[5.0, 1.0, 1.0]]), np.array([[6.0, 4.0, 0.0]]))
    array([[0. , 0.6, 0.8, 1. ]])

    Args:
        choosing: What orders the items of a row, largest first.
        scoring: What is shared out, at least 0.

    Returns:
        Dimensionless, in [0, 1], one more column than items; nan where the scores of a row sum to 0.
    """
    rows, items = scoring.shape
    order = np.argsort(-choosing, axis=1, kind="stable")
    chosen, scored = np.take_along_axis(choosing, order, 1), np.take_along_axis(scoring, order, 1)
    starts = np.ones((rows, items), dtype=bool)  # of a run of ties
    starts[:, 1:] = chosen[:, 1:] != chosen[:, :-1]
    run = starts.ravel().cumsum() - 1
    shared = (np.bincount(run, weights=scored.ravel()) / np.bincount(run))[run].reshape(rows, items)
    total = scoring.sum(1, keepdims=True)
    curve = np.concatenate([np.zeros((rows, 1)), shared.cumsum(1)], axis=1)
    return np.divide(curve, total, out=np.full(curve.shape, np.nan), where=total > 0)
