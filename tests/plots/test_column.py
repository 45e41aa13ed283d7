"""In one column the same is drawn below each other, in type of the same size, and nothing is cut or meets."""

import json
from itertools import combinations

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots.lettering import width_of
from localize.plots.sheet import LEGEND_SYMBOL, Box, Sheet
from localize.plots.theme import LARGE, SMALL

LONG = "paragraphs_of_the_second_kind_that_nobody_reads_twice"


@pytest.fixture(scope="module")
def figures(signature, made):
    drawn = {
        draw.__name__: draw(signature) for draw in (plots.recall, plots.gradients, plots.heads, plots.perturbation)
    }
    drawn |= {draw.__name__: draw(made) for draw in (plots.patching, plots.patch_map, plots.corruption)}
    return drawn | {"contrast": plots.contrast(signature), "signature": plots.signature(signature)}


@pytest.fixture(scope="module")
def columns(figures):
    return {name: plots.column(figure) for name, figure in figures.items()}


def boxes_of(figure):
    """Left, top, right and bottom of every panel in px."""
    width, height = figure.layout.width, figure.layout.height
    pairs = zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)
    return [
        (x.domain[0] * width, (1 - y.domain[1]) * height, x.domain[1] * width, (1 - y.domain[0]) * height)
        for x, y in pairs
    ]


def words_of(figure):
    """Left, top, right and bottom of every text that the sheet wrote."""
    width, height, found = figure.layout.width, figure.layout.height, []
    for note in figure.layout.annotations:
        left, bottom = note.x * width, (1 - note.y) * height
        high = note.font.size * 1.1 * (note.text.count("<br>") + 1)
        found.append((left, bottom - high, left + width_of(note.text, note.font.size), bottom))
    return found


def meet(one, other):
    return min(one[2], other[2]) - max(one[0], other[0]) > 0.5 and min(one[3], other[3]) - max(one[1], other[1]) > 0.5


def test_a_column_is_350_px_wide_and_holds_every_panel_apart_from_the_others(columns):
    for name, figure in columns.items():
        assert figure.layout.width == 350
        boxes = boxes_of(figure)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 350, name
            assert 0 < top < bottom < figure.layout.height, name
        assert not any(meet(a, b) for a, b in combinations(boxes, 2)), name


def test_no_words_are_cut_or_meet_a_panel_or_each_other(columns):
    for name, figure in columns.items():
        words = words_of(figure)
        assert all(left >= 0 and right <= 351 and top >= 0 for left, top, right, _ in words), name
        assert not any(meet(one, box) for one in words for box in boxes_of(figure)), name
        assert not any(meet(a, b) for a, b in combinations(words, 2)), name


def test_the_same_is_drawn_in_the_same_type(figures, columns):
    for name, figure in figures.items():
        narrow = columns[name]
        assert len(narrow.data) == len(figure.data)
        for before, after in zip(figure.data, narrow.data, strict=True):
            drop = {"name"} if before.showlegend else set()
            one, other = ({k: v for k, v in t.to_plotly_json().items() if k not in drop} for t in (before, after))
            assert str(one) == str(other)
        assert sorted(n.font.size for n in narrow.layout.annotations) == sorted(
            n.font.size for n in figure.layout.annotations
        )
        plain = [note.text.replace("<br>", " ") for note in narrow.layout.annotations]
        assert plain == [note.text.replace("<br>", " ") for note in figure.layout.annotations]


def test_the_figure_given_stays_as_it_is(figures):
    before = figures["heads"].to_json()
    plots.column(figures["heads"])
    assert figures["heads"].to_json() == before


def test_a_figure_can_be_laid_out_anew_after_json_and_a_column_is_left_alone(figures, columns):
    for name in ("heads", "gradients", "patching"):
        read = pio.from_json(figures[name].to_json())
        for again in (plots.column(read), plots.column(columns[name])):
            assert json.loads(again.to_json()) == json.loads(columns[name].to_json())


def test_panels_follow_each_other_in_the_order_of_their_letters(columns):
    for figure in columns.values():
        titles = [n for n in figure.layout.annotations if n.text.startswith("<b>(")]
        down = [(-round(n.y, 4), n.x) for n in titles]
        assert down == sorted(down)


