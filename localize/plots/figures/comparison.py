"""What two groups, or two sides, differ in: cells of one variable, or the strongest of each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.comparison import Comparison, cell_name
from localize.analysis.rise import compared_of, with_rise
from localize.axes import RECALL_GROUPS
from localize.errors import LocalizeError, caller, public
from localize.measurements import AXES, REGISTRY
from localize.plots.figures.gradients import layer_axis
from localize.plots.lettering import width_of, wrapped
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import GRID, INK, NULL, SCORE, SMALL, WIDTH, component_words, plain, see_through
from localize.statistics import LEVEL, Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import xarray as xr

UNIT = "difference (standard deviations)"
PERMUTED, FLIPPED = "labels permuted over clusters (central 95%)", "signs of clusters flipped (central 95%)"
FOUND, NOT_FOUND, ROUGH = f"q ≤ {LEVEL}", f"q > {LEVEL}: not significant", "interval rough: few clusters or ties"
RIGHT, BETWEEN, MAP_SHARE = 10, 16, 0.62
"""Px right of the panels and between two of them, and the share of the width that a heat map beside a list has."""

TWO_LINES, ONE_LINE, NAMES = 34, 13, 176
"""Px of a row with its variable above its cell, of one without, and of the names left of the rows."""

FEW_COLUMNS, SOME, MANY = 16, 48, 100
"""Of so many cells in a row crosses are large, or small, or tiny; of more there are none."""


@public("plots.comparison")
def comparison(comparison: Comparison, variable: str | None = None, *, top: int = 12) -> "go.Figure":
    """Differences in standard deviations: a heat map of one variable's cells and the strongest of them; or the strongest of each.

    Red is more in the first group, blue more in the second; a cross marks a cell whose false discovery rate over the
    variable's cells (over all cells, where all variables are drawn) is above 5 %. The list has 95 % intervals by bootstrap over
    clusters, and in grey where a difference lies 95 % of the time if labels are permuted over clusters, or, of pairs, signs
    flipped; its rows are chosen among all cells by what they show, so that their sizes are on average too large. Differences,
    intervals and nulls are those of the comparison, divided by the standard deviation that makes the difference its effect size.
    Exact match is left out of the list of all variables where the groups are made of it. What is called a rise is the level after
    a change of model or prefix less the level before.

    Args:
        comparison: Of `signature.compare` or `localize.compare_paired`.
        variable: Draw the cells of this one; None draws each variable's strongest.
        top: How many rows to list.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If there is nothing compared, no such variable, or `top` is below 1.
    """
    if top < 1:
        raise LocalizeError(f"{caller()}: top={top} must be at least 1.")
    if len(comparison) == 0:
        raise LocalizeError(f"{caller()}: the comparison holds no variable.")
    sheet = Sheet()
    pair = f"{plain(comparison.a)} − {plain(comparison.b)}"
    if variable is None:
        table = _of_each_variable(comparison).head(top)
        counts = comparison.counts()
        note = f"{counts['discoveries']} of {counts['tested']} cells of {len(comparison.variables)} variables at q ≤ {LEVEL}"
        names = [_two_lines(row) for row in table.to_dict("records")]
        rows = Rows.of(table, names, "q_overall")
        box = Box(NAMES, TITLE + NOTE, WIDTH - RIGHT - NAMES, TWO_LINES * len(names))
        _list(sheet, box, rows, f"Where each variable differs most, {pair}", note, comparison.paired)
        return sheet.finish(box.bottom + 40)
    return _of_one(sheet, comparison, variable, pair, top)


def _of_one(sheet: Sheet, comparison: Comparison, variable: str, pair: str, top: int) -> "go.Figure":
    """One variable: of two axes or more a heat map and its strongest cells, else a list."""
    dataset, table = comparison[variable], comparison.to_dataframe(variable)
    dims = [str(dim) for dim in dataset["difference"].dims if dataset["difference"].sizes[dim] > 1]
    dims.sort(key=lambda dim: dim != "layer")
    label = with_rise(REGISTRY[variable].label, compared_of(dataset))
    words = f"{label[0].upper()}{label[1:]}"
    q, p = (table[name].to_numpy(dtype=float) for name in ("q_value", "p_value"))
    note = f"{_which(dataset)}{int((q <= LEVEL).sum())} of {int(np.isfinite(p).sum())} cells at q ≤ {LEVEL}"
    strongest = _strongest(table, top)
    names = [cell_name({dim: row[dim] for dim in dims}) for row in strongest.to_dict("records")]
    rows = Rows.of(strongest, [_cell_words(name) or words for name in names], "q_value")
    left = max(width_of(name, SMALL) for name in rows.names) + 10
    if len(dims) < 2:
        box = Box(left, TITLE + NOTE, WIDTH - RIGHT - left, max(40, ONE_LINE * len(rows.names)))
        _list(sheet, box, rows, f"{words}, {pair}", note, comparison.paired)
        return sheet.finish(box.bottom + 40)
    labels = [plain(str(label)) for label in dataset[dims[0]].values]
    start = max(width_of(label, SMALL) for label in labels) + 30
    wide = (WIDTH - RIGHT - start - left - BETWEEN) * MAP_SHARE
    height = max(110, min(14 * len(labels), 200), ONE_LINE * len(rows.names))
    box = Box(start, TITLE + NOTE, wide, height)
    _heat_map(sheet, box, dataset, dims, f"{words}, {pair}", note)
    aside = start + wide + BETWEEN + left
    beside = Box(aside, box.top, WIDTH - RIGHT - aside, ONE_LINE * len(rows.names))
    _list(sheet, beside, rows, "Strongest cells", "chosen on what is shown", comparison.paired)
    return sheet.finish(max(box.bottom + 84, beside.bottom + 40))


def _of_each_variable(comparison: Comparison) -> "pd.DataFrame":
    """Of each variable the cell that differs most surely; without exact match where the groups are made of it."""
    table = comparison.strongest(len(comparison)).drop_duplicates("variable")
    by_recall = not comparison.paired and {comparison.a, comparison.b} <= set(RECALL_GROUPS)
    others = table.loc[table["variable"] != "exact_match"]
    return (others if by_recall and len(others) else table).reset_index(drop=True)


def _which(dataset: "xr.Dataset") -> str:
    continuation = dataset.attrs.get("continuation")
    return f"{continuation} continuation; " if continuation else ""


def _strongest(table: "pd.DataFrame", top: int) -> "pd.DataFrame":
    """The rows with the smallest q, among equals those with the largest effect; of one axis all, in its order, if they are few."""
    size, q = (table[name].to_numpy(dtype=float) for name in ("effect_size", "q_value"))
    order = np.lexsort((-np.nan_to_num(np.abs(size)), np.nan_to_num(q, nan=2.0)))
    return table.iloc[order[:top]].reset_index(drop=True)


def _cell_words(cell: str) -> str:
    """The name of a cell, components with a small letter below."""
    return ", ".join(component_words(part) if part.startswith("W_") else plain(part) for part in str(cell).split(", "))


def _two_lines(row: dict[Any, Any]) -> str:
    """A variable's label with its cell below; of a variable that is one number its label alone."""
    said = with_rise(REGISTRY[row["variable"]].label, row["compared"])
    label = wrapped(plain(said, 60), NAMES - 12, SMALL).split("<br>")
    words = label[0] if len(label) == 1 else f"{label[0]} …"
    return f"{words}<br>{_cell_words(row['cell'])}" if row["cell"] else words


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a list, in standard deviations.

    Attributes:
        names: Left of the rows.
        interval: Differences and the ends of their intervals.
        null: Ends of the range under the null.
        found: Whether the false discovery rate allows to call it a difference.
        rough: Whether the interval is rough.
    """

    names: list[str]
    interval: Interval
    null: tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]
    found: Bool[np.ndarray, " row"]
    rough: Bool[np.ndarray, " row"]

    @classmethod
    def of(cls, table: "pd.DataFrame", names: list[str], q: str) -> "Rows":
        """Those of a table of cells."""
        column = {name: table[name].to_numpy(dtype=float) for name in (*IN_UNITS, "effect_size", q)}
        scale = scale_of(column["estimate"], column["effect_size"])
        estimate, low, high, null_low, null_high = (column[name] * scale for name in IN_UNITS)
        rough = table["rough"].to_numpy(dtype=bool)
        return cls(names, Interval(estimate, low, high), (null_low, null_high), column[q] <= LEVEL, rough)


IN_UNITS = ("estimate", "low", "high", "null_range_low", "null_range_high")


def scale_of(difference: Float[np.ndarray, "*cell"], effect: Float[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """Standard deviations per unit; nan where there is no difference to tell it by."""
    return np.divide(effect, difference, out=np.full(np.shape(difference), np.nan), where=difference != 0)


def _list(sheet: Sheet, box: Box, rows: Rows, title: str, note: str, paired: bool) -> None:
    """A row per cell: difference with interval, and the null's range behind it."""
    import plotly.graph_objects as go

    at = np.arange(len(rows.names))
    x: dict[str, Any] = {"title": {"text": UNIT}, "nticks": 6, "showgrid": True, "gridcolor": GRID}
    x |= {
        "range": with_margin(
            0.0, *rows.interval.estimate, *rows.interval.low, *rows.interval.high, *rows.null[0], *rows.null[1]
        )
    }
    y = {"tickvals": at, "ticktext": rows.names, "range": [len(at) - 0.5, -0.5]}
    panel = sheet.panel(box, title, note, x=x, y=y, grid=False)
    null_boxes(panel, at, *rows.null, FLIPPED if paired else PERMUTED)
    panel.null_line([0, 0], [-0.5, len(at) - 0.5], "no difference")
    for found, name in ((True, FOUND), (False, NOT_FOUND)):
        for rough in (False, True):
            there = (rows.found == found) & (rows.rough == rough)
            if not there.any():
                continue
            part = Interval(*(end[there] for end in (rows.interval.estimate, rows.interval.low, rows.interval.high)))
            colour = INK if found else NULL
            words = f"{name}; {ROUGH}" if rough else name
            marker = {"color": "white" if rough else colour, "size": 6, "symbol": "circle" if found else "diamond",
                      "line": {"width": 1.2, "color": colour}}  # fmt: skip
            points = go.Scatter(
                x=part.estimate, y=at[there], mode="markers", marker=marker, error_x=whiskers(part, colour), name=words,
                legendgroup=words, showlegend=sheet.first(words), hovertemplate="%{x:.2f}<extra></extra>",
            )  # fmt: skip
            panel.add(points, "mean")


