"""Held-out scores of a linear classifier: against ridge regressions written out, and against scikit-learn's own."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from localize.errors import LocalizeError
from localize.statistics import classification
from localize.statistics.bootstrap import reaches
from localize.statistics.classification import (
    INTERCEPT,
    PENALTIES,
    cluster_folds,
    held_out,
    pair_interval,
    pair_wins,
    parts_of_groups,
)
from localize.statistics.studentized import ClusterEffects

COUNT = 120


@pytest.fixture
def noisy():
    """60 rows of 7 features, of which the first says something of the group; folds of single rows, twice."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(60, 7)) * [1, 5, 1, 1, 0.1, 1, 1] + 3
    in_a = features[:, 0] + rng.normal(size=60) > 3
    return features, in_a, cluster_folds(in_a, np.arange(60), seed=0, folds=4, repeats=2)


def test_a_cluster_is_never_on_both_sides():
    in_a, clusters = np.arange(COUNT) % 2 == 0, np.arange(COUNT) // 4
    for fold in cluster_folds(in_a, clusters, seed=3, folds=5, repeats=3):
        assert len({(cluster, number) for cluster, number in zip(clusters, fold, strict=True)}) == 30
        assert set(fold) == set(range(5))


def test_near_duplicates_tell_nothing_of_one_another():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), 5)
    in_a = np.isin(clusters, rng.permutation(40)[:20])
    features = rng.normal(size=(40, 30))[clusters]  # the copies of a cluster are alike, and its label is chance
    apart = held_out([features], in_a[None], cluster_folds(in_a, clusters, seed=0))
    leaking = held_out([features], in_a[None], cluster_folds(in_a, np.arange(200), seed=0))
    assert 0.3 < apart.auc[0] < 0.7
    assert leaking.auc[0] > 0.95


def test_the_auc_is_that_of_ridge_regressions_written_out():
    rng = np.random.default_rng(2)
    features, clusters = rng.normal(size=(60, 7)), np.arange(60)
    in_a = features[:, 0] + rng.normal(size=60) > 0
    fold = cluster_folds(in_a, clusters, seed=0, folds=4, repeats=1)
    found = held_out([features], in_a[None], fold)
    target, wins, pairs = np.where(in_a, 1.0, -1.0), 0.0, 0

    def predicted(train, test, penalty):
        mean, spread = features[train].mean(0), features[train].std(0)
        x = np.c_[np.full(60, np.sqrt(INTERCEPT)), (features - mean) / spread / np.sqrt(7 * penalty)]
        weights = np.linalg.solve(x[train].T @ x[train] + np.eye(8), x[train].T @ target[train])
        return x[test] @ weights

    for number in range(4):
        test = fold[0] == number
        errors = []
        for penalty in PENALTIES:
            mean, spread = features[~test].mean(0), features[~test].std(0)
            x = np.c_[np.full(60, np.sqrt(INTERCEPT)), (features - mean) / spread / np.sqrt(7 * penalty)]
            error = 0.0
            for inner in set(range(4)) - {number}:
                rest, left = ~test & (fold[0] != inner), fold[0] == inner
                weights = np.linalg.solve(x[rest].T @ x[rest] + np.eye(8), x[rest].T @ target[rest])
                error += ((x[left] @ weights - target[left]) ** 2).sum()
            errors.append(error)
        said = predicted(~test, test, PENALTIES[int(np.argmin(errors))])
        np.testing.assert_allclose(found.scores[0, test], said, atol=1e-8)
        count = in_a[test].sum() * (~in_a[test]).sum()
        wins, pairs = wins + roc_auc_score(in_a[test], said) * count, pairs + count
    assert found.auc[0] == pytest.approx(wins / pairs)
    won, compared = pair_wins(found.scores, fold, in_a)
    assert won.sum() / compared.sum() == pytest.approx(found.auc[0])


def test_with_one_penalty_the_scores_are_those_of_scikit_learns_pipeline(noisy, monkeypatch):
    features, in_a, fold = noisy
    monkeypatch.setattr(classification, "PENALTIES", (2.0,))
    monkeypatch.setattr(classification, "INTERCEPT", 1e6)  # as free as theirs
    found = held_out([features], in_a[None], fold)
    model = make_pipeline(StandardScaler(), Ridge(alpha=2.0 * features.shape[1]))
    wins = pairs = 0
    for repeat in range(2):
        said = cross_val_predict(model, features, np.where(in_a, 1.0, -1.0), cv=PredefinedSplit(fold[repeat]))
        np.testing.assert_allclose(found.scores[repeat], said, atol=1e-4)
        for number in range(4):
            test = fold[repeat] == number
            count = in_a[test].sum() * (~in_a[test]).sum()
            wins, pairs = wins + roc_auc_score(in_a[test], said[test]) * count, pairs + count
    assert found.auc[0] == pytest.approx(wins / pairs, abs=1e-9)


