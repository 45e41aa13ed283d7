"""Every paragraph after each edit: a row per edit, a lane for what its paragraphs are to it."""

from typing import Any

import numpy as np

from localize.axes import FORGET, GENERAL, KEPT, MEMORIZED, NEAR_DUPLICATE, NOT_MEMORIZED, PARTIAL
from localize.plots.figures.edit_view import OWN_MATCH, RECITED, TRUE_MATCH, Edit, Table
from localize.plots.roughness import mark_rough
from localize.plots.series import stacked, whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import GRID, NULL, WIDTH, plain, see_through, variable_words
from localize.statistics.ranges import Range

WORDS = {
    FORGET: "to forget", NEAR_DUPLICATE: "near duplicates of these", f"{KEPT}_{MEMORIZED}": "kept, memorized",
    f"{KEPT}_{PARTIAL}": "kept, partial", f"{KEPT}_{NOT_MEMORIZED}": "kept, not memorized",
    MEMORIZED: "memorized, not seen", PARTIAL: "partial, not seen", NOT_MEMORIZED: "not memorized, not seen",
    GENERAL: "general text",
}  # fmt: skip
"""What paragraphs are to an edit, as the legend has it."""

PARTS = (
    ("Memorized, true continuation", TRUE_MATCH),
    ("Others, unedited model's continuation", OWN_MATCH),
)
BEFORE = "mean before the edit"
CAUTION = "Text that is said with little confidence loses its exact match to almost any edit: see also its NLL."

LEFT, BETWEEN, LANE, LOWEST, UNDER = 136, 22, 10, 34, 38
"""Px left of the rows, between their two panels, of a lane's height, of the lowest row, and under them for the axis."""

LANES, CLOUD, SHAKEN = 0.86, 0.72, 0.35
"""Shares of a row that its lanes take, and of a lane that its points take; and by how many tokens these are moved at most."""


def draw_rows(sheet: Sheet, top: Px, edits: list[Edit], table: Table, roles: tuple[str, ...], seed: int) -> Px:
    """Draw from `top` px downwards those asked for their true continuation, and beside them the others; gives the bottom."""
    parts = [[role for role in roles if (role in RECITED) == recited] for recited in (True, False)]
    height = len(edits) * max(LOWEST, LANE * max(map(len, parts)) / LANES)
    wide = WIDTH - 10 - LEFT - (BETWEEN if parts[1] else 0)
    first = wide * (0.56 if parts[1] else 1.0)
    above, rng = top + TITLE + NOTE, np.random.default_rng([seed, 17])
    boxes = [Box(LEFT, above, first, height), Box(LEFT + first + BETWEEN, above, wide - first, height)]
    for number, (box, part) in enumerate(zip(boxes, parts, strict=True)):
        if not part:
            continue
        panel = _rows(sheet, box, edits, *PARTS[number], _note(part), named=number == 0)
        for lane, role in enumerate(part):
            at = LANES * ((lane + 0.5) / len(part) - 0.5)
            _lane(panel, role, edits, table, at, LANES / len(part), rng, seed)
    bottom = boxes[0].bottom + UNDER
    if parts[1]:
        sheet.text(CAUTION, LEFT, bottom + NOTE, colour=NULL)
    return bottom + NOTE * bool(parts[1])


def _note(part: list[str]) -> str:
    """Who is in a panel, beside those of its title."""
    told = {
        "with near duplicates": NEAR_DUPLICATE in part,
        "recited in full before": not set(part) & set(RECITED),
        "kept: seen by the edit": any(role.startswith(f"{KEPT}_") for role in part),
    }
    return "; ".join(words for words, true in told.items() if true)


