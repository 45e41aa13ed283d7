"""What an exact match that ends at the first error makes of one and the same profile at different levels of hazard.

A replacement of a prefix token gives every token of the continuation a chance to come out wrong, its hazard. The exact match sees
only the first error: a hazard of 5 % a token loses 32 of 50 tokens, one of 50 % loses 49, so that where hazards are high all positions
lose about alike, and where they are low few do. The model here says nothing but that:

- the hazard of position p in paragraph i, in errors per token, is level_i * profile_p * w * v: a level of the paragraph's own, one
  profile over prefix positions for all paragraphs, and two factors that are drawn alike in all;
- levels are gamma-distributed in each group, with its own mean and shape. A level estimated from its paragraph alone would take up
  what the factors do: shares of the few that lose little came out .04 too even in simulations of 60 paragraphs of 20 positions;
- w is the same in all draws of a position of a paragraph (so a paragraph has positions of its own that matter); it has any
  distribution over a grid. v is drawn anew with each replacement, from a gamma distribution of mean 1;
- the first error comes after floor(Exp(hazard)) tokens, or not before the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Shaped

GRID = np.exp(np.linspace(-5.0, 5.0, 13))
"""What the factor of a position can be."""

STEPS, ROUNDS, WEIGHT_STEPS = 10, 3, 8
"""Of expectation maximization between two choices of the draws' shape; how often that is chosen; and of the weights in each step."""

LEAST_HAZARD, MOST_HAZARD = 1e-6, 20.0
"""Errors per token of a position in the middle: beyond are a loss in no draw ever, and one of everything always."""

SHAPES = (0.1, 50.0)
"""Between these is the shape of the draws' factor; at 50 all replacements of a position have nearly the same hazard."""

LEVEL_SHAPES, FIRST_CERTAINTY = (0.1, 1000.0), 5.0
"""Between these is the shape of the levels of a group; and how certain each level is at first."""

TINY = np.finfo(float).tiny

Lost = Float[np.ndarray, "paragraph draw position"]


