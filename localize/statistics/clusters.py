"""Clusters of near-duplicate paragraphs: what is counted once, because it was written once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError, caller, public

CELLS_TIMES_DRAWS = 2**19
"""How many (draw, cell) numbers one array of a bootstrap or permutation may hold: 4 MB, of about twenty at a time."""


@public
def effective_clusters(clusters: Int[np.ndarray, "paragraph"]) -> float:
    """How many equally large clusters would tell as much as these.

    (sum n)^2 / sum n^2 over cluster sizes n: the number of clusters if all are equally large,
    near 1 if one holds nearly every paragraph.

    >>> effective_clusters(np.array([7, 7, 7, 2]))
    1.6

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph.

    Source:
        Kish 1965, Survey Sampling, section 11.7, with cluster sizes as the weights.
    """
    if len(clusters) == 0:
        raise LocalizeError(f"{caller()}: clusters is empty; at least one paragraph is needed.")
    return effective_number(np.unique(clusters, return_counts=True)[1])


def effective_number(counts: Int[np.ndarray, "cluster"]) -> float:
    """`effective_clusters`, from the number of paragraphs in each cluster."""
    return float(counts.sum() ** 2 / (counts**2).sum())


@public
def choosing_half(clusters: Int[np.ndarray, " paragraph"], seed: int) -> Bool[np.ndarray, " paragraph"]:
    """A random half of the clusters, as a mask over paragraphs: what chooses is never what is scored."""
    distinct = np.unique(clusters)
    half = np.random.default_rng([seed, 11]).permutation(distinct)[: len(distinct) // 2]
    return np.isin(clusters, half)


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Per cluster and cell, the sum of the measured values and how many there are.

    Attributes:
        labels: The clusters that have a member, ascending.
        sums: In the unit of the values; 0 where nothing was measured.
        counts: Paragraphs measured.
    """

    labels: Int[np.ndarray, "cluster"]
    sums: Float[np.ndarray, "cluster *cell"]
    counts: Int[np.ndarray, "cluster *cell"]


@public
def cluster_sums(
    values: Real[np.ndarray, "paragraph *cell"],
    clusters: Int[np.ndarray, "paragraph"],
    members: Bool[np.ndarray, "paragraph"],
) -> ClusterSums:
    """Add up the members of each cluster, cell by cell; nan is a missing measurement and is left out."""
    labels, start = np.unique(np.sort(clusters[members]), return_index=True)
    order = np.flatnonzero(members)[np.argsort(clusters[members], kind="stable")]
    ordered = values[order].astype(np.float64)
    measured = ~np.isnan(ordered)
    if len(labels) == 0:
        return ClusterSums(labels, ordered, measured.astype(np.int64))
    ordered[~measured] = 0.0
    return ClusterSums(labels, np.add.reduceat(ordered, start), np.add.reduceat(measured, start, dtype=np.int64))


def cells_sharing_counts(
    counts: Int[np.ndarray, "part cell"], draws: int
) -> Iterator[tuple[Int[np.ndarray, "shared"], Int[np.ndarray, "part"]]]:
    """Cells that miss the same number of measurements in every part, in pieces small enough for `draws` draws.

    What depends on counts alone (weights, denominators, degrees of freedom) is worked out once per piece,
    and a cell comes out as if the paragraphs that it misses had never been there. The price is one
    piece (some 20 ms) for each pattern of missing measurements.
    """
    if counts.shape[1] == 0:
        return
    if (counts == counts[:, :1]).all():
        patterns, pattern_of_cell = counts[:, :1].T, np.zeros(counts.shape[1], dtype=np.int64)
    else:
        patterns, pattern_of_cell = np.unique(counts.T, axis=0, return_inverse=True)
    most = max(1, CELLS_TIMES_DRAWS // draws)
    by_pattern = np.argsort(pattern_of_cell, kind="stable")
    ends = np.cumsum(np.bincount(pattern_of_cell, minlength=len(patterns)))
    for pattern, end, begin in zip(patterns, ends, [0, *ends[:-1]], strict=True):
        for first in range(begin, end, most):
            yield by_pattern[first : min(first + most, end)], pattern


def check_paragraphs(values: np.ndarray, clusters: np.ndarray, **groups: np.ndarray) -> None:
    """Refuse, in one line, arrays that do not describe the same paragraphs, infinite values and empty groups.

    Args:
        values: First axis `paragraph`.
        clusters: One label per paragraph.
        groups: One mask per group, by its argument's name; no paragraph may be in two.
    """
    if np.isinf(values).any():
        row = int(np.argwhere(np.isinf(values))[0, 0])
        raise LocalizeError(
            f"{caller()}: values is infinite at paragraph {row}; it must be finite, or nan where nothing was measured."
        )
    if clusters.shape != (len(values),):
        raise LocalizeError(
            f"{caller()}: clusters has shape {clusters.shape}; it must be ({len(values)},), one label per paragraph of values."
        )
    if len(values) == 0:
        raise LocalizeError(f"{caller()}: values has no paragraph; at least one is needed.")
    for name, mask in groups.items():
        check_group(name, mask, len(values))
    if len(groups) > 1 and np.logical_and(*groups.values()).any():
        row = int(np.flatnonzero(np.logical_and(*groups.values()))[0])
        raise LocalizeError(
            f"{caller()}: paragraph {row} is in both {' and '.join(groups)}; the groups must not overlap."
        )


def check_group(name: str, mask: np.ndarray, paragraphs: int) -> None:
    """Refuse a group that is not a mask over the paragraphs, or holds none of them."""
    if mask.dtype != np.bool_ or mask.shape != (paragraphs,):
        raise LocalizeError(
            f"{caller()}: {name} is {mask.dtype} of shape {mask.shape}; "
            f"it must be a bool mask of shape ({paragraphs},), one entry per paragraph."
        )
    if not mask.any():
        raise LocalizeError(
            f"{caller()}: {name} selects 0 of {paragraphs} paragraphs; at least one is needed to compare."
        )
