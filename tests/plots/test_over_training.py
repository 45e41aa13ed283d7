"""Figures of signatures over training draw the numbers of their tables, with what nothing would look like in grey."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.draws import Draws
from localize.plots import catalogue
from localize.plots.theme import NULL, OTHER_COLOURS
from localize.statistics import cluster_bootstrap
from localize.statistics.seeds import seed_interval

STEPS = [0, 100, 200, 250, 300, 400, 600, 1000]
EARLY, LATE = (0, 0.2), (0.5, 1)
COPIES = np.array([0] * 6 + [2, 2, 8, 8] * 2)
WINDOWS = [(np.nan, np.nan)] * 6 + [EARLY] * 4 + [LATE] * 4
CLUSTERS = np.array([0, 0, 1, 1, 2, 2, *range(3, 11)])
SHOWN = ["shown in 0–20% of the training (n = 4)", "shown in 50–100% of the training (n = 4)"]
HELD_OUT = "null: held-out paragraphs, never trained on"
STAGES = [{"name": "<b>first</b>", "steps": 600}, {"name": "second", "steps": 400}]

pytestmark = pytest.mark.filterwarnings("ignore:(dose|forgetting)_table. ")


def numbers(seeds=5):
    """NLL and exact match along run, seed, step, paragraph."""
    rng, at = np.random.default_rng(0), np.array(STEPS, float)
    gap = np.zeros((len(STEPS), 14))
    gap[:, 6:10] = np.where(at < 200, at / 200, 0.1 + 0.9 * np.exp(-(at - 200) / 90))[:, None]
    gap[:, 10:] = np.maximum(at - 500, 0)[:, None] / 500
    nll = 3 + rng.normal(0, 0.1, 14) + rng.normal(0, 0.02, (2, seeds, len(STEPS), 14))
    nll[0] -= gap * np.log2(1 + COPIES) / 4 * rng.uniform(0.9, 1.1, (seeds, 1, 1))
    return nll, rng.integers(0, 9, nll.shape)


def made(make_training, seeds=5, twin=True, **options):
    nll, exact = numbers(seeds)
    runs = slice(None) if twin else 0
    nll, exact = (values[runs] if seeds > 1 else values[runs][..., 0, :, :] for values in (nll, exact))
    named = {"copies": COPIES, "windows": WINDOWS, "steps": STEPS, "training": {"steps": 1000, "stages": []}}
    named |= {"runs": ["planted", "twin"] if twin else [], "seeds": range(seeds) if seeds > 1 else []}
    return make_training(nll, exact, **(named | options))


@pytest.fixture(scope="module")
def paired(make_training):
    return made(make_training)


@pytest.fixture(scope="module")
def alone(make_training):
    return made(make_training, seeds=1, twin=False, clusters=CLUSTERS)


def traces(figure, what, panel=0):
    """Those of a role in one panel."""
    axis = "x" if panel == 0 else f"x{panel + 1}"
    return [trace for trace in figure.data if trace.meta["what"] == what and trace.xaxis == axis]


def legend(figure):
    """Names in the legend, in its order."""
    ranked = sorted(figure.data, key=lambda trace: trace.legendrank or 1000)
    return [trace.name for trace in ranked if trace.showlegend and not trace.name.startswith("~")]


def titles(figure):
    return [note.text for note in figure.layout.annotations]


def ends(bars):
    return np.asarray(bars.y) - bars.error_y.arrayminus, np.asarray(bars.y) + bars.error_y.array


@pytest.mark.parametrize("which", ["paired", "alone"])
def test_every_point_bar_and_null_of_the_doses_is_the_tables(which, request):
    signature = request.getfixturevalue(which)
    figure, table = plots.dose(signature), lz.dose_table(signature)
    gap = "pair effect" if which == "paired" else "unmatched gap"
    for panel, quantity in enumerate((gap, "exact match")):
        for trace, window in zip(traces(figure, "mean", panel), ("0-20 %", "50-100 %"), strict=True):
            rows = table.xs((window, quantity), level=("window", "quantity"))
            np.testing.assert_allclose(trace.y, rows["estimate"])
            np.testing.assert_allclose(ends(trace), [rows["low"], rows["high"]])
            assert list(trace.customdata) == [2, 8]
            np.testing.assert_allclose(trace.x, np.log2([2, 8]), atol=0.3)
        rows = table.xs(quantity, level="quantity")
        kind = "range" if quantity == "unmatched gap" else "mean"
        (band,) = traces(figure, "null interval", panel)
        assert np.nanmin(band.y) == pytest.approx(rows[f"null_{kind}_low"].min())
        assert np.nanmax(band.y) == pytest.approx(rows[f"null_{kind}_high"].max())
        (line,) = traces(figure, "null", panel)
        assert line.y[0] == pytest.approx(rows["null"].iloc[0])


def test_doses_say_whether_they_are_of_pairs_after_how_many_steps_and_what_intervals_are_over(paired, alone):
    figure = plots.dose(paired, step=400)
    assert titles(figure) == [
        "<b>(a)</b> What copies took off the NLL, beside a twin run", "after 400 steps; 95% intervals over 5 seeds",
        "<b>(b)</b> What is recited of them", "after 400 steps; 95% intervals over 5 seeds",
    ]  # fmt: skip
    assert figure.layout.yaxis.title.text == "NLL, twin − planted run (nats per token)"
    assert figure.layout.xaxis.ticktext == ("2", "8")
    assert legend(figure) == [*SHOWN, HELD_OUT]
    table = lz.dose_table(paired, step=400).xs(("0-20 %", "pair effect"), level=("window", "quantity"))
    np.testing.assert_allclose(traces(figure, "mean")[0].y, table["estimate"])
    figure = plots.dose(alone)
    assert titles(figure)[:2] == [
        "<b>(a)</b> What copies took off the NLL (not matched)", "after 1000 steps; one seed; 95% intervals over clusters"
    ]  # fmt: skip
    assert legend(figure)[2:] == ["null: labels dealt out anew in (a)", f"{HELD_OUT}, in (b)"]


def test_forgetting_draws_the_gap_its_interval_and_the_fitted_curve_from_the_windows_end(paired):
    figure, nll = plots.forgetting(paired), numbers()[0]
    gap, table = nll[1] - nll[0], lz.forgetting_table(paired)
    early, after, late = traces(figure, "mean")
    whole = gap[:, :, 6:10].mean(2)
    np.testing.assert_allclose([*early.y, *after.y], whole.mean(0))
    assert (early.mode, list(early.x), after.mode) == ("lines+markers", STEPS[:3], "markers")
    np.testing.assert_allclose(late.y, gap[:, :, 10:].mean((0, 2)))
    interval = seed_interval(whole)
    bands = traces(figure, "interval")
    assert np.nanmin(bands[0].y) == pytest.approx(interval.low.min()) and np.nanmax(bands[0].y) == pytest.approx(
        interval.high.max()
    )
    (fit,) = traces(figure, "fit")
    floor, drop = (table.loc[("0-20 %", name), "estimate"] for name in ("floor c", "drop A"))
    assert (fit.x[0], fit.x[-1], fit.line.dash) == (200, 1000, "dash")
    assert fit.y[0] == pytest.approx(floor + drop) and fit.y[-1] == pytest.approx(floor, abs=0.01)
    held = seed_interval(gap[:, :, :6].mean(2))
    (null,), (band,) = traces(figure, "null"), traces(figure, "null interval")
    np.testing.assert_allclose(null.y, held.estimate)
    assert null.line.color == NULL and np.nanmin(band.y) == pytest.approx(held.low.min())


def test_bars_of_forgetting_say_when_paragraphs_were_shown_and_hide_nothing(paired):
    figure = plots.forgetting(paired)
    bars = traces(figure, "window")
    assert [list(bar.x) for bar in bars] == [[0, 200], [500, 1000]]
    assert (
        [bar.line.color for bar in bars]
        == list(OTHER_COLOURS[:2])
        == [traces(figure, "mean")[at].line.color for at in (0, 2)]
    )
    highest = max(np.nanmax(trace.y) for what in ("mean", "interval", "fit") for trace in traces(figure, what))
    assert min(bar.y[0] for bar in bars) > highest and bars[0].y[0] > bars[1].y[0]
    assert figure.layout.yaxis.range[1] > bars[0].y[0]
    assert legend(figure) == [*SHOWN, HELD_OUT]


def test_without_a_twin_and_of_one_seed_forgetting_draws_clusters_of_both_groups(alone):
    figure, nll = plots.forgetting(alone), alone["nll"].values
    held, late = np.arange(14) < 6, np.arange(14) >= 10
    interval = Draws(0).difference(nll.T, held, late, CLUSTERS)[0]
    *_, line = traces(figure, "mean")
    np.testing.assert_allclose(line.y, interval.estimate)
    band = traces(figure, "interval")[-1]
    assert np.nanmin(band.y) == pytest.approx(interval.low.min()) and np.nanmax(band.y) == pytest.approx(
        interval.high.max()
    )
    assert titles(figure)[1].endswith("one seed; 95% intervals over clusters; difficulty not matched")
    np.testing.assert_array_equal(traces(figure, "null")[0].y, 0)


@pytest.mark.parametrize(("panel", "name"), [(0, "nll"), (1, "exact_match")])
def test_the_course_of_the_training_is_that_of_planted_paragraphs_these_in_the_twin_and_held_out_ones(
    paired, panel, name
):
    figure, values = plots.training(paired), numbers()[panel].astype(float)
    planted, twin = traces(figure, "mean", panel)
    (null,) = traces(figure, "null", panel)
    for trace, of in ((planted, values[0][..., 6:]), (twin, values[1][..., 6:]), (null, values[0][..., :6])):
        interval = seed_interval(of.mean(2))
        np.testing.assert_allclose(trace.y, interval.estimate)
        np.testing.assert_array_equal(trace.x, STEPS)
    band = traces(figure, "interval", panel)[0]
    assert np.nanmax(band.y) == pytest.approx(
        np.clip(seed_interval(values[0][..., 6:].mean(2)).high, 0, 8 if panel else None).max()
    )
    assert null.line.color == NULL and len({planted.line.color, twin.line.color, NULL}) == 3


def test_of_one_seed_the_course_has_bands_over_clusters_and_no_twin(alone):
    figure = plots.training(alone)
    (planted,) = traces(figure, "mean")
    interval = cluster_bootstrap(alone["nll"].values.T[6:], CLUSTERS[6:], seed=0)
    np.testing.assert_allclose(planted.y, interval.estimate)
    bands = [trace for trace in traces(figure, "interval") if trace.name.startswith("planted")]  # what is rough apart
    assert max(np.nanmax(band.y) for band in bands) == pytest.approx(interval.high.max())
    assert legend(figure) == ["planted paragraphs (n = 8)", f"{HELD_OUT} (n = 6)"]


def test_levels_of_a_single_cluster_have_no_bars_and_leave_the_band_of_the_others(make_training):
    figure = plots.dose(made(make_training, seeds=1, twin=False, clusters=[*CLUSTERS[:6], 3, 3, 4, 5, 6, 7, 8, 9]))
    early, late = traces(figure, "mean")
    assert (
        np.isnan(early.error_y.array[0])
        and np.isfinite(early.error_y.array[1])
        and np.isfinite(late.error_y.array).all()
    )
    assert np.isfinite(traces(figure, "null interval")[0].y).sum() == 8  # four places, low and high


def test_stages_are_parted_by_lines_and_named_literally(make_training):
    signature = made(make_training, training={"steps": 1000, "stages": STAGES})
    for draw in (plots.training, plots.forgetting):
        figure = draw(signature)
        assert [list(line.x) for line in traces(figure, "rule")] == [[600, 600]]
        assert titles(figure)[-1] == "Upright lines part the stages of the training: &lt;b&gt;first&lt;/b&gt;, second."
        assert plots.column(figure).layout.width == 350


def test_they_are_the_figures_of_training_and_those_that_cannot_be_drawn_are_left_out(paired, make_training):
    drawn = catalogue.training_figures_of(paired)
    assert list(drawn) == ["training", "dose", "forgetting", "early_signs"]
    for name, one in drawn.items():
        assert one.figure.to_json() == getattr(plots, name)(paired).to_json()
        assert one.title and "95% intervals" in one.caption
    never = made(make_training, windows=[(np.nan, np.nan)] * 6 + [(0, 1)] * 8)
    assert list(catalogue.training_figures_of(never)) == ["training", "dose", "early_signs"]
    untrained = made(make_training, copies=np.zeros(14, int), windows=None)
    assert list(catalogue.training_figures_of(untrained)) == ["training"]


def arm(make_training, copies, twin=True, stages=True):
    stage = {"stage": [0] * 3 + [1] * 3 + [0] * 8} if stages else {}
    steps = {"steps": 1000, "stages": STAGES if stages else []}
    return made(make_training, copies=np.where(COPIES > 0, copies, 0), twin=twin, training=steps, **stage)


def test_arms_draws_the_numbers_of_its_table_side_by_side(make_training, join_arms):
    signature = join_arms({"<b>few</b>": arm(make_training, 2), "many": arm(make_training, 8)})
    table, figure = lz.arm_table(signature).sort_index(level=[0, 1], sort_remaining=False), plots.arms(signature)
    drawn = {trace.name: trace for trace in traces(figure, "mean")}
    assert list(drawn) == ["held-out, &lt;b&gt;first&lt;/b&gt;", "held-out, second"]
    for name, text in zip(drawn, ("held-out, <b>first</b>", "held-out, second"), strict=True):
        rows = table.loc[("NLL", text)]
        np.testing.assert_allclose(drawn[name].y, rows["estimate"])
        np.testing.assert_allclose(ends(drawn[name]), [rows["low"], rows["high"]])
    nulls = {trace.name: trace for trace in traces(figure, "null")}
    before = nulls["null: held-out, &lt;b&gt;first&lt;/b&gt;, before second began"]
    rise = table.loc[("NLL since second began", "held-out, <b>first</b>"), "estimate"]
    np.testing.assert_allclose(before.y, table.loc[("NLL", "held-out, <b>first</b>"), "estimate"] - rise)
    without = nulls["null: held-out, second, without the planted rows"]
    np.testing.assert_allclose(without.y, numbers()[0][1, :, -1, 3:6].mean() + np.zeros(2))
    effects = {trace.name: trace for trace in traces(figure, "mean", 1)}
    assert list(effects) == ["planted, 0-20 %", "planted, 50-100 %"]
    np.testing.assert_allclose(effects["planted, 0-20 %"].y, table.loc[("pair effect", "planted, 0-20 %"), "estimate"])
    held_out = traces(figure, "null", 1)[0]
    nll = numbers()[0]
    np.testing.assert_allclose(held_out.y, (nll[1] - nll[0])[:, -1, :3].mean() + np.zeros(2))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;few&lt;/b&gt;", "many"]
    assert figure.layout.xaxis.title.text == "arm: planted.copies"
    assert len({tuple(trace.x) for trace in (*drawn.values(), *nulls.values())}) == len(drawn) + len(nulls), (
        "one hides another"
    )


def test_arms_that_differ_in_their_windows_have_the_points_that_they_have(make_training, join_arms):
    plain, other = arm(make_training, 2, stages=False), [(np.nan, np.nan)] * 6 + [LATE] * 8
    signature = join_arms(
        {"both": plain, "late": made(make_training, copies=np.where(COPIES > 0, 2, 0), windows=other)}
    )
    table = lz.arm_table(signature).sort_index(level=[0, 1], sort_remaining=False)
    drawn = {trace.name: trace for trace in traces(plots.arms(signature), "mean", 1)}
    assert {name: len(trace.x) for name, trace in drawn.items()} == {
        "planted, 0-20 %": 1, "planted, 50-100 %": 1, "planted": 1,
    }  # fmt: skip
    assert round(drawn["planted"].x[0]) == 1
    np.testing.assert_allclose(drawn["planted"].y, table.loc[("pair effect", "planted"), "estimate"])
    assert np.isnan(table.loc[("pair effect", "planted", "late"), "difference"])


def test_of_several_arms_the_figure_of_all_comes_first_and_then_those_of_each(make_training, join_arms):
    signature = join_arms({"1%": arm(make_training, 2, stages=False), "25%": arm(make_training, 8, stages=False)})
    drawn = catalogue.training_figures_of(signature)
    each = [f"{name}-{share}" for share in (1, 25) for name in ("training", "dose", "forgetting", "early_signs")]
    assert list(drawn) == ["arms", *each]
    assert drawn["dose-25"].title == "What copies taught: 25%"
    assert drawn["dose-25"].figure.to_json() == plots.dose(signature.at(training_arm="25%")).to_json()
    with pytest.raises(lz.SignatureError, match=r"^plots\.dose: the signature is of the arms 1%, 25%; choose one, "):
        plots.dose(signature)


def test_where_windows_are_not_told_planted_paragraphs_are_one_line(make_training):
    figure = plots.dose(made(make_training, windows=None))
    assert legend(figure) == ["planted (n = 8)", HELD_OUT]


def test_what_is_not_over_training_is_refused_by_the_figures_name(paired):
    one = paired.at(training_run="planted", training_seed=0, training_step=-1)
    for name in ("dose", "forgetting", "training"):
        with pytest.raises(lz.SignatureError) as error:
            getattr(plots, name)(one)
        assert str(error.value) == (
            f"plots.{name}: the signature has no axis 'training_step'; measurements at several steps of a training are needed."
        )
