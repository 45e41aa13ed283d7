"""The contrast drawn is the contrast worked out: its cells, its crosses, its null."""

from itertools import combinations

import numpy as np
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots.theme import WIDTH
from localize.signature.signature import MemorizationSignature
from localize.statistics import LEVEL

PAIR = ("memorized", "not_memorized")


@pytest.fixture(scope="module")
def figure(signature):
    return plots.contrast(signature)


@pytest.fixture
def numbers(signature):
    """The contrast that is drawn, without its warning of few clusters."""

    def worked_out(variable="gradient_share", a=PAIR[0], b=PAIR[1], **options):
        with pytest.warns(UserWarning, match="few effective clusters"):
            return signature.contrast(a, b, variable, **options)

    return worked_out


def traces(figure, what, panel=""):
    return [t for t in figure.data if t.meta["what"] == what and panel in (t.meta["panel"] or "")]


def words_on(figure):
    axes = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    return [note.text for note in figure.layout.annotations] + [t for t in axes if t] + [t.name for t in figure.data]


@pytest.mark.parametrize(("value", "low"), [("relative_log_ratio", 4), ("difference", 7), ("log_ratio", 10)])
def test_the_heat_map_is_the_contrast_of_components_white_at_zero(signature, numbers, value, low):
    figure, expected = plots.contrast(signature, value=value), numbers()
    (shown,) = traces(figure, "value", "not memorized")
    np.testing.assert_array_equal(shown.z, expected[value])
    assert shown.y.tolist() == [0, 1, 2, 3]
    axis = figure.layout[shown.coloraxis]
    assert (axis.cmin, axis.cmid) == (-axis.cmax, 0)
    assert axis.cmax == np.abs(expected[value]).max()
    cell = shown.customdata[2][4]
    assert cell[0] == "W_in"
    assert cell[1] == expected["profile_a"].values[2, 4]
    assert cell[low - 1] == expected[value].values[2, 4]
    assert cell[low] == expected[f"{value}_low"].values[2, 4]
    assert cell[12:].tolist() == [expected["p_value"].values[2, 4], expected["q_value"].values[2, 4]]


def test_heads_stand_side_by_side_inside_their_component(signature, numbers):
    figure, expected = plots.contrast(signature, variable="head_gradient_share"), numbers("head_gradient_share")
    (shown,) = traces(figure, "value", "memorized")
    for component, head in ((0, 0), (1, 3), (3, 2)):
        np.testing.assert_array_equal(
            shown.z[:, 4 * component + head], expected["relative_log_ratio"][:, component, head]
        )
    assert shown.customdata[0][7][0] == "W_K head 3"
    assert figure.layout.xaxis.tickvals == (1.5, 5.5, 9.5, 13.5)
    assert [line.x0 for line in figure.layout.shapes] == [3.5, 7.5, 11.5]


def test_what_may_be_chance_is_crossed_out_and_nothing_else(signature, numbers, figure):
    q = numbers()["q_value"].values
    (crosses,) = traces(figure, "x-thin")
    assert {(int(y), int(x)) for x, y in zip(crosses.x, crosses.y, strict=True)} == set(
        zip(*np.where(q > LEVEL), strict=True)
    )
    assert f"true continuation; crossed out: q > {LEVEL} over 24 cells" in words_on(figure)
    assert crosses.showlegend


def test_shares_alone_are_drawn_without_a_test(signature):
    """One cell's share falls when another's rises, whatever happened to it."""
    for value in ("log_ratio", "difference"):
        figure = plots.contrast(signature, value=value)
        assert not traces(figure, "x-thin") and not traces(figure, "rough")
        assert "true continuation; describes: one cell's share falls when another's rises" in words_on(figure)
        assert [trace.name for trace in traces(figure, "null", "Sum")] == ["no difference"]


@pytest.mark.parametrize("value", ["relative_log_ratio", "log_ratio", "difference"])
def test_beside_it_is_each_layers_sum_with_interval_and_null(signature, numbers, value):
    figure, expected = plots.contrast(signature, value=value), numbers(over="component")
    (points,) = traces(figure, "value", "Sum")
    np.testing.assert_array_equal(points.x, expected[value])
    np.testing.assert_allclose(points.x + points.error_x.array, expected[f"{value}_high"])
    np.testing.assert_allclose(points.x - points.error_x.arrayminus, expected[f"{value}_low"])
    *band, zero = traces(figure, "null", "Sum")
    assert zero.x == (0, 0) and len(band) == (value == "relative_log_ratio")
    for layer in range(4 if band else 0):
        step = band[0].x[6 * layer : 6 * layer + 2]
        assert tuple(step) == (expected["null_range_low"][layer], expected["null_range_high"][layer])
    names = [t.name for t in figure.data if t.showlegend]
    assert ("null: labels permuted over clusters (central 95%)" in names) == bool(band)
    assert "null: no difference" in names