@dataclass(frozen=True, eq=False)
class Hazards:
    """Hazards of replaced prefix tokens, as they are fitted to lost exact match.

    Attributes:
        levels: Of each paragraph, in errors per continuation token, the mean of what it can be; nan where it has lost nothing.
        certainty: Of each level: the shape of the gamma distribution that it has, given the losses of its paragraph and its group.
        profile: Of each prefix position, relative, with a median of 1; nan where nothing was put.
        weights: How often a position's factor is each of `GRID`.
        shape: Of the gamma-distributed factor of a replacement.
    """

    levels: Float[np.ndarray, " paragraph"]
    certainty: Float[np.ndarray, " paragraph"]
    profile: Float[np.ndarray, " position"]
    weights: Float[np.ndarray, " factor"]
    shape: float

    def simulated(
        self,
        rng: np.random.Generator,
        lost: Lost,
        before: Float[np.ndarray, " paragraph"],
        clusters: Int[np.ndarray, " paragraph"],
    ) -> Lost:
        """Lost exact match, in tokens, nan where `lost` is; near-duplicates share the factors of their positions."""
        _, cluster = np.unique(clusters, return_inverse=True)
        positions = lost.shape[2]
        factor = rng.choice(GRID, (int(cluster.max()) + 1, 1, positions), p=self.weights)[cluster]
        factor = factor * rng.standard_gamma(self.shape, lost.shape) / self.shape
        levels = self.levels * rng.standard_gamma(self.certainty) / self.certainty
        hazard = levels[:, None, None] * self.profile * factor
        kept = np.floor(rng.standard_exponential(lost.shape) / np.maximum(hazard, TINY))  # nan where the hazard is
        ends = before[:, None, None]
        return np.where(np.isnan(lost), np.nan, ends - np.minimum(kept, ends))

    def expected(
        self,
        measure: Callable[[Lost], Float[np.ndarray, "quantity paragraph"]],
        lost: Lost,
        before: Float[np.ndarray, " paragraph"],
        clusters: Int[np.ndarray, " paragraph"],
        *,
        seed: int,
        repeats: int,
    ) -> Float[np.ndarray, "quantity paragraph"]:
        """The mean of some quantities over so many simulations; nan where no simulation has one."""
        if np.isnan(self.levels).all():
            return np.full_like(measure(lost), np.nan)
        rng = np.random.default_rng([seed, 31])
        found = np.stack([measure(self.simulated(rng, lost, before, clusters)) for _ in range(repeats)])
        there = ~np.isnan(found)
        count = there.sum(0)
        return np.where(count > 0, np.where(there, found, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def fitted(lost: Lost, before: Float[np.ndarray, " paragraph"], group: Shaped[np.ndarray, " paragraph"]) -> Hazards:
    """Hazards fitted to lost exact match, by maximum likelihood.

    Args:
        lost: Tokens of exact match lost by each replacement, at least 0; nan where nothing was put.
        before: Exact match before.
        group: The group of each paragraph, for the distribution of levels.

    Source:
        Expectation maximization for a frailty (the factor of a hazard): Klein 1992; its distribution over a grid: Laird 1978.
    """
    from scipy.optimize import minimize_scalar

    there = ~np.isnan(lost)
    known = np.flatnonzero((np.where(there, lost, 0.0) > 0).any((1, 2)))
    placed = np.flatnonzero(there[known].any((0, 1)))
    levels, certainty = np.full((2, len(lost)), np.nan)
    profile = np.full(lost.shape[2], np.nan)
    even = np.full(len(GRID), 1 / len(GRID))
    if len(known) == 0:
        return Hazards(levels, certainty, profile, even, SHAPES[1])
    seen = _FirstErrors.of(lost[known][:, :, placed], before[known], group[known])
    shape = 1.0 if lost.shape[1] > 1 else SHAPES[1]
    now = Hazards(seen.level_alone(), np.full(len(known), FIRST_CERTAINTY), np.ones(len(placed)), even, shape)
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            now = seen.better(now)
        if lost.shape[1] > 1:  # a single draw does not tell its own factor from that of its position
            found = minimize_scalar(
                lambda log, now=now: -seen.likelihood(replace(now, shape=float(np.exp(log)))),
                bounds=np.log(SHAPES), method="bounded", options={"xatol": 0.1},
            )  # fmt: skip
            now = replace(now, shape=float(np.exp(found.x)))
    levels[known], certainty[known], profile[placed] = now.levels, now.certainty, now.profile
    return Hazards(levels, certainty, profile, now.weights, now.shape)


@dataclass(frozen=True, eq=False)
class _FirstErrors:
    """When the first error came: after `kept` tokens, or not before the end."""

    kept: Float[np.ndarray, "paragraph draw position"]
    wrong: Float[np.ndarray, "paragraph draw position"]  # 1 where an error came, 0 where none did or nothing was put
    there: Float[np.ndarray, "paragraph draw position"]
    group: Int[np.ndarray, " paragraph"]

    @classmethod
    def of(
        cls, lost: Lost, before: Float[np.ndarray, " paragraph"], group: Shaped[np.ndarray, " paragraph"]
    ) -> "_FirstErrors":
        there = ~np.isnan(lost)
        filled = np.where(there, lost, 0.0)
        _, number = np.unique(group, return_inverse=True)
        return cls(before[:, None, None] - filled, (filled > 0).astype(float), there.astype(float), number)

    def level_alone(self) -> Float[np.ndarray, " paragraph"]:
        """Errors per token, positions alike."""
        return self.wrong.sum((1, 2)) / ((self.kept + self.wrong / 2) * self.there).sum((1, 2))

    def likelihood(self, now: Hazards) -> float:
        """Log likelihood of all draws of all positions."""
        ratio = _hazards(now) / now.shape
        chance = (1 + ratio * self.kept) ** -now.shape - self.wrong * (1 + ratio * (self.kept + 1)) ** -now.shape
        of_draws = np.exp((np.log(np.maximum(chance, TINY)) * self.there).sum(2))  # (factor, paragraph, position)
        return float(np.log(np.maximum(np.tensordot(now.weights, of_draws, 1), TINY)).sum())

    def better(self, now: Hazards) -> Hazards:
        """The hazards after one step of expectation maximization.

        With m = level * profile * w, S(t) = E exp(-m v t) and F(t) = E v exp(-m v t), the expected v t, the draw's factor times
        the time of the error, is (k F(k) - (k + 1) F(k + 1)) / (S(k) - S(k + 1)) + 1 / m if the error came after k tokens, and
        k F(k) / S(k) if none came in k tokens. Given these and how likely each w is, levels and profile are errors over exposure.
        """
        hazard = _hazards(now)  # (factor, paragraph, 1, position)
        ratio = hazard / now.shape
        at, after = 1 + ratio * self.kept, 1 + ratio * (self.kept + 1)
        survived, later = at**-now.shape, self.wrong * after**-now.shape
        chance = np.maximum(survived - later, TINY)
        passed = (self.kept * survived / at - (self.kept + 1) * later / after) / chance + self.wrong / hazard
        of_draws, weights = np.exp((np.log(chance) * self.there).sum(2)), now.weights
        for _ in range(WEIGHT_STEPS):  # the slowest to settle, and the cheapest
            likely = weights[:, None, None] * of_draws
            likely = likely / np.maximum(likely.sum(0), TINY)  # (factor, paragraph, position)
            weights = likely.mean((1, 2))
        exposure = (likely * GRID[:, None, None] * (passed * self.there).sum(2)).sum(0)  # (paragraph, position)
        errors = self.wrong.sum(1)
        levels, certainty = self.levels(errors.sum(1), (exposure * now.profile).sum(1), now)
        profile = errors.sum(0) / (exposure * levels[:, None]).sum(0)
        profile = np.maximum(profile / max(float(np.median(profile)), LEAST_HAZARD), LEAST_HAZARD)
        return replace(now, levels=levels, certainty=certainty, profile=profile, weights=weights)

    def levels(
        self, errors: Float[np.ndarray, " paragraph"], exposure: Float[np.ndarray, " paragraph"], now: Hazards
    ) -> tuple[Float[np.ndarray, " paragraph"], Float[np.ndarray, " paragraph"]]:
        """Mean and shape of each level, given errors and exposure, and how the levels of its group are distributed now.

        A gamma distribution of levels with shape s and mean m becomes one with shape s + errors and mean (s + errors) / (s / m +
        exposure). The group's own m and s are those of the mean and the variance of its levels as they are known so far.
        """
        levels, certainty = np.empty(len(errors)), np.empty(len(errors))
        for number in range(self.group.max() + 1):
            own = self.group == number
            mean = errors[own].sum() / exposure[own].sum()
            variance = now.levels[own].var() + (now.levels[own] ** 2 / now.certainty[own]).mean()
            shape = float(np.clip(now.levels[own].mean() ** 2 / variance, *LEVEL_SHAPES))
            certainty[own] = shape + errors[own]
            levels[own] = certainty[own] / (shape / mean + exposure[own])
        return levels.clip(LEAST_HAZARD, MOST_HAZARD), certainty


def _hazards(now: Hazards) -> Float[np.ndarray, "factor paragraph 1 position"]:
    return GRID[:, None, None, None] * now.levels[:, None, None] * now.profile
