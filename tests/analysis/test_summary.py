"""The fingerprint: numbers known by hand, nulls that nothing exceeds, and choices tested on other clusters than made them."""

import math
import re
import warnings

import numpy as np
import pytest
import torch

import localize as lz
from localize.analysis.concentration import first_half_share
from localize.analysis.draws import Draws
from localize.analysis.layer_share import low_layer_share
from localize.analysis.matching import BY_TOKEN, LATER, RISE, WRONG, token_rows
from localize.analysis.rows import COLUMNS, Null, rows_of
from localize.analysis.saturation import SATURATION
from localize.analysis.summary import BUILT_IN, REGISTERED, SummaryRow, null_words
from localize.cli.words import print_summary
from localize.errors import LocalizeError
from localize.report.evidence import summary_table
from localize.signature.signature import MemorizationSignature
from localize.statistics import (
    UNBOUNDED,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
    rough_difference,
    rough_mean,
)
from localize.statistics.clusters import choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

SHARE, TOP, HALF = (
    "sensitivity: low-layer share of the gradient",
    "share of the lost exact match in the top 5 positions",
    "share of the lost exact match in the first half of the prefix",
)
BESIDE = [SATURATION.format(name) for name in (TOP, HALF)]
TWO = ["memorized"] * 30 + ["not_memorized"] * 30


def of_perturbation(make, group, drop, **options):
    """The summary of a perturbation that loses so many tokens; (paragraph, draw, position)."""
    before = np.full(len(drop), 50)
    after = before.reshape(-1, *[1] * (drop.ndim - 1)) - drop
    return make(group, {"unperturbed_exact_match": before, "perturbed_exact_match": after}, **options).summary()


# Low-layer share.


def test_low_layer_share_sums_every_head_and_the_two_weights_of_the_mlp(make):
    rng = np.random.default_rng(0)
    whole, heads = rng.gamma(1.0, size=(5, 4, 6)), rng.gamma(1.0, size=(5, 4, 4, 3))
    signature = make(["a"] * 5, {"gradient_max": whole, "head_gradient_max": heads})
    expected = []
    for paragraph in range(5):
        layers = []
        for layer in range(4):
            cells = [heads[paragraph, layer, component, head] for component in range(4) for head in range(3)]
            cells += [
                whole[paragraph, layer, 4],
                whole[paragraph, layer, 5],
            ]  # W_in, W_out; the others are counted by heads
            layers.append(sum(cells))
        expected.append((layers[0] + layers[1]) / sum(layers))
    np.testing.assert_allclose(low_layer_share(signature.dataset), expected, rtol=1e-12)


def test_low_layer_share_of_known_layers(make, layered):
    assert low_layer_share(make(["a", "b"], layered([3.0, 1.0], 2)).dataset).tolist() == [0.75, 0.75]
    # Of three layers the lower half is one: the middle one is not low.
    table = make(["a"] * 3, layered([3.0, 1.0, 2.0], 3)).summary()
    assert table.loc[(SHARE, "a"), "estimate"] == 0.5
    assert table.loc[(SHARE, "a"), "null"] == pytest.approx(1 / 3)


