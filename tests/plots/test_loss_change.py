"""The figure of loss change allocation draws the numbers of its table, held-out text beside them."""

from itertools import chain

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.axes import COMPONENTS, NEVER_TRAINED, TRAINED
from localize.plots import catalogue
from localize.plots.theme import NULL

PLACES = {"shown": 0, "other": 1}

pytestmark = pytest.mark.filterwarnings("ignore:loss_change_table. ")


@pytest.fixture(scope="module")
def seeds(followed_seeds):
    return followed_seeds


def bars(figure, panel):
    """By role, in order: steps that show the set, others."""
    axis = "x" if panel == 0 else f"x{panel + 1}"
    found = [trace for trace in figure.data if trace.type == "bar" and trace.xaxis == axis]
    return {what: [trace for trace in found if trace.meta["what"] == what] for what in ("mean", "null")}


@pytest.mark.parametrize("by", ["component", "block"])
def test_every_bar_is_the_tables_with_held_out_text_in_grey_beside_it(seeds, by):
    figure, table = plots.loss_change(seeds, 4, since=2, by=by), lz.loss_change_table(seeds, 4, since=2, by=by)
    names = COMPONENTS if by == "component" else ("attention", "mlp")
    for panel, component in enumerate(names):
        for exposure, place in PLACES.items():
            rows = table.xs((TRAINED, component, exposure), level=("set", "component", "exposure")).iloc[:2]
            mean, null = (bars(figure, panel)[what][place] for what in ("mean", "null"))
            np.testing.assert_allclose(mean.x, rows["estimate"])
            np.testing.assert_allclose(null.x, rows["null"])
            np.testing.assert_allclose(mean.x - mean.error_x.arrayminus, rows["low"])
            np.testing.assert_allclose(mean.x + mean.error_x.array, rows["high"])
            np.testing.assert_allclose(np.round(mean.y), [0, 1])
            assert null.marker.color == NULL != mean.marker.color
            assert (np.abs(np.subtract(null.y, mean.y)) < 0.3).all()
    outside = table.loc[TRAINED].loc[-1].xs("shown", level="exposure")
    axis = figure.layout[f"yaxis{len(names) + 1}"]
    assert len(axis.ticktext) == len(outside) == 5
    assert axis.ticktext[-1] == "all weights"
    np.testing.assert_allclose(bars(figure, len(names))["mean"][0].x, outside["estimate"])


def test_nothing_drawn_lies_beyond_its_axis(seeds):
    figure = plots.loss_change(seeds)
    for panel in range(7):
        low, high = figure.layout[f"xaxis{panel + 1 if panel else ''}"].range
        for trace in chain(*bars(figure, panel).values()):
            assert (trace.x - trace.error_x.arrayminus >= low).all() and (trace.x + trace.error_x.array <= high).all()


def test_it_says_which_set_which_steps_and_what_the_parts_miss(seeds):
    error = lz.loss_change_table(seeds).loc[TRAINED]["error"].iloc[0]
    texts = [note.text for note in plots.loss_change(seeds).layout.annotations]
    assert f"planted, steps 0 to 4; all parts miss {error:.1%} of the change; 95% intervals over 3 seeds" in texts
    one = plots.loss_change(seeds.at(training_seed=0))
    assert any(note.text.endswith("; one seed") for note in one.layout.annotations)
    assert all(trace.error_x.array is None for trace in bars(one, 0)["mean"])
    legend = [trace.name for trace in plots.loss_change(seeds).data if trace.showlegend]
    assert legend[0] == "steps that show it"
    assert {"other steps", "null: held-out text at the same steps"} <= set(legend)


def test_sets_that_no_step_shows_are_drawn_only_where_there_is_no_other(make_model, make_rows, followed, seeds):
    assert not any(NEVER_TRAINED in (trace.meta["group"] or "") for trace in plots.loss_change(seeds).data)
    groups = make_rows(6).with_groups(list("aabbbb"))
    figure = plots.loss_change(followed(groups))
    assert len([note for note in figure.layout.annotations if "steps 0 to 4" in note.text]) == 2
    unknown = plots.loss_change(lz.loss_change(make_model("gpt2"), make_model("gpt2", seed=1), groups, points=1))
    assert len(bars(unknown, 0)["mean"]) == 1, "where it is not known what steps showed, all are the others"


