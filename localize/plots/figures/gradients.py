"""Which weights the loss is sensitive to, which is not where a text is stored: layers against cells, and each layer's share."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.axes import ATTENTION_COMPONENTS, MLP_COMPONENTS
from localize.errors import LocalizeError, caller, public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import MAGNITUDE, NULL, axis_words, component_words, variable_words
from localize.statistics import Interval, cluster_permutation_difference
from localize.statistics.ranges import PERCENT

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = {
    "max": ("head_gradient_max", "gradient_max"),
    "norm": ("head_gradient_norm", "gradient_norm"),
    "set": ("set_head_gradient_max", "set_gradient_max"),
}
"""What each `value` draws: of heads, and of whole components."""

EVEN = "even over layers"
LEFT, MAP_WIDTH, PROFILE_WIDTH = 44, 390, 190


@public("plots.gradients")
def gradients(
    signature: "MemorizationSignature", *, value: str = "max", scale: str = "log", seed: int = 0
) -> "go.Figure":
    """Size of the gradient per layer and cell (each head of W_Q W_K W_V W_O, W_in and W_out), a heat map per group.

    Beside them each layer's share of a paragraph's sum over all cells, averaged over the paragraphs, with 95 %
    intervals by bootstrap over clusters. Nulls: a dashed line where all layers share alike; a grey band in which
    the first group's profile lies 95 % of the time when the labels are permuted over clusters (the first group
    against all others).

    Args:
        signature: Holds `localize.gradients`.
        value: "max" or "norm": mean over a group's paragraphs of max |gradient| or of the L2 norm. "set": max
            |gradient| of the mean NLL of sets of a group, as in the paper; it has no intervals.
        scale: Of the colours; groups often differ tenfold, which linear colours turn into black.
        seed: Of bootstrap and permutation.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the gradients, or `value` or `scale` is another word.

    Source:
        Stoehr et al. 2024, section 4 and figure 3; shares per paragraph, intervals and nulls are ours.
    """
    sheet = Sheet()
    return sheet.finish(draw_gradients(signature, sheet, 0, value=value, scale=scale, seed=seed))


def draw_gradients(
    signature: "MemorizationSignature",
    sheet: Sheet,
    top: Px,
    *,
    value: str,
    scale: str,
    seed: int,
    compact: bool = False,
) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px."""
    _check(signature, value, scale)
    dataset, groups = signature.dataset, groups_of(signature)
    layers = dataset.sizes["layer"]
    height = map_height(layers, compact)
    cells = {group.name: _cells(dataset, group, value) for group in groups}
    maps = {name: mean_cells(array) for name, array in cells.items()}
    last = top + len(groups) * (height + TITLE + 9) - 9
    bottom = last + 80
    axis = _colours(sheet, list(maps.values()), VARIABLES[value][0], scale, Box(LEFT, last + 39, MAP_WIDTH, 7))
    for row, group in enumerate(groups):
        box = Box(LEFT, top + TITLE + row * (height + TITLE + 9), MAP_WIDTH, height)
        _heat_map(
            sheet,
            box,
            group,
            maps[group.name],
            dataset,
            axis,
            scale,
            _title(signature, value),
            last=row == len(groups) - 1,
        )
    tall = max(last - top - TITLE - NOTE, 110 if compact else 150)
    box = Box(LEFT + MAP_WIDTH + 66, top + TITLE + NOTE, PROFILE_WIDTH, min(tall, 230))
    _profile(sheet, box, groups, cells, dataset, value, seed)
    return max(bottom, box.bottom + 40)


def _check(signature: "MemorizationSignature", value: str, scale: str) -> None:
    if value not in VARIABLES:
        raise LocalizeError(f"{caller()}: value={value!r} is not one of {', '.join(VARIABLES)}.")
    if scale not in ("log", "linear"):
        raise LocalizeError(f"{caller()}: scale={scale!r} is not one of log, linear.")
    measurement = (
        "localize.gradients(model, paragraphs, sets=True)"
        if value == "set"
        else "localize.gradients(model, paragraphs)"
    )
    require(signature, VARIABLES[value], measurement)


def _title(signature: "MemorizationSignature", value: str) -> str:
    name = VARIABLES[value][1]
    words = {"max": "mean of max |gradient|", "norm": "mean gradient norm", "set": "max |gradient| of the mean NLL"}[
        value
    ]
    size = ""
    if value == "set" and "set_size" in signature:
        sizes = np.unique(signature["set_size"].values)
        size = f" of {sizes[0]} paragraphs" if len(sizes) == 1 else " of sets that differ in size"
    return f"sensitivity, {words}{size}, {continuation_words(signature, name)}"


