"""How what was learned of paragraphs fades once they are shown no more: a line per window, its curve, and held-out paragraphs."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.draws import Draws
from localize.analysis.forgetting import Fading, ended, fadings_of
from localize.analysis.trainings import PAIR_EFFECT, Trainings
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    GAP_WORDS,
    INTERVALS,
    basis_words,
    members,
    null_band,
    stage_lines,
    stages_note,
    window_series,
)
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import WIDTH, axis_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

LEFT, HEIGHT, UNDER = 44, 230, 40

BAR, APART, ABOVE = 5, 0.045, 0.05
"""Px of the bar that says when a window's paragraphs were shown; shares of the height between two, and above the highest value."""

POINTS = 200
"""Of a fitted curve."""


@public("plots.forgetting")
def forgetting(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """What is left of what was learned of paragraphs, by training step, a line per window in which they were shown.

    The bars on top say when. Dashed, from a window's end on, is the curve floor + drop exp(-t / tau) that `localize.forgetting_table`
    tells of, the mean over seeds; the measured means stand beside it as points. Grey: held-out paragraphs.

    Args:
        signature: Over training, as `localize.forgetting_table` takes it.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.forgetting_table` raises it.
    """
    trainings, draws, sheet = Trainings.of(signature), Draws(seed), Sheet()
    fadings = {fading.window: fading for fading in fadings_of(trainings)}
    windows = trainings.windows()
    intervals = [trainings.gap_interval(trainings.inside(window), draws) for window in windows]
    tops = [np.nanmax(np.concatenate([one.estimate, one.high])) for one in intervals]
    bottoms = [min(0.0, np.nanmin(np.concatenate([one.estimate, one.low]))) for one in intervals]
    low, span = float(min(bottoms)), float(max(tops)) - float(min(bottoms)) or 1.0
    first_bar = float(max(tops)) + ABOVE * span
    high = first_bar + APART * span * len(windows)
    box = Box(LEFT, TITLE + NOTE, WIDTH - LEFT - 12, HEIGHT)
    y = {"title": {"text": GAP_WORDS[trainings.gap_name]}, "range": [low - 0.03 * span, high]}
    x = {"title": {"text": axis_words("training_step")}, "nticks": 8, "range": [0, trainings.total_steps * 1.04]}
    panel = sheet.panel(box, "What is left of what was learned", _note(trainings), x=x, y=y)
    stage_lines(panel, trainings, low, high)
    _null(panel, trainings, draws)
    for place, (window, interval) in enumerate(zip(windows, intervals, strict=True)):
        series = window_series(window, place)
        _line(panel, trainings, series, interval, fadings.get(window), trainings.inside(window))
        bar_at = first_bar + APART * span * (len(windows) - 1 - place)
        _bar(panel, series, [window.start * trainings.total_steps, window.end * trainings.total_steps], bar_at)
    return sheet.finish(stages_note(sheet, trainings, TITLE + NOTE + HEIGHT + UNDER))


def _note(trainings: Trainings) -> str:
    told = f"bars on top: when they were shown; dashed: floor + drop·exp(−t/τ); {basis_words(trainings.seeds)}"
    return told + "; difficulty not matched" * (trainings.gap_name != PAIR_EFFECT)


def _null(panel: Panel, trainings: Trainings, draws: Draws) -> None:
    """Held-out paragraphs: their own pair effect, or by what the gap is without a twin 0."""
    if trainings.gap_name == PAIR_EFFECT:
        null_band(panel, trainings.steps, trainings.interval(trainings.gap, trainings.held_out, draws))
    else:
        flat = np.zeros(len(trainings.steps))
        null_band(panel, trainings.steps, Interval(flat, flat * np.nan, flat * np.nan))


def _line(
    panel: Panel, trainings: Trainings, series: Series, interval: Interval, fading: Fading | None, rows: np.ndarray
) -> None:
    """Means with their band: a line up to the window's end, and points beside the dashed curve after it."""
    import plotly.graph_objects as go

    group, steps = members(series, rows, trainings), trainings.steps
    name = f"{series.words} (n = {rows.sum()})"
    panel.band(steps, interval.low, interval.high, "interval", group, interval.rough, name=f"{name}: 95% interval")
    curve = None if fading is None or not fading.fitted else fading
    until = len(steps) if curve is None else int(curve.places[0]) + 1
    parts = [("mean", slice(0, until), "lines+markers"), ("mean", slice(until, None), "markers")]
    marker = {"symbol": series.symbol, "size": 5, "color": series.colour}
    for number, (what, part, mode) in enumerate(parts):
        if len(steps[part]):
            trace = go.Scatter(x=steps[part], y=interval.estimate[part], mode=mode, marker=marker, name=name)
            trace.update(line={"color": series.colour, "width": 1.5}, showlegend=number == 0)
            panel.add(trace, what, group)
    if curve is not None:
        x = np.linspace(curve.last, float(steps[curve.places[curve.points - 1]]), POINTS)
        line = {"color": series.colour, "width": 1.5, "dash": "dash"}
        trace = go.Scatter(x=x, y=mean_curve(curve, x), mode="lines", line=line, name=f"{name}: fit", hoverinfo="skip")
        panel.add(trace.update(showlegend=False), "fit", group)


def mean_curve(fading: Fading, x: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """The mean over seeds of the fitted curves at some steps."""
    return np.mean([fit.at(x - fading.last) for fit in fading.fits if fit.fitted], axis=0)


def _bar(panel: Panel, series: Series, ends: list[float], at: float) -> None:
    """When the paragraphs of a window were shown."""
    import plotly.graph_objects as go

    if np.isnan(ends).any():
        return
    line = {"color": series.colour, "width": BAR}
    trace = go.Scatter(x=ends, y=[at, at], mode="lines", line=line, name=series.words, hoverinfo="name")
    panel.add(trace.update(showlegend=False), "window")


def _there(signature: "MemorizationSignature") -> bool:
    trainings = Trainings.of(signature)
    return bool(trainings.held_out.any() and ended(trainings))


KIND = TrainingFigureKind(
    "forgetting",
    title="How what was learned is forgotten",
    caption="NLL of planted paragraphs in a twin run without them less NLL in the planted run (nats per token), or, where there is no "
    "twin, mean NLL of held-out paragraphs less that of planted ones, by training step; in colour the windows of the training in which "
    "they were shown, which the bars on top mark. Dashed: floor + drop exp(-t / tau) from the window's end on, fitted to each seed. "
    f"Grey and dashed: held-out paragraphs, never trained on. {INTERVALS}",
    function=forgetting,
    there=_there,
)
