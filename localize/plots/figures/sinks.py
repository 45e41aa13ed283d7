"""What memorization sinks did: NLL of planted and of held-out texts by arm and gate, and the share of the gap that is closed."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.rows import Row
from localize.analysis.sinks import CLOSED, HELD_OUT_NLL, NO_SINKS, REPEATED, SinkArms, has_sinks, sink_rows
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    STEP,
    UNDER,
    WIDE,
    basis_words,
    half_page,
    interval_of,
    labelled_axis,
    whisker_points,
)
from localize.plots.series import Series
from localize.plots.sheet import Panel, Sheet
from localize.plots.theme import Px, plain, variable_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

TEXTS = {REPEATED: ("planted texts", 0, -0.12), HELD_OUT_NLL: ("held-out texts", 3, 0.12)}
"""Of each quantity the words, the place among the colours, and how far aside it stands."""

LINE: Px = 14
"""For the second line of labels under a panel."""

UNTIED = "masks drawn anew at each showing"


@public("plots.sinks")
def sinks(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """NLL of planted and of held-out texts by arm and gate of memorization sinks, and the share of the gap between them that is closed.

    Grey: the same of the control, whose masks were drawn anew at each showing. The numbers are those of `localize.sink_table`.

    Args:
        signature: As `localize.sink_table` takes it.
        step: Steps of training after which it was measured; -1 for the last.
        seed: As other figures take it; nothing is drawn here.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.sink_table`.
    """
    arms, sheet = SinkArms.of(signature, step), Sheet()
    rows, note = sink_rows(arms), f"after {arms.step} steps; {basis_words(arms.standard.trainings.seeds)}"
    places = [(one.arm, one.gate) for one in arms.found]
    labels = [plain(arm) if gate == NO_SINKS else f"{plain(arm)}<br>{gate}" for arm, gate in places]
    box = replace(half_page(0), width=STEP + WIDE)
    y = {"title": {"text": variable_words("nll", "NLL")}, "rangemode": "tozero"}
    x = labelled_axis("arm of the training, and its sinks that are on", labels)
    panel = sheet.panel(box, "NLL of planted and of held-out texts", note, x=x, y=y)
    for quantity, (words, colour, aside) in TEXTS.items():
        of = [row for row in rows if row["quantity"] == quantity]
        at = np.array([places.index((row["training_arm"], row["gate"])) for row in of]) + aside
        whisker_points(panel, Series.of(words, colour), at, interval_of(of), keyed=True)
    shown = [row for row in rows if row["quantity"] == CLOSED and row["training_arm"] != arms.control]
    lower = half_page(2)
    below = replace(lower, top=lower.top + LINE, width=STEP + WIDE)
    title = "Share of the gap between them that is closed"
    _closed(sheet.panel(below, title, note, x=_axis(shown), y={"title": {"text": "gap closed (share)"}}), shown)
    return sheet.finish(below.bottom + UNDER + LINE)


def _axis(shown: list[Row]) -> dict[str, object]:
    labels = [f"{plain(row['training_arm'])}<br>{row['gate']}" for row in shown]
    return labelled_axis("arm of the training, and its sinks that are on", labels)


def _closed(panel: Panel, shown: list[Row]) -> None:
    """Points with their intervals, and beside each the control's."""
    at = np.arange(len(shown), dtype=float)
    panel.null_line(np.array([-0.5, len(shown) - 0.5]), np.zeros(2), "no gap closed")
    whisker_points(panel, Series.of("with the sinks of the arm", 4), at, interval_of(shown), keyed=True)
    ends = (np.array([row[end] for row in shown], float) for end in ("null", "null_mean_low", "null_mean_high"))
    null = Interval(*ends)
    if not np.isnan(null.low).all():
        whisker_points(panel, Series.of(UNTIED, 0, null=True), at + 0.12, null, keyed=True)


KIND = TrainingFigureKind(
    "sinks",
    title="What memorization sinks took with them",
    caption="Above, NLL (nats per token) of planted and of held-out texts in each arm of the training, of those with memorization sinks by "
    "which of these are on: all, each times its chance; none (dropped); each text's own; another text's. Below, the share of the gap "
    "between held-out and planted texts in the arm without sinks that is closed with these sinks on. Grey: the arm whose masks were drawn "
    "anew at each showing, so that no sink belongs to a text. Bars are 95% intervals over seeds of the training (Student's t).",
    function=sinks,
    there=has_sinks,
    of="arms",
)
