"""Comparing two groups is the statistics of plain arrays, cell by cell, with labels."""

import warnings

import numpy as np
import pytest
import xarray as xr

from localize.analysis import compare as compare_module
from localize.analysis.compare import FEW_CLUSTERS, MOST_CELLS, cell_count
from localize.analysis.comparison import Comparison
from localize.errors import SignatureError
from localize.statistics import (
    auc,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
    false_discovery,
    rough_difference,
    standardized_difference,
)

GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 45 + ["partial"] * 10)
CLUSTERS = np.concatenate([np.arange(85) % 80, np.arange(200, 210)])  # a few of the two groups share a cluster
MEMORIZED, NOT = GROUPS == "memorized", GROUPS == "not_memorized"


@pytest.fixture
def scores():
    return np.clip(np.random.default_rng(2).normal(0.2 * MEMORIZED[:, None, None, None], 0.2, (95, 1, 3, 2)), -1, 1)


@pytest.fixture
def signature(make, scores):
    rng = np.random.default_rng(3)
    matched = rng.integers(0, 5, (95, 2, 6))
    matched[40:85, 1] = 0
    arrays = {
        "rare_token_score": scores,
        "perturbed_exact_match": matched,
        "unperturbed_exact_match": rng.integers(3, 6, 95),
        "replacement": rng.integers(0, 97, (95, 2, 6)),
        "set_gradient_max": np.ones((3, 3, 6)),
    }
    return make(list(GROUPS), arrays, cluster=CLUSTERS, call={"seed": 5})


def by_hand(values, seed, resamples):
    interval = cluster_bootstrap_difference(values, MEMORIZED, NOT, CLUSTERS, seed=seed, resamples=resamples)
    test = cluster_permutation_difference(values, MEMORIZED, NOT, CLUSTERS, seed=seed, permutations=resamples)
    return {
        "difference": values[MEMORIZED].mean(0) - values[NOT].mean(0),
        "low": interval.low,
        "high": interval.high,
        "p_value": test.p_value,
        "q_value": false_discovery(test.p_value),
        "null_range_low": test.null_low,
        "null_range_high": test.null_high,
        "effect_size": standardized_difference(values, MEMORIZED, NOT),
        "auc": auc(values, MEMORIZED, NOT),
        "mean_a": values[MEMORIZED].mean(0),
        "mean_b": values[NOT].mean(0),
        "rough": rough_difference(values, MEMORIZED, NOT, CLUSTERS),
        "n": np.full(values.shape[1:], 85),
        "clusters": np.full(values.shape[1:], len(np.unique(CLUSTERS[MEMORIZED | NOT]))),
        "effective_clusters": np.full(values.shape[1:], effective_clusters(CLUSTERS[MEMORIZED | NOT])),
    }


def test_every_cell_is_what_the_statistics_say_of_the_plain_arrays(signature, scores):
    compared = signature.compare("memorized", "not_memorized", "rare_token_score", seed=7, resamples=300)[
        "rare_token_score"
    ]
    expected = by_hand(scores, 7, 300)
    assert list(compared.data_vars) == list(expected)
    for name, values in expected.items():
        assert compared[name].dims == ("query", "layer", "head")
        np.testing.assert_allclose(compared[name], values, rtol=0, atol=1e-12, err_msg=name)
    assert compared["layer"].values.tolist() == [0, 1, 2]


def test_it_says_what_was_compared(signature):
    compared = signature.compare("memorized", "not_memorized", "rare_token_score", seed=7, resamples=300)
    assert compared.variables == ("rare_token_score",)
    assert compared["rare_token_score"].attrs == {
        "variable": "rare_token_score",
        "unit": "Spearman's rho",
        "continuation": "true",
        "compared": "level",
        "a": "memorized",
        "b": "not_memorized",
        "paragraphs": [40, 45],
        "effective_clusters": [effective_clusters(CLUSTERS[MEMORIZED]), effective_clusters(CLUSTERS[NOT])],
        "seed": 7,
        "resamples": 300,
        "paired": False,
    }


