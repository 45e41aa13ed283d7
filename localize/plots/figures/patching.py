"""Which parts carry the key: what happens when activations of the clean and the corrupted run change places."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.plots.figures.gradients import layer_axis, map_height
from localize.plots.figures.heads import best_heads, layer_words
from localize.plots.figures.patch_estimates import draw_estimates
from localize.plots.figures.patch_view import (
    HALF_STEP,
    HALF_WIDTH,
    HEADS,
    LEFT,
    METRIC_WORDS,
    STREAM_WORDS,
    STREAMS,
    PatchView,
    view_of,
)
from localize.plots.groups import Group, continuation_words
from localize.plots.kinds import BANDS, FigureAsked, FigureKind, main_groups
from localize.plots.roughness import mark_rough
from localize.plots.series import Series, whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Px, Sheet
from localize.plots.theme import INK, NULL, SCORE, axis_words, plain, variable_words
from localize.statistics import Interval
from localize.statistics.clusters import choosing_half

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

MOVES = {"denoising": ("restores", "hinders"), "noising": ("helps", "breaks")}
"""What a patch does that lowers the NLL, and one that raises it."""

RANDOM_DIRECTION = "as large a change, random direction"
MAP_WIDTH, GAP = 140, 12
ROW, LINES = 12.5, 110


@public("plots.patching")
def patching(
    signature: "MemorizationSignature",
    *,
    group: str | None = None,
    metric: str | None = None,
    direction: str | None = None,
    top: int = 8,
    seed: int = 0,
) -> "go.Figure":
    """Change of the NLL when one activation of the other run is put in: every head, the strongest of them, whole layers.

    Denoising puts the clean run's activation into the corrupted run: what lowers the NLL carries the key. Noising
    puts the corrupted run's into the clean one: what raises it is needed. Heat maps: mean over the group's pairs,
    white at 0, each direction on its own scale. Strongest: chosen by |mean| on one half of the group's clusters, shown
    on the other half with 95 % intervals by bootstrap over clusters. Null: as large a change of the same activation in
    a random direction. Whole layers: with bands, the null dashed, and dotted what patching everything does. Where the
    gradient approximation was measured, it stands against the exact effect, with `signature.patch_agreement`'s rho.

    Args:
        signature: Holds `localize.patch`.
        group: Whose pairs; None is the first group, the memorized one where there is one.
        metric: "first_changed" or "continuation"; None is the first measured.
        direction: "denoising" or "noising"; None is both.
        top: How many of the strongest sites to list.
        seed: Of bootstrap and choice.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the patching, or this group, metric or direction, or `top` is below 1.

    Source:
        Stoehr et al. 2024, section 6; nulls, intervals and the choice on other clusters are ours.
    """
    if top < 1:
        raise LocalizeError(f"{caller()}: top={top} must be at least 1.")
    signature.one_model(caller())
    view, sheet = view_of(signature, group, metric, direction, seed), Sheet()
    bottom = _told(sheet, 0, signature, view)
    if HEADS in view.dataset:
        bottom = _maps(sheet, bottom, view)
        bottom = draw_strongest(sheet, bottom, view, top)
    if STREAMS in view.dataset:
        bottom = draw_layers(sheet, bottom, view)
    if any(f"{place}_patch_estimate" in view.dataset for place in ("head", "stream")):
        bottom = draw_estimates(sheet, bottom, view, signature)
    return sheet.finish(bottom)


def draw_patching(signature: "MemorizationSignature", sheet: Sheet, top: Px, *, seed: int) -> Px:
    """The strongest sites and the whole layers of the first group, on a sheet from `top` px downwards; gives the bottom."""
    view = view_of(signature, None, None, None, seed)
    bottom = _told(sheet, top, signature, view)
    if HEADS in view.dataset:
        bottom = draw_strongest(sheet, bottom, view, 5)
    return draw_layers(sheet, bottom, view, 116) if STREAMS in view.dataset else bottom


def _told(sheet: Sheet, top: Px, signature: "MemorizationSignature", view: PatchView) -> Px:
    """Lines above the panels: whose pairs, what they are judged by, and how far the two runs are apart."""
    dataset, name = view.dataset, HEADS if HEADS in view.dataset else STREAMS
    clean, corrupted = (float(view.group.mean(dataset[n].values)) for n in ("clean_nll", "corrupted_run_nll"))
    metric = METRIC_WORDS.get(str(dataset["metric"].values), plain(str(dataset["metric"].values)))
    own = continuation_words(signature, name)
    sheet.text(f"<b>{view.group.words}</b>, {view.group.size}", 0, top + NOTE)
    runs = f"clean run {clean:.2f}, corrupted run {corrupted:.2f} nats per token"
    sheet.text(
        f"NLL of the {metric}, {own}: {runs}" if "mean" not in metric else f"NLL, {metric}, {own}: {runs}",
        0,
        top + 2 * NOTE,
    )
    return top + 2 * NOTE + 10


def _maps(sheet: Sheet, top: Px, view: PatchView) -> Px:
    """A row of heat maps per direction, one for each of a head's activations."""
    import plotly.graph_objects as go

    dataset = view.dataset
    layers, heads = dataset["layer"].values, dataset["head"].values
    sites = [str(site) for site in dataset["site"].values]
    means = {direction: view.mean(HEADS, direction) for direction in view.directions}  # (site, layer, head)
    height = map_height(len(layers), compact=False)
    step = height + TITLE + 9
    last = top + len(means) * step - 9
    axes = [_colours(sheet, *named, at, last + 38) for at, named in enumerate(means.items())]
    ticks = heads[:: max(1, int(np.ceil(len(heads) * 16 / MAP_WIDTH)))]
    for row, (direction, mean) in enumerate(means.items()):
        for column, site in enumerate(sites):
            box = Box(LEFT + column * (MAP_WIDTH + GAP), top + TITLE + row * step, MAP_WIDTH, height)
            x: dict[str, Any] = {"tickvals": ticks, "range": [heads[0] - 0.5, heads[-1] + 0.5]}
            is_last = row == len(means) - 1
            x |= {"title": {"text": axis_words("head")}} if is_last else {"ticktext": [""] * len(ticks)}
            y = layer_axis(layers, height, layer_words(dataset))
            if column:
                y |= {"title": {"text": ""}, "ticktext": [""] * len(y["tickvals"])}
            panel = sheet.panel(box, f"{direction.capitalize()}, {plain(site)}", x=x, y=y, grid=False)
            hover = f"{plain(site)} of layer %{{y}}, head %{{x}}: %{{z:.3f}} nats<extra></extra>"
            heat = go.Heatmap(
                x=heads, y=layers, z=mean[column], coloraxis=axes[row], hovertemplate=hover, name=plain(site)
            )
            panel.add(heat, "mean", view.group)
    return last + 82


