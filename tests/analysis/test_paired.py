"""Pairs of the same paragraphs: the statistics of plain differences, labelled; an edit's two sides."""

import numpy as np
import pytest

import localize as lz
from localize.analysis.change import Change
from localize.analysis.comparison import Comparison
from localize.analysis.draws import Draws
from localize.analysis.patch_grid import grid_cells
from localize.analysis.rows import beside, null_beside
from localize.errors import SignatureError
from localize.statistics import (
    UNBOUNDED,
    cluster_bootstrap,
    cluster_sign_flip,
    effective_clusters,
    false_discovery,
    rough_mean,
)

COUNT = 70
GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 30)
CLUSTERS = np.arange(COUNT) % 65
EDITED = {"weights_hash": "b" * 64}


@pytest.fixture
def sides(make):
    """Shares before, and after with the first component risen and the others moved at random."""
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 0.4, (COUNT, 2, 6))
    after = before + rng.normal(0, 0.05, before.shape)
    after[..., 0] += 0.1
    draws = rng.uniform(0, 3, (2, COUNT, 1, 2, 6))
    return tuple(
        make(
            list(GROUPS),
            {"gradient_share": share, "perturbed_nll": perturbed},
            cluster=CLUSTERS,
            model=model,
        )
        for share, perturbed, model in ((before, draws[0], {}), (after, draws[1], EDITED))
    )


def by_hand(after, before, clusters, seed, resamples):
    values = after - before
    interval = cluster_bootstrap(values, clusters, seed=seed, resamples=resamples)
    test = cluster_sign_flip(values, clusters, seed=seed, permutations=resamples)
    count = len(values)
    return {
        "difference": values.mean(0),
        "low": interval.low,
        "high": interval.high,
        "p_value": test.p_value,
        "q_value": false_discovery(test.p_value),
        "null_range_low": test.null_low,
        "null_range_high": test.null_high,
        # Hedges' correction, as it is nearly always approximated
        "effect_size": values.mean(0) / values.std(0, ddof=1) * (1 - 3 / (4 * (count - 1) - 1)),
        "auc": (values > 0).mean(0) + (values == 0).mean(0) / 2,
        "mean_a": after.mean(0),
        "mean_b": before.mean(0),
        "rough": rough_mean(values, clusters),
        "n": np.full(values.shape[1:], count),
        "clusters": np.full(values.shape[1:], len(np.unique(clusters))),
        "effective_clusters": np.full(values.shape[1:], effective_clusters(clusters)),
    }


@pytest.mark.parametrize("group", [None, "memorized"])
def test_every_cell_is_what_the_statistics_say_of_the_plain_differences(sides, group):
    before, after = sides
    compared = lz.compare_paired(after, before, "gradient_share", group=group, seed=3, resamples=300)
    assert isinstance(compared, Comparison)
    assert (compared.a, compared.b, compared.paired) == ("after", "before", True)
    rows = slice(None) if group is None else group == GROUPS
    arrays = [side["gradient_share"].values[rows] for side in (after, before)]
    expected = by_hand(*arrays, CLUSTERS[rows], 3, 300)
    found = compared["gradient_share"]
    assert list(found.data_vars) == list(expected)
    for name, values in expected.items():
        assert found[name].dims == ("layer", "component")
        tolerance = 1e-4 if name == "effect_size" else 1e-12
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=1e-12, err_msg=name)
    assert (found["difference"].sel(component="W_Q") > 0.08).all()
    assert (found["q_value"].sel(component="W_Q") < 0.05).all()


def test_it_says_what_was_compared(sides):
    before, after = sides
    compared = lz.compare_paired(after, before, "gradient_share", group="memorized", seed=3, resamples=100)
    effective = effective_clusters(CLUSTERS[GROUPS == "memorized"])
    assert compared["gradient_share"].attrs == {
        "variable": "gradient_share",
        "unit": "share",
        "continuation": "true",
        "compared": "level",
        "a": "after",
        "b": "before",
        "group": "memorized",
        "paragraphs": [40, 40],
        "effective_clusters": [effective, effective],
        "seed": 3,
        "resamples": 100,
        "paired": True,
    }


