"""What attacks bring back of forgotten text, beside text that was never trained: a row per attack, a lane per edit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.resurfacing import WORST, Attacked
from localize.axes import FORGET, NEVER_TRAINED
from localize.errors import LocalizeError, caller, public
from localize.plots.groups import Group
from localize.plots.kinds import BANDS, EditFigureKind, EditsAsked
from localize.plots.roughness import mark_rough
from localize.plots.series import Series, stacked, whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import GRID, INK, LONGEST_NAME, NULL, WIDTH, plain, see_through, variable_words
from localize.statistics import ZERO_TO_ONE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.analysis.resurfacing import Runs

WORDS = {
    "as_is": "no attack", "one_changed": "one prefix token changed", "second_half": "half of the prefix given",
    "fifth_given": "a fifth of it given", "half_given": "half of it given", "best_of_samples": "best of many samples",
    "float16": "rounded to float16", "relearned_others": "trained on other text",
    "relearned_others_largest": "the same, few weights", "relearned_begun": "trained on its first words",
    WORST: "<b>worst, text by text</b>",
}  # fmt: skip
"""What is done to the edited model, as the rows have it."""

NOTES = (
    "It: the continuation; what follows the part that is given, or trained on, is asked for. Other text: kept, of the same kind.",
    "Few weights: as many as the edit changes. Worst: of each text, forgotten or never trained, the attack that brings most back.",
)
UNTRAINED = "text never trained"
LEFT, HALF_LANE, LOWEST, ABOVE, UNDER = 142, 7.5, 30, 5, 38
"""Px left of the rows, of the height of one kind of text of one edit, of the lowest row, and above the rows and under them."""

LANES, OFF_LINE, CLOUD = 0.84, 0.2, 0.45
"""Share of a row that its lanes take; and of half a lane how far at least and at most its points are from the interval's line."""


@public("plots.resurfacing")
def resurfacing(runs: "Mapping[str, Runs]", *, seed: int = 0) -> "go.Figure":
    """The share of each text that is said after each attack, a row per attack and a lane per edit; below each the null.

    Small points are texts, moved a little up or down so that all show; means with 95 % intervals by bootstrap over clusters, those of
    `localize.resurfacing_table`. Grey and open: text that was never trained, after the same attack on the same edited model. Something
    came back only where more is said of the forgotten texts than of that.

    Args:
        runs: Names, as the legend shows them, to what `localize.resurface` gave, one run or several with other forget sets.
        seed: Of the bootstrap and of the moving.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If there is no run, or one does not hold attacks.
    """
    if not runs:
        raise LocalizeError(f"{caller()}: runs is empty; at least one signature from localize.resurface is needed.")
    edits = {name: Attacked.of(name, given) for name, given in runs.items()}
    attacks = list(dict.fromkeys(attack for edit in edits.values() for attack in edit.shares if attack != WORST))
    attacks.append(WORST)
    sheet, rng = Sheet(), np.random.default_rng([seed, 23])
    height = len(attacks) * max(LOWEST, 2 * HALF_LANE * len(edits) / LANES)
    panel = _rows(
        sheet, Box(LEFT, TITLE + NOTE, WIDTH - 10 - LEFT, height + ABOVE), attacks, ABOVE * len(attacks) / height
    )
    lane = LANES / len(edits)
    for place, (name, edit) in enumerate(edits.items()):
        series = Series.of(plain(name, 2 * LONGEST_NAME), place)
        at = lane * (place + 0.5) - LANES / 2
        for side, group in enumerate(_groups(series, edit)):
            _half_lane(panel, group, edit, attacks, at + lane * (side / 2 - 0.25), lane / 2, rng, seed)
    sizes = [len(edit.group[edit.group == NEVER_TRAINED]) for edit in edits.values()]
    many = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)}–{max(sizes)}"
    line = {"width": 1.6, "color": NULL}
    marker = {"symbol": "circle-open", "size": 5, "color": NULL, "line": line}
    sheet.null_key(f"{UNTRAINED} (n = {many})", {"mode": "markers", "marker": marker})
    bottom = panel.box.bottom + UNDER
    for number, words in enumerate(NOTES, start=1):
        sheet.text(words, 4, bottom + number * NOTE, colour=NULL)
    return sheet.finish(bottom + len(NOTES) * NOTE + 4)


