"""Held-out scores of a linear classifier: against ridge regressions written out, and against scikit-learn's own."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
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
    apart = held_out([features], in_a[None], cluster_folds(in_a, clusters, seed=0, repeats=2))
    leaking = held_out([features], in_a[None], cluster_folds(in_a, np.arange(200), seed=0, repeats=2))
    assert 0.3 < apart.auc[0] < 0.7
    assert leaking.auc[0] > 0.95


def order(one, other):
    """1 where the one is larger, a half where they tie."""
    return (one > other) + (one == other) / 2


def written_out(features, target, fold, penalties):
    """Which of two rows of different folds scores higher, by ridge regressions on the rows of all other folds."""
    rows, width = features.shape
    scaled = (features - features.mean(0)) / features.std(0)

    def predicted(train, test, penalty):
        x = np.c_[np.full(rows, np.sqrt(INTERCEPT)), scaled / np.sqrt(width * penalty)]
        weights = np.linalg.solve(x[train].T @ x[train] + np.eye(width + 1), x[train].T @ target[train])
        return x[test] @ weights

    beats = np.full((rows, rows), np.nan)
    for f, g in itertools.combinations(range(fold.max() + 1), 2):
        errors = np.zeros(len(penalties))
        for other in set(range(fold.max() + 1)) - {f, g}:
            left = fold == other
            for index, penalty in enumerate(penalties):
                errors[index] += ((predicted(~left, left, penalty) - target[left]) ** 2).sum()
        out = (fold == f) | (fold == g)
        likely = errors ** (-(~out).sum() / 2)
        said = np.zeros(rows)
        for share, penalty in zip(likely / likely.sum(), penalties, strict=True):
            said[out] += share * predicted(~out, out, penalty)
        one, other = np.flatnonzero(fold == f), np.flatnonzero(fold == g)
        beats[np.ix_(one, other)] = order(said[one][:, None], said[other])
        beats[np.ix_(other, one)] = order(said[other][:, None], said[one])
    return beats


def test_the_pairs_won_are_those_of_ridge_regressions_written_out():
    rng = np.random.default_rng(2)
    features, clusters = rng.normal(size=(60, 7)), np.arange(60)
    in_a = features[:, 0] + rng.normal(size=60) > 0
    fold = cluster_folds(in_a, clusters, seed=0, folds=4, repeats=1)
    found = held_out([features], in_a[None], fold)
    beats = written_out(features, np.where(in_a, 1.0, -1.0), fold[0], PENALTIES)
    compared = fold[0][:, None] != fold[0]
    np.testing.assert_array_equal(found.pairs, compared[in_a][:, ~in_a])
    np.testing.assert_array_equal(found.wins, np.nan_to_num(beats)[in_a][:, ~in_a])
    assert found.auc[0] == pytest.approx(np.nanmean(beats[in_a][:, ~in_a]))
    assert found.by_repeat.tolist() == found.auc[:1].tolist()
    np.testing.assert_allclose(found.ahead, np.nanmean(beats, axis=1))


def test_with_one_penalty_the_order_is_that_of_scikit_learns_ridge(noisy, monkeypatch):
    features, in_a, fold = noisy
    monkeypatch.setattr(classification, "PENALTIES", (2.0,))
    monkeypatch.setattr(classification, "INTERCEPT", 1e6)  # as free as theirs
    found = held_out([features], in_a[None], fold)
    scaled, wins, repeats = StandardScaler().fit_transform(features), np.zeros((60, 60)), []
    for of_row in fold:
        own = np.full((60, 60), np.nan)
        for f, g in itertools.combinations(range(4), 2):
            out = (of_row == f) | (of_row == g)
            ridge = Ridge(alpha=2.0 * features.shape[1]).fit(scaled[~out], np.where(in_a, 1.0, -1.0)[~out])
            said = ridge.predict(scaled)
            own = np.where((of_row == f)[:, None] & (of_row == g), order(said[:, None], said), own)
            own = np.where((of_row == g)[:, None] & (of_row == f), order(said[:, None], said), own)
        wins += np.nan_to_num(own)
        repeats.append(np.nanmean(own[in_a][:, ~in_a]))
    np.testing.assert_array_equal(found.wins, wins[in_a][:, ~in_a])
    np.testing.assert_allclose(found.by_repeat, repeats)
    assert found.auc[0] == pytest.approx(found.wins.sum() / found.pairs.sum())


def test_many_labellings_at_once_are_each_as_if_it_were_alone(noisy):
    features, in_a, fold = noisy
    labels = np.stack([in_a, *(np.random.default_rng(i).permutation(in_a) for i in range(5))])
    together = held_out([features], labels, fold, base=features[:, :2])
    alone = [held_out([features], labels[[i]], fold, base=features[:, :2]) for i in range(6)]
    np.testing.assert_allclose(together.auc, [one.auc[0] for one in alone], rtol=1e-12)
    for one in alone:
        assert one.auc[0] == pytest.approx(one.wins.sum() / one.pairs.sum())


def test_the_labels_of_the_rows_left_out_say_nothing_of_their_own_order(noisy, monkeypatch):
    """With a single penalty, swapping the labels of all rows of two folds swaps who wins between them, and nothing else."""
    features, in_a, fold = noisy
    monkeypatch.setattr(classification, "PENALTIES", (2.0,))
    out = fold[0] <= 1
    swapped = np.where(out, ~in_a, in_a)
    beats = []
    for labels in (in_a, swapped):
        found, whole = held_out([features], labels[None], fold[:1]), np.full((60, 60), np.nan)
        whole[np.ix_(labels, ~labels)], whole[np.ix_(~labels, labels)] = found.wins, (1 - found.wins).T
        beats.append(np.where((fold[0] == 0)[:, None] & (fold[0] == 1), whole, np.nan))
    both = ~np.isnan(beats[0]) & ~np.isnan(beats[1])
    assert both.sum() > 50
    np.testing.assert_array_equal(beats[0][both], beats[1][both])


def test_a_missing_number_is_the_mean_of_the_rows_that_have_it(noisy):
    features, _, _ = noisy
    missing, others = features[:, :1].copy(), np.delete(features[:, 0], 7)
    missing[7] = np.nan
    products = classification._products(missing)
    assert products[7].tolist() == [0.0] * 60
    assert products[0, 1] == pytest.approx(np.prod(others[:2] - others.mean()) / others.var())


def test_units_and_features_that_do_not_vary_do_not_matter(noisy):
    features, in_a, fold = noisy
    plain = held_out([features], in_a[None], fold).wins
    other = np.concatenate([features * 7 - 100, np.full((60, 3), 0.1), np.full((60, 1), np.nan)], axis=1)
    np.testing.assert_array_equal(held_out([other], in_a[None], fold).wins, plain)


def test_parts_count_alike_however_many_features_they_have(noisy):
    features, in_a, fold = noisy
    rest = features[:, 1:]
    once, often = (held_out([features[:, :1], part], in_a[None], fold).wins for part in (rest, np.tile(rest, 5)))
    np.testing.assert_array_equal(once, often)


def test_a_base_alone_is_what_is_left_where_the_part_says_nothing(noisy):
    features, in_a, fold = noisy
    nothing = np.ones((60, 4))
    alone = held_out([], in_a[None], fold, base=features[:, :1])
    beside = held_out([nothing], in_a[None], fold, base=features[:, :1])
    np.testing.assert_array_equal(alone.wins, beside.wins)
    assert alone.auc[0] > 0.65


def test_pairs_of_one_fold_are_not_compared(noisy):
    features, in_a, fold = noisy
    found = held_out([features], in_a[None], fold)
    apart = (fold[:, :, None] != fold[:, None]).sum(0)
    np.testing.assert_array_equal(found.pairs, apart[in_a][:, ~in_a])
    assert (found.wins <= found.pairs).all()


def test_ties_count_half():
    found = held_out([np.ones((12, 2))], (np.arange(12) < 6)[None], np.arange(12)[None] % 3)
    np.testing.assert_array_equal(found.wins, found.pairs / 2)
    assert found.auc.tolist() == found.by_repeat.tolist() == [0.5]


def test_wins_of_every_labelling_are_those_of_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (9, 3)), rng.random((9, 3)) < 0.5
    one, other = slice(0, 4), slice(4, 9)
    over = np.sign(scores[one, None] - scores[other])
    target = np.where(labels, 1.0, -1.0)
    won, pairs = classification._won(over, target[one], target[other])
    for k in range(3):
        counted = [
            order(*((scores[i, k], scores[j, k]) if labels[i, k] else (scores[j, k], scores[i, k])))
            for i in range(4)
            for j in range(4, 9)
            if labels[i, k] != labels[j, k]
        ]
        assert (won[k], pairs[k]) == (sum(counted), len(counted))


def test_noise_tells_chance_though_groups_are_uneven_in_the_folds():
    found = []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        in_a = np.arange(20) < 10
        fold = rng.permutation(20)[None] // 5  # not stratified: groups are uneven in a fold
        found.append(held_out([rng.normal(size=(20, 3))], in_a[None], fold).auc[0])
    assert np.nanmean(found) == pytest.approx(0.5, abs=0.06)


def wins_of(scores, in_a):
    """Every pair of an a and a b, compared once."""
    return order(scores[in_a][:, None], scores[~in_a]), np.ones((in_a.sum(), (~in_a).sum()))


def uneven_scores():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(16), [3, 1, 2, 1, 4, 1, 2, 1, 2, 2, 1, 3, 1, 1, 2, 2])
    in_a = clusters < 7
    return rng.normal(size=len(clusters)) + in_a, in_a, clusters


def test_an_interval_is_that_of_the_difference_of_each_rows_share_of_pairs_won():
    scores, in_a, clusters = uneven_scores()
    wins, pairs = wins_of(scores, in_a)
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
    wins, pairs = wins_of(scores, in_a)
    got = pair_interval(wins, pairs, in_a, np.arange(400), seed=0)
    won_by = scores[in_a][:, None] > scores[~in_a]
    delong = np.sqrt(won_by.mean(1).var(ddof=1) / 180 + won_by.mean(0).var(ddof=1) / 220)
    assert (got.high - got.low) / 2 == pytest.approx(1.97 * delong, rel=0.05)


def test_an_interval_reaches_as_far_as_labels_dealt_out_do_and_too_few_of_them_are_rough():
    scores, in_a, clusters = uneven_scores()
    wins, pairs = wins_of(scores, in_a)
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
    wins, pairs = wins_of(in_a.astype(float), in_a)
    got = pair_interval(wins, pairs, in_a, np.arange(40), seed=0)
    assert (got.low, got.estimate, got.high) == (1, 1, 1) and got.rough


def test_one_cluster_in_a_group_has_no_interval():
    in_a = np.arange(6) < 2
    wins, pairs = wins_of(np.arange(6.0), in_a)
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


def test_another_seed_divides_every_repeat_anew():
    in_a = np.arange(20) < 10
    one, other = (cluster_folds(in_a, np.arange(20), seed=seed, folds=4, repeats=3) for seed in (0, 1))
    assert len({row.tobytes() for row in (*one, *other)}) == 6


def test_fewer_clusters_than_folds_make_fewer_folds():
    fold = cluster_folds(np.arange(20) < 4, np.arange(20), seed=0)
    assert set(fold.ravel()) == {0, 1, 2, 3}
    assert all(np.bincount(row[:4]).tolist() == [1, 1, 1, 1] for row in fold)


def test_too_few_draws_for_the_ends_of_an_interval_are_told_in_one_line():
    in_a = np.arange(6) < 2
    wins, pairs = wins_of(np.arange(6.0), in_a)
    with pytest.raises(LocalizeError) as caught:
        pair_interval(wins, pairs, in_a, np.arange(6), seed=0, resamples=99)
    assert str(caught.value) == (
        "pair_interval: resamples=99 must be at least 100, because the tails are read off the draws."
    )
