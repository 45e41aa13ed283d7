"""Intervals of a cross-validated AUC: by hand, against scikit-learn, and held against simulations."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from localize.statistics import Interval
from localize.statistics.classification import cluster_folds, held_out, pair_interval, parts_of_groups
from localize.statistics.permutation import relabellings
from localize.statistics.retrained import fixed_auc, retrained, retrained_auc


def interval(low, estimate, high):
    return Interval(np.array(estimate), np.array(low), np.array(high))


def test_ends_move_by_the_variance_that_training_adds():
    t = scipy.stats.t.ppf(0.975, 29)
    own = interval(0.6 - 0.06 * t, 0.6, 0.6 + 0.04 * t)  # a standard error of .05, uneven
    null, fixed = np.array([0.45, 0.55]), np.array([0.47, 0.53])  # variances of .0025 and .0009
    got = retrained(own, null, fixed, 30.0)
    stretch = np.sqrt(1 + 0.0016 / 0.0025)
    np.testing.assert_allclose([got.low, got.high], [0.6 - 0.06 * t * stretch, 0.6 + 0.04 * t * stretch])
    half = retrained(own, null, fixed, 30.0, scale=0.5)
    np.testing.assert_allclose(half.high, 0.6 + 0.04 * t * np.sqrt(1 + 0.0004 / 0.0025))
    assert got.estimate == 0.6 and got.rough is None


def test_a_null_no_wider_than_that_of_fixed_scores_moves_nothing():
    own = interval(0.5, 0.6, 0.7)
    got = retrained(own, np.array([0.5, 0.52, np.nan]), np.array([0.4, 0.6, 0.9]), 30.0)
    assert (got.low, got.high) == (0.5, 0.7)


def test_without_a_null_or_a_width_the_interval_is_rough():
    for own, null in ((interval(0.5, 0.6, 0.7), np.array([])), (interval(1.0, 1.0, 1.0), np.array([0.4, 0.6]))):
        got = retrained(own, null, null, 30.0)
        assert bool(got.rough) and (got.low, got.high) == (own.low, own.high)


def test_the_auc_of_fixed_scores_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 30).astype(float), rng.random((5, 30)) < 0.4
    np.testing.assert_allclose(fixed_auc(scores, labels), [roc_auc_score(row, scores) for row in labels])


def test_the_interval_of_an_auc_is_even_on_the_logit_scale_and_stays_inside():
    t = scipy.stats.t.ppf(0.975, 29)
    own = interval(0.9 - 0.06 * t, 0.9, 0.9 + 0.04 * t)
    null, fixed = np.array([0.45, 0.55]), np.array([0.47, 0.53])
    got = retrained_auc(own, null, fixed, 30.0)
    error = np.sqrt(0.0025 + 0.0016 * 0.36**2)
    reach = t * error / 0.09
    np.testing.assert_allclose(
        scipy.special.logit([got.low, got.high]), scipy.special.logit(0.9) + np.array([-reach, reach])
    )
    assert 0 < got.low < got.high < 1
    whole = retrained_auc(interval(1.0, 1.0, 1.0), null, fixed, 30.0)
    assert bool(whole.rough) and whole.high == 1


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_cover_the_auc_where_little_is_told(effect):
    """Chance where nothing is told; with one feature a standard deviation apart, the mean over experiments."""
    as_they_are, widened, estimates = [], [], []
    in_a, clusters = np.arange(40) < 20, np.arange(40)
    parts, part = parts_of_groups(in_a, clusters)
    for trial in range(100):
        rng = np.random.default_rng(trial)
        features = rng.normal(size=(40, 10))
        features[:, 0] += effect * in_a
        labels = relabellings(rng, parts, 40)[:, part]
        found = held_out([features], labels, cluster_folds(in_a, clusters, seed=trial, folds=5, repeats=1))
        plain = pair_interval(found.wins, found.pairs, in_a, clusters, seed=trial, resamples=200)
        held = fixed_auc(found.ahead, labels)
        estimates.append(float(found.auc[0]))
        as_they_are.append((plain.low, plain.high))
        wide = retrained_auc(plain, found.auc[1:], held[1:], 20.0)
        widened.append((wide.low, wide.high))
    true = np.mean(estimates) if effect else 0.5
    covered = [np.mean([low <= true <= high for low, high in ends]) for ends in (as_they_are, widened)]
    assert covered[1] >= 0.9 and covered[1] >= covered[0] + 0.02
