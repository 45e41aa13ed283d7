"""What is known of planted texts early in a training, against what was learned of them in the end: correlations, and a warning."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.early_signs import CAUGHT, CORRELATION, TOGETHER, early_rows
from localize.analysis.rows import Row
from localize.analysis.trainings import Trainings
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import HEIGHT, ROOM, UNDER, interval_of
from localize.plots.roughness import mark_rough
from localize.plots.series import Series, whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, Px, see_through

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

LABELS, APART, RIGHT = 160, 22, 8
"""Px left of the panels, for the names of signs; between two; and right of them."""

ROW: Px = 21
"""Of a panel's height for each sign."""

QUANTITIES = {
    CORRELATION: ("What tells what is learned", "rank correlation with what was learned", (-1.0, 1.0)),
    CAUGHT: ("A tenth flagged", "share that is of the tenth learned most", (0.0, 1.0)),
}
"""Title, words of the axis and its ends of each quantity of the table."""

DEALT = "what was learned dealt out anew (central 95%)"
SIGN, DARK = "read early", 6


@public("plots.early_signs")
def early_signs(
    signature: "MemorizationSignature", share: float = 0.1, *, seed: int = 0, resamples: int = 1000
) -> "go.Figure":
    """How well each sign early in a training tells what was learned in the end: rank correlations, and the share of a flagged tenth.

    Left among all planted texts, right among those planted alike. Grey: what was learned, dealt out anew. Dashed: what is expected of
    a sign that tells nothing. The numbers are those of `localize.early_signs`.

    Args:
        signature: As `localize.early_signs` takes it.
        share: Of the training after which signs are read.
        seed: Of folds and of what is dealt out anew.
        resamples: How often what was learned is dealt out anew.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.early_signs` raises it.
        LocalizeError: If `share` is no number between 0 and 1.
    """
    trainings, sheet = Trainings.of(signature), Sheet()
    rows = early_rows(trainings, share, seed, resamples)
    names, texts = (list(dict.fromkeys(str(row[column]) for row in rows)) for column in ("sign", "among"))
    over = f"95% intervals over {trainings.seeds} seeds" if trainings.seeds > 1 else "one seed"
    height = min(HEIGHT * 2, ROW * len(names))
    wide, bottom = (700 - LABELS - RIGHT - APART) / 2, 0
    for number, quantity in enumerate(QUANTITIES):
        title, words, ends = QUANTITIES[quantity]
        for column, among in enumerate(texts):
            top = TITLE + NOTE + number * (height + ROOM)
            box = Box(LABELS + column * (wide + APART), top, wide, height)
            y = _names(names, shown=column == 0)
            room = 0.02 * (ends[1] - ends[0])  # for points at the ends
            x = {"title": {"text": words}, "range": [ends[0] - room, ends[1] + room]}
            x |= {"tickvals": np.linspace(*ends, 5).tolist()}
            note = f"read after {rows[0]['step']} steps; {over}"
            panel = sheet.panel(box, f"{title}, {among}", note, x=x, y=y, grid=False)
            _points(panel, [row for row in rows if (row["quantity"], row["among"]) == (quantity, among)], names)
            bottom = box.bottom
    return sheet.finish(bottom + UNDER)


def _names(names: list[str], *, shown: bool) -> dict[str, Any]:
    """An axis of signs from above; of the panel on the right without their names."""
    words = [name if shown else "" for name in names]
    look = {"tickvals": list(range(len(names))), "ticktext": words, "range": [len(names) - 0.4, -0.6], "ticks": ""}
    return look | {"title": {"text": ""}}


def _points(panel: Panel, rows: list[Row], names: list[str]) -> None:
    """Of each sign its number with its interval, over the null's in grey; a dashed line where one that tells nothing would lie."""
    import plotly.graph_objects as go

    y = np.array([names.index(row["sign"]) for row in rows], dtype=float)
    low, high = (np.array([row[f"null_range_{end}"] for row in rows]) for end in ("low", "high"))
    band = {"color": see_through(NULL, 0.35), "line": {"width": 0}}
    bars = go.Bar(
        x=high - low, base=low, y=y, width=0.62, orientation="h", marker=band, showlegend=False, name=DEALT,
        hovertemplate="%{base:.3g} to %{x:.3g}<extra>" + DEALT + "</extra>",
    )  # fmt: skip
    panel.add(bars, "null interval")
    panel.sheet.null_key(DEALT, {"mode": "markers", "marker": {"symbol": "square", "size": 10, "color": band["color"]}})
    chance = float(rows[0]["chance"])
    panel.null_line([chance, chance], [-0.6, len(names) - 0.4], "expected of a sign that tells nothing")
    interval, look = interval_of(rows), Series.of(SIGN, DARK)
    ends = {"error_x": whiskers(interval, look.colour)} if np.isfinite(interval.low).any() else {}
    symbols = ["diamond" if row["sign"] == TOGETHER else "circle" for row in rows]
    points = go.Scatter(
        x=interval.estimate, y=y, mode="markers", marker={"symbol": symbols, "size": 6, "color": look.colour}, showlegend=False,
        name=SIGN, text=[row["sign"] for row in rows], hovertemplate="%{text}: %{x:.3g}<extra></extra>", **ends,
    )  # fmt: skip
    panel.add(points, "mean")
    mark_rough(panel, interval.estimate, y, interval)


def _there(signature: "MemorizationSignature") -> bool:
    """Whether something was measured between the first step and a tenth of the training, and enough texts were planted."""
    trainings = Trainings.of(signature)
    early = (trainings.steps > 0) & (trainings.steps <= 0.1 * trainings.total_steps)
    return bool(trainings.held_out.any() and trainings.planted.any() and early.any())


KIND = TrainingFigureKind(
    "early_signs",
    title="What told early which texts would be learned",
    caption="What is known of planted paragraphs after a tenth of the training, against what was learned of them in the end: NLL in a twin "
    "run less NLL in the planted run, or, without a twin, mean NLL of held-out paragraphs less theirs. Above, rank correlations; below, "
    "of the tenth that a sign ranks first (last, where its correlation is negative) the share that is of the tenth learned most. Left "
    "among all planted paragraphs, right among those planted alike, ranked within levels. Grey: what was learned, dealt out anew. Bars "
    "are 95% intervals over seeds of the training (Student's t); with one seed there are none.",
    function=early_signs,
    there=_there,
)
