"""In which layers a text's best units lie, and how their scores fall: beside a model with random weights."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.stored_units import UNITS, best, twin_votes, votes
from localize.errors import LocalizeError, caller, public
from localize.plots.figures.locality import draw_curve
from localize.plots.groups import Group, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import axis_words
from localize.statistics import cluster_bootstrap
from localize.statistics.ranges import PERCENT

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

RANKS = 64
"""Of the best units, whose scores are drawn."""

TWIN = "best units of random weights"
EVEN = "all layers alike"
LEFT, PANEL_WIDTH, STEP = 44, 176, 236


@public("plots.stored_units")
def stored_units(signature: "MemorizationSignature", units: int = UNITS, *, seed: int = 0) -> "go.Figure":
    """The share of each paragraph's best MLP units that lies in each layer, and the scores of the best ones, by rank.

    Scores are over the size of a unit's usual effect on other texts. Each paragraph's best units have a vote for their layer; nulls
    are the best units of a model with random weights (grey, dashed) and even votes. Beside it the scores over the paragraph's best
    one: their level falls with the text's own loss, so that only how they fall compares. 95 % bands by bootstrap over clusters.

    Args:
        signature: Holds `localize.stored_units`.
        units: How many of each paragraph's best units have a vote.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the scores, or `units` is out of range.
    """
    sheet = Sheet()
    return sheet.finish(draw_stored_units(signature, sheet, 0, units=units, seed=seed))


def draw_stored_units(
    signature: "MemorizationSignature", sheet: Sheet, top: Px, *, units: int, seed: int, compact: bool = False
) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px. Compact, the first group's locality stands beside it."""
    require(signature, ("unit_score",), "localize.stored_units(model, paragraphs)")
    dataset, groups, height = signature.dataset, groups_of(signature), 110 if compact else 170
    if not 1 <= units <= RANKS:
        raise LocalizeError(f"{caller()}: units={units!r} must lie in 1..{RANKS}.")
    units = min(units, dataset.sizes["layer"] * dataset.sizes["unit"])
    wide = PANEL_WIDTH if compact else 268
    step = STEP if compact else 350
    boxes = [Box(LEFT + column * step, top + TITLE + NOTE, wide, height) for column in range(3)]
    _by_layer(sheet, boxes[0], signature, groups, units, seed)
    _by_rank(sheet, boxes[1], dataset, groups, seed)
    if compact and "located_rise" in signature:
        draw_curve(sheet, boxes[2], signature, seed)
    return boxes[0].bottom + 44


def _by_layer(
    sheet: Sheet, box: Box, signature: "MemorizationSignature", groups: list[Group], units: int, seed: int
) -> None:
    """Votes of the best units."""
    dataset = signature.dataset
    layers, own, twin = dataset["layer"].values, 100 * votes(dataset, units), twin_votes(dataset, units)
    panel = sheet.panel(
        box, f"Layers of the best {units} units", "dashed: random weights; dotted: even",
        x={"title": {"text": axis_words("layer")}, "tickvals": layers[:: max(1, len(layers) // 6)]},
        y={"title": {"text": "share of the best units (%)"}, "rangemode": "tozero"},
    )  # fmt: skip
    _even(panel, layers, 100 / len(layers))
    if twin is not None:
        _null(panel, layers, 100 * twin, dataset, seed)
    for group in groups:
        panel.curve(layers, group.interval(own, seed, PERCENT), group, markers=True)


def _by_rank(sheet: Sheet, box: Box, dataset: "xr.Dataset", groups: list[Group], seed: int) -> None:
    """How scores fall from the best unit on."""
    count = min(RANKS, dataset.sizes["layer"] * dataset.sizes["unit"])
    ranks = np.arange(1, count + 1)
    panel = sheet.panel(
        box, "Scores of the best units", "over the paragraph's best score",
        x={"title": {"text": "rank of the unit"}, "type": "log", "tickvals": [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= count]},
        y={"title": {"text": "score, of the best (%)"}, "range": [0, 103]},
    )  # fmt: skip
    if "unit_score_untrained" in dataset:
        twin = dataset["unit_score_untrained"].transpose("paragraph", "unit_rank").values.astype(float)[:, :count]
        _null(panel, ranks, over_best(twin), dataset, seed)
    for group in groups:
        panel.curve(ranks, group.interval(over_best(best(dataset, count)[0]), seed), group)


def over_best(scores: Float[np.ndarray, "paragraph rank"]) -> Float[np.ndarray, "paragraph rank"]:
    """Scores in per cent of the paragraph's best; nan where that is not above 0."""
    top = scores[:, :1]
    return 100 * np.divide(scores, top, out=np.full(scores.shape, np.nan), where=top > 0)


def _null(panel: Panel, x: np.ndarray, twin: np.ndarray, dataset: "xr.Dataset", seed: int) -> None:
    """The untrained twin, mean over all paragraphs, with its band."""
    import plotly.graph_objects as go

    clusters, line = dataset["cluster"].values, Series.of(TWIN, 0, null=True)
    interval = cluster_bootstrap(twin, clusters, seed=seed)
    panel.band(x, interval.low, interval.high, "null", rough=interval.rough, name=f"{TWIN}: 95% interval")
    style = {"color": line.colour, "width": 1, "dash": "dash"}
    panel.add(go.Scatter(x=x, y=interval.estimate, mode="lines", line=style, name=TWIN, showlegend=False), "null")
    panel.sheet.null_key(TWIN, {"mode": "lines", "line": style})


def _even(panel: Panel, layers: np.ndarray, share: float) -> None:
    """A landmark, no test."""
    import plotly.graph_objects as go

    style = {"color": "#777777", "width": 1, "dash": "dot"}
    y = np.full(len(layers), share)
    shown = panel.sheet.nulls_in_legend and panel.sheet.first(EVEN)
    line = go.Scatter(
        x=layers,
        y=y,
        mode="lines",
        line=style,
        name=EVEN,
        legendgroup=EVEN,
        showlegend=shown,
        legendrank=1950,
        hoverinfo="name",
    )
    panel.add(line, "even")


KIND = FigureKind(
    "stored_units",
    needs=(("unit_score",),),
    title="Stored units: layers of the units that score best for each text",
    caption="Each paragraph's MLP units are scored by the estimated rise of its NLL without them, over the usual size of that on other "
    "texts. Share of the best units in each layer, and how "
    "scores fall by rank, in groups that are not matched in loss. Grey dashed: a model of the same shape with random weights; dotted: "
    f"all layers alike. {BANDS}",
    function=stored_units,
)
