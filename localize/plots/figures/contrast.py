"""Where two groups' gradients differ: layers against cells, and layer by layer."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.contrast import DIFFERENCE, RATIO, RELATIVE
from localize.analysis.rows import main_pair
from localize.errors import LocalizeError, caller, public
from localize.measurements import REGISTRY
from localize.plots.figures.gradients import layer_axis
from localize.plots.figures.heads import layer_words
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureAsked, FigureKind
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import GRID, INK, NULL, SCORE, component_words, see_through, variable_words
from localize.statistics import LEVEL, Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VALUES = {
    RELATIVE: ("log ratio to the typical cell", "/"),
    RATIO: ("log ratio of shares", "/"),
    DIFFERENCE: ("difference of shares", "−"),
}
"""How each `value` is named: in words, and between the groups."""

PERMUTED = "labels permuted over clusters (central 95%)"
OF_A_WHOLE = "describes: one cell's share falls when another's rises"
MORE_IN_A, MORE_IN_B = "#B2182B", "#2166AC"
"""The ends of the colours, for the legend."""

LEFT, MAP_WIDTH, PROFILE_LEFT, PROFILE_WIDTH = 84, 336, 452, 226

FEW_COLUMNS = 16
"""With more, crosses are smaller and lighter, so that colours show between them."""


@public("plots.contrast")
def contrast(
    signature: "MemorizationSignature",
    a: str | None = None,
    b: str | None = None,
    variable: str = "gradient_share",
    value: str = RELATIVE,
    *,
    seed: int = 0,
) -> "go.Figure":
    """How one group's profile differs from another's: a heat map of layers against cells, and each layer's sum.

    White is no difference, red more in `a`, blue more in `b`. Drawn is the log ratio of each cell to the typical cell, which
    another cell's change does not move, as it moves every share. A cross marks a cell that is not significant: its false
    discovery rate over all cells is above 5 %. Beside it, on the same layers, the contrast of each layer's sum, held against the
    typical layer, with its 95 % interval by bootstrap over clusters; in the grey band it would lie 95 % of the time with labels
    permuted over clusters. Shares themselves are drawn on request, to describe: without crosses and null. All numbers are those
    of `signature.contrast`.

    Args:
        signature: Holds the variable, as `localize.gradients` measures it.
        a: The one group; with `b` left out too, memorized.
        b: The group that it is held against; with `a` left out too, not memorized.
        variable: "gradient_share" (components), "head_gradient_share" (heads of the attention components), or another
            variable of at least 0 with these axes.
        value: "relative_log_ratio" (nats); or, of the shares, "log_ratio" (nats) or "difference" (in the variable's unit).
        seed: Of bootstrap and permutation.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the variable or a group, the variable has other axes or can be negative,
            or `value` is another word.
    """
    pair = _groups(signature, a, b)
    axes = _checked_axes(signature, variable, value)
    cells, layers = _contrasts(signature, pair, variable, axes, seed)
    dataset, sheet = signature.dataset, Sheet()
    count = cells.sizes["layer"]
    height = max(110, min(14 * count, 200))
    box = Box(LEFT, TITLE + NOTE, MAP_WIDTH, height)
    _heat_map(sheet, box, cells, dataset, pair, variable, value, continuation_words(signature, variable))
    _profile(sheet, Box(PROFILE_LEFT, box.top, PROFILE_WIDTH, height), layers, dataset, variable, value)
    _key(sheet, pair)
    return sheet.finish(box.bottom + 80)


def _groups(signature: "MemorizationSignature", a: str | None, b: str | None) -> tuple[Group, Group]:
    names = signature.groups
    if a is None and b is None:
        a, b = main_pair(names) or (None, None)
    if a is None or b is None or a == b:
        raise LocalizeError(f"{caller()}: a={a!r} and b={b!r} are no two groups; there are {', '.join(names)}.")
    known = {group.name: group for group in groups_of(signature)}
    for name in (a, b):
        if name not in known:
            raise LocalizeError(f"{caller()}: no group {name!r}; there are {', '.join(names)}.")
    return known[a], known[b]


def _checked_axes(signature: "MemorizationSignature", variable: str, value: str) -> tuple[str, ...]:
    """The axes of the cells beside the layers."""
    if value not in VALUES:
        raise LocalizeError(f"{caller()}: value={value!r} is not one of {', '.join(VALUES)}.")
    require(signature, (variable,), "localize.gradients(model, paragraphs)")
    axes = tuple(str(dim) for dim in signature[variable].dims)
    drawn = ("component",), ("attention_component", "head")
    if axes[:2] != ("paragraph", "layer") or axes[2:] not in drawn:
        raise LocalizeError(
            f"{caller()}: {variable} has axes {axes}; paragraph, layer and component are drawn, "
            "or paragraph, layer, attention_component and head."
        )
    return axes[2:]


def _contrasts(
    signature: "MemorizationSignature", pair: tuple[Group, Group], variable: str, axes: tuple[str, ...], seed: int
) -> tuple["xr.Dataset", "xr.Dataset"]:
    """Of every cell, and of each layer's sum. Few clusters are told in the legend, hence not warned of."""
    names = pair[0].name, pair[1].name
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "few effective clusters")
        cells = signature.contrast(*names, variable, seed=seed)
        return cells, signature.contrast(*names, variable, over=axes, seed=seed)


