"""How well two groups are told apart by how well a paragraph is said, and by the rest of its signature."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.distinguish import AUC, GAIN
from localize.errors import LocalizeError, caller, public
from localize.plots.figures.comparison import null_boxes, with_margin
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Sheet
from localize.plots.theme import GRID, INK, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ENDS = ("low", "high", "null_range_low", "null_range_high")
NEEDED = ("estimate", *ENDS)
PERMUTED = "labels permuted over clusters (central 95%)"
CHANCE, NOTHING_ADDED = "chance", "nothing added"
LEFT, WIDE, GAIN_LEFT, GAIN_WIDE, ROW = 138, 224, 506, 184, 16


@public("plots.distinguish")
def distinguish(table: "pd.DataFrame") -> "go.Figure":
    """How well each part of the signature tells two groups apart, and beside it what it adds to the loss.

    AUC on clusters held out, with 95 % intervals by bootstrap over clusters; grey: 95 % of the AUCs under permuted labels;
    dashed: chance. Beside it, of what is joined with the loss, its AUC less that of the loss alone, with interval and null.

    Args:
        table: Of `signature.distinguish`.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the table is another, or empty.
    """
    if missing := [name for name in (*NEEDED, "rough") if name not in table.columns]:
        raise LocalizeError(
            f"{caller()}: the table has no column {missing[0]!r}; give that of signature.distinguish(...)."
        )
    alone, added = (table.loc[table.index.get_level_values(0) == quantity, :].droplevel(0) for quantity in (AUC, GAIN))
    if len(alone) == 0:
        raise LocalizeError(f"{caller()}: the table has no row.")
    sheet = Sheet()
    a, b = (plain(str(table.attrs.get(side, ""))) for side in ("a", "b"))
    above = TITLE + NOTE
    title = f"{a} told from {b}" if a and b else "Groups told apart"
    _panel(sheet, Box(LEFT, above, WIDE, ROW * len(alone)), alone, title, "AUC on held-out clusters", (0.5, CHANCE))
    added = added.loc[np.isfinite(added["estimate"].to_numpy(dtype=float)), :]
    if len(added):
        box = Box(GAIN_LEFT, above, GAIN_WIDE, ROW * len(added))
        _panel(sheet, box, added, "Added to the loss", GAIN, (0.0, NOTHING_ADDED))
    return sheet.finish(above + ROW * len(alone) + 40)


def _panel(sheet: Sheet, box: Box, table: "pd.DataFrame", title: str, words: str, nothing: tuple[float, str]) -> None:
    """A row per kind of features: estimate with interval, the null's range behind it, and where nothing is found."""
    import plotly.graph_objects as go

    at, names = np.arange(len(table)), [plain(str(name), 30) for name in table.index]
    estimate, low, high, null_low, null_high = (table[name].to_numpy(dtype=float) for name in NEEDED)
    interval = Interval(estimate, low, high, rough=table["rough"].fillna(False).to_numpy(dtype=bool))
    level, nothing_words = nothing
    x: dict[str, Any] = {"title": {"text": words}, "nticks": 6, "showgrid": True, "gridcolor": GRID}
    x |= {"range": with_margin(level, *estimate, *low, *high, *null_low, *null_high)}
    y = {"tickvals": at, "ticktext": names, "range": [len(at) - 0.5, -0.5]}
    panel = sheet.panel(box, title, "bars: 95% interval; grey: null", x=x, y=y, grid=False)
    null_boxes(panel, at, null_low, null_high, PERMUTED)
    panel.null_line([level, level], [-0.5, len(at) - 0.5], nothing_words)
    points = go.Scatter(
        x=estimate, y=at, mode="markers", marker={"color": INK, "size": 6}, showlegend=False, name=words, text=names,
        error_x=whiskers(interval, INK), hovertemplate="%{text}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    panel.add(points, "mean")
    mark_rough(panel, estimate, at, interval)