def test_many_labellings_at_once_are_each_as_if_it_were_alone(noisy):
    features, in_a, fold = noisy
    labels = np.stack([in_a, *(np.random.default_rng(i).permutation(in_a) for i in range(5))])
    together = held_out([features], labels, fold, base=features[:, :2])
    alone = [held_out([features], labels[[i]], fold, base=features[:, :2]).auc[0] for i in range(6)]
    np.testing.assert_allclose(together.auc, alone, rtol=1e-12)


def test_a_missing_number_is_the_mean_of_the_rows_trained_on(noisy):
    features, in_a, fold = noisy
    missing = features.copy()
    missing[7, 0] = np.nan
    for repeat in fold:
        test = repeat == repeat[7]
        filled = missing.copy()
        filled[7, 0] = np.delete(features[:, 0], np.flatnonzero(test)).mean()  # where row 7 is held out
        one, other = (held_out([x], in_a[None], repeat[None]).scores[0, test] for x in (missing, filled))
        np.testing.assert_allclose(one, other, atol=1e-8)


def test_what_is_held_out_does_not_touch_the_scaling(noisy):
    """A held-out row moved far away moves its own score and no other of its fold."""
    features, in_a, fold = noisy
    moved = features.copy()
    moved[7] += 1000
    before, after = (held_out([x], in_a[None], fold[:1]).scores[0] for x in (features, moved))
    others = (fold[0] == fold[0, 7]) & (np.arange(60) != 7)
    np.testing.assert_array_equal(before[others], after[others])
    assert before[7] != after[7]


def test_units_and_features_that_do_not_vary_do_not_matter(noisy):
    features, in_a, fold = noisy
    plain = held_out([features], in_a[None], fold).scores
    other = np.concatenate([features * 7 - 100, np.full((60, 3), 0.1), np.full((60, 1), np.nan)], axis=1)
    np.testing.assert_allclose(held_out([other], in_a[None], fold).scores, plain, atol=1e-7)


def test_parts_count_alike_however_many_features_they_have(noisy):
    features, in_a, fold = noisy
    rest = features[:, 1:]
    once, often = (held_out([features[:, :1], part], in_a[None], fold).scores for part in (rest, np.tile(rest, 5)))
    np.testing.assert_allclose(once, often, atol=1e-8)


def test_a_base_alone_is_what_is_left_where_the_part_says_nothing(noisy):
    features, in_a, fold = noisy
    nothing = np.ones((60, 4))
    alone = held_out([], in_a[None], fold, base=features[:, :1])
    beside = held_out([nothing], in_a[None], fold, base=features[:, :1])
    np.testing.assert_array_equal(alone.scores, beside.scores)
    assert alone.auc[0] > 0.65


def test_pairs_of_different_folds_are_not_compared(noisy):
    features, in_a, fold = noisy
    found = held_out([features], in_a[None], fold)
    shifted = found.scores + 100 * fold
    for scores in (found.scores, shifted):
        wins, pairs = pair_wins(scores, fold, in_a)
        assert wins.sum() / pairs.sum() == pytest.approx(found.auc[0])
    assert pairs.sum() == sum((in_a[f == k].sum() * (~in_a[f == k]).sum()) for f in fold for k in range(4))


def test_ties_count_half():
    wins, pairs = pair_wins(np.array([[1.0, 2.0, 1.0, 2.0]]), np.zeros((1, 4), dtype=int), np.array([1, 1, 0, 0], bool))
    assert wins.tolist() == [[0.5, 0], [1, 0.5]]
    assert pairs.tolist() == [[1, 1], [1, 1]]


def test_noise_pooled_over_folds_would_tell_less_than_chance_and_inside_folds_tells_chance():
    inside, pooled = [], []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        in_a = np.arange(20) < 10
        fold = rng.permutation(20)[None] // 5  # not stratified: groups are uneven in a fold
        found = held_out([rng.normal(size=(20, 3))], in_a[None], fold)
        inside.append(found.auc[0])
        pooled.append(roc_auc_score(in_a, found.scores[0]))
    assert np.mean(pooled) < 0.42
    assert np.nanmean(inside) == pytest.approx(0.5, abs=0.06)


def uneven_scores():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(16), [3, 1, 2, 1, 4, 1, 2, 1, 2, 2, 1, 3, 1, 1, 2, 2])
    in_a = clusters < 7
    return rng.normal(size=len(clusters)) + in_a, in_a, clusters


def test_an_interval_is_that_of_the_difference_of_each_rows_share_of_pairs_won():
    scores, in_a, clusters = uneven_scores()
    wins, pairs = pair_wins(scores[None], np.zeros((1, len(clusters)), dtype=int), in_a)
    got = pair_interval(wins, pairs, in_a, clusters, seed=4, resamples=200)
    won_by = scores[in_a][:, None] > scores[~in_a]
    placements = np.concatenate([won_by.mean(1), -won_by.mean(0)])  # clusters are in order, a first
    groups = []
    for rows in (in_a, ~in_a):
        names, sizes = np.unique(clusters[rows], return_counts=True)
        sums = [placements[rows & (clusters == name)].sum() for name in names]
        groups.append(ClusterEffects.of(sizes, np.array(sums)[:, None]))
    (down,), (up,) = reaches(tuple(groups), 0, 0.0, np.random.default_rng([4, 19]), 200, 0.95)
    estimate = roc_auc_score(in_a, scores)
    np.testing.assert_allclose([got.estimate, got.low, got.high], [estimate, estimate - down, estimate + up], rtol=1e-9)
    assert not got.rough