def test_score_and_null_stay_side_by_side_and_both_are_labelled(signature, figures, columns):
    boxes = boxes_of(columns["heads"])
    assert boxes[0][1] == pytest.approx(boxes[1][1])
    assert boxes[2][1] > boxes[0][3]
    wide, narrow = figures["heads"].layout, columns["heads"].layout
    assert not any(wide.xaxis.ticktext)
    assert wide.xaxis.title.text is None
    # The list below takes the score's place over the next group's score, so that this one needs labels of its own.
    assert narrow.xaxis.title.text == "head"
    assert len([t for t in narrow.xaxis.tickvals]) >= 3


def test_a_panel_that_leaves_its_neighbour_takes_the_labels_along(figures, columns):
    wide, narrow = figures["contrast"].layout, columns["contrast"].layout
    assert not any(wide.yaxis2.ticktext)
    assert narrow.yaxis2.ticktext == wide.yaxis.ticktext
    assert narrow.yaxis2.title.text == wide.yaxis.title.text == "layer"


def test_names_along_an_axis_are_never_left_out(figures, columns):
    for name in ("contrast", "gradients"):
        wide, narrow = ([axis.ticktext for axis in fs[name].select_xaxes()] for fs in (figures, columns))
        assert [t for t in narrow if t and any(t)] == [t for t in wide if t and any(t)]


def test_a_long_name_of_a_group_is_broken_in_legend_and_titles(make_signature):
    figure = plots.column(plots.perturbation(make_signature(groups=(LONG,) * 8 + ("short",) * 6)))
    entry = next(trace.name for trace in figure.data if trace.showlegend and "second" in trace.name)
    assert "<br>" in entry
    assert all(width_of(t.name, SMALL) <= 350 - LEGEND_SYMBOL for t in figure.data if t.showlegend)
    assert not any(meet(a, b) for a, b in combinations(words_of(figure), 2))


def test_what_was_changed_in_a_figure_is_kept(signature):
    figure = plots.perturbation(signature)
    figure.layout.xaxis.title.text = "where a token is replaced"
    figure.layout.annotations[0].text = "<b>A</b> mine"
    figure.add_annotation(text="here", x=3, y=1, xref="x", yref="y")
    narrow = plots.column(figure)
    assert narrow.layout.xaxis.title.text == "where a token is replaced"
    assert [narrow.layout.annotations[0].text, narrow.layout.annotations[-1].text] == ["<b>A</b> mine", "here"]
    assert narrow.layout.annotations[-1].x == 3


def test_a_colour_bar_stands_below_the_last_panel_that_uses_it(columns):
    figure = columns["patching"]
    for name, last in (("coloraxis", 4), ("coloraxis2", 8)):
        top = (1 - figure.layout[name].colorbar.y) * figure.layout.height
        boxes = boxes_of(figure)
        assert boxes[last - 1][3] < top < boxes[last][1]
        assert figure.layout[name].colorbar.len <= 350


def test_a_figure_that_no_sheet_made_is_refused_in_a_line(signature):
    with pytest.raises(LocalizeError) as refused:
        plots.column(go.Figure())
    told = "plots.column: the figure has no layout.meta['sheet']; give one that localize.plots drew."
    assert str(refused.value) == told
    figure = plots.recall(signature)
    figure.layout.annotations = figure.layout.annotations[:2]
    with pytest.raises(LocalizeError, match="2 of the figure's 8 annotations are left"):
        plots.column(figure)


def test_a_crowded_axis_keeps_as_many_numbers_as_have_room():
    sheet, box = Sheet(), Box(44, 30, 600, 100)
    at = np.arange(40)
    panel = sheet.panel(box, "A", x={"tickvals": at, "ticktext": [str(n) for n in at], "range": [-0.5, 39.5]}, y={})
    panel.add(go.Scatter(x=at, y=at), "mean")
    figure = plots.column(sheet.finish(180))
    places = figure.layout.xaxis.tickvals
    assert len(set(np.diff(places))) == 1
    apart = np.diff(places)[0] * (350 - 44 - 8) / 40
    assert apart >= width_of("39", SMALL) + 5 > apart - (350 - 44 - 8) / 40


def test_text_is_as_wide_as_its_letters():
    assert width_of("AV", 100) == 134
    assert width_of("<b></b>A&amp;", 10) == pytest.approx(1.08 * 13.4)
    assert width_of("iii<br>WW", LARGE) == pytest.approx(2 * 0.94 * 11)
    assert width_of("W<sub>W</sub>", 100) == pytest.approx(94 * 1.7)
    assert width_of("漢", 10) == 10
