"""What the numbers promise, held against simulations: p-values under the null, intervals, false discoveries.

Each cell of an array is one experiment, drawn anew; cluster sizes and draws change from trial to trial.
"""

import numpy as np
import pytest
import scipy.stats

from localize.statistics import (
    auc,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    false_discovery,
    roughness,
)
from localize.statistics.classification import cluster_folds, held_out, pair_interval, parts_of_groups
from localize.statistics.permutation import relabelled_among_alike, relabellings
from localize.statistics.strata import strata_of_clusters

LEVELS = np.array([0.01, 0.05, 0.1])
SINGLE, UNEVEN = 1, 40
"""Largest cluster: sizes are drawn from 1 to it."""

NORMAL, HEAVY, EXPONENTIAL, MILD, LOGNORMAL = "normal", "t, 4 degrees", "exponential", "log-normal .5", "log-normal 1"
SHAPES = {
    NORMAL: lambda rng, size: rng.normal(size=size),
    HEAVY: lambda rng, size: rng.standard_t(4, size=size),
    EXPONENTIAL: lambda rng, size: rng.exponential(size=size) - 1,
    MILD: lambda rng, size: np.exp(0.5 * rng.normal(size=size)) - np.exp(0.125),
    LOGNORMAL: lambda rng, size: np.exp(rng.normal(size=size)) - np.exp(0.5),
}
"""Clusters' means, about a true mean of 0."""


def drawn(rng, clusters, largest, cells, shape=NORMAL, within=0.3):
    """Clusters of 1 to `largest` paragraphs around their own means, and the label of each paragraph."""
    sizes = rng.integers(1, largest + 1, clusters)
    labels = np.repeat(np.arange(clusters), sizes)
    noise = within * rng.normal(size=(len(labels), cells)) if largest > 1 else 0.0
    return SHAPES[shape](rng, (clusters, cells))[labels] + noise, labels


def two_groups(rng, clusters, largest, cells, shape=NORMAL):
    """Values, group and cluster of two groups that differ in nothing but how many clusters they have."""
    values, labels = drawn(rng, sum(clusters), largest, cells, shape)
    return values, labels < clusters[0], labels


def rejected(p_values):
    """How often p lies at or below each of `LEVELS`."""
    return (np.asarray(p_values).reshape(-1, 1) <= LEVELS).mean(0)


def furthest_at(p_values, attainable):
    """The largest distance of the p-values' distribution from the even one, at the values that p can take."""
    ordered = np.sort(np.asarray(p_values).ravel())
    return np.abs(np.searchsorted(ordered, attainable + 1e-9, side="right") / len(ordered) - attainable).max()


GROUPS = [
    # clusters of a and b, largest cluster
    ("many", (60, 60), SINGLE),
    ("many, uneven", (40, 60), UNEVEN),
    ("5 against 5, uneven", (5, 5), UNEVEN),
    ("4 against 20", (4, 20), SINGLE),
    ("4 against 20, uneven", (4, 20), UNEVEN),
]


@pytest.mark.parametrize(("name", "clusters", "largest"), GROUPS, ids=[g[0] for g in GROUPS])
def test_p_values_of_two_groups_are_uniform_where_they_are_alike(name, clusters, largest):
    p_values = []
    for trial in range(40):
        values, in_a, labels = two_groups(np.random.default_rng(trial), clusters, largest, 50)
        test = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=trial, permutations=399)
        p_values.append(test.p_value)
    np.testing.assert_allclose(rejected(p_values), LEVELS, atol=0.018)
    # Steps of 1 / 252 or 1 / 400 are small beside what 2000 experiments can tell.
    assert scipy.stats.kstest(np.ravel(p_values), "uniform").statistic < 0.045


def test_few_relabellings_give_every_p_value_that_there_is_as_often_as_it_says():
    """3 against 3: 20 relabellings, of which each has a twin with the groups exchanged: p is a tenth, or more of them."""
    values, in_a, labels = two_groups(np.random.default_rng(0), (3, 3), SINGLE, 4000)
    p_values = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0).p_value
    attainable = np.arange(1, 11) / 10
    assert np.isin(np.round(p_values, 9), np.round(attainable, 9)).all()
    assert furthest_at(p_values, attainable) < 0.025
    assert rejected(p_values).tolist()[:2] == [0, 0]