def test_rows_are_the_statistics_of_the_shares(make, layered):
    rng = np.random.default_rng(1)
    clusters = np.concatenate([np.repeat(np.arange(15), 2), np.arange(100, 130)])
    signature = make(TWO, layered(rng.gamma(2.0, size=(60, 4))), cluster=clusters)
    table, share = signature.summary(seed=3), low_layer_share(signature.dataset)
    in_a = np.array(TWO) == "memorized"
    assert table.columns.tolist() == list(COLUMNS)
    assert table.index.tolist() == [
        (SHARE, "memorized"),
        (SHARE, "not_memorized"),
        (SHARE, "memorized - not_memorized"),
    ]
    for name, chosen in (("memorized", in_a), ("not_memorized", ~in_a)):
        interval = cluster_bootstrap(share[chosen], clusters[chosen], seed=3)
        row = table.loc[(SHARE, name)]
        assert (row["estimate"], row["low"], row["high"]) == (interval.estimate, interval.low, interval.high)
        assert (row["null"], row["n"], row["clusters"]) == (0.5, 30, len(set(clusters[chosen])))
        assert row["effective_clusters"] == effective_clusters(clusters[chosen])
        assert row["rough"] == rough_mean(share[chosen], clusters[chosen])
        assert row[["null_mean_low", "null_mean_high", "null_range_low", "null_range_high", "p_value"]].isna().all()
    interval = cluster_bootstrap_difference(share, in_a, ~in_a, clusters, seed=3)
    test = cluster_permutation_difference(share, in_a, ~in_a, clusters, seed=3)
    row = table.loc[(SHARE, "memorized - not_memorized")]
    assert row["estimate"] == pytest.approx(share[in_a].mean() - share[~in_a].mean())
    assert (row["low"], row["high"]) == (interval.low, interval.high)
    null = ["null", "null_range_low", "null_range_high", "p_value"]
    assert row[null].tolist() == [0, test.null_low, test.null_high, test.p_value]
    assert row[["null_mean_low", "null_mean_high"]].isna().all()
    assert (row["n"], row["clusters"], row["rough"]) == (60, 45, rough_difference(share, in_a, ~in_a, clusters))


def test_the_same_seed_gives_the_same_table(make, layered):
    signature = make(TWO, layered(np.random.default_rng(1).gamma(2.0, size=(60, 4))))
    assert signature.summary(seed=3).equals(signature.summary(seed=3))
    assert not signature.summary(seed=3).equals(signature.summary(seed=4))


# Which rows there are.


def test_what_was_not_measured_has_no_row(make, layered):
    empty = make(TWO).summary()
    assert len(empty) == 0
    assert empty.columns.tolist() == list(COLUMNS)
    assert set(make(TWO, layered([1.0, 2.0], 60)).summary().index.get_level_values(0)) == {SHARE}
    assert set(of_perturbation(make, TWO, np.ones((60, 2, 6), int)).index.get_level_values(0)) == {
        TOP, HALF, *BESIDE, LATER,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("group", "rows"),
    [
        (["memorized"] * 4, ["memorized"]),
        (["b", "b", "a", "a"], ["a", "b", "a - b"]),
        (
            ["not_memorized", "partial", "memorized", "partial"],
            ["memorized", "partial", "not_memorized", "memorized - not_memorized"],
        ),
        (["c", "b", "a", "a"], ["a", "b", "c"]),
    ],
    ids=["one group", "two of the user's", "the three of recall", "three of the user's"],
)
def test_each_group_has_a_row_and_the_main_pair_a_difference(make, layered, group, rows):
    assert make(group, layered([3.0, 1.0], 4)).summary().index.get_level_values(1).tolist() == rows


def test_one_paragraph_has_an_estimate_and_no_interval(make, layered):
    row = make(["memorized"], layered([3.0, 1.0], 1)).summary().loc[(SHARE, "memorized")]
    assert row["estimate"] == 0.75
    assert math.isnan(row["low"])
    assert (row["n"], row["clusters"], row["effective_clusters"]) == (1, 1, 1)


def test_few_clusters_are_told(make):
    told = r"^few effective clusters \(a 1\.0 of 40 paragraphs\); below 30, only large differences are found\.$"
    with pytest.warns(UserWarning, match=told):
        make(["a"] * 40 + ["b"] * 40, cluster=[0] * 40 + list(range(1, 41))).summary()


