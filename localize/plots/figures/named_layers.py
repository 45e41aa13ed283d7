"""Which layer gradient maps and a localizer name for texts that are kept in a known one, and how the maps differ from held-out text's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.bench.layer_maps import OVER_HELD_OUT, SHARE
from localize.bench.tables import layered, share_ratios
from localize.bench.upper_bound import ORACLE
from localize.errors import LocalizeError, caller, public
from localize.localizers.registry import DEFAULT
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Px, Sheet
from localize.plots.theme import INK, NULL, OTHER_COLOURS, SCORE, SMALL, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.bench.results import BenchedTruth, BenchResults

MAPS = {SHARE: "Gradient map: largest share", OVER_HELD_OUT: "Gradient map over held-out text"}
RIGHT = "the layer where the text is kept"
KEPT = "layer where the text is kept"
LEFT, WIDE, STEP, HIGH = 44, 170, 236, 150
SECOND, UNDER, UNDER_BAR = 350, 44, 88
LARGEST = 22
"""Px across the mark of all texts of a layer."""

FEW_LAYERS = 6
"""Up to so many have their numbers printed in the cells."""

FARTHEST = 8.0
"""Ratios beyond this, either way, are off the axis."""

TICKS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


@public("plots.named_layers")
def named_layers(results: "BenchResults", localizer: str = DEFAULT, *, seed: int = 0) -> "go.Figure":
    """The layer that is named for each text against the layer where it is kept, and gradient shares over those of held-out text.

    Three readings: the layer with the largest share of the text's squared gradient; that with the largest share over the mean of
    held-out text; and that which most of a localizer's best units lie in. Marks are as large as the share of the layer's texts.
    Below: the shares of the texts that are kept in the last layer over those of held-out text (1: alike), with 95 % intervals by
    bootstrap over texts, and the same of every layer.

    Args:
        results: Of `localize.bench` or `localize.bench.read_results`, with truths of the kind "layer".
        localizer: Whose best units have a vote.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If no such truth passed its gates, or the localizer was not run on it.
    """
    families = layered(results)
    if not families:
        raise LocalizeError(
            f"{caller()}: no truth that keeps each text in one layer passed its gates; localize.bench(model, paragraphs, ['layer']) "
            "plants one, and results.gates() tells which gate failed."
        )
    sheet, top = Sheet(), 0.0
    for truths in families:
        top = _rows(sheet, top, truths, localizer, seed)
    return sheet.finish(top)


def drawn_localizer(results: "BenchResults") -> str | None:
    """The usual localizer where it was run, or else the one that names most layers rightly; None without texts of known layers."""
    scores = [one for truths in layered(results) for truth in truths for one in truth.scores if one.localizer != ORACLE]
    names = list(dict.fromkeys(one.localizer for one in scores if one.voted_layer is not None))
    if not names:
        return None
    right = {name: np.mean([one.voted for one in scores if one.localizer == name]) for name in names}
    return DEFAULT if DEFAULT in names else max(names, key=lambda name: right[name])


def _rows(sheet: Sheet, top: Px, truths: "Sequence[BenchedTruth]", localizer: str, seed: int) -> Px:
    """Two rows of panels, of truths that are alike but for their seeds; gives the bottom in px."""
    maps = [one for truth in truths for one in truth.maps if one.layer is not None]
    scores = [one for truth in truths for one in truth.scores if one.localizer == localizer]
    if not scores:
        known = ", ".join(dict.fromkeys(one.localizer for truth in truths for one in truth.scores))
        raise LocalizeError(
            f"{caller()}: localizer={localizer!r} was not run on texts kept in one layer; there are {known}."
        )
    layers = np.arange(len(maps[0].shares))
    boxes = [Box(LEFT + column * STEP, top + TITLE + NOTE, WIDE, HIGH) for column in range(3)]
    readings = [
        (MAPS[name], [(one.layer, one.named.get(name)) for one in maps], [one.right.get(name) for one in maps])
        for name in MAPS
    ]
    voted = [(one.layer, one.voted_layer) for one in scores]
    readings.append((f"Votes of best units: {plain(localizer)}", voted, [one.voted for one in scores]))
    for number, (box, (title, named, right)) in enumerate(zip(boxes, readings, strict=True)):
        _confusion(sheet, box, title, named, right, layers, labelled=number == 0)
    top = boxes[0].bottom + UNDER + TITLE + NOTE
    rows: Any = share_ratios(truths, seed=seed)
    wide = SECOND - LEFT - 38
    _last(sheet, Box(LEFT, top, wide, HIGH), [row for row in rows if row["stored_in"] == rows[-1]["stored_in"]])
    _all(sheet, Box(LEFT + SECOND, top, wide, HIGH), rows, layers)
    return top + HIGH + UNDER_BAR


def _confusion(
    sheet: Sheet, box: Box, title: str, named: list[Any], right: list[Any], layers: np.ndarray, *, labelled: bool
) -> None:
    """How many texts of each layer are said to be kept in each."""
    import plotly.graph_objects as go

    pairs = [pair for pair in named if None not in pair]
    count = np.zeros((len(layers), len(layers)), int)
    for kept, told in pairs:
        count[kept, told] += 1
    hits = float(np.nansum(np.array(right, float)))
    note = f"right: {hits:.3g} of {len(right)} texts; chance {len(right) / len(layers):.3g}"
    every = max(1, len(layers) // 6)
    ends = [layers[0] - 0.6, layers[-1] + 0.6]
    x = {"title": {"text": KEPT}, "tickvals": layers[::every], "range": ends}
    y = {"title": {"text": "layer named"}, "tickvals": layers[::every], "range": ends}
    panel = sheet.panel(box, title, note, x=x, y=y if labelled else y | {"title": {"text": ""}})
    line = {"color": NULL, "width": 1, "dash": "dot"}
    diagonal = go.Scatter(
        x=ends, y=ends, mode="lines", line=line, name=RIGHT, legendgroup=RIGHT, hoverinfo="name", showlegend=sheet.first(RIGHT),
    )  # fmt: skip
    panel.add(diagonal, "right")
    kept, told = np.nonzero(count)
    texts, of_layer = count[kept, told], count.sum(1)[kept]
    room = min(LARGEST, 0.8 * box.height / (len(layers) + 0.2))
    size = np.maximum(room * np.sqrt(texts / of_layer), 5)
    colour = [OTHER_COLOURS[6] if good else OTHER_COLOURS[5] for good in kept == told]
    few = len(layers) <= FEW_LAYERS
    marks = go.Scatter(
        x=kept, y=told, mode="markers+text" if few else "markers", text=texts, textposition="middle center",
        textfont={"color": "white", "size": SMALL},
        marker={"size": size, "color": colour, "symbol": ["circle" if good else "square" for good in kept == told], "opacity": 1},
        hovertemplate="kept in layer %{x}, named %{y}: %{text} texts<extra></extra>", showlegend=False, name="texts",
    )  # fmt: skip
    panel.add(marks, "texts")


def _last(sheet: Sheet, box: Box, rows: list[dict[str, Any]]) -> None:
    """The shares of the texts that are kept in one layer, over those of held-out text."""
    import plotly.graph_objects as go

    layers = np.array([row["layer"] for row in rows])
    ends = (np.array([row[name] for row in rows], float) for name in ("ratio", "low", "high"))
    interval = Interval(*ends, rough=np.array([row["rough"] for row in rows]))
    extent = [np.nanmin([*interval.low, 0.5]), np.nanmax([*interval.high, 2.0])]
    low, high = (float(np.clip(end, 1 / FARTHEST, FARTHEST)) for end in extent)
    ticks = [tick for tick in TICKS if low / 1.01 <= tick <= high * 1.01]
    stored = rows[0]["stored_in"]
    panel = sheet.panel(
        box, f"Texts kept in layer {stored} alone", f"{rows[0]['texts']} texts; bars: 95% interval",
        x={"title": {"text": "layer of the gradient"}, "tickvals": layers[:: max(1, len(layers) // 6)],
           "range": [layers[0] - 0.5, layers[-1] + 0.5]},
        y={"title": {"text": "share over held-out text's (ratio)"}, "type": "log", "range": [np.log10(low) - 0.02, np.log10(high) + 0.02],
           "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]},
    )  # fmt: skip
    panel.null_line([layers[0] - 0.5, layers[-1] + 0.5], [1, 1], "held-out text")
    colour = OTHER_COLOURS[5]
    points = go.Scatter(
        x=layers, y=interval.estimate, mode="lines+markers", line={"color": colour, "width": 1.5},
        marker={"color": colour, "size": 6}, error_y=whiskers(interval, colour), showlegend=False, name="share over held-out text's",
        hovertemplate="layer %{x}: %{y:.3g}<extra></extra>",
    )  # fmt: skip
    panel.add(points, "ratio")
    mark_rough(panel, layers, interval.estimate, interval, upright=True)


def _all(sheet: Sheet, box: Box, rows: list[dict[str, Any]], layers: np.ndarray) -> None:
    """The same for every layer that texts are kept in: a heat map, white where a share is that of held-out text."""
    import plotly.graph_objects as go

    stored = sorted({row["stored_in"] for row in rows})
    ratio = np.array([row["ratio"] for row in rows], float).reshape(len(stored), len(layers))
    shown = np.log2(np.where(ratio > 0, ratio, np.nan))
    most = max(1.0, float(np.nanmax(np.abs(shown))))
    ticks = [tick for tick in TICKS if abs(np.log2(tick)) <= most]
    every = max(1, len(layers) // 6)
    bar = {
        "title": "share over held-out text's (ratio)",
        "tickvals": np.log2(ticks),
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
    colours = sheet.colour_axis(
        {"colorscale": SCORE, "cmin": -most, "cmax": most, "cmid": 0},
        bar,
        Box(box.left, box.bottom + 39, box.width, 7),
    )
    panel = sheet.panel(
        box, "Texts kept in each layer", "white: as held-out text; box: where the text is kept",
        x={"title": {"text": "layer of the gradient"}, "tickvals": layers[::every], "range": [layers[0] - 0.5, layers[-1] + 0.5]},
        y={"title": {"text": KEPT}, "tickvals": stored[::every], "range": [stored[0] - 0.5, stored[-1] + 0.5]}, grid=False,
    )  # fmt: skip
    few = len(layers) <= FEW_LAYERS
    cells = go.Heatmap(
        x=layers, y=stored, z=shown, text=[[f"{value:.2f}" for value in row] for row in ratio],
        texttemplate="%{text}" if few else None, textfont={"size": SMALL}, coloraxis=colours, xgap=1, ygap=1,
        hovertemplate="kept in layer %{y}, gradient of layer %{x}: %{text}<extra></extra>", name="share over held-out text's",
    )  # fmt: skip
    panel.add(cells, "ratio")
    number = panel.number if panel.number > 1 else ""
    for layer in stored:
        place = {"x0": layer - 0.5, "x1": layer + 0.5, "y0": layer - 0.5, "y1": layer + 0.5}
        sheet.figure.add_shape(
            type="rect", line={"color": INK, "width": 1.2}, xref=f"x{number}", yref=f"y{number}", **place
        )


TITLE_WORDS = "Which layer is named for texts kept in a known one"
CAPTION = (
    "Each text is planted in one known layer. Above: the layer that is named against the layer where the text is kept, read from the map "
    "of MLP weight gradients (largest share; largest share over that of held-out text in the same model) and from a localizer's best "
    "units; numbers are texts, blue circles lie on the right layer, red squares beside it. Below: the maps of texts kept in the last layer "
    "alone, and in each layer, over those of held-out text. Bars are 95% intervals by bootstrap over texts."
)