def _groups(series: Series, edit: Attacked) -> tuple[Group, Group]:
    """The forgotten texts in the edit's colour, and as its null those never trained."""
    looks = ((FORGET, series.words, series.colour, series.symbol), (NEVER_TRAINED, UNTRAINED, NULL, "circle-open"))
    forgotten, null = (
        Group(name, words, colour, symbol, edit.group == name, edit.clusters[edit.group == name])
        for name, words, colour, symbol in looks
    )
    return forgotten, null


def _rows(sheet: Sheet, box: Box, attacks: list[str], above: float) -> Panel:
    """Axes with a row per attack and so much of a row above, thin lines between the rows, a darker one above the worst."""
    import plotly.graph_objects as go

    rows, ends = len(attacks), [-0.02, 1.02]
    x = {"title": {"text": variable_words("resurfaced_recall", "tokens said before the first error")}, "nticks": 6}
    y: dict[str, Any] = {"range": [rows - 0.5, -0.5 - above], "tickvals": np.arange(rows), "ticks": ""}
    y |= {"ticktext": [WORDS.get(attack, plain(attack)) for attack in attacks]}
    note = "share of the tokens asked for; small points: texts; 95% intervals"
    look = {"showgrid": True, "gridcolor": GRID, "range": ends}
    panel = sheet.panel(box, "What attacks bring back of forgotten text", note, x=x | look, y=y, grid=False)
    for colour, after in ((GRID, range(rows - 2)), (INK, range(rows - 2, rows - 1))):
        between = [end for row in after for end in (row + 0.5, row + 0.5, None)]
        line = {"color": colour, "width": 1}
        lines = go.Scatter(x=[*ends, None] * len(after), y=between, mode="lines", line=line, hoverinfo="skip")
        panel.add(lines.update(showlegend=False, name="rows"), "rule")
    return panel


def _half_lane(
    panel: Panel,
    group: Group,
    edit: Attacked,
    attacks: list[str],
    at: float,
    high: float,
    rng: np.random.Generator,
    seed: int,
) -> None:
    """One kind of text of one edit in every row: its texts, and over them the mean with its interval."""
    import plotly.graph_objects as go

    there = [(row, edit.shares[attack]) for row, attack in enumerate(attacks) if attack in edit.shares]
    middle, null = np.array([row + at for row, _ in there]), group.name == NEVER_TRAINED
    values = np.array([shares[group.rows] for _, shares in there])
    aside = high * rng.uniform(OFF_LINE, CLOUD, values.shape) * rng.choice((-1, 1), values.shape)
    dots = {"symbol": "circle", "size": 3, "color": see_through(group.colour, 0.5)}
    cloud = go.Scatter(
        x=values.ravel(), y=(middle[:, None] + aside).ravel(), mode="markers", marker=dots, name=group.words, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    panel.add(cloud, "null values" if null else "values", group)
    interval = stacked([group.interval(shares, seed, ZERO_TO_ONE) for _, shares in there])
    rim = {"width": 1.4, "color": NULL} if null else {"width": 1, "color": "white"}
    means = go.Scatter(
        x=interval.estimate, y=middle, mode="markers", error_x=whiskers(interval, group.colour), name=
        f"{group.words} ({group.size})", marker={"symbol": group.symbol, "size": 5 if null else 7, "color": group.colour, "line": rim},
        hovertemplate="%{fullData.name}: %{x:.2f}<extra></extra>", showlegend=not null,
    )  # fmt: skip
    panel.add(means, "null" if null else "mean", group)
    mark_rough(panel, interval.estimate, middle, interval, group)


def without_controls(runs: "Mapping[str, Runs]", controls: Sequence[str]) -> "Mapping[str, Runs]":
    """The edits that are no controls, where there are any: the table has them all, and each makes every row taller."""
    return {edit: given for edit, given in runs.items() if edit not in controls} or runs


def _if_there_are_any(edits: EditsAsked) -> "go.Figure | None":
    return resurfacing(without_controls(edits.attacked, edits.controls), seed=edits.seed) if edits.attacked else None


KIND = EditFigureKind(
    "resurfacing",
    title="What attacks bring back of forgotten text",
    caption="Share of the tokens asked for that are said before the first error, by what was done to the edited model, in colour of the "
    "forgotten texts and in grey of text that was never trained; something came back where the first is larger. The worst attack is "
    f"taken text by text. {BANDS}",
    function=resurfacing,
    make=_if_there_are_any,
)
