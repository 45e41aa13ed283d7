"""The contrast of two groups is the difference and the log ratio of their profiles, with intervals and nulls that keep their word."""

import numpy as np
import pytest

from localize.analysis.contrast import _ratio_null
from localize.axes import COMPONENTS
from localize.errors import SignatureError
from localize.statistics import (
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
    false_discovery,
    standardized_difference,
)

GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 45 + ["partial"] * 10)
CLUSTERS = np.concatenate([np.arange(85) % 80, np.arange(200, 210)])  # a few of the two groups share a cluster
MEMORIZED, NOT = GROUPS == "memorized", GROUPS == "not_memorized"
PAIR = ("memorized", "not_memorized")


def shares(rng, weights, shape):
    """Shares of a whole over all cells: Dirichlet, around the given weights per paragraph and layer."""
    cells = rng.gamma(np.broadcast_to(weights.reshape(*weights.shape, *[1] * (len(shape) - 1)), (len(weights), *shape)))
    return cells / cells.sum(axis=tuple(range(1, cells.ndim)), keepdims=True)


@pytest.fixture
def share():
    """Three layers; the first has 30 % more weight in memorized paragraphs."""
    weights = np.where(MEMORIZED[:, None], [1.3, 1.0, 1.0], [1.0, 1.0, 1.0])
    return shares(np.random.default_rng(1), weights, (3, 6))


@pytest.fixture
def signature(make, share):
    rng = np.random.default_rng(2)
    arrays = {
        "gradient_share": share,
        "head_gradient_share": shares(rng, np.ones((95, 3)), (3, 4, 2)),
        "gradient_norm": rng.gamma(2.0, size=(95, 3, 6)),
        "set_gradient_norm": np.ones((3, 3, 6)),
        "perturbed_nll": rng.gamma(2.0, size=(95, 2, 6)),
        "copy_similarity": rng.uniform(0, 1, (95, 3, 6)),
    }
    return make(list(GROUPS), arrays, cluster=CLUSTERS)


def by_hand(values, seed, resamples):
    """Every number but the log ratio's null, from the plain array."""
    draws = {"seed": seed, "resamples": resamples}
    interval = cluster_bootstrap_difference(values, MEMORIZED, NOT, CLUSTERS, **draws)
    ratio = cluster_bootstrap_difference(values, MEMORIZED, NOT, CLUSTERS, **draws, log=True)
    test = cluster_permutation_difference(values, MEMORIZED, NOT, CLUSTERS, seed=seed, permutations=resamples)
    return {
        "profile_a": values[MEMORIZED].mean(0),
        "profile_b": values[NOT].mean(0),
        "difference": values[MEMORIZED].mean(0) - values[NOT].mean(0),
        "low": interval.low,
        "high": interval.high,
        "null_low": test.null_low,
        "null_high": test.null_high,
        "log_ratio": np.log(values[MEMORIZED].mean(0) / values[NOT].mean(0)),
        "log_ratio_low": ratio.low,
        "log_ratio_high": ratio.high,
        "p_value": test.p_value,
        "q_value": false_discovery(test.p_value),
        "effect_size": standardized_difference(values, MEMORIZED, NOT),
    }


def test_every_cell_is_what_the_statistics_say_of_the_plain_arrays(signature, share):
    contrast = signature.contrast(*PAIR, seed=7, resamples=300)
    expected = by_hand(share, 7, 300)
    assert set(contrast.data_vars) == set(expected) | {"log_ratio_null_low", "log_ratio_null_high"}
    for name, values in expected.items():
        assert contrast[name].dims == ("layer", "component")
        np.testing.assert_allclose(contrast[name], values, rtol=0, atol=1e-12, err_msg=name)
    assert contrast["component"].values.tolist() == list(COMPONENTS)


