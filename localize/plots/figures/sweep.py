"""One measurement over a sweep: against the models' size, layer, head, or copies in training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.weight_units import unlike_units
from localize.axes import ordered_groups
from localize.errors import LocalizeError, caller, public
from localize.measurements import AXES, REGISTRY, nulls_of
from localize.plots.figures.recall import by_duplicates, known_counts
from localize.plots.groups import labelled_groups
from localize.plots.series import Series, stacked
from localize.plots.sheet import NOTE, TITLE, Box, Px, Sheet
from localize.plots.theme import MAGNITUDE, NULL, SCORE, WIDTH, plain, variable_words
from localize.signature.schema import range_of
from localize.statistics.ranges import Range

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.sweep.results import Sweep

AGAINST = ("size", "layer", "head", "duplicates")
LAYOUT = ("layer", "head")
"""Axes that a figure which does not show them sums shares over, and averages other variables over, as over components."""

LEFT, GAP, HEIGHT, UNDER, BAR = 54, 26, 190, 46, 10
TOGETHER, EVEN, PAIRED = "all paragraphs together", "the same share in every layer", "its null"


@dataclass(frozen=True, eq=False)
class Line:
    """One cell's values of the variable.

    Attributes:
        words: What tells it from the others.
        values: `(paragraph, ...)`, what is not looked at averaged away.
        null: The same of its null, or None.
        groups: Label of each paragraph.
        clusters: Of near-duplicates.
        duplicates: Copies in training, where known.
        size: Parameters of the model.
        possible: Where the variable can lie.
    """

    words: str
    values: Float[np.ndarray, "paragraph ..."]
    null: np.ndarray | None
    groups: np.ndarray
    clusters: np.ndarray
    duplicates: np.ndarray | None
    size: int
    possible: Range


@public("plots.sweep")
def sweep(
    done: "Sweep",
    variable: str,
    against: str = "layer",
    *,
    paragraphs: str | None = None,
    group: str | None = None,
    select: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> "go.Figure":
    """One variable over the finished cells of a sweep.

    Args:
        done: From `localize.open_sweep`.
        variable: One that is measured per paragraph.
        against: "size": the models' parameters, a line per group, dashed: all paragraphs together. "layer": a panel per group, a line
            per cell; as a share of the depth where models differ in it. "head": a map of layers and heads per cell. "duplicates": a
            line per cell.
        paragraphs: Which set, where there are several.
        group: For "head": whose mean; that of all paragraphs if left out.
        select: Labels on other axes, `{"query": "continuation"}`; the first label if left out, which the note tells.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in. Means over paragraphs with 95 % intervals by bootstrap over clusters. Shares are summed over
        components, other variables averaged over what is not shown. A note tells where gradients of several models do not compare.

    Raises:
        LocalizeError: If `against` is none of these, or no finished cell holds the variable along it.
    """
    if against not in AGAINST:
        raise LocalizeError(f"{caller()}: against={against!r} is not one of {', '.join(AGAINST)}.")
    if variable not in REGISTRY or "paragraph" not in REGISTRY[variable].dims:
        raise LocalizeError(f"{caller()}: {variable!r} is no variable that is measured per paragraph.")
    kept = {"layer": ("layer",), "head": ("layer", "head")}.get(against, ())
    if missing := [dim for dim in kept if dim not in REGISTRY[variable].dims]:
        raise LocalizeError(
            f"{caller()}: {variable} has no axis {missing[0]!r}; it has {', '.join(REGISTRY[variable].dims)}."
        )
    lines, note, unlike = _lines(done, variable, kept, paragraphs, select or {})
    sheet = Sheet()
    draw = {
        "size": partial(_by_size, seed=seed), "layer": partial(_by_layer, seed=seed),
        "duplicates": partial(_by_duplicates, seed=seed), "head": partial(_by_head, group=group),
    }  # fmt: skip
    bottom = draw[against](sheet, lines, variable, note)
    if unlike:
        bottom += NOTE
        sheet.text(f"{unlike[:1].upper()}{unlike[1:]}.", LEFT, bottom, colour=NULL)
    return sheet.finish(bottom)


def _lines(
    done: "Sweep", variable: str, kept: Sequence[str], paragraphs: str | None, select: Mapping[str, Any]
) -> tuple[list[Line], str, str]:
    """The finished cells that hold the variable, what was chosen on other axes, and whether they do not compare."""
    cells = [row for row in done.cells().to_dict("records") if row["status"] == "finished"]
    sets = list(dict.fromkeys(row["paragraphs"] for row in cells))
    if paragraphs is None and len(sets) > 1:
        raise LocalizeError(f"{caller()}: several paragraph sets; choose paragraphs= one of {', '.join(sets)}.")
    cells = [row for row in cells if paragraphs in (None, row["paragraphs"])]
    opened = []
    for row in cells:
        dataset = done.dataset(row["model"], row["paragraphs"], row["measure"])
        recalled = variable in ("exact_match", "nll", "token_nll")
        if variable in dataset and recalled == (row["measure"] == "recall"):
            opened.append((row, dataset))
    if not opened:
        raise LocalizeError(f"{caller()}: no finished cell of {done.path} holds {variable!r}.")
    several = {key: len({row[key] for row, _ in opened}) > 1 for key in ("model", "measure")}
    told: dict[str, str] = {}
    lines = []
    for row, dataset in opened:
        words = ", ".join(str(row[key]) for key in ("model", "measure") if several[key]) or str(row["model"])
        array = _reduced(dataset[variable], kept, select, told)
        null = next((dataset[name] for name in nulls_of(variable) if name in dataset), None)
        lines.append(
            Line(
                plain(words, 48),
                array,
                None if null is None else _reduced(null, kept, select, {}),
                dataset["group"].values,
                dataset["cluster"].values,
                dataset["duplicates"].values if "duplicates" in dataset.coords else None,
                int(dataset.attrs["model"]["parameters"]),
                range_of(dataset, variable),
            )
        )
    note = "; ".join(f"{dim}: {plain(str(label))}" for dim, label in told.items())
    return lines, note, unlike_units([dataset for _, dataset in opened], [variable])


def _reduced(
    array: "xr.DataArray", kept: Sequence[str], select: Mapping[str, Any], told: dict[str, str]
) -> Float[np.ndarray, "paragraph ..."]:
    """Along paragraphs and the axes kept; `told` gets what was chosen on others."""
    share = array.attrs.get("unit") == "share"
    for dim in [str(d) for d in array.dims if d != "paragraph" and d not in kept]:
        if dim in select:
            array = array.sel({dim: select[dim]})
            told[dim] = str(select[dim])
        elif share and (AXES[dim].summed or dim in LAYOUT):
            array = array.sum(dim)
        elif AXES[dim].averaged or AXES[dim].summed or dim in LAYOUT:
            array = array.mean(dim)
        else:
            told[dim] = str(array[dim].values[0])
            array = array.isel({dim: 0})
    return array.transpose("paragraph", *kept).values.astype(np.float64)


def _by_size(sheet: Sheet, lines: list[Line], variable: str, note: str, seed: int) -> Px:
    sizes = [line.size for line in lines]
    apart = len(set(sizes)) == len(sizes)
    lines = sorted(lines, key=lambda line: line.size) if apart else lines
    at = np.array([line.size for line in lines] if apart else range(len(lines)), dtype=np.float64)
    box = Box(LEFT, TITLE + NOTE, WIDTH - LEFT - 10, HEIGHT)
    x: dict[str, Any] = {"title": {"text": "parameters"}}
    if not apart:
        x = {
            "title": {"text": "model"},
            "tickvals": at,
            "ticktext": [line.words for line in lines],
            "range": [-0.5, len(lines) - 0.5],
        }
    elif at.max() >= 2 * at.min():
        x |= {"type": "log", "dtick": "D2"}
    title = f"{_capital(variable)} by {'size of the model' if apart else 'model'}"
    y = {"title": {"text": variable_words(variable)}}
    panel = sheet.panel(box, title, _told("mean of each group", note), x=x, y=y)
    panel.null_line(at, [float(np.nanmean(line.values)) for line in lines], TOGETHER)
    parted = [
        (place, line, group)
        for place, line in zip(at, lines, strict=True)
        for group in labelled_groups(line.groups, line.clusters)
    ]
    for name in ordered_groups(group.name for *_, group in parted):
        there = [part for part in parted if part[2].name == name]
        interval = stacked([group.interval(line.values, seed, line.possible) for _, line, group in there])
        panel.curve(np.array([place for place, *_ in there]), interval, there[-1][2], markers=True)
    return box.bottom + UNDER


def _by_layer(sheet: Sheet, lines: list[Line], variable: str, note: str, seed: int) -> Px:
    names = ordered_groups([g for line in lines for g in line.groups.tolist()])[:3]
    depths = {line.values.shape[1] for line in lines}
    relative = len(depths) > 1
    wide = (WIDTH - LEFT - 10 - GAP * (len(names) - 1)) / len(names)
    share = REGISTRY[variable].unit == "share"
    highest = 0.0
    for number, name in enumerate(names):
        box = Box(LEFT + number * (wide + GAP), TITLE + NOTE, wide, HEIGHT)
        title = {"text": variable_words(variable) if number == 0 else ""}
        x = {
            "title": {"text": "depth (% of layers below)" if relative else "layer"},
            "dtick": 25 if relative else max(1, max(depths) // 8),
        }
        panel = sheet.panel(
            box, plain(name), note if number == 0 else "", x=x, y={"title": title, "rangemode": "tozero"}
        )
        if share and not relative:
            depth = depths.copy().pop()
            panel.null_line([0, depth - 1], [np.nansum(lines[0].values[0]) / depth] * 2, EVEN)
        for place, line in enumerate(lines):
            own = next((group for group in labelled_groups(line.groups, line.clusters) if group.name == name), None)
            if own is None:
                continue
            layers = np.arange(line.values.shape[1], dtype=np.float64)
            at = 100 * layers / line.values.shape[1] if relative else layers
            interval = own.interval(line.values, seed, line.possible)
            highest = max(highest, float(np.nanmax(interval.high)))
            Series.of(line.words, place).draw(panel, at, interval, own)
            if line.null is not None:
                panel.null_line(at, own.mean(line.null), PAIRED, own)
    for panel in sheet.panels if not _signed(variable) else []:
        sheet.figure.layout[panel.axis("y")].update(range=[0, 1.05 * highest], showticklabels=panel.number == 1)
    return TITLE + NOTE + HEIGHT + UNDER


def _by_head(sheet: Sheet, lines: list[Line], variable: str, note: str, group: str | None) -> Px:
    import plotly.graph_objects as go

    names = ordered_groups([g for line in lines for g in line.groups.tolist()])
    if group is not None and group not in names:
        raise LocalizeError(f"{caller()}: group={group!r} is not one of {', '.join(names)}.")
    maps = [line.values if group is None else line.values[line.groups == group] for line in lines]
    means: list[Any] = [np.nanmean(v, axis=0) if len(v) else np.full(v.shape[1:], np.nan) for v in maps]
    limit = float(np.nanmax(np.abs(np.concatenate([m.ravel() for m in means]))))
    whose = _told("mean of all paragraphs" if group is None else f"mean of {plain(group)}", note)
    columns = min(3, len(lines))
    wide = (WIDTH - LEFT - 10 - GAP * (columns - 1)) / columns
    colours = (
        {"colorscale": SCORE, "cmin": -limit, "cmax": limit}
        if _signed(variable)
        else {"colorscale": MAGNITUDE, "cmin": 0, "cmax": limit}
    )
    top: Px = 0
    bottom: Px = 0
    for number, (line, mean) in enumerate(zip(lines, means, strict=True)):
        row, column = divmod(number, columns)
        top = row * (TITLE + NOTE + HEIGHT + UNDER)
        box = Box(LEFT + column * (wide + GAP), top + TITLE + NOTE, wide, HEIGHT)
        shape, none = mean.shape, np.isnan(mean).all()
        x: dict[str, Any] = {"title": {"text": "head"}, "dtick": max(1, shape[1] // 8), "range": [-0.5, shape[1] - 0.5]}
        y: dict[str, Any] = {"title": {"text": "layer" if column == 0 else ""}, "dtick": max(1, shape[0] // 12)}
        told = "no paragraphs of this group" if none else whose if number == 0 else ""
        panel = sheet.panel(box, line.words, told, x=x, y=y | {"range": [-0.5, shape[0] - 0.5]}, grid=False)
        heat = go.Heatmap(z=mean, coloraxis="coloraxis", hovertemplate="L%{y}.H%{x}: %{z:.3g}<extra></extra>")
        panel.add(heat, "mean")
        bottom = box.bottom + UNDER
    bar = {"title": variable_words(variable), "nticks": 6}
    sheet.colour_axis(colours, bar, Box(LEFT, bottom, 220, BAR))
    return bottom + BAR + 34


def _by_duplicates(sheet: Sheet, lines: list[Line], variable: str, note: str, seed: int) -> Px:
    lines = [line for line in lines if line.duplicates is not None]
    if not lines:
        raise LocalizeError(
            f"{caller()}: the paragraphs do not tell how often they stand in training; duplicates are needed."
        )
    copies = known_counts(np.concatenate([line.duplicates for line in lines if line.duplicates is not None]))
    box = Box(LEFT, TITLE + NOTE, WIDTH - LEFT - 10, HEIGHT)
    rank = np.arange(len(copies))
    every = max(1, int(np.ceil(len(copies) * 26 / box.width)))
    x = {
        "title": {"text": "copies in training"}, "tickvals": rank[::every], "ticktext": [str(c) for c in copies[::every]],
        "range": [-0.5, len(copies) - 0.5],
    }  # fmt: skip
    panel = sheet.panel(
        box, f"{_capital(variable)} by copies in training", _told("mean of the paragraphs with as many copies", note), x=x,
        y={"title": {"text": variable_words(variable)}},
    )  # fmt: skip
    everyone = np.concatenate([line.values for line in lines])
    panel.null_line([-0.5, len(copies) - 0.5], [float(np.nanmean(everyone))] * 2, TOGETHER)
    for place, line in enumerate(lines):
        assert line.duplicates is not None
        counts, interval = by_duplicates(line.values, line.duplicates, line.clusters, seed, line.possible)
        Series.of(line.words, place).draw(
            panel, np.searchsorted(copies, counts), interval, labelled_groups(line.groups, line.clusters)[0]
        )
    return box.bottom + UNDER


def _signed(variable: str) -> bool:
    low = REGISTRY[variable].low
    return low is None or low < 0


def _capital(variable: str) -> str:
    """Its label as a title starts."""
    label = REGISTRY[variable].label
    return label[0].upper() + label[1:]


def _told(first: str, note: str) -> str:
    return f"{first}; {note}" if note else first