def test_turned_round_only_the_sign_changes(sides):
    one, other = (
        lz.compare_paired(*pair, "gradient_share", resamples=200)["gradient_share"] for pair in (sides, sides[::-1])
    )
    np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-15)
    np.testing.assert_allclose(one["effect_size"], -other["effect_size"], rtol=1e-12)
    np.testing.assert_allclose(one["auc"], 1 - other["auc"], rtol=1e-12)
    np.testing.assert_allclose(one["p_value"], other["p_value"])


def test_draws_are_averaged_on_each_side_first(sides):
    before, after = sides
    found = lz.compare_paired(after, before, "perturbed_nll", resamples=100)["perturbed_nll"]
    means = [side["perturbed_nll"].values.mean(2) for side in (after, before)]
    assert found["difference"].dims == ("kind", "prefix_position")
    np.testing.assert_allclose(found["difference"], (means[0] - means[1]).mean(0), rtol=1e-12)


def test_a_pair_that_one_side_lacks_is_left_out_of_both_means(make, sides):
    before, after = sides
    values = after["gradient_share"].values.copy()
    values[:5, 0, 0] = np.nan
    lacking = make(list(GROUPS), {"gradient_share": values}, cluster=CLUSTERS, model=EDITED)
    found = lz.compare_paired(lacking, before, "gradient_share", resamples=100)["gradient_share"]
    rest = [side["gradient_share"].values[5:, 0, 0] for side in (after, before)]
    assert found["mean_a"].values[0, 0] == pytest.approx(rest[0].mean())
    assert found["mean_b"].values[0, 0] == pytest.approx(rest[1].mean())
    assert found["difference"].values[0, 0] == pytest.approx((rest[0] - rest[1]).mean())


def test_of_an_axis_the_labels_that_both_sides_have_are_compared(make, sides):
    before, after = sides
    kept = after.dataset.isel(layer=[1])
    found = lz.compare_paired(lz.MemorizationSignature(kept), before, "gradient_share", resamples=100)["gradient_share"]
    whole = lz.compare_paired(after, before, "gradient_share", resamples=100)["gradient_share"]
    assert found["layer"].values.tolist() == [1]
    np.testing.assert_array_equal(found["difference"], whole["difference"].sel(layer=[1]))


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_without_a_name_all_that_both_sides_hold_is_compared(sides, make):
    before, after = sides
    alone = make(list(GROUPS), {"gradient_share": after["gradient_share"].values}, cluster=CLUSTERS, model=EDITED)
    compared = lz.compare_paired(alone, before, resamples=100)
    assert compared.variables == ("exact_match", "nll", "token_nll", "gradient_share")
    assert (compared["nll"]["difference"] == 0).all() and float(compared["nll"]["auc"]) == 0.5
    assert float(compared["nll"]["p_value"]) == 1


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_what_is_of_another_continuation_is_left_out_with_a_warning_and_refused_by_name(make, sides):
    before = sides[0]
    other = make(
        list(GROUPS), {"gradient_share": before["gradient_share"].values}, cluster=CLUSTERS, continuation="own"
    )
    told = r"^compare_paired leaves out gradient_share: of another continuation before than after\.$"
    with pytest.warns(UserWarning, match=told):
        compared = lz.compare_paired(other, before, resamples=100)
    assert "gradient_share" not in compared
    with pytest.raises(SignatureError) as caught:
        lz.compare_paired(other, before, "gradient_share")
    assert str(caught.value) == (
        "compare_paired: gradient_share is of the own continuation after and of the true one before; the same is needed."
    )


