"""What one new text raises elsewhere: its words by how unexpected they were, and what putting changes back does."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.draws import Draws
from localize.analysis.priming import LEAST_EXPECTED, NLL, by_log_p, log_p_before, measured, priming_rows
from localize.analysis.rows import Row
from localize.axes import RESETS
from localize.errors import public
from localize.plots.groups import Group, groups_of
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.over_training import interval_of, labelled_axis
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, see_through, variable_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

HELD_AGAINST = "a word as likely there, not in the text (a, b); before it was taught (c)"
RESET_WORDS = ("nothing", "largest", "random")
"""What is put back, as an axis has it."""

PLACES = (Box(44, TITLE + NOTE, 262, 190), Box(362, TITLE + NOTE, 142, 190), Box(554, TITLE + NOTE, 142, 190))
UNDER, TEXTS_SHOWN = 40, 60
"""Px under the panels, and texts of a group whose words are drawn one by one."""

SHOWN = 0.005
"""Share of the words that lies beyond each end of the axis: a few would make all others alike."""

NEXT = 0.09
"""From a mean to its null, on an axis of log10 p; on one of labels twice as far."""


@public("plots.priming")
def priming(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """How far a text's words are raised behind unrelated prefixes, by the probability that they had in their place before it was taught.

    Small points: words; large: means over a range of log10 p, at its mean. Open and grey: matched words, which were as likely behind
    these prefixes and are not in the text. Beside it the least expected word and the text's NLL, with none of the changes put back, the
    largest, or as many at random. 95 % intervals by bootstrap over clusters; the numbers are those of `localize.priming_table`.

    Args:
        signature: Holds `localize.priming`, of one model.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: If the signature lacks the measurement.
    """
    measured(signature)
    dataset, groups, sheet = signature.dataset, groups_of(signature), Sheet()
    rows, log_p = priming_rows(signature, Draws(seed)), log_p_before(dataset)
    own = dataset["priming"].values[:, 0].astype(float)
    low, high = np.quantile(own, [SHOWN, 1 - SHOWN])
    room = 0.05 * (high - low)
    panel = sheet.panel(
        PLACES[0], "The text's words, elsewhere", "behind unrelated prefixes, after less before",
        x={"title": {"text": "log<sub>10</sub> p in its place before"}, "nticks": 7},
        y={"title": {"text": variable_words("priming")}, "range": [low - room, high + room]},
    )  # fmt: skip
    _words(panel, groups, log_p, own)
    _by_range(panel, groups, dataset, rows, log_p)
    x = labelled_axis("changes put back", RESET_WORDS)
    y = {"title": {"text": variable_words("priming")}, "rangemode": "tozero"}
    panel = sheet.panel(PLACES[1], "Least expected word", "beside one as likely there", x=x, y=y)
    _by_reset(panel, groups, rows, LEAST_EXPECTED)
    highest = max(row[end] for row in rows if row["quantity"] == NLL for end in ("high", "null_mean_high", "null"))
    y = {
        "title": {"text": variable_words("primed_nll", "NLL")},
        "range": [-0.04 * highest, 1.06 * highest],
        "nticks": 6,
    }
    _by_reset(sheet.panel(PLACES[2], "The text itself", "beside it before", x=x, y=y), groups, rows, NLL)
    return sheet.finish(PLACES[0].bottom + UNDER)


def _words(
    panel: Panel,
    groups: list[Group],
    log_p: Float[np.ndarray, "paragraph position"],
    own: Float[np.ndarray, "paragraph position"],
) -> None:
    """Each word of the first texts of each group."""
    import plotly.graph_objects as go

    for group in groups:
        shown = np.flatnonzero(group.rows)[:TEXTS_SHOWN]
        marker = {"symbol": "circle", "size": 3, "color": see_through(group.colour, 0.25)}
        cloud = go.Scatter(
            x=log_p[shown].ravel(), y=own[shown].ravel(), mode="markers", marker=marker, hoverinfo="skip", showlegend=False,
            name=group.words,
        )  # fmt: skip
        panel.add(cloud, "values", group)


def _by_range(
    panel: Panel,
    groups: list[Group],
    dataset: "xr.Dataset",
    rows: list[Row],
    log_p: Float[np.ndarray, "paragraph position"],
) -> None:
    """Means over ranges of log10 p, each at the mean of its words, with the matched words' a little aside."""
    for group in groups:
        told = {row["quantity"]: row for row in rows if row["group"] == group.name}
        inside = {name: words & group.rows[:, None] for name, words in by_log_p(log_p).items()}
        there = [name for name, words in inside.items() if words.any()]
        at = np.array([log_p[inside[name]].mean() for name in there])
        _points(panel, group, at, [told[name] for name in there], NEXT)


def _by_reset(panel: Panel, groups: list[Group], rows: list[Row], quantity: str) -> None:
    """A number with nothing put back, the largest changes and random ones."""
    step = 0.7 / len(groups)
    for place, group in enumerate(groups):
        found = {row["reset"]: row for row in rows if (row["quantity"], row["group"]) == (quantity, group.name)}
        at = np.arange(len(RESETS)) + step * (place + 0.5) - 0.35 - NEXT
        _points(panel, group, at, [found[reset] for reset in RESETS], 2 * NEXT)


def _points(panel: Panel, group: Group, at: np.ndarray, rows: list[Row], aside: float) -> None:
    """Means of a group with their intervals, and aside, open and grey, what they are held against."""
    import plotly.graph_objects as go

    interval = interval_of(rows)
    ends = (np.array([row[end] for row in rows], float) for end in ("null", "null_mean_low", "null_mean_high"))
    null, hollow = Interval(*ends), f"{group.symbol}-open"
    look = {"symbol": hollow, "size": 6, "color": NULL, "line": {"width": 1.4, "color": NULL}}
    grey = go.Scatter(
        x=at + aside, y=null.estimate, mode="markers", marker=look, error_y=whiskers(null, NULL), name=f"null: {HELD_AGAINST}",
        showlegend=False,
    )  # fmt: skip
    panel.add(grey, "null", group)
    marker = {"symbol": group.symbol, "size": 7, "color": group.colour, "line": {"width": 1, "color": "white"}}
    points = go.Scatter(
        x=at, y=interval.estimate, mode="markers", marker=marker, error_y=whiskers(interval, group.colour), name=group.label,
        showlegend=panel.sheet.first("group " + group.name),
    )  # fmt: skip
    panel.add(points, "mean", group)
    mark_rough(panel, at, interval.high, interval, group)
    panel.sheet.null_key(HELD_AGAINST, {"mode": "markers", "marker": look | {"symbol": "circle-open"}})


KIND = FigureKind(
    "priming",
    needs=(("priming",), ("primed_nll",)),
    title="What a new text raises elsewhere",
    caption="Each text was taught to the model alone; then log10 of the probability of its words behind prefixes of other texts, after "
    "less before, by the log10 probability that a word had in its place in the text. Open and grey: words as likely there that are "
    "not in the text. Right: the word that was least expected, and the text's NLL (grey: before), with none of the weights' changes put "
    f"back, the largest ones, or as many at random. {BANDS}",
    function=priming,
)
