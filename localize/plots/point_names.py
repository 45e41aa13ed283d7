"""Names of points, where they meet nothing at the size of their panel; put anew when that changes."""

from collections.abc import Sequence
from html import unescape
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.plots.spots import free_spots, nearest
from localize.plots.theme import LONGEST_NAME, SMALL

if TYPE_CHECKING:
    from localize.plots.sheet import Box, Panel

FAR = 14
"""Px from which on a line leads from a point to its name."""


def name_points(
    panel: "Panel",
    points: Float[np.ndarray, "point 2"],
    names: Sequence[str],
    colours: Sequence[str],
    obstacles: Sequence[Sequence[Real]],
) -> None:
    """Write a name beside each point, with a line from the point where it is not next to it.

    Args:
        panel: Where.
        points: On its axes.
        names: One each.
        colours: One each.
        obstacles: What no name may cover: left, upper, right and lower end on the axes, and how many px more it takes on each side.
    """
    import plotly.graph_objects as go

    about: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
    for name, colour in zip(names, colours, strict=True):
        line = {"color": colour, "width": 0.7}
        panel.add(go.Scatter(x=[None], y=[None], mode="lines", line=line, name=name, **about), "leaders")
    fonts = {"size": SMALL, "color": list(colours)}
    text = go.Scatter(
        mode="text", text=list(names), textposition="middle center", textfont=fonts, name="names", **about
    )
    panel.add(text, "names")
    text = panel.sheet.figure.data[-1]
    # plain lists, which stay what they are in JSON
    text.meta = {
        **text.meta,
        "points": np.asarray(points).tolist(),
        "obstacles": [list(map(float, o)) for o in obstacles],
    }
    place_names(panel.sheet.figure, panel.number, panel.box)


def place_names(figure: Any, number: int, box: "Box") -> None:
    """Put the names of a panel, if it has any, where they meet nothing at its size."""
    axis = str(number) if number > 1 else ""
    here = [trace for trace in figure.data if (trace.xaxis or "x") == f"x{axis}" and isinstance(trace.meta, dict)]
    names = next((trace for trace in here if "obstacles" in trace.meta), None)
    if names is None:
        return
    ends = np.array([figure.layout[f"{letter}axis{axis}"].range for letter in "xy"], dtype=float)
    scale = np.array([box.width, -box.height]) / (ends[:, 1] - ends[:, 0])
    corner = np.array([ends[0, 0], ends[1, 1]])
    at = (np.array(names.meta["points"]) - corner) * scale
    obstacles = np.array(names.meta["obstacles"])
    reach = obstacles[:, 4:]
    before, after = ((obstacles[:, pair] - corner) * scale for pair in ([0, 1], [2, 3]))
    taken = np.concatenate([before - reach, after + reach], axis=1)
    letters = [min(len(unescape(name)), LONGEST_NAME) for name in names.text]
    spots = free_spots(at, list(taken), letters, (box.width, box.height))
    leaders = [trace for trace in here if trace.meta.get("what") == "leaders"]
    for leader, point, spot, count in zip(leaders, at, spots, letters, strict=True):
        end = nearest(point, spot, count)
        line = np.array([point, end]) / scale + corner if np.hypot(*(end - point)) > FAR else np.full((1, 2), np.nan)
        leader.x, leader.y = line.T
    names.x, names.y = (spots / scale + corner).T
