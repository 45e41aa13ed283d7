"""The plotly.js that a page holds: the part of it that draws these figures, or all of it."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

CARTESIAN = {
    "bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour", "image", "pie", "scatter",
    "scatterternary", "violin",
}  # fmt: skip
"""Kinds of trace that the smaller bundle draws."""


def bundle_for(figures: "Iterable[go.Figure]") -> str:
    """The script that draws these figures.

    Plotly's cartesian bundle lies beside this file, as the npm package plotly.js-cartesian-dist-min 4.1.1 holds it (MIT): a
    third of the whole, which takes most of a page's opening. Figures of any other kind get the whole, from plotly's own package.
    """
    traces: Any = [trace for figure in figures for trace in figure.data]
    if all(trace.type in CARTESIAN for trace in traces):
        return _cartesian()
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@cache
def _cartesian() -> str:
    return files("localize.report").joinpath("plotly", "plotly-cartesian.min.js").read_text(encoding="utf-8")