def test_a_catalogue_has_it_where_it_was_followed(seeds):
    drawn = catalogue.training_figures_of(seeds)
    assert drawn["loss_change"].title == "Which weights took texts in"
    assert drawn["loss_change_over_training"].title == "When weights took texts in, and let them go"


def lines(figure, panel):
    """By role, in order: steps that show the set, others, all."""
    axis = "x" if panel == 0 else f"x{panel + 1}"
    found = [trace for trace in figure.data if trace.type == "scatter" and trace.xaxis == axis]
    return {what: [trace for trace in found if (trace.meta or {}).get("what") == what] for what in ("mean", "null")}


@pytest.mark.parametrize(("by", "layer"), [("block", None), ("component", 1)])
def test_over_training_every_line_is_the_tables_at_each_step_with_held_out_text_dashed(seeds, by, layer):
    figure = plots.loss_change_over_training(seeds, by=by, layer=layer)
    names = (
        list(COMPONENTS)
        if by == "component"
        else ["attention", "mlp", "W_pos", "W_E + W_U", "biases", "layer_norms", "all"]
    )
    assert len(figure.layout.meta["sheet"]["panels"]) == len(names)
    tables = {step: lz.loss_change_table(seeds, step, by=by).loc[TRAINED] for step in (0, 2, 4)}
    for panel, component in enumerate(names):
        found = lines(figure, panel)
        for place, exposure in enumerate(("shown", "other", "both")):
            mean, null = (found[what][place] for what in ("mean", "null"))
            assert list(mean.x) == [0, 2, 4] == list(null.x)
            for at, table in enumerate(tables.values()):
                rows = table.xs((component, exposure), level=("component", "exposure"))
                rows = rows if layer is None else rows.xs(layer, level="layer")
                np.testing.assert_allclose(mean.y[at], rows["estimate"].sum(), atol=1e-15)
                np.testing.assert_allclose(null.y[at], rows["null"].sum(), atol=1e-15)
            assert (null.line.dash, null.line.color) == ("dash", mean.line.color)
            assert mean.name == ("steps that show it", "other steps", "all steps")[place]
    if by == "block":
        rows = tables[4].xs(("all", "both"), level=("component", "exposure")).iloc[0]
        bands = [trace for trace in figure.data if trace.xaxis == "x7" and (trace.meta or {}).get("what") == "interval"]
        assert np.isclose(list(bands[-1].y), rows["low"]).any() and np.isclose(list(bands[-1].y), rows["high"]).any()


def test_over_training_it_says_what_it_is_of_and_refuses_what_is_of_one_step(seeds):
    error = lz.loss_change_table(seeds).loc[TRAINED]["error"].iloc[0]
    which = "Change of the NLL of planted since step 0, all layers together"
    note = f"{which}; all parts miss {error:.1%} of it; bands: 95% intervals over 3 seeds"
    assert note in [text.text for text in plots.loss_change_over_training(seeds).layout.annotations]
    one = plots.loss_change_over_training(seeds.at(training_seed=0))
    assert any(text.text.endswith("; one seed") for text in one.layout.annotations)
    for function, message in (
        (lambda: plots.loss_change_over_training(seeds, by="head"), "by='head' is not one of component, block."),
        (lambda: plots.loss_change_over_training(seeds, layer=2), "layer=2 is not one of 0..1."),
        (
            lambda: plots.loss_change_over_training(seeds.at(training_step=4)),
            "the signature is of one step alone; several steps of a training are needed.",
        ),
    ):
        with pytest.raises(lz.LocalizeError) as caught:
            function()
        assert str(caught.value) == f"plots.loss_change_over_training: {message}"


def test_what_cannot_be_drawn_is_told(seeds):
    with pytest.raises(lz.LocalizeError) as caught:
        plots.loss_change(seeds, by="head")
    assert str(caught.value) == "plots.loss_change: by='head' is not one of component, block."
