"""How surely each metric of memory tells planted texts from held-out ones: by copies, or while training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import mean_measured
from localize.analysis.draws import Draws
from localize.analysis.membership import CHANCE, Score, judged, longest, membership_row, scores_of
from localize.analysis.rows import DIFFERENCE, Row, null_ends
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
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import axis_words, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

SHOWN = (
    "continued_exact_match", "extraction_probability", "sampled_ngrams_in_rows", "text_log_p", "min_k", "min_k_plus_plus",
)  # fmt: skip
"""Variables that stand in the figure unless others are asked for."""

PLACES = (3, 0, 4, 1, 5, 2, 6)
"""Of metrics among the colours."""

SAME_TEXTS, CHANCE_WORDS = "the same texts in the twin run", "AUC of chance"


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

    First how far it is from the AUC of the same texts in the twin run, which was shown none of them; beside it the AUC itself. Grey there:
    the twin run, from the lowest end of the metrics' intervals to the highest, and their mean; without a twin run chance, .5, and no
    first panel. Each window of the training in which texts were shown has panels of its own. The numbers are those of
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
    shown = [(window, levels) for window in trainings.windows() if (levels := _levels(trainings, window, copies))]
    kinds, boxes = [GAIN, AUC] if trainings.twin_nll is not None else [AUC], 0
    for window, levels in shown:
        along = _along_copies(trainings, levels, at) if copies is None else _along_steps(trainings, levels[0])
        rows = [[membership_row(trainings, score, *place, draws) for place in along.places] for score in scores]
        told = "" if len(shown) == 1 else f", shown in {100 * window.start:.3g}–{100 * window.end:.3g}%"
        for kind in kinds:
            panel = _panel(sheet, half_page(boxes), kind, told, along, rows)
            if copies is not None:
                stage_lines(panel, trainings, *sheet.figure.layout[panel.axis("y")].range)
            for place, (score, of) in enumerate(zip(scores, rows, strict=True)):
                series = Series.of(plain(score.words, 60), PLACES[place % len(PLACES)])
                group = members(series, np.any([level.rows for level in levels], axis=0), trainings)
                series.draw(panel, along.x, kind.interval(of), group)
            boxes += 1
    bottom = TITLE + NOTE + HEIGHT + UNDER + (boxes - 1) // 2 * (HEIGHT + ROOM)
    return sheet.finish(bottom if copies is None else stages_note(sheet, trainings, bottom))


@dataclass(frozen=True, eq=False)
class _Kind:
    """What a panel shows of the rows of a table.

    Attributes:
        title: Of the panel.
        words: Of its axis.
        low: Lowest and highest end that the axis must reach.
        high: Likewise.
        interval: The numbers of one metric.
        null: What nothing looks like, of all metrics together.
    """

    title: str
    words: str
    low: float
    high: float
    interval: Callable[[list[Row]], Interval]
    null: Callable[[list[list[Row]]], Interval]


@dataclass(frozen=True, eq=False)
class _Along:
    """What stands along the axis of a panel: its places, the step and level of each, and how far the axis goes beyond."""

    x: Float[np.ndarray, " place"]
    places: list[tuple[int, Level]]
    axis: dict[str, Any]
    note: str
    beside: float


def _along_copies(trainings: Trainings, levels: list[Level], at: int) -> _Along:
    note = f"after {trainings.steps[at]} steps; {basis_words(trainings.seeds)}"
    x = np.log2([float(level.copies) for level in levels])
    return _Along(x, [(at, level) for level in levels], copies_axis(levels), note, BESIDE)


def _along_steps(trainings: Trainings, level: Level) -> _Along:
    axis = {"title": {"text": axis_words("training_step")}, "nticks": 6}
    places = [(at, level) for at in range(len(trainings.steps))]
    note = f"{level.copies} copies; {basis_words(trainings.seeds)}"
    return _Along(trainings.steps.astype(float), places, axis, note, 0.0)


def _panel(sheet: Sheet, box: Box, kind: _Kind, told: str, along: _Along, rows: list[list[Row]]) -> Panel:
    """A panel with its null, before any line."""
    ends = [kind.interval(of) for of in rows]
    null = kind.null(rows)
    known = np.concatenate([np.append(one.low, one.high) for one in (*ends, null)])
    known = np.append(known[np.isfinite(known)], [kind.low, kind.high])
    room = 0.04 * np.ptp(known)
    y = {"title": {"text": kind.words}, "range": [float(known.min() - room), float(known.max() + room)]}
    panel = sheet.panel(box, kind.title + told, along.note, x=along.axis, y=y)
    x, middle, low, high = (np.concatenate([v[:1], v, v[-1:]]) for v in (along.x, null.estimate, null.low, null.high))
    x[0], x[-1] = x[0] - along.beside, x[-1] + along.beside
    if np.isnan(low).all():
        panel.null_line(x, middle, SAME_TEXTS if kind is GAIN else CHANCE_WORDS)
    else:
        null_band(panel, x, Interval(middle, low, high), SAME_TEXTS)
    return panel


def _gain(rows: list[Row]) -> Interval:
    """How far the AUC of a metric is from the twin run's."""
    ends = (np.array([row[end] for row in rows], dtype=float) for end in DIFFERENCE)
    return Interval(*ends, rough=np.array([bool(row["rough"]) for row in rows]))


def _nothing(rows: list[list[Row]]) -> Interval:
    flat = np.zeros(len(rows[0]))
    return Interval(flat, flat * np.nan, flat * np.nan)


def _of_twin(rows: list[list[Row]]) -> Interval:
    """What the same texts give in the twin run: from the lowest end of all metrics to the highest, and the mean; or chance."""
    ends = np.array([[null_ends(row) for row in of] for of in rows])  # (metric, place, end)
    middle = mean_measured(np.array([[row["null"] for row in of] for of in rows], dtype=float))
    return Interval(middle, np.fmin.reduce(ends[..., 0]), np.fmax.reduce(ends[..., 1]))


GAIN = _Kind("AUC less the twin run's", "AUC, planted − twin run", 0.0, 0.0, _gain, _nothing)
AUC = _Kind("AUC of planted from held-out texts", "AUC (share of pairs)", CHANCE, 1.0, interval_of, _of_twin)


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


def _there(signature: "MemorizationSignature") -> bool:
    trainings = Trainings.of(signature)
    return "min_k" in signature and bool(trainings.held_out.any() and trainings.planted.any())


KIND = TrainingFigureKind(
    "membership",
    title="Which metric tells planted texts",
    caption="AUC by the copies of the planted texts, at one step of training: the share of pairs of a planted and a held-out text in which "
    "the planted one has the larger value of a metric of memory, behind the whole prefix and of the longest n-grams. First, where there "
    "is a twin run that was shown none of them, less the AUC of the same texts there, which is what their own difficulty gives; beside "
    "it as it is. Grey: the twin run's AUCs, all metrics' 95% intervals together, and dashed their mean; without a twin run chance, .5. "
    f"{INTERVALS}",
    function=membership,
    there=_there,
)