def test_single_rows_have_the_error_of_delong():
    rng = np.random.default_rng(6)
    in_a = np.arange(400) < 180
    scores = rng.normal(size=400) + in_a
    wins, pairs = pair_wins(scores[None], np.zeros((1, 400), dtype=int), in_a)
    got = pair_interval(wins, pairs, in_a, np.arange(400), seed=0)
    won_by = scores[in_a][:, None] > scores[~in_a]
    delong = np.sqrt(won_by.mean(1).var(ddof=1) / 180 + won_by.mean(0).var(ddof=1) / 220)
    assert (got.high - got.low) / 2 == pytest.approx(1.97 * delong, rel=0.05)


def test_an_interval_reaches_as_far_as_labels_dealt_out_do_and_too_few_of_them_are_rough():
    scores, in_a, clusters = uneven_scores()
    wins, pairs = pair_wins(scores[None], np.zeros((1, len(clusters)), dtype=int), in_a)
    bare = pair_interval(wins, pairs, in_a, clusters, seed=4, resamples=200)
    null = np.array([*np.linspace(-0.4, 0.3, 39), np.nan])
    got = pair_interval(wins, pairs, in_a, clusters, seed=4, resamples=200, null=null)
    assert got.low == pytest.approx(min(bare.low, got.estimate - 0.3)) and got.high == pytest.approx(got.estimate + 0.4)
    assert not got.rough
    small = pair_interval(wins, pairs, in_a, clusters, seed=4, resamples=200, null=0.01 * null)
    assert (small.low, small.high) == (bare.low, bare.high)
    assert pair_interval(wins, pairs, in_a, clusters, seed=4, resamples=200, null=null[1:]).rough


def test_an_auc_of_1_has_no_width_and_is_rough():
    in_a = np.arange(40) < 20
    wins, pairs = pair_wins(in_a[None].astype(float), np.zeros((1, 40), dtype=int), in_a)
    got = pair_interval(wins, pairs, in_a, np.arange(40), seed=0)
    assert (got.low, got.estimate, got.high) == (1, 1, 1) and got.rough


def test_one_cluster_in_a_group_has_no_interval():
    in_a = np.arange(6) < 2
    wins, pairs = pair_wins(np.arange(6.0)[None], np.zeros((1, 6), dtype=int), in_a)
    got = pair_interval(wins, pairs, in_a, np.array([0, 0, 1, 2, 3, 4]), seed=0)
    assert got.estimate == 0 and np.isnan(got.low) and np.isnan(got.high) and got.rough


def test_the_parts_of_clusters_are_numbered_as_they_are_relabelled():
    parts, part = parts_of_groups(np.array([1, 1, 0, 0, 1], bool), np.array([5, 7, 7, 9, 5]))
    assert (parts.only_a, parts.only_b, parts.both) == (1, 1, 1)
    assert part.tolist() == [0, 2, 3, 1, 0]
    assert parts.counts.tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 2}, "cluster_folds: folds=2 must be at least 3."),
        ({"repeats": 0}, "cluster_folds: repeats=0 must be at least 1."),
        (
            {"clusters": np.array([0, 0, 1, 2, 3, 4])},
            "cluster_folds: a group has 2 clusters; at least 3 are needed in each.",
        ),
    ],
)
def test_what_cannot_be_divided_is_told_in_one_line(options, message):
    arguments = {"clusters": np.arange(6)} | options
    with pytest.raises(LocalizeError) as caught:
        cluster_folds(np.arange(6) < 3, seed=0, **arguments)
    assert str(caught.value) == message


def test_fewer_clusters_than_folds_make_fewer_folds():
    fold = cluster_folds(np.arange(20) < 4, np.arange(20), seed=0)
    assert set(fold.ravel()) == {0, 1, 2, 3}
    assert all(np.bincount(row[:4]).tolist() == [1, 1, 1, 1] for row in fold)


def test_too_few_draws_for_the_ends_of_an_interval_are_told_in_one_line():
    in_a = np.arange(6) < 2
    wins, pairs = pair_wins(np.arange(6.0)[None], np.zeros((1, 6), dtype=int), in_a)
    with pytest.raises(LocalizeError) as caught:
        pair_interval(wins, pairs, in_a, np.arange(6), seed=0, resamples=99)
    assert str(caught.value) == (
        "pair_interval: resamples=99 must be at least 100, because the tails are read off the draws."
    )
