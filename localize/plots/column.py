"""A figure laid out anew for one column of a paper: its panels below each other, its text as large as before."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError, caller, public
from localize.plots.lettering import line_count, width_of, wrapped
from localize.plots.point_names import place_names
from localize.plots.sheet import LEGEND_SYMBOL, NOTE, TITLE, Box, Px, legend_height, place
from localize.plots.theme import LARGE, MEDIUM, SMALL, WIDTH
from localize.plots.ticks import Ticks, every, thinned

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMN = 350
"""Px across one column of a paper: 3.5 in at 100 px per inch."""

RIGHT, APART, LOWER = 8, 12, 0.9
"""Px right of the panels and between two lines of them; and how much lower panels become."""

NARROWEST, LINES_OF_TITLE = 100, 2
"""Panels stand side by side if each is so wide in px, and its title takes so many lines."""

TICK_LENGTH = 9
"""Px that labels stand off an axis, and off the edge."""

TICK, UNDER_TICKS = 17, 5
"""Px below an axis for one line of its labels, and between these and its title."""


@public("plots.column")
def column(figure: "go.Figure") -> "go.Figure":
    """The same figure for one column of a paper: 350 px for 3.5 in, its text of the same size in print.

    Panels stand below each other in the order of their letters, side by side only where they share an axis and there is room.
    Titles, legend and notes are broken into lines, labels that would meet are left out. What is drawn is the same.

    Args:
        figure: From a function of `localize.plots`, also after JSON; what was changed in it since is kept where it has a place.

    Returns:
        A new figure; the one given stays as it is.

    Raises:
        LocalizeError: If the figure does not tell of its panels, as those of `localize.plots` do.
    """
    import plotly.graph_objects as go

    known = _known(figure)
    narrow: Any = go.Figure(figure)
    if known["width"] == COLUMN:
        return narrow
    for trace in narrow.data:
        if trace.showlegend and trace.name:
            trace.name = wrapped(trace.name, COLUMN - LEGEND_SYMBOL - 4, SMALL)
    above = legend_height(narrow, COLUMN)
    flow = Flow(narrow, known, above)
    flow.lay()
    others = [note.to_plotly_json() for note in narrow.layout.annotations[len(known["texts"]) :]]
    place(narrow, (COLUMN, flow.bottom), flow.boxes, flow.bars, flow.texts)
    for number, box in enumerate(flow.boxes, start=1):
        place_names(narrow, number, box)
    narrow.layout.annotations = [*narrow.layout.annotations, *others]
    boxes = [{"left": b.left, "top": b.top - above, "width": b.width, "height": b.height} for b in flow.boxes]
    narrow.layout.meta = {**narrow.layout.meta, "sheet": {**known, "width": COLUMN, "above": above, "panels": boxes}}
    return narrow


def _known(figure: Any) -> dict[str, Any]:
    """What the sheet wrote down.

    Raises:
        LocalizeError: If there is nothing, or annotations were taken away.
    """
    meta = figure.layout.meta
    known = meta.get("sheet") if isinstance(meta, dict) else None
    if not known:
        raise LocalizeError(f"{caller()}: the figure has no layout.meta['sheet']; give one that localize.plots drew.")
    if len(figure.layout.annotations) < len(known["texts"]):
        raise LocalizeError(
            f"{caller()}: {len(figure.layout.annotations)} of the figure's {len(known['texts'])} annotations are left; "
            "change their text, but take none away."
        )
    return known


@dataclass
class PanelLine:
    """Panels that stand side by side in the column.

    Attributes:
        panels: Their numbers, from 1.
        left: Px left of the first.
        width: Px of each.
        gap: Px between two.
    """

    panels: list[int]
    left: Px
    width: Px
    gap: Px


class Flow:
    """Panels, titles, texts and colour bars put below each other, from the legend down."""

    def __init__(self, figure: Any, known: dict[str, Any], top: Px) -> None:
        self.figure, self.known, self.bottom = figure, known, top
        self.before = [Box(**box) for box in known["panels"]]
        self.boxes: list[Box] = list(self.before)
        self.bars: list[tuple[str, Box]] = []
        self.texts: list[dict[str, Any]] = [
            {"text": note.text, "font": note.font.to_plotly_json(), "x": 0.0, "y": 0.0}
            for note in figure.layout.annotations[: len(known["texts"])]
        ]

    def lay(self) -> None:
        """Give everything its place."""
        self._words(0)
        lines = list(self._broken())
        for line, following in zip(lines, [*lines[1:], None], strict=True):
            self._titles(line)
            self._boxes(line)
            self._axes(line, following)
            for number in line.panels:
                self._words(number, line.left)
            for number in line.panels:
                self._bars_after(number)

    def axis(self, letter: str, number: int) -> Any:
        """An axis of a panel, to be changed."""
        return self.figure.layout[f"{letter}axis{number if number > 1 else ''}"]

    def _units(self) -> Iterator[list[int]]:
        """Panels with those on their right that have no labels of their own."""
        unit: list[int] = []
        for number, beside in enumerate(self.known["beside"], start=1):
            if unit and not beside:
                yield unit
                unit = []
            unit.append(number)
        if unit:
            yield unit

    def _broken(self) -> Iterator[PanelLine]:
        """The lines, as many panels in each as there is room for."""
        for unit in self._units():
            left = self._left(unit[0])
            for count in range(len(unit), 0, -1):
                gap = max(10, min(30, self._gap(unit)))
                wide = (COLUMN - left - RIGHT - (count - 1) * gap) / count
                fits = (self._fits(number, wide, gap, last=number == unit[-1]) for number in unit)
                if count == 1 or (wide >= NARROWEST and all(fits)):
                    break
            for start in range(0, len(unit), count):
                panels = unit[start : start + count]
                if start:
                    self._take_labels(panels[0], unit[0])
                yield PanelLine(panels, left, wide, gap)

    def _left(self, number: int) -> Px:
        """Px that a panel's labels need on its left: as many as they had, counted from the panel before it."""
        box = self.before[number - 1]
        row = [other for other in self.before if other.top < box.bottom and other.bottom > box.top]
        gap = box.left - max((other.right for other in row if other.right <= box.left), default=0)
        axis = self.axis("y", number)
        ticks = Ticks.of(axis)
        longest = max((width_of(text, SMALL) for text in ticks.texts), default=0.0) if ticks.shown else 0.0
        return max(
            min(gap, *(other.left for other in row), box.left), longest + TICK_LENGTH + TITLE * bool(axis.title.text)
        )

    def _gap(self, unit: list[int]) -> Px:
        """Px between two panels of a unit."""
        gaps = [self.before[b - 1].left - self.before[a - 1].right for a, b in pairwise(unit)]
        return min([gap for gap in gaps if gap >= 0], default=APART)

    def _fits(self, number: int, width: Px, gap: Px, *, last: bool) -> bool:
        """Whether a panel can be so narrow: its title takes few lines, no label with a name is lost, no text comes between."""
        texts = [(at, text["role"]) for at, text in enumerate(self.known["texts"]) if text["panel"] == number]
        titles = [self.texts[at]["text"] for at, role in texts if role == "title"]
        lines = max((line_count(wrapped(title, width + gap - 4, LARGE)) for title in titles), default=1)
        named = Ticks.of(self.axis("x", number)).named
        return (
            lines <= LINES_OF_TITLE
            and (last or not any(role == "text" for _, role in texts))
            and (not named or every(self.axis("x", number), width, across=True) == 1)
        )

    def _take_labels(self, number: int, leader: int) -> None:
        """Label the y axis of a panel as its leader's is."""
        mine, its = self.axis("y", number), self.axis("y", leader)
        mine.update(title=its.title, showticklabels=True)
        if its.tickvals is not None:
            mine.update(tickvals=its.tickvals, ticktext=its.ticktext)

    def _words(self, panel: int, left: Px = 0) -> None:
        """The free texts that follow a panel, or at 0 those above all."""
        there = [at for at, t in enumerate(self.known["texts"]) if t["role"] == "text" and t["panel"] == panel]
        for at in there:
            text = self.texts[at]
            size = text["font"].get("size", SMALL)
            start = left if panel and self._under(at, panel) else 0
            text["text"] = wrapped(text["text"], COLUMN - start - 4, size)
            high = size + 3
            self.bottom += high * line_count(text["text"]) + (4 if size > SMALL else 0)
            text |= {"x": start, "y": self.bottom}
        self.bottom += APART / 2 if there else 0

    def _under(self, at: int, panel: int) -> bool:
        """Whether a text stood under its panel, not at the left edge or over what comes next."""
        note = self.figure.layout.annotations[at]
        return abs(note.x * WIDTH - self.before[panel - 1].left) < 1

    def _titles(self, line: PanelLine) -> None:
        """Titles of a line's panels, and below them the notes, each broken to its panel's width."""
        highest = {"title": 0.0, "note": 0.0}
        chosen = []
        for place_, number in enumerate(line.panels):
            start = 0.0 if place_ == 0 else line.left + place_ * (line.width + line.gap)
            end = COLUMN if number == line.panels[-1] else line.left + (place_ + 1) * (line.width + line.gap) - 4
            for at, told in enumerate(self.known["texts"]):
                if told["panel"] == number and told["role"] in highest:
                    text, size = self.texts[at], LARGE if told["role"] == "title" else SMALL
                    text["text"] = wrapped(text["text"], end - start, size)
                    high = (TITLE if told["role"] == "title" else NOTE) * line_count(text["text"])
                    highest[told["role"]] = max(highest[told["role"]], high)
                    text["x"] = start
                    chosen.append((text, told["role"]))
        for text, role in chosen:
            text["y"] = self.bottom + highest["title"] + (highest["note"] if role == "note" else 0)
        self.bottom += sum(highest.values()) + 3

    def _boxes(self, line: PanelLine) -> None:
        """The panels' places; all of a line are as high as its highest."""
        highest = max(self._height(number) for number in line.panels)
        for place_, number in enumerate(line.panels):
            left = line.left + place_ * (line.width + line.gap)
            self.boxes[number - 1] = Box(left, self.bottom, line.width, highest)
        self.bottom += highest

    def _height(self, number: int) -> Px:
        """A little lower than before, unless labels or the axis' title need the room."""
        axis, before = self.axis("y", number), self.before[number - 1].height
        labels = Ticks.of(axis)
        title = width_of(axis.title.text or "", MEDIUM) + 4
        return max(LOWER * before, min(before, 11.5 * labels.lines), min(title, 1.5 * before), 60)

    def _axes(self, line: PanelLine, following: PanelLine | None) -> None:
        """Labels that have room, titles broken to the width there is, and the room that they take below."""
        deepest = 0.0
        for number in line.panels:
            before, box = self.before[number - 1], self.boxes[number - 1]
            x, y = self.axis("x", number), self.axis("y", number)
            self._label_x(number, following)
            for axis, old, new in ((x, before.width, box.width), (y, before.height, box.height)):
                thinned(axis, old, new, across=axis is x)
            depth = Ticks.of(x).depth(TICK)
            if x.title.text:
                middle = box.left + box.width / 2
                room = min(middle, COLUMN - middle) if len(line.panels) == 1 else (box.width + line.gap) / 2
                x.title.text = wrapped(x.title.text, 2 * room - 4, MEDIUM)
                depth += UNDER_TICKS + (MEDIUM + 3) * line_count(x.title.text)
            deepest = max(deepest, depth)
        told = any(t["role"] == "text" and t["panel"] == line.panels[-1] for t in self.known["texts"])
        self.bottom += deepest + (4 if told else APART)

    def _label_x(self, number: int, following: PanelLine | None) -> None:
        """Give a panel without labels along x those of the panel further down that has them, unless that is next."""
        x = self.axis("x", number)
        if Ticks.of(x).shown or x.title.text:
            return
        own = self.before[number - 1]
        below = [
            other
            for other in range(number + 1, len(self.before) + 1)
            if self.before[other - 1].left == own.left and self.before[other - 1].width == own.width
        ]
        donor = next((other for other in below if Ticks.of(self.axis("x", other)).shown), None)
        next_panels = following.panels if following else []
        if donor is None or (set(below[:1]) & set(next_panels) and not self._ends_bar(number)):
            return
        its = self.axis("x", donor)
        x.update(title=its.title, showticklabels=True)
        if its.tickvals is not None:
            x.update(tickvals=its.tickvals, ticktext=its.ticktext)

    def _ends_bar(self, number: int) -> bool:
        """Whether a colour bar stands below this panel."""
        return any(self._last_of(bar["name"]) == number for bar in self.known["bars"])

    def _last_of(self, name: str) -> int:
        """The last panel with this colour scale."""
        numbers = [0]
        for trace in self.figure.data:
            marker = getattr(trace, "marker", None) if trace.type == "scatter" else None
            if name in (getattr(trace, "coloraxis", None), marker.coloraxis if marker is not None else None):
                numbers.append(int((trace.xaxis or "x")[1:] or 1))
        return max(numbers)

    def _bars_after(self, number: int) -> None:
        """The colour bars whose last panel this is."""
        for bar in self.known["bars"]:
            if self._last_of(bar["name"]) != number:
                continue
            own = self.figure.layout[bar["name"]].colorbar
            left = min(self.boxes[number - 1].left, self._line_left(number))
            width = min(bar["width"], COLUMN - left - RIGHT)
            if own.nticks:
                own.nticks = max(3, int(own.nticks * width / bar["width"]))
            thinned(own, bar["width"], width, across=True, ends=self._ends(bar["name"]))
            # plotly starts the title where the bar starts
            own.title.text = wrapped(own.title.text, COLUMN - left - 2, SMALL)
            self.bars.append((bar["name"], Box(left, self.bottom, width, bar["height"])))
            self.bottom += bar["height"] + TICK + 4 + NOTE * line_count(own.title.text) + APART

    def _line_left(self, number: int) -> Px:
        top = self.boxes[number - 1].top
        return min(box.left for box in self.boxes if box.top == top)

    def _ends(self, name: str) -> tuple[float, float]:
        axis = self.figure.layout[name]
        return float(axis.cmin), float(axis.cmax)


__all__ = ["COLUMN", "column"]