def test_rough_cells_and_layers_are_marked(figure, numbers):
    """Five and six effective clusters: all are rough."""
    assert numbers()["rough"].all()
    cells, layers = (trace for trace in traces(figure, "rough"))
    assert len(cells.x) == 24 and len(layers.x) == 4 and set(cells.text) == {"~"}


def test_the_memorized_are_held_against_the_others_unless_groups_are_named(signature, figure, numbers):
    on = words_on(figure)
    assert "<b>(a)</b> Log ratio to the typical cell, memorized / not memorized" in on
    assert "more in memorized (n = 8, 6 clusters, effectively 5)" in on
    named = plots.contrast(signature, "partial", "memorized", value="difference")
    assert "<b>(a)</b> Difference of shares, partial − memorized" in words_on(named)
    expected = numbers(a="partial", b="memorized")
    np.testing.assert_array_equal(traces(named, "value", "partial")[0].z, expected["difference"])


def test_axes_say_what_and_in_which_unit(signature, figure):
    bar = figure.layout.coloraxis.colorbar.title.text
    assert bar == "log ratio of share of the squared gradient to the typical cell's (nats)"
    assert "log ratio to the typical layer (nats)" in words_on(figure)
    plain = plots.contrast(signature, value="log_ratio")
    assert plain.layout.coloraxis.colorbar.title.text == "log ratio of the mean share of the squared gradient (nats)"
    difference = plots.contrast(signature, value="difference")
    assert (
        difference.layout.coloraxis.colorbar.title.text
        == "difference of the mean share of the squared gradient (share)"
    )
    assert figure.layout.yaxis.ticktext == ("0", "1 (local 6)", "2", "3 (local 6)")


def test_a_cell_with_nothing_to_compare_has_a_ring_and_no_colour(signature):
    dataset = signature.dataset.copy(deep=True)
    dataset["gradient_share"].values[:, 1, 2] = 0
    figure = plots.contrast(MemorizationSignature(dataset))
    (rings,) = traces(figure, "circle-open")
    assert (rings.x.tolist(), rings.y.tolist()) == ([2], [1])
    assert np.isnan(traces(figure, "value", "memorized")[0].z[1, 2])


def test_panels_do_not_overlap_and_stay_on_the_sheet(figure, twelve_by_twelve):
    for drawn in (figure, plots.contrast(twelve_by_twelve, variable="head_gradient_share")):
        assert drawn.layout.width == WIDTH
        boxes = [(*x.domain, *y.domain) for x, y in zip(drawn.select_xaxes(), drawn.select_yaxes(), strict=True)]
        assert all(0 <= end <= 1 for box in boxes for end in box)
        for a, b in combinations(boxes, 2):
            assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]


def test_the_same_seed_draws_the_same_figure(signature, figure):
    assert plots.contrast(signature).to_json() == figure.to_json()
    assert plots.contrast(signature, seed=1).to_json() != figure.to_json()


def test_hostile_names_stay_text(signature):
    name = "<b>x</b>&$y$"
    group = np.where(signature["group"].values == "partial", name, signature["group"].values)
    hostile = MemorizationSignature(signature.dataset.drop_dims("set").assign_coords(group=("paragraph", group)))
    figure = plots.contrast(hostile, name, "memorized")
    assert "&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36;" in " ".join(words_on(figure))
    assert "<b>x" not in str(figure.to_dict())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("memorized",),
            {},
            "a='memorized' and b=None are no two groups; there are memorized, partial, not_memorized.",
        ),
        (("memorized", "gone"), {}, "no group 'gone'; there are memorized, partial, not_memorized."),
        (
            ("partial",) * 2,
            {},
            "a='partial' and b='partial' are no two groups; there are memorized, partial, not_memorized.",
        ),
        ((), {"value": "ratio"}, "value='ratio' is not one of relative_log_ratio, log_ratio, difference."),
        (
            (),
            {"variable": "contrastive_gradient_max"},
            "the signature has no 'contrastive_gradient_max'; measure it with localize.gradients(model, paragraphs).",
        ),
        (
            (),
            {"variable": "nll"},
            "nll has axes ('paragraph',); paragraph, layer and component are drawn, or paragraph, layer, "
            "attention_component and head.",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(signature, arguments, options, message):
    with pytest.raises(LocalizeError) as caught:
        plots.contrast(signature, *arguments, **options)
    assert str(caught.value) == "plots.contrast: " + message


def test_one_group_alone_has_nothing_to_be_held_against(signature):
    with pytest.raises(LocalizeError) as caught:
        plots.contrast(signature.where(group="partial"))
    assert str(caught.value) == "plots.contrast: a=None and b=None are no two groups; there are partial."