@dataclass(frozen=True, eq=False)
class Columns:
    """The cells of a layer as they stand side by side.

    Attributes:
        names: "W_V", or "W_V head 3".
        ticks: Where the components' names stand.
        words: These names.
        title: Of the axis.
        dividers: Edges between components.
    """

    names: list[str]
    ticks: list[float]
    words: list[str]
    title: str
    dividers: list[float]

    @classmethod
    def of(cls, cells: "xr.Dataset") -> "Columns":
        """One column per component, or one per head inside each component."""
        if "head" not in cells.dims:
            names = [str(name) for name in cells["component"].values]
            return cls(
                names, [float(i) for i in range(len(names))], [component_words(n) for n in names], "component", []
            )
        components, heads = [str(c) for c in cells["attention_component"].values], cells["head"].values
        ticks = [len(heads) * (i + 0.5) - 0.5 for i in range(len(components))]
        dividers = [len(heads) * i - 0.5 for i in range(1, len(components))]
        names = [f"{component} head {head}" for component in components for head in heads]
        title = f"component; inside each, heads {heads[0]} to {heads[-1]}"
        return cls(names, ticks, [component_words(c) for c in components], title, dividers)


def _heat_map(
    sheet: Sheet,
    box: Box,
    cells: "xr.Dataset",
    dataset: "xr.Dataset",
    pair: tuple[Group, Group],
    variable: str,
    value: str,
    continuation: str,
) -> None:
    import plotly.graph_objects as go

    columns, layers = Columns.of(cells), cells["layer"].values
    shape = (len(layers), -1)
    shown, q = cells[value].values.reshape(shape), cells["q_value"].values.reshape(shape)
    words, between = VALUES[value]
    x = {"tickvals": columns.ticks, "ticktext": columns.words, "ticks": "", "title": {"text": columns.title}}
    x |= {"range": [-0.5, len(columns.names) - 0.5]}
    y = layer_axis(layers, box.height, layer_words(dataset))
    tested = value == RELATIVE
    told = f"crossed out: q > {LEVEL} over {int(np.isfinite(q).sum())} cells" if tested else OF_A_WHOLE
    note = f"{continuation}; {told}"
    panel = sheet.panel(
        box, f"{words.capitalize()}, {pair[0].words} {between} {pair[1].words}", note, x=x, y=y, grid=False
    )
    panel.add(
        go.Heatmap(
            x=np.arange(len(columns.names)), y=layers, z=shown, hovertemplate=_hover(pair), hoverongaps=False,
            customdata=_told(cells, columns, shape), name=words, coloraxis=_colours(sheet, shown, box, variable, value),
        ), "value",
    )  # fmt: skip
    number = panel.number if panel.number > 1 else ""
    for at in columns.dividers:
        line = {"color": INK, "width": 0.8}
        place = {"x0": at, "x1": at, "y0": 0, "y1": 1, "xref": f"x{number}", "yref": f"y{number} domain"}
        sheet.figure.add_shape(type="line", line=line, **place)
    without = np.isnan(shown)
    if tested:
        _marks(panel, layers, ~(q <= LEVEL) & ~without, f"q > {LEVEL}: not significant", "x-thin")
        across, up = np.meshgrid(np.arange(len(columns.names)), layers)
        mark_rough(panel, across.ravel(), up.ravel(), _interval(cells, value))
    _marks(panel, layers, without, "nothing to compare: a profile is 0 or was not measured", "circle-open")


