"""The contrast of two groups is each cell's log ratio to the typical cell, tested; its share in both groups describes."""

import numpy as np
import pytest

from localize.axes import COMPONENTS
from localize.errors import SignatureError
from localize.statistics import (
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
    false_discovery,
    standardized_difference,
)
from localize.statistics.composition import typical_weights

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


def relative(values):
    """Log of every cell over the typical cell, a weighted geometric mean; and the weights."""
    logs = np.log(values).reshape(len(values), -1)
    weights = typical_weights(logs[MEMORIZED].mean(0) - logs[NOT].mean(0))
    return (logs - (logs * weights).sum(1, keepdims=True)).reshape(values.shape), weights.reshape(values.shape[1:])


def by_hand(values, seed, resamples):
    """Every number, from the plain array."""
    draws = {"seed": seed, "resamples": resamples}
    logs, weights = relative(values)
    tested = cluster_bootstrap_difference(logs, MEMORIZED, NOT, CLUSTERS, **draws)
    interval = cluster_bootstrap_difference(values, MEMORIZED, NOT, CLUSTERS, **draws)
    ratio = cluster_bootstrap_difference(values, MEMORIZED, NOT, CLUSTERS, **draws, log=True)
    test = cluster_permutation_difference(logs, MEMORIZED, NOT, CLUSTERS, seed=seed, permutations=resamples)
    cells = values.shape[1:]
    return {
        "relative_log_ratio": logs[MEMORIZED].mean(0) - logs[NOT].mean(0),
        "relative_log_ratio_low": tested.low,
        "relative_log_ratio_high": tested.high,
        "null_range_low": test.null_low,
        "null_range_high": test.null_high,
        "p_value": test.p_value,
        "q_value": false_discovery(test.p_value),
        "effect_size": standardized_difference(logs, MEMORIZED, NOT),
        "rough": tested.rough | test.rough,
        "n": np.full(cells, 85),
        "clusters": np.full(cells, 80),
        "effective_clusters": np.full(cells, effective_clusters(CLUSTERS[MEMORIZED | NOT])),
        "reference_weight": weights,
        "profile_a": values[MEMORIZED].mean(0),
        "profile_b": values[NOT].mean(0),
        "difference": values[MEMORIZED].mean(0) - values[NOT].mean(0),
        "difference_low": interval.low,
        "difference_high": interval.high,
        "log_ratio": np.log(values[MEMORIZED].mean(0) / values[NOT].mean(0)),
        "log_ratio_low": ratio.low,
        "log_ratio_high": ratio.high,
    }


def test_every_cell_is_what_the_statistics_say_of_the_plain_arrays(signature, share):
    contrast = signature.contrast(*PAIR, seed=7, resamples=300)
    expected = by_hand(share, 7, 300)
    assert list(contrast.data_vars) == list(expected)
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
    assert units["profile_a"] == units["difference"] == units["difference_low"] == "share"
    assert {units[name] for name in units if "log_ratio" in name or name.startswith("null")} == {"nats"}
    assert units["p_value"] == units["q_value"] == units["effect_size"] == units["reference_weight"] == ""


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


def test_turned_round_only_the_sign_changes(signature):
    one, other = signature.contrast(*PAIR, resamples=200), signature.contrast(*PAIR[::-1], resamples=200)
    for name in ("relative_log_ratio", "log_ratio"):
        np.testing.assert_allclose(one[name], -other[name], atol=1e-12)
    np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-12)
    np.testing.assert_array_equal(one["profile_a"], other["profile_b"])


def test_a_cell_with_nothing_in_a_group_has_a_difference_and_no_log_ratio(make, share):
    share[MEMORIZED, 1, 4] = 0
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    cell = contrast.isel(layer=1, component=4)
    names = [
        name for name in contrast.data_vars if "log_ratio" in name or name in ("p_value", "q_value", "effect_size")
    ]
    assert np.isnan([cell[name] for name in names]).all() and float(cell["reference_weight"]) == 0
    assert float(cell["difference"]) == pytest.approx(-share[NOT, 1, 4].mean())
    assert int(contrast["log_ratio"].isnull().sum()) == int(contrast["p_value"].isnull().sum()) == 1


def test_a_single_zero_counts_as_a_part_of_the_smallest_that_is_above_it(make, share):
    share[7, 1, 4] = 0
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    share[7, 1, 4] = 0.65 * share[:, 1, 4][share[:, 1, 4] > 0].min()
    logs, _ = relative(share)
    expected = logs[MEMORIZED].mean(0) - logs[NOT].mean(0)
    np.testing.assert_allclose(contrast["relative_log_ratio"], expected, rtol=1e-9)


def test_draws_are_averaged_first(signature):
    contrast = signature.contrast(*PAIR, "perturbed_nll", resamples=200)
    expected = by_hand(signature["perturbed_nll"].values.mean(2), 0, 200)
    for name in ("relative_log_ratio", "log_ratio"):
        np.testing.assert_allclose(contrast[name], expected[name], atol=1e-12)
    assert contrast["log_ratio"].dims == ("kind", "prefix_position")


