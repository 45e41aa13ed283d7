"""The difference of two groups among what is alike in something else: matched in strata, adjusted for what is left inside."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError, caller, public
from localize.statistics.bootstrap import Interval, parts_drawn_again, stretched
from localize.statistics.clusters import check_paragraphs
from localize.statistics.groups import ClusterParts, parts_of_rows
from localize.statistics.permutation import CONSTANT, relabelled_among_alike, share_as_extreme
from localize.statistics.ranges import Range, within
from localize.statistics.strata import (
    MOMENTS,
    cells_of,
    compared_in_strata,
    overlap,
    strata_of_cells,
    strata_of_clusters,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

STRATA = 10
CLUSTERS_IN_A_STRATUM = 4
"""Of the group that has fewer clusters; strata are fewer where this would not be reached."""

DRAWS_AT_ONCE = 250
UNSUPPORTED = 0.05
"""Share of draws without common support beyond which a 95 % interval is not known."""


@dataclass(frozen=True, eq=False)
class Matched:
    """A difference between rows of two groups that are alike in what they are matched on.

    Attributes:
        difference: mean(a) - mean(b), in the unit of the values; nan where the groups have no common support, the interval also
            where a group has a single cluster there, or more than 1 in 20 draws have no common support.
        mean_a: Of group a on the common support.
        mean_b: Of group b, at the same confidence.
        p_value: Two-sided, in (0, 1]; nan where `low` is, or no two clusters alike in what is matched on differ in group.
        null_low: 2.5 % quantile of the null difference.
        null_high: 97.5 % quantile.
        weights: How much each row counts in its group's mean: they sum to 1 in each group, and are 0 off the common support.
        strata: How many strata there are.
    """

    difference: Interval
    mean_a: Interval
    mean_b: Interval
    p_value: float
    null_low: float
    null_high: float
    weights: Float[np.ndarray, " row"]
    strata: int

    def within(self, possible: Range) -> "Matched":
        """The same with every end moved into the range of the values, or of their difference, where it lies beyond it."""
        apart = possible.minus(possible)
        return replace(
            self,
            difference=self.difference.within(apart),
            mean_a=self.mean_a.within(possible),
            mean_b=self.mean_b.within(possible),
            null_low=float(within(np.asarray(self.null_low), apart)),
            null_high=float(within(np.asarray(self.null_high), apart)),
        )


@public
def matched_difference(
    values: Real[np.ndarray, " row"],
    on: Real[np.ndarray, " row"],
    in_a: Bool[np.ndarray, " row"],
    in_b: Bool[np.ndarray, " row"],
    clusters: Int[np.ndarray, " row"],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Matched:
    """mean(a) - mean(b) among rows that are alike in `on`, with an interval and a test by clusters.

    Rows outside the range of `on` that both groups reach are left out. The others are cut at quantiles of `on` into up to 10
    strata, of at least 4 clusters of the group that has fewer. In each stratum the means are compared; strata are averaged with
    weights n_a n_b / (n_a + n_b). What the groups still differ in `on` inside strata is taken out by one slope, that of the values
    on `on` inside strata and groups.

    The interval is by bootstrap over clusters, each draw matched anew, with percentiles stretched as in `cluster_bootstrap`.
    For the test labels are permuted over clusters inside strata of the clusters' mean of `on`, each relabelling matched anew;
    clusters in both groups swap their parts. It holds groups equal where the values follow from `on` and chance alone.

    Args:
        values: One number per row (a paragraph, a token); nan is a missing measurement.
        on: What rows are matched on, on a scale on which the values go about straight; nan is missing.
        in_a: The rows of group a.
        in_b: Those of group b; none may be in both, those in neither are not used.
        clusters: The cluster of each row.
        seed: Of the draws; the same seed gives the same bits.
        resamples: Draws of bootstrap and permutation.
        level: Share of intervals that should hold the true value.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, or a value is infinite.

    Source:
        Overlap weights: Li, Morgan and Zaslavsky 2018, here per stratum.
    """
    check_paragraphs(values, clusters, in_a=in_a, in_b=in_b)
    if np.isinf(on).any():
        row = int(np.flatnonzero(np.isinf(on))[0])
        raise LocalizeError(f"{caller()}: on is infinite at row {row}; it must be finite, or nan where missing.")
    kept = np.flatnonzero((in_a | in_b) & ~np.isnan(values) & ~np.isnan(on))
    if not (in_a[kept].any() and in_b[kept].any()):
        return _nothing(len(values))
    rows = _Rows.of(values[kept].astype(float), on[kept].astype(float), in_a[kept], clusters[kept])
    one = rows.parts.in_a[None].astype(float)
    found = rows.compared(one, 1 - one)[0]
    if np.isnan(found).any():
        return _nothing(len(values))
    weights = np.zeros(len(values))
    weights[kept] = rows.weights()
    effective = (_effective(weights[in_a], clusters[in_a]), _effective(weights[in_b], clusters[in_b]))
    difference, mean_a, mean_b = _intervals(rows, found, effective, seed, resamples, level)
    p_value, null_low, null_high = np.nan, np.nan, np.nan
    if np.isfinite(difference.low):
        p_value, null_low, null_high = _permuted(rows, float(found[0]), seed, resamples)
    return Matched(difference, mean_a, mean_b, p_value, null_low, null_high, weights, rows.strata)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of two groups, added up for each part of a cluster and each cell of `on`."""

    parts: ClusterParts
    sums: "csr_array"  # (part, cell and moment), of values less their mean
    mean: float
    scale: float  # largest distance of a value from it
    part: Int[np.ndarray, " row"]
    cell: Int[np.ndarray, " row"]
    strata: int
    stratum: Int[np.ndarray, " alone"]  # of each cluster that is in one group only, by its mean of `on`

    @classmethod
    def of(
        cls,
        y: Float[np.ndarray, " row"],
        x: Float[np.ndarray, " row"],
        a: Bool[np.ndarray, " row"],
        clusters: np.ndarray,
    ) -> "_Rows":
        from scipy.sparse import csr_array

        mean = float(y.mean())
        (x, reach), (y, scale) = _centred(x), _centred(y)
        x = x / (reach or 1.0)  # what counts as no spread inside strata must not depend on the unit
        part, sizes = parts_of_rows(clusters, a)
        cell = cells_of(x)
        moments = np.stack([np.ones(len(x)), x, y, x * x, x * y], axis=1)
        at = (np.repeat(part, MOMENTS), (cell[:, None] * MOMENTS + np.arange(MOMENTS)).ravel())
        count = sizes[0] + sizes[1] + 2 * sizes[2]
        sums = csr_array((moments.ravel(), at), shape=(count, (int(cell.max()) + 1) * MOMENTS))
        number = np.bincount(part, minlength=count)
        parts = ClusterParts(np.zeros(1, np.int64), *sizes, number, np.zeros((count, 1)))
        reached = overlap(*(np.bincount(cell[g], minlength=cell.max() + 1)[None] > 0 for g in (a, ~a)))[0][cell]
        fewest = min(len(np.unique(part[reached & g])) for g in (a, ~a))
        strata = int(np.clip(fewest // CLUSTERS_IN_A_STRATUM, 1, STRATA))
        alone = sizes[0] + sizes[1]
        means = (np.bincount(part, weights=x, minlength=count) / number)[:alone]
        stratum = strata_of_clusters(means, np.arange(alone) < sizes[0], strata)
        return cls(parts, sums, mean, scale, part, cell, strata, stratum)

    def compared(
        self, weights_a: Float[np.ndarray, "draw part"], weights_b: Float[np.ndarray, "draw part"]
    ) -> Float[np.ndarray, "draw 3"]:
        """Difference and the two groups' means, when parts count so often in each."""
        a, b = (np.asarray(w @ self.sums).reshape(len(w), -1, MOMENTS) for w in (weights_a, weights_b))
        return compared_in_strata(a, b, self.strata) + np.array([0.0, self.mean, self.mean])

    def weights(self) -> Float[np.ndarray, " row"]:
        """How much each row counts in the mean of its group."""
        a = self.parts.in_a[self.part]
        n = np.stack([np.bincount(self.cell[g], minlength=self.cell.max() + 1) for g in (a, ~a)])
        stratum = strata_of_cells(n[:1], n[1:], self.strata)[0]
        in_stratum = np.stack([np.bincount(stratum[stratum >= 0], row[stratum >= 0], self.strata) for row in n])
        overlap = in_stratum.prod(0) / np.maximum(in_stratum.sum(0), 1)
        share = np.divide(overlap, in_stratum, out=np.zeros_like(in_stratum), where=in_stratum > 0) / overlap.sum()
        of_row = stratum[self.cell]
        return np.where(of_row >= 0, share[(~a).astype(int), of_row], 0.0)


def _centred(values: Float[np.ndarray, " row"]) -> tuple[Float[np.ndarray, " row"], float]:
    """Values less their mean, and the largest distance from it; both 0 where all are equal but for rounding."""
    centred = values - values.mean()
    scale = float(np.abs(centred).max())
    return (centred, scale) if scale > CONSTANT * np.abs(values).max() else (np.zeros_like(values), 0.0)


def _intervals(
    rows: _Rows,
    found: Float[np.ndarray, "3"],
    effective: tuple[float, float],
    seed: int,
    resamples: int,
    level: float,
) -> list[Interval]:
    """Of the difference and of the two means, by drawing clusters again and matching anew."""
    drawn = np.full((0, 3), np.nan)
    if min(effective) > 1:
        weights, a = parts_drawn_again(np.random.default_rng(seed), rows.parts, resamples), rows.parts.in_a
        drawn = np.concatenate([rows.compared(w * a, w * ~a) for w in _pieces(weights)])
        missing = np.isnan(drawn[:, 0])
        drawn = drawn[~missing] if missing.sum() + resamples - len(drawn) <= UNSUPPORTED * resamples else drawn[:0]
    if len(drawn) == 0:
        return [Interval(np.asarray(number), np.asarray(np.nan), np.asarray(np.nan)) for number in found]
    of_a, of_b = (max(number - 1, 1.0) for number in effective)
    _, v_a, v_b = drawn.var(0)
    together = (v_a + v_b) ** 2 / (v_a**2 / of_a + v_b**2 / of_b) if v_a + v_b > 0 else min(of_a, of_b)
    low, high = stretched(drawn, found, np.array([together, of_a, of_b]), level)
    return [Interval(*(np.asarray(number) for number in numbers)) for numbers in zip(found, low, high, strict=True)]


def _permuted(rows: _Rows, found: float, seed: int, permutations: int) -> tuple[float, float, float]:
    """p-value, 2.5 % and 97.5 % quantile of the difference, with labels permuted over clusters that are alike."""
    labels = relabelled_among_alike(np.random.default_rng([seed, 17]), rows.parts, rows.stratum, permutations)
    if (labels == labels[0]).all():
        return np.nan, np.nan, np.nan
    null = np.concatenate([rows.compared(a, 1 - a)[:, 0] for a in _pieces(labels.astype(float))])
    null = np.concatenate([[found], null[1:][~np.isnan(null[1:])]])
    low, high = np.quantile(null, [0.025, 0.975])
    return float(share_as_extreme(null[:, None], rows.scale)[0]), float(low), float(high)


def _pieces(weights: Float[np.ndarray, "draw part"]) -> list[Float[np.ndarray, "some part"]]:
    """A few draws at a time, because each has a number for every cell and moment."""
    return [weights[first : first + DRAWS_AT_ONCE] for first in range(0, len(weights), DRAWS_AT_ONCE)]


def _nothing(rows: int) -> Matched:
    """What can be told where the groups have nothing in common."""
    empty = Interval(*(np.asarray(np.nan) for _ in range(3)))
    return Matched(empty, empty, empty, np.nan, np.nan, np.nan, np.zeros(rows), 0)


def _effective(weights: Float[np.ndarray, " row"], clusters: Int[np.ndarray, " row"]) -> float:
    """Effective number of clusters of one group, by how much each counts."""
    of_cluster = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=weights)
    return float(of_cluster.sum() ** 2 / (of_cluster**2).sum())
