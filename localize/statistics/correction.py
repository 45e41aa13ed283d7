"""Correction for many tests at once."""

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public

LEVEL = 0.05
"""The p-value, or the q-value where many tests are made, up to which a difference is called found."""


@public
def false_discovery(p_values: Float[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """The false discovery rate at which each test would be called a discovery (q-value), over all tests given.

    >>> false_discovery(np.array([0.01, 0.04, np.nan]))
    array([0.02, 0.04,  nan])

    Args:
        p_values: Any shape; all entries are one family of tests. nan is a test that was not made,
            which stays nan and does not count.

    Raises:
        LocalizeError: (a ValueError) If a p-value lies outside [0, 1].

    Source:
        Benjamini and Hochberg 1995, as in scipy.stats.false_discovery_control.
    """
    from scipy.stats import false_discovery_control

    made = ~np.isnan(p_values)
    wrong = p_values[made & ((p_values < 0) | (p_values > 1))]
    if wrong.size:
        raise LocalizeError(
            f"{caller()}: p_values holds {wrong.flat[0]}; each must lie in 0..1, or be nan for a test not made."
        )
    q_values = np.full(p_values.shape, np.nan)
    if made.any():
        q_values[made] = false_discovery_control(p_values[made])
    return q_values