def _told(cells: "xr.Dataset", columns: Columns, shape: tuple[int, int]) -> np.ndarray:
    """What a cell says when pointed at."""
    told = [f"{name}{end}" for name in (RELATIVE, DIFFERENCE, RATIO) for end in ("", "_low", "_high")]
    names = ("profile_a", "profile_b", *told, "p_value", "q_value")
    numbers = [cells[name].values.reshape(shape) for name in names]
    return np.stack([np.broadcast_to(np.array(columns.names), numbers[0].shape), *numbers], axis=-1, dtype=object)


def _hover(pair: tuple[Group, Group]) -> str:
    return (
        "layer %{y}, %{customdata[0]}<br>"
        f"{pair[0].words} %{{customdata[1]:.3g}}, {pair[1].words} %{{customdata[2]:.3g}}<br>"
        "log ratio to the typical cell %{customdata[3]:.3g} [%{customdata[4]:.3g}, %{customdata[5]:.3g}], "
        "p = %{customdata[12]:.3g}, q = %{customdata[13]:.3g}<br>"
        "difference of shares %{customdata[6]:.3g} [%{customdata[7]:.3g}, %{customdata[8]:.3g}]<br>"
        "log ratio of shares %{customdata[9]:.3g} [%{customdata[10]:.3g}, %{customdata[11]:.3g}]<extra></extra>"
    )


def _unit_words(variable: str, value: str) -> str:
    """Axis title: what is contrasted, in its unit."""
    if value == RELATIVE:
        return f"log ratio of {REGISTRY[variable].label} to the typical cell's (nats)"
    if value == RATIO:
        return f"log ratio of the mean {REGISTRY[variable].label} (nats)"
    return variable_words(variable, f"difference of the mean {REGISTRY[variable].label}")


def _colours(sheet: Sheet, shown: Float[np.ndarray, "layer cell"], box: Box, variable: str, value: str) -> str:
    values = np.abs(shown[np.isfinite(shown)])
    furthest = float(values.max()) if values.size and values.max() > 0 else 1.0
    bar = {"title": _unit_words(variable, value), "nticks": 7}
    place = Box(box.left, box.bottom + 39, box.width, 7)
    return sheet.colour_axis({"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}, bar, place)


def _marks(panel: Panel, layers: np.ndarray, where: np.ndarray, name: str, symbol: str) -> None:
    """A small mark on each of these cells, and what it means in the legend."""
    import plotly.graph_objects as go

    at = np.argwhere(where)
    if len(at) == 0:
        return
    size = 5 if where.shape[1] <= FEW_COLUMNS else 3.5
    colour = see_through(INK, 0.7 if where.shape[1] <= FEW_COLUMNS else 0.5)
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"width": size / 5, "color": colour}}
    marks = go.Scatter(
        x=at[:, 1], y=layers[at[:, 0]], mode="markers", marker=marker, name=name, hoverinfo="skip",
        showlegend=panel.sheet.first(name), legendrank=1500,
    )  # fmt: skip
    panel.add(marks, symbol)


