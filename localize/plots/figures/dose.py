"""What copies of paragraphs taught by a step of training: how far their NLL fell, and how much of them is recited, by copies."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.dose import exact_match_row
from localize.analysis.draws import Draws
from localize.analysis.rows import Row, null_ends
from localize.analysis.trainings import PAIR_EFFECT, Level, Trainings
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    BESIDE,
    DEALT,
    GAP_WORDS,
    HEIGHT,
    HELD_OUT,
    INTERVALS,
    UNDER,
    basis_words,
    copies_axis,
    half_page,
    interval_of,
    members,
    null_band,
    window_series,
)
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Panel, Sheet
from localize.plots.theme import variable_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

ASIDE = 0.12
"""Doublings of the copies by which two windows stand apart."""


@public("plots.dose")
def dose(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """What was learned of paragraphs by how many copies were shown, a line per window of the training; beside it exact match.

    With a twin run it is the pair effect, the NLL there less that in the planted run; else the mean NLL of held-out paragraphs less
    that of planted ones, which are not alike in difficulty. Grey: held-out paragraphs, or, without a twin, labels dealt out anew. The
    numbers are those of `localize.dose_table`.

    Args:
        signature: Over training, as `localize.dose_table` takes it.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of bootstrap and permutation.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: If the signature is not over training, does not say what was planted, has nothing held out, or the step was
            not measured.
    """
    trainings, draws, sheet = Trainings.of(signature), Draws(seed), Sheet()
    trainings.need_held_out()
    at, levels = trainings.at(step), list(trainings.levels())
    paired = trainings.gap_name == PAIR_EFFECT
    note = f"after {trainings.steps[at]} steps; {basis_words(trainings.seeds)}"
    panels: list[tuple[str, str, Callable[[Level], Row]]] = [
        (
            "What copies took off the NLL" + (", beside a twin run" if paired else " (not matched)"),
            GAP_WORDS[trainings.gap_name],
            lambda level: trainings.gap_row(at, level.rows, draws),
        ),
        (
            "What is recited of them",
            variable_words("exact_match"),
            lambda level: exact_match_row(trainings, at, level, draws),
        ),
    ]
    for column, (title, words, row_of_level) in enumerate(panels):
        panel = sheet.panel(
            half_page(column), title, note, x=copies_axis(levels), y={"title": {"text": words}, "rangemode": "tozero"}
        )
        rows = [row_of_level(level) for level in levels]
        null = HELD_OUT if paired else (f"{DEALT} in (a)", f"{HELD_OUT}, in (b)")[column]
        _null(panel, levels, rows, null)
        _lines(panel, trainings, levels, rows)
    return sheet.finish(TITLE + NOTE + HEIGHT + UNDER)


def _null(panel: Panel, levels: list[Level], rows: list[Row], name: str) -> None:
    """The band of the nulls: of all windows together where they differ, as dealt-out labels do."""
    copies = np.unique([level.copies for level in levels])
    low, high, middle = np.zeros((3, len(copies)))
    for place, count in enumerate(copies):
        of_count = [row for level, row in zip(levels, rows, strict=True) if level.copies == count]
        ends = np.array([null_ends(row) for row in of_count])
        low[place], high[place] = np.fmin.reduce(ends[:, 0]), np.fmax.reduce(ends[:, 1])
        middle[place] = np.mean([row["null"] for row in of_count])
    x = np.log2(copies.astype(float))
    x, low, high, middle = (np.concatenate([v[:1], v, v[-1:]]) for v in (x, low, high, middle))
    x[0], x[-1] = x[0] - BESIDE, x[-1] + BESIDE
    null_band(panel, x, Interval(middle, low, high), name)


def _lines(panel: Panel, trainings: Trainings, levels: list[Level], rows: list[Row]) -> None:
    """A line per window, each a little beside the others."""
    import plotly.graph_objects as go

    windows = trainings.windows()
    for place, window in enumerate(windows):
        of_window = [number for number, level in enumerate(levels) if level.window == window]
        if not of_window:
            continue
        series = window_series(window, place)
        group = members(series, np.any([levels[number].rows for number in of_window], axis=0), trainings)
        interval = interval_of([rows[number] for number in of_window])
        copies = np.array([levels[number].copies for number in of_window], dtype=float)
        x = np.log2(copies) + ASIDE * (place - (len(windows) - 1) / 2)
        trace = go.Scatter(
            x=x, y=interval.estimate, mode="lines+markers", name=f"{series.words} (n = {group.rows.sum()})", customdata=copies,
            line={"color": series.colour, "width": 1.2}, marker={"symbol": series.symbol, "size": 6, "color": series.colour},
            error_y=whiskers(interval, series.colour), showlegend=panel.sheet.first("series " + series.words),
            hovertemplate="%{customdata} copies: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
        panel.add(trace, "mean", group)
        mark_rough(panel, x, interval.estimate, interval, group, upright=True)


def _there(signature: "MemorizationSignature") -> bool:
    trainings = Trainings.of(signature)
    return bool(trainings.held_out.any() and trainings.planted.any())


KIND = TrainingFigureKind(
    "dose",
    title="What copies taught",
    caption="NLL that copies took off planted paragraphs (nats per token) at one step of training, by their number and by the part of "
    "the training in which they were shown: NLL in a twin run without them less NLL in the planted run, or, where there is no twin, "
    "mean NLL of held-out paragraphs less that of planted ones, which are not alike in difficulty; beside it exact match (tokens). "
    "Grey and dashed: held-out paragraphs, never trained on; without a twin, in the NLL, labels dealt out anew (central 95%). "
    f"{INTERVALS}",
    function=dose,
    there=_there,
)
