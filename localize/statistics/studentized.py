"""A mean, or the difference of two, over its cluster-robust error, when the effects of the clusters are dealt out anew."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from localize.statistics.clusters import effective_number
from localize.statistics.groups import ClusterParts

CONSTANT = 1e-12
"""Values that differ by less than this share of their size are equal but for rounding."""

LEAST_VARIANCE = 1e-10
"""Least variance of a difference, as a share of the mean square that it is worked out from: below is rounding."""

HIDDEN = 7.0
"""By this over the effective clusters is lengthened what draws add to Student's t: so few show less skewness than there is."""

DEGENERATE = 1e-6
"""A draw whose variance is a smaller share of the observed one is measured by the observed one: it has no spread of its own."""


@dataclass(frozen=True, eq=False)
class Group:
    """The clusters of one group, for cells that miss the same measurements.

    Attributes:
        counts: Paragraphs measured in each cluster, at least 1.
        mean: Over paragraphs.
        effects: Each cluster's mean less that; 0 throughout where they are equal but for rounding.
    """

    counts: Int[np.ndarray, "cluster"]
    mean: Float[np.ndarray, "cell"]
    effects: Float[np.ndarray, "cluster cell"]

    @classmethod
    def of(cls, counts: Int[np.ndarray, "cluster"], sums: Float[np.ndarray, "cluster cell"]) -> "Group":
        """From the sums of the clusters' values."""
        means, mean = sums / counts[:, None], sums.sum(0) / counts.sum()
        effects = means - mean
        constant = np.abs(effects).max(0) <= CONSTANT * np.abs(means).max(0)
        return cls(counts, mean, np.where(constant, 0.0, effects))

    @property
    def lever(self) -> Float[np.ndarray, "cluster"]:
        """How far leaving a cluster out moves the mean, for each unit that it lies from it, with CR3's factor."""
        rest = np.maximum(self.counts.sum() - self.counts, 1)
        return self.counts / rest * np.sqrt(1 - 1 / len(self.counts))

    @property
    def variance(self) -> Float[np.ndarray, "cell"]:
        """Of the mean, by leaving out one cluster after the other (CR3)."""
        return self.lever**2 @ self.effects**2

    @property
    def effective(self) -> float:
        """Effective number of clusters."""
        return effective_number(self.counts)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of that variance: effective clusters less 1, at least 1."""
        return max(self.effective - 1, 1.0)

    @property
    def standardized(self) -> Float[np.ndarray, "cluster cell"]:
        """Effects about their even mean, in their standard deviations; 0 where they are alike."""
        effects = self.effects - self.effects.mean(0)
        spread = effects.std(0)
        return np.divide(effects, spread, out=np.zeros_like(effects), where=spread > 0)

    def alike(self) -> "Group":
        """The same with effects of 1: what its variance would be beside another group's if values spread alike in both."""
        return Group(self.counts, self.mean, np.ones_like(self.effects))

    def logged(self) -> "Group":
        """The logarithm of the mean, and effects in shares of the mean; nan where that is 0."""
        mean = np.where(self.mean > 0, self.mean, np.nan)
        return Group(self.counts, np.log(mean), self.effects / mean)


def groups_of(parts: ClusterParts) -> tuple[Group, Group]:
    """Both groups; the clusters that they share come last in each, in the same order."""
    a = parts.in_a
    return Group.of(parts.counts[a], parts.sums[a]), Group.of(parts.counts[~a], parts.sums[~a])


def error_of(groups: tuple[Group, ...], both: int) -> Float[np.ndarray, "cell"]:
    """Standard error of the mean of one group, or of the difference of two whose last `both` clusters are the same ones."""
    variance = np.sum([group.variance for group in groups], axis=0)
    if not both:
        return np.sqrt(variance)
    one, other = groups
    common = (one.lever[-both:] * other.lever[-both:]) @ (one.effects[-both:] * other.effects[-both:])
    return np.sqrt(np.maximum(variance - 2 * common, LEAST_VARIANCE * variance))


def freedom_of(groups: tuple[Group, ...], overlap: float) -> Float[np.ndarray, "cell"]:
    """Degrees of freedom of that error: Welch's, with the two variances dependent as far as clusters are shared.

    Args:
        groups: One or two.
        overlap: How far they rest on the same clusters, 0 to 1.
    """
    fewest = min(group.freedom for group in groups)
    if len(groups) == 1:
        return np.full(groups[0].mean.shape, fewest)
    a, b = (group.variance / np.sqrt(group.freedom) for group in groups)
    spread = a**2 + b**2 + 2 * overlap * a * b
    total = np.sum([group.variance for group in groups], axis=0) ** 2
    return np.divide(total, spread, out=np.full_like(total, fewest), where=spread > 0)


