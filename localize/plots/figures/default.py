"""The figure of a variable that no other figure draws: a profile, a heat map, a curve or a histogram, as its axes ask for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.measurements import REGISTRY
from localize.plots.figures.default_view import DefaultView, label_words, short_words
from localize.plots.figures.gradients import layer_axis, log_colours, map_height
from localize.plots.figures.heads import layer_words, mark_missing
from localize.plots.figures.recall import group_means, histogram
from localize.plots.groups import Group, continuation_words, labelled_groups
from localize.plots.kinds import BANDS
from localize.plots.lettering import BREAK, line_count, width_of, wrapped
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import MAGNITUDE, MEDIUM, NULL, SCORE, SMALL, WIDTH, axis_words, variable_words
from localize.signature.schema import range_of
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

TOP = NOTE + 8
"""Px of the line above all panels."""

LEFT, RIGHT, GAP, BESIDE, HEIGHT, UNDER, ACROSS = 44, 8, 60, 22, 140, 42, 3
LINE, A_NAME = 13, 130
"""Px that a further line of an axis' title takes, and of a panel for each name along it."""

MAP_LEFT, MAP_GAP, HEADING, WIDEST_MAP = 80, 12, 16, 290

TENFOLD = 10
"""From so many times the smallest on, positive means are drawn on a logarithmic scale of colours."""

ONE_SCALE = 5
"""Panels whose highest numbers differ more have a scale each."""


@public("plots.default")
def default(signature: "MemorizationSignature", variable: str, *, seed: int = 0) -> "go.Figure":
    """A variable that has no figure of its own, drawn by its axes, with its null where one was measured.

    Over layers, positions or other numbers: each group's mean with a 95 % band by bootstrap over clusters, its null dashed in the
    group's colour. Over layers and heads, or layers and positions: a heat map of each group's mean, its null beside it on one scale
    of colours. Over names: means with their intervals. One number per paragraph: a histogram with the groups' means. Labels of other
    axes, a component or a query, have a panel each; draws are averaged. What is averaged and chosen beyond that is told above. What is
    measured of a whole set of paragraphs has no interval.

    Args:
        signature: Holds the variable.
        variable: Its name.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the variable, or all of its values are missing.
    """
    return draw_default(_view(signature, variable), signature, seed)


def default_words(signature: "MemorizationSignature", variable: str) -> tuple[str, str]:
    """Title and caption of the default figure."""
    view = _view(signature, variable)
    return view.title(), _caption(view)


def _view(signature: "MemorizationSignature", variable: str) -> DefaultView:
    if variable not in signature:
        raise LocalizeError(
            f"{caller()}: the signature has no variable {variable!r}; it has {', '.join(signature.variables)}."
        )
    signature.one_model(caller())
    view = DefaultView.of(signature, variable)
    if not np.isfinite(view.values).any():
        raise LocalizeError(f"{caller()}: every value of {variable!r} is missing.")
    return view


def draw_default(view: DefaultView, signature: "MemorizationSignature", seed: int) -> "go.Figure":
    """What a view shows; above it which continuation it is of, and what is averaged or chosen."""
    sheet = Sheet()
    told = "; ".join(filter(None, (continuation_words(signature, view.name), view.axes.told())))
    sheet.text(told, 0, NOTE, colour=NULL)
    if len(view.axes.main) == 2:
        return sheet.finish(_maps(sheet, view))
    if view.axes.main or view.axes.whose != "paragraph":
        return sheet.finish(_panels(sheet, view, seed))
    return sheet.finish(_one_number(sheet, view, seed))


