"""Colours, sizes and words that all figures share."""

import html
from functools import cache
from typing import TYPE_CHECKING

from localize.axes import FORGET, GENERAL, KEPT, MEMORIZED, NEAR_DUPLICATE, NOT_MEMORIZED, PARTIAL
from localize.measurements import AXES, REGISTRY

if TYPE_CHECKING:
    import plotly.graph_objects as go

Px = int | float
"""A length in pixels."""

WIDTH = 700
"""Pixels across a figure that goes over both columns of a paper: 7 in at 100 px per inch."""

SMALL, MEDIUM, LARGE = 10, 10.5, 11
"""Sizes of text in px: ticks and notes, axis titles, panel titles. 9.72 px are 7 pt in print."""

FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
INK, NULL, GRID = "#222222", "#777777", "#ECECEC"

MAGNITUDE = "Viridis"
"""Colours of what is at least 0: perceptually uniform, light where large."""

SCORE = "RdBu_r"
"""Colours of what has a sign: white at 0."""

RECALL_COLOURS = {MEMORIZED: "#D55E00", PARTIAL: "#009E73", NOT_MEMORIZED: "#0072B2"}
RECALL_SYMBOLS = {MEMORIZED: "circle", PARTIAL: "diamond", NOT_MEMORIZED: "square"}
ROLE_COLOURS = RECALL_COLOURS | {
    FORGET: "#000000", NEAR_DUPLICATE: "#CC79A7", f"{KEPT}_{MEMORIZED}": "#E69F00", f"{KEPT}_{PARTIAL}": "#88CCAA",
    f"{KEPT}_{NOT_MEMORIZED}": "#56B4E9", GENERAL: "#882255",
}  # fmt: skip
ROLE_SYMBOLS = RECALL_SYMBOLS | {
    FORGET: "x", NEAR_DUPLICATE: "triangle-up", f"{KEPT}_{MEMORIZED}": "circle-open", f"{KEPT}_{PARTIAL}": "diamond-open",
    f"{KEPT}_{NOT_MEMORIZED}": "square-open", GENERAL: "pentagon",
}  # fmt: skip
"""What paragraphs are to an edit; the kept ones are lighter than those of their group that it did not see, and open."""

OTHER_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#000000", "#009E73", "#D55E00", "#0072B2")
OTHER_SYMBOLS = ("triangle-up", "triangle-down", "star", "hexagon", "cross", "x", "pentagon")
"""Okabe and Ito's colours, told apart with any colour vision; symbols say the same again."""

LONGEST_NAME = 24
"""Characters of a user's group name that a panel's title has room for; the legend shows twice as many."""


@cache
def template() -> "go.layout.Template":
    """White, sans serif, thin axes; what `plotly.graph_objects.Figure(layout={"template": ...})` takes."""
    import plotly.graph_objects as go

    axis = {
        "showline": True, "linecolor": INK, "linewidth": 1, "ticks": "outside", "ticklen": 3, "tickcolor": INK,
        "tickfont": {"size": SMALL}, "title": {"font": {"size": MEDIUM}, "standoff": 5}, "showgrid": False,
        "zeroline": False, "automargin": False,
    }  # fmt: skip
    layout = {
        "font": {"family": FONT, "size": SMALL, "color": INK}, "paper_bgcolor": "white", "plot_bgcolor": "white",
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0, "autoexpand": False}, "xaxis": axis, "yaxis": axis,
        "legend": {"font": {"size": SMALL}, "orientation": "h", "bgcolor": "rgba(0,0,0,0)",
                   "tracegroupgap": 0, "itemwidth": 30},
        "hoverlabel": {"font": {"family": FONT, "size": SMALL}}, "barmode": "overlay",
    }  # fmt: skip
    return go.layout.Template(layout=layout)


def group_style(group: str, groups: tuple[str, ...]) -> tuple[str, str]:
    """Colour and symbol: fixed for the groups of recall and of edits, for a user's own by their order among `groups`."""
    if group in ROLE_COLOURS:
        return ROLE_COLOURS[group], ROLE_SYMBOLS[group]
    order = [g for g in groups if g not in ROLE_COLOURS].index(group) % len(OTHER_COLOURS)
    return OTHER_COLOURS[order], OTHER_SYMBOLS[order]


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """A user's string as plotly shows it literally: no tags, entities or TeX; underscores as spaces, cut if long."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return html.escape(short.replace("_", " ")).replace("$", "&#36;")


def see_through(colour: str, alpha: float) -> str:
    """The colour `#rrggbb` with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def variable_words(name: str, words: str | None = None) -> str:
    """Axis title of a registered variable, or of `words` in its unit: "NLL (nats per token)"."""
    variable = REGISTRY[name]
    return f"{words or variable.label} ({variable.unit})"


def axis_words(dim: str) -> str:
    """Axis title of a dimension."""
    return AXES[dim].words


def component_words(component: str) -> str:
    """ "W_Q" as W with a small Q below."""
    letter, _, index = component.partition("_")
    return f"{letter}<sub>{index}</sub>"