def test_clusters_in_both_groups_leave_p_values_uniform():
    p_values = []
    for trial in range(30):
        rng = np.random.default_rng(trial)
        values, labels = drawn(rng, 24, 20, 60)
        in_a = np.where(labels < 6, True, np.where(labels < 12, False, rng.random(len(labels)) < 0.5))
        p_values.append(
            cluster_permutation_difference(values, in_a, ~in_a, labels, seed=trial, permutations=399).p_value
        )
    np.testing.assert_allclose(rejected(p_values), LEVELS, atol=0.018)
    assert scipy.stats.kstest(np.ravel(p_values), "uniform").statistic < 0.045


PAIRS = [("many", 60, SINGLE), ("uneven", 60, UNEVEN), ("12, uneven", 12, UNEVEN), ("12", 12, SINGLE)]


@pytest.mark.parametrize(("name", "clusters", "largest"), PAIRS, ids=[p[0] for p in PAIRS])
def test_p_values_of_pairs_are_uniform_where_nothing_changes(name, clusters, largest):
    p_values = []
    for trial in range(60):
        values, labels = drawn(np.random.default_rng(trial), clusters, largest, 50, HEAVY)
        p_values.append(cluster_sign_flip(values, labels, seed=trial, permutations=399).p_value)
    np.testing.assert_allclose(rejected(p_values), LEVELS, atol=0.018)
    assert scipy.stats.kstest(np.ravel(p_values), "uniform").statistic < 0.045


def test_few_flips_give_every_p_value_that_there_is_as_often_as_it_says():
    """5 clusters: 32 flips, each with its opposite: p is a sixteenth, or more of them, and never below 5 %."""
    p_values = []
    for trial in range(40):
        values, labels = drawn(np.random.default_rng(trial), 5, UNEVEN, 100)
        p_values.append(cluster_sign_flip(values, labels, seed=trial).p_value)
    attainable = np.arange(1, 17) / 16
    assert np.isin(np.round(p_values, 9), np.round(attainable, 9)).all()
    assert furthest_at(p_values, attainable) < 0.025
    assert rejected(p_values).tolist()[:2] == [0, 0]


def classified(rng, clusters, largest, trial, strata=False):
    """p-value of the AUC of random features, or of what they add to a loss that they follow and the groups differ in."""
    labels = np.repeat(np.arange(sum(clusters)), rng.integers(1, largest + 1, sum(clusters)))
    features = rng.normal(size=(sum(clusters), 12))[labels] + 0.3 * rng.normal(size=(len(labels), 12))
    if not strata:
        in_a, base = labels < clusters[0], None
    else:
        loss = rng.normal(size=sum(clusters))
        in_a = (rng.random(sum(clusters)) < 1 / (1 + np.exp(1.5 * loss)))[labels]
        features = features + loss[labels][:, None]
        base = np.stack([loss, np.exp(loss)], axis=1)[labels]
    parts, part = parts_of_groups(in_a, labels)
    rng = np.random.default_rng(trial)
    if strata:
        means = base[np.unique(part, return_index=True)[1], 0]
        stratum = strata_of_clusters(means, np.arange(len(means)) < parts.only_a, 6)
        called = relabelled_among_alike(rng, parts, stratum, 39)[:, part]
    else:
        called = relabellings(rng, parts, 39)[:, part]
    fold = cluster_folds(in_a, labels, seed=trial, folds=4, repeats=1)
    score = held_out([features], called, fold, base=base).auc
    if strata:
        score = score - held_out([], called, fold, base=base).auc
    null = score[1:][~np.isnan(score[1:])]
    return (1 + (null >= score[0] - 1e-9).sum()) / (1 + len(null))


CLASSIFIED = [("even", (20, 20), SINGLE), ("uneven", (12, 20), 10), ("few", (5, 10), 5)]


