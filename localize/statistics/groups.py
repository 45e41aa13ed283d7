"""Two groups of paragraphs, seen as the parts that each cluster has in them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.statistics.clusters import cells_sharing_counts, cluster_sums, effective_number


@dataclass(frozen=True, eq=False)
class ClusterParts:
    """The parts of clusters that make up groups a and b, for cells that miss the same measurements.

    Parts come in this order: clusters only in a, clusters only in b, the a-parts of the clusters
    in both, their b-parts.

    Attributes:
        cells: Which cells, as indices into the flattened cell axes.
        only_a: How many clusters lie in a alone.
        only_b: How many lie in b alone.
        both: How many lie in both.
        counts: Paragraphs measured, at least 1.
        sums: Their sums, in the unit of the values.
    """

    cells: Int[np.ndarray, "cell"]
    only_a: int
    only_b: int
    both: int
    counts: Int[np.ndarray, "part"]
    sums: Float[np.ndarray, "part cell"]

    @property
    def in_a(self) -> Bool[np.ndarray, "part"]:
        """Which parts belong to group a."""
        return np.repeat([True, False, True, False], [self.only_a, self.only_b, self.both, self.both])

    @property
    def fewest(self) -> int:
        """Clusters in the group that has fewer."""
        return min(self.only_a, self.only_b) + self.both

    @property
    def effective(self) -> tuple[float, float]:
        """Effective number of clusters of a and of b."""
        return effective_number(self.counts[self.in_a]), effective_number(self.counts[~self.in_a])

    @property
    def overlap(self) -> float:
        """How far the groups rest on the same clusters: cosine of their cluster sizes, 0 (no common one) to 1."""
        a, b = self.counts[self.in_a], self.counts[~self.in_a]
        common = (a[self.only_a :] * b[self.only_b :]).sum()
        return float(common / np.sqrt((a**2).sum() * (b**2).sum()))

    def difference(self) -> Float[np.ndarray, "cell"]:
        """Mean over the paragraphs of a, less the mean over those of b."""
        a = self.in_a
        return self.sums[a].sum(0) / self.counts[a].sum() - self.sums[~a].sum(0) / self.counts[~a].sum()


def cluster_parts(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    draws: int,
) -> Iterator[ClusterParts]:
    """Divide the cells into pieces that miss the same measurements; cells where a group has none are left out."""
    values = values.reshape(len(values), -1)
    labels = np.unique(clusters[in_a | in_b])
    sums = np.zeros((2, len(labels), values.shape[1]))
    counts = np.zeros(sums.shape, dtype=np.int64)
    for group, members in enumerate((in_a, in_b)):
        part = cluster_sums(values, clusters, members)
        rows = np.searchsorted(labels, part.labels)
        sums[group, rows], counts[group, rows] = part.sums, part.counts
    sums, counts = sums.reshape(-1, values.shape[1]), counts.reshape(-1, values.shape[1])
    for cells, count in cells_sharing_counts(counts, draws):
        has_a, has_b = count.reshape(2, -1) > 0
        if not (has_a.any() and has_b.any()):
            continue
        only_a, only_b, both = (np.flatnonzero(m) for m in (has_a & ~has_b, has_b & ~has_a, has_a & has_b))
        order = np.concatenate([only_a, only_b + len(labels), both, both + len(labels)])
        yield ClusterParts(cells, len(only_a), len(only_b), len(both), count[order], sums[np.ix_(order, cells)])


def parts_of_rows(
    clusters: Int[np.ndarray, " row"], a: Bool[np.ndarray, " row"]
) -> tuple[Int[np.ndarray, " row"], tuple[int, int, int]]:
    """The part of a cluster that each row is in, in the order of `ClusterParts`, and how many clusters are a, b, both."""
    labels, cluster = np.unique(clusters, return_inverse=True)
    has_a, has_b = (np.bincount(cluster[g], minlength=len(labels)) > 0 for g in (a, ~a))
    kind = np.where(has_a & has_b, 2, np.where(has_b, 1, 0))
    sizes = tuple(int((kind == which).sum()) for which in range(3))
    place = np.empty(len(labels), dtype=np.int64)
    place[np.argsort(kind, kind="stable")] = np.arange(len(labels))
    part = place[cluster] + np.where(~a & (kind[cluster] == 2), sizes[2], 0)
    return part, (sizes[0], sizes[1], sizes[2])
