"""Strata of rows that are alike in something, and the difference of two groups inside them, for many draws at once."""

import numpy as np
from jaxtyping import Bool, Float, Int, Real

CELLS = 250
"""Into so many cells, at most, is what is matched on cut before strata are made of them: only this fine are limits of strata."""

MOMENTS = 5
"""Of each cell: how many rows there are, and the sums of x, y, x^2 and x y."""

TINY = 1e-9
"""Below is nothing but rounding."""


def cells_of(x: Float[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """A cell for each value, or, of more than `CELLS`, for each quantile; equal values share one."""
    cell = np.unique(x, return_inverse=True)[1]
    return cell if cell.max() < CELLS else np.unique(quantile_part(x, CELLS), return_inverse=True)[1]


def quantile_part(x: Float[np.ndarray, " item"], count: int) -> Int[np.ndarray, " item"]:
    """Which of `count` equally full parts of the ordered values each is in; equal values are in one."""
    _, run, size = np.unique(x, return_inverse=True, return_counts=True)
    middle = (size.cumsum() - size / 2) / max(len(x), 1)
    return np.floor(count * middle).astype(np.int64)[run]


def overlap(
    has_a: Bool[np.ndarray, "draw cell"], has_b: Bool[np.ndarray, "draw cell"]
) -> Bool[np.ndarray, "draw cell"]:
    """The cells that lie in the range of both groups."""
    ranges = [
        np.maximum.accumulate(has, axis=1) & np.maximum.accumulate(has[:, ::-1], axis=1)[:, ::-1]
        for has in (has_a, has_b)
    ]
    return ranges[0] & ranges[1]


def strata_of_cells(
    n_a: Real[np.ndarray, "draw cell"], n_b: Real[np.ndarray, "draw cell"], strata: int
) -> Int[np.ndarray, "draw cell"]:
    """The stratum of each cell, from low to high, equally full; -1 outside the range that both groups reach."""
    n = np.where(overlap(n_a > 0, n_b > 0), n_a + n_b, 0.0)
    total = n.sum(1, keepdims=True)
    middle = (n.cumsum(1) - n / 2) / np.where(total > 0, total, 1.0)
    return np.where(n > 0, np.floor(strata * middle).astype(np.int64).clip(0, strata - 1), -1)


def compared_in_strata(
    a: Float[np.ndarray, "draw cell moment"], b: Float[np.ndarray, "draw cell moment"], strata: int
) -> Float[np.ndarray, "draw 3"]:
    """Difference, mean of a and mean of b, matched and adjusted; nan in draws without common support."""
    stratum = strata_of_cells(a[..., 0], b[..., 0], strata)
    inside = (stratum[:, None] == np.arange(strata)[:, None]).astype(float)  # (draw, stratum, cell)
    a, b = inside @ a, inside @ b
    n_a, n_b = a[..., 0], b[..., 0]
    both = (n_a > 0) & (n_b > 0)
    weight = np.where(both, n_a * n_b / np.maximum(n_a + n_b, TINY), 0.0)
    centres, spread, product = [], 0.0, 0.0
    for group in (a, b):
        n, x, y, xx, xy = np.moveaxis(np.where(both[..., None], group, 0.0), -1, 0)
        n = np.where(both, n, 1.0)
        centres.append((x / n, y / n))
        spread, product = spread + (xx - x * x / n).sum(1), product + (xy - x * y / n).sum(1)
    slope = np.divide(product, spread, out=np.zeros(len(a)), where=spread > TINY)[:, None]
    (x_a, y_a), (x_b, y_b) = centres
    half = slope * (x_a - x_b) / 2
    total = weight.sum(1)
    there = np.where(total > 0, total, np.nan)
    mean_a, mean_b = ((weight * y).sum(1) / there for y in (y_a - half, y_b + half))
    return np.stack([mean_a - mean_b, mean_a, mean_b], axis=1)


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
