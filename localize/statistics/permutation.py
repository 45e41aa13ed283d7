"""Tests of a difference against chance, by relabelling whole clusters."""

import itertools
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError, caller, public
from localize.statistics.clusters import cells_sharing_counts, check_paragraphs, cluster_sums
from localize.statistics.groups import ClusterParts, cluster_parts
from localize.statistics.ranges import Range, within
from localize.statistics.roughness import rough_difference, rough_mean

TIE = 1e-6
"""Two statistics that differ by less than this share of their scale, or of the observed one, are equal but for rounding."""

LEAST_VARIANCE = 1e-10
"""Least variance of a difference, as a share of the mean square that it is worked out from: below is rounding."""

CONSTANT = 1e-12
"""Values that differ by less than this share of their size are equal but for rounding."""


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """A difference and what chance would make of it, per cell.

    Attributes:
        difference: In the unit of the values; nan where nothing was measured.
        p_value: Two-sided, in (0, 1]; nan where fewer than two clusters were measured in a group.
        null_low: 2.5% quantile of the null difference, in the unit of the values; nan where `p_value` is.
        null_high: 97.5% quantile.
        rough: Whether the p-value is not to be trusted, because clusters are too few or too skewed; None where that was not judged.
    """

    difference: Float[np.ndarray, "*cell"]
    p_value: Float[np.ndarray, "*cell"]
    null_low: Float[np.ndarray, "*cell"]
    null_high: Float[np.ndarray, "*cell"]
    rough: Bool[np.ndarray, "*cell"] | None = None

    def within(self, possible: Range) -> "PermutationTest":
        """The same with the ends of the null moved into the range of the difference, where they lie beyond it."""
        return replace(self, null_low=within(self.null_low, possible), null_high=within(self.null_high, possible))


@public
def cluster_permutation_difference(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    seed: int,
    permutations: int = 2000,
) -> PermutationTest:
    """Test mean(a) - mean(b) over paragraphs by a permutation of clusters.

    Clusters that lie in one group only exchange their labels among themselves, the number of
    clusters per group held; a cluster that lies in both swaps its two parts with probability
    1/2. The statistic is the difference over its cluster-robust standard error (delete one
    cluster, CR3), both taken anew for each relabelling. Where the groups differ in nothing the
    test is exact, studentized or not. Where they share a mean only, and not spread or cluster
    sizes, the plain difference errs further: with 5 against 20 clusters of 1 to 40 paragraphs and
    three times the spread in the few, it rejected 27% at the 5% level, the studentized 10%; and
    with 10 large clusters against 60 single paragraphs .1 to .8%, so that it finds little, the
    studentized 2 to 5%. Still too often: 11% when those 10 are log-normal, 9% when one cluster
    holds most of its group.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups, and those in neither are not used.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the relabellings; the same seed gives the same bits.
        permutations: How many to draw. If there are no more distinct ones, each is taken once
            and the p-value is exact.

    Returns:
        Per cell the difference, p = (1 + as extreme) / (1 + permutations), and the central 95% of
        the null: the studentized null times the observed standard error, so that it agrees with p.
        p and the null are nan where a group has only one cluster measured.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, a value is infinite,
            or `permutations` < 1.

    Source:
        Chung and Romano 2013 (studentized permutation); Bell and McCaffrey 2002 (CR3).
    """
    check_paragraphs(values, clusters, in_a=in_a, in_b=in_b)
    _check_permutations(permutations)
    difference, p_value, null_low, null_high = np.full((4, int(np.prod(values.shape[1:]))), np.nan)
    for parts in cluster_parts(values, in_a, in_b, clusters, draws=permutations):
        cells = parts.cells
        difference[cells] = parts.difference()
        if parts.fewest < 2:
            continue
        labels = relabellings(np.random.default_rng(seed), parts, permutations)
        sums, scale = _standardized(parts.sums, parts.counts)
        null, error = _differences(labels, parts.counts, sums, parts.both)
        null = np.divide(null, error, out=np.zeros_like(null), where=error > 0)
        p_value[cells] = share_as_extreme(null, 1.0)  # it is in standard errors
        null_low[cells], null_high[cells] = np.quantile(null, [0.025, 0.975], axis=0) * error[0] * scale
    numbers = (x.reshape(values.shape[1:]) for x in (difference, p_value, null_low, null_high))
    return PermutationTest(*numbers, rough=rough_difference(values, in_a, in_b, clusters))


