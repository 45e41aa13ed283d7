"""What figures of signatures over training share: colours of windows, words for what intervals are over, stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.rows import Row
from localize.analysis.trainings import NOT_TOLD, PAIR_EFFECT, UNMATCHED, Level, Trainings, Window
from localize.plots.groups import Group
from localize.plots.roughness import mark_rough
from localize.plots.series import Series, whiskers, with_room
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, Px, plain
from localize.statistics import Interval

INTERVALS = "Bands and bars are 95% intervals over seeds of the training (Student's t); with one seed they are by bootstrap over clusters."

LEFT, STEP, WIDE, HEIGHT, UNDER = 44, 354, 292, 190, 40
ROOM: Px = 74
"""Between two rows of panels."""

PLACES = (0, 1, 2, 4, 6, 5, 3)
"""Of windows among the colours: black, which hides the others' bands, comes last."""

BESIDE = 0.4
"""Doublings by which an axis of copies goes further than the copies."""

GAP_WORDS = {
    PAIR_EFFECT: "NLL, twin − planted run (nats per token)",
    UNMATCHED: "NLL, held-out − planted (nats per token)",
}
"""Axis titles of what was learned."""

HELD_OUT, DEALT = "held-out paragraphs, never trained on", "labels dealt out anew"


def half_page(number: int) -> Box:
    """The place of a panel where two stand in a row, counted row by row."""
    return Box(LEFT + number % 2 * STEP, TITLE + NOTE + number // 2 * (HEIGHT + ROOM), WIDE, HEIGHT)


def basis_words(seeds: int) -> str:
    """ "95% intervals over 5 seeds"."""
    return f"95% intervals over {seeds} seeds" if seeds > 1 else "one seed; 95% intervals over clusters"


def copies_axis(levels: Sequence[Level]) -> dict[str, Any]:
    """Copies by their doublings."""
    copies = np.unique([level.copies for level in levels]).astype(float)
    told = np.array(with_room(copies) if len(copies) > 1 else copies)
    ends = np.log2([copies[0], copies[-1]]) + np.array([-BESIDE, BESIDE])
    look = {"tickvals": np.log2(told), "ticktext": [f"{c:.0f}" for c in told], "range": ends.tolist()}
    return {"title": {"text": "copies in training"}} | look


def labelled_axis(title: str, labels: Sequence[str]) -> dict[str, Any]:
    """An x axis on which labels stand beside each other, at 0, 1, ..."""
    ticks = {"tickvals": list(range(len(labels))), "ticktext": list(labels)}
    return {"title": {"text": title}, "range": [-0.5, len(labels) - 0.5]} | ticks


def window_series(window: Window, place: int) -> Series:
    """The line of a window, by its place among all."""
    ends = f"{100 * window.start:.3g}–{100 * window.end:.3g}% of the training"
    return Series.of("planted" if window.words == NOT_TOLD else f"shown in {ends}", PLACES[place % len(PLACES)])


def members(series: Series, rows: Bool[np.ndarray, " paragraph"], trainings: Trainings) -> Group:
    """Paragraphs in the look of their line."""
    return Group(series.words, series.words, series.colour, series.symbol, rows, trainings.clusters[rows])


def interval_of(rows: list[Row]) -> Interval:
    """The estimates of some rows of a table with their intervals."""
    ends = (np.array([row[end] for row in rows], dtype=float) for end in ("estimate", "low", "high"))
    return Interval(*ends, rough=np.array([bool(row["rough"]) for row in rows]))


def whisker_points(
    panel: Panel,
    series: Series,
    x: Float[np.ndarray, " point"],
    interval: Interval,
    group: Group | None = None,
    *,
    of: str = "",
    keyed: bool = False,
) -> None:
    """Points in the look of a series, each with its interval standing on it; "~" beside those that are rough.

    Args:
        panel: Where they are drawn.
        series: Their look; a null's name says so.
        x: Where they stand.
        interval: What is drawn.
        group: Whose they are, where it is one group.
        of: What else the name says: of which other series a null is.
        keyed: Whether the series has no entry of its own in the legend yet, and gets one.
    """
    import plotly.graph_objects as go

    words = ", ".join(filter(None, (series.words, of)))
    trace = go.Scatter(
        x=x, y=interval.estimate, mode="markers", marker={"symbol": series.symbol, "size": 6, "color": series.colour},
        error_y=whiskers(interval, series.colour), name=f"null: {words}" if series.null else words,
        showlegend=keyed and panel.sheet.first("series " + series.words), legendgroup=None if group else series.words,
    )  # fmt: skip
    panel.add(trace, "null" if series.null else "mean", group)
    mark_rough(panel, x, interval.estimate, interval, group, upright=True)


def null_band(panel: Panel, x: np.ndarray, interval: Interval, name: str = HELD_OUT) -> None:
    """A grey band and a dashed line: what is seen of paragraphs that were never trained on, or what else nothing looks like."""
    panel.band(x, interval.low, interval.high, "null interval", rough=interval.rough, name=f"{name}: 95% interval")
    panel.null_line(x, interval.estimate, name)


def stages_note(sheet: Sheet, trainings: Trainings, bottom: Px) -> Px:
    """A line under everything that names the stages, where there are several; gives the bottom in px."""
    names = [plain(part.name) for part in trainings.parts]
    if len(names) < 2:
        return bottom
    sheet.text(f"Upright lines part the stages of the training: {', '.join(names)}.", 4, bottom + NOTE, colour=NULL)
    return bottom + NOTE + 4


def stage_lines(panel: Panel, trainings: Trainings, low: float, high: float) -> None:
    """Thin upright lines between the stages of a training."""
    import plotly.graph_objects as go

    for part in trainings.parts[:-1]:
        line = go.Scatter(
            x=[part.end, part.end], y=[low, high], mode="lines", line={"color": NULL, "width": 0.8}, hoverinfo="skip"
        )
        panel.add(line.update(showlegend=False, name="stage"), "rule")
