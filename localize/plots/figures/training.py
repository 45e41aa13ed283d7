"""The course of a training: NLL and exact match of what was planted, of what was never shown, and of the same in a twin run."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.draws import Draws
from localize.analysis.trainings import Trainings, of_run
from localize.axes import MEMORIZED, NOT_MEMORIZED, TWIN
from localize.errors import public
from localize.plots.groups import Group
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    HEIGHT,
    HELD_OUT,
    INTERVALS,
    UNDER,
    basis_words,
    half_page,
    members,
    stage_lines,
    stages_note,
)
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Sheet
from localize.plots.theme import RECALL_COLOURS, axis_words, plain, variable_words
from localize.signature.schema import range_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

QUANTITIES = {"nll": "NLL", "exact_match": "exact match"}
PLANTED, IN_TWIN = "planted paragraphs", "these in the twin run, without them"


@public("plots.training")
def training(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """NLL and exact match by training step: of the planted paragraphs, of these in the twin run, and of held-out ones.

    Means over paragraphs, with 95 % bands over seeds, with one seed by bootstrap over clusters. What the planted paragraphs gain
    beyond both others is memory of them; what all three have in common is learned of the language.

    Args:
        signature: Over training, with `nll`, `exact_match` and the coordinate `duplicates`.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: If the signature is not over training, or does not say what was planted.
    """
    trainings, draws, sheet = Trainings.of(signature), Draws(seed), Sheet()
    for column, (name, words) in enumerate(QUANTITIES.items()):
        box, possible = half_page(column), range_of(trainings.dataset, name)
        intervals = [
            (series, group, trainings.interval(values, group.rows, draws, possible))
            for series, group, values in _lines(trainings, name)
        ]
        highest = max(float(np.nanmax(np.concatenate([one.estimate, one.high]))) for *_, one in intervals)
        x = {"title": {"text": axis_words("training_step")}, "nticks": 6}
        y = {"title": {"text": variable_words(name, words)}, "range": [0.0, 1.04 * (highest or 1.0)]}
        panel = sheet.panel(
            box, f"{words[0].upper()}{words[1:]} while training", basis_words(trainings.seeds), x=x, y=y
        )
        stage_lines(panel, trainings, *y["range"])
        for series, group, interval in intervals:
            series.draw(panel, trainings.steps, interval, group)
    return sheet.finish(stages_note(sheet, trainings, TITLE + NOTE + HEIGHT + UNDER))


def _lines(trainings: Trainings, name: str) -> list[tuple[Series, Group, Float[np.ndarray, "seed step paragraph"]]]:
    """The planted paragraphs, these in the twin run, and held-out ones: where there are any."""
    values = {"nll": trainings.nll, "exact_match": trainings.exact_match}[name]
    of_planted = Series(_words(PLANTED, trainings.planted), RECALL_COLOURS[MEMORIZED], "circle")
    found = [(of_planted, trainings.planted, values)]
    if trainings.twin_nll is not None:
        series = Series(_words(IN_TWIN, trainings.planted), RECALL_COLOURS[NOT_MEMORIZED], "square")
        found.append((series, trainings.planted, of_run(trainings.dataset, name, TWIN)))
    for place, (text, rows) in enumerate(trainings.held_out_by_text.items()):
        words = _words(HELD_OUT + (f", of {plain(text)}" if text else ""), rows)
        null = bool(trainings.planted.any() and (rows & trainings.held_out).any())
        found.append((Series.of(words, place + 4 * bool(trainings.planted.any()), null=null), rows, values))
    return [(series, members(series, rows, trainings), of) for series, rows, of in found if rows.any()]


def _words(words: str, rows: Bool[np.ndarray, " paragraph"]) -> str:
    return f"{words} (n = {rows.sum()})"


def _there(signature: "MemorizationSignature") -> bool:
    return len(Trainings.of(signature).steps) > 1


KIND = TrainingFigureKind(
    "training",
    title="The course of the training",
    caption="NLL (nats per token) and exact match (tokens) by training step: means over planted paragraphs, over the same in a twin run "
    "that was trained alike but not on them, and, grey and dashed, over held-out paragraphs, never trained on. "
    + INTERVALS,
    function=training,
    there=_there,
)
