"""The labels of an axis: how many there are, how much room they take, and which have it."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from localize.plots.lettering import line_count, width_of
from localize.plots.theme import SMALL, Px

ROOM, HIGH, FEWEST = 5, 11, 3
"""Px between two labels side by side, of a line of them, and how few of a number axis's there are."""

BEYOND = 0.08
"""Share of what is drawn that an axis goes further on each side where plotly chooses its range."""


@dataclass(frozen=True)
class Ticks:
    """Labels as they are given to an axis.

    Attributes:
        places: In the axis' own units; empty where plotly chooses.
        texts: One each.
        shown: Whether any label is seen.
        turned: Whether they stand upright.
    """

    places: tuple[float, ...]
    texts: tuple[str, ...]
    shown: bool
    turned: bool

    @classmethod
    def of(cls, axis: Any) -> "Ticks":
        """Those of an axis or a colour bar."""
        places = tuple(float(value) for value in listed(axis.tickvals))
        texts = tuple(str(text) for text in listed(axis.ticktext)) or tuple(f"{place:g}" for place in places)
        shown = axis.showticklabels is not False and (not places or any(texts))
        turned = getattr(axis, "tickangle", None) in (90, -90)
        return cls(places, texts, shown, turned)

    @property
    def named(self) -> bool:
        """Whether a label says more than a number, so that it cannot be guessed from those beside it."""
        return any(text and not text.replace(".", "").replace("−", "").isdigit() for text in self.texts)

    @property
    def lines(self) -> int:
        """Lines of the labels that are seen, one below the other."""
        return sum(line_count(text) for text in self.texts if text) if self.shown else 0

    def depth(self, line: Px) -> Px:
        """Px that they take below an axis."""
        if not self.shown:
            return 0.0
        if self.turned:
            return max((width_of(text, SMALL) for text in self.texts), default=0.0) + 6
        return line + 12 * (max(map(line_count, self.texts), default=1) - 1)

    def half(self, *, across: bool) -> np.ndarray:
        """Px from the middle of each label to the end of its room along the axis."""
        if not across or self.turned:
            return np.full(len(self.texts), HIGH / 2)
        return np.array([width_of(text, SMALL) + ROOM for text in self.texts]) / 2


def listed(values: Any) -> list[Any]:
    """What an axis holds as a list, also as plotly stores arrays in JSON."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return [] if values is None else list(values)


def thinned(axis: Any, before: Px, after: Px, *, across: bool, ends: tuple[float, float] | None = None) -> None:
    """Leave as many labels on an axis that was `before` px long, and now is `after`, as do not meet."""
    if getattr(axis, "nticks", None):
        axis.nticks = max(FEWEST, min(int(axis.nticks), round(axis.nticks * after / before)))
    step = every(axis, after, across=across, ends=ends)
    if step > 1:
        ticks = Ticks.of(axis)
        marked = next((at for at, text in enumerate(ticks.texts) if text.startswith("<b>")), 0)
        kept = slice(marked % step, None, step)  # a label that stands out stays
        axis.tickvals, axis.ticktext = ticks.places[kept], ticks.texts[kept]


def every(axis: Any, length: Px, *, across: bool, ends: tuple[float, float] | None = None) -> int:
    """Each how many-th label has room on an axis of so many px; 1 where plotly chooses."""
    ticks = Ticks.of(axis)
    if not ticks.shown or len(ticks.places) < 2:
        return 1
    logarithmic = getattr(axis, "type", None) == "log"
    at = np.log10(ticks.places) if logarithmic else np.array(ticks.places)
    low, high = ends or _range(axis, at)
    px, half = at * length / max(abs(high - low), 1e-12), ticks.half(across=across)
    for step in range(1, len(at)):
        if (np.abs(np.diff(px[::step])) >= half[::step][1:] + half[::step][:-1]).all():
            return step
    return len(at)


def _range(axis: Any, at: np.ndarray) -> tuple[float, float]:
    """From where to where an axis goes; where it is not told, a little further than from the first label to the last."""
    given = listed(getattr(axis, "range", None))
    if given:
        return float(given[0]), float(given[1])
    low, high = float(at.min()), float(at.max())
    return low - BEYOND * (high - low), high + BEYOND * (high - low)
