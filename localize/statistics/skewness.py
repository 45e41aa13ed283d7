"""How skewed the clusters of one or two groups are, as far as it makes the estimate skewed."""

import numpy as np
from jaxtyping import Float

from localize.statistics.studentized import ClusterEffects, freedom_of

ENOUGH = 20.0
"""Effective clusters from which on skewness matters less, in proportion."""


def skewness(effects: Float[np.ndarray, "cluster cell"]) -> Float[np.ndarray, "cell"]:
    """How skewed numbers are, beside what chance makes of even ones: two measures that have seen different things, added.

    Mean less median, in standard errors, does not rest on the largest number, so that it tells a skewed sample that missed its
    tail; the sum of cubes over the root of the sum of sixth powers does rest on it, and is 1 at most where it is one number's.
    Positive with a tail to the right; 0 where all are alike.

    Source:
        The first: Cabilio and Masaro 1996, with the error that it has for normal numbers. The second: the t statistic of cubes.
    """
    effects = effects - effects.mean(0)
    largest = np.abs(effects).max(0)
    effects = effects / np.where(largest > 0, largest, 1.0)
    squares = effects * effects
    cubes = squares * effects
    error = np.sqrt(squares.mean(0) * (np.pi / 2 - 1) / len(effects))
    middle = np.divide(-np.median(effects, axis=0), error, out=np.zeros_like(error), where=error > 0)
    spread = np.sqrt((cubes * cubes).sum(0))
    return middle + np.divide(cubes.sum(0), spread, out=np.zeros_like(spread), where=spread > 0)


def own_skewness(groups: tuple[ClusterEffects, ...], overlap: float) -> Float[np.ndarray, "cell"]:
    """Skewness of each group by itself, as far as its part of the error goes; of a difference they go against one another."""
    effective = freedom_of(groups, overlap) + 1
    if len(groups) == 1:
        return _tapered(skewness(groups[0].effects), effective)
    parts = zip(_cubes(groups), groups, strict=True)
    a, b = (part * skewness(group.effects) for part, group in parts)
    return _tapered(a - b, effective)


def skewness_together(groups: tuple[ClusterEffects, ...], overlap: float) -> Float[np.ndarray, "cell"]:
    """Skewness of both groups' clusters, each in its group's standard deviations, as far as one group's error outweighs the other's.

    Or would outweigh it if values spread alike in both: a small group that missed its tail has a small error.
    """
    alike = tuple(group.alike() for group in groups)
    effective = np.minimum(*(freedom_of(either, overlap) + 1 for either in (groups, alike)))
    unlike = np.max([np.abs(np.subtract(*_cubes(either))) for either in (groups, alike)], axis=0)
    return _tapered(skewness(np.concatenate([group.standardized for group in groups])) * unlike, effective)


def _tapered(skewed: Float[np.ndarray, "cell"], effective: Float[np.ndarray, "cell"]) -> Float[np.ndarray, "cell"]:
    return np.abs(skewed) * np.minimum(1.0, ENOUGH / effective)


def _cubes(groups: tuple[ClusterEffects, ...]) -> list[Float[np.ndarray, "cell"]]:
    """What part of a group's skewness the difference has: the cube of its part of the error."""
    whole = np.sum([group.variance for group in groups], axis=0)
    return [np.divide(g.variance, whole, out=np.zeros_like(whole), where=whole > 0) ** 1.5 for g in groups]