def test_turned_round_only_the_sign_changes(signature):
    one = signature.compare("memorized", "not_memorized", "nll", seed=1, resamples=300)["nll"]
    other = signature.compare("not_memorized", "memorized", "nll", seed=1, resamples=300)["nll"]
    assert float(one["difference"]) == pytest.approx(-float(other["difference"]))
    assert float(one["effect_size"]) == pytest.approx(-float(other["effect_size"]))
    assert float(one["mean_a"]) == float(other["mean_b"])
    assert float(one["auc"]) == pytest.approx(1 - float(other["auc"]))


def test_draws_are_averaged_before_paragraphs_are_compared(signature):
    compared = signature.compare(
        "memorized", "not_memorized", "perturbed_exact_match", rises=False, seed=2, resamples=200
    )
    compared = compared["perturbed_exact_match"]
    expected = by_hand(signature["perturbed_exact_match"].values.mean(2), 2, 200)
    assert compared["difference"].dims == ("kind", "prefix_position")
    for name, values in expected.items():
        np.testing.assert_allclose(compared[name], values, rtol=0, atol=1e-12, err_msg=name)


# Rises


def test_what_was_measured_after_a_change_is_compared_as_its_rise(signature):
    name = "perturbed_exact_match"
    compared = signature.compare("memorized", "not_memorized", name, seed=2, resamples=200)[name]
    rise = signature[name].values - signature["unperturbed_exact_match"].values[:, None, None, None]
    for told, values in by_hand(rise.mean(2), 2, 200).items():
        np.testing.assert_allclose(compared[told], values, rtol=0, atol=1e-12, err_msg=told)
    assert compared.attrs["compared"] == "rise" and compared.attrs["unit"] == "tokens"
    assert (compared["mean_a"] < 0).all(), "exact match that is lost has a negative rise"


def test_a_difference_that_was_there_before_the_change_is_none_of_the_rise(make):
    """Every head costs the same .1 nats in both groups, which lie 2 nats apart before."""
    rng = np.random.default_rng(0)
    before = rng.normal(3, 0.1, 95) - 2 * MEMORIZED
    after = before[:, None, None] + 0.1 + rng.normal(0, 0.05, (95, 3, 2))
    signature = make(list(GROUPS), {"ablated_nll": after, "unperturbed_nll": before}, cluster=CLUSTERS)
    levels, rises = (
        signature.compare("memorized", "not_memorized", "ablated_nll", rises=asked, resamples=400)["ablated_nll"]
        for asked in (False, True)
    )
    assert (levels["q_value"] <= 0.05).all() and (levels["difference"] < -1.9).all()
    assert (rises["q_value"] > 0.05).all() and (np.abs(rises["difference"]) < 0.05).all()


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_rises_lie_as_far_apart_as_two_levels_can_twice_over(make):
    """One group loses all of its continuation, the other gains all of it."""
    whole = int(make(["a", "b"]).dataset.attrs["paragraphs"]["continuation_length"])
    before = np.where(np.arange(80) < 40, whole, 0)
    arrays = {
        "ablated_exact_match": (whole - before)[:, None, None] * np.ones((1, 1, 1)),
        "unperturbed_exact_match": before,
    }
    compared = make(["a"] * 40 + ["b"] * 40, arrays).compare("a", "b", "ablated_exact_match", resamples=100)
    cell = compared["ablated_exact_match"].isel(layer=0, head=0)
    assert [float(cell[name]) for name in ("difference", "low", "high")] == [-2 * whole] * 3


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_a_head_that_writes_nothing_has_a_rise_of_nothing_but_for_rounding(make):
    before = np.random.default_rng(0).uniform(1, 2, 95)
    after = np.stack([before * (1 + 1e-15), before + 0.1 * MEMORIZED], axis=1)[:, None]
    signature = make(list(GROUPS), {"ablated_nll": after, "unperturbed_nll": before}, cluster=CLUSTERS)
    compared = signature.compare("memorized", "not_memorized", "ablated_nll", resamples=100)["ablated_nll"]
    assert compared["difference"].values[0, 0] == 0 and compared["p_value"].values[0, 0] == 1


