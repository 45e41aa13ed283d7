"""Where an interval or a test of a mean, or of a difference of means, is not to be trusted: too few clusters, or too skewed ones."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, Real

from localize.errors import public
from localize.statistics.clusters import cells_sharing_counts, check_paragraphs, cluster_sums
from localize.statistics.groups import cluster_parts
from localize.statistics.skewness import own_skewness, skewness_together
from localize.statistics.studentized import CONSTANT, ClusterEffects, groups_of

FEWEST = 5.0
"""Below so many effective clusters nobody can see whether they are skewed."""

APART = 5
"""Of clusters that differ from what most are alike in: how often fewer do is known to no better than a factor of two."""

SKEWED, LARGER = 2.1, 0.13
"""Limit of `skewness`, and what each e-fold of clusters adds to it, as heavy tails do: beyond are 5 to 10 % of even samples."""

MOST = 0.5
"""If a larger share of a grid's cells are skewed, all are called so: those that do not show it may have missed the tail."""


@public
def rough_mean(values: Real[np.ndarray, "paragraph *cell"], clusters: np.ndarray) -> Bool[np.ndarray, "*cell"]:
    """Whether the interval of `cluster_bootstrap` and the p-value of `cluster_sign_flip` are rough; see `rough_difference`.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        clusters: The near-duplicate cluster of each paragraph; any labels.

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph, or a value is infinite.
    """
    check_paragraphs(values, clusters)
    flat = values.reshape(len(values), -1)
    whole = cluster_sums(flat, clusters, np.ones(len(values), dtype=bool))

    def pieces() -> Iterable[tuple[Int[np.ndarray, "piece"], tuple[ClusterEffects, ...], float]]:
        for cells, count in cells_sharing_counts(whole.counts, draws=1):
            there = np.flatnonzero(count)
            if len(there):
                yield cells, (ClusterEffects.of(count[there], whole.sums[np.ix_(there, cells)]),), 0.0

    return _rough(pieces(), flat.shape[1]).reshape(values.shape[1:])


@public
def rough_difference(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
    clusters: np.ndarray,
) -> Bool[np.ndarray, "*cell"]:
    """Whether interval and p-value of a difference of means are rough, cell by cell.

    A cell is rough if a group has fewer than 5 effective clusters, if fewer than 5 of a group's clusters differ from the mean
    that most of them have (all at 50, or all but a few), or if skewness of the clusters' means matters:

    - of each group by itself, as far as its share of the error makes the estimate skewed;
    - of both together, each in its own standard deviations, as far as one group's error outweighs the other's, or would if
      values spread alike in both. A large group shows in this way what a small one beside it may have missed.

    From 20 effective clusters on both count less, in proportion. If more than half of the cells are skewed, all are called so.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups.
        clusters: The near-duplicate cluster of each paragraph; any labels.

    Returns:
        False where nothing was measured.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, or a value is infinite.

    Source:
        How the error's shares enter: the first term of Hall 1992, The Bootstrap and Edgeworth Expansion, section 3.5. The
        limits: simulation, tests/benchmarks/calibration.py.
    """
    check_paragraphs(values, clusters, in_a=in_a, in_b=in_b)
    parts = cluster_parts(values, in_a, in_b, clusters, draws=1)
    pieces = ((piece.cells, groups_of(piece), piece.overlap) for piece in parts)
    return _rough(pieces, int(np.prod(values.shape[1:]))).reshape(values.shape[1:])


def _rough(
    pieces: Iterable[tuple[Int[np.ndarray, "piece"], tuple[ClusterEffects, ...], float]], cells: int
) -> Bool[np.ndarray, "cell"]:
    """Cells of too few clusters and those skewed too much: all of them where most are."""
    few, skewed, measured = np.zeros((3, cells), dtype=bool)
    for at, groups, overlap in pieces:
        measured[at] = True
        few[at] = too_few(groups)
        skewed[at] = ~few[at] & too_skewed(groups, overlap)
    judged = measured & ~few
    if judged.any() and skewed[judged].mean() > MOST:
        skewed = judged
    return few | skewed


def too_few(groups: tuple[ClusterEffects, ...]) -> Bool[np.ndarray, "cell"]:
    """Whether a group has too few clusters, or too few that differ from the others."""
    if min(group.effective for group in groups) < FEWEST:
        return np.ones(groups[0].mean.shape, dtype=bool)
    return np.any([differing(group) < APART for group in groups], axis=0)


def too_skewed(groups: tuple[ClusterEffects, ...], overlap: float) -> Bool[np.ndarray, "cell"]:
    """Whether the estimate is skewed by more than its interval can make up for."""
    limit = SKEWED + LARGER * np.log(max(len(group.counts) for group in groups))
    skewed = own_skewness(groups, overlap) > limit
    return skewed | (skewness_together(groups, overlap) > limit) if len(groups) == 2 else skewed


def differing(group: ClusterEffects) -> Int[np.ndarray, "cell"]:
    """How many clusters differ from the mean that most have, by more than rounding."""
    ordered = np.sort(group.effects, axis=0)
    new = np.diff(ordered, axis=0) > CONSTANT * np.maximum(np.abs(group.mean), np.abs(ordered).max(0))
    longest = run = np.ones(ordered.shape[1], dtype=np.int64)
    for steps in new:
        run = np.where(steps, 1, run + 1)
        longest = np.maximum(longest, run)
    return len(ordered) - longest