def test_it_says_what_was_contrasted_and_in_which_units(signature):
    contrast = signature.contrast(*PAIR, seed=7, resamples=300)
    assert contrast.attrs == {
        "variable": "gradient_share",
        "unit": "share",
        "continuation": "true",
        "a": "memorized",
        "b": "not_memorized",
        "paragraphs": [40, 45],
        "effective_clusters": [effective_clusters(CLUSTERS[MEMORIZED]), effective_clusters(CLUSTERS[NOT])],
        "seed": 7,
        "resamples": 300,
    }
    units = {name: contrast[name].attrs["unit"] for name in contrast.data_vars}
    assert units["profile_a"] == units["difference"] == units["low"] == units["null_low"] == "share"
    assert {units[name] for name in units if name.startswith("log_ratio")} == {"nats"}
    assert units["p_value"] == units["q_value"] == units["effect_size"] == ""


def test_heads_are_contrasted_alike(signature):
    contrast = signature.contrast(*PAIR, "head_gradient_share", resamples=200)
    assert contrast["log_ratio"].dims == ("layer", "attention_component", "head")
    for name, values in by_hand(signature["head_gradient_share"].values, 0, 200).items():
        np.testing.assert_allclose(contrast[name], values, rtol=0, atol=1e-12, err_msg=name)


def test_over_components_it_is_the_profile_of_layers(signature, share):
    contrast = signature.contrast(*PAIR, over="component", seed=3, resamples=200)
    layers = np.array([[paragraph[layer].sum() for layer in range(3)] for paragraph in share])
    for name, values in by_hand(layers, 3, 200).items():
        assert contrast[name].dims == ("layer",)
        np.testing.assert_allclose(contrast[name], values, rtol=0, atol=1e-12, err_msg=name)
    assert float(contrast["profile_a"].sum()) == pytest.approx(1)
    assert float(contrast["difference"].sum()) == pytest.approx(0)


def test_over_heads_and_components_it_is_what_attention_has_in_each_layer(signature):
    contrast = signature.contrast(
        *PAIR, "head_gradient_share", over=("head", "attention_component"), seed=3, resamples=200
    )
    attention = signature["head_gradient_share"].values.sum((2, 3))
    np.testing.assert_allclose(contrast["profile_b"], attention[NOT].mean(0), rtol=1e-12)
    assert contrast["profile_b"].dims == ("layer",)


def test_a_part_that_was_not_measured_leaves_the_sum_unmeasured(make, share):
    missing = share.copy()
    missing[3, 0, 2] = np.nan
    contrast = make(list(GROUPS), {"gradient_share": missing}, cluster=CLUSTERS).contrast(
        *PAIR, over="component", resamples=100
    )
    rest = MEMORIZED & (np.arange(95) != 3)
    np.testing.assert_allclose(contrast["profile_a"][0], share[rest, 0].sum(-1).mean(), rtol=1e-12)
    np.testing.assert_allclose(contrast["profile_a"][1], share[MEMORIZED, 1].sum(-1).mean(), rtol=1e-12)


def test_the_null_of_the_log_ratio_is_the_nulls_differences_with_the_common_mean_held(signature, share):
    contrast = signature.contrast(*PAIR, seed=7, resamples=300)
    for end in ("low", "high"):
        for layer in range(3):
            for component in range(6):
                common = share[MEMORIZED | NOT, layer, component].mean()
                difference = float(contrast[f"null_{end}"][layer, component])
                # 40 a + 45 b = 85 common, a - b = difference
                b = common - 40 / 85 * difference
                expected = np.log((b + difference) / b)
                assert float(contrast[f"log_ratio_null_{end}"][layer, component]) == pytest.approx(expected)


def test_beyond_the_null_of_the_difference_is_beyond_the_null_of_the_log_ratio(signature):
    contrast = signature.contrast(*PAIR, resamples=300)
    beyond = [
        ((contrast[name] < contrast[f"{null}_low"]) | (contrast[name] > contrast[f"{null}_high"])).values
        for name, null in (("difference", "null"), ("log_ratio", "log_ratio_null"))
    ]
    np.testing.assert_array_equal(*beyond)
    assert 0 < beyond[0].sum() < beyond[0].size