def with_margin(*values: float) -> list[float]:
    """A range that holds all known values with a little room beside them."""
    known = [value for value in values if np.isfinite(value)]
    low, high = min(known), max(known)
    room = 0.04 * (high - low) or 0.5
    return [float(low - room), float(high + room)]


def null_boxes(panel: Panel, at: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> None:
    """A grey box in each row from one end of its null to the other."""
    import plotly.graph_objects as go

    x, y = [], []
    for row, left, right in zip(at, low, high, strict=True):
        if np.isfinite(left) and np.isfinite(right):
            x += [left, right, right, left, left, None]
            y += [row - 0.3, row - 0.3, row + 0.3, row + 0.3, row - 0.3, None]
    style = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": see_through(NULL, 0.22)}
    panel.add(go.Scatter(x=x, y=y, name=name, hoverinfo="skip", showlegend=False, **style), "null")
    key = {"symbol": "square", "size": 9, "color": "rgba(119,119,119,0.35)"}
    panel.sheet.null_key(name, {"mode": "markers", "marker": key})


def _heat_map(sheet: Sheet, box: Box, dataset: "xr.Dataset", dims: list[str], title: str, note: str) -> None:
    """The first axis downwards, all others side by side."""
    import plotly.graph_objects as go

    dataset = dataset.squeeze(drop=True).transpose(*dims)
    effect = dataset["effect_size"]
    shape = (effect.sizes[dims[0]], -1)
    shown, q = effect.values.reshape(shape), dataset["q_value"].values.reshape(shape)
    labels = dataset[dims[0]].values
    rows = np.arange(len(labels))
    y = layer_axis(rows, box.height, [plain(str(label)) for label in labels]) | {"title": {"text": AXES[dims[0]].words}}
    x = _across(dataset, dims[1:], box.width) | {"range": [-0.5, shown.shape[1] - 0.5]}
    panel = sheet.panel(box, title, note, x=x, y=y, grid=False)
    furthest = float(np.nanmax(np.abs(shown))) if np.isfinite(shown).any() else 0.0
    furthest = furthest or 1.0
    bar: dict[str, Any] = {"title": UNIT, "nticks": 7}
    place = Box(box.left, box.bottom + 39, box.width, 7)
    axis = sheet.colour_axis({"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}, bar, place)
    told = np.stack(
        [dataset[name].values.reshape(shape) for name in ("difference", "low", "high", "p_value", "q_value")], -1
    )
    hover = (
        "%{x}, %{y}: %{z:.2f} sd; difference %{customdata[0]:.3g} [%{customdata[1]:.3g}, %{customdata[2]:.3g}]; "
        "p = %{customdata[3]:.3g}, q = %{customdata[4]:.3g}<extra></extra>"
    )
    columns = np.arange(shown.shape[1])
    panel.add(
        go.Heatmap(x=columns, y=rows, z=shown, customdata=told, hovertemplate=hover, hoverongaps=False, coloraxis=axis,
                   name="effect size"), "value",
    )  # fmt: skip
    at = np.argwhere(~(q <= LEVEL) & np.isfinite(shown))
    many = shown.shape[1]
    if len(at) and many <= MANY:
        size = 5 if many <= FEW_COLUMNS else 3.5 if many <= SOME else 2.5
        colour = see_through(INK, 0.7 if many <= FEW_COLUMNS else 0.5)
        marker = {"symbol": "x-thin", "size": size, "color": colour, "line": {"width": size / 5, "color": colour}}
        crosses = go.Scatter(
            x=at[:, 1], y=at[:, 0], mode="markers", marker=marker, name=f"crossed out: q > {LEVEL}", hoverinfo="skip",
            showlegend=sheet.first("crosses"), legendgroup="crosses",
        )  # fmt: skip
        panel.add(crosses, "x-thin")


def _across(dataset: "xr.Dataset", dims: list[str], width: Px) -> dict[str, Any]:
    """Labels of the columns: of one axis its own, of several the first's, each over all of the others'."""
    first = [str(label) for label in dataset[dims[0]].values]
    inside = int(np.prod([dataset.sizes[dim] for dim in dims[1:]], dtype=int))
    words = [component_words(label) if label.startswith("W_") else plain(label, 14) for label in first]
    title = (
        AXES[dims[0]].words
        + ("; inside each: " if dims[1:] else "")
        + ", ".join(_said(dataset, dim) for dim in dims[1:])
    )
    step = 1 if any(not label.isdigit() for label in first) else max(1, int(np.ceil(len(first) * 16 / width)))
    at = np.arange(len(first))[::step] * inside + (inside - 1) / 2
    return {"tickvals": at, "ticktext": words[::step], "title": {"text": title}}


def _said(dataset: "xr.Dataset", dim: str) -> str:
    """An axis with its labels: "head 0 to 7", "activation q k v z"."""
    labels = [plain(str(label), 14) for label in dataset[dim].values]
    few = not all(label.isdigit() for label in labels) and len(labels) <= 6
    return f"{AXES[dim].words} {' '.join(map(_cell_words, labels)) if few else f'{labels[0]} to {labels[-1]}'}"