def _one_number(sheet: Sheet, view: DefaultView, seed: int) -> Px:
    """How one number per paragraph is spread in each group, those that are missing left out; gives the bottom."""
    dataset, values = view.dataset, view.values[:, 0]
    known = np.isfinite(values)
    groups = labelled_groups(dataset["group"].values.astype(str)[known], dataset["cluster"].values[known])
    box = Box(LEFT, TOP + TITLE + NOTE, WIDTH - LEFT - RIGHT, HEIGHT)
    panel, highest = histogram(sheet, box, groups, values[known], view.name, view.label, together=True)
    group_means(panel, groups, values[known], highest, seed, range_of(dataset, view.name))
    if view.null is not None:
        for group in view.parts:
            level = float(view.mean(group, view.null)[0])
            panel.null_line([level, level], [0, highest], view.null_label, group)
    return box.bottom + UNDER


def _panels(sheet: Sheet, view: DefaultView, seed: int) -> Px:
    """Curves over numbers, or points over names: a panel for each label of the other axes; gives the bottom."""
    words, drawn = view.axes.panel_words(), [(part, view.interval(part, seed)) for part in view.parts]
    highest = [
        _highest([np.asarray(end[at]) for _, found in drawn for end in (found.estimate, found.high)])
        for at in range(len(words))
    ]
    shared = not view.signed and max(highest) <= ONE_SCALE * min(highest)
    unit = variable_words(view.name)
    if width_of(unit, MEDIUM) > HEIGHT + 16:
        unit = wrapped(unit.replace(" (", BREAK + "("), HEIGHT + 16, MEDIUM)
    boxes = _boxes(view, len(words), LINE * (line_count(unit) - 1), shared=shared)
    for at, (name, box) in enumerate(zip(words, boxes, strict=True)):
        beside = shared and box.left > boxes[0].left
        y: dict[str, Any] = {"title": {"text": "" if beside else unit}, "rangemode": "tozero", "nticks": 6}
        y |= {"showticklabels": False} if beside else {}
        if not view.signed:
            y["range"] = [0, 1.05 * ((max(highest) if shared else highest[at]) or 1.0)]
        x, places = _along(view, box.width)
        title = f"{view.label}: {name}" if name and len(words) == 1 else name or view.label
        panel = sheet.panel(box, title, x=x, y=y)
        for number, (part, interval) in enumerate(drawn):
            aside = 0.0 if _numbered(view) else 0.16 * (number - (len(drawn) - 1) / 2)
            if view.null is not None:
                _null(panel, places + aside, view.mean(part, view.null)[at], part, view)
            cell = interval[at] if interval.estimate[at].ndim else interval[at][None]
            (_curve if _numbered(view) else _points)(panel, places + aside, cell, part)
    return boxes[-1].bottom + UNDER


def _boxes(view: DefaultView, count: int, more: Px, *, shared: bool) -> list[Box]:
    """Places of so many panels, three abreast; of one scale they stand closer."""
    across, left, gap = min(ACROSS, count), LEFT + more, BESIDE if shared else GAP + more
    wide = (WIDTH - left - RIGHT - (across - 1) * gap) / across
    if view.axes.main and not _numbered(view):
        wide = min(wide, A_NAME * len(view.axes.labels[view.axes.main[0]]))
    places = (divmod(number, across) for number in range(count))
    return [
        Box(left + column * (wide + gap), TOP + TITLE + row * (TITLE + HEIGHT + UNDER), wide, HEIGHT)
        for row, column in places
    ]


def _numbered(view: DefaultView) -> bool:
    """Whether what is drawn along is numbers."""
    return bool(view.axes.main) and view.axes.labels[view.axes.main[0]].dtype.kind in "iuf"