TRIALS = [100, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize(("name", "clusters", "largest"), CLASSIFIED, ids=[c[0] for c in CLASSIFIED])
def test_p_values_of_a_classifier_are_uniform_where_features_are_noise(name, clusters, largest, trials):
    p_values = [classified(np.random.default_rng(500 + trial), clusters, largest, trial) for trial in range(trials)]
    # Two standard errors of what so many experiments can tell; p is a fortieth, or more of them.
    assert (rejected(p_values)[1:] <= LEVELS[1:] + 2 * np.sqrt(LEVELS[1:] * 0.95 / trials)).all()
    assert furthest_at(p_values, np.arange(1, 41) / 40) < 1.6 / np.sqrt(trials)


@pytest.mark.parametrize("trials", [100, pytest.param(4000, marks=pytest.mark.slow)])
def test_a_part_that_follows_the_loss_seldom_gains_on_it(trials):
    """Clusters of a stratum differ a little in loss: of 4,000 experiments p <= .1 holds in .11, within three standard errors."""
    p_values = [classified(np.random.default_rng(900 + t), (30, 30), SINGLE, t, True) for t in range(trials)]
    assert (rejected(p_values)[1:] <= LEVELS[1:] + 3 * np.sqrt(LEVELS[1:] * 0.95 / trials)).all()


def covered(low, high):
    return (np.asarray(low) <= 0) & (np.asarray(high) >= 0)


def of_means(clusters, largest, shape, trials=3, cells=500):
    """Whether intervals of means hold 0 and p is above .05, and which of both are called rough, each cell by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roughness, "MOST", 1.0)  # no cell is called rough for what the others are
        for trial in range(trials):
            values, labels = drawn(np.random.default_rng(trial), clusters, largest, cells, shape)
            interval = cluster_bootstrap(values, labels, seed=trial, resamples=400)
            test = cluster_sign_flip(values, labels, seed=trial, permutations=400, family=1)
            yield covered(interval.low, interval.high), interval.rough, test.p_value > 0.05, test.rough


def of_differences(clusters, largest, shape, spread, trials=3, cells=500):
    """The same for two groups, the first of which spreads so many times as far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roughness, "MOST", 1.0)
        for trial in range(trials):
            values, in_a, labels = two_groups(np.random.default_rng(trial), clusters, largest, cells, shape)
            values[in_a] *= spread
            options = {"seed": trial}
            interval = cluster_bootstrap_difference(values, in_a, ~in_a, labels, resamples=400, **options)
            test = cluster_permutation_difference(values, in_a, ~in_a, labels, permutations=400, family=1, **options)
            yield covered(interval.low, interval.high), interval.rough, test.p_value > 0.05, test.rough


def together(trials):
    """Of all trials: held, interval rough, kept, test rough."""
    return [np.ravel(each) for each in zip(*trials, strict=True)]


WELL_BEHAVED = [(10, SINGLE), (15, UNEVEN), (20, SINGLE), (40, UNEVEN), (100, SINGLE)]
SKEWED = [(clusters, largest) for clusters in (12, 20, 40, 130) for largest in (SINGLE, UNEVEN)]


@pytest.mark.parametrize(("clusters", "largest"), WELL_BEHAVED)
@pytest.mark.parametrize("shape", [NORMAL, HEAVY])
def test_intervals_and_tests_of_even_values_hold_and_few_are_called_rough(clusters, largest, shape):
    held, rough, kept, p_rough = together(of_means(clusters, largest, shape))
    assert 0.93 <= held.mean() <= 0.985
    assert kept.mean() >= 0.93
    assert rough.mean() <= 0.13 and p_rough.mean() <= 0.15


@pytest.mark.parametrize("shape", [EXPONENTIAL, MILD, LOGNORMAL])
@pytest.mark.parametrize(("clusters", "largest"), SKEWED)
def test_an_interval_and_a_p_value_hold_or_they_are_called_rough(clusters, largest, shape):
    """At most 7 % fail untold, and what simulation of 1,500 cells adds to it."""
    held, rough, kept, p_rough = together(of_means(clusters, largest, shape))
    assert (~held & ~rough).mean() <= 0.08
    assert (~kept & ~p_rough).mean() <= 0.08


DIFFERENCES = [((20, 20), SINGLE), ((12, 100), SINGLE), ((30, 60), UNEVEN)]


@pytest.mark.parametrize("shape", [NORMAL, EXPONENTIAL, LOGNORMAL])
@pytest.mark.parametrize(("clusters", "largest"), DIFFERENCES)
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_an_interval_and_a_p_value_of_a_difference_hold_or_they_are_called_rough(clusters, largest, shape, spread):
    held, rough, kept, p_rough = together(of_differences(clusters, largest, shape, spread))
    assert (~held & ~rough).mean() <= 0.08
    assert (~kept & ~p_rough).mean() <= 0.08
    if shape == NORMAL:
        assert held.mean() >= 0.93 and rough.mean() <= 0.12


@pytest.mark.parametrize("often", [0.9, 0.97])
def test_what_is_seldom_0_else_50_is_called_rough_or_holds(often):
    for count in (15, 109):
        values = 50.0 * (np.random.default_rng(0).random((count, 1500)) < often)
        got = cluster_bootstrap(values, np.arange(count), seed=0, resamples=400)
        held = (got.low <= 50 * often) & (50 * often <= got.high)
        assert (~held & ~got.rough).mean() <= 0.05
        test = cluster_sign_flip(values - 50 * often, np.arange(count), seed=0, permutations=400, family=1)
        assert ((test.p_value <= 0.05) & ~test.rough).mean() <= 0.05


