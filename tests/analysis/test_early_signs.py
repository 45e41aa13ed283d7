"""Signs early in a training: rank correlations by scipy, the fit by a loop, and what nothing looks like."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.early_signs import FOLDS, PENALTY, TOGETHER, centred_ranks, held_out_fit

COPIES = np.array([0] * 10 + [2] * 20 + [8] * 20)
STEPS, SEEDS = [0, 5, 10, 50, 100], 5
TRAIT = np.random.default_rng(3).normal(size=50)
PLANTED = COPIES > 0

pytestmark = pytest.mark.filterwarnings("ignore:early_signs. (one|2) seed")


def numbers():
    """NLL along run, seed, step, paragraph: what is learned in the end follows copies, and within a level the trait."""
    rng = np.random.default_rng(0)
    nll = 3 + 0.1 * rng.normal(size=50) + 0.01 * rng.normal(size=(2, SEEDS, len(STEPS), 50))
    nll[0, :, 4] -= 0.1 * COPIES + 0.05 * TRAIT * PLANTED
    nll[0, :, 2] -= 0.02 * COPIES
    return nll


@pytest.fixture(scope="module")
def paired(make_training):
    return make_training(
        numbers(), copies=COPIES, windows=[(0.0, 1.0) if c else (np.nan, np.nan) for c in COPIES], steps=STEPS,
        runs=["planted", "twin"], seeds=range(SEEDS), training={"steps": 100, "batch": 4, "stages": []},
        traits={"rarity": TRAIT, "novelty": np.zeros(50)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(paired):
    return lz.early_signs(paired, resamples=200)


def test_rank_correlations_are_scipys_at_the_last_step_by_a_tenth_of_the_training(table):
    nll = numbers()
    learned = (nll[1] - nll[0])[:, 4][:, PLANTED]
    for sign, early in (
        ("NLL early", nll[0, :, 2]), ("fall of the NLL", nll[0, :, 0] - nll[0, :, 2]), ("pair effect early", (nll[1] - nll[0])[:, 2]),
        ("rarity of its words", np.tile(TRAIT, (SEEDS, 1))), ("copies", np.tile(COPIES, (SEEDS, 1))),
    ):  # fmt: skip
        own = [stats.spearmanr(early[seed, PLANTED], learned[seed]).statistic for seed in range(SEEDS)]
        row = table.loc[(sign, "all planted")]
        assert row["estimate"] == pytest.approx(np.mean(own))
        if np.ptp(own) < 1e-9:
            continue
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=np.mean(own), scale=stats.sem(own))
        np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [np.mean(own), low, high], rtol=1e-6)
        assert (row["step"], row["seeds"], row["unit"], row["n"]) == (10, SEEDS, "seeds", 40)


def test_signs_are_read_at_the_share_asked_for(paired):
    assert set(lz.early_signs(paired, 0.06, resamples=5)["step"]) == {5}
    assert set(lz.early_signs(paired, 0.5, resamples=5)["step"]) == {50}


def test_within_levels_copies_drop_out_and_what_never_varies_is_no_sign(table):
    alike = table.xs("planted alike", level="among")
    assert list(alike.index) == ["rarity of its words", "NLL early", "fall of the NLL", "pair effect early", TOGETHER]
    assert alike.loc["rarity of its words", "estimate"] > 0.9 and alike.loc["rarity of its words", "p_value"] < 0.01
    assert abs(alike.loc["pair effect early", "estimate"]) < 0.3
    assert table.loc[("copies", "all planted"), "p_value"] < 0.01
    nulls = table[["null_range_low", "null_range_high"]].astype(float)
    assert (nulls["null_range_low"] < 0.05).all() and (nulls["null_range_high"] > -0.05).all()
    assert (nulls.abs() < 0.6).all(axis=None)
    assert alike.loc[TOGETHER, "estimate"] > 0.8


def test_the_pooled_correlation_within_levels_is_that_of_ranks_within_each(table):
    nll = numbers()
    learned, early = (nll[1] - nll[0])[0, 4, PLANTED], nll[0, 0, 2, PLANTED]
    ranks = [np.concatenate([stats.rankdata(v[:20]) - 10.5, stats.rankdata(v[20:]) - 10.5]) for v in (learned, early)]
    level = np.repeat([0, 1], 20)
    ours = [centred_ranks(v[None], level)[0] for v in (learned, early)]
    np.testing.assert_allclose(np.corrcoef(*ours)[0, 1], np.corrcoef(*ranks)[0, 1])


def test_each_text_is_predicted_from_others_alone():
    rng = np.random.default_rng(5)
    signs, target, fold = rng.normal(size=(2, 30, 3)), rng.normal(size=(2, 30)), np.arange(30) % FOLDS
    found = held_out_fit(signs, target, fold)
    for seed in range(2):
        for text in range(30):
            x, y = signs[seed, fold != fold[text]], target[seed, fold != fold[text]]
            weights = np.linalg.inv(x.T @ x + PENALTY * np.eye(3)) @ x.T @ y
            assert found[seed, text] == pytest.approx(signs[seed, text] @ weights)
    changed = target.copy()
    changed[:, 7] += 100
    np.testing.assert_allclose(held_out_fit(signs, changed, fold)[:, 7], found[:, 7])


def test_what_cannot_be_told_is_refused(paired):
    with pytest.raises(lz.SignatureError, match=r"^early_signs: share=1.0 must lie between 0 and 1\.$"):
        lz.early_signs(paired, 1.0)
    with pytest.raises(
        lz.SignatureError,
        match=r"^early_signs: nothing was measured in the first 2% of 100 steps; the first .* is 5\.$",
    ):
        lz.early_signs(paired, 0.02)
