"""Attacks are drawn as the table tells them: what came back, and beside it what is said of text that was never trained."""

import numpy as np
import pytest

import localize as lz
from localize.axes import ATTACKS
from localize.plots.catalogue import edit_figures_of
from localize.plots.figures.resurfacing import WORDS, resurfacing
from localize.plots.roughness import ROUGH
from localize.plots.theme import NULL
from localize.signature.signature import MemorizationSignature

SIDES = {"mean": "forget", "null": "never_trained"}


def attacked(made, seed=0, forgotten=8):
    """The made-up paragraphs after every attack, the first of them forgotten."""
    shares = np.random.default_rng(seed).uniform(0, 0.3, (14, len(ATTACKS)))
    shares[:forgotten] += 0.5
    group = np.where(np.arange(14) < forgotten, "forget", "never_trained")
    part = made.dataset[["exact_match", "nll", "token_nll"]]
    part = part.assign(resurfaced_recall=(("paragraph", "attack"), shares))
    about = {"attack": list(ATTACKS), "group": ("paragraph", group), "tokens": made.dataset["tokens"]}
    return MemorizationSignature(part.assign_coords(about))


@pytest.fixture(scope="module")
def runs(made):
    return {"top_1 %": attacked(made), "random": [attacked(made, 1), attacked(made, 2)]}


@pytest.fixture(scope="module")
def figure(runs):
    return resurfacing(runs)


def traces(figure, what):
    return [trace for trace in figure.data if trace.meta["what"] == what]


def listed(given):
    """One run or several as several."""
    return given if isinstance(given, list) else [given]


def test_every_mean_and_interval_is_the_tables(runs, figure):
    table = lz.resurfacing_table(runs)
    for what, group in SIDES.items():
        for edit, trace in zip(runs, traces(figure, what), strict=True):
            rows = table.loc[edit].xs(group, level="group").loc[[*ATTACKS, "worst"]]
            np.testing.assert_allclose(trace.x, rows["estimate"], atol=1e-12)
            np.testing.assert_allclose(trace.x + trace.error_x.array, rows["high"], atol=1e-12)
            np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, rows["low"], atol=1e-12)


def test_every_text_is_a_point_in_its_row_and_off_the_line_of_the_interval(runs, figure):
    for what, cloud, group in (("mean", "values", "forget"), ("null", "null values", "never_trained")):
        for edit, points, means in zip(runs.values(), traces(figure, cloud), traces(figure, what), strict=True):
            parts = [one.where(group=group)["resurfaced_recall"].values for one in listed(edit)]
            shares = np.concatenate(parts)
            shares = np.concatenate([shares, shares.max(1, keepdims=True)], axis=1).T
            np.testing.assert_allclose(points.x, shares.ravel())
            rows = np.repeat(np.arange(len(ATTACKS) + 1), shares.shape[1])
            assert (np.round(points.y) == rows).all()
            assert (points.y != np.asarray(means.y)[rows]).all()


def test_lanes_of_edits_stand_apart_each_with_its_null_below_it(figure):
    heights = [np.asarray(trace.y) for what in SIDES for trace in traces(figure, what)]
    first, second, null_of_first, null_of_second = heights
    order = np.stack([first, null_of_first, second, null_of_second])
    assert (np.diff(order, axis=0) > 0).all()
    assert (np.abs(order - np.arange(len(ATTACKS) + 1)) < 0.5).all()


def test_the_null_is_grey_and_open_and_stands_in_the_legend_once(figure):
    assert {(trace.marker.color, trace.marker.symbol) for trace in traces(figure, "null")} == {(NULL, "circle-open")}
    assert len({(trace.marker.color, trace.marker.symbol) for trace in traces(figure, "mean")}) == 2
    assert [trace.name for trace in figure.data if trace.showlegend and trace.name != ROUGH] == [
        "top 1 % (n = 8, 4 clusters)",
        "random (n = 16, 4 clusters)",
        "null: text never trained (n = 6–12)",
    ]


def test_rows_are_called_by_what_was_done_and_the_worst_comes_last(figure):
    assert set(WORDS) == {*ATTACKS, "worst"}
    assert list(figure.layout.yaxis.ticktext) == [WORDS[attack] for attack in (*ATTACKS, "worst")]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert figure.layout.xaxis.title.text == "tokens said before the first error (share)"


def test_an_attack_that_one_run_lacks_keeps_its_row(made, runs):
    fewer = MemorizationSignature(runs["top_1 %"].dataset.isel(attack=slice(2, None)))
    figure = resurfacing({"whole": runs["top_1 %"], "fewer": fewer})
    assert len(figure.layout.yaxis.ticktext) == len(ATTACKS) + 1
    _, second = traces(figure, "mean")
    assert np.round(second.y).tolist() == list(range(2, len(ATTACKS) + 1))


def test_it_is_among_the_figures_of_edits(runs):
    drawn = edit_figures_of({}, attacked=runs)
    assert list(drawn) == ["resurfacing"]
    assert drawn["resurfacing"].figure.to_json() == resurfacing(runs).to_json()
    assert resurfacing(runs, seed=1).to_json() != resurfacing(runs).to_json()


def test_hostile_names_stay_text(made):
    figure = resurfacing({"<i>run</i>": attacked(made)})
    assert "&lt;i&gt;run&lt;/i&gt; (n = 8, 4 clusters)" in [trace.name for trace in figure.data]
    assert "<i>" not in str(figure.to_dict())


def test_what_cannot_be_drawn_is_refused(made, runs):
    with pytest.raises(lz.LocalizeError) as error:
        resurfacing({})
    assert str(error.value) == (
        "plots.resurfacing: runs is empty; at least one signature from localize.resurface is needed."
    )
    with pytest.raises(lz.LocalizeError) as error:
        resurfacing({"bare": made})
    assert str(error.value) == (
        "plots.resurfacing: 'bare' does not hold resurfaced_recall; localize.resurface(model, edit, ...) gives it."
    )