def _profile(sheet: Sheet, box: Box, sums: "xr.Dataset", dataset: "xr.Dataset", variable: str, value: str) -> None:
    """Each layer's sum beside the rows of the heat map: estimate with interval, null band where there is a test, and zero."""
    import plotly.graph_objects as go

    words = VALUES[value][0].replace("cell", "layer")
    interval, layers = _interval(sums, value), sums["layer"].values
    y = layer_axis(layers, box.height) | {"title": {"text": ""}}
    y["ticktext"] = [""] * len(y["tickvals"])
    unit = sums.attrs["unit"] if value == DIFFERENCE else "nats"
    x: dict[str, Any] = {"title": {"text": f"{words} ({unit})"}, "nticks": 6, "showgrid": True}
    note = "bars: 95% interval; grey: null" if value == RELATIVE else "bars: 95% interval"
    panel = sheet.panel(box, "Sum over each layer", note, x=x | {"gridcolor": GRID}, y=y)
    if value == RELATIVE:
        _null_band(panel, layers, *(sums[f"null_range_{end}"].values for end in ("low", "high")))
    panel.null_line([0, 0], [float(layers[0]) - 0.5, float(layers[-1]) + 0.5], "no difference")
    points = go.Scatter(
        x=interval.estimate, y=layers, mode="markers", marker={"color": INK, "size": 6}, error_x=whiskers(interval, INK),
        name=f"{words} (95%)", showlegend=False,
        hovertemplate="layer %{y}: %{x:.3g}<extra></extra>",
    )  # fmt: skip
    panel.add(points, "value")
    mark_rough(panel, interval.estimate, layers, interval)


def _interval(told: "xr.Dataset", value: str) -> Interval:
    """What is drawn of every cell, with its ends; only of the test it is known whether it is rough."""
    ends = (told[f"{value}{end}"].values.ravel() for end in ("", "_low", "_high"))
    return Interval(*ends, rough=told["rough"].values.ravel() if value == RELATIVE else None)


def _null_band(panel: Panel, layers: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """A step-shaped band, one step as high as its layer's row; layers whose null has no end are left out."""
    import plotly.graph_objects as go

    x, y = [], []
    for layer, left, right in zip(layers, low, high, strict=True):
        if np.isfinite(left) and np.isfinite(right):
            x += [left, right, right, left, left, None]
            y += [layer - 0.5, layer - 0.5, layer + 0.5, layer + 0.5, layer - 0.5, None]
    fill = see_through(NULL, 0.22)
    band = go.Scatter(
        x=x, y=y, mode="lines", line={"width": 0}, fill="toself", fillcolor=fill, name=PERMUTED, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    panel.add(band, "null")
    marker = {"symbol": "square", "size": 9, "color": "rgba(119,119,119,0.35)"}
    panel.sheet.null_key(PERMUTED, {"mode": "markers", "marker": marker})


def _key(sheet: Sheet, pair: tuple[Group, Group]) -> None:
    """Both groups with their sizes, in the colours that say in which of them a cell has more."""
    import plotly.graph_objects as go

    for group, colour in zip(pair, (MORE_IN_A, MORE_IN_B), strict=True):
        marker = {"symbol": "square", "size": 9, "color": colour}
        meta = {"panel": None, "group": group.words, "what": "key"}
        key = go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="more in " + group.label, meta=meta)
        # With a group in the legend its entries are as wide as their words, not as the longest of all.
        sheet.figure.add_trace(key.update(showlegend=True, legendgroup=group.words))


def _of_the_main_pair(signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
    """Nothing where there is none."""
    return {"": contrast(signature, seed=asked.seed)} if main_pair(signature.groups) else {}


KIND = FigureKind(
    "contrast",
    needs=(("gradient_share",),),
    title="Which components differ between the groups",
    caption="Log ratio of each cell's share of the gradient to the typical cell's, between the two groups: white for a cell that did "
    "what most cells did; it does not move where one cell grows and lowers all other shares, but that the typical cell is as large in "
    "both groups, no share can tell. Crossed out: a false discovery rate over the whole grid above 5%; beside it the same of each "
    f"layer's sum, in grey the central 95% of the null, labels permuted over clusters. {BANDS}",
    function=contrast,
    make=_of_the_main_pair,
)
