"""A figure put together from panels whose places are given in pixels, so that text fits at the printed size."""

from dataclasses import asdict, dataclass, field, replace
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Real

from localize.plots.groups import Group
from localize.plots.lettering import line_count, width_of
from localize.plots.roughness import outline, rough_key
from localize.plots.theme import GRID, LARGE, NULL, SMALL, WIDTH, Px, see_through, template
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

TITLE, NOTE, LEGEND_ROW = 15, 13, 19
"""Heights in px of a panel's title, of the note under it and of a row of the legend."""

LEGEND_SYMBOL = 45
"""Px that an entry of the legend is wider than its words."""

USUAL_RANK = 1000
"""Plotly's `legendrank` where none is given."""


@dataclass(frozen=True)
class Box:
    """A place on the sheet in px, from its top left corner."""

    left: Px
    top: Px
    width: Px
    height: Px

    @property
    def bottom(self) -> Px:
        """Distance of the lower edge from the sheet's top."""
        return self.top + self.height

    @property
    def right(self) -> Px:
        """Distance of the right edge from the sheet's left."""
        return self.left + self.width


@dataclass(frozen=True, eq=False)
class Panel:
    """A pair of axes on a sheet."""

    sheet: "Sheet"
    box: Box
    number: int
    title: str

    def axis(self, letter: str) -> str:
        """The name of its "x" or "y" axis in the figure's layout."""
        return f"{letter}axis{self.number if self.number > 1 else ''}"

    def add(self, trace: Any, what: str, group: Group | None = None) -> None:
        """Draw a trace; `meta` tells its panel, group and role, so that it can be found again."""
        axis = "" if self.number == 1 else str(self.number)
        meta = {"panel": self.title, "group": group.words if group else None, "what": what}
        trace.update(xaxis="x" + axis, yaxis="y" + axis, meta=meta)
        if group is not None and trace.legendgroup is None:
            trace.update(legendgroup=group.words)
        self.sheet.figure.add_trace(trace)

    def band(
        self,
        x: Real[np.ndarray, " point"],
        low: Any,
        high: Any,
        what: str,
        group: Group | None = None,
        rough: Bool[np.ndarray, " point"] | None = None,
        **style: Any,
    ) -> None:
        """A filled band between two curves, hatched beside a point that is rough; points without an interval are left out."""
        import plotly.graph_objects as go

        there = np.isfinite(low) & np.isfinite(high)
        x, low, high = x[there], low[there], high[there]
        rough = np.zeros(len(x), dtype=bool) if rough is None else rough[there]
        hatched = rough[:-1] | rough[1:]
        fill = see_through(group.colour, 0.2) if group else see_through(NULL, 0.22)
        defaults = {
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": fill,
            "hoverinfo": "skip",
            "showlegend": False,
        }
        style = {**defaults, **style}
        if not hatched.all() or not len(hatched):
            across, up = outline(x, low, high, ~hatched)
            self.add(go.Scatter(x=across, y=up, **style), what, group)
        if hatched.any():
            across, up = outline(x, low, high, hatched)
            lines = {
                "shape": "/",
                "size": 5,
                "solidity": 0.3,
                "fgcolor": style["fillcolor"],
                "bgcolor": "rgba(0,0,0,0)",
            }
            self.add(go.Scatter(x=across, y=up, fillpattern=lines, **style), what, group)
            rough_key(self.sheet)

    def curve(self, x: Real[np.ndarray, " point"], interval: Interval, group: Group, *, markers: bool = False) -> None:
        """A group's mean with its 95 % band."""
        import plotly.graph_objects as go

        name = f"{group.words}: 95% interval"
        self.band(x, interval.low, interval.high, "interval", group, interval.rough, name=name)
        mode = "lines+markers" if markers else "lines"
        style = {"line": {"color": group.colour, "width": 1.5}, "marker": {"symbol": group.symbol, "size": 6}}
        shown = self.sheet.first("group " + group.name)
        self.add(
            go.Scatter(x=x, y=interval.estimate, mode=mode, name=group.label, showlegend=shown, **style), "mean", group
        )

    def null_line(self, x: Any, y: Any, name: str, group: Group | None = None) -> None:
        """A dashed line that shows what nothing would look like; of a group, in its colour."""
        import plotly.graph_objects as go

        line = {"color": group.colour if group else NULL, "width": 1, "dash": "dash"}
        self.add(
            go.Scatter(x=x, y=y, mode="lines", line=line, name=name, showlegend=False, hoverinfo="name"), "null", group
        )
        self.sheet.null_key(name, {"mode": "lines", "line": {"color": NULL, "width": 1, "dash": "dash"}})


