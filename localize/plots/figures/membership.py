"""How surely each metric of memory tells planted texts from held-out ones: by copies, or while training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.draws import Draws
from localize.analysis.membership import CHANCE, Score, judged, longest, membership_row, scores_of
from localize.analysis.rows import Row, null_ends
from localize.analysis.trainings import Level, Trainings, Window
from localize.errors import SignatureError, caller, public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    BESIDE,
    HEIGHT,
    INTERVALS,
    ROOM,
    UNDER,
    basis_words,
    copies_axis,
    half_page,
    interval_of,
    members,
    null_band,
    stage_lines,
    stages_note,
)
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Panel, Sheet
from localize.plots.theme import axis_words, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

SHOWN = (
    "continued_exact_match", "extraction_probability", "sampled_ngrams_in_rows", "text_log_p", "min_k", "min_k_plus_plus",
)  # fmt: skip
"""Variables that stand in the figure unless others are asked for."""

PLACES = (3, 0, 4, 1, 5, 6, 2)
"""Of metrics among the colours."""

SAME_TEXTS = "the same texts in the twin run"


@public("plots.membership")
def membership(
    signature: "MemorizationSignature",
    step: int = -1,
    *,
    copies: int | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
) -> "go.Figure":
    """AUC of planted against held-out texts, a line per metric of memory: against the copies, or against the step of training.

    A panel for each window of the training in which texts were shown. Grey: the same texts in the twin run, which was shown none of them,
    from the lowest end of the metrics' intervals to the highest, and their mean; without a twin run chance, .5. The numbers are those of
    `localize.membership_table`.

    Args:
        signature: As `localize.membership_table` takes it.
        step: Steps of training after which it was measured; -1 for the last. With `copies` all are shown.
        copies: How often the texts were planted whose AUC is shown at every step; None for all levels, at one step.
        metrics: Their names in the table, at most 7; None for exact match, extraction, sampled n-grams, log p, Min-K% and Min-K%++, where
            they were measured, behind the whole prefix and of the longest n-grams.
        seed: Of the bootstrap, with one seed of the training.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.membership_table`, and if there is no such metric, or no text has so many copies.
    """
    trainings, draws, sheet = judged(signature), Draws(seed), Sheet()
    at, scores = trainings.at(step), _chosen(scores_of(trainings), metrics)
    if copies is not None and not (trainings.copies[trainings.planted] == copies).any():
        there = ", ".join(f"{count:g}" for count in np.unique(trainings.copies[trainings.planted]))
        raise SignatureError(f"{caller()}: no text of {copies} copies; there are texts of {there}.")
    shown = [(window, _levels(trainings, window, copies)) for window in trainings.windows()]
    shown = [(window, levels) for window, levels in shown if levels]
    for number, (window, levels) in enumerate(shown):
        places = [(at, level) for level in levels] if copies is None else _at_every_step(trainings, levels)
        rows = [[membership_row(trainings, score, *place, draws) for place in places] for score in scores]
        if copies is None:
            x = np.log2([float(level.copies) for level in levels])
            axis, note = copies_axis(levels), f"after {trainings.steps[at]} steps; {basis_words(trainings.seeds)}"
        else:
            x, note = trainings.steps.astype(float), f"{copies} copies; {basis_words(trainings.seeds)}"
            axis = {"title": {"text": axis_words("training_step")}, "nticks": 6}
        low = min(float(np.nanmin(np.append(interval_of(of).low, CHANCE))) for of in rows)
        y = {"title": {"text": "AUC (share of pairs)"}, "range": [max(-0.02, low - 0.05), 1.03]}
        panel = sheet.panel(half_page(number), _title(window, len(shown)), note, x=axis, y=y)
        if copies is not None:
            stage_lines(panel, trainings, *y["range"])
        _null(panel, x, rows, paired=trainings.twin_nll is not None, apart=BESIDE if copies is None else 0.0)
        for place, (score, of) in enumerate(zip(scores, rows, strict=True)):
            series = Series.of(plain(score.words, 60), PLACES[place % len(PLACES)])
            group = members(series, np.any([level.rows for level in levels], axis=0), trainings)
            series.draw(panel, x, interval_of(of), group)
    bottom = TITLE + NOTE + HEIGHT + UNDER + (len(shown) - 1) // 2 * (HEIGHT + ROOM)
    return sheet.finish(bottom if copies is None else stages_note(sheet, trainings, bottom))


def _chosen(scores: list[Score], metrics: Sequence[str] | None) -> list[Score]:
    """The metrics of a figure."""
    if metrics is None:
        return [score for score in longest(scores) if score.variable in SHOWN]
    by_name = {score.words: score for score in scores}
    if isinstance(metrics, str) or not 1 <= len(metrics) <= len(PLACES) or not set(metrics) <= set(by_name):
        raise SignatureError(
            f"{caller()}: metrics={metrics!r}; 1 to {len(PLACES)} of the table's are needed: {', '.join(by_name)}."
        )
    return [by_name[name] for name in metrics]


def _levels(trainings: Trainings, window: Window, copies: int | None) -> list[Level]:
    """The levels of a window that are shown."""
    return [one for one in trainings.levels() if one.window == window and copies in (None, one.copies)]


def _at_every_step(trainings: Trainings, levels: list[Level]) -> list[tuple[int, Level]]:
    return [(at, levels[0]) for at in range(len(trainings.steps))]


def _title(window: Window, panels: int) -> str:
    told = "Planted from held-out texts"
    return told if panels == 1 else f"{told}: shown in {100 * window.start:.3g}–{100 * window.end:.3g}%"


def _null(panel: Panel, x: np.ndarray, rows: list[list[Row]], *, paired: bool, apart: float) -> None:
    """The band of what the same texts give in the twin run, of all metrics together; without one the line of chance."""
    ends = np.array([[null_ends(row) for row in of] for of in rows])  # (metric, place, end)
    low, high = np.fmin.reduce(ends[..., 0]), np.fmax.reduce(ends[..., 1])
    middle = np.mean([[row["null"] for row in of] for of in rows], axis=0)
    x, low, high, middle = (np.concatenate([v[:1], v, v[-1:]]) for v in (x, low, high, middle))
    x[0], x[-1] = x[0] - apart, x[-1] + apart
    if paired:
        null_band(panel, x, Interval(middle, low, high), SAME_TEXTS)
    else:
        panel.null_line(x, middle, "AUC of chance")


def _there(signature: "MemorizationSignature") -> bool:
    trainings = Trainings.of(signature)
    return "min_k" in signature and bool(trainings.held_out.any() and trainings.planted.any())


KIND = TrainingFigureKind(
    "membership",
    title="Which metric tells planted texts",
    caption="AUC by the copies of the planted texts, at one step of training: the share of pairs of a planted and a held-out text in which "
    "the planted one has the larger value of a metric of memory, behind the whole prefix and of the longest n-grams. Grey: the AUCs of "
    "the same texts in a twin run that was shown none of them, which is what their own difficulty gives, all metrics' 95% intervals "
    f"together, and dashed their mean; without a twin run chance, .5. {INTERVALS}",
    function=membership,
    there=_there,
)