def _cells(dataset: "xr.Dataset", group: Group, value: str) -> Float[np.ndarray, "member layer cell"]:
    """The group's gradients, cells in drawing order: heads of each attention component, then the MLP's two."""
    heads, whole = (dataset[name] for name in VARIABLES[value])
    if value == "set":
        if group.name not in dataset["set"].values:
            raise LocalizeError(
                f"{caller()}: the signature has no set-level gradient of group {group.name!r}; measure it again."
            )
        chosen: dict[str, Any] = {"set": np.flatnonzero(dataset["set"].values == group.name)}
    else:
        chosen = {"paragraph": group.rows}
    member = next(iter(chosen))
    heads = (
        heads.isel(chosen)
        .sel(attention_component=list(ATTENTION_COMPONENTS))
        .transpose(member, "layer", "attention_component", "head")
    )
    mlp = whole.isel(chosen).sel(component=list(MLP_COMPONENTS)).transpose(member, "layer", "component")
    flat = heads.values.reshape(*heads.shape[:2], -1)
    return np.concatenate([flat, mlp.values], axis=-1).astype(np.float64)


def mean_cells(cells: Float[np.ndarray, "member layer cell"]) -> Float[np.ndarray, "layer cell"]:
    """Mean over the paragraphs (of a set: itself)."""
    return cells.mean(0)


def layer_shares(cells: Float[np.ndarray, "member layer cell"]) -> Float[np.ndarray, "member layer"]:
    """Per cent of a paragraph's sum over all cells that lies in each layer; nan where there is no gradient at all."""
    layers = cells.sum(-1)
    total = layers.sum(-1, keepdims=True)
    return 100 * np.divide(layers, total, out=np.full_like(layers, np.nan), where=total > 0)


def _colours(sheet: Sheet, maps: list[np.ndarray], name: str, scale: str, box: Box) -> str:
    """One colour scale for all groups, labelled in the values themselves."""
    positive = np.concatenate([m[m > 0] for m in maps])
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (0.1, 1.0)
    if scale == "linear":
        return sheet.colour_axis(
            {"colorscale": MAGNITUDE, "cmin": 0, "cmax": high}, {"title": variable_words(name)}, box
        )
    return log_colours(sheet, low, high, variable_words(name), box)


