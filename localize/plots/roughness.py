"""How figures show an interval that is not to be trusted: hatched where it is a band, "~" where it is a bar, and one key for both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Real

from localize.plots.theme import INK, LARGE
from localize.statistics import Interval

if TYPE_CHECKING:
    from localize.plots.groups import Group
    from localize.plots.sheet import Panel, Sheet

ROUGH = "~ or hatched: rough interval (too few or too skewed clusters)"
SIGN = "~"

Outline = tuple[Float[np.ndarray, " corner"], Float[np.ndarray, " corner"]]


def outline(
    x: Real[np.ndarray, " point"],
    low: Float[np.ndarray, " point"],
    high: Float[np.ndarray, " point"],
    drawn: Bool[np.ndarray, " step"],
) -> Outline:
    """The outline of a band over some of the steps between its points: one polygon for every run of steps, nan between two.

    >>> outline(np.arange(4.0), np.zeros(4), np.ones(4), np.array([True, False, True]))[0]
    array([ 0.,  1.,  1.,  0., nan,  2.,  3.,  3.,  2.])
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], drawn, [False]])))
    polygons = []
    for start, stop in edges.reshape(-1, 2):
        run = slice(start, stop + 1)
        corners = [np.concatenate([side[run], other[run][::-1]]).astype(float) for side, other in ((x, x), (low, high))]
        polygons += [np.full((2, 1), np.nan)] * bool(polygons) + [np.stack(corners)]
    across, up = np.concatenate(polygons, axis=1) if polygons else np.zeros((2, 0))
    return across, up


def mark_rough(panel: "Panel", x: Real[np.ndarray, " point"], interval: Interval, group: "Group | None" = None) -> None:
    """A "~" above every estimate whose interval is rough.

    Args:
        panel: Where the estimates are drawn.
        x: Their places.
        interval: The estimates, upwards; of bars that lie, hand in `x` and `y` by `mark_rough_at`.
        group: Whose they are.
    """
    mark_rough_at(panel, x, interval.estimate, interval.rough, group)


def mark_rough_at(
    panel: "Panel",
    x: Real[np.ndarray, " point"] | Sequence[float],
    y: Real[np.ndarray, " point"] | Sequence[float],
    rough: Bool[np.ndarray, " point"] | None,
    group: "Group | None" = None,
) -> None:
    """A "~" above each of these points that is rough; nothing where none is, or nobody judged."""
    import plotly.graph_objects as go

    if rough is None or not rough.any():
        return
    colour = group.colour if group else INK
    signs = go.Scatter(
        x=np.asarray(x)[rough], y=np.asarray(y)[rough], mode="text", text=[SIGN] * int(rough.sum()), textposition="top center",
        textfont={"size": LARGE, "color": colour}, hoverinfo="skip", showlegend=False, name=ROUGH,
    )  # fmt: skip
    panel.add(signs, "rough", group)
    rough_key(panel.sheet)


def rough_key(sheet: "Sheet") -> None:
    """The entry of the legend that tells what hatched bands and "~" are, once."""
    import plotly.graph_objects as go

    if sheet.first(ROUGH):
        meta = {"panel": None, "group": None, "what": "key"}
        key = go.Scatter(x=[None], y=[None], mode="markers", name=ROUGH, legendgroup=ROUGH, meta=meta)
        marker = {"symbol": "line-ew", "size": 8, "line": {"width": 1, "color": INK}}
        sheet.figure.add_trace(key.update(showlegend=True, legendrank=1900, marker=marker))