@dataclass(eq=False)
class Sheet:
    """A figure under construction.

    Attributes:
        nulls_in_legend: Whether each kind of null has an entry of its own in the legend.
    """

    nulls_in_legend: bool = True
    figure: Any = field(init=False)
    panels: list[Panel] = field(init=False, default_factory=list)
    _shown: set[str] = field(init=False, default_factory=set)
    _bars: list[tuple[str, Box]] = field(init=False, default_factory=list)
    _texts: list[tuple[dict[str, Any], str, int]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        import plotly.graph_objects as go

        self.figure = go.Figure(layout={"template": template()})

    def first(self, key: str) -> bool:
        """Whether the key was never asked for: what stands in the legend stands there once."""
        new = key not in self._shown
        self._shown.add(key)
        return new

    def null_key(self, name: str, style: dict[str, Any]) -> None:
        """An entry of the legend for a null, with no data."""
        import plotly.graph_objects as go

        if self.nulls_in_legend and self.first("null " + name):
            meta = {"panel": None, "group": None, "what": "key"}
            self.figure.add_trace(
                go.Scatter(
                    x=[None],
                    y=[None],
                    name="null: " + name,
                    showlegend=True,
                    legendrank=2000,
                    legendgroup="null " + name,
                    meta=meta,
                    **style,  # with a group its entry is as wide as its words
                )
            )

    def panel(
        self, box: Box, title: str, note: str = "", *, x: dict[str, Any], y: dict[str, Any], grid: bool = True
    ) -> Panel:
        """A pair of axes with a lettered title, and a small grey note between title and axes."""
        panel = Panel(self, box, len(self.panels) + 1, title)
        self.panels.append(panel)
        number = "" if panel.number == 1 else str(panel.number)
        rule = {"showgrid": grid, "gridcolor": GRID}
        self.figure.update_layout({
            f"xaxis{number}": {"anchor": f"y{number}", **x},
            f"yaxis{number}": {"anchor": f"x{number}", **rule, **y},
        })  # fmt: skip
        letter = ascii_lowercase[(panel.number - 1) % 26] * ((panel.number - 1) // 26 + 1)
        above = box.top - 3 - NOTE * bool(note)
        self._write(f"<b>({letter})</b> {title}", box.left, above, LARGE, None, "title")
        if note:
            self._write(note, box.left, box.top - 3, SMALL, NULL, "note")
        return panel

    def text(self, words: str, left: Px, bottom: Px, *, size: Px = SMALL, colour: str | None = None) -> None:
        """Words whose lower left corner is at a place in px; in one column they stand after the panels drawn before them."""
        self._write(words, left, bottom, size, colour, "text")

    def _write(self, words: str, left: Px, bottom: Px, size: Px, colour: str | None, role: str) -> None:
        font = {"size": size} | ({"color": colour} if colour else {})
        self._texts.append(({"text": words, "x": left, "y": bottom, "font": font}, role, len(self.panels)))

    def colour_axis(self, colours: dict[str, Any], bar: dict[str, Any], box: Box) -> str:
        """A colour scale shared by heat maps, its bar lying in `box`; gives its name."""
        name = "coloraxis" + (str(len(self._bars) + 1) if self._bars else "")
        lying = {
            "orientation": "h", "len": box.width, "lenmode": "pixels", "thickness": box.height,
            "thicknessmode": "pixels", "xanchor": "left", "yanchor": "top", "xpad": 0, "ypad": 0, "outlinewidth": 0,
            "ticks": "outside", "ticklen": 2, "tickfont": {"size": SMALL},
        }  # fmt: skip
        title = {"text": bar.pop("title"), "side": "bottom", "font": {"size": SMALL}}
        self.figure.update_layout({name: {**colours, "colorbar": {**lying, **bar, "title": title}}})
        self._bars.append((name, box))
        return name

    def finish(self, bottom: Px) -> "go.Figure":
        """Put the legend above everything and turn pixels into the shares of width and height that plotly places by."""
        if len(self.panels) == 1:  # nothing to be told apart
            for text, role, _ in self._texts:
                text["text"] = text["text"].removeprefix("<b>(a)</b> ") if role == "title" else text["text"]
        above = legend_height(self.figure, WIDTH)
        size = WIDTH, above + bottom
        boxes = [replace(panel.box, top=panel.box.top + above) for panel in self.panels]
        bars = [(name, replace(box, top=box.top + above)) for name, box in self._bars]
        texts = [{**text, "y": text["y"] + above} for text, _, _ in self._texts]
        place(self.figure, size, boxes, bars, texts)
        self.figure.layout.meta = {"sheet": self._known(above)}
        return self.figure

    def _known(self, above: Px) -> dict[str, Any]:
        """What `plots.column` must know of the figure to lay it out anew; plain values, which survive JSON."""
        layout = self.figure.layout
        return {
            "width": WIDTH, "above": above,
            "panels": [asdict(panel.box) for panel in self.panels],
            # An axis whose title is told to be empty has the labels of the panel on its left.
            "beside": [layout[panel.axis("y")].title.text == "" for panel in self.panels],
            "bars": [{"name": name, **asdict(box)} for name, box in self._bars],
            "texts": [{"role": role, "panel": number} for _, role, number in self._texts],
        }  # fmt: skip


def place(
    figure: Any,
    size: tuple[Px, Px],
    boxes: list[Box],
    bars: list[tuple[str, Box]],
    texts: list[dict[str, Any]],
) -> None:
    """Give panels, colour bars and texts their places in px on a figure of a width and a height, the legend its corner."""
    width, height = size
    for number, box in enumerate(boxes, start=1):
        last = str(number) if number > 1 else ""
        figure.layout["xaxis" + last].domain = [box.left / width, box.right / width]
        figure.layout["yaxis" + last].domain = [max(1 - box.bottom / height, 0.0), 1 - box.top / height]
    for name, box in bars:
        figure.layout[name].colorbar.update(x=box.left / width, y=1 - box.top / height, len=box.width)
    paper = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    paper |= {"borderpad": 0, "align": "left"}
    placed = [{**text, **paper, "x": text["x"] / width, "y": 1 - text["y"] / height} for text in texts]
    legend = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "top"}
    figure.update_layout(width=width, height=height, legend=legend)
    figure.layout.annotations = placed


def legend_height(figure: Any, width: Px) -> Px:
    """Px that plotly needs for the legend's entries, put one after the other by their rank, and a margin below them."""
    ranked = sorted(figure.data, key=lambda trace: trace.legendrank or USUAL_RANK)
    labels = [str(trace.name) for trace in ranked if trace.showlegend]
    rows: list[Px] = []
    left = 0.0
    for label in labels:
        wide = width_of(label, SMALL) + LEGEND_SYMBOL
        if not rows or left + wide > width:
            rows, left = [*rows, 0], 0.0
        rows[-1] = max(rows[-1], LEGEND_ROW + NOTE * (line_count(label) - 1))
        left += wide
    return 10.0 + sum(rows)