def log_colours(sheet: Sheet, low: float, high: float, words: str, box: Box) -> str:
    """A logarithmic scale of colours, labelled in the values themselves."""
    ticks = _log_ticks(low, high)
    bar = {"title": f"{words}, log scale", "tickvals": np.log10(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}
    ends = {"cmin": np.log10(low), "cmax": np.log10(max(high, low * 1.01))}
    return sheet.colour_axis({"colorscale": MAGNITUDE, **ends}, bar, box)


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, three to nine of them where that is possible."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) >= 4:
            return ticks
    return ticks or [low, high]


def _heat_map(
    sheet: Sheet,
    box: Box,
    group: Group,
    means: np.ndarray,
    dataset: "xr.Dataset",
    axis: str,
    scale: str,
    title: str,
    *,
    last: bool,
) -> None:
    import plotly.graph_objects as go

    heads, layers = dataset.sizes["head"], dataset["layer"].values
    edges, names = _cell_edges(heads), _cell_names(heads)
    shown = np.log10(means, out=np.full_like(means, np.nan), where=means > 0) if scale == "log" else means
    starts = edges[: 4 * heads : heads]
    middles = [*(starts + heads / 2), *((edges[4 * heads : -1] + edges[4 * heads + 1 :]) / 2)]
    words = [component_words(c) for c in (*ATTENTION_COMPONENTS, *MLP_COMPONENTS)]
    x: dict[str, Any] = {"tickvals": middles, "ticktext": words if last else [""] * 6, "ticks": ""}
    x |= {"range": [edges[0], edges[-1]]}
    if last and heads > 1:
        x |= {"title": {"text": f"component; inside {words[0]} to {words[3]}, heads 0 to {heads - 1}"}}
    panel = sheet.panel(box, f"{group.words}: {title}", x=x, y=layer_axis(layers, box.height), grid=False)
    hover = "layer %{y}, %{text}: %{customdata:.3g}<extra></extra>"
    text = np.broadcast_to(np.array(names), means.shape)
    panel.add(
        go.Heatmap(x=edges, y=layers, z=shown, customdata=means, text=text, hovertemplate=hover, coloraxis=axis,
        name=group.words), "mean", group,
    )  # fmt: skip
    for at in edges[[heads, 2 * heads, 3 * heads, 4 * heads, 4 * heads + 1]]:
        line = {"color": "white", "width": 2}
        number = panel.number if panel.number > 1 else ""
        sheet.figure.add_shape(
            type="line", x0=at, x1=at, y0=0, y1=1, xref=f"x{number}", yref=f"y{number} domain", line=line
        )


def map_height(layers: int, compact: bool) -> Px:
    """Height in px of a heat map over layers."""
    return max(64, min(5 * layers, 120)) if compact else max(80, min(14 * layers, 200))


def layer_axis(layers: np.ndarray, height: Px, words: list[str] | None = None) -> dict[str, Any]:
    """The y axis of a heat map over layers: as many labels as there is room for."""
    every = max(1, int(np.ceil(len(layers) * 11 / height)))
    every += every % 2 == 0  # an odd step shows layers of both kinds where global and local ones alternate
    texts = words or [str(layer) for layer in layers]
    ends = [float(layers[0]) - 0.5, float(layers[-1]) + 0.5]
    return {
        "title": {"text": axis_words("layer")},
        "tickvals": layers[::every],
        "ticktext": texts[::every],
        "range": ends,
    }


def _cell_edges(heads: int) -> Float[np.ndarray, " edge"]:
    """Edges of the cells along x: heads one wide, the MLP's two wide enough for their names."""
    return np.concatenate([np.arange(4.0 * heads), 4.0 * heads + max(1.0, heads / 2.5) * np.arange(3)])


def _cell_names(heads: int) -> list[str]:
    return [f"{c} head {head}" for c in ATTENTION_COMPONENTS for head in range(heads)] + list(MLP_COMPONENTS)


def _profile(
    sheet: Sheet,
    box: Box,
    groups: list[Group],
    cells: dict[str, np.ndarray],
    dataset: "xr.Dataset",
    value: str,
    seed: int,
) -> None:
    layers = dataset["layer"].values
    shares = {name: layer_shares(array) for name, array in cells.items()}
    banded = value != "set" and len(groups) > 1
    note = "dashed: even; grey: labels permuted" if banded else f"dashed: {EVEN}"
    panel = sheet.panel(
        box, "Sensitivity: share of each layer", note,
        x={"title": {"text": axis_words("layer")}, "tickvals": layers[:: max(1, len(layers) // 6)]},
        y={"title": {"text": "share of the gradient (%)"}, "rangemode": "tozero"},
    )  # fmt: skip
    if banded:
        _permuted_band(panel, layers, groups, shares, seed)
    panel.null_line([layers[0], layers[-1]], [100 / len(layers)] * 2, EVEN)
    for group in groups:
        chosen = shares[group.name]
        alone = Interval(chosen.mean(0), *np.full((2, len(layers)), np.nan))
        interval = alone if value == "set" else whole_group(group).interval(chosen, seed, PERCENT)
        panel.curve(layers, interval, group, markers=True)


def whole_group(group: Group) -> Group:
    """The same group over its own paragraphs alone."""
    return Group(
        group.name, group.words, group.colour, group.symbol, np.ones(len(group.clusters), bool), group.clusters
    )


def _permuted_band(
    panel: Panel, layers: np.ndarray, groups: list[Group], shares: dict[str, np.ndarray], seed: int
) -> None:
    """Where the first group's profile would lie if the labels meant nothing: around the profile of all, 95 %."""
    first = len(groups[0].clusters)
    everyone = np.concatenate([shares[group.name] for group in groups])
    clusters = np.concatenate([group.clusters for group in groups])
    in_first = np.arange(len(clusters)) < first
    test = cluster_permutation_difference(everyone, in_first, ~in_first, clusters, seed=seed)
    # The first group's mean lies this share of the difference away from the mean of all.
    pooled, moved = np.nanmean(everyone, axis=0), 1 - first / len(clusters)
    edge = {"color": NULL, "width": 0.8, "dash": "dot"}
    what = f"{groups[0].words} with permuted labels (central 95%)"
    panel.band(layers, pooled + moved * test.null_low, pooled + moved * test.null_high, "null", name=what, line=edge)
    panel.sheet.null_key(
        what, {"mode": "markers", "marker": {"symbol": "square", "size": 9, "color": "rgba(119,119,119,0.35)"}}
    )


KIND = FigureKind(
    "gradients",
    needs=tuple((name,) for name in VARIABLES["max"]),
    title="Sensitivity: gradients of the loss by layer and component",
    caption="What the loss is sensitive to, not where the text is stored: mean over "
    "each group's paragraphs of the largest absolute gradient of the continuation's NLL, for every head of the attention components and "
    "for the MLP's two matrices; beside it each layer's share of a paragraph's sum. Dashed: all layers alike; grey band: the first "
    f"group's profile with labels permuted over clusters (central 95% of the null). {BANDS}",
    function=gradients,
    also=("set_size", "set_count"),
)