def studentized_draws(
    groups: tuple[Group, ...], both: int, rng: np.random.Generator, draws: int, *, log: bool = False
) -> Float[np.ndarray, "draw cell"]:
    """The estimate less what it estimates, over its error, when clusters keep their sizes and draw their effects anew.

    Each cluster takes the effect of one of its group's, less their even mean: what the groups' means differ by in a draw is chance.
    Everything is a product of (draw, cluster) weights with (cluster, cell) effects.

    Args:
        groups: One, or two whose difference is told.
        both: How many clusters, the last of each, are the same ones; two or more draw the effects of both groups together.
        rng: Of the draws.
        draws: How many.
        log: Of the logarithm of the mean: the groups are `logged`.
    """
    sources = _sources(rng, tuple(len(group.counts) for group in groups), both, draws)
    moved, variance, weights = [], np.zeros(()), []
    for group, source in zip(groups, sources, strict=True):
        effects, squared = group.effects - group.effects.mean(0), group.lever**2
        mean = _gathered(source, group.counts / group.counts.sum()) @ effects
        levers = _gathered(source, squared)
        around = levers @ effects**2 - 2 * mean * (levers @ effects) + mean**2 * squared.sum()
        scale = np.maximum(1 + mean, LEAST_VARIANCE) if log else np.ones(())
        moved.append(mean)
        weights.append(1 / scale)
        variance = variance + around / scale**2
    if both > 1:
        variance = variance - 2 * _drawn_covariance(groups, both, sources[0], moved) * weights[0] * weights[1]
    told = [np.log(1 / weight) if log else mean for mean, weight in zip(moved, weights, strict=True)]
    difference = told[0] - told[1] if len(told) == 2 else told[0]
    observed = error_of(groups, both) ** 2
    variance = np.where(variance > DEGENERATE * observed, variance, observed)
    return np.divide(difference, np.sqrt(variance), out=np.zeros_like(difference), where=variance > 0)


def _sources(
    rng: np.random.Generator, sizes: tuple[int, ...], both: int, draws: int
) -> list[Int[np.ndarray, "draw cluster"]]:
    """Whose effect each cluster of each group takes."""
    sources = [rng.integers(size, size=(draws, size)) for size in sizes]
    if both > 1:
        drawn = rng.integers(both, size=(draws, both))
        for source, size in zip(sources, sizes, strict=True):
            source[:, -both:] = drawn + size - both
    return sources


def _gathered(
    source: Int[np.ndarray, "draw cluster"], weight: Float[np.ndarray, "cluster"]
) -> Float[np.ndarray, "draw cluster"]:
    """How much each cluster's effect weighs, when clusters of these weights take the effects of those in `source`."""
    draws, clusters = source.shape
    at = source + clusters * np.arange(draws)[:, None]
    taken = np.broadcast_to(weight, source.shape)
    return np.bincount(at.ravel(), weights=taken.ravel(), minlength=draws * clusters).reshape(draws, clusters)


def _drawn_covariance(
    groups: tuple[Group, ...],
    both: int,
    source: Int[np.ndarray, "draw cluster"],
    moved: list[Float[np.ndarray, "draw cell"]],
) -> Float[np.ndarray, "draw cell"]:
    """What the clusters in both groups add to the covariance of the two means, as `error_of` works it out, in each draw."""
    one, other = ((group.effects - group.effects.mean(0))[-both:] for group in groups)
    levers = groups[0].lever[-both:] * groups[1].lever[-both:]
    weights = _gathered(source[:, -both:] - (source.shape[1] - both), levers)
    mean_a, mean_b = moved
    apart = weights @ (one * other) - mean_a * (weights @ other) - mean_b * (weights @ one)
    return apart + mean_a * mean_b * levers.sum()


def reaches(
    drawn: Float[np.ndarray, "draw cell"], freedom: Float[np.ndarray, "cell"], level: float
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """How many errors the interval reaches down and up: as the draws do, and on neither side less far than Student's t.

    Args:
        drawn: From `studentized_draws`.
        freedom: Degrees of freedom of the error.
        level: Share of intervals that should hold the true value.
    """
    from scipy.special import stdtrit

    student = stdtrit(freedom, (1 + level) / 2)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    longer = 1 + HIDDEN / (freedom + 1)
    down, up = (student + longer * np.maximum(end - student, 0.0) for end in (high, -low))
    return down, up