def test_rounding_below_zero_counts_as_zero(make, share):
    share[0, 0, 0] = -1e-6  # the schema lets it pass
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    share[0, 0, 0] = 0
    assert float(contrast["profile_a"][0, 0]) == pytest.approx(share[MEMORIZED, 0, 0].mean(), rel=1e-12)


def test_few_effective_clusters_warn(signature):
    told = r"^few effective clusters \(partial 10\.0 of 10 paragraphs\); below 30, only large differences are found\.$"
    with pytest.warns(UserWarning, match=told):
        signature.contrast("memorized", "partial", resamples=100)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(signature):
    one, same, other = (signature.contrast(*PAIR, seed=s, resamples=200) for s in (4, 4, 5))
    assert one.identical(same)
    assert (one["null_range_low"] != other["null_range_low"]).all()
    assert (one["relative_log_ratio"] == other["relative_log_ratio"]).all()


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
        (
            (*PAIR, "nll"),
            {},
            "contrast: nll has a single cell here, which no other is held against; compare it.",
        ),
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


# What is compositional and what is not.


def test_one_cell_that_grows_leaves_all_others_where_they_are_although_their_shares_fall(make):
    """No noise: every paragraph has the same profile, but for one cell that is three times as large in one group."""
    profile = np.random.default_rng(0).uniform(1, 4, (3, 6))
    sizes = np.where(MEMORIZED[:, None, None] & (np.arange(18) == 8).reshape(3, 6), 3.0, 1.0) * profile
    share = sizes / sizes.sum((1, 2), keepdims=True)
    contrast = make(list(GROUPS), {"gradient_share": share}, cluster=CLUSTERS).contrast(*PAIR, resamples=100)
    others = np.arange(18).reshape(3, 6) != 8
    assert (contrast["log_ratio"].values[others] < -0.1).all()
    np.testing.assert_allclose(contrast["relative_log_ratio"].values[others], 0, atol=1e-12)
    assert contrast["relative_log_ratio"].values[1, 2] == pytest.approx(np.log(3))
    assert contrast["reference_weight"].values[1, 2] == 0


def test_absolute_sizes_have_the_same_contrast_as_their_shares(make, share):
    """What all cells of a paragraph have in common, such as its loss, drops out of the ratio to the typical cell."""
    sizes = share * np.random.default_rng(3).gamma(2.0, 5.0, 95)[:, None, None]
    of_shares, of_sizes = (
        make(list(GROUPS), {name: values}, cluster=CLUSTERS).contrast(*PAIR, name, resamples=100)
        for name, values in (("gradient_share", share), ("gradient_norm", sizes))
    )
    for name in ("relative_log_ratio", "relative_log_ratio_low", "p_value"):
        np.testing.assert_allclose(of_shares[name], of_sizes[name], rtol=1e-6, atol=1e-9)


def profiles(rng, grown, factor):
    """Shares of 24 cells in 120 uneven paragraphs, the grown cells that many times larger in the first group."""
    cluster = np.repeat(np.arange(len(SIZES)), SIZES)
    sizes = np.exp(rng.normal(0, 0.2, (len(SIZES), 24))[cluster] + rng.normal(0, 0.1, (len(cluster), 24)))
    sizes *= np.exp(rng.normal(0, 1, 24))
    in_a = (rng.permutation(len(SIZES)) < 25)[cluster]
    sizes[np.ix_(in_a, grown)] *= factor
    return (sizes / sizes.sum(1, keepdims=True)).reshape(-1, 4, 6), cluster, np.where(in_a, *PAIR)


@pytest.mark.filterwarnings("ignore:few effective clusters")
@pytest.mark.parametrize(("grown", "factor"), [([], 1.0), ([8], 2.0), ([6, 7, 8, 9, 10, 11], 1.5)])
def test_only_cells_that_truly_grew_are_significant(make, grown, factor):
    """40 runs. Of the cells that did nothing at most 9 % have p <= .05, and at most 3 % are called so after correction."""
    found, alone, called = [], [], []
    others = np.setdiff1d(np.arange(24), grown)
    for seed in range(40):
        share, cluster, group = profiles(np.random.default_rng(seed), grown, factor)
        told = make(list(group), {"gradient_share": share}, cluster=cluster).contrast(*PAIR, seed=seed, resamples=1000)
        p, q = (told[name].values.ravel() for name in ("p_value", "q_value"))
        found.append(q[grown] <= 0.05)
        alone.append(p[others] <= 0.05)
        called.append(q[others] <= 0.05)
    assert np.mean(alone) <= 0.09 and np.mean(called) <= 0.03
    assert not grown or np.mean(found) > 0.95


def test_a_test_of_every_share_would_call_nearly_all_cells_different_where_one_grew():
    """What makes the test above one."""
    called = []
    for seed in range(10):
        share, cluster, group = profiles(np.random.default_rng(seed), [8], 6.0)
        test = cluster_permutation_difference(share, group == PAIR[0], group == PAIR[1], cluster, seed=seed)
        called.append((np.delete(test.p_value.ravel(), 8) <= 0.05).mean())
    assert np.mean(called) > 0.5