def test_who_does_not_want_to_be_told_is_not_told(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        make(["a"] * 5).summary()
    assert caught == []


# Where the perturbation's effect lies.


def noise(seed=0, count=60, draws=2):
    """Losses that lie at other positions in every draw; 6 positions each, as the made signatures' prefixes have."""
    return np.random.default_rng(seed).poisson(3, (count, draws, 6))


def test_losses_at_one_place_in_every_draw_are_found_and_beyond_their_null(make):
    rng = np.random.default_rng(0)
    drop = np.zeros((60, 2, 6), int)
    for paragraph in range(60):
        drop[paragraph, :, rng.integers(6)] = 10
    table = of_perturbation(make, TWO, drop)
    row = table.loc[(TOP, "memorized")]
    assert (row["estimate"], row["low"], row["high"]) == (1, 1, 1)
    assert row["null_range_high"] < 0.95
    assert row["p_value"] < 0.01


def test_an_early_loss_in_one_group_is_a_difference(make):
    drop = noise(seed=1)
    drop[:30, :, :3] *= 4
    table = of_perturbation(make, TWO, drop)
    assert table.loc[(HALF, "memorized"), "estimate"] > 0.7
    assert table.loc[(HALF, "memorized"), "p_value"] < 0.01
    assert table.loc[(HALF, "memorized - not_memorized"), "p_value"] < 0.01
    assert table.loc[(HALF, "not_memorized"), "p_value"] > 0.01


def test_a_group_with_nothing_lost_has_nan_and_does_not_crash(make):
    drop = noise()
    drop[:30] = 0
    table = of_perturbation(make, TWO, drop)
    for quantity in (TOP, HALF):
        row = table.loc[(quantity, "memorized")]
        assert (
            row[["estimate", "low", "high", "null", "null_range_low", "null_range_high", "p_value", "rough"]]
            .isna()
            .all()
        )
        assert (row["n"], row["clusters"], row["effective_clusters"]) == (0, 0, 0)
        assert table.loc[(quantity, "not_memorized"), "n"] == 30
        assert math.isnan(table.loc[(quantity, "memorized - not_memorized"), "estimate"])
    table = of_perturbation(make, TWO, np.zeros((60, 2, 6), int))["estimate"]
    assert table.loc[[TOP, HALF]].isna().all()
    assert (table.loc[LATER] == 0).all()


def test_paragraphs_with_nothing_lost_are_not_counted(make):
    drop = noise()
    drop[:10] = 0
    row = of_perturbation(make, TWO, drop).loc[(HALF, "memorized")]
    assert row["n"] == 20
    assert row["estimate"] == pytest.approx(first_half_share(drop[10:30].astype(float)).mean())


def test_with_a_single_draw_the_top_share_is_nan_and_the_half_is_not(make):
    table = of_perturbation(make, TWO, noise(draws=1))
    assert table.loc[(TOP, "memorized")][["estimate", "null", "p_value"]].isna().all()
    assert table.loc[(HALF, "memorized"), "estimate"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("clusters", "copies"),
    [pytest.param(40, 1, marks=pytest.mark.slow), (10, 4)],
    ids=["no near-duplicates", "clusters of four"],
)
def test_where_early_and_late_positions_matter_alike_the_first_half_is_seldom_significant(make, clusters, copies):
    # What a position matters to a paragraph it matters in every draw and to every near-duplicate of the paragraph.
    p_values = []
    for seed in range(25):
        rng = np.random.default_rng(100 + seed)
        matters = np.repeat(rng.gamma(0.3, 10.0, (clusters, 1, 6)), copies, axis=0)
        drop = rng.poisson(np.repeat(matters, 6, axis=1)).clip(max=50)
        table = of_perturbation(make, ["memorized"] * len(drop), drop, cluster=np.repeat(np.arange(clusters), copies))
        p_values.append(table.loc[(HALF, "memorized"), "p_value"])
    assert np.mean(np.array(p_values) < 0.05) <= 0.16  # 4 of 25; at a true 5% more than that is 1 in 150


def test_the_lost_exact_match_leaves_the_first_position_out(make):
    drop = noise(seed=2)
    table = of_perturbation(make, TWO, drop)
    loss = drop[..., 1:].mean((1, 2))
    assert table.loc[(LATER, "memorized"), "estimate"] == pytest.approx(loss[:30].mean())
    difference = table.loc[(LATER, "memorized - not_memorized")]
    assert difference["estimate"] == pytest.approx(loss[:30].mean() - loss[30:].mean())
    assert (difference["null_range_low"], difference["null_range_high"]) > (-5, 0)
    assert table.loc[[(LATER, "memorized"), (LATER, "not_memorized")], "null"].isna().all()


def test_where_confidence_was_measured_the_tokens_made_wrong_stand_matched_on_it(make):
    drop, rng = noise(seed=2), np.random.default_rng(0)
    before = np.full(60, 50)
    arrays = {
        "unperturbed_exact_match": before,
        "perturbed_exact_match": before[:, None, None] - drop,
        "unperturbed_token_nll": rng.gamma(2.0, size=(60, 4)),
        "perturbed_token_error": rng.random((60, 1, 4)),
    }
    signature = make(TWO, arrays)
    table = signature.summary(seed=4)
    rows = token_rows(signature.dataset.isel(kind=0), ("memorized", "not_memorized"), Draws(4))[-3:]
    assert rows[-1]["quantity"] == BY_TOKEN.format(WRONG)
    for row in rows:
        told = table.loc[(row["quantity"], row["group"])]
        np.testing.assert_equal(told.to_dict(), {name: row[name] for name in COLUMNS})
        assert told["matched_on"] == "each token's confidence"
    three = make(["a", "b", "c"] * 20, arrays).summary()
    assert BY_TOKEN.format(WRONG) not in three.index.get_level_values(0)


def test_of_several_kinds_of_replacement_the_first_is_told(make):
    drop = np.stack([noise(seed=3), noise(seed=4) + 20], axis=1)
    assert of_perturbation(make, TWO, drop).equals(of_perturbation(make, TWO, drop[:, 0]))


# The strongest rare-token head.


def scored(rng, count=60, layers=3, heads=4):
    """Of one query, and one null."""
    sizes = {"rare_token_score": (1,), "rare_token_null": (1, 1)}
    return {name: rng.normal(0, 0.1, (count, *size, layers, heads)).clip(-1, 1) for name, size in sizes.items()}


def test_half_of_the_clusters_choose():
    clusters = np.repeat(np.arange(21), 3)
    chose = choosing_half(clusters, 0)
    assert len(set(clusters[chose])) == 10
    assert not set(clusters[chose]) & set(clusters[~chose])
    assert (choosing_half(clusters, 0) == chose).all()
    assert (choosing_half(clusters, 1) != chose).any()


def test_a_planted_head_is_found_and_scored_on_the_clusters_that_did_not_choose_it(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][:30, ..., 2, 1] += 0.4
    clusters = np.concatenate([np.repeat(np.arange(15), 2), np.arange(20, 50)])
    table = make(TWO, arrays, cluster=clusters).summary()
    name = "rare-token score of head L2.H1"
    assert table.index.get_level_values(0).unique().tolist() == [name]
    rest, in_a = ~choosing_half(clusters, 0), np.array(TWO) == "memorized"
    for group, chosen in (("memorized", rest & in_a), ("not_memorized", rest & ~in_a)):
        row = table.loc[(name, group)]
        assert row["n"] == chosen.sum()
        assert row["estimate"] == pytest.approx(arrays["rare_token_score"][chosen, ..., 2, 1].mean())
        assert np.isnan([row["null"], row["p_value"]]).all(), "attention's ranks were not kept"
    assert table.loc[(name, "memorized - not_memorized"), "p_value"] < 0.01


def test_the_scoring_half_has_no_say_in_the_choice(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][:30, ..., 2, 1] += 0.4
    rest = ~choosing_half(np.arange(60), 0)
    arrays["rare_token_score"][rest, ..., 0, 0] = 1.0
    assert "rare-token score of head L2.H1" in make(TWO, arrays).summary().index


def test_a_head_that_scores_as_high_on_other_paragraphs_is_not_chosen(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][:, ..., 0, 3] += 0.5
    arrays["rare_token_null"][:, ..., 0, 3] += 0.5
    arrays["rare_token_score"][:, ..., 1, 0] += 0.2
    assert "rare-token score of head L1.H0" in make(TWO, arrays).summary().index


def test_only_the_last_prefix_token_and_the_mismatched_null_have_a_say(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][..., 2, 1] += 0.4
    alone = make(TWO, arrays).summary()
    other = np.random.default_rng(1).uniform(-1, 1, (60, 1, 3, 4))
    others = {
        "rare_token_score": np.concatenate([arrays["rare_token_score"], other], axis=1),
        "rare_token_null": np.tile(other[:, None], (1, 3, 2, 1, 1)),
    }
    others["rare_token_null"][:, :1, :1] = arrays["rare_token_null"]
    assert make(TWO, others).summary().equals(alone)


def test_the_memorized_choose_where_there_are_any(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][:30, ..., 0, 1] += 0.3
    arrays["rare_token_score"][30:, ..., 2, 2] += 0.6
    assert "rare-token score of head L0.H1" in make(TWO, arrays).summary().index
    assert "rare-token score of head L2.H2" in make(["a"] * 30 + ["b"] * 30, arrays).summary().index


def test_the_best_of_many_heads_of_noise_scores_nothing_on_the_other_clusters(make):
    estimates = []
    for seed in range(30):
        arrays = scored(np.random.default_rng(seed), count=30, layers=6, heads=8)
        name, row = next(make(["memorized"] * 30, arrays).summary(seed=seed).iterrows())
        layer, head = re.search(r"L(\d)\.H(\d)", name[0]).groups()
        told = ~choosing_half(np.arange(30), seed)
        assert row["estimate"] == pytest.approx(arrays["rare_token_score"][told, 0, int(layer), int(head)].mean())
        chose = (arrays["rare_token_score"] - arrays["rare_token_null"][:, 0])[~told, 0, int(layer), int(head)].mean()
        estimates.append(np.sign(chose) * row["estimate"])
    # Chosen and scored on the same paragraphs it would be .06 or more in the direction in which it was chosen.
    assert abs(np.mean(estimates)) < 0.02


def test_a_head_below_its_null_is_chosen_as_well_as_one_above(make):
    arrays = scored(np.random.default_rng(0))
    arrays["rare_token_score"][..., 2, 1] -= 0.4
    arrays["rare_token_score"][..., 0, 1] += 0.3
    table = make(TWO, arrays).summary()
    assert table.loc[("rare-token score of head L2.H1", "memorized"), "estimate"] < -0.3


def test_the_score_stands_beside_counts_dealt_out_and_untrained_models_and_removal_beside_the_heads(measured_heads):
    table, check = measured_heads.summary(), measured_heads.causal_check()
    heads = [(quantity, group) for quantity, group in table.index if re.search("rare-token|without head", quantity)]
    groups = ["memorized", "not_memorized", "memorized - not_memorized", "memorized", "memorized", "memorized"]
    assert [group for _, group in heads] == groups
    score, untrained, together, rank = [heads[at][0] for at in (0, 3, 4, 5)]
    assert null_words(score) == "counts dealt out over token types"
    assert null_words(untrained) == "strongest heads of models with random weights"
    for quantity in (score, together, rank):
        shared = [name for name in COLUMNS if name != "q_value"]
        expected, found = (each.loc[(quantity, "memorized"), shared] for each in (check, table))
        assert (found.isna() == expected.isna()).all() and (found.dropna() == expected.dropna()).all()
        assert 0 < found["p_value"] <= 1
    assert table.loc[(untrained, "memorized"), "p_value"] in (0.25, 0.5, 0.75, 1)


@pytest.fixture
def measured_heads(make_model):
    """A small model of random weights, with groups that are given."""
    tokens = torch.from_numpy(np.random.default_rng(0).integers(1, 97, (24, 30)))
    paragraphs = lz.load_paragraphs(tokens, prefix_length=20, continuation_length=10)
    paragraphs = paragraphs.with_groups(["memorized", "not_memorized"] * 12)
    model, counts = make_model("gpt2"), np.arange(1, 98)
    return lz.rare_token_heads(model, paragraphs, counts=counts, null_draws=2, untrained_models=3) | lz.ablate(
        model, paragraphs, continuation="true"
    )


def test_heads_that_attend_evenly_have_no_score_and_no_row(make):
    nothing = {name: np.full_like(values, np.nan) for name, values in scored(np.random.default_rng(0)).items()}
    assert len(make(TWO, nothing).summary()) == 0
    one_head = scored(np.random.default_rng(0), layers=2, heads=2)
    for values in one_head.values():
        values[..., 0] = np.nan
        values[..., 0, :] = np.nan
    assert "rare-token score of head L1.H1" in make(TWO, one_head).summary().index


def test_one_cluster_cannot_choose_and_score(make):
    arrays = scored(np.random.default_rng(0), count=4)
    assert len(make(["memorized"] * 4, arrays, cluster=[7] * 4).summary()) == 0


def test_all_that_a_model_tells_is_in_one_table(measured):
    table = measured.summary()
    quantities = table.index.get_level_values(0).unique().tolist()
    by_nll = [name.replace("lost exact match", "NLL rise") for name in (TOP, HALF)]
    assert [quantities[0], *quantities[3:]] == [SHARE, *by_nll, TOP, HALF, *BESIDE, RISE, LATER, BY_TOKEN.format(WRONG)]
    assert quantities[1].startswith("rare-token score of head L")
    assert quantities[2].startswith("rare-token score above mismatched rarity of head L")
    groups = ["memorized", "not_memorized", "memorized - not_memorized"]
    for quantity in quantities:
        only = groups[2:] if quantity in BESIDE else groups[:1] if quantity == quantities[2] else groups
        assert table.loc[quantity].index.tolist() == only
    assert table["estimate"].notna().all()
    assert table.loc[quantities[:9], "null"].notna().all()


# Rows of one's own.


def token_spread(signature, draws):
    """How unevenly a paragraph's loss lies over its tokens, beside one third."""
    values = signature["token_nll"].values.astype(float).std(axis=1)
    about = values, signature.dataset["group"].values, signature.dataset["cluster"].values
    return rows_of("spread of the loss", *about, draws, lambda _: Null(1 / 3), UNBOUNDED)


@pytest.fixture
def spread():
    row = SummaryRow("spread", ("token_nll",), token_spread, {"spread of the": "one third, a landmark"}).register()
    yield row
    row.unregister()


def test_rows_of_ones_own_stand_last_in_the_summary_the_report_and_what_show_prints(make, layered, capsys, spread):
    signature = make(TWO, {**layered([3.0, 1.0], 60), "token_nll": np.random.default_rng(0).gamma(2.0, size=(60, 4))})
    table = signature.summary(seed=2)
    assert table.index.get_level_values(0).unique().tolist() == [SHARE, "spread of the loss"]
    expected = signature["token_nll"].values[:30].std(axis=1)
    row, interval = table.loc[("spread of the loss", "memorized")], cluster_bootstrap(expected, np.arange(30), seed=2)
    assert [row["estimate"], row["low"], row["high"]] == [interval.estimate, interval.low, interval.high]
    told, _ = summary_table(signature, "r0", 2)
    assert [[cell.text for cell in row[:2]] for row in told.rows[-3:]] == [
        ["spread of the loss", group] for group in ("memorized", "not memorized", "memorized − not memorized")
    ]
    assert [row[4].text for row in told.rows[-3:]] == ["one third, a landmark"] * 2 + ["groups dealt out at random"]
    print_summary(signature)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("spread of") == 1 and f"{row['estimate']:.3f}" in signature._repr_html_()
    spread.unregister()
    assert signature.summary(seed=2).equals(table.loc[[SHARE]])
    assert null_words("spread of the loss") == ""


def test_rows_whose_variables_are_missing_are_left_out(make, spread):
    without = make(TWO).dataset.drop_vars("token_nll")
    assert len(MemorizationSignature(without).summary()) == 0


def test_a_name_is_registered_once(spread):
    for name in ("spread", "low layers"):
        with pytest.raises(LocalizeError) as error:
            SummaryRow(name, (), lambda signature, draws: []).register()
        assert str(error.value) == (
            f"SummaryRow: {name!r} is registered already; choose another name than stored units, locality, low layers, strongest "
            "head, removal, rarest tokens, positions (NLL rise), positions (lost exact match), lost exact match, strongest activation, "
            "priming, massive activations, in context, spread."
        )
    SummaryRow("spread", (), lambda signature, draws: []).unregister()
    assert REGISTERED["spread"] is spread, "another of the same name does not take it away"


def test_the_summary_is_what_is_built_in_in_its_order():
    assert list(REGISTERED) == [row.name for row in BUILT_IN]


def test_every_quantity_of_a_measured_model_says_what_it_is_held_against_where_it_has_a_null(measured):
    table = measured.summary()
    with_null = table[table["null"].notna() & ~table.index.get_level_values(1).str.contains(" - ")]
    assert all(null_words(quantity) for quantity, _ in with_null.index)
