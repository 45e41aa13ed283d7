"""Draws are the statistics with their seed and number given once."""

import numpy as np
import pytest

from localize.analysis.draws import Draws
from localize.errors import LocalizeError, public
from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_bootstrap_statistic,
    cluster_permutation_difference,
    cluster_sign_flip,
)
from localize.statistics.classification import pair_interval

DRAWS, OPTIONS = Draws(7, 150), {"seed": 7, "resamples": 150}
FLIPS = {"seed": 7, "permutations": 150}
VALUES = np.random.default_rng(0).gamma(2.0, size=(40, 3))
CLUSTERS, IN_A = np.arange(40) // 2, np.arange(40) < 16


def numbers(found):
    return {name: np.asarray(value) for name, value in vars(found).items()}


def same(one, other):
    np.testing.assert_equal(numbers(one), numbers(other))


def test_each_is_the_statistic_of_its_name():
    one = VALUES[:, 0]
    same(DRAWS.mean(VALUES, CLUSTERS), cluster_bootstrap(VALUES, CLUSTERS, **OPTIONS))
    interval, test = DRAWS.difference(VALUES, IN_A, ~IN_A, CLUSTERS)
    same(interval, cluster_bootstrap_difference(VALUES, IN_A, ~IN_A, CLUSTERS, **OPTIONS))
    same(test, cluster_permutation_difference(VALUES, IN_A, ~IN_A, CLUSTERS, **FLIPS))
    ratio = cluster_bootstrap_difference(VALUES, IN_A, ~IN_A, CLUSTERS, log=True, **OPTIONS)
    same(DRAWS.log_ratio(VALUES, IN_A, ~IN_A, CLUSTERS), ratio)
    same(DRAWS.sign_flip(VALUES - 2, CLUSTERS), cluster_sign_flip(VALUES - 2, CLUSTERS, **FLIPS))
    same(
        DRAWS.statistic(VALUES, CLUSTERS, lambda means: means.max(1)),
        cluster_bootstrap_statistic(VALUES, CLUSTERS, lambda means: means.max(1), **OPTIONS),
    )
    wins = (one[IN_A][:, None] > one[~IN_A]).astype(float)
    pairs = np.ones_like(wins)
    same(DRAWS.pairs(wins, pairs, IN_A, CLUSTERS), pair_interval(wins, pairs, IN_A, CLUSTERS, **OPTIONS))


def test_too_few_are_refused_in_the_name_of_who_was_called():
    @public
    def asked(resamples):
        return Draws(0, resamples)

    assert asked(100) == Draws(0, 100)
    with pytest.raises(LocalizeError) as error:
        asked(99)
    assert str(error.value) == "asked: resamples=99 must be at least 100, because the tails are read off the draws."
