"""Forgetting: known floors, drops and times are found again; windows, nulls and what cannot be told."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.draws import Draws

EARLY, MIDDLE, LATE, WHOLE = (0, 0.25), (0.25, 0.5), (0.5, 1), (0, 1)
WINDOWS = [(np.nan, np.nan)] * 4 + [EARLY] * 3 + [MIDDLE] * 3 + [LATE] * 2 + [WHOLE] * 2
COPIES = [0] * 4 + [8] * 10
STEPS = [0, 200, 300, 320, 350, 375, 400, 450, 500, 600, 700, 750, 800, 900, 1000, 1200, 1500]
TOTAL = 1500
TRUTH = {EARLY: (0.05, 0.6, 80.0), MIDDLE: (0.1, 0.5, 120.0)}
HELD = 0.01

pytestmark = pytest.mark.filterwarnings("ignore:forgetting_table. (one|2|3|4) seed")


def curves(seeds=1):
    """Gap along seed, step, paragraph: of each seed another floor, .01 apart; after t_end = 375 and 750 as in TRUTH."""
    at, gap = np.array(STEPS, float), np.full((seeds, len(STEPS), 14), HELD)
    for window, (floor, drop, tau) in TRUTH.items():
        since = at - window[1] * TOTAL
        fading = drop * np.where(since >= 0, np.exp(-np.maximum(since, 0) / tau), 0.3)
        for seed in range(seeds):
            rows = [row for row, of in enumerate(WINDOWS) if of == window]
            gap[seed][:, rows] = (floor + 0.01 * seed + fading * (1 + 0.1 * seed))[:, None]
    return gap


def runs(gap):
    """NLL of the planted run and its twin, paragraphs of unlike difficulty."""
    twin = 2 + np.arange(14) / 10 + np.zeros(gap.shape)
    return np.stack([twin - gap, twin])


@pytest.fixture(scope="module")
def five(make_training):
    return make_training(
        runs(curves(5)), copies=COPIES, windows=WINDOWS, steps=STEPS, runs=["planted", "twin"], seeds=range(5),
        training={"steps": TOTAL, "batch": 4, "stages": []},
    )  # fmt: skip


def test_floor_drop_and_time_are_found_again_with_students_interval_over_seeds(five):
    table = lz.forgetting_table(five)
    seeds = np.arange(5)
    for window, words in ((EARLY, "0-25 %"), (MIDDLE, "25-50 %")):
        floor, drop, tau = TRUTH[window]
        rows = table.loc[words]
        for name, values in {"floor c": floor + 0.01 * seeds, "drop A": drop * (1 + 0.1 * seeds)}.items():
            low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
            np.testing.assert_allclose(
                rows.loc[name, ["estimate", "low", "high"]].astype(float), [values.mean(), low, high], rtol=1e-5
            )
        np.testing.assert_allclose(rows.loc["time constant tau", "estimate"], tau, rtol=1e-5)
        assert (rows["fitted"] == 5).all() and (rows["unit"] == "seeds").all()
        assert (rows["points"] == sum(step >= window[1] * TOTAL for step in STEPS)).all()


def test_the_curve_is_of_one_stage_and_other_text_is_told_by_the_gap_at_its_end(make_training):
    gap = curves(5)
    gap[:, STEPS.index(700) :, 4:7] = 0.4  # another stage brings it back
    stages = [{"name": "old", "steps": 600}, {"name": "new", "steps": 300}, {"name": "last", "steps": 600}]
    table = lz.forgetting_table(make_training(
        runs(gap), copies=COPIES, windows=[*WINDOWS[:7], *[(0, 0.4)] * 3, *WINDOWS[10:]], steps=STEPS, runs=["planted", "twin"],
        seeds=range(5), training={"steps": TOTAL, "batch": 4, "stages": stages},
    ))  # fmt: skip
    floor, _, tau = TRUTH[EARLY]
    rows = table.loc["0-25 %"]
    assert rows.loc["time constant tau", "estimate"] == pytest.approx(tau, rel=1e-5)
    assert rows.loc["floor c", "estimate"] == pytest.approx(floor + 0.02, rel=1e-5)
    assert (rows["points"] == sum(375 <= step <= 600 for step in STEPS)).all()
    assert rows.loc["gap at the end of old", "estimate"] == pytest.approx(gap[:, STEPS.index(600), 4].mean())
    assert rows.loc["gap at the end of new", "estimate"] == pytest.approx(0.4)
    assert rows.loc["share left at the end", "estimate"] == pytest.approx((0.4 / gap[:, STEPS.index(375), 4]).mean())
    ended = table.loc["0-40 %"]  # with its stage: nothing tells how it would have faded
    assert ended.index.tolist() == ["gap at the last exposure", "gap at the end of new", "gap at the end"]


def test_gaps_and_the_share_left_are_those_measured_at_the_windows_end_and_at_the_last_step(five):
    table, gap = lz.forgetting_table(five), curves(5)
    at = STEPS.index(375)
    first, last = gap[:, at, 4], gap[:, -1, 4]
    rows = table.loc["0-25 %"]
    assert rows.loc["gap at the last exposure", "estimate"] == pytest.approx(first.mean())
    assert rows.loc["gap at the end", "estimate"] == pytest.approx(last.mean())
    assert rows.loc["share left at the end", "estimate"] == pytest.approx((last / first).mean())
    low = stats.t.interval(0.95, 4, loc=(last / first).mean(), scale=stats.sem(last / first))[0]
    assert rows.loc["share left at the end", "low"] == pytest.approx(low)


def test_the_null_is_the_gap_of_held_out_paragraphs_at_the_same_steps(make_training):
    gap = curves(5)
    noise = np.random.default_rng(0).normal(0, 0.02, (5, len(STEPS), 4))
    gap[:, :, :4] += noise
    signature = make_training(
        runs(gap),
        copies=COPIES,
        windows=WINDOWS,
        steps=STEPS,
        runs=["planted", "twin"],
        seeds=range(5),
        training={"steps": TOTAL},
    )
    rows = lz.forgetting_table(signature).loc["25-50 %"]
    held, at = gap[:, :, :4].mean(2), STEPS.index(750)
    assert rows.loc["gap at the last exposure", "null"] == pytest.approx(held[:, at].mean())
    assert rows.loc["gap at the end", "null"] == pytest.approx(held[:, -1].mean())
    assert rows.loc["floor c", "null"] == pytest.approx(held[:, at:].mean())
    floors = TRUTH[MIDDLE][0] + 0.01 * np.arange(5)
    assert rows.loc["floor c", "p_value"] == pytest.approx(
        stats.ttest_rel(floors, held[:, at:].mean(1)).pvalue, rel=1e-4
    )
    assert rows.loc[["drop A", "time constant tau", "share left at the end"], "null"].isna().all()


def test_windows_that_never_end_before_the_training_does_are_left_out(five):
    assert list(lz.forgetting_table(five).index.unique("window")) == ["0-25 %", "25-50 %"]


def test_a_window_that_ends_between_two_measured_steps_begins_at_the_next(make_training):
    kept = [at for at, step in enumerate(STEPS) if step != 375]
    signature = make_training(
        runs(curves(5))[:, :, kept], copies=COPIES, windows=WINDOWS, steps=[STEPS[at] for at in kept], runs=["planted", "twin"],
        seeds=range(5), training={"steps": TOTAL},
    )  # fmt: skip
    rows = lz.forgetting_table(signature).loc["0-25 %"]
    assert rows.loc["gap at the last exposure", "estimate"] == pytest.approx(curves(5)[:, STEPS.index(400), 4].mean())
    np.testing.assert_allclose(rows.loc["drop A", "estimate"], 0.6 * 1.2, rtol=1e-5)  # at 375, not at 400


def test_of_one_seed_the_curve_is_fitted_anew_to_draws_of_clusters(make_training):
    gap = curves(1)[0]
    paragraph = np.random.default_rng(0).normal(1, 0.2, 14)
    clusters = np.arange(14)
    signature = make_training(
        runs(gap * paragraph), copies=COPIES, windows=WINDOWS, steps=STEPS, runs=["planted", "twin"], clusters=clusters,
        training={"steps": TOTAL},
    )  # fmt: skip
    rows = lz.forgetting_table(signature, resamples=100).loc["0-25 %"]
    # every paragraph has the same curve, times a factor: so have their means
    mean = Draws(0, 100).mean(0.05 * paragraph[4:7], clusters[4:7])
    assert rows.loc["floor c", "estimate"] == pytest.approx(float(mean.estimate))
    assert rows.loc["time constant tau", "estimate"] == pytest.approx(80)
    np.testing.assert_allclose(rows.loc["time constant tau", ["low", "high"]].astype(float), 80, rtol=1e-3)
    assert rows.loc["floor c", "low"] < 0.05 * paragraph[4:7].mean() < rows.loc["floor c", "high"]
    assert (rows["unit"] == "clusters").all() and rows.loc["floor c", "n"] == 3


def test_without_a_twin_the_gap_is_to_held_out_paragraphs_and_these_are_drawn_with_the_planted(make_training):
    gap = curves(1)[0] - HELD
    nll = 2 - gap
    signature = make_training(nll, copies=COPIES, windows=WINDOWS, steps=STEPS, training={"steps": TOTAL})
    rows = lz.forgetting_table(signature, resamples=100).loc["0-25 %"]
    np.testing.assert_allclose(rows.loc["floor c", "estimate"], 0.05 - HELD, rtol=1e-5)
    np.testing.assert_allclose(rows.loc["time constant tau", "estimate"], 80, rtol=1e-5)
    assert np.isnan(rows.loc["floor c", "null"]) and rows.loc["gap at the end", "null"] == 0
    harder = nll.copy()
    harder[:, :4] += np.array([0, 0.2, 0.4, 0.6])
    signature = make_training(harder, copies=COPIES, windows=WINDOWS, steps=STEPS, training={"steps": TOTAL})
    wider = lz.forgetting_table(signature, resamples=100).loc["0-25 %"]
    assert wider.loc["floor c", "estimate"] == pytest.approx(0.04 + 0.3, rel=1e-4)
    assert wider.loc["floor c", "high"] - wider.loc["floor c", "low"] > 0.3


def test_copies_choose_paragraphs(make_training):
    copies, gap = [0] * 4 + [8, 8, 2] + [8] * 7, curves(5)
    gap[:, :, 6] *= 0.5
    signature = make_training(
        runs(gap),
        copies=copies,
        windows=WINDOWS,
        steps=STEPS,
        runs=["planted", "twin"],
        seeds=range(5),
        training={"steps": TOTAL},
    )
    few, many = (lz.forgetting_table(signature, copies).loc["0-25 %"]["estimate"]["drop A"] for copies in (2, 8))
    assert (few, many) == (pytest.approx(0.36, rel=1e-4), pytest.approx(0.72, rel=1e-4))
    assert list(lz.forgetting_table(signature, 2).index.unique("window")) == ["0-25 %"]
    with pytest.raises(lz.SignatureError, match=r"^forgetting_table: no paragraph has copies=3; there are 2, 8\.$"):
        lz.forgetting_table(signature, 3)


def test_where_there_is_no_curve_numbers_are_nan_and_it_is_told(make_training):
    kept = [0, STEPS.index(375), STEPS.index(400), STEPS.index(1500)]
    few = make_training(
        runs(curves(5))[:, :, kept], copies=COPIES, windows=WINDOWS, steps=[STEPS[at] for at in kept], runs=["planted", "twin"],
        seeds=range(5), training={"steps": TOTAL},
    )  # fmt: skip
    with pytest.warns(UserWarning, match="^forgetting_table: ") as told:
        table = lz.forgetting_table(few)
    assert [str(one.message) for one in told] == [
        f"forgetting_table: window {words} was measured at {count} steps after its end; 4 are needed for a curve."
        for words, count in (("0-25 %", 3), ("25-50 %", 1))
    ]
    assert (
        table.loc["0-25 %"].loc[["floor c", "drop A", "time constant tau"], ["estimate", "low"]].isna().all(axis=None)
    )
    assert table.loc["0-25 %"].loc["share left at the end", "estimate"] > 0 and (table["fitted"] == 0).all()
    straight = curves(5)
    straight[1, :, 4:7] = 1 - np.array(STEPS)[:, None] * 5e-4
    with pytest.warns(
        UserWarning, match=r"^forgetting_table: window 0-25 % has no curve with a floor in 1 of 5 seeds\.$"
    ):
        table = lz.forgetting_table(
            make_training(
                runs(straight), copies=COPIES, windows=WINDOWS, steps=STEPS, runs=["planted", "twin"], seeds=range(5),
                training={"steps": TOTAL},
            )
        )  # fmt: skip
    assert table.loc[("0-25 %", "floor c"), "fitted"] == 4
    assert table.loc[("0-25 %", "floor c"), "estimate"] == pytest.approx(0.05 + 0.01 * np.mean([0, 2, 3, 4]), rel=1e-4)


def test_what_tells_no_window_that_ends_is_refused(make_training):
    def refusal(windows):
        named = {
            "copies": COPIES,
            "windows": windows,
            "steps": STEPS,
            "runs": ["planted", "twin"],
            "training": {"steps": TOTAL},
        }
        with pytest.raises(lz.SignatureError) as error:
            lz.forgetting_table(make_training(runs(curves(1)[0]), **named))
        return str(error.value)

    assert refusal(None) == (
        "forgetting_table: the signature does not tell 'window_start' and 'window_end' of planted paragraphs; "
        "they say when each was last shown."
    )
    late = [(np.nan, np.nan)] * 4 + [WHOLE] * 10
    assert refusal(late) == "forgetting_table: no window ends before the training and was measured after its end."


def test_without_its_length_told_the_training_ends_with_the_last_step_measured(five):
    from localize.signature.signature import MemorizationSignature as Signature

    dataset = five.dataset
    dataset.attrs.pop("training")
    assert lz.forgetting_table(Signature(dataset)).equals(lz.forgetting_table(five))
