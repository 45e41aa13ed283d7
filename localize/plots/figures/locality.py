"""Whether a text's memory lies in few units: what it loses without its best ones, beside other texts and random units."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.locality import gap_of
from localize.errors import public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, axis_words, variable_words
from localize.signature.schema import range_of

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = ("located_rise", "located_others_rise", "located_random_rise", "located_lost_match")
LINES = {
    "located_random_rise": Series.of("own loss, random units", 0, null=True),
    "located_others_rise": Series.of("other texts' loss, the same units", 1),
    "located_rise": Series.of("own loss, its best units", 5),
}
HELD_OUT = "gap to held-out loss"
LEFT, PANEL_WIDTH, STEP, HEIGHT = 44, 268, 350, 170


@public("plots.locality")
def locality(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """NLL rise and exact match lost against the number of a paragraph's best units that are ablated together; a row per group.

    Three lines with 95 % bands by bootstrap over clusters: the paragraph's own rise, that of other texts with the same units ablated,
    and its own with as many random units of the same layers (null, grey, dashed). Dotted: how far the group's loss lies below that
    of held-out text, the mean of what is not memorized. Memory is local if the first line gets there with few units, before the
    others rise.

    Args:
        signature: Holds `localize.locality`.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks it.
    """
    require(signature, VARIABLES, "localize.locality(model, paragraphs)")
    sheet, groups = Sheet(), tried_groups(signature)
    step = TITLE + NOTE + HEIGHT + 54
    for row, group in enumerate(groups):
        top = TITLE + NOTE + row * step
        _rises(sheet, Box(LEFT, top, PANEL_WIDTH, HEIGHT), signature, group, f"{group.words}: NLL rise", seed)
        _lost(sheet, Box(LEFT + STEP, top, PANEL_WIDTH, HEIGHT), signature.dataset, group, seed)
    return sheet.finish(max(1, len(groups)) * step)


def draw_curve(sheet: Sheet, box: Box, signature: "MemorizationSignature", seed: int) -> None:
    """The rises of the first group that was tried, in one panel."""
    for group in tried_groups(signature)[:1]:
        _rises(sheet, box, signature, group, f"Locality, {group.words}", seed)


def tried_groups(signature: "MemorizationSignature") -> list[Group]:
    """The groups of which some paragraph was tried, and of them those paragraphs alone."""
    tried = signature["located_rise"].notnull().any("units_ablated").values
    clusters, found = signature.dataset["cluster"].values, []
    for group in groups_of(signature):
        if (rows := group.rows & tried).any():
            found.append(Group(group.name, group.words, group.colour, group.symbol, rows, clusters[rows]))
    return found


def _rises(sheet: Sheet, box: Box, signature: "MemorizationSignature", group: Group, title: str, seed: int) -> None:
    dataset = signature.dataset
    numbers = dataset["units_ablated"].values.astype(float)
    note = f"{group.size}; {continuation_words(signature, 'located_rise')}"
    y = {"title": {"text": variable_words("located_rise", "NLL rise")}, "rangemode": "tozero"}
    panel = sheet.panel(box, title, note, x=_counts(numbers), y=y)
    gap = group.mean(gap_of(dataset))
    if np.isfinite(gap):
        _held_out(panel, numbers, float(gap))
    for name, line in LINES.items():
        line.draw(panel, numbers, group.interval(_values(dataset, name), seed), group)


def _lost(sheet: Sheet, box: Box, dataset: "xr.Dataset", group: Group, seed: int) -> None:
    numbers = dataset["units_ablated"].values.astype(float)
    y = {"title": {"text": variable_words("located_lost_match", "exact match lost")}, "rangemode": "tozero"}
    panel = sheet.panel(box, f"{group.words}: exact match lost", group.size, x=_counts(numbers), y=y)
    possible = range_of(dataset, "located_lost_match")
    LINES["located_rise"].draw(
        panel, numbers, group.interval(_values(dataset, "located_lost_match"), seed, possible), group
    )


def _values(dataset: "xr.Dataset", name: str) -> Float[np.ndarray, "paragraph number"]:
    return dataset[name].transpose("paragraph", "units_ablated").values.astype(float)


def _counts(numbers: Float[np.ndarray, " number"]) -> dict[str, object]:
    ticks = [number for number in numbers.tolist()]
    return {
        "title": {"text": axis_words("units_ablated")}, "type": "log", "tickvals": ticks,
        "ticktext": [f"{number:g}" for number in ticks],
    }  # fmt: skip


def _held_out(panel: Panel, numbers: Float[np.ndarray, " number"], gap: float) -> None:
    import plotly.graph_objects as go

    style = {"color": NULL, "width": 1, "dash": "dot"}
    trace = go.Scatter(
        x=numbers[[0, -1]], y=[gap, gap], mode="lines", line=style, name=HELD_OUT, hoverinfo="name", legendgroup=HELD_OUT,
        showlegend=panel.sheet.first(HELD_OUT),
    )  # fmt: skip
    panel.add(trace, "held out")


KIND = FigureKind(
    "locality",
    needs=tuple((name,) for name in VARIABLES),
    title="Is the memory local? A text's best units ablated together",
    caption="The MLP units that score best for a paragraph are set to their mean over a reference text, together: rise of its own NLL, and "
    "of other texts' with the same units, against the number of units. Grey dashed: as many random units of the same layers. Dotted: how "
    f"far the group's loss lies below held-out text's. {BANDS}",
    function=locality,
)
