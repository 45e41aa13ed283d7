"""Whether groups are told apart by how well, by where, and by where beyond how well: planted truths, and nothing planted."""

import numpy as np
import pytest

from localize.errors import SignatureError
from localize.statistics.classification import cluster_folds, held_out, pair_wins

QUICK = {"permutations": 99, "repeats": 2, "resamples": 200}
COUNT = 120


@pytest.fixture
def told(make):
    """`told(seed, shift, by_loss)`: two groups of 60 whose loss overlaps, and scores of heads shifted between them, or made of the loss."""

    def table(seed=0, shift=0.0, by_loss=0.0, cluster=None, **options):
        rng = np.random.default_rng(seed)
        in_a = np.arange(COUNT) % 2 == 0
        nll = rng.gamma(4.0, 0.3, COUNT) + np.where(in_a, 0.0, 0.4)
        scores = rng.normal(0, 0.15, (COUNT, 1, 2, 2)) + (shift * in_a + by_loss * nll)[:, None, None, None]
        group = np.where(in_a, "memorized", "not_memorized")
        token_nll = np.repeat(nll[:, None], 4, axis=1)
        arrays = {"nll": nll, "token_nll": token_nll, "rare_token_score": np.clip(scores, -1, 1)}
        return make(list(group), arrays, cluster=cluster).distinguish(seed=seed, **(QUICK | options))

    return table


def test_where_that_the_loss_does_not_have_is_a_gain_beyond_its_null(told):
    table = told(shift=0.3)
    assert list(table.index) == [
        "loss",
        "rare-token heads",
        "where (all parts)",
        "loss + rare-token heads",
        "loss + where",
    ]
    row = table.loc["loss + where"]
    assert table.loc["rare-token heads", "auc"] > 0.9
    assert row["gain"] == pytest.approx(row["auc"] - table.loc["loss", "auc"])
    assert row["gain_low"] > 0
    assert row["gain"] > row["gain_null_high"]
    assert row["gain_p_value"] == 0.01
    assert table.loc["loss", ["gain", "gain_p_value"]].isna().all()


def test_where_that_follows_from_the_loss_is_no_gain(told):
    table = told(by_loss=0.3)
    row = table.loc["loss + where"]
    assert table.loc["rare-token heads", "p_value"] == 0.01
    assert row["gain_null_low"] <= row["gain"] <= row["gain_null_high"]
    assert row["gain_p_value"] > 0.05


def test_nothing_is_told_by_noise_and_the_null_is_a_coin(told):
    rows = [told(seed).loc["rare-token heads"] for seed in range(20)]
    p_values = np.array([row["p_value"] for row in rows])
    assert (p_values < 0.05).sum() <= 4  # binomial: P(more than 4 of 20) < .003
    assert np.mean([row["null"] for row in rows]) == pytest.approx(0.5, abs=0.02)
    assert all(row["low"] <= row["auc"] <= row["high"] for row in rows)


def test_a_cluster_is_never_on_both_sides(told):
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
    from sklearn.metrics import roc_auc_score

    from localize.statistics.classification import INTERCEPT, PENALTIES

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


def test_groups_that_hardly_overlap_in_loss_are_told(make):
    group = ["memorized"] * 40 + ["not_memorized"] * 40
    nll = np.r_[np.linspace(0.1, 0.2, 40), np.linspace(2, 3, 40)]
    arrays = {"nll": nll, "rare_token_score": np.random.default_rng(0).uniform(-1, 1, (80, 1, 2, 2))}
    with pytest.warns(UserWarning, match="hardly overlap in loss"):
        table = make(group, arrays).distinguish(**QUICK)
    assert table.loc["loss", "auc"] == 1
    assert np.isnan(table.loc["loss + where", "gain_p_value"])


def test_the_choices_stand_beside_the_table(told):
    attrs = told().attrs
    assert (attrs["folds"], attrs["repeats"], attrs["permutations"], attrs["seed"]) == (5, 2, 99, 0)
    assert attrs["variables"] == {"loss": ["nll", "log nll"], "rare-token heads": ["rare_token_score"]}
    assert attrs["continuation"] == {"loss": "true", "rare-token heads": "true"}


@pytest.mark.filterwarnings("ignore:few effective clusters")
def test_what_cannot_be_held_out_is_refused(make):
    group = ["memorized"] * 10 + ["not_memorized"] * 10
    signature = make(group, {"nll": np.ones(20)}, cluster=[0, 1] * 5 + list(range(2, 12)))
    for arguments, message in (
        ({}, "distinguish: memorized has 2 clusters; at least 3 are needed in each group to hold some out."),
        ({"folds": 2}, "distinguish: folds=2 must be at least 3."),
        ({"permutations": 0}, "distinguish: permutations=0 must be at least 1."),
        ({"a": "not_memorized"}, "distinguish: a and b are both 'not_memorized'; two groups are needed."),
        ({"b": "partial"}, "signature: no group 'partial'; it has memorized, not_memorized."),
    ):
        with pytest.raises(SignatureError) as error:
            signature.distinguish(**arguments)
        assert str(error.value) == message
