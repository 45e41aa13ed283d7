"""Whether a text's memory lies in few units: what it loses without its best ones, beside other texts and random units."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.locality import gap_of
from localize.axes import NOT_MEMORIZED
from localize.errors import LocalizeError, caller, public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, OTHER_COLOURS, axis_words, variable_words
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
BESIDE_CONTROL: tuple[dict[str, Series], ...] = (
    {
        "located_random_rise": Series.of("measured texts, random units", 0, null=True),
        "located_rise": Series.of("measured texts, their best units", 5),
    },
    {
        "located_random_rise": Series("planted texts, random units", NULL, "square-open", null=True),
        "located_rise": Series("positive control: planted texts, their best units", OTHER_COLOURS[6], "square"),
    },
)
"""Of what is measured, and of the control."""

HELD_OUT, WHOLE_GAP = "gap to held-out loss", "the whole gap"
LEFT, PANEL_WIDTH, STEP, HEIGHT = 44, 268, 350, 170


@public("plots.locality")
def locality(
    signature: "MemorizationSignature", *, control: "MemorizationSignature | None" = None, seed: int = 0
) -> "go.Figure":
    """NLL rise and exact match lost against the number of a paragraph's best units that are ablated together; a row per group.

    Three lines with 95 % bands by bootstrap over clusters: the paragraph's own rise, that of other texts with the same units ablated,
    and its own with as many random units of the same layers (null, grey, dashed). Dotted: how far the group's loss lies below that
    of held-out text, the mean of what is not memorized. Memory is local if the first line gets there with few units, before the
    others rise.

    With a positive control, the first group's rise is drawn as a share of that gap, beside the control's.

    Args:
        signature: Holds `localize.locality`.
        control: The same of texts that are known to be kept in few units, such as those of `localize.plant` in its model, together
            with text that this model does not recite.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If a signature lacks it, or, beside a control, has no text that is not recited.
    """
    require(signature, VARIABLES, "localize.locality(model, paragraphs)")
    if control is not None:
        require(control, VARIABLES, "localize.locality(truth.model, paragraphs)")
        return _beside_control(signature, control, seed)
    sheet, groups = Sheet(), tried_groups(signature)
    step = TITLE + NOTE + HEIGHT + 54
    for row, group in enumerate(groups):
        top = TITLE + NOTE + row * step
        _rises(sheet, Box(LEFT, top, PANEL_WIDTH, HEIGHT), signature, group, f"{group.words}: NLL rise", seed)
        _lost(sheet, Box(LEFT + STEP, top, PANEL_WIDTH, HEIGHT), signature.dataset, group, seed)
    return sheet.finish(max(1, len(groups)) * step)


def _beside_control(signature: "MemorizationSignature", control: "MemorizationSignature", seed: int) -> "go.Figure":
    """The share of the gap that a text's best units take, and exact match lost, of both."""
    sheet, sides = Sheet(), []
    for what, one in (("signature", signature), ("control", control)):
        group = next(iter(tried_groups(one)), None)
        gap = gap_of(one.dataset)
        if group is None or not np.isfinite(gap[group.rows]).any():
            raise LocalizeError(
                f"{caller()}: the {what} holds no text of the group {NOT_MEMORIZED!r}, whose loss the share of the gap is told by; "
                "measure locality of paragraphs with some among them."
            )
        sides.append((one, group, gap))
    numbers = sorted({float(n) for one, _, _ in sides for n in one["units_ablated"].values})
    note = "; ".join(
        f"{words} {group.size}" for words, (_, group, _) in zip(("measured", "planted"), sides, strict=True)
    )
    boxes = [Box(LEFT + column * STEP, TITLE + NOTE, PANEL_WIDTH, HEIGHT) for column in range(2)]
    x = _counts(np.array(numbers))
    share = sheet.panel(
        boxes[0],
        "Share of the memory that the units take",
        note,
        x=x,
        y={"title": {"text": "share of the gap to held-out loss (%)"}},
    )
    _landmark(share, np.array(numbers), 100.0, WHOLE_GAP)
    lost = sheet.panel(
        boxes[1], "Exact match lost", note, x=x,
        y={"title": {"text": variable_words("located_lost_match", "exact match lost")}, "rangemode": "tozero"},
    )  # fmt: skip
    for number, (one, group, gap) in enumerate(sides):
        at = one["units_ablated"].values.astype(float)
        for name, line in BESIDE_CONTROL[number].items():
            line.draw(share, at, group.interval(100 * _values(one.dataset, name) / gap[:, None], seed), group)
        matched, possible = _values(one.dataset, "located_lost_match"), range_of(one.dataset, "located_lost_match")
        BESIDE_CONTROL[number]["located_rise"].draw(lost, at, group.interval(matched, seed, possible), group)
    return sheet.finish(boxes[0].bottom + 44)


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
        _landmark(panel, numbers, float(gap), HELD_OUT)
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


def _landmark(panel: Panel, numbers: Float[np.ndarray, " number"], height: float, name: str) -> None:
    """A dotted line, which is no test."""
    import plotly.graph_objects as go

    style = {"color": NULL, "width": 1, "dash": "dot"}
    trace = go.Scatter(
        x=numbers[[0, -1]], y=[height, height], mode="lines", line=style, name=name, hoverinfo="name", legendgroup=name,
        showlegend=panel.sheet.first(name),
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
