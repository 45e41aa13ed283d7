"""Tests of a difference against chance, by relabelling whole clusters."""

import itertools
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError, caller, public
from localize.statistics.bootstrap import FEWEST_RESAMPLES, FURTHEST, reaches, student
from localize.statistics.clusters import cells_sharing_counts, check_paragraphs, cluster_sums
from localize.statistics.correction import LEVEL
from localize.statistics.groups import ClusterParts, cluster_parts
from localize.statistics.ranges import Range, within
from localize.statistics.roughness import rough_difference, rough_mean
from localize.statistics.sequential import continued
from localize.statistics.studentized import CONSTANT, LEAST_VARIANCE, ClusterEffects, error_of, groups_of

TIE = 1e-6
"""Two statistics that differ by less than this share of their scale, or of the observed one, are equal but for rounding."""


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
    family: int | None = None,
) -> PermutationTest:
    """Test mean(a) - mean(b) over paragraphs by a permutation of clusters.

    Clusters that lie in one group only exchange their labels among themselves, the number of
    clusters per group held; a cluster that lies in both swaps its two parts with probability
    1/2. The statistic is the difference over its cluster-robust standard error (delete one
    cluster, CR3), both taken anew for each relabelling. Where the groups differ in nothing the
    test is exact, studentized or not. Where they share a mean only, and not spread, shape or cluster
    sizes, it errs, less than the plain difference would: p <= .05 came in 2 to 8 % for normal values and Student's t with 3
    degrees of freedom, in up to 17 % for log-normal ones. So p is marked rough where the interval of
    `cluster_bootstrap_difference` would be, and where p <= .05 but that interval holds 0: then at most 7 % of simulations had
    p <= .05 unmarked (8 % with 6 effective clusters against 6), and the marks fall on 1 to 5 % of simulations of normal values
    that differ in nothing.

    Cells in which fewer than 10 relabellings are as extreme are permuted further, until a single true one of the family can
    be found (see `sequential.continued`).

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups, and those in neither are not used.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the relabellings; the same seed gives the same bits.
        permutations: How many to draw. If there are no more distinct ones, each is taken once
            and the p-value is exact.
        family: How many tests are corrected together; None takes the cells given.

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
    flat = values.reshape(len(values), -1)
    difference, p_value, null_low, null_high = np.full((4, flat.shape[1]), np.nan)
    rough, exact = rough_difference(flat, in_a, in_b, clusters), np.zeros(flat.shape[1], dtype=bool)
    for parts in cluster_parts(flat, in_a, in_b, clusters, draws=permutations):
        cells = parts.cells
        difference[cells] = parts.difference()
        if parts.fewest < 2:
            continue
        exact[cells] = distinct_relabellings(parts) <= permutations
        labels = relabellings(np.random.default_rng(seed), parts, permutations)
        null, error, scale = _studentized(parts, labels)
        p_value[cells] = share_as_extreme(null, 1.0)  # it is in standard errors
        null_low[cells], null_high[cells] = np.quantile(null, [0.025, 0.975], axis=0) * error * scale
        groups, shared = groups_of(parts), (parts.both, parts.overlap)
        rough[cells] |= _contradicted(p_value[cells], groups, *shared, seed, permutations)

    def more(chosen: Int[np.ndarray, "chosen"], rng: np.random.Generator, count: int) -> Int[np.ndarray, "chosen"]:
        hits = np.zeros(len(chosen), dtype=np.int64)
        for parts in cluster_parts(flat[:, chosen], in_a, in_b, clusters, draws=count):
            null, _, _ = _studentized(parts, random_relabellings(rng, parts, count))
            hits[parts.cells] = as_extreme(null, 1.0)[1:].sum(0)
        return hits

    p_value = continued(p_value, exact, permutations, family, more, seed)
    numbers = (x.reshape(values.shape[1:]) for x in (difference, p_value, null_low, null_high, rough))
    return PermutationTest(*numbers)


@public
def cluster_sign_flip(
    values: Real[np.ndarray, "paragraph *cell"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    seed: int,
    permutations: int = 2000,
    family: int | None = None,
) -> PermutationTest:
    """Test whether the mean of paired differences is 0, by flipping the sign of whole clusters.

    For values that are differences themselves: a score minus its null, one side minus the other.
    The statistic is the mean over paragraphs. Exact if a cluster's sum is as likely to be x as
    -x; if it is skewed the test rejects too often, 8 to 17 % at the 5 % level for log-normal
    clusters, and studentizing does not mend that. So p is marked rough where the interval of `cluster_bootstrap` would be, and
    where p <= .05 but that interval holds 0: at most 7 % of simulations of log-normal clusters then had p <= .05 unmarked.

    Cells in which fewer than 10 flips are as extreme are tested further, until a single true one of the family can be found.

    Args:
        values: One difference per paragraph and cell; nan is a missing measurement, left out cell by cell.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the flips; the same seed gives the same bits.
        permutations: How many to draw. If there are no more distinct ones (2 to the number of
            clusters), each is taken once and the p-value is exact.
        family: How many tests are corrected together; None takes the cells given.

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
    rough, exact = rough_mean(flat, clusters), np.zeros(flat.shape[1], dtype=bool)
    for cells, count in cells_sharing_counts(whole.counts, permutations):
        measured = np.flatnonzero(count)
        if len(measured) == 0:
            continue
        sums, count = whole.sums[np.ix_(measured, cells)], count[measured]
        mean[cells] = sums.sum(0) / count.sum()
        if len(measured) == 1:
            continue
        exact[cells] = few = 2 ** len(measured) <= permutations
        rng = np.random.default_rng(seed)
        swapped = _every_swap(len(measured)) if few else random_swaps(rng, len(measured), permutations)
        null, scale = _flipped(sums, swapped)
        p_value[cells] = share_as_extreme(null, scale)
        null_low[cells], null_high[cells] = np.quantile(null, [0.025, 0.975], axis=0) / count.sum()
        rough[cells] |= _contradicted(p_value[cells], (ClusterEffects.of(count, sums),), 0, 0.0, seed, permutations)

    def more(chosen: Int[np.ndarray, "chosen"], rng: np.random.Generator, draws: int) -> Int[np.ndarray, "chosen"]:
        hits = np.zeros(len(chosen), dtype=np.int64)
        for cells, count in cells_sharing_counts(whole.counts[:, chosen], draws):
            measured = np.flatnonzero(count)
            sums = whole.sums[np.ix_(measured, chosen[cells])]
            hits[cells] = as_extreme(*_flipped(sums, random_swaps(rng, len(measured), draws)))[1:].sum(0)
        return hits

    p_value = continued(p_value, exact, permutations, family, more, seed)
    numbers = (x.reshape(values.shape[1:]) for x in (mean, p_value, null_low, null_high, rough))
    return PermutationTest(*numbers)


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


