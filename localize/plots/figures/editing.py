"""What edits do: what is forgotten against what else is lost, and every paragraph that they were measured on."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.change import Change, Changes, edit_table, ordered_roles, repetitions_of
from localize.analysis.rows import is_rough
from localize.axes import FORGET, MEMORIZED
from localize.errors import LocalizeError, caller, public
from localize.plots.figures.edit_rows import draw_rows
from localize.plots.figures.edit_view import OWN_MATCH, TRUE_MATCH, Edit, Table
from localize.plots.groups import require
from localize.plots.kinds import BANDS, EditFigureKind, EditsAsked
from localize.plots.point_names import name_points
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import INK, NULL, WIDTH, see_through, variable_words
from localize.statistics import Interval
from localize.statistics.ranges import Range

if TYPE_CHECKING:
    import plotly.graph_objects as go

UNEDITED, CONTROL, SINGLE, UNCHANGED = "unedited", "control", "one repetition", "no change"
LEFT, HEIGHT, BELOW = 66, 210, 42
"""Px left of the upper panel, of its height, and below it."""


@public("plots.editing")
def editing(changes: Changes, *, controls: Sequence[str] = (), seed: int = 0) -> "go.Figure":
    """What edits forget against what else they cost, a point per edit; below it every paragraph, a row per edit.

    Above: exact match of the forget set after the edit, against the change in exact match of the memorized paragraphs that the
    edit did not see, with 95 % intervals by bootstrap over clusters, the repetitions of an edit pooled. At the upper left an
    edit forgets what it should and nothing else. Small points are single repetitions; the cross is the unedited model; dashed:
    no change. The changes are those of `localize.analysis.change.edit_table`.

    Below: exact match of every paragraph after the edit (of every repetition; shaken a little, so that all show), each role's
    mean and 95 % interval, and its mean before (grey). What was recited before is asked for its true continuation, all else for
    what the unedited model says after its prefix, which that recites in full; but text that is said with little confidence loses
    its exact match to almost any edit, so see its `reference_nll` in the table too. The legend tells how many paragraphs there are and
    how many clusters of one size would say as much.

    Args:
        changes: Edits by name, each a `Change` or several repetitions.
        controls: Which of them are there to be compared with, such as random weights: grey, open symbols.
        seed: Of the bootstrap and of the shaking.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If a control is none of the edits, an edit has no paragraphs to forget or none that are memorized and not
            seen, exact match or the unedited model's continuation was not measured, or `edit_table` refuses the changes.
    """
    repeated = repetitions_of(changes)
    for name in controls:
        if name not in repeated:
            raise LocalizeError(f"{caller()}: the control {name!r} is none of the edits: {', '.join(repeated)}.")
    for name, given in repeated.items():
        _check(name, given)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "few effective clusters")  # the legend tells of them
        table = edit_table(changes, seed=seed).to_dict("index")
    roles = ordered_roles(group for given in repeated.values() for change in given for group in change.groups)
    edits = [
        Edit.of(name, given, place, roles, control=name in controls)
        for place, (name, given) in enumerate(repeated.items())
    ]
    sheet = Sheet()
    bottom = _against(sheet, edits, table, seed)
    return sheet.finish(draw_rows(sheet, bottom + BELOW, edits, table, roles, seed) + 4)


def _check(name: str, given: Sequence[Change]) -> None:
    """Refuse an edit that cannot be drawn."""
    measured = "localize.evaluate_edit(model, edit, paragraphs)"
    for change in given:
        for signature in (change.before, change.after):
            require(signature, (TRUE_MATCH, OWN_MATCH), measured)
    there = {group for change in given for group in change.groups}
    for group in (FORGET, MEMORIZED):
        if group not in there:
            raise LocalizeError(
                f"{caller()}: {name!r} has no group {group!r}; both {FORGET} and {MEMORIZED} are drawn, "
                f"and there are {', '.join(ordered_roles(there))}."
            )


def _against(sheet: Sheet, edits: list[Edit], table: Table, seed: int) -> Px:
    """Draw exact match of the forget set after, against the change of what the edit did not see; gives the bottom in px."""
    import plotly.graph_objects as go

    left = [edit.groups[FORGET].interval(edit.match(FORGET)[1], seed, Range(0, edit.length)) for edit in edits]
    lost = [_change(table[edit.name, TRUE_MATCH, MEMORIZED]) for edit in edits]
    singles = [edit.repetitions() for edit in edits]
    before = np.unique([round(table[edit.name, TRUE_MATCH, FORGET]["before"], 6) for edit in edits])
    ends = _ends(lost, singles, max(edit.length for edit in edits))
    x = {
        "title": {"text": variable_words(TRUE_MATCH, "exact match of the forget set after the edit")},
        "range": ends[0],
    }
    y = {
        "title": {"text": f"memorized, not seen by the edit:<br>{variable_words(TRUE_MATCH, 'change of exact match')}"}
    }
    box = Box(LEFT, TITLE + NOTE, WIDTH - 10 - LEFT, HEIGHT)
    note = "true continuation; upper left: forgotten, and nothing else lost; 95% intervals"
    panel = sheet.panel(box, "What is forgotten, and what else is lost", note, x=x, y=y | {"range": ends[1]})
    panel.null_line(ends[0], [0, 0], UNCHANGED)
    for edit, single, at, change in zip(edits, singles, left, lost, strict=True):
        if len(single) > 1:
            _repetitions(panel, edit, single, (float(at.estimate), float(change.estimate)))
        _point(panel, edit, at, change)
    cross = {"symbol": "cross-thin", "size": 11, "line": {"width": 2, "color": INK}}
    unedited = go.Scatter(x=before, y=0 * before, mode="markers", marker=cross, name=UNEDITED, legendgroup=UNEDITED)
    panel.add(unedited.update(showlegend=True, legendrank=900), "before")
    _names(panel, edits, left, lost, singles, before, ends[0])
    return box.bottom


def _change(row: dict[str, Any]) -> Interval:
    """The change that a row of the table tells, with its ends."""
    ends = (np.array(row[name]) for name in ("estimate", "low", "high"))
    return Interval(*ends, rough=np.array(is_rough(row)))


def _ends(lost: list[Interval], singles: list[np.ndarray], length: int) -> list[list[float]]:
    """The ranges of both axes: the whole continuation, and every change that is shown, with room for names."""
    ends = [end for interval in lost for end in (interval.estimate, interval.low, interval.high)]
    shown = np.concatenate([[0.0], np.array(ends, dtype=float), *(single[:, 1] for single in singles)])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = 0.12 * (high - low) + 0.02 * length
    return [[-0.04 * length, 1.06 * length], [low - room, high + room]]


def _point(panel: Panel, edit: Edit, left: Interval, lost: Interval) -> None:
    """An edit with its two intervals."""
    import plotly.graph_objects as go

    marker = {"symbol": edit.symbol, "size": 8, "color": edit.colour, "line": {"width": 1, "color": "white"}}
    if edit.colour == NULL:
        marker |= {"line": {"width": 1.6, "color": NULL}}
        _key(panel.sheet, CONTROL, {"symbol": "circle-open", "size": 8, "color": NULL, "line": {"width": 1.6}})
    bars = {f"error_{side}": whiskers(interval[None], edit.colour) for side, interval in (("x", left), ("y", lost))}
    point = go.Scatter(
        x=[float(left.estimate)], y=[float(lost.estimate)], mode="markers", marker=marker, name=edit.words, **bars,
        hovertemplate="%{fullData.name}: %{x:.1f} tokens, change %{y:.1f}<extra></extra>", showlegend=False,
    )  # fmt: skip
    panel.add(point, "mean")
    either = replace(left, rough=np.asarray(bool(left.rough) or bool(lost.rough)))
    mark_rough(panel, [float(left.estimate)], [float(lost.estimate)], either[None])


def _repetitions(
    panel: Panel, edit: Edit, single: Float[np.ndarray, "repetition 2"], mean: tuple[float, float]
) -> None:
    """Small points for the repetitions of an edit, each with a thin line to the pooled one."""
    import plotly.graph_objects as go

    faint = see_through(edit.colour, 0.4)
    marker = {"symbol": edit.symbol, "size": 4.5, "color": faint, "line": {"width": 0.8, "color": faint}}
    _key(panel.sheet, SINGLE, {"symbol": "circle", "size": 4.5, "color": see_through(INK, 0.4)})
    spokes = [end for x, y in single for end in ((x, y), mean, (None, None))]
    x, y = zip(*spokes, strict=True)
    line = {"color": see_through(edit.colour, 0.2), "width": 0.8}
    about: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False, "name": edit.words}
    panel.add(go.Scatter(x=x, y=y, mode="lines", line=line, **about), "spokes")
    panel.add(go.Scatter(x=single[:, 0], y=single[:, 1], mode="markers", marker=marker, **about), "repetitions")


def _key(sheet: Sheet, name: str, marker: dict[str, Any]) -> None:
    """An entry of the legend, once, with no data."""
    import plotly.graph_objects as go

    if sheet.first(name):
        meta = {"panel": None, "group": None, "what": "key"}
        key = go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, legendgroup=name, meta=meta)
        sheet.figure.add_trace(key.update(showlegend=True, legendrank=950))


def _known(interval: Interval) -> tuple[float, float]:
    """The ends of an interval; where they are not known, the estimate."""
    low, high = (float(np.where(np.isnan(end), interval.estimate, end)) for end in (interval.low, interval.high))
    return low, high


def _names(
    panel: Panel,
    edits: list[Edit],
    left: list[Interval],
    lost: list[Interval],
    singles: list[np.ndarray],
    before: Float[np.ndarray, " cross"],
    ends: list[float],
) -> None:
    """The edits' names, off points, intervals, repetitions, the unedited model and the line of no change."""
    points = np.array([[i.estimate for i in left], [i.estimate for i in lost]], dtype=float).T
    obstacles: list[tuple] = [(ends[0], 0, ends[1], 0, 1), *((cross, 0, cross, 0, 6) for cross in before)]
    for (x, y), across, along, single in zip(points, map(_known, left), map(_known, lost), singles, strict=True):
        obstacles += [(across[0], y, across[1], y, 2), (x, along[1], x, along[0], 2), (x, y, x, y, 6)]
        obstacles += [(*each, *each, 2) for each in single.tolist() if np.isfinite(each).all()]
    name_points(panel, points, [edit.words for edit in edits], [edit.colour for edit in edits], obstacles)


def _if_there_are_any(edits: EditsAsked) -> "go.Figure | None":
    return editing(edits.changes, controls=edits.controls, seed=edits.seed) if edits.changes else None


KIND = EditFigureKind(
    "editing",
    title="What edits forget, and what else they cost",
    caption="Above: exact match of the forget set after the edit against the change of exact match of memorized paragraphs that the edit "
    "did not see; the cross is the unedited model, the dashed line no change, and grey open symbols are controls. Below: every "
    f"paragraph after the edit, each role's mean, and in grey its mean before. {BANDS}",
    function=editing,
    make=_if_there_are_any,
)
