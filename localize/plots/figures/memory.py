"""Which metrics of memorization agree, and how surely each tells memorized text from other text."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.draws import Draws
from localize.analysis.memory import (
    EVERY,
    SAME_ORDER,
    Metric,
    agreement_rows,
    groups_told,
    measured,
    metrics_of,
    told_apart,
)
from localize.analysis.rows import Row
from localize.errors import public
from localize.measurements import MEASUREMENTS
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.over_training import interval_of
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import INK, SCORE, plain, see_through
from localize.statistics import LEVEL
from localize.statistics.correction import false_discovery

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

LEFT, ROW, MAP, GAP, RIGHT = 172, 16, 292, 20, 8
"""Px left of the panels, of a metric's row, across the map, between the panels, and right of them."""

ACROSS = 700 - LEFT - MAP - GAP - RIGHT


@public("plots.memory")
def memory(
    signature: "MemorizationSignature", a: str | None = None, b: str | None = None, *, seed: int = 0
) -> "go.Figure":
    """Rank correlations of all metrics of memorization, and beside them how surely each tells two groups apart.

    Below the diagonal all paragraphs, whose groups all metrics see; above it those of one group alone, a if there are two groups to
    tell apart, else the first. Crossed out: not told from 0. The AUC has its 95 % interval; dashed: chance. The numbers are those of
    `localize.memory_agreement` and `localize.memory_table`.

    Args:
        signature: Holds `localize.memory`.
        a: The group that should be more memorized; None takes `memorized` against `not_memorized`, or `planted` against
            `never_trained`, where they are there; else no AUC is drawn.
        b: The group that it is held against; given if `a` is.
        seed: Of bootstrap and permutation.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: If the signature lacks the measurement, or a group is not there.
    """
    measured(signature)
    pair, draws, sheet = groups_told(signature, a, b), Draws(seed), Sheet()
    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    metrics = [metric for metric in metrics_of(dataset) if metric.variable not in SAME_ORDER]
    values = np.stack([metric.values for metric in metrics], axis=1)
    complete, inside = ~np.isnan(values).any(1), pair[0] if pair else signature.groups[0]
    chosen = {EVERY: complete, inside: complete & (group == inside)}
    found = {name: agreement_rows(values[rows], clusters[rows], draws) for name, rows in chosen.items()}
    note = f"below: all paragraphs (n = {complete.sum()}); above: {plain(inside)} (n = {chosen[inside].sum()})"
    height = ROW * len(metrics)
    box = Box(LEFT, TITLE + NOTE, MAP, height)
    _agreement(sheet, box, metrics, found[EVERY], found[inside], note)
    if pair is not None:
        rows = [told_apart(metric, group, clusters, pair, draws) for metric in metrics]
        _told(sheet, Box(box.right + GAP, box.top, ACROSS, height), metrics, rows, pair)
    return sheet.finish(box.bottom + 84)


def _rows_axis(metrics: list[Metric], named: bool) -> dict[str, Any]:
    """A row per metric, the first above, with its number and name where these stand."""
    words = [f"{plain(metric.words, 60)}  <b>{at}</b>" for at, metric in enumerate(metrics, 1)]
    title = {} if named else {"title": {"text": ""}}
    ticks = words if named else [""] * len(words)
    return {"tickvals": np.arange(len(words)), "ticktext": ticks, "range": [len(words) - 0.5, -0.5]} | title


