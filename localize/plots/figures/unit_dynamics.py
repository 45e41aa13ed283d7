"""Where a text's best units appear, move and vanish while a model is trained, beside the twin that never saw it."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.stored_units import LOW_HALF
from localize.analysis.trainings import Level
from localize.analysis.unit_dynamics import ALIKE, KEPT, LESS_TWIN, UnitDynamics, unit_dynamics_table
from localize.errors import public
from localize.plots.groups import Group
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    HEIGHT,
    HELD_OUT,
    INTERVALS,
    PLACES,
    ROOM,
    UNDER,
    basis_words,
    half_page,
    interval_of,
    members,
)
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Panel, Sheet
from localize.plots.theme import axis_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

TWIN = "the same texts in the twin run"
SHARE, APART = "share of the best units", "difference of shares"


@public("plots.unit_dynamics")
def unit_dynamics(
    signature: "MemorizationSignature", units: int | None = None, step: int | None = None, *, seed: int = 0
) -> "go.Figure":
    """Which of a text's best units it has in common with the twin run, which it had when it was last shown, and how low they lie.

    A line per number of copies and window. Dashed in its colour: the same texts in the twin run, which was never shown them. Grey:
    held-out texts. The numbers are those of `localize.unit_dynamics_table`.

    Args:
        signature: Over training, as `localize.unit_dynamics_table` takes it, with a twin run.
        units: How many of each text's best units are looked at; None for 16.
        step: What is kept is told of the units that are best at this step; None for when each text was last shown.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.unit_dynamics_table` raises it.
    """
    dynamics = UnitDynamics.of(signature, units, step)
    table, sheet = unit_dynamics_table(signature, units, step, seed=seed), Sheet()
    levels = [level for level in dynamics.levels() if level.copies]
    seeds, count = basis_words(dynamics.trainings.seeds), dynamics.units
    when = "when last shown" if step is None else f"at step {dynamics.trainings.steps[dynamics.trainings.at(step)]}"
    panels = [
        (ALIKE, "Best units in common with the twin run", SHARE, seeds),
        (KEPT, f"Best units {when}: already, and still", SHARE, "dashed: the same texts in the twin run"),
        (KEPT + LESS_TWIN, "The same less the twin run's", APART, "grey: held-out texts, by the same step as each line"),
        (LOW_HALF + LESS_TWIN, "Best units in the lower layers, less the twin run's", APART, "lower half of the layers"),
    ]  # fmt: skip
    for number, (quantity, title, words, note) in enumerate(panels):
        y = {"title": {"text": words}} | ({"range": [0, 1.04]} if quantity in (ALIKE, KEPT) else {})
        x = {"title": {"text": axis_words("training_step")}, "nticks": 6}
        panel = sheet.panel(half_page(number), title, note, x=x, y=y)
        rows = table.xs(quantity.format(count), level="quantity")
        for place, level in enumerate(levels):
            _line(panel, dynamics, rows, level, _series(level, place, levels), twin=quantity == KEPT)
    return sheet.finish(2 * (TITLE + NOTE + HEIGHT) + ROOM - TITLE - NOTE + UNDER)


def _series(level: Level, place: int, levels: list[Level]) -> Series:
    """The line of a level, named by what tells it from the others."""
    words = [f"{level.copies} copies"] if len({one.copies for one in levels}) > 1 else []
    if len({one.window for one in levels}) > 1:
        words.append(f"shown in {100 * level.window.start:.3g}–{100 * level.window.end:.3g}% of the training")
    return Series.of(f"{', '.join(words) or 'planted'} (n = {level.rows.sum()})", PLACES[place % len(PLACES)])


def _line(
    panel: Panel, dynamics: UnitDynamics, table: "pd.DataFrame", level: Level, series: Series, *, twin: bool
) -> None:
    """A level's means with their band, and what they are held against."""
    trainings = dynamics.trainings
    at = (table.index.get_level_values("copies") == level.copies) & (
        table.index.get_level_values("window") == level.window.words
    )
    rows = [dict(row) for _, row in table[at].iterrows()]
    x = table.index.get_level_values("step").to_numpy()[at]
    group = members(series, level.rows, trainings)
    beside = Interval(*(np.array([row[end] for row in rows]) for end in ("null", "null_mean_low", "null_mean_high")))
    if twin:
        _dashed(panel, x, beside.estimate, series, group)
    else:
        null = Series.of(f"{HELD_OUT} (n = {trainings.held_out.sum()})", 0, null=True)
        null.draw(panel, x, beside, members(null, trainings.held_out, trainings))
    series.draw(panel, x, interval_of(rows), group)


def _dashed(panel: Panel, x: np.ndarray, y: np.ndarray, series: Series, group: Group) -> None:
    """The twin run's means."""
    import plotly.graph_objects as go

    line = {"color": series.colour, "width": 1.2, "dash": "dash"}
    trace = go.Scatter(
        x=x, y=y, mode="lines", line=line, name=f"null: {TWIN}", legendgroup=series.words, showlegend=False
    )
    panel.add(trace, "null", group)


KIND = TrainingFigureKind(
    "unit_dynamics",
    title="Where units appear, move and vanish",
    caption="Of each text's best MLP units, by their score over the size of their usual effect on other texts: the share that are among "
    "its best in the twin run at the same step; the share that are when it is last shown, beside (dashed) the same texts in the twin run; "
    "that share less the twin run's; and the share in the lower half of the layers less the twin run's. Means over texts by training "
    f"step, a line per number of copies and window. Grey and dashed: held-out texts, which neither run was shown. {INTERVALS}",
    function=unit_dynamics,
    there=lambda signature: "unit_score" in signature and "training_run" in signature.over_training,
)
