"""How much of each paragraph the model says: exact match and NLL, by group and by copies in training."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Real

from localize.errors import public
from localize.measurements import REGISTRY
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.roughness import mark_rough
from localize.plots.series import stacked, whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import INK, variable_words
from localize.signature.schema import range_of
from localize.statistics import Interval, cluster_bootstrap
from localize.statistics.ranges import UNBOUNDED, Range

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

LEFT, PANEL_WIDTH, STEP = 44, 176, 236
HALF_WIDTH, HALF_STEP, HEIGHT, UNDER = 292, 354, 140, 46
BINS = 20
NO_EFFECT, TOGETHER = "mean of all paragraphs", "all paragraphs together"
QUANTITIES = (("exact_match", "Exact match"), ("nll", "NLL"))


@public("plots.recall")
def recall(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """Exact match and NLL: how they are spread in each group; below, against the copies in training where these are known.

    Bars: share of the group's paragraphs; dashed: of all paragraphs together, which every group would look like if groups
    did not matter; points above them: each group's mean with its 95 % interval by bootstrap over clusters. Below: mean of the
    paragraphs that stand equally often in training, with such intervals; dashed: the mean of all, as if copies did nothing.

    Args:
        signature: Any.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.
    """
    require(signature, ("exact_match", "nll"), "localize.recall(model, paragraphs)")
    sheet, dataset, groups = Sheet(), signature.dataset, groups_of(signature)
    boxes = [Box(LEFT + column * HALF_STEP, TITLE + NOTE, HALF_WIDTH, HEIGHT) for column in range(2)]
    for box, (name, title) in zip(boxes, QUANTITIES, strict=True):
        values, words = dataset[name].values, f"{title}, {continuation_words(signature, name)}"
        panel, highest = histogram(sheet, box, groups, values, name, words, together=True)
        group_means(panel, groups, values, highest, seed, range_of(dataset, name))
    if "duplicates" not in dataset.coords:
        return sheet.finish(boxes[0].bottom + UNDER)
    top = boxes[0].bottom + UNDER + TITLE + NOTE
    for box, (name, title) in zip(boxes, QUANTITIES, strict=True):
        _by_duplicates(sheet, Box(box.left, top, HALF_WIDTH, HEIGHT), signature, name, title, seed)
    return sheet.finish(top + HEIGHT + UNDER)


def draw_recall(signature: "MemorizationSignature", sheet: Sheet, top: Px, *, seed: int) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px."""
    require(signature, ("exact_match", "nll"), "localize.recall(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    boxes = [Box(LEFT + column * STEP, top + TITLE + NOTE, PANEL_WIDTH, 96) for column in range(3)]
    for box, (name, title) in zip(boxes, QUANTITIES, strict=False):
        words = f"{title}, {continuation_words(signature, name)}"
        histogram(sheet, box, groups, dataset[name].values, name, words)
    if "duplicates" in dataset.coords:
        _by_duplicates(sheet, boxes[2], signature, *QUANTITIES[0], seed)
    return boxes[0].bottom + 36


def bin_edges(values: Real[np.ndarray, " paragraph"], *, whole: bool) -> Float[np.ndarray, " edge"]:
    """Edges of at most about `BINS` bins of one width; of whole numbers, bins hold equally many of them, from 0 on."""
    low, high = float(values.min()), float(values.max())
    if whole:
        width = max(1.0, np.ceil((high + 1) / BINS))
        return width * np.arange(high // width + 2) - 0.5
    width = max((high - low) / BINS, 1e-9)
    return low + width * np.arange(BINS + 1)


def shares(values: Real[np.ndarray, " paragraph"], edges: Float[np.ndarray, " edge"]) -> Float[np.ndarray, " bin"]:
    """Per cent of the values in each bin, the last one with both of its ends."""
    inside = np.clip(np.searchsorted(edges, values.astype(np.float64), side="right") - 1, 0, len(edges) - 2)
    return 100 * np.bincount(inside, minlength=len(edges) - 1) / len(values)


def histogram(
    sheet: Sheet,
    box: Box,
    groups: list[Group],
    values: Real[np.ndarray, " paragraph"],
    name: str,
    title: str,
    *,
    together: bool = False,
) -> tuple[Panel, float]:
    """A bar per bin and group; gives the panel and the height of the highest bar."""
    import plotly.graph_objects as go

    edges = bin_edges(values, whole=REGISTRY[name].kind == "integer")
    note = "share of each group" + ("; points: means (95%); dashed: all" if together else "")
    x = {"title": {"text": variable_words(name)}, "nticks": 6}
    y: dict[str, Any] = {"title": {"text": "paragraphs (%)"}, "rangemode": "tozero"}
    panel = sheet.panel(box, title, note, x=x, y=y)
    highest = 0.0
    for group in groups:
        share = shares(values[group.rows], edges)
        highest = max(highest, float(share.max()))
        bars = go.Bar(
            x=(edges[1:] + edges[:-1]) / 2, y=share, width=np.diff(edges), name=group.label, opacity=0.65,
            showlegend=sheet.first("group " + group.name), marker={"color": group.colour, "line": {"width": 0}},
            hovertemplate="%{y:.1f}% at %{x:.3g}<extra></extra>",
        )  # fmt: skip
        panel.add(bars, "values", group)
    if together and len(groups) > 1:
        panel.null_line(np.repeat(edges, 2)[1:-1], np.repeat(shares(values, edges), 2), TOGETHER)
    return panel, highest


def group_means(
    panel: Panel,
    groups: list[Group],
    values: Real[np.ndarray, " paragraph"],
    highest: float,
    seed: int,
    possible: Range,
) -> None:
    """The groups' means with their intervals, a row each above the bars."""
    import plotly.graph_objects as go

    for row, group in enumerate(groups):
        interval = group.interval(values, seed, possible)[None]
        marker = {"color": group.colour, "symbol": group.symbol, "size": 6}
        point = go.Scatter(
            x=interval.estimate, y=[highest * (1.07 + 0.08 * row)], mode="markers", marker=marker, showlegend=False,
            name=f"{group.words}: mean", error_x=whiskers(interval, group.colour),
            hovertemplate="mean %{x:.3g}<extra></extra>",
        )  # fmt: skip
        panel.add(point, "mean", group)
        mark_rough(panel, interval.estimate, [highest * (1.07 + 0.08 * row)], interval, group)
    panel.sheet.figure.layout[panel.axis("y")].range = [0, highest * (1.07 + 0.08 * len(groups))]


def known_counts(copies: Real[np.ndarray, " paragraph"]) -> Int[np.ndarray, " copies"]:
    """Each number of copies once, ascending; nan is none."""
    return np.unique(copies[~np.isnan(copies)]).astype(np.int64)


def by_duplicates(
    values: Real[np.ndarray, " paragraph"],
    copies: Real[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
    possible: Range = UNBOUNDED,
) -> tuple[Int[np.ndarray, " copies"], Interval]:
    """Mean of the paragraphs that stand equally often in training, with its interval; those of which it is not known are left out."""
    counts = known_counts(copies)
    parts = [
        cluster_bootstrap(values[copies == c].astype(np.float64), clusters[copies == c], seed=seed) for c in counts
    ]
    return counts, stacked(parts).within(possible)


def _by_duplicates(
    sheet: Sheet, box: Box, signature: "MemorizationSignature", name: str, title: str, seed: int
) -> None:
    import plotly.graph_objects as go

    dataset = signature.dataset
    values = dataset[name].values
    copies = dataset["duplicates"].values
    counts, interval = by_duplicates(values, copies, dataset["cluster"].values, seed, range_of(dataset, name))
    rank = np.arange(len(counts))
    every = max(1, int(np.ceil(len(counts) * 20 / box.width)))
    x = {
        "title": {"text": "copies in training"},
        "tickvals": rank[::every],
        "ticktext": [str(c) for c in counts[::every]],
    }
    x |= {"range": [-0.5, len(counts) - 0.5]}
    y = {"title": {"text": variable_words(name)}, "rangemode": "tozero"}
    unknown = int(np.isnan(copies).sum())
    note = f"{continuation_words(signature, name)}; dashed: mean of all" + f"; {unknown} not known" * (unknown > 0)
    panel = sheet.panel(box, f"{title} by copies", note, x=x, y=y)
    panel.null_line([-0.5, len(counts) - 0.5], [float(values.mean())] * 2, NO_EFFECT)
    points = go.Scatter(
        x=rank, y=interval.estimate, mode="markers", error_y=whiskers(interval, INK),
        marker={"color": INK, "size": 5}, showlegend=False, name="mean",
    )  # fmt: skip
    panel.add(points, "mean")
    mark_rough(panel, rank, interval.estimate, interval, upright=True)


KIND = FigureKind(
    "recall",
    needs=(("exact_match",), ("nll",)),
    title="How much of each paragraph the model says",
    caption="Exact match (tokens) and NLL (nats per token) of the continuation: share of each group's paragraphs, the groups' means and, "
    "dashed, all paragraphs together; below, where they are known, by how often a paragraph stands in the training data, "
    f"with the mean of all dashed. {BANDS}",
    function=recall,
)