def test_the_group_is_that_of_before(make, sides):
    before, after = sides
    moved = make(["partial"] * COUNT, {"gradient_share": after["gradient_share"].values}, cluster=CLUSTERS)
    one, other = (
        lz.compare_paired(side, before, "gradient_share", group="memorized", resamples=100)["gradient_share"]
        for side in (moved, after)
    )
    np.testing.assert_array_equal(one["difference"], other["difference"])


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
def test_rows_that_do_not_correspond_are_told_in_one_line(make):
    before = make(["a"] * 4)
    for after, message in (
        (
            make(["a"] * 3),
            "compare_paired: 3 paragraphs after and 4 before; the same ones, in the same order, are needed.",
        ),
        (
            make(["a"] * 4, ids=["p0", "p2", "p1", "p3"]),
            "compare_paired: the id of row 1 is 'p2' after and 'p1' before; rows must correspond.",
        ),
        (
            make(["a"] * 4, cluster=[0, 1, 1, 3]),
            "compare_paired: the cluster of row 2 is 1 after and 2 before; rows must correspond.",
        ),
    ):
        with pytest.raises(SignatureError) as caught:
            lz.compare_paired(after, before)
        assert str(caught.value) == message
    for asked, message in (
        ({"variables": "rare_token_score"}, "compare_paired: no 'rare_token_score' after; that side holds exact_match, nll, token_nll."),
        ({"group": "b"}, "signature: no group 'b'; it has a."),
    ):  # fmt: skip
        with pytest.raises(SignatureError) as caught:
            lz.compare_paired(make(["a"] * 4), before, **asked)
        assert str(caught.value) == message


def test_few_clusters_and_rough_intervals_warn(make):
    before, after = make(["a"] * 4), make(["a"] * 4, {"nll": np.arange(4.0)})
    with pytest.warns(UserWarning, match=r"few effective clusters|rough intervals") as caught:
        lz.compare_paired(after, before, "nll", resamples=100)
    assert {note.filename for note in caught} == {__file__}
    assert [str(w.message).split(";")[0].split(":")[0] for w in caught] == [
        "few effective clusters (all paragraphs 4.0 of 4 paragraphs)",
        "rough intervals in 1 of 1 cells",
    ]


@pytest.mark.filterwarnings("ignore:rough intervals")
def test_a_change_compares_its_two_sides(sides):
    before, after = sides
    change = Change(before, after)
    one = change.compare("gradient_share", group="memorized", seed=5, resamples=100)
    other = lz.compare_paired(after, before, "gradient_share", group="memorized", seed=5, resamples=100)
    assert one["gradient_share"].identical(other["gradient_share"])
    assert "the same paragraphs" in one._repr_html_() and "share rising" in one._repr_html_()
    assert repr(one).startswith("Comparison(after - before: paired; ")


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
def test_pairs_that_differ_by_rounding_alone_are_no_change_in_any_table(make):
    """The same numbers added up in another order differ by 1e-17, always to one side: 12 clusters of it would be p = .0005."""
    one, other, clusters = np.full(12, 0.1 + 0.2), np.full(12, 0.3), np.arange(12)
    assert cluster_sign_flip(one - other, clusters, seed=0).p_value < 0.01
    after, before = (
        make(["memorized"] * 12, {"nll": values}, model=model, tokens=np.arange(120).reshape(12, 10))
        for values, model in ((one, EDITED), (other, {}))
    )
    cell = lz.compare_paired(after, before, "nll")["nll"]
    assert [float(cell[name]) for name in ("difference", "low", "high", "p_value", "auc")] == [0, 0, 0, 1, 0.5]
    row = Change(before, after).table().loc[("nll", "memorized")]
    assert [row[name] for name in ("estimate", "low", "high", "p_value")] == [0, 0, 0, 1]
    draws = Draws(0)
    row = beside(one, other, clusters, UNBOUNDED, draws)
    assert [row[name] for name in ("difference", "difference_low", "difference_high", "p_value")] == [0, 0, 0, 1]
    assert null_beside(one, other, clusters, draws, UNBOUNDED, one > 0).p_value == 1
    site = grid_cells(one[:, None], other[:, None], one, clusters, 1.0, draws)
    assert [float(site[name][0]) for name in ("difference", "difference_low", "difference_high", "p_value")] == [
        0,
        0,
        0,
        1,
    ]