def _rows(sheet: Sheet, box: Box, edits: list[Edit], title: str, variable: str, note: str, *, named: bool) -> Panel:
    """Axes with a row per edit, thin lines between the rows."""
    import plotly.graph_objects as go

    length, rows = max(edit.length for edit in edits), len(edits)
    ends = [-SHAKEN - 0.02 * length, SHAKEN + 1.02 * length]
    x = {"title": {"text": variable_words(variable, "exact match after the edit")}, "range": ends, "nticks": 6}
    y: dict[str, Any] = {"range": [rows - 0.5, -0.5], "tickvals": np.arange(rows), "ticks": "", "showticklabels": named}
    y |= {"ticktext": [f'<span style="color:{edit.colour}">{edit.words}</span>' for edit in edits]}
    y |= {} if named else {"title": {"text": ""}}
    panel = sheet.panel(box, title, note, x=x | {"showgrid": True, "gridcolor": GRID}, y=y, grid=False)
    between = [end for row in range(rows - 1) for end in (row + 0.5, row + 0.5, None)]
    line = {"color": GRID, "width": 1}
    lines = go.Scatter(x=[*ends, None] * (rows - 1), y=between, mode="lines", line=line, hoverinfo="skip", name="rows")
    panel.add(lines.update(showlegend=False), "rule")
    return panel


def _lane(
    panel: Panel,
    role: str,
    edits: list[Edit],
    table: Table,
    at: float,
    lane: float,
    rng: np.random.Generator,
    seed: int,
) -> None:
    """One role in every row: its paragraphs, and over them the mean with its interval, and the mean before."""
    import plotly.graph_objects as go

    there = [(row, edit, edit.groups[role]) for row, edit in enumerate(edits) if role in edit.groups]
    one, middle = there[0][2], np.array([row + at for row, _, _ in there])
    before, after = zip(*(edit.match(role) for _, edit, _ in there), strict=True)
    groups = [group for _, _, group in there]
    points = [values[group.rows] for values, group in zip(after, groups, strict=True)]
    counts = [len(values) for values in points]
    aside = rng.uniform(-1, 1, (2, sum(counts)))
    dots = {"symbol": one.symbol.removesuffix("-open"), "size": 3, "color": see_through(one.colour, 0.3)}
    cloud = go.Scatter(
        x=np.concatenate(points) + SHAKEN * aside[0], y=np.repeat(middle, counts) + CLOUD * lane / 2 * aside[1], mode="markers",
        marker=dots, name=one.words, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    panel.add(cloud, "values", one)
    tick = {"symbol": "line-ns", "size": 9, "line": {"color": NULL, "width": 2}}
    earlier = [float(group.mean(values)) for group, values in zip(groups, before, strict=True)]
    shown = {"legendgroup": BEFORE, "legendrank": 1500, "showlegend": panel.sheet.first(BEFORE)}
    panel.add(go.Scatter(x=earlier, y=middle, mode="markers", marker=tick, name=BEFORE, **shown), "before", one)
    possible = Range(0, max(edit.length for _, edit, _ in there))
    interval = stacked([group.interval(values, seed, possible) for group, values in zip(groups, after, strict=True)])
    rim = {"width": 1.8, "color": one.colour} if one.symbol.endswith("-open") else {"width": 1, "color": "white"}
    means = go.Scatter(
        x=interval.estimate, y=middle, mode="markers", error_x=whiskers(interval, one.colour), showlegend=True,
        marker={"symbol": one.symbol, "size": 7, "color": one.colour, "line": rim},
        name=_with_size(role, table, [edit.name for _, edit, _ in there]), hovertemplate="%{x:.1f} tokens<extra></extra>",
    )  # fmt: skip
    panel.add(means, "mean", one)
    mark_rough(panel, interval.estimate, middle, interval, one)


def _with_size(role: str, table: Table, edits: list[str]) -> str:
    """A role with its paragraphs and effective clusters, of several edits from the fewest to the most."""
    spans = []
    for column in ("n", "effective_clusters"):
        counts = [round(table[edit, TRUE_MATCH, role][column]) for edit in edits]
        least, most = min(counts), max(counts)
        spans.append(f"{least}–{most}" if least < most else f"{least}")
    effective = f", effectively {spans[1]}" if spans[1] != spans[0] else ""
    return f"{WORDS.get(role, plain(role))} (n = {spans[0]}{effective})"
