"""Metrics of memorization beside each other: AUCs by Mann and Whitney's U, rank correlations by scipy, nulls by what is known of them."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.draws import Draws
from localize.analysis.memory import agreement_rows, metrics_of, rank_correlations
from localize.signature.signature import MemorizationSignature

pytestmark = pytest.mark.filterwarnings("ignore:.*few effective clusters")

COUNT = 60
GROUP = ["planted"] * 20 + ["never_trained"] * 25 + ["unlabelled"] * 15
PLANTED, NEVER = slice(0, 20), slice(20, 45)


@pytest.fixture
def arrays():
    """Min-K% and log p agree; exact match and ROUGE-L see half of the planted; a reference's gain goes the other way."""
    rng = np.random.default_rng(0)
    hard, planted = rng.normal(size=COUNT), np.arange(COUNT) < 20
    log_p = -3 + hard + 0.8 * planted - 5
    said = np.where((np.arange(COUNT) < 10)[:, None], [2, 4], rng.integers(0, 2, (COUNT, 2)))
    chance = rng.uniform(0, 1, (COUNT, 2))
    return {
        "continued_exact_match": said, "continued_rouge_l": np.minimum(1, said / 4 + rng.uniform(0, 0.1, said.shape)),
        "extraction_probability": chance / 10, "extraction_chance": chance, "text_log_p": log_p,
        "min_k": 2 * log_p + 0.1 * rng.normal(size=COUNT), "min_k_plus_plus": rng.normal(size=COUNT),
        "text_log_p_gain": -log_p,
    }  # fmt: skip


@pytest.fixture
def signature(make, arrays):
    made = make(GROUP, arrays)
    return MemorizationSignature(made.dataset.assign_coords(tokens_given=[8, 32]))


def test_the_auc_of_each_metric_is_mann_and_whitneys_u_over_all_pairs(signature, arrays):
    table = lz.memory_table(signature).xs("AUC", level="quantity")
    assert set(table.index.get_level_values("group")) == {"planted - never_trained"}
    for metric, values in {
        "exact match, 8 tokens given": arrays["continued_exact_match"][:, 0],
        "exact match, 32 tokens given": arrays["continued_exact_match"][:, 1],
        "log p of the text": arrays["text_log_p"], "Min-K%": arrays["min_k"], "log p above the reference's": -arrays["text_log_p"],
    }.items():  # fmt: skip
        u = stats.mannwhitneyu(values[PLANTED], values[NEVER], method="asymptotic")
        row = table.loc[(metric, "planted - never_trained")]
        assert row["estimate"] == pytest.approx(u.statistic / (20 * 25)), metric
        assert row["low"] < row["estimate"] < row["high"] and row["null"] == 0.5
        assert row["p_value"] == pytest.approx(u.pvalue, abs=0.05)
        assert (row["n"], row["unit"]) == (45, "share of pairs")


def test_means_and_differences_are_those_of_the_groups_with_scipys_interval(signature, arrays):
    table, values = lz.memory_table(signature), arrays["min_k"]
    row = table.loc[("Min-K%", "mean", "planted")]
    low, high = stats.t.interval(0.95, 19, values[PLANTED].mean(), stats.sem(values[PLANTED]))
    assert row["estimate"] == pytest.approx(values[PLANTED].mean())
    np.testing.assert_allclose([row["low"], row["high"]], [low, high], atol=0.25 * (high - low))
    apart = table.loc[("Min-K%", "mean", "planted - never_trained")]
    assert apart["estimate"] == pytest.approx(values[PLANTED].mean() - values[NEVER].mean())
    assert (apart["null"], apart["unit"], apart["variable"]) == (0.0, "nats per token", "min_k")
    assert table.loc[("exact match, 8 tokens given", "mean", "unlabelled"), "n"] == 15


def test_a_chance_that_orders_paragraphs_as_another_metric_does_has_a_mean_alone(signature):
    table, agreement = lz.memory_table(signature), lz.memory_agreement(signature, "all")
    metric = "extraction in several tries, 8 tokens given"
    assert set(table.loc[metric].index.get_level_values("quantity")) == {"mean"}
    assert metric not in agreement.index.get_level_values("metric")


