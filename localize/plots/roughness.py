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

ROUGH = "~ or hatched: rough interval (clusters or seeds too few, or too skewed)"
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


def mark_rough(
    panel: "Panel",
    x: Real[np.ndarray, " point"] | Sequence[float],
    y: Real[np.ndarray, " point"] | Sequence[float],
    interval: Interval,
    group: "Group | None" = None,
    *,
    upright: bool = False,
) -> None:
    """A "~" at every estimate whose interval is rough; nothing where there is no interval, or nobody judged it.

    Args:
        panel: Where the estimates are drawn.
        x: Where they stand.
        y: Where they stand.
        interval: What is drawn there.
        group: Whose it is.
        upright: Whether the bars stand, so that the sign is put beside them and not above.
    """
    import plotly.graph_objects as go

    if interval.rough is None or not (rough := interval.rough & np.isfinite(interval.low)).any():
        return
    font = {"size": LARGE, "color": group.colour if group else INK}
    signs = go.Scatter(
        x=np.asarray(x)[rough], y=np.asarray(y)[rough], mode="text", text=[SIGN] * int(rough.sum()), textfont=font,
        textposition="middle right" if upright else "top center", hoverinfo="skip", showlegend=False, name=ROUGH,
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