def test_a_saturated_group_is_rough_by_itself_and_beside_another():
    values = np.random.default_rng(1).normal(size=80)
    values[:40] = 50
    in_a = np.arange(80) < 40
    saturated = cluster_bootstrap(values[:40], np.arange(40), seed=0)
    assert (saturated.low, saturated.high) == (50, 50) and saturated.rough
    assert cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(80), seed=0).rough
    assert cluster_permutation_difference(values, in_a, ~in_a, np.arange(80), seed=0).rough
    assert not cluster_bootstrap(values[40:], np.arange(40), seed=0).rough


def test_a_difference_of_eight_tenths_is_said_four_times_in_five_from_thirty_clusters_a_group():
    said = []
    for trial in range(3):
        values, in_a, labels = two_groups(np.random.default_rng(trial), (30, 30), SINGLE, 400)
        values[in_a] += 0.8
        interval = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=trial, resamples=400)
        test = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=trial, permutations=400, family=1)
        said.append((test.p_value <= 0.05) & (interval.low > 0) & ~interval.rough & ~test.rough)
    assert np.mean(said) >= 0.8


def test_the_auc_of_a_classifier_that_tells_nothing_is_held_with_labels_dealt_out():
    alone, dealt = [], []
    for trial in range(120):
        rng, labels = np.random.default_rng(trial), np.arange(40)
        in_a, features = labels < 18, rng.normal(size=(40, 6))
        called = np.stack([in_a, *(rng.permutation(in_a) for _ in range(39))])
        fold = cluster_folds(in_a, labels, seed=trial, folds=4, repeats=1)
        said = held_out([features], called, fold)
        wins, pairs = said.wins, said.pairs
        for held, null in ((alone, None), (dealt, said.auc[1:] - 0.5)):
            got = pair_interval(wins, pairs, in_a, labels, seed=trial, resamples=200, null=null)
            held.append(got.low <= 0.5 <= got.high)
    assert np.mean(dealt) >= 0.93 and np.mean(dealt) > np.mean(alone)


@pytest.mark.parametrize("largest", [SINGLE, 6])
def test_intervals_of_the_auc_of_given_scores_cover_it(largest):
    """a scores 1 standard deviation higher: a pair is in order with probability Phi(1 / sqrt 2)."""
    held, true = [], scipy.stats.norm.cdf(np.sqrt(0.5))
    for trial in range(250):
        rng = np.random.default_rng(trial)
        labels = np.repeat(np.arange(70), rng.integers(1, largest + 1, 70))
        in_a = labels < 30
        scores = rng.normal(size=70)[labels] + in_a
        one, other = scores[in_a][:, None], scores[~in_a]
        wins, pairs = (one > other) + (one == other) / 2, np.ones((len(one), len(other)))
        assert wins.sum() / pairs.sum() == pytest.approx(float(auc(scores, in_a, ~in_a)))
        got = pair_interval(wins, pairs, in_a, labels, seed=trial, resamples=400)
        held.append(got.low <= true <= got.high)
    assert 0.91 <= np.mean(held) <= 0.985


@pytest.mark.parametrize("shared", [0.0, 0.8], ids=["cells apart", "cells that go together"])
def test_of_what_is_called_a_discovery_one_in_twenty_is_none_on_average(shared):
    """300 cells, of which 60 differ; with a common cause of most of the variance the share varies more, its mean does not."""
    false, found = [], []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        in_a = np.arange(60) < 30
        values = np.sqrt(1 - shared) * rng.normal(size=(60, 300)) + np.sqrt(shared) * rng.normal(size=(60, 1))
        values[in_a, :60] += 1.1
        test = cluster_permutation_difference(values, in_a, ~in_a, np.arange(60), seed=trial, permutations=999)
        discovered = false_discovery(test.p_value) <= 0.05
        false.append(discovered[60:].sum() / max(discovered.sum(), 1))
        found.append(discovered[:60].mean())
    assert np.mean(false) <= 0.05 + 2 * np.std(false) / np.sqrt(len(false))
    assert np.mean(found) > 0.5


def test_where_nothing_differs_anything_is_discovered_once_in_twenty():
    any_found = []
    for trial in range(100):
        values, in_a, labels = two_groups(np.random.default_rng(trial), (20, 20), SINGLE, 40)
        test = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=trial, permutations=999)
        any_found.append((false_discovery(test.p_value) <= 0.05).any())
    assert np.mean(any_found) <= 0.1
