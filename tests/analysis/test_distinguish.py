"""Whether groups are told apart by how well, by where, and by where beyond how well: planted truths, and nothing planted."""

import numpy as np
import pytest

from localize.analysis.distinguish import AUC, GAIN, OWN, loss_features, where_features
from localize.analysis.rows import COLUMNS
from localize.errors import LocalizeError, SignatureError

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
    joined = ["loss + rare-token heads", "loss + where"]
    assert table.index.names == ["quantity", "features"] and table.columns.tolist() == [*COLUMNS, *OWN]
    assert table.loc[AUC].index.tolist() == ["loss", "rare-token heads", "where (all parts)", *joined]
    assert table.loc[GAIN].index.tolist() == joined
    gain = table.loc[(GAIN, "loss + where")]
    assert table.loc[(AUC, "rare-token heads"), "estimate"] > 0.9
    auc = table["estimate"].loc[AUC]
    assert gain["estimate"] == pytest.approx(auc["loss + where"] - auc["loss"])
    assert gain["low"] > 0
    assert gain["estimate"] > gain["null_range_high"]
    assert gain["p_value"] == 0.01
    assert gain["features_count"] == table.loc[(AUC, "loss + where"), "features_count"] == 2 + 4
    assert (gain["n"], gain["clusters"], gain["effective_clusters"], gain["matched_on"]) == (120, 120, 120, "")
    assert table[["null_mean_low", "null_mean_high", "q_value"]].isna().all(axis=None) and table["rough"].notna().all()


def test_an_estimate_lies_between_those_of_its_repeats(told):
    table = told(shift=0.05, repeats=3)
    one = told(shift=0.05, repeats=1)
    assert (table["repeat_low"] <= table["estimate"]).all() and (table["estimate"] <= table["repeat_high"]).all()
    assert (table["repeat_low"] < table["repeat_high"]).any()
    assert (one["repeat_low"] == one["repeat_high"]).all()
    np.testing.assert_allclose(one["repeat_low"], one["estimate"], atol=1e-12)


def test_where_that_follows_from_the_loss_is_no_gain(told):
    table = told(by_loss=0.3)
    gain = table.loc[(GAIN, "loss + where")]
    assert table.loc[(AUC, "rare-token heads"), "p_value"] == 0.01
    assert gain["null_range_low"] <= gain["estimate"] <= gain["null_range_high"]
    assert gain["p_value"] > 0.05


def test_nothing_is_told_by_noise_and_the_null_is_a_coin(told):
    rows = [told(seed).loc[(AUC, "rare-token heads")] for seed in range(12)]
    p_values = np.array([row["p_value"] for row in rows])
    assert (p_values < 0.05).sum() <= 3  # binomial: P(more than 3 of 12) < .003
    assert np.mean([row["null"] for row in rows]) == pytest.approx(0.5, abs=0.02)
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in rows)


def test_groups_that_hardly_overlap_in_loss_are_told(make):
    group = ["memorized"] * 40 + ["not_memorized"] * 40
    nll = np.r_[np.linspace(0.1, 0.2, 40), np.linspace(2, 3, 40)]
    arrays = {"nll": nll, "rare_token_score": np.random.default_rng(0).uniform(-1, 1, (80, 1, 2, 2))}
    with pytest.warns(UserWarning, match="hardly overlap in loss") as warned:
        table = make(group, arrays).distinguish(**QUICK)
    assert {note.filename for note in warned} == {__file__}
    assert table.loc[(AUC, "loss"), "estimate"] == 1
    assert np.isnan(table.loc[(GAIN, "loss + where"), "p_value"])


def test_the_choices_stand_beside_the_table(told):
    attrs = told().attrs
    assert (attrs["folds"], attrs["repeats"], attrs["permutations"], attrs["seed"]) == (10, 2, 99, 0)
    assert attrs["variables"] == {"loss": ["nll", "log nll"], "rare-token heads": ["rare_token_score"]}
    assert attrs["continuation"] == {"loss": "true", "rare-token heads": "true"}


def test_parts_are_what_tells_where_without_the_level_of_the_loss(make):
    rng = np.random.default_rng(0)
    count = 60
    shapes = {
        "gradient_share": (2, 6), "head_gradient_share": (2, 4, 2), "gradient_norm": (2, 6), "rare_token_score": (1, 2, 2),
        "rare_token_mass": (1, 2, 2), "attention_entropy": (1, 2, 2), "ablated_nll": (2, 2), "ablated_exact_match": (2, 2),
        "replaced_nll": (2,), "perturbed_nll": (2, 6),
    }  # fmt: skip
    arrays = {name: rng.uniform(0, 1, (count, *shape)) for name, shape in shapes.items()}
    arrays["unperturbed_nll"] = rng.uniform(0, 1, count)
    arrays["ablated_nll"][:, 1, 1] = np.nan
    signature = make(["memorized", "not_memorized"] * (count // 2), arrays)
    parts = where_features(signature.dataset)
    assert {name: part.shape[1] for name, part in parts.items()} == {
        "gradients": 12 + 16, "rare-token heads": 8, "attention": 4, "ablation": 3, "replacement": 2, "perturbation": 6,
    }  # fmt: skip
    before = arrays["unperturbed_nll"][:, None]
    np.testing.assert_allclose(parts["ablation"], arrays["ablated_nll"].reshape(count, -1)[:, :3] - before)
    np.testing.assert_allclose(parts["replacement"], arrays["replaced_nll"] - before)
    np.testing.assert_allclose(parts["perturbation"], arrays["perturbed_nll"].mean(1) - before)
    np.testing.assert_allclose(parts["rare-token heads"][:, :4], arrays["rare_token_score"].reshape(count, -1))
    nll = signature["nll"].values
    np.testing.assert_allclose(loss_features(signature.dataset), np.stack([nll, np.log(nll)], axis=1))


def test_the_same_seed_gives_the_same_table_and_another_does_not(told):
    one, same, other = told(shift=0.1), told(shift=0.1), told(shift=0.1, permutations=98)
    assert one.equals(same) and one.attrs == same.attrs
    assert one.attrs["permutations"] == 99 and other.attrs["permutations"] == 98
    assert one["estimate"].equals(other["estimate"])
    assert not one["null_range_low"].equals(other["null_range_low"])


def test_without_any_part_the_loss_stands_alone(make):
    table = make(["memorized", "not_memorized"] * 40).distinguish(**QUICK)
    assert list(table.index) == [(AUC, "loss")]


def test_too_few_draws_are_refused_as_by_every_comparison(make):
    signature = make(["memorized", "not_memorized"] * 40)
    for call in (signature.distinguish, lambda **options: signature.compare("memorized", "not_memorized", **options)):
        with pytest.raises(LocalizeError) as error:
            call(resamples=50)
        name = getattr(call, "__name__", "").replace("<lambda>", "compare")
        assert (
            str(error.value) == f"{name}: resamples=50 must be at least 100, because the tails are read off the draws."
        )


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:.*hardly overlap")
def test_few_clusters_make_fewer_folds_and_tell(make):
    signature = make(["memorized"] * 8 + ["not_memorized"] * 20, cluster=[0, 0, 1, 1, 2, 2, 3, 3, *range(4, 24)])
    with pytest.warns(UserWarning, match=r"^distinguish: memorized has 4 clusters; 4 folds are made\.$") as warned:
        table = signature.distinguish(**QUICK)
    assert {note.filename for note in warned} == {__file__}
    assert table.attrs["folds"] == 4


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