def test_the_table_and_the_view_in_a_notebook_tell_rises_from_levels(signature):
    compared = signature.compare("memorized", "not_memorized", ["nll", "perturbed_exact_match"], resamples=100)
    table = compared.to_dataframe()
    assert dict(zip(table["variable"], table["compared"], strict=True)) == {
        "nll": "level",
        "perturbed_exact_match": "rise",
    }
    assert "<td>rise of <code>perturbed_exact_match</code></td>" in compared._repr_html_()


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_a_rise_over_a_level_that_was_not_measured_is_refused_or_left_out(make, signature):
    arrays = {"perturbed_exact_match": signature["perturbed_exact_match"].values}
    lacking = make(list(GROUPS), arrays, cluster=CLUSTERS)
    with pytest.raises(SignatureError) as caught:
        lacking.compare("memorized", "not_memorized", "perturbed_exact_match")
    assert str(caught.value) == (
        "compare: perturbed_exact_match is compared as its rise over unperturbed_exact_match, which the signature does not "
        "hold; rises=False compares levels."
    )
    told = (
        "compare leaves out perturbed_exact_match: the signature does not hold unperturbed_exact_match, above which they rise; "
        "rises=False compares levels."
    )
    with pytest.warns(UserWarning, match="leaves out") as warned:
        assert "perturbed_exact_match" not in lacking.compare("memorized", "not_memorized", resamples=100)
    assert {note.filename for note in warned} == {__file__}
    assert [str(one.message) for one in warned if "leaves out" in str(one.message)] == [told]
    assert "perturbed_exact_match" in lacking.compare("memorized", "not_memorized", rises=False, resamples=100)


@pytest.mark.parametrize("name", ["null_low", "null_high"])
def test_an_end_of_the_null_asked_for_by_its_old_name_says_what_it_is_called_now(signature, name):
    compared = signature.compare("memorized", "not_memorized", "nll", resamples=100)["nll"]
    for asked in (name, [name]):
        with pytest.raises(KeyError) as caught:
            compared[asked]
        assert caught.value.args == (f"{name!r} is called {name.replace('_', '_range_')} now",)
    with pytest.raises(KeyError, match="nothing"):
        compared["nothing"]