def test_a_null_that_would_leave_a_group_nothing_has_no_end():
    """a holds 2 of 8 paragraphs, mean 1 of all: b would be below 0 for a difference of 5, a for one of -2."""
    in_a = np.arange(8) < 2
    ratios = _ratio_null(np.ones((8, 1)), in_a, ~in_a, np.array([-2.0]), np.array([5.0]), np.array([2.0]))
    np.testing.assert_allclose(np.concatenate(ratios), [-np.inf, np.inf, np.log(2.5 / 0.5)])
    assert np.isnan(_ratio_null(np.zeros((8, 1)), in_a, ~in_a, np.array([0.0]))[0])


def test_turned_round_only_the_sign_changes(signature):
    one, other = signature.contrast(*PAIR, resamples=200), signature.contrast(*PAIR[::-1], resamples=200)
    np.testing.assert_allclose(one["log_ratio"], -other["log_ratio"], atol=1e-12)
    np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-12)
    np.testing.assert_array_equal(one["profile_a"], other["profile_b"])


def test_a_cell_with_nothing_in_a_group_has_a_difference_and_no_log_ratio(make, share):
    share[MEMORIZED, 1, 4] = 0
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    cell = contrast.isel(layer=1, component=4)
    assert np.isnan([cell["log_ratio"], cell["log_ratio_low"], cell["log_ratio_high"]]).all()
    assert float(cell["difference"]) == pytest.approx(-share[NOT, 1, 4].mean())
    assert int(contrast["log_ratio"].isnull().sum()) == 1


def test_draws_are_averaged_first(signature):
    contrast = signature.contrast(*PAIR, "perturbed_nll", resamples=200)
    expected = by_hand(signature["perturbed_nll"].values.mean(2), 0, 200)
    np.testing.assert_allclose(contrast["log_ratio"], expected["log_ratio"], atol=1e-12)
    assert contrast["log_ratio"].dims == ("kind", "prefix_position")


def test_rounding_below_zero_counts_as_zero(make, share):
    share[0, 0, 0] = -1e-6  # the schema lets it pass
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    share[0, 0, 0] = 0
    assert float(contrast["profile_a"][0, 0]) == pytest.approx(share[MEMORIZED, 0, 0].mean(), rel=1e-12)


def test_few_effective_clusters_warn(signature):
    told = r"^few effective clusters \(partial 10\.0 of 10 paragraphs\); below 30, intervals and p-values are rough\.$"
    with pytest.warns(UserWarning, match=told):
        signature.contrast("memorized", "partial", resamples=100)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(signature):
    one, same, other = (signature.contrast(*PAIR, seed=s, resamples=200) for s in (4, 4, 5))
    assert one.identical(same)
    assert (one["log_ratio_low"] != other["log_ratio_low"]).all()
    assert (one["log_ratio"] == other["log_ratio"]).all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("memorized", "gone"), {}, "signature: no group 'gone'; it has memorized, partial, not_memorized."),
        (
            (*PAIR, "gradient_max"),
            {},
            "signature: no 'gradient_max'; it holds exact_match, nll, token_nll, gradient_norm, gradient_share, "
            "head_gradient_share, set_gradient_norm, copy_similarity, perturbed_nll.",
        ),
        (
            (*PAIR, "copy_similarity"),
            {},
            "contrast: copy_similarity can be negative, so that two groups of it have no ratio; a variable of at least 0 is "
            "needed, such as gradient_share.",
        ),
        (
            (*PAIR, "set_gradient_norm"),
            {},
            "contrast: set_gradient_norm has axes ('set', 'layer', 'component'); "
            "only what is measured per paragraph is compared.",
        ),
        (
            PAIR,
            {"over": "head"},
            "contrast: over='head' is no axis of the cells of gradient_share; it has layer, component.",
        ),
        ((*PAIR, "nll"), {"over": "layer"}, "contrast: over='layer' is no axis of the cells of nll; it has none."),
    ],
)
def test_what_has_no_contrast_is_told_in_one_line(signature, arguments, options, message):
    with pytest.raises(SignatureError) as caught:
        signature.contrast(*arguments, **options)
    assert str(caught.value) == message


