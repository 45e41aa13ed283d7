"""Lines that are not groups of paragraphs: orders of replacement, streams of a layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from localize.plots.groups import Group
from localize.plots.sheet import Panel
from localize.plots.theme import NULL, OTHER_COLOURS, see_through
from localize.statistics import Interval

LOGARITHMIC = 8
"""From so many times the smallest positive value on, an axis is logarithmic."""

SYMBOLS = ("triangle-up", "triangle-down", "star", "hexagon", "cross", "x")


@dataclass(frozen=True)
class Series:
    """One line with its band, drawn alike in every panel of a figure.

    Attributes:
        words: Its name in the legend.
        colour: `#rrggbb`.
        symbol: Its marker.
        null: Whether it shows what nothing would look like: grey and dashed.
    """

    words: str
    colour: str
    symbol: str
    null: bool = False

    @classmethod
    def of(cls, words: str, place: int, *, null: bool = False) -> "Series":
        """The colour of a place among the lines, or grey for a null."""
        if null:
            return cls(words, NULL, "circle-open", null=True)
        return cls(words, OTHER_COLOURS[place % len(OTHER_COLOURS)], SYMBOLS[place % len(SYMBOLS)])

    def draw(self, panel: Panel, x: Real[np.ndarray, " point"], interval: Interval, group: Group) -> None:
        """Mean and 95 % band of one group; the line stands in the legend once."""
        import plotly.graph_objects as go

        what = "null" if self.null else "mean"
        name = f"{self.words}: 95% interval"
        fill = {"fillcolor": see_through(self.colour, 0.18), "legendgroup": self.words}
        panel.band(x, interval.low, interval.high, "interval", group, interval.rough, name=name, **fill)
        line = {"color": self.colour, "width": 1.5} | ({"dash": "dash"} if self.null else {})
        marker = {"symbol": self.symbol, "size": 6, "color": self.colour}
        trace = go.Scatter(
            x=x, y=interval.estimate, mode="lines+markers", line=line, marker=marker, legendgroup=self.words,
            name=f"null: {self.words}" if self.null else self.words, showlegend=panel.sheet.first("series " + self.words),
        )  # fmt: skip
        panel.add(trace, what, group)


def whiskers(interval: Interval, colour: str) -> dict[str, Any]:
    """Error bars from the estimate to the ends of its interval, as plotly takes them."""
    return {
        "type": "data", "symmetric": False, "array": interval.high - interval.estimate,
        "arrayminus": interval.estimate - interval.low, "color": colour, "thickness": 1.2, "width": 2,
    }  # fmt: skip


def stacked(intervals: Sequence[Interval]) -> Interval:
    """Several single estimates as one of arrays."""
    ends = (np.array([float(getattr(i, end)) for i in intervals]) for end in ("estimate", "low", "high"))
    return Interval(*ends, rough=np.array([bool(i.rough) for i in intervals], dtype=bool))


def from_zero(values: Float[np.ndarray, " point"]) -> tuple[Float[np.ndarray, " point"], dict[str, Any]]:
    """Where ascending values stand on an axis, and the axis: logarithmic where they grow eightfold, 0 one step to the left."""
    positive = values[values > 0]
    if len(positive) < 2 or positive[-1] < LOGARITHMIC * positive[0]:
        return values, {"nticks": 6, "rangemode": "tozero"}
    step = (positive[-1] / positive[0]) ** (1 / (len(positive) - 1))
    places = np.where(values > 0, values, positive[0] / step)
    labelled = with_room(places)
    names = {float(place): f"{value:g}" for place, value in zip(places, values, strict=True)}
    return places, {"type": "log", "tickvals": labelled, "ticktext": [names[float(place)] for place in labelled]}


def with_room(places: Float[np.ndarray, " point"]) -> list[float]:
    """Of ascending places on a logarithmic axis those that have room for a label."""
    labelled: list[float] = []
    for place in places.tolist():
        if not labelled or np.log(place / labelled[-1]) > 0.11 * np.log(places[-1] / places[0]):
            labelled.append(place)
    return labelled