def test_what_was_not_put_has_no_difference_and_does_not_touch_the_others(make, signature):
    values = signature["perturbed_exact_match"].values.copy()
    values[..., 0] = np.nan
    lacking = make(list(GROUPS), {"perturbed_exact_match": values}, cluster=CLUSTERS)
    one, all_put = (
        s.compare("memorized", "not_memorized", "perturbed_exact_match", rises=False, resamples=100)[
            "perturbed_exact_match"
        ]
        for s in (lacking, signature)
    )
    basis = ("n", "clusters", "effective_clusters")
    assert all((one[name].values[..., 0] == 0).all() for name in (*basis, "rough"))
    for name in one.data_vars:
        assert np.isnan(one[name].values[..., 0]).all() or name in (*basis, "rough"), name
        if name != "q_value":
            np.testing.assert_array_equal(one[name].values[..., 1:], all_put[name].values[..., 1:], err_msg=str(name))


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_draws_of_several_tokens_replaced_together_are_averaged_too(make):
    values = np.random.default_rng(0).uniform(0, 4, (95, 2, 3, 5))
    signature = make(list(GROUPS), {"corrupted_exact_match": values}, cluster=CLUSTERS)
    compared = signature.compare("memorized", "not_memorized", "corrupted_exact_match", rises=False, resamples=100)
    compared = compared["corrupted_exact_match"]
    assert compared["difference"].dims == ("order", "tokens_replaced")
    np.testing.assert_allclose(compared["mean_a"], values[MEMORIZED].mean((0, 2)), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_without_a_name_all_that_is_measured_per_paragraph_is_compared(signature):
    compared = signature.compare("memorized", "not_memorized", resamples=100)
    assert isinstance(compared, Comparison)
    assert (compared.a, compared.b, compared.paired) == ("memorized", "not_memorized", False)
    assert compared.variables == (
        "exact_match",
        "nll",
        "token_nll",
        "rare_token_score",
        "unperturbed_exact_match",
        "perturbed_exact_match",
    )
    alone = signature.compare("memorized", "not_memorized", "nll", resamples=100)
    assert compared["nll"].identical(alone["nll"])


def test_without_a_name_nulls_what_was_done_ids_of_tokens_and_what_has_very_many_cells_are_left_out(make):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(0, 1, (8, *shape))
        for name, shape in {
            "gradient_share": (2, 6),
            "copy_similarity": (2, 6),
            "copy_similarity_null": (2, 6),
            "activation_gradient": (2, 4, 2, 200),
            "residual_gradient": (2, 200),
            "rare_token_score": (2, 2, 2),
            "rare_token_null": (3, 2, 2, 2),
            "attention_entropy": (2, 2, 2),
            "attention_entropy_untrained": (2, 2, 2),
            "replaced_nll": (2,),
            "unperturbed_nll": (),
            "replaced_position": (2,),
            "copy_tokens": (1, 200),
        }.items()
    }
    arrays["copy_tokens"] = (97 * arrays["copy_tokens"]).astype(int)
    signature = make(["a", "b"] * 4, arrays)
    assert cell_count(signature["activation_gradient"]) == 3200 > MOST_CELLS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compared = [name for name in signature.compare("a", "b", resamples=100).variables if name in arrays]
        assert compared == [
            "gradient_share",
            "copy_similarity",
            "residual_gradient",
            "rare_token_score",
            "attention_entropy",
            "replaced_nll",
            "unperturbed_nll",
        ]
        asked = signature.compare("a", "b", ["rare_token_null", "activation_gradient"], resamples=100)
    assert asked.variables == ("rare_token_null", "activation_gradient")
    assert asked["rare_token_null"]["difference"].dims == ("null", "query", "layer", "head")
    assert asked["activation_gradient"]["difference"].dims == ("layer", "site", "head", "position")


def test_several_names_are_compared_in_the_order_asked_for_and_each_once(signature):
    compared = signature.compare("memorized", "not_memorized", ["rare_token_score", "nll", "nll"], resamples=100)
    assert compared.variables == ("rare_token_score", "nll")


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_many_cells_are_compared_in_pieces_and_come_out_alike(signature, monkeypatch):
    whole = signature.compare("memorized", "not_memorized", resamples=100)
    monkeypatch.setattr(compare_module, "PIECE", 4)
    monkeypatch.setattr(compare_module, "SHOW_AFTER", 0.0)
    in_pieces = signature.compare("memorized", "not_memorized", resamples=100)
    for name in whole.variables:
        one, other = whole[name], in_pieces[name]
        tests = ["p_value", "q_value"]
        xr.testing.assert_allclose(one.drop_vars(tests), other.drop_vars(tests), rtol=1e-12)
        # How far a cell at the floor is permuted follows from how many others are there in its piece.
        known = one["p_value"].values > 10 / 101
        np.testing.assert_allclose(one["p_value"].values[known], other["p_value"].values[known], rtol=1e-12)
        assert (other["p_value"].values[one["p_value"].values <= 10 / 101] <= 10 / 101 + 0.05).all()


def test_work_that_takes_long_shows_how_many_cells_are_done(signature, monkeypatch, capsys):
    monkeypatch.setattr(compare_module, "SHOW_AFTER", 0.0)
    signature.compare("memorized", "not_memorized", ["nll", "rare_token_score"], resamples=100)
    assert "compare" in (told := capsys.readouterr().err) and "/7" in told


