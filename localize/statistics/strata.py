"""Strata of clusters that are alike in something: inside them labels may move."""

import numpy as np
from jaxtyping import Bool, Float, Int


def quantile_part(x: Float[np.ndarray, " item"], count: int) -> Int[np.ndarray, " item"]:
    """Which of `count` equally full parts of the ordered values each is in; equal values are in one."""
    _, run, size = np.unique(x, return_inverse=True, return_counts=True)
    middle = (size.cumsum() - size / 2) / max(len(x), 1)
    return np.floor(count * middle).astype(np.int64)[run]


def strata_of_clusters(
    means: Float[np.ndarray, " alone"], a: Bool[np.ndarray, " alone"], strata: int
) -> Int[np.ndarray, " alone"]:
    """Strata of clusters that are in one group, equally full; outside the range that both groups reach each is its own."""
    stratum = strata + np.arange(len(means))
    if a.any() and not a.all():
        low, high = (
            end(x) for end, x in ((max, [means[g].min() for g in (a, ~a)]), (min, [means[g].max() for g in (a, ~a)]))
        )
        inside = (means >= low) & (means <= high)
        stratum[inside] = quantile_part(means[inside], strata)
    return stratum
