"""How many prefix tokens it takes: exact match and NLL against the number of tokens replaced together."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.axes import ORDERS
from localize.errors import public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import LOGARITHMIC, Series, with_room
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, axis_words, plain, variable_words
from localize.signature.schema import range_of
from localize.statistics.ranges import PERCENT

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = ("corrupted_exact_match", "corrupted_nll", "tokens_to_break")
RANDOM = ORDERS[0]
WORDS = {
    "random": "random order",
    "rarest": "rarest first",
    "effect": "largest effect first",
    "first": "from the first",
    "last": "from the last",
}
"""Orders of replacement as the legend shows them."""

NOTHING = "nothing replaced"
LEFT, PANEL_WIDTH, STEP, HEIGHT = 44, 176, 236, 140


@public("plots.corruption")
def corruption(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """Exact match, NLL and recitals that still hold, against the number of prefix tokens replaced; a row per group.

    A line per order in which tokens are replaced, draws averaged, then paragraphs, with 95 % bands by bootstrap over
    clusters. The null of an order that claims to know which tokens matter is the random one (grey, dashed). Dotted:
    before anything is replaced. A recital is broken where less than half of its exact match is left; under each row
    stands after how many tokens half of the recitals are broken.

    Args:
        signature: Holds `localize.corrupt_prefix`.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the corruption.
    """
    require(signature, VARIABLES, "localize.corrupt_prefix(model, paragraphs)")
    sheet, dataset, groups = Sheet(), signature.dataset, groups_of(signature)
    orders = [str(name) for name in dataset["order"].values]
    known = [name for name in orders if name != RANDOM]
    lines = {name: Series.of(WORDS.get(name, plain(name)), known.index(name)) for name in known}
    if RANDOM in orders:  # first, so that it lies under the others
        lines = {RANDOM: Series.of(WORDS[RANDOM], 0, null=True)} | lines
    step = TITLE + NOTE + HEIGHT + 34 + NOTE + 12
    for row, group in enumerate(groups):
        _row(sheet, TITLE + NOTE + row * step, signature, group, lines, seed)
    return sheet.finish(len(groups) * step)


def _row(
    sheet: Sheet,
    top: int,
    signature: "MemorizationSignature",
    group: Group,
    lines: dict[str, Series],
    seed: int,
) -> None:
    """One group: exact match, NLL and recitals that hold; beneath them what breaks half of these."""
    dataset, own = signature.dataset, continuation_words(signature, VARIABLES[0])
    number = dataset["tokens_replaced"].values.astype(float)
    panels = (
        (f"{group.words}: exact match", group.size, variable_words(VARIABLES[0], "exact match"), _mean(dataset, VARIABLES[0])),
        (f"NLL, {own}", "", variable_words(VARIABLES[1], "NLL"), _mean(dataset, VARIABLES[1])),
        ("Recitals that hold", "half of the exact match left", "recitals not broken (%)", 100 * unbroken(dataset)),
    )  # fmt: skip
    for column, (title, note, unit, values) in enumerate(panels):
        box = Box(LEFT + column * STEP, top, PANEL_WIDTH, HEIGHT)
        y = {"title": {"text": unit}} | ({"range": [0, 103]} if column == 2 else {"rangemode": "tozero"})
        panel = sheet.panel(box, title, note, x=_counts(number), y=y)
        before = ("unperturbed_exact_match", "unperturbed_nll", "")[column]
        if before in dataset:
            _before(panel, number, float(group.mean(dataset[before].values)))
        possible = PERCENT if column == 2 else range_of(dataset, VARIABLES[column])
        for name, line in lines.items():
            line.draw(panel, number, group.interval(values[:, _place(dataset, name)], seed, possible), group)
    told = ", ".join(f"{plain(name)} {_half_broken(dataset, group, name)}" for name in lines)
    sheet.text(f"Tokens that break half of the recitals: {told}.", LEFT, top + HEIGHT + 34 + NOTE)


def _place(dataset: "xr.Dataset", order: str) -> int:
    return [str(name) for name in dataset["order"].values].index(order)


def _mean(dataset: "xr.Dataset", name: str) -> Float[np.ndarray, "paragraph order count"]:
    """Draws averaged; nan where nothing was tried."""
    values = dataset[name].transpose("paragraph", "order", "corruption_draw", "tokens_replaced").mean("corruption_draw")
    return values.values.astype(np.float64)


def unbroken(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph order count"]:
    """Share of the draws after which so many tokens have not broken the recital; nan where none was tried."""
    tried = dataset[VARIABLES[0]].transpose("paragraph", "order", "corruption_draw", "tokens_replaced").notnull()
    needed = dataset["tokens_to_break"].fillna(np.inf)
    holds = (needed > dataset["tokens_replaced"]).where(tried)
    return holds.mean("corruption_draw").transpose("paragraph", "order", "tokens_replaced").values.astype(np.float64)


def _half_broken(dataset: "xr.Dataset", group: Group, order: str) -> str:
    """The fewest tokens tried after which at most half of the group's recitals hold."""
    few = np.flatnonzero(group.mean(unbroken(dataset))[_place(dataset, order)] <= 0.5)
    number = dataset["tokens_replaced"].values
    return f"{number[few[0]]}" if len(few) else f"more than {number[-1]}"


def _counts(number: Float[np.ndarray, " count"]) -> dict[str, Any]:
    """The axis of how many tokens are replaced, labelled where something was tried."""
    title = {"title": {"text": axis_words("tokens_replaced")}}
    positive = number[number > 0]
    if len(positive) != len(number) or positive[-1] < LOGARITHMIC * positive[0]:
        return title | {"nticks": 6}
    shown = with_room(positive)
    return title | {"type": "log", "tickvals": shown, "ticktext": [f"{value:g}" for value in shown]}


def _before(panel: Panel, number: Float[np.ndarray, " count"], level: float) -> None:
    """A dotted line where nothing is replaced yet."""
    import plotly.graph_objects as go

    line = {"color": NULL, "width": 1, "dash": "dot"}
    panel.add(
        go.Scatter(
            x=number[[0, -1]], y=[level, level], mode="lines", line=line, name=NOTHING, hoverinfo="name",
            legendgroup=NOTHING, showlegend=panel.sheet.first(NOTHING),
        ), "before",
    )  # fmt: skip


KIND = FigureKind(
    "corrupt_prefix",
    needs=tuple((name,) for name in VARIABLES),
    title="How many prefix tokens it takes to break a recital",
    caption="Exact match, NLL and share of the recitals that still hold against the number of prefix tokens replaced together, a line "
    f"per order of replacement. Grey dashed: random order; dotted: nothing replaced. {BANDS}",
    function=corruption,
)