def _agreement(sheet: Sheet, box: Box, metrics: list[Metric], below: list[Row], above: list[Row], note: str) -> None:
    """The matrix of rank correlations, its diagonal left out."""
    import plotly.graph_objects as go

    count = len(metrics)
    upper = np.triu_indices(count, 1)
    shown, hidden = np.full((count, count), np.nan), np.zeros((count, count), dtype=bool)
    told: Float[np.ndarray, "row column number"] = np.full((count, count, 3), np.nan)
    for places, rows in ((upper[::-1], below), (upper, above)):
        shown[places] = [row["estimate"] for row in rows]
        told[places] = [[row["low"], row["high"], row["p_value"]] for row in rows]
        hidden[places] = ~(false_discovery(told[places][:, 2]) <= LEVEL)
    numbers = np.arange(count)
    x = {"tickvals": numbers, "ticktext": [str(at + 1) for at in numbers], "range": [-0.5, count - 0.5]}
    x |= {"title": {"text": "metric, by its number"}}
    panel = sheet.panel(box, "Which metrics agree", note, x=x, y=_rows_axis(metrics, named=True), grid=False)
    bar: dict[str, Any] = {"title": "rank correlation over paragraphs", "tickvals": [-1, -0.5, 0, 0.5, 1]}
    place = Box(box.left, box.bottom + 40, box.width, 7)
    axis = sheet.colour_axis({"colorscale": SCORE, "cmin": -1, "cmax": 1, "cmid": 0}, bar, place)
    hover = (
        "%{y} and %{x}: %{z:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}], p = %{customdata[2]:.3g}<extra></extra>"
    )
    heat = go.Heatmap(
        x=numbers, y=numbers, z=shown, customdata=told, hovertemplate=hover, hoverongaps=False, coloraxis=axis, xgap=1,
        ygap=1, name="rank correlation",
    )  # fmt: skip
    panel.add(heat, "values")
    _crosses(panel, hidden & np.isfinite(shown))


def _crosses(panel: Panel, hidden: Bool[np.ndarray, "row column"]) -> None:
    """What is not told from 0."""
    import plotly.graph_objects as go

    at = np.argwhere(hidden)
    if len(at):
        colour = see_through(INK, 0.6)
        marker = {"symbol": "x-thin", "size": 4, "color": colour, "line": {"width": 1, "color": colour}}
        crosses = go.Scatter(
            x=at[:, 1], y=at[:, 0], mode="markers", marker=marker, name=f"crossed out: q > {LEVEL}", hoverinfo="skip",
            showlegend=panel.sheet.first("crosses"),
        )  # fmt: skip
        panel.add(crosses, "x-thin")


def _told(sheet: Sheet, box: Box, metrics: list[Metric], rows: list[Row], pair: tuple[str, str]) -> None:
    """The AUC of each metric, in the rows of the map."""
    import plotly.graph_objects as go

    interval = interval_of(rows)
    lowest = float(np.nanmin(np.append(interval.low, 0.45)))
    x = {"title": {"text": "AUC (share of pairs)"}, "range": [max(-0.02, lowest - 0.03), 1.03], "nticks": 6}
    note = f"{plain(pair[0])} from {plain(pair[1])} (n = {max(row['n'] for row in rows)})"
    panel = sheet.panel(box, "How surely each tells apart", note, x=x, y=_rows_axis(metrics, named=False), grid=False)
    ends = np.array([-0.5, len(metrics) - 0.5])
    panel.null_line(np.full(2, 0.5), ends, "AUC of chance")
    at = np.arange(len(metrics))
    names = [metric.words for metric in metrics]
    points = go.Scatter(
        x=interval.estimate, y=at, mode="markers", marker={"symbol": "circle", "size": 6, "color": INK}, text=names,
        error_x=whiskers(interval, INK), hovertemplate="%{text}: %{x:.3f}<extra></extra>", name="AUC", showlegend=False,
    )  # fmt: skip
    panel.add(points, "mean")
    mark_rough(panel, interval.estimate, at, interval)


KIND = FigureKind(
    "memory",
    needs=(("min_k",),),
    also=tuple(variable.name for variable in MEASUREMENTS["memory"].variables),
    title="Metrics of memorization",
    caption="Left: Spearman's rank correlation over paragraphs of each pair of metrics of memorization, of which a larger value is more "
    "memory: below the diagonal all paragraphs, above it those of one group. Crossed out: not told from 0, which is what paragraphs "
    "permuted over clusters give; empty: a metric that is the same for all. Right: AUC, the share of pairs of a paragraph of either group "
    "in which that of the first has the larger value; dashed: chance, .5. Where groups follow from exact match, exact match tells them "
    "apart by construction. " + BANDS,
    function=memory,
)