@public
def cluster_sign_flip(
    values: Real[np.ndarray, "paragraph *cell"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    seed: int,
    permutations: int = 2000,
) -> PermutationTest:
    """Test whether the mean of paired differences is 0, by flipping the sign of whole clusters.

    For values that are differences themselves: a score minus its null, one side minus the other.
    The statistic is the mean over paragraphs. Exact if a cluster's sum is as likely to be x as
    -x; if it is skewed the test rejects too often, 8 to 14% at the 5% level for log-normal
    clusters, and studentizing does not mend that.

    Args:
        values: One difference per paragraph and cell; nan is a missing measurement, left out cell by cell.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the flips; the same seed gives the same bits.
        permutations: How many to draw. If there are no more distinct ones (2 to the number of
            clusters), each is taken once and the p-value is exact.

    Returns:
        Per cell the mean (as `difference`), p = (1 + as extreme) / (1 + permutations), and the
        central 95% of the flipped means. p and the null are nan where only one cluster was measured.

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph, a value is infinite, or `permutations` < 1.
    """
    check_paragraphs(values, clusters)
    _check_permutations(permutations)
    flat = values.reshape(len(values), -1)
    whole = cluster_sums(flat, clusters, np.ones(len(values), dtype=bool))
    mean, p_value, null_low, null_high = np.full((4, flat.shape[1]), np.nan)
    for cells, count in cells_sharing_counts(whole.counts, permutations):
        measured = np.flatnonzero(count)
        if len(measured) == 0:
            continue
        sums = whole.sums[np.ix_(measured, cells)]
        mean[cells] = sums.sum(0) / count.sum()
        if len(measured) == 1:
            continue
        if 2 ** len(measured) <= permutations:
            swapped = _every_swap(len(measured))
        else:
            swapped = random_swaps(np.random.default_rng(seed), len(measured), permutations)
        null = (1.0 - 2.0 * swapped) @ sums / count.sum()
        p_value[cells] = share_as_extreme(null, np.sqrt((sums**2).sum(0)) / count.sum())
        null_low[cells], null_high[cells] = np.quantile(null, [0.025, 0.975], axis=0)
    numbers = (x.reshape(values.shape[1:]) for x in (mean, p_value, null_low, null_high))
    return PermutationTest(*numbers, rough=rough_mean(values, clusters))


@public
def pair_differences(
    one: Real[np.ndarray, "paragraph *cell"], other: Real[np.ndarray, "paragraph *cell"]
) -> Float[np.ndarray, "paragraph *cell"]:
    """one - other, pair by pair, for `cluster_sign_flip`; exactly 0 where the two are equal but for rounding.

    Rounding goes the same way wherever the same numbers are added up in another order: 1e-17 in every pair would look like a change.

    >>> pair_differences(np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.25]))
    array([0.  , 0.25])

    Args:
        one: One number per pair and cell; nan is a missing measurement.
        other: What is subtracted.
    """
    difference = one.astype(np.float64) - other
    return np.where(np.abs(difference) <= CONSTANT * np.maximum(np.abs(one), np.abs(other)), 0.0, difference)


def relabellings(
    rng: np.random.Generator, parts: ClusterParts, permutations: int
) -> Bool[np.ndarray, "relabelling part"]:
    """Which parts are called a: the labels as they are first, then all others, or `permutations` random ones."""
    alone = parts.only_a + parts.only_b
    if comb(alone, parts.only_a) * 2**parts.both <= permutations:
        chosen = list(itertools.combinations(range(alone), parts.only_a))
        one = np.zeros((len(chosen), alone), dtype=bool)
        one[np.arange(len(chosen))[:, None], np.array(chosen, dtype=np.int64).reshape(len(chosen), -1)] = True
        swapped = _every_swap(parts.both)
        one, swapped = np.repeat(one, len(swapped), axis=0), np.tile(swapped, (len(one), 1))
    else:
        one = np.tile(np.arange(alone) < parts.only_a, (permutations + 1, 1))
        one[1:] = rng.permuted(one[1:], axis=1)
        swapped = random_swaps(rng, parts.both, permutations)
    return np.concatenate([one, ~swapped, swapped], axis=1)


def relabelled_among_alike(
    rng: np.random.Generator, parts: ClusterParts, stratum: Int[np.ndarray, "alone"], permutations: int
) -> Bool[np.ndarray, "relabelling part"]:
    """Which parts are called a: the labels as they are first, then permuted among alike clusters; parts of one cluster swap.

    Args:
        rng: Of the permutations.
        parts: The clusters of both groups.
        stratum: Of each cluster that is in one group only; labels move inside a stratum.
        permutations: How many.
    """
    alone, both = parts.only_a + parts.only_b, parts.both
    own = np.arange(alone) < parts.only_a
    one = np.tile(own, (permutations + 1, 1))
    # A random number below 1 on top of the stratum: sorting leaves every cluster in its stratum.
    order = (stratum + rng.random((permutations, alone))).argsort(axis=1)
    labels = np.broadcast_to(own[np.argsort(stratum, kind="stable")], order.shape)
    np.put_along_axis(one[1:], order, labels, axis=1)
    swapped = random_swaps(rng, both, permutations)
    return np.concatenate([one, ~swapped, swapped], axis=1)


def _every_swap(clusters: int) -> Bool[np.ndarray, "relabelling cluster"]:
    """Every way to swap some of the clusters, none first."""
    return (np.arange(2**clusters)[:, None] >> np.arange(clusters)) % 2 == 1


def random_swaps(rng: np.random.Generator, clusters: int, permutations: int) -> Bool[np.ndarray, "relabelling cluster"]:
    """Each cluster swapped with probability 1/2; first, as row 0, none."""
    swapped = np.zeros((permutations + 1, clusters), dtype=bool)
    swapped[1:] = rng.integers(0, 2, size=(permutations, clusters), dtype=np.int8)
    return swapped


def _standardized(
    sums: Float[np.ndarray, "part cell"], counts: Int[np.ndarray, "part"]
) -> tuple[Float[np.ndarray, "part cell"], Float[np.ndarray, "cell"]]:
    """Sums of the values less their grand mean and over the largest part mean left; and that scale.

    A cell that is constant but for rounding becomes 0, so that rounding is never tested.
    """
    means = sums / counts[:, None]
    centred = means - sums.sum(0) / counts.sum()
    scale = np.abs(centred).max(0)
    constant = scale <= CONSTANT * np.abs(means).max(0)
    scale = np.where(constant, 1.0, scale)
    return np.where(constant, 0.0, centred / scale) * counts[:, None], scale


def _differences(
    labels: Bool[np.ndarray, "relabelling part"],
    counts: Int[np.ndarray, "part"],
    sums: Float[np.ndarray, "part cell"],
    both: int,
) -> tuple[Float[np.ndarray, "relabelling cell"], Float[np.ndarray, "relabelling cell"]]:
    """Difference of means and its standard error for every relabelling.

    Leaving a cluster out moves its group's mean by w (S - m n), with sum S, size n, mean m and
    w = 1 / (N - n); the error is the root of the sum of these moves squared, in the difference.
    Everything is a product of (relabelling, part) weights with (part, cell) sums.
    """
    n = counts.astype(np.float64)
    products = np.concatenate([sums**2, n[:, None] * sums], axis=1)
    means, weights = [], []
    variance, size = np.zeros((2, len(labels), sums.shape[1]))
    for members in (labels.astype(np.float64), 1.0 - labels):
        total, groups_clusters = members @ n, members.sum(1)
        mean = members @ sums / total[:, None]
        others = np.where(members > 0, total[:, None] - n, 1.0)
        move = members * np.sqrt(1 - 1 / groups_clusters)[:, None] / others
        square, product = np.split(move**2 @ products, 2, axis=1)
        shift = mean**2 * (move**2 @ n**2)[:, None]
        variance += square - 2 * mean * product + shift
        size += square + shift
        means.append(mean)
        weights.append(move)
    if both:
        variance -= 2 * _covariance(weights, means, n, sums, both)
    return means[0] - means[1], np.sqrt(np.maximum(variance, LEAST_VARIANCE * size))


def _covariance(
    weights: list[np.ndarray], means: list[np.ndarray], n: np.ndarray, sums: np.ndarray, both: int
) -> Float[np.ndarray, "relabelling cell"]:
    """Sum over clusters in both groups of the product of their two moves, as `_differences` defines them."""
    first, second = slice(-2 * both, -both), slice(-both, None)
    n1, n2, sums1, sums2 = n[first], n[second], sums[first], sums[second]
    mean_a, mean_b = means
    covariance = np.zeros_like(mean_a)
    for one, other, m1, m2 in ((*weights, mean_a, mean_b), (*reversed(weights), mean_b, mean_a)):
        pair = one[:, first] * other[:, second]
        covariance += pair @ (sums1 * sums2) - m1 * (pair @ (n1[:, None] * sums2)) - m2 * (pair @ (n2[:, None] * sums1))
        covariance += m1 * m2 * (pair @ (n1 * n2))[:, None]
    return covariance


def share_as_extreme(
    null: Float[np.ndarray, "relabelling cell"], scale: float | Float[np.ndarray, "cell"]
) -> Float[np.ndarray, "cell"]:
    """Share of the relabellings, the observed one (the first) included, that are as far from 0 as the observed.

    Args:
        null: The statistic of every relabelling.
        scale: How large the statistic is where there is nothing but chance: an observed 0 has no size of its own, and the rounding
            that makes it 1e-17 must not be tested.
    """
    observed = np.abs(null[0])
    return (np.abs(null) >= observed - TIE * np.maximum(observed, scale)).mean(0)


def _check_permutations(permutations: int) -> None:
    if permutations < 1:
        raise LocalizeError(f"{caller()}: permutations={permutations} must be at least 1.")
