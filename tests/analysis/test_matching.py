"""Whether a group is harder to corrupt or only surer to begin with: planted answers, and numbers by hand."""

import numpy as np
import pytest

from localize.analysis.alike import Alike, matched_rows
from localize.analysis.draws import Draws
from localize.analysis.matching import (
    BY_TOKEN,
    CONFIDENCE,
    LATER,
    LOST,
    MATCHED,
    MAY_BE_ALL,
    NO_SUPPORT,
    RISE,
    SATURATES,
    TOO_FEW,
    WRONG,
    matching_note,
    plain_rows,
    with_verdict,
)
from localize.analysis.rows import COLUMNS
from localize.errors import SignatureError
from localize.statistics import (
    UNBOUNDED,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
)
from localize.statistics.overlap import has_counterpart

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

A, B = "memorized", "not_memorized"
DIFFERENCE = f"{A} - {B}"
TWO = [A] * 60 + [B] * 60
IN_A = np.array(TWO) == A


def sure(seed, gap, count=120):
    """Confidence of paragraphs, higher in the first group by `gap` logits, and of each of four tokens about it."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(np.where(np.arange(count) < count // 2, gap / 2, -gap / 2), 1.0)
    return 1 / (1 + np.exp(-logit[:, None] - rng.normal(0, 0.5, (count, 4))))


def of(make, confidence, lost, *, error=None, before=50, group=TWO, **options):
    """A signature of paragraphs that lose so many tokens at every position but the first, where none is lost."""
    count = len(confidence)
    after = np.broadcast_to(before - lost[:, None, None], (count, 2, 6)).copy()
    after[..., 0] = before
    rise = np.broadcast_to(0.1 * lost[:, None, None], (count, 2, 6))
    arrays = {
        "unperturbed_exact_match": np.full(count, before),
        "perturbed_exact_match": after.clip(min=0),
        "unperturbed_nll": np.zeros(count),
        "perturbed_nll": rise.clip(min=0),
        "unperturbed_token_nll": -np.log(confidence),
        "perturbed_token_error": np.zeros((count, 4)) if error is None else error,
    }
    return make(group, arrays, continuation="own", **options)


def by_confidence(seed, confidence, effect=0.0):
    """Tokens lost, the more the less confident, and more by `effect` in the first group."""
    lost = 40 * (1 - confidence.mean(1)) + np.random.default_rng(seed).normal(0, 2, len(confidence))
    return (lost + effect * (np.arange(len(lost)) < len(lost) // 2)).clip(0, 50)


def test_every_loss_stands_plain_and_matched_for_both_groups_and_their_difference(make):
    confidence = sure(0, 1.0)
    table = of(make, confidence, by_confidence(1, confidence)).matched_drop(resamples=100)
    names = [CONFIDENCE]
    for loss, matched in ((RISE, MATCHED), (WRONG, BY_TOKEN), (LOST, MATCHED), (LATER, MATCHED)):
        names += [loss, matched.format(loss)]
    assert table.index.tolist() == [(name, group) for name in names for group in (A, B, DIFFERENCE)]
    assert table.columns.tolist() == [*COLUMNS, "confidence", "support", "verdict"]


def test_plain_rows_are_the_statistics_of_plain_means(make):
    confidence, clusters = sure(0, 1.0), np.concatenate([np.repeat(np.arange(20), 3), np.arange(100, 160)])
    lost, error = by_confidence(1, confidence), np.random.default_rng(2).random((120, 4))
    table = of(make, confidence, lost, error=error, cluster=clusters).matched_drop(seed=3, resamples=100)
    values = {CONFIDENCE: confidence.mean(1), LOST: lost * 5 / 6, LATER: lost, RISE: 0.1 * lost, WRONG: error.mean(1)}
    for name, expected in values.items():
        row = table.loc[(name, DIFFERENCE)]
        interval = cluster_bootstrap_difference(expected, IN_A, ~IN_A, clusters, seed=3, resamples=100)
        test = cluster_permutation_difference(expected, IN_A, ~IN_A, clusters, seed=3, permutations=100)
        got = row[["estimate", "low", "high", "null_range_low", "null_range_high", "p_value"]].tolist()
        wanted = [interval.estimate, interval.low, interval.high, test.null_low, test.null_high, test.p_value]
        np.testing.assert_allclose(got, wanted, rtol=1e-9, err_msg=name)
        assert table.loc[(name, A), "estimate"] == pytest.approx(expected[IN_A].mean())
        assert table.loc[(name, A), "effective_clusters"] == effective_clusters(clusters[IN_A])
        assert table.loc[(name, B), "confidence"] == pytest.approx(confidence[~IN_A].mean())
        assert row["confidence"] == pytest.approx(confidence[IN_A].mean() - confidence[~IN_A].mean())
        assert table.loc[name, "support"].tolist() == [1, 1, 1]


def test_who_is_only_surer_is_not_harder_to_corrupt():
    plain, matched, p_values = [], [], []
    for seed in range(20):
        confidence, draws = sure(seed, 1.5), Draws(seed, 100)
        lost = by_confidence(100 + seed, confidence)
        plain.append(lost[IN_A].mean() - lost[~IN_A].mean())
        of_all, on = (np.array(TWO), np.arange(120), (A, B), UNBOUNDED), confidence.mean(1)
        matched_ones = matched_rows("", lost, *of_all, Alike.in_confidence(on, ""))
        row = with_verdict(matched_ones, plain_rows("", lost, on, *of_all, draws)[-1], A, B)[-1]
        matched.append(row["estimate"])
        p_values.append(row["p_value"])
        assert abs(row["confidence"]) < 0.05
        if row["p_value"] > 0.05:
            assert row["verdict"].startswith(
                f"at like confidence no significant difference between {A} and {B}{MAY_BE_ALL}"
            )
    assert np.mean(plain) < -9
    assert abs(np.mean(matched)) < 0.4
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15
    assert 0.3 < np.mean(p_values) < 0.7


@pytest.mark.parametrize(("effect", "words"), [(-6.0, "harder"), (8.0, "easier")])
def test_a_difference_at_like_confidence_is_found_and_said(make, effect, words):
    confidence = sure(5, 1.0)
    table = of(make, confidence, by_confidence(6, confidence, effect)).matched_drop(resamples=200)
    row = table.loc[(MATCHED.format(LATER), DIFFERENCE)]
    assert row["estimate"] == pytest.approx(effect, abs=1.5)
    assert row["p_value"] < 0.02
    assert row["verdict"].startswith(f"at like confidence {A} is {words} to corrupt than {B} ({row['estimate']:.3g} [")
    one, other = (table.loc[(MATCHED.format(LATER), name), "estimate"] for name in (A, B))
    assert one - other == pytest.approx(row["estimate"])


def test_support_is_the_share_with_a_counterpart(make):
    confidence = np.repeat(np.linspace(0.1, 0.5, 60), 4).reshape(60, 4)
    confidence = np.concatenate([confidence + 0.2, confidence])  # overlap between .3 and .5
    row = of(make, confidence, by_confidence(0, confidence)).matched_drop(resamples=100).loc[MATCHED.format(LOST)]
    near = has_counterpart(np.log(confidence[:, 0] / (1 - confidence[:, 0])), IN_A)
    inside_a, inside_b = near[IN_A].sum(), near[~IN_A].sum()
    assert (confidence[:60, 0] <= 0.5).sum() <= inside_a < 50 and (confidence[60:, 0] >= 0.3).sum() <= inside_b < 50
    assert row["n"].tolist() == [inside_a, inside_b, inside_a + inside_b]
    assert row["support"].tolist() == pytest.approx([inside_a / 60, inside_b / 60, min(inside_a, inside_b) / 60])
    assert 0.7 * inside_a < row.loc[A, "effective_clusters"] <= inside_a
    assert abs(row.loc[DIFFERENCE, "confidence"]) < 0.02


def test_without_common_support_nothing_is_told_but_that(make):
    confidence = np.where(IN_A[:, None], 0.9, 0.2) + 0.05 * sure(0, 0.0)
    signature = of(make, confidence, by_confidence(0, confidence))
    table = signature.matched_drop(resamples=100)
    for quantity in (MATCHED.format(LATER), BY_TOKEN.format(WRONG)):
        rows = table.loc[quantity]
        assert rows[["estimate", "low", "p_value", "confidence"]].isna().all(axis=None)
        assert rows["n"].tolist() == rows["support"].tolist() == [0, 0, 0]
        assert rows.loc[DIFFERENCE, "verdict"] == NO_SUPPORT
    assert table.loc[(LATER, DIFFERENCE), "verdict"].startswith(f"{A} is harder to corrupt than {B} (")
    assert matching_note(signature.dataset).startswith(
        f"Tokens that a replaced prefix token makes wrong: {NO_SUPPORT}."
    )


def test_tokens_are_matched_on_their_own_confidence_and_overlap_more(make):
    confidence = sure(7, 4.0)
    rng = np.random.default_rng(0)
    confidence = 1 / (1 + np.exp(-np.log(confidence / (1 - confidence)) - rng.normal(0, 2.0, confidence.shape)))
    error = (1 - confidence) * 0.8 + rng.uniform(0, 0.1, (120, 4))
    table = of(make, confidence, by_confidence(0, confidence), error=error).matched_drop(resamples=100)
    plain, matched = table.loc[(WRONG, DIFFERENCE)], table.loc[(BY_TOKEN.format(WRONG), DIFFERENCE)]
    assert plain["estimate"] < -0.2
    assert abs(matched["estimate"]) < 0.03
    assert matched["support"] > table.loc[(MATCHED.format(LOST), DIFFERENCE), "support"] + 0.1


def test_only_tokens_before_the_first_error_can_be_made_wrong(make):
    confidence, error = sure(0, 0.0), np.random.default_rng(0).random((120, 4))
    before = np.arange(120) % 4  # of four tokens
    arrays = {
        "unperturbed_exact_match": before,
        "perturbed_exact_match": np.full((120, 2, 6), 1),
        "unperturbed_nll": np.ones(120),
        "perturbed_nll": np.full((120, 2, 6), 0.5),
        "unperturbed_token_nll": -np.log(confidence),
        "perturbed_token_error": error,
    }
    table = make(TWO, arrays, continuation="true").matched_drop(resamples=100)
    of_paragraph = [error[i, : before[i]].mean() for i in range(60) if before[i]]
    assert table.loc[(WRONG, A), "estimate"] == pytest.approx(np.mean(of_paragraph))
    assert table.loc[(WRONG, A), "n"] == 45
    assert table.loc[(BY_TOKEN.format(WRONG), A), "n"] <= 45
    # What a replacement gains is no loss of exact match; a lower NLL is a negative rise.
    assert table.loc[(LOST, A), "estimate"] == pytest.approx((before[:60] - 1).clip(min=0).mean())
    assert table.loc[(RISE, A), "estimate"] == pytest.approx(-0.5)


def test_turned_round_the_sign_and_the_words_change(make):
    confidence = sure(5, 1.0)
    signature = of(make, confidence, by_confidence(6, confidence, -6.0))
    one, other = (signature.matched_drop(*pair, resamples=200).loc[MATCHED.format(LATER)] for pair in ((A, B), (B, A)))
    row = other.loc[f"{B} - {A}"]
    assert row["estimate"] == pytest.approx(-one.loc[DIFFERENCE, "estimate"])
    assert row["verdict"].startswith(f"at like confidence {B} is easier to corrupt than {A} (")


def test_other_groups_and_other_kinds_have_no_say(make):
    confidence = sure(5, 1.0)
    lost = by_confidence(6, confidence)
    alone = of(make, confidence, lost).matched_drop(resamples=100)
    more = np.concatenate([confidence, sure(9, 0.0, 10)])
    third = of(make, more, np.concatenate([lost, np.full(10, 3.0)]), group=[*TWO, *["partial"] * 10])
    assert third.matched_drop(resamples=100).equals(alone)
    assert of(make, confidence, lost).matched_drop(kind="uniform", resamples=100).equals(alone)


def test_one_cluster_is_too_few(make):
    confidence = sure(5, 0.0)
    signature = of(make, confidence, by_confidence(6, confidence), cluster=np.where(IN_A, 0, np.arange(120)))
    table = signature.matched_drop(resamples=100)
    for quantity in (LATER, MATCHED.format(LATER)):
        assert table.loc[(quantity, DIFFERENCE), "verdict"].startswith(TOO_FEW)


def test_exact_match_and_nll_rise_stand_reconciled(make):
    """Lost exact match follows the opposite of the NLL rise: the verdict says so, and the note tells why and which leads."""
    rng, confidence = np.random.default_rng(3), sure(5, 1.0)
    lost = np.where(IN_A, 10.0, 30.0) + rng.normal(0, 2, 120)
    signature = of(make, confidence, lost)
    agreeing = signature.matched_drop(resamples=100).loc[(LATER, DIFFERENCE), "verdict"]
    assert agreeing.endswith(SATURATES.format(says="says the same"))
    assert "saturates" not in matching_note(signature.dataset)
    arrays = {name: array.values for name, array in signature.dataset.data_vars.items()}
    arrays["perturbed_nll"] = 6.0 - arrays["perturbed_nll"]
    arrays["perturbed_nll"][..., 0] = 0.0
    other = make(TWO, arrays, continuation="own")
    table = other.matched_drop(resamples=100)
    assert table.loc[(LATER, DIFFERENCE), "verdict"].endswith(SATURATES.format(says="does not say the same"))
    assert table.loc[(RISE, DIFFERENCE), "verdict"].startswith(f"{A} is easier to corrupt than {B} (")
    note = matching_note(other.dataset)
    assert "By NLL rise memorized is easier to corrupt than not memorized (" in note
    assert "by lost exact match memorized is harder to corrupt than not memorized (" in note
    assert note.endswith("exact match counts nothing after the first error and saturates; the NLL rise leads.")


def test_few_clusters_are_told(make):
    confidence = sure(5, 0.0, 10)
    signature = of(make, confidence, np.arange(10.0), group=[A] * 5 + [B] * 5)
    with pytest.warns(
        UserWarning, match=r"^few effective clusters \(memorized 5\.0 of 5 paragraphs, not_memorized 5\.0 of 5"
    ):
        signature.matched_drop(resamples=100)


def test_what_cannot_be_compared_is_said_in_one_line(make):
    confidence = sure(0, 0.0)
    signature = of(make, confidence, by_confidence(0, confidence))
    for options, message in (
        ({"a": "x"}, "signature: no group 'x'; it has memorized, not_memorized."),
        ({"b": A}, "matched_drop: a='memorized' and b='memorized' are one group; two are compared."),
        ({"kind": "neutral"}, "matched_drop: kind='neutral' was not measured; the signature has uniform."),
    ):
        with pytest.raises(SignatureError) as told:
            signature.matched_drop(**options)
        assert str(told.value) == message
    with pytest.raises(SignatureError) as told:
        make(TWO).matched_drop()
    assert str(told.value) == (
        "matched_drop: the signature has no 'perturbed_exact_match'; measure it with localize.perturb_prefix(model, paragraphs)."
    )


def test_a_measured_model_has_every_row(measured):
    table = measured.matched_drop(resamples=100)
    assert table.loc[[CONFIDENCE, LOST, LATER, RISE, WRONG], "estimate"].notna().all()
    assert table["verdict"].groupby("quantity").agg(lambda words: (words != "").sum()).max() == 1