def test_other_groups_can_be_told_apart_and_without_two_to_tell_apart_there_is_no_auc(signature, make, arrays):
    turned = lz.memory_table(signature, "never_trained", "planted").xs("AUC", level="quantity")
    plain = lz.memory_table(signature).xs("AUC", level="quantity")
    np.testing.assert_allclose(turned["estimate"].values, 1 - plain["estimate"].values)
    alone = lz.memory_table(make(["x"] * 20 + ["y"] * 20 + ["z"] * 20, arrays))
    assert set(alone.index.get_level_values("quantity")) == {"mean"}


def test_paragraphs_without_a_metric_are_left_out_of_it_and_of_all_agreement(signature, arrays):
    dataset = signature.dataset.copy(deep=True)
    dataset["min_k"][:5] = np.nan
    some = MemorizationSignature(dataset)
    row = lz.memory_table(some).loc[("Min-K%", "AUC", "planted - never_trained")]
    u = stats.mannwhitneyu(arrays["min_k"][5:20], arrays["min_k"][NEVER]).statistic
    assert (row["estimate"], row["n"]) == (pytest.approx(u / (15 * 25)), 40)
    assert set(lz.memory_agreement(some, "all")["n"]) == {COUNT - 5}
    dataset["min_k"][:] = np.nan
    assert "Min-K%" not in [metric.words for metric in metrics_of(MemorizationSignature(dataset).dataset)]
    dataset["min_k_plus_plus"][PLANTED] = np.nan
    row = lz.memory_table(MemorizationSignature(dataset)).loc[("Min-K%++", "AUC", "planted - never_trained")]
    assert np.isnan(row["estimate"]) and row["n"] == 0


def test_agreement_is_spearmans_rho_within_each_group_and_over_all(signature):
    table = lz.memory_agreement(signature)
    metrics = [one for one in metrics_of(signature.dataset) if one.variable != "extraction_chance"]
    assert len(table) == 4 * len(metrics) * (len(metrics) - 1) / 2
    for group in ("all", *signature.groups):
        inside = np.isin(GROUP, signature.groups if group == "all" else [group])
        for i, one in enumerate(metrics):
            for other in metrics[i + 1 :]:
                row = table.loc[(one.words, other.words, group)]
                expected = stats.spearmanr(one.values[inside], other.values[inside])
                assert row["estimate"] == pytest.approx(expected.statistic), (one.words, other.words)
                if len(np.unique(one.values)) > 5 and len(np.unique(other.values)) > 5:  # scipy's p is of no ties
                    assert row["p_value"] == pytest.approx(expected.pvalue, abs=0.04)
                assert row["low"] <= row["estimate"] <= row["high"] and row["null"] == 0
    agree, apart = (
        table.loc[("log p of the text", "Min-K%", "all")],
        table.loc[("log p of the text", "Min-K%++", "all")],
    )
    assert agree["low"] > 0.9 and agree["p_value"] < 0.01
    assert apart["low"] < 0 < apart["high"] and apart["p_value"] > 0.05


def test_draws_are_ranked_anew_as_if_each_paragraph_stood_there_so_often():
    rng = np.random.default_rng(0)
    values, times = rng.integers(0, 5, (30, 3)).astype(float), rng.integers(0, 3, (6, 30))
    found = rank_correlations(values, times.astype(float))
    for draw, of_draw in zip(found, times, strict=True):
        np.testing.assert_allclose(draw, stats.spearmanr(np.repeat(values, of_draw, axis=0)).statistic)
    np.testing.assert_allclose(rank_correlations(values, times * 1.7), found)


def test_draws_are_the_same_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=(20, 2)), rng.integers(0, 3, (50, 20)).astype(float)
    whole = rank_correlations(values, times)
    monkeypatch.setattr("localize.analysis.memory.AT_ONCE", 7 * values.size)
    np.testing.assert_array_equal(rank_correlations(values, times), whole)


