"""How many bits of a set of random rows a model holds: over the steps of its training, and against the bits that there are."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.capacity import PER_PARAMETER, SOURCE, capacity_rows
from localize.analysis.draws import Draws
from localize.analysis.rows import Row
from localize.analysis.sets import OfSet, by_size, is_grid, sets_of
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    HEIGHT,
    INTERVALS,
    PLACES,
    UNDER,
    basis_words,
    half_page,
    interval_of,
    members,
    whisker_points,
)
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Panel, Sheet
from localize.plots.theme import NULL, axis_words, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

NEVER, ALL = "as many rows never shown", "known wholly"
WORDS = "bits per parameter"

BELOW = 0.3
"""How far below 0 the panel over steps goes, as a share of the most that is held: of rows never shown a model that trusts its memory does
many times worse than their law, which would leave no room for what it holds."""


@public("plots.capacity")
def capacity(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """Bits per parameter that a model holds of a set of random rows, a line per arm over the steps; beside it against the bits of the set.

    Grey: first the same of rows that were never shown, from the lowest end of all arms to the highest, as far as it
    is not below the panel; beside it what a model that knows its set wholly would hold. The numbers are those of `localize.capacity_table`.

    Args:
        signature: As `localize.capacity_table` takes it.
        step: Steps of training after which the second panel is; -1 for the last.
        seed: Of the bootstrap, with one seed of the training.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.capacity_table`.
    """
    import plotly.graph_objects as go

    sets, draws, sheet = sets_of(signature, SOURCE), Draws(seed), Sheet()
    told = {one.arm: [_per_parameter(one, at, draws) for at in range(len(one.trainings.steps))] for one in sets}
    first = sets[0].trainings
    at, basis = first.at(step), basis_words(first.seeds)
    y = {"title": {"text": WORDS}}
    axis = {"title": {"text": axis_words("training_step")}, "nticks": 6}
    highest = max(row["high"] if np.isfinite(row["high"]) else row["estimate"] for of in told.values() for row in of)
    shown = dict(y, range=[-BELOW * highest, 1.05 * highest])
    panel = sheet.panel(half_page(0), "What is held of the rows", basis, x=axis, y=shown)
    _never(panel, first.steps.astype(float), list(told.values()))
    looks = [(one, Series.of(_words(one), PLACES[place % len(PLACES)])) for place, one in enumerate(sets)]
    for one, series in looks:
        group = members(series, one.shown, one.trainings)
        series.draw(panel, one.trainings.steps.astype(float), interval_of(told[one.arm]), group)
    data = np.array([told[one.arm][at]["data_bits_per_parameter"] for one in sets])
    top = 1.05 * data.max()
    beside = sheet.panel(
        half_page(1), "Against what there is to hold", f"after {first.steps[at]} steps; {basis}",
        x={"title": {"text": f"{WORDS} in the data"}, "range": [0.0, top]}, y=dict(y, rangemode="tozero"),
    )  # fmt: skip
    end = min(top, 1.1 * max(highest, data.min()))
    look = {"color": NULL, "width": 1.2, "dash": "dot"}
    beside.add(go.Scatter(x=[0.0, end], y=[0.0, end], mode="lines", line=look, name=ALL, showlegend=True), "rule")
    for place, (one, series) in enumerate(looks):
        group = members(series, one.shown, one.trainings)
        whisker_points(beside, series, data[place : place + 1], interval_of([told[one.arm][at]]), group)
    return sheet.finish(TITLE + NOTE + HEIGHT + UNDER)


def _words(one: OfSet) -> str:
    """ "240 rows", and the dtype where it is not the usual one."""
    words = f"{one.rows} rows" + ("" if one.dtype == "float32" else f", {one.dtype}")
    return plain(words)


def _per_parameter(one: OfSet, at: int, draws: Draws) -> Row:
    return next(row for row in capacity_rows(one, at, draws) if row["quantity"] == PER_PARAMETER)


def _never(panel: Panel, x: np.ndarray, rows: list[list[Row]]) -> None:
    """What the same is of rows never shown, of all arms together: from the lowest end to the highest, and their mean."""
    ends = np.array([[(row["null_mean_low"], row["null"], row["null_mean_high"]) for row in of] for of in rows])
    low, middle, high = np.fmin.reduce(ends[..., 0]), ends[..., 1].mean(0), np.fmax.reduce(ends[..., 2])
    panel.band(x, low, high, "null interval", name=f"{NEVER}: 95% interval")
    panel.null_line(x, middle, NEVER)


KIND = TrainingFigureKind(
    "capacity",
    title="How many bits are held",
    caption="Bits per parameter that the model holds of a set of uniform random rows, a lower bound: those of their law, log2 of the "
    "vocabulary a token, less the model's NLL of all tokens but the first; over the steps of training, and against the bits per parameter "
    "that there are in the set. Grey: as many rows of the same law that were never shown, from the lowest end of the intervals of all arms "
    "to the highest, and their mean, which soon lie far below the panel; beside it all of the data, where a set is known wholly. "
    + INTERVALS,
    function=capacity,
    there=lambda signature: not is_grid(by_size(sets_of(signature, SOURCE))),
    of="capacity",
)
