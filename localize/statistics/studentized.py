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

DEGENERATE = 1e-6
"""A draw whose variance is a smaller share of the observed one is measured by the observed one: it has no spread of its own."""


@dataclass(frozen=True, eq=False)
class ClusterEffects:
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
    def of(cls, counts: Int[np.ndarray, "cluster"], sums: Float[np.ndarray, "cluster cell"]) -> "ClusterEffects":
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

    def cells(self, chosen: Int[np.ndarray, "chosen"]) -> "ClusterEffects":
        """Some of the cells."""
        return ClusterEffects(self.counts, self.mean[chosen], self.effects[:, chosen])

    def alike(self) -> "ClusterEffects":
        """The same with effects of 1: what its variance would be beside another group's if values spread alike in both."""
        return ClusterEffects(self.counts, self.mean, np.ones_like(self.effects))

    def logged(self) -> "ClusterEffects":
        """The logarithm of the mean, and effects in shares of the mean; nan where that is 0."""
        mean = np.where(self.mean > 0, self.mean, np.nan)
        return ClusterEffects(self.counts, np.log(mean), self.effects / mean)


def groups_of(parts: ClusterParts) -> tuple[ClusterEffects, ClusterEffects]:
    """Both groups; the clusters that they share come last in each, in the same order."""
    a = parts.in_a
    return ClusterEffects.of(parts.counts[a], parts.sums[a]), ClusterEffects.of(parts.counts[~a], parts.sums[~a])


def error_of(groups: tuple[ClusterEffects, ...], both: int) -> Float[np.ndarray, "cell"]:
    """Standard error of the mean of one group, or of the difference of two whose last `both` clusters are the same ones.

    It is 0 where nothing varies but rounding.
    """
    whole = np.sum([group.variance for group in groups], axis=0)
    if not both:
        return np.sqrt(whole)
    one, other = groups
    common = (one.lever[-both:] * other.lever[-both:]) @ (one.effects[-both:] * other.effects[-both:])
    variance = whole - 2 * common
    return np.sqrt(np.where(variance > LEAST_VARIANCE * whole, variance, 0.0))


def freedom_of(groups: tuple[ClusterEffects, ...], overlap: float) -> Float[np.ndarray, "cell"]:
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
    groups: tuple[ClusterEffects, ...], both: int, rng: np.random.Generator, draws: int, *, log: bool = False
) -> Float[np.ndarray, "draw cell"]:
    """The estimate less what it estimates, over its error, when clusters keep their sizes and draw their effects anew.

    Each cluster takes the effect of one of its group's, less their even mean: what the groups' means differ by in a draw is chance.

    Args:
        groups: One, or two whose difference is told.
        both: How many clusters, the last of each, are the same ones; two or more draw the effects of both groups together.
        rng: Of the draws.
        draws: How many.
        log: Of the logarithm of the mean: the groups are `logged`.
    """
    sources = [rng.integers(len(group.counts), size=(draws, len(group.counts))) for group in groups]
    effects = [group.effects - group.effects.mean(0) for group in groups]
    shared = rng.integers(both, size=(draws, both)) if both > 1 else None
    if shared is not None:
        for group, source in zip(groups, sources, strict=True):
            source[:, -both:] = shared + len(group.counts) - both
    drawn = [_dealt(*each) for each in zip(groups, effects, sources, strict=True)]
    common = 0.0 if shared is None else _drawn_covariance(groups, effects, shared, drawn)
    return _told(drawn, common, error_of(groups, both) ** 2, log)


def studentized_draws_together(
    groups: tuple[ClusterEffects, ...], rng: np.random.Generator, draws: int, *, log: bool = False
) -> Float[np.ndarray, "draw cell"]:
    """The same where clusters of both groups draw from the effects of both, each in its group's standard deviations."""
    pool = np.concatenate([group.standardized for group in groups])
    drawn = []
    for group in groups:
        spread, source = group.effects.std(0), rng.integers(len(pool), size=(draws, len(group.counts)))
        mean, variance = _dealt(group, pool, source)
        drawn.append((spread * mean, spread**2 * variance))
    return _told(drawn, 0.0, error_of(groups, 0) ** 2, log)


Drawn = tuple[Float[np.ndarray, "draw cell"], Float[np.ndarray, "draw cell"]]
"""The mean of a group in every draw, less the observed one, and its variance from the draw itself."""


def _dealt(
    group: ClusterEffects, effects: Float[np.ndarray, "source cell"], source: Int[np.ndarray, "draw taker"]
) -> tuple[Float[np.ndarray, "draw cell"], Float[np.ndarray, "draw cell"]]:
    """Means and their variances (CR3), as products of (draw, source) weights with the (source, cell) effects."""
    squared, share = group.lever**2, group.counts / group.counts.sum()
    weights = _gathered(source, share, len(effects))
    mean = weights @ effects
    if (
        group.counts == group.counts[0]
    ).all():  # then squared levers are in proportion to shares, and half is known already
        each = squared[0] / share[0]
        return mean, each * (weights @ effects**2 - mean**2)
    levers = _gathered(source, squared, len(effects))
    return mean, levers @ effects**2 - 2 * mean * (levers @ effects) + mean**2 * squared.sum()


def _gathered(
    source: Int[np.ndarray, "draw taker"], weight: Float[np.ndarray, "taker"], sources: int
) -> Float[np.ndarray, "draw source"]:
    """How much each source's effect weighs, when clusters of these weights take the effects of those in `source`."""
    at = source + sources * np.arange(len(source))[:, None]
    taken = np.broadcast_to(weight, source.shape)
    return np.bincount(at.ravel(), taken.ravel(), len(source) * sources).reshape(len(source), sources)


def _drawn_covariance(
    groups: tuple[ClusterEffects, ...],
    effects: list[np.ndarray],
    shared: Int[np.ndarray, "draw both"],
    drawn: list[Drawn],
) -> Float[np.ndarray, "draw cell"]:
    """What the clusters in both groups add to the covariance of the two means, as `error_of` works it out, in each draw."""
    both = shared.shape[1]
    one, other = (effect[-both:] for effect in effects)
    levers = groups[0].lever[-both:] * groups[1].lever[-both:]
    weights = _gathered(shared, levers, both)
    mean_a, mean_b = (mean for mean, _ in drawn)
    apart = weights @ (one * other) - mean_a * (weights @ other) - mean_b * (weights @ one)
    return apart + mean_a * mean_b * levers.sum()


def _told(
    drawn: list[Drawn], common: float | np.ndarray, observed: Float[np.ndarray, "cell"], log: bool
) -> Float[np.ndarray, "draw cell"]:
    """The estimate of every draw over its error; with `log` a draw's mean is in shares of the observed one."""
    means, variances = zip(*drawn, strict=True)
    if log:
        shares = [np.maximum(1 + mean, LEAST_VARIANCE) for mean in means]
        means = [np.log(share) for share in shares]
        variances = [variance / share**2 for variance, share in zip(variances, shares, strict=True)]
        common = common / np.prod(shares, axis=0)
    moved = means[0] - means[1] if len(means) == 2 else means[0]
    variance = np.sum(variances, axis=0) - 2 * common
    variance = np.where(variance > DEGENERATE * observed, variance, observed)
    return np.divide(moved, np.sqrt(variance), out=np.zeros_like(moved), where=variance > 0)