def test_the_null_of_single_paragraphs_is_as_wide_as_rho_of_nothing_is():
    values = np.random.default_rng(1).normal(size=(50, 2))
    (row,) = agreement_rows(values, np.arange(50), Draws(0, 4000))
    assert row["null_range_high"] == pytest.approx(1.96 / np.sqrt(49), rel=0.07)
    assert row["null_range_low"] == pytest.approx(-1.96 / np.sqrt(49), rel=0.07)


def test_copies_of_a_paragraph_add_no_certainty():
    """Ten copies of each of 12 paragraphs: the null is that of 12 paragraphs, not of 120, and so is the interval."""
    values = np.random.default_rng(2).normal(size=(12, 2))
    (alone,) = agreement_rows(values, np.arange(12), Draws(0))
    (copied,) = agreement_rows(np.repeat(values, 10, axis=0), np.repeat(np.arange(12), 10), Draws(0))
    assert copied["clusters"] == 12 and copied["n"] == 120
    for end in ("null_range_low", "null_range_high"):
        assert copied[end] == pytest.approx(alone[end], rel=0.1)
    wide = [row["high"] - row["low"] for row in (alone, copied)]
    assert wide[1] == pytest.approx(wide[0], rel=0.2)


def test_a_p_value_that_the_interval_contradicts_is_rough(monkeypatch):
    values = np.random.default_rng(3).normal(size=(30, 2))
    (plain,) = agreement_rows(values, np.arange(30), Draws(0))
    assert plain["low"] < 0 < plain["high"] and plain["p_value"] > 0.05 and not plain["rough"]
    monkeypatch.setattr("localize.analysis.memory.dealt_correlations", lambda *_: np.zeros((999, 2, 2)))
    (row,) = agreement_rows(values, np.arange(30), Draws(0))
    assert row["p_value"] == 0.001 and row["rough"]


def test_what_does_not_vary_or_has_too_few_clusters_has_no_correlation():
    constant = np.stack([np.arange(10.0), np.full(10, 0.1)], axis=1)
    (row,) = agreement_rows(constant, np.arange(10), Draws(0))
    assert np.isnan(row["estimate"]) and np.isnan(row["p_value"]) and row["n"] == 10
    (row,) = agreement_rows(np.random.default_rng(0).normal(size=(10, 2)), np.arange(10) % 2, Draws(0))
    assert np.isnan(row["estimate"]) and row["clusters"] == 2


def test_bad_input_gets_one_line(signature, make):
    for call, told in (
        (lambda: lz.memory_table(make(["a", "b"])), "memory_table: the signature has no 'min_k'; measure it with localize.memory(model, "
         "paragraphs)."),
        (lambda: lz.memory_agreement(make(["a", "b"])), "memory_agreement: the signature has no 'min_k'; measure it with "
         "localize.memory(model, paragraphs)."),
        (lambda: lz.memory_table(signature, "planted"), "memory_table: a='planted' and b=None; two groups are needed, of "
         "never_trained, planted, unlabelled."),
        (lambda: lz.memory_table(signature, "planted", "planted"), "memory_table: a='planted' and b='planted'; two groups are needed, "
         "of never_trained, planted, unlabelled."),
        (lambda: lz.memory_agreement(signature, "x"), "signature: no group 'x'; it has never_trained, planted, unlabelled."),
    ):  # fmt: skip
        with pytest.raises(lz.SignatureError) as error:
            call()
        assert str(error.value) == told


def test_few_clusters_are_told(signature):
    with pytest.warns(UserWarning, match=r"^few effective clusters \(never_trained 25"):
        lz.memory_table(signature)


def test_a_step_of_a_training_has_its_table(gpt2, rows):
    watch = lz.Watch(rows.with_groups(["planted", "never_trained"] * 3 + ["planted"]), at=[0], measures="memory")
    watch(gpt2, 0)
    with pytest.raises(
        lz.SignatureError, match=r"^memory_table: the signature is over training_step; choose one model"
    ):
        lz.memory_table(watch.signature())
    table = lz.memory_table(watch.signature().at(training_step=0))
    assert table.loc[("Min-K%", "AUC", "planted - never_trained"), "n"] == 7