def _along(view: DefaultView, wide: Px) -> tuple[dict[str, Any], Float[np.ndarray, " place"]]:
    """The axis drawn along, and where its labels stand."""
    if not view.axes.main:
        return {"tickvals": [], "range": [-0.5, 0.5]}, np.zeros(1)
    (dim,) = view.axes.main
    labels = view.axes.labels[dim]
    if not _numbered(view):
        at, room = np.arange(float(len(labels))), wide / len(labels) - 8
        words = [wrapped(label_words(dim, label), room, SMALL) for label in labels.tolist()]
        x = {"tickvals": at, "ticktext": words, "range": [-0.5, len(at) - 0.5]}
        return x if max(map(line_count, words)) > 1 else x | {"title": {"text": axis_words(dim)}}, at
    places = labels.astype(np.float64)
    x: dict[str, Any] = {"title": {"text": axis_words(dim)}}
    if dim == "layer":
        return x | {"tickvals": labels[:: max(1, int(np.ceil(len(labels) * 18 / wide)))]}, places
    return x | {"nticks": 6}, places


def _curve(panel: Panel, places: Float[np.ndarray, " place"], interval: Interval, part: Group) -> None:
    panel.curve(places, interval, part, markers=len(places) <= 32)


def _points(panel: Panel, places: Float[np.ndarray, " place"], interval: Interval, part: Group) -> None:
    import plotly.graph_objects as go

    marker = {"color": part.colour, "symbol": part.symbol, "size": 6}
    points = go.Scatter(
        x=places, y=interval.estimate, mode="markers", marker=marker, error_y=whiskers(interval, part.colour),
        name=part.label, showlegend=panel.sheet.first("group " + part.name),
    )  # fmt: skip
    panel.add(points, "mean", part)
    mark_rough(panel, places, interval.estimate, interval, part, upright=True)


def _null(panel: Panel, places: Float[np.ndarray, " place"], null: np.ndarray, part: Group, view: DefaultView) -> None:
    """Dashed: over numbers a line, over names a dash at each."""
    if _numbered(view):
        panel.null_line(places, null, view.null_label, part)
        return
    for place, level in zip(places, np.atleast_1d(null), strict=True):
        panel.null_line([place - 0.07, place + 0.07], [level, level], view.null_label, part)


def _highest(values: list[np.ndarray]) -> float:
    """The largest number drawn; 0 if there is none."""
    drawn = np.concatenate([np.ravel(value) for value in values])
    return float(np.max(drawn[np.isfinite(drawn)], initial=0.0))


def _maps(sheet: Sheet, view: DefaultView) -> Px:
    """A row of heat maps per group, each label of the other axes with its null beside it; gives the bottom."""
    words, means = view.axes.panel_words(), {"mean": [view.mean(part, view.values) for part in view.parts]}
    if view.null is not None:
        means["null"] = [view.mean(part, view.null) for part in view.parts]
    columns = [(at, kind) for at in range(len(words)) for kind in means]
    wide = (WIDTH - MAP_LEFT - RIGHT - MAP_GAP * (len(columns) - 1)) / len(columns)
    wide = min(wide, WIDEST_MAP) if view.axes.main[1] == "head" else wide
    height = map_height(len(view.axes.labels["layer"]), compact=False)
    step = HEADING + TITLE + height + MAP_GAP
    last = TOP + len(view.parts) * step - MAP_GAP
    axis, log = _map_colours(sheet, view, np.array(list(means.values())), Box(MAP_LEFT, last + 38, 320, 7))
    for row, part in enumerate(view.parts):
        top = TOP + row * step
        sheet.text(f"<b>{part.words}</b>{part.label.removeprefix(part.words)}", 0, top + HEADING - 3)
        for column, (at, kind) in enumerate(columns):
            box = Box(MAP_LEFT + column * (wide + MAP_GAP), top + HEADING + TITLE, wide, height)
            title = (words[at] or ("Measured" if "null" in means else view.label)) if kind == "mean" else "Null"
            panel = _map_panel(sheet, view, box, title, first=column == 0, last=row == len(view.parts) - 1)
            _map(panel, view, means[kind][row][at], kind, part, axis, log=log)
    return last + 80