def _colours(sheet: Sheet, direction: str, mean: Float[np.ndarray, "site layer head"], place: int, top: Px) -> str:
    """A scale for each direction, white at 0: noising one head may do far less than denoising one."""
    furthest = (float(np.nanmax(np.abs(mean))) if np.isfinite(mean).any() else 0.0) or 1.0
    bar = {"title": f"{direction}: mean {variable_words(HEADS, 'NLL change')}", "nticks": 6}
    box = Box(LEFT + place * 2 * (MAP_WIDTH + GAP), top, 2 * MAP_WIDTH + GAP - 8, 7)
    return sheet.colour_axis({"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}, bar, box)


@dataclass(frozen=True, eq=False)
class Strongest:
    """The sites that move the NLL most in one direction, first the one furthest from 0 where it was chosen.

    Attributes:
        names: "L1.H2.z".
        effect: Mean change of the NLL on the clusters that did not choose, with its interval.
        null: The same of as large a change in a random direction; None where it was not measured.
        apart: Whether the first lies outside its null: the interval of their difference leaves out 0.
        blind: Whether other clusters chose them.
    """

    names: list[str]
    effect: Interval
    null: Interval | None
    apart: bool
    blind: bool

    @classmethod
    def of(cls, view: PatchView, direction: str, top: int) -> "Strongest":
        """Choose on one half of the clusters, show on the other; on all of them where one half is empty."""
        effect, dataset = view.values(HEADS, direction), view.dataset
        flat = effect.reshape(len(effect), -1)
        measured = np.isfinite(flat).any(1)
        chooses = choosing_half(view.group.clusters, view.seed)
        blind = bool((chooses & measured).any() and (~chooses & measured).any())
        shows = ~chooses if blind else np.ones(len(flat), dtype=bool)
        size = np.abs(view.interval(flat, chooses if blind else shows).estimate)
        at = np.array([cell for _, cell in best_heads(size[None], top)], dtype=int)
        names = []
        for cell in at:
            site, layer, head = np.unravel_index(cell, effect.shape[1:])
            where = f"L{dataset['layer'].values[layer]}.H{dataset['head'].values[head]}"
            names.append(f"{where}.{plain(str(dataset['site'].values[site]))}")
        null = None
        apart = False
        if "head_patch_null" in dataset:
            nulls = view.values("head_patch_null", direction).reshape(len(flat), -1)[:, at]
            null = view.interval(nulls, shows)
            beyond = view.interval(flat[:, at] - nulls, shows)
            apart = bool(len(at) and beyond.low[0] * beyond.high[0] > 0)
        return cls(names, view.interval(flat[:, at], shows), null, apart, blind)


def draw_strongest(sheet: Sheet, top: Px, view: PatchView, number: int) -> Px:
    """The strongest sites beside their null, a panel per direction; gives the bottom in px."""
    lists = {direction: Strongest.of(view, direction, number) for direction in view.directions}
    rows = max([1, *(len(best.names) for best in lists.values())])
    height = max(60, ROW * rows)
    for column, (direction, best) in enumerate(lists.items()):
        box = Box(LEFT + column * HALF_STEP, top + TITLE + NOTE, HALF_WIDTH, height)
        _list(sheet, box, view.group, direction, best, rows)
    return top + TITLE + NOTE + height + 46


def _list(sheet: Sheet, box: Box, group: Group, direction: str, best: Strongest, rows: int) -> None:
    import plotly.graph_objects as go

    rank, effect = np.arange(len(best.names)), best.effect
    title = f"{direction.capitalize()}: no site measured"
    if best.names:
        moves = MOVES.get(direction, ("lowers", "raises"))[int(effect.estimate[0] > 0)]
        verdict = f"{moves} most" if best.apart or best.null is None else "not beyond its null"
        title = f"{direction.capitalize()}: {best.names[0]} {verdict}"
    note = "chosen on other clusters" if best.blind else "chosen on the paragraphs shown"
    x = {"title": {"text": variable_words(HEADS, "NLL change")}, "rangemode": "tozero", "nticks": 6}
    y = {"tickvals": rank, "ticktext": best.names, "range": [rows - 0.5, -0.5]}
    panel = sheet.panel(box, title, note, x=x, y=y)
    if best.null is not None:
        tick = {"symbol": "line-ns", "size": 9, "line": {"color": NULL, "width": 2}, "color": NULL}
        panel.add(
            go.Scatter(x=best.null.estimate, y=rank, mode="markers", marker=tick, error_x=whiskers(best.null, NULL),
            name=RANDOM_DIRECTION, showlegend=False), "null", group,
        )  # fmt: skip
        sheet.null_key(RANDOM_DIRECTION, {"mode": "markers", "marker": tick})
    marker = {"color": group.colour, "symbol": group.symbol, "size": 6}
    points = go.Scatter(
        x=effect.estimate, y=rank, mode="markers", marker=marker, error_x=whiskers(effect, group.colour),
        name=f"{group.words}, 95% interval", showlegend=sheet.first("group " + group.name),
    )  # fmt: skip
    panel.add(points, "mean", group)
    mark_rough(panel, effect.estimate, rank, effect, group)


def draw_layers(sheet: Sheet, top: Px, view: PatchView, height: Px = LINES) -> Px:
    """Whole layers: a line per stream with its band and null, a panel per direction; gives the bottom in px."""
    import plotly.graph_objects as go

    dataset = view.dataset
    layers, streams = dataset["layer"].values, [str(name) for name in dataset["stream"].values]
    lines = [Series.of(STREAM_WORDS.get(name, plain(name)), place) for place, name in enumerate(streams)]
    for column, direction in enumerate(view.directions):
        box = Box(LEFT + column * HALF_STEP, top + TITLE + NOTE, HALF_WIDTH, height)
        effect = view.values(STREAMS, direction)
        x = {"title": {"text": axis_words("layer")}, "tickvals": layers[:: max(1, len(layers) // 12)]}
        y = {"title": {"text": variable_words(STREAMS, "NLL change")}, "rangemode": "tozero"}
        note = "dashed: null; dotted: everything patched"
        panel = sheet.panel(box, f"{direction.capitalize()}, whole layers", note, x=x, y=y)
        whole, dots = view.whole(direction), {"color": INK, "width": 1, "dash": "dot"}
        ends = layers[[0, -1]]
        panel.add(go.Scatter(x=ends, y=[whole, whole], mode="lines", line=dots, name="everything patched", legendgroup="whole",
                  showlegend=sheet.first("whole"), hoverinfo="name"), "whole", view.group)  # fmt: skip
        if "stream_patch_null" in dataset:
            null = view.mean("stream_patch_null", direction)
            for place, line in enumerate(lines):
                dashed = {"color": line.colour, "width": 1, "dash": "dash"}
                name = f"null of the {line.words}"
                panel.add(go.Scatter(x=layers, y=null[place], mode="lines", line=dashed, name=name, showlegend=False,
                          hoverinfo="name"), "null", view.group)  # fmt: skip
            sheet.null_key(RANDOM_DIRECTION, {"mode": "lines", "line": {"color": NULL, "width": 1, "dash": "dash"}})
        for place, line in enumerate(lines):
            line.draw(panel, layers, view.interval(effect[:, place]), view.group)
    return top + TITLE + NOTE + height + 46


def _of_each_group(signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
    """A figure for each of the main groups with a pair of runs."""
    effect = signature[STREAMS if STREAMS in signature else HEADS]
    patched = effect.notnull().any([dim for dim in effect.dims if dim != "paragraph"]).values
    group = signature.dataset["group"].values
    there = [name for name in main_groups(signature) if patched[group == name].any()]
    return {name: patching(signature, group=name, seed=asked.seed) for name in there}


KIND = FigureKind(
    "patch",
    needs=((HEADS, STREAMS),),
    title="Which activations carry the key",
    caption="Change of the NLL when one activation of the other run is put in: denoising puts the clean run's into the corrupted run, "
    "noising the reverse. The strongest sites are chosen on one half of the clusters and shown on the other, beside as large "
    f"a change in a random direction (grey, or dashed). {BANDS}",
    function=patching,
    also=tuple(f"{place}_patch_{what}" for place in ("head", "stream") for what in ("null", "estimate")),
    make=_of_each_group,
)
