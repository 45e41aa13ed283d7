"""How many bits models of several sizes hold of sets of random rows: where each stops, and how many that are for a parameter."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.capacity import BITS, PER_PARAMETER, SOURCE, capacity_rows
from localize.analysis.draws import Draws
from localize.analysis.rows import Row
from localize.analysis.sets import OfSet, by_size, is_grid, sets_of
from localize.errors import SignatureError, public
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
from localize.plots.sheet import NOTE, TITLE, Sheet
from localize.plots.theme import NULL

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

ALL = "known wholly"
ROOM = 1.25
"""By how much an axis of doublings goes further than what stands on it."""


@public("plots.capacity_by_size")
def capacity_by_size(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """Bits held against the bits that there are, a line per size of the model; beside it the most of each size, in bits per parameter.

    The numbers are those of `localize.capacity_table`. Which number of rows is held best is chosen by the estimate itself, so that the
    second panel's ends are those of a chosen one: a little too high, where several are alike.

    Args:
        signature: As `localize.capacity_table` takes it, of arms that differ in the model's size and in rows: `Sweep.training` gives one.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of the bootstrap, with one seed of the training.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.capacity_table`, or if there are not several sizes, or one has one set alone.
    """
    import plotly.graph_objects as go

    sizes = by_size(sets_of(signature, SOURCE))
    if not is_grid(sizes):
        raise SignatureError("plots.capacity_by_size: at least two sizes of the model with two sets each are needed.")
    draws, sheet = Draws(seed), Sheet()
    first = next(iter(sizes.values()))[0].trainings
    at, basis = first.at(step), basis_words(first.seeds)
    when = f"after {first.steps[at]} steps; {basis}"
    told = {size: [_told(one, at, draws) for one in of] for size, of in sizes.items()}
    data = {size: np.array([one.data_bits for one in of]) for size, of in sizes.items()}
    every = np.concatenate(list(data.values()))
    ends = [every.min() / ROOM, every.max() * ROOM]
    low = min(row["estimate"] for of in told.values() for row, _ in of if row["estimate"] > 0)
    x = {"title": {"text": "bits in the data"}, "type": "log", "range": np.log10(ends).tolist(), "dtick": "D2"}
    y = {"title": {"text": "bits held"}, "type": "log", "dtick": "D2"}
    panel = sheet.panel(
        half_page(0), "What is held of the rows", when, x=x, y=dict(y, range=np.log10([low / ROOM, ends[1]]).tolist())
    )
    look = {"color": NULL, "width": 1.2, "dash": "dot"}
    panel.add(go.Scatter(x=ends, y=ends, mode="lines", line=look, name=ALL, showlegend=True), "rule")
    top = max(row["high"] if np.isfinite(row["high"]) else row["estimate"] for of in told.values() for _, row in of)
    around = [min(sizes) / 2, 2 * max(sizes)]
    beside = sheet.panel(
        half_page(1), "The most that a size holds", when,
        x={"title": {"text": "parameters"}, "type": "log", "range": np.log10(around).tolist(), "dtick": "D2"},
        y={"title": {"text": "bits per parameter"}, "range": [0.0, 1.15 * top]},
    )  # fmt: skip
    for place, (size, of) in enumerate(sizes.items()):
        series = Series.of(f"{size:,} parameters", PLACES[place % len(PLACES)])
        group = members(series, of[0].shown, of[0].trainings)
        series.draw(panel, data[size], interval_of([row for row, _ in told[size]]), group)
        most = max((row for _, row in told[size]), key=lambda row: row["estimate"])
        whisker_points(beside, series, np.array([float(size)]), interval_of([most]), group)
    never = max(row["null_mean_high"] for of in told.values() for _, row in of)
    bottom = TITLE + NOTE + HEIGHT + UNDER
    null = f"Of rows that were never shown at most {never:.2g} bits per parameter are held, in all trainings."
    sheet.text(null, 4, bottom + NOTE, colour=NULL)
    return sheet.finish(bottom + NOTE + 4)


def _told(one: OfSet, at: int, draws: Draws) -> tuple[Row, Row]:
    """Bits of the whole set, and per parameter."""
    rows = {row["quantity"]: row for row in capacity_rows(one, at, draws)}
    return rows[BITS], rows[PER_PARAMETER]


KIND = TrainingFigureKind(
    "capacity_by_size",
    title="How many bits each size holds",
    caption="Bits that models of several sizes hold of sets of uniform random rows, lower bounds: those of their law, log2 of the "
    "vocabulary a token, less the model's NLL of all tokens but the first. First against the bits that there are in the set, on "
    "logarithmic axes; a set that is known wholly stands on the dotted line. Then the most that each size holds, of whichever set, in "
    "bits per parameter. Under it the null: the highest end of the intervals of as many rows that were never shown. "
    + INTERVALS,
    function=capacity_by_size,
    there=lambda signature: is_grid(by_size(sets_of(signature, SOURCE))),
    of="capacity",
)