def _map_colours(sheet: Sheet, view: DefaultView, means: np.ndarray, box: Box) -> tuple[str, bool]:
    """One scale for all maps: white at 0 where numbers have a sign; logarithmic where positive ones differ tenfold."""
    there = means[np.isfinite(means)]
    words = f"mean {variable_words(view.name)}" if view.axes.whose == "paragraph" else variable_words(view.name)
    furthest = float(np.abs(there).max()) or 1.0
    if view.signed:
        colours = {"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}
        return sheet.colour_axis(colours, {"title": words, "nticks": 7}, box), False
    positive = there[there > 0]
    if (
        view.axes.main[1] == "head"
        and positive.size
        and np.percentile(positive, 95) > TENFOLD * np.percentile(positive, 5)
    ):
        return log_colours(sheet, float(positive.min()), furthest, words, box), True
    return sheet.colour_axis(
        {"colorscale": MAGNITUDE, "cmin": 0, "cmax": furthest}, {"title": words, "nticks": 7}, box
    ), False


def _map_panel(sheet: Sheet, view: DefaultView, box: Box, title: str, *, first: bool, last: bool) -> Panel:
    """The axes of one map; only the outer ones are labelled."""
    dim = view.axes.main[1]
    layers, across = view.axes.labels["layer"], view.axes.labels[dim]
    y = layer_axis(layers, box.height, layer_words(view.dataset.sel(layer=layers)))
    if not first:
        y |= {"title": {"text": ""}, "ticktext": [""] * len(y["tickvals"])}
    ticks = across[:: max(1, int(np.ceil(len(across) * (16 if dim == "head" else 26) / box.width)))]
    x: dict[str, Any] = {"tickvals": ticks, "range": [float(across[0]) - 0.5, float(across[-1]) + 0.5]}
    x |= {"title": {"text": axis_words(dim)}} if last else {"ticktext": [""] * len(ticks)}
    return sheet.panel(box, title, x=x, y=y, grid=False)


def _map(panel: Panel, view: DefaultView, means: np.ndarray, kind: str, part: Group, axis: str, *, log: bool) -> None:
    import plotly.graph_objects as go

    dim = view.axes.main[1]
    layers, across = view.axes.labels["layer"], view.axes.labels[dim]
    shown = np.log10(means, out=np.full_like(means, np.nan), where=means > 0) if log else means
    hover = f"layer %{{y}}, {label_words(dim, 0).removesuffix('0')}%{{x}}: %{{customdata:.3g}}<extra></extra>"
    heat = go.Heatmap(
        x=across,
        y=layers,
        z=shown,
        customdata=means,
        coloraxis=axis,
        hovertemplate=hover,
        hoverongaps=False,
        name=panel.title,
    )
    panel.add(heat, kind, part)
    mark_missing(panel, part, shown, across, layers, "no number")


def _caption(view: DefaultView) -> str:
    """What is drawn, from the declarations of the variable and its null."""
    variable, groups, maps = REGISTRY[view.name], view.axes.whose == "paragraph", len(view.axes.main) == 2
    whose = f"each {short_words(view.axes.whose)}" if view.axes.whose else "all"
    kind = "mean over each group's paragraphs" if groups else f"one number of {whose}, without an interval"
    if groups and not view.axes.main:
        kind = "share of each group's paragraphs; points: the groups' means"
    told = [f"{_described(view.name)} ({variable.unit}): {kind}."]
    if view.null is not None:
        null = _described(view.null_name)
        which = f" ({view.null_chosen})" if view.null_chosen else ""
        told.append(
            f"{'Beside it on the same scale' if maps else 'Dashed'} its null{which}: {null[:1].lower()}{null[1:]}."
        )
    if maps:
        told.append("Maps show means, without their intervals; a cross marks a cell without a number.")
    elif groups:
        told.append(BANDS)
    return " ".join(told)


def _described(name: str) -> str:
    """What a variable is, as a sentence starts, without what nan stands for."""
    words = REGISTRY[name].description.partition("; nan")[0]
    return words[:1].upper() + words[1:]
