"""What intervals and tests are drawn with: a seed and a number, given once and passed on as one value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.statistics import (
    Interval,
    PermutationTest,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_bootstrap_statistic,
    cluster_permutation_difference,
    cluster_sign_flip,
)
from localize.statistics.bootstrap import check_draws
from localize.statistics.classification import pair_interval


@dataclass(frozen=True)
class Draws:
    """How often clusters are drawn again, and labels dealt out anew, and from which seed.

    Attributes:
        seed: The same seed gives the same bits.
        resamples: Draws of every interval and of every test, at least 100.

    Raises:
        LocalizeError: (a ValueError) If there are fewer draws.
    """

    seed: int
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_draws(self.resamples)

    def mean(self, values: Real[np.ndarray, "paragraph *cell"], clusters: Int[np.ndarray, " paragraph"]) -> Interval:
        """The mean over paragraphs, with its interval."""
        return cluster_bootstrap(values, clusters, seed=self.seed, resamples=self.resamples)

    def difference(
        self,
        values: Real[np.ndarray, "paragraph *cell"],
        in_a: Bool[np.ndarray, " paragraph"],
        in_b: Bool[np.ndarray, " paragraph"],
        clusters: Int[np.ndarray, " paragraph"],
        family: int | None = None,
    ) -> tuple[Interval, PermutationTest]:
        """mean(a) - mean(b), with its interval, and the same with labels permuted over clusters; `family` tests are corrected together."""
        interval = cluster_bootstrap_difference(values, in_a, in_b, clusters, seed=self.seed, resamples=self.resamples)
        test = cluster_permutation_difference(
            values, in_a, in_b, clusters, seed=self.seed, permutations=self.resamples, family=family
        )
        return interval, test

    def log_ratio(
        self,
        values: Real[np.ndarray, "paragraph *cell"],
        in_a: Bool[np.ndarray, " paragraph"],
        in_b: Bool[np.ndarray, " paragraph"],
        clusters: Int[np.ndarray, " paragraph"],
    ) -> Interval:
        """log mean(a) - log mean(b), in nats, with its interval."""
        return cluster_bootstrap_difference(
            values, in_a, in_b, clusters, seed=self.seed, resamples=self.resamples, log=True
        )

    def sign_flip(
        self,
        moved: Real[np.ndarray, "paragraph *cell"],
        clusters: Int[np.ndarray, " paragraph"],
        family: int | None = None,
    ) -> PermutationTest:
        """The mean of paired differences, and the same with the signs of whole clusters flipped; `family` tests are corrected together."""
        return cluster_sign_flip(moved, clusters, seed=self.seed, permutations=self.resamples, family=family)

    def statistic(
        self,
        values: Real[np.ndarray, "paragraph *cell"],
        clusters: Int[np.ndarray, " paragraph"],
        statistic: Callable[[Any], Any],
    ) -> Interval:
        """What follows from all cells' means together, with its interval."""
        return cluster_bootstrap_statistic(values, clusters, statistic, seed=self.seed, resamples=self.resamples)

    def pairs(
        self,
        wins: Float[np.ndarray, "a b"],
        pairs: Float[np.ndarray, "a b"],
        in_a: Bool[np.ndarray, " row"],
        clusters: Int[np.ndarray, " row"],
    ) -> Interval:
        """The share of pairs won, or the difference of two such shares, with its interval."""
        return pair_interval(wins, pairs, in_a, clusters, seed=self.seed, resamples=self.resamples)