def distinct_relabellings(parts: ClusterParts) -> int:
    """How many ways there are to call parts a, the true one included."""
    return comb(parts.only_a + parts.only_b, parts.only_a) * 2**parts.both


def relabellings(
    rng: np.random.Generator, parts: ClusterParts, permutations: int
) -> Bool[np.ndarray, "relabelling part"]:
    """Which parts are called a: the labels as they are first, then all others, or `permutations` random ones."""
    if distinct_relabellings(parts) > permutations:
        return random_relabellings(rng, parts, permutations)
    alone = parts.only_a + parts.only_b
    chosen = list(itertools.combinations(range(alone), parts.only_a))
    one = np.zeros((len(chosen), alone), dtype=bool)
    one[np.arange(len(chosen))[:, None], np.array(chosen, dtype=np.int64).reshape(len(chosen), -1)] = True
    swapped = _every_swap(parts.both)
    one, swapped = np.repeat(one, len(swapped), axis=0), np.tile(swapped, (len(one), 1))
    return np.concatenate([one, ~swapped, swapped], axis=1)


def random_relabellings(
    rng: np.random.Generator, parts: ClusterParts, permutations: int
) -> Bool[np.ndarray, "relabelling part"]:
    """Which parts are called a: the labels as they are first, then `permutations` random ones."""
    one = np.tile(np.arange(parts.only_a + parts.only_b) < parts.only_a, (permutations + 1, 1))
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


def _studentized(
    parts: ClusterParts, labels: Bool[np.ndarray, "relabelling part"]
) -> tuple[Float[np.ndarray, "relabelling cell"], Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """The difference over its error for every relabelling, the observed error, and the unit that it is in."""
    sums, scale = _standardized(parts.sums, parts.counts)
    null, error = _differences(labels, parts.counts, sums, parts.both)
    return np.divide(null, error, out=np.zeros_like(null), where=error > 0), error[0], scale


def _flipped(
    sums: Float[np.ndarray, "cluster cell"], swapped: Bool[np.ndarray, "flip cluster"]
) -> tuple[Float[np.ndarray, "flip cell"], Float[np.ndarray, "cell"]]:
    """The sum over clusters for every flip, and how large it is by chance."""
    return (1.0 - 2.0 * swapped) @ sums, np.sqrt((sums**2).sum(0))


def _contradicted(
    p_value: Float[np.ndarray, "cell"],
    groups: tuple[ClusterEffects, ...],
    both: int,
    overlap: float,
    seed: int,
    permutations: int,
) -> Bool[np.ndarray, "cell"]:
    """Where p is at most .05 but the interval holds 0: what is exact where groups differ in nothing takes skewness for a difference."""
    estimate = groups[0].mean - groups[1].mean if len(groups) == 2 else groups[0].mean
    # No interval reaches further than that, so that draws need not be made to know that it does not hold 0.
    furthest = FURTHEST * student(groups, overlap, 1 - LEVEL) * error_of(groups, both)
    doubted = np.flatnonzero((p_value <= LEVEL) & (np.abs(estimate) <= furthest))
    contradicted = np.zeros(len(p_value), dtype=bool)
    if len(doubted):
        some, draws = tuple(group.cells(doubted) for group in groups), max(permutations, FEWEST_RESAMPLES)
        down, up = reaches(some, both, overlap, np.random.default_rng(seed), draws, 1 - LEVEL)
        contradicted[doubted] = (estimate[doubted] <= down) & (-estimate[doubted] <= up)
    return contradicted


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
    """Share of the relabellings that are `as_extreme`."""
    return as_extreme(null, scale).mean(0)


def as_extreme(
    null: Float[np.ndarray, "relabelling cell"], scale: float | Float[np.ndarray, "cell"]
) -> Bool[np.ndarray, "relabelling cell"]:
    """Whether a relabelling, the observed one (the first) included, is as far from 0 as the observed.

    Args:
        null: The statistic of every relabelling.
        scale: How large the statistic is where there is nothing but chance: an observed 0 has no size of its own, and the rounding
            that makes it 1e-17 must not be tested.
    """
    observed = np.abs(null[0])
    return np.abs(null) >= observed - TIE * np.maximum(observed, scale)


def _check_permutations(permutations: int) -> None:
    if permutations < 1:
        raise LocalizeError(f"{caller()}: permutations={permutations} must be at least 1.")