def test_the_same_seed_gives_the_same_bits_and_another_does_not(signature):
    one, same, other = (
        signature.compare("memorized", "not_memorized", "nll", seed=s, resamples=200)["nll"] for s in (4, 4, 5)
    )
    assert one.identical(same)
    assert float(one["null_range_low"]) != float(other["null_range_low"])
    assert float(one["difference"]) == float(other["difference"])


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_few_effective_clusters_warn(signature, make):
    told = r"^few effective clusters \(partial 10\.0 of 10 paragraphs\); below 30, only large differences are found\.$"
    with pytest.warns(UserWarning, match=told):
        signature.compare("memorized", "partial", "nll", resamples=100)
    clusters = [0] * 25 + list(range(1, 26)) + [100] * 50
    with pytest.warns(UserWarning, match="^few effective clusters") as caught:
        make(["a"] * 50 + ["b"] * 50, cluster=clusters).compare("a", "b", "nll", resamples=100)
    assert {note.filename for note in caught} == {__file__}
    assert str(caught[0].message) == (
        "few effective clusters (a 3.8 of 50 paragraphs, b 1.0 of 50 paragraphs); below 30, only large differences are found."
    )


def test_thirty_effective_clusters_are_enough(make):
    group = ["a"] * FEW_CLUSTERS + ["b"] * FEW_CLUSTERS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(group).compare("a", "b", "nll", resamples=100)


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
def test_a_cell_that_a_group_has_not_measured_is_nan_and_no_warning(make):
    scores = np.random.default_rng(0).uniform(-1, 1, (10, 1, 2, 2))
    scores[:5, 0, 0, 1] = np.nan
    signature = make(["a"] * 5 + ["b"] * 5, {"rare_token_score": scores})
    compared = signature.compare("a", "b", "rare_token_score", resamples=100)["rare_token_score"]
    assert np.isnan(compared["difference"].values).tolist() == [[[False, True], [False, False]]]
    assert np.isnan(compared["q_value"].values[0, 0, 1])
    assert compared["mean_b"].values[0, 0, 1] == pytest.approx(scores[5:, 0, 0, 1].mean())


def test_one_warning_tells_how_many_intervals_are_rough(make):
    rng = np.random.default_rng(0)
    arrays = {
        "gradient_share": rng.uniform(0, 1, (80, 2, 6)),
        "gradient_norm": np.where((np.arange(80) % 20 == 0)[:, None, None], rng.uniform(1, 2, (80, 2, 6)), 0.0),
    }
    signature = make(["a"] * 40 + ["b"] * 40, arrays)
    with pytest.warns(UserWarning, match="rough") as caught:
        compared = signature.compare("a", "b", list(arrays), resamples=100)
    assert [str(warning.message) for warning in caught] == [
        "rough intervals in 12 of 24 cells: fewer than 5 effective clusters, or too skewed for their number; "
        "`rough` marks them."
    ]
    assert compared["gradient_norm"]["rough"].all() and not compared["gradient_share"]["rough"].any()


def test_groups_and_variables_that_are_not_there_are_refused(signature):
    for arguments, message in (
        (("memorized", "forgotten"), "signature: no group 'forgotten'; it has memorized, partial, not_memorized."),
        (
            ("forgotten", "memorized", "nll"),
            "signature: no group 'forgotten'; it has memorized, partial, not_memorized.",
        ),
        (
            ("memorized", "partial", "patch_effect"),
            "signature: no 'patch_effect'; it holds exact_match, nll, token_nll, set_gradient_max, rare_token_score, "
            "unperturbed_exact_match, perturbed_exact_match, replacement.",
        ),
        (("partial", "partial", "nll"), "compare: a and b are both 'partial'; two groups are needed."),
        (
            ("memorized", "partial", []),
            "compare: variables is empty; the signature holds exact_match, nll, token_nll, set_gradient_max, "
            "rare_token_score, unperturbed_exact_match, perturbed_exact_match, replacement.",
        ),
    ):
        with pytest.raises(SignatureError) as caught:
            signature.compare(*arguments)
        assert str(caught.value) == message


def test_what_is_not_measured_per_paragraph_is_refused(signature):
    with pytest.raises(SignatureError) as caught:
        signature.compare("memorized", "not_memorized", "set_gradient_max")
    assert "set_gradient_max" in str(caught.value)
