"""Intervals for means and differences of means, by drawing whole clusters again."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError
from localize.statistics.clusters import cells_sharing_counts, check_paragraphs, cluster_sums, effective_number
from localize.statistics.groups import ClusterParts, cluster_parts

FEWEST_RESAMPLES = 100


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate and the interval around it, per cell, in the unit of the values.

    Attributes:
        estimate: nan where nothing was measured.
        low: Lower end; nan where fewer than two clusters were measured.
        high: Upper end; nan where `low` is.
    """

    estimate: Float[np.ndarray, "*cell"]
    low: Float[np.ndarray, "*cell"]
    high: Float[np.ndarray, "*cell"]


def cluster_bootstrap(
    values: Real[np.ndarray, "paragraph *cell"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval for the mean over paragraphs, by a bootstrap over clusters.

    Of C clusters, C - 1 are drawn with replacement; the draw's mean is over the paragraphs of
    the clusters drawn. The percentiles of the draws are then moved away from the estimate by
    t / z: the `level` quantile of Student's t with (effective clusters - 1) degrees of freedom,
    at least 1, over that of the normal. Both correct the percentile interval, which is too
    narrow when clusters are few or uneven. For normal clusters of 1 to 40 paragraphs it covered
    85% with 5 and 89 to 91% with 10 of them, and covers 95 to 96% so corrected. Strong skew is
    not corrected: 87% for log-normal clusters.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the draws; the same seed gives the same bits.
        resamples: How often to draw, at least 100.
        level: Share of intervals that should hold the true mean, between 0 and 1.

    Returns:
        Estimate and interval per cell. The interval is nan, never a width of zero, where only
        one cluster was measured.

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph, a value is infinite, or `resamples` or
            `level` is out of range.

    Source:
        Drawing C - 1 of C: Rao and Wu 1988. Stretching to t: Hesterberg 2015, section 3.1, there
        by moving the percentiles' level, which cannot leave the range of so few clusters.
    """
    check_paragraphs("cluster_bootstrap", values, clusters)
    _check_draws("cluster_bootstrap", resamples, level)
    flat = values.reshape(len(values), -1)
    whole = cluster_sums(flat, clusters, np.ones(len(values), dtype=bool))
    estimate, low, high = np.full((3, flat.shape[1]), np.nan)
    for cells, count in cells_sharing_counts(whole.counts, resamples):
        measured = np.flatnonzero(count)
        if len(measured) == 0:
            continue
        count, sums = count[measured], whole.sums[np.ix_(measured, cells)]
        estimate[cells] = sums.sum(0) / count.sum()
        if len(measured) == 1:
            continue
        weights = _drawn_again(np.random.default_rng(seed), len(measured), resamples)
        means = (weights @ sums) / (weights @ count)[:, None]
        freedom = np.full(len(cells), max(effective_number(count) - 1, 1.0))
        low[cells], high[cells] = _stretched(means, estimate[cells], freedom, level)
    return Interval(*(x.reshape(values.shape[1:]) for x in (estimate, low, high)))


def cluster_bootstrap_difference(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
    clusters: Int[np.ndarray, "paragraph"],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval for mean(a) - mean(b) over paragraphs, by a bootstrap over clusters.

    Clusters that lie only in a, only in b, and in both are drawn apart, so that the two parts
    of a cluster travel together; if one of these three holds a single cluster, all are drawn
    together instead, and draws that leave a group empty are dropped. Otherwise as
    `cluster_bootstrap`, with Welch's degrees of freedom from the groups' effective numbers of
    clusters, lessened where the groups share clusters. With groups of 5 and 20 clusters of 1 to
    40 paragraphs, plain percentiles covered 87%, these cover 95%.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups, and those in neither are not used.
        clusters: The near-duplicate cluster of each paragraph; any labels.
        seed: Of the draws; the same seed gives the same bits.
        resamples: How often to draw, at least 100.
        level: Share of intervals that should hold the true difference, between 0 and 1.

    Returns:
        Estimate and interval per cell. The interval is nan where a group has only one cluster
        measured, the estimate too where it has none.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, a value is infinite,
            or `resamples` or `level` is out of range.
    """
    check_paragraphs("cluster_bootstrap_difference", values, clusters, in_a=in_a, in_b=in_b)
    _check_draws("cluster_bootstrap_difference", resamples, level)
    estimate, low, high = np.full((3, int(np.prod(values.shape[1:]))), np.nan)
    for parts in cluster_parts(values, in_a, in_b, clusters, draws=resamples):
        cells = parts.cells
        estimate[cells] = parts.difference()
        if parts.fewest < 2:
            continue
        a = parts.in_a
        weights = _parts_drawn_again(np.random.default_rng(seed), parts, resamples)
        means_a = (weights[:, a] @ parts.sums[a]) / (weights[:, a] @ parts.counts[a])[:, None]
        means_b = (weights[:, ~a] @ parts.sums[~a]) / (weights[:, ~a] @ parts.counts[~a])[:, None]
        freedom = _welch(means_a.var(0), means_b.var(0), parts)
        low[cells], high[cells] = _stretched(means_a - means_b, estimate[cells], freedom, level)
    return Interval(*(x.reshape(values.shape[1:]) for x in (estimate, low, high)))


def _drawn_again(rng: np.random.Generator, clusters: int, resamples: int) -> Float[np.ndarray, "resample cluster"]:
    """How often each cluster is drawn when all but one are, scaled so that the weights sum to `clusters`."""
    drawn = rng.multinomial(clusters - 1, np.full(clusters, 1 / clusters), size=resamples)
    return drawn * (clusters / (clusters - 1))


def _parts_drawn_again(
    rng: np.random.Generator, parts: ClusterParts, resamples: int
) -> Float[np.ndarray, "resample part"]:
    """Weights of the parts: within each stratum if none holds a single cluster, else over all clusters."""
    strata = (parts.only_a, parts.only_b, parts.both)
    if 1 in strata:
        weights = _drawn_again(rng, sum(strata), resamples)
    else:
        weights = np.concatenate([_drawn_again(rng, size, resamples) for size in strata if size], axis=1)
    weights = np.concatenate([weights, weights[:, parts.only_a + parts.only_b :]], axis=1)
    full = (weights[:, parts.in_a].sum(1) > 0) & (weights[:, ~parts.in_a].sum(1) > 0)
    return weights[full]


def _welch(
    variance_a: Float[np.ndarray, "cell"], variance_b: Float[np.ndarray, "cell"], parts: ClusterParts
) -> Float[np.ndarray, "cell"]:
    """Degrees of freedom of the difference: Welch's, with the two variances dependent as far as clusters are shared."""
    freedom_a, freedom_b = (max(effective - 1, 1.0) for effective in parts.effective)
    a, b = variance_a / np.sqrt(freedom_a), variance_b / np.sqrt(freedom_b)
    spread = a**2 + b**2 + 2 * parts.overlap * a * b
    constant = spread == 0
    return np.where(
        constant, min(freedom_a, freedom_b), (variance_a + variance_b) ** 2 / np.where(constant, 1.0, spread)
    )


def _stretched(
    means: Float[np.ndarray, "resample cell"],
    estimate: Float[np.ndarray, "cell"],
    freedom: Float[np.ndarray, "cell"],
    level: float,
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """Percentiles of the draws, moved away from the estimate by Student's t over the normal quantile."""
    from scipy.special import ndtri, stdtrit

    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    stretch = stdtrit(freedom, (1 + level) / 2) / ndtri((1 + level) / 2)
    return estimate + (low - estimate) * stretch, estimate + (high - estimate) * stretch


def _check_draws(caller: str, resamples: int, level: float) -> None:
    if resamples < FEWEST_RESAMPLES:
        raise LocalizeError(
            f"{caller}: resamples={resamples} must be at least {FEWEST_RESAMPLES}, because the tails are read off the draws."
        )
    if not 0 < level < 1:
        raise LocalizeError(f"{caller}: level={level} must lie between 0 and 1, both excluded.")
