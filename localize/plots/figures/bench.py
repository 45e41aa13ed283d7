"""What localizers find of planted truths: recall with intervals, a panel for each kind of truth, chance beside it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.bench.planted import CONTROLS
from localize.bench.upper_bound import ORACLE
from localize.errors import LocalizeError, caller, public
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Sheet
from localize.plots.theme import OTHER_COLOURS, WIDTH, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.bench.results import BenchResults

LEFT, GAP, ROW, UNDER = 168, 24, 17, 44
TITLES = {
    "route": "ROUTE, k = {units}",
    "layer": "LAYER, k = {units}",
    "inj": "INJ, k = {units}",
    "heads": "HEADS, k = {units}",
    "sinks": "SINKS, k = {units}",
    "control-none": "Control: no routing",
    "control-random": "Control: random gates",
    "control-foreign": "Control: foreign slices",
}
COLUMNS = 2
ASIDE = 6
"""Px on the right, so that a marker at 1 is whole."""


@public("plots.bench")
def bench(results: "BenchResults", *, seed: int = 0) -> "go.Figure":
    """Recall at |truth| by localizer: a panel for each kind and size of planted truth, which are never pooled.

    Means over texts with 95 % intervals by bootstrap over texts; dashed: what random scores find. Of controls the recall within the
    reserved units is drawn, which must be at chance. Truths that failed a gate are left out.

    Args:
        results: Of `localize.bench` or `localize.bench.read_results`.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If no truth passed its gates.
    """
    table: Any = results.table(seed=seed)
    if table.empty:
        raise LocalizeError(
            f"{caller()}: no truth passed its gates, so that nothing is ranked; results.gates() tells which failed."
        )
    table = table[table["localizer"] != ORACLE]
    families: Any = list(table.groupby(["truth", "units"], sort=False))
    order = list(dict.fromkeys(families[0][1]["localizer"]))
    order += [name for name in dict.fromkeys(table["localizer"]) if name not in order]
    sheet, top = Sheet(), 0.0
    wide, height = (WIDTH - LEFT - ASIDE - GAP * (COLUMNS - 1)) / COLUMNS, ROW * len(order) + 8
    for number, ((kind, units), rows) in enumerate(families):
        line, column = divmod(number, COLUMNS)
        top = line * (TITLE + NOTE + height + UNDER) + TITLE + NOTE
        _panel(
            sheet, Box(LEFT + column * (wide + GAP), top, wide, height), str(kind), int(units), rows, order, column == 0
        )
    return sheet.finish(top + height + UNDER)


def _panel(sheet: Sheet, box: Box, kind: str, units: int, rows: Any, order: list[str], labelled: bool) -> None:
    """One kind of truth."""
    import plotly.graph_objects as go

    what = "within" if kind in CONTROLS else "recall"
    rows = rows[rows[what].notna()].set_index("localizer")
    at = np.array([order.index(name) for name in rows.index], float)
    y = {"tickvals": list(range(len(order))), "ticktext": [plain(name, 32) for name in order], "range": [len(order) - 0.5, -0.5],
         "title": {"text": ""}, "showticklabels": labelled}  # fmt: skip
    x = {
        "title": {"text": "recall within all planted units" if what == "within" else "recall of the text's live units"},
        "range": [-0.02, 1.04],
        "dtick": 0.25,
    }
    seeds = str(rows["seeds"].iloc[0])
    note = f"{int(rows['texts'].max())} texts, seed{'s' * (',' in seeds)} {seeds}"
    panel = sheet.panel(box, TITLES[kind].format(units=units), note, x=x, y=y, grid=False)
    chance = float(rows["chance_within" if what == "within" else "chance"].mean())
    panel.null_line([chance, chance], [-0.5, len(order) - 0.5], "random scores")
    interval = Interval(*(rows[f"{what}{end}"].to_numpy(float) for end in ("", "_low", "_high")))
    colour = OTHER_COLOURS[6]
    trace = go.Scatter(
        x=interval.estimate, y=at, mode="markers", marker={"color": colour, "size": 6}, error_x=whiskers(interval, colour),
        showlegend=False, customdata=list(rows.index), hovertemplate="%{customdata}: %{x:.3f}<extra></extra>", name="recall",
    )  # fmt: skip
    panel.add(trace, "mean")


TITLE_WORDS = "What localizers find of planted truths"
CAPTION = (
    "Recall at |truth|: the share of a text's live units among as many of a localizer's highest scores; k: units planted for a text in "
    "each layer. Points are means over texts, bars 95% intervals by bootstrap over texts, dashed lines what random scores find. In "
    "controls no text has a place of its own: there every localizer must be at chance."
)