# Calibration.

SIZES = np.array([1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6, 8] * 3)
"""Paragraphs of the 51 clusters that labels are shuffled over, 132 in all; as uneven as near-duplicates are."""


def of_clusters(rng):
    """Shares of three layers with two components: what a cluster has in common makes up most of what varies."""
    cluster = np.repeat(np.arange(len(SIZES)), SIZES)
    cells = rng.gamma(4.0, size=(len(SIZES), 3, 6))[cluster] * rng.gamma(8.0, size=(len(cluster), 3, 6))
    return cells / cells.sum((1, 2), keepdims=True), cluster


def shuffled(count, seed=0):
    """`count` times the shares, clusters and labels shuffled over clusters; every eighth time other shares."""
    rng = np.random.default_rng(seed)
    for shuffle in range(count):
        if shuffle % 8 == 0:
            share, cluster = of_clusters(rng)
        yield share, cluster, (rng.permutation(len(SIZES)) < 20)[cluster]


def test_with_labels_shuffled_over_clusters_intervals_hold_zero_as_often_as_they_say():
    """400 shuffles of 18 cells: intervals of 95 % hold 0 in 92 to 97 % of them, and a p-value below p comes up p of the time.

    The cells of a shuffle share its labels, so that at worst 400 things are counted: 2 standard errors are 2.2 %. And 1 % is what
    the docstring of `cluster_bootstrap_difference` leaves its intervals short where clusters are skewed. What `contrast` gives of
    these statistics is tested above.
    """
    held, p_values = {False: [], True: []}, []
    for seed, (share, cluster, in_a) in enumerate(shuffled(400)):
        for log, inside in held.items():
            interval = cluster_bootstrap_difference(share, in_a, ~in_a, cluster, seed=seed, resamples=200, log=log)
            inside.append((interval.low <= 0) & (interval.high >= 0))
        p_values.append(
            cluster_permutation_difference(share, in_a, ~in_a, cluster, seed=seed, permutations=200).p_value
        )
    for inside in held.values():
        assert 0.95 - 0.01 - 0.022 <= np.mean(inside) <= 0.95 + 0.022
    for level in (0.05, 0.25, 0.5, 0.75):
        slack = 2 * (level * (1 - level) / 400) ** 0.5
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=slack)


@pytest.mark.filterwarnings("ignore:few effective clusters")
def test_a_planted_difference_is_found_and_only_where_it_was_planted(make):
    """W_V of layer 1 has three times as much in one group: the largest ratio, beyond its null; few others are."""
    found, largest, false = [], [], []
    for seed, (share, cluster, in_a) in enumerate(shuffled(16, seed=1)):
        share = np.where(in_a[:, None, None] & (np.arange(18) == 8).reshape(3, 6), 3.0 * share, share)
        share /= share.sum((1, 2), keepdims=True)
        group = np.where(in_a, *PAIR)
        cells = make(list(group), {"gradient_share": share}, cluster=cluster).contrast(*PAIR, seed=seed, resamples=500)
        planted = cells.sel(layer=1, component="W_V")
        found.append(
            (planted["q_value"] < 0.05)
            & (planted["log_ratio_low"] > 0)
            & (planted["difference"] > planted["null_high"])
        )
        largest.append(planted["log_ratio"] == cells["log_ratio"].max())
        false.append((int((cells["q_value"] < 0.05).sum()) - 1) / 17)
    assert all(found) and all(largest)
    assert np.mean(false) < 0.1
