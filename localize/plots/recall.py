"""How much of each paragraph the model says: exact match and NLL by group, exact match by copies in training."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, Real

from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.sheet import NOTE, TITLE, Box, Px, Sheet
from localize.plots.theme import INK, variable_words
from localize.statistics import Interval, cluster_bootstrap

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

LEFT, PANEL_WIDTH, STEP = 44, 176, 236
BINS = 20
NO_EFFECT = "mean of all paragraphs"


def draw_recall(signature: "MemorizationSignature", sheet: Sheet, top: Px, *, seed: int) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px."""
    require(signature, "plots.signature", ("exact_match", "nll"), "localize.recall(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    boxes = [Box(LEFT + column * STEP, top + TITLE + NOTE, PANEL_WIDTH, 96) for column in range(3)]
    for box, name, title in zip(boxes, ("exact_match", "nll"), ("Exact match", "NLL"), strict=False):
        _histogram(sheet, box, groups, dataset[name].values, name, title, continuation_words(signature, name))
    if "duplicates" in dataset.coords:
        exact, copies = dataset["exact_match"].values, dataset["duplicates"].values
        _by_duplicates(
            sheet,
            boxes[2],
            exact,
            copies,
            dataset["cluster"].values,
            continuation_words(signature, "exact_match"),
            seed,
        )
    return boxes[0].bottom + 36


def _histogram(
    sheet: Sheet, box: Box, groups: list[Group], values: Real[np.ndarray, " paragraph"], name: str, title: str, own: str
) -> None:
    import plotly.graph_objects as go

    whole = name == "exact_match"
    low, high = (0.0, float(values.max()) + 1) if whole else (float(values.min()), float(values.max()))
    width = max(1.0, np.ceil((high - low) / BINS)) if whole else max((high - low) / BINS, 1e-9)
    bins = {"start": low - 0.5 * whole, "end": high + width, "size": width}
    x = {"title": {"text": variable_words(name)}, "nticks": 6}
    panel = sheet.panel(
        box,
        f"{title}, {own}",
        "share of each group",
        x=x,
        y={"title": {"text": "paragraphs (%)"}, "rangemode": "tozero"},
    )
    for group in groups:
        shown = sheet.first("group " + group.name)
        bars = go.Histogram(
            x=values[group.rows], xbins=bins, histnorm="percent", name=group.label, opacity=0.65, showlegend=shown,
            marker={"color": group.colour, "line": {"width": 0}},
        )  # fmt: skip
        panel.add(bars, "values", group)


def by_duplicates(
    exact: Real[np.ndarray, " paragraph"],
    copies: Int[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
) -> tuple[Int[np.ndarray, " copies"], Interval]:
    """Mean exact match of the paragraphs that stand equally often in training, with its interval."""
    counts = np.unique(copies)
    parts = [cluster_bootstrap(exact[copies == c].astype(np.float64), clusters[copies == c], seed=seed) for c in counts]
    return counts, Interval(*(np.array([float(getattr(p, end)) for p in parts]) for end in ("estimate", "low", "high")))


def _by_duplicates(
    sheet: Sheet, box: Box, exact: np.ndarray, copies: np.ndarray, clusters: np.ndarray, own: str, seed: int
) -> None:
    import plotly.graph_objects as go

    counts, interval = by_duplicates(exact, copies, clusters, seed)
    rank = np.arange(len(counts))
    every = max(1, int(np.ceil(len(counts) / 9)))
    x = {
        "title": {"text": "copies in training"},
        "tickvals": rank[::every],
        "ticktext": [str(c) for c in counts[::every]],
    }
    x |= {"range": [-0.5, len(counts) - 0.5]}
    y = {"title": {"text": variable_words("exact_match")}, "rangemode": "tozero"}
    panel = sheet.panel(box, "Exact match by copies", f"{own}; dashed: mean of all", x=x, y=y)
    panel.null_line([-0.5, len(counts) - 0.5], [float(exact.mean())] * 2, NO_EFFECT)
    error = {
        "type": "data",
        "symmetric": False,
        "array": interval.high - interval.estimate,
        "thickness": 1.2,
        "width": 3,
    }
    error |= {"arrayminus": interval.estimate - interval.low, "color": INK}
    points = go.Scatter(
        x=rank, y=interval.estimate, mode="markers", error_y=error, marker={"color": INK, "size": 5}, showlegend=False
    )
    panel.add(points, "mean")
