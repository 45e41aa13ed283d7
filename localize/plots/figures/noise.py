"""Exact match or NLL against the strength of noise on few weights: those with the largest gradients, and random ones."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.axes import RANDOM
from localize.errors import LocalizeError, caller, public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import from_zero
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import LARGE, WIDTH, axis_words, plain, see_through, variable_words
from localize.signature.schema import range_of
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

QUANTITIES = {"exact_match": "exact match", "nll": "NLL"}
CONTROL = "as many random weights"
LEFT, RIGHT, GAP, HEIGHT, UNDER = 44, 6, 30, 150, 40
HEADING, COLUMNS = 20, 3


@public("plots.noise")
def noise(signature: "MemorizationSignature", *, quantity: str = "exact_match", seed: int = 0) -> "go.Figure":
    """Exact match or NLL against the strength of the noise: a panel for each number of weights, a row for each who chose them.

    A line per group of paragraphs, draws averaged, then paragraphs, with 95 % bands by bootstrap over clusters. Dashed, in the
    group's colour and with a lighter band: as many random weights, in each matrix as many as the first group chose there. All
    panels have one scale. 0 is the unnoised model; on a logarithmic axis it stands one step to the left of the weakest noise.

    Args:
        signature: Holds `localize.noise`.
        quantity: "exact_match" or "nll".
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the noise, or there is no such quantity.
    """
    if quantity not in QUANTITIES:
        raise LocalizeError(f"{caller()}: quantity={quantity!r} is not one of {', '.join(QUANTITIES)}.")
    name, before = f"noised_{quantity}", f"unperturbed_{quantity}"
    require(signature, (name, before), "localize.noise(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    x, values = with_unnoised(dataset, name, before)
    labels, possible = [str(label) for label in dataset["chosen_by"].values], range_of(dataset, name)
    found = {
        label: [(group, group.interval(values[:, place], seed, possible)) for group in groups]
        for place, label in enumerate(labels)
    }
    highest = max(_highest(interval) for lines in found.values() for _, interval in lines)
    y = {"title": {"text": variable_words(name, QUANTITIES[quantity])}, "range": [0, 1.04 * highest or 1.0]}
    sheet, top, own = Sheet(), 0.0, continuation_words(signature, name)
    for label in [label for label in labels if label != RANDOM] or labels:
        words = "random weights" if label == RANDOM else f"the weights with the largest gradient of: {plain(label)}"
        sheet.text(f"Noise on {words} ({own})", LEFT, top + HEADING - 4, size=LARGE)
        control = found[RANDOM] if label != RANDOM and RANDOM in found else []
        top = _row(sheet, top + HEADING, dataset["weights_noised"].values.tolist(), x, found[label], control, y)
    if missing := int(np.isnan(dataset[name].values).sum()):
        sheet.text(f"{missing:,} of {dataset[name].size:,} values are no finite number and left out.", LEFT, top + NOTE)
        top += NOTE + 6
    return sheet.finish(top)


Lines = list[tuple[Group, Interval]]


def _row(
    sheet: Sheet,
    top: float,
    counts: list[int],
    x: Float[np.ndarray, " strength"],
    lines: Lines,
    control: Lines,
    y: dict[str, Any],
) -> float:
    """The panels of those weights that one group chose, three abreast; gives their bottom in px."""
    places, axis = from_zero(x)
    bottom = top
    for k, (count, box) in enumerate(zip(counts, _boxes(len(counts), top), strict=True)):
        first = y if k % COLUMNS == 0 else y | {"title": {"text": ""}}
        title = f"{count:,} weight{'s' * (count != 1)} noised"
        panel = sheet.panel(box, title, x={"title": {"text": axis_words("strength")}} | axis, y=first)
        for group, interval in control:
            _control(panel, places, interval[k], group)
        for group, interval in lines:
            panel.curve(places, interval[k], group, markers=True)
        bottom = box.bottom + UNDER
    return bottom


def with_unnoised(
    dataset: "xr.Dataset", name: str, before: str
) -> tuple[Float[np.ndarray, " strength"], Float[np.ndarray, "paragraph chosen_by weights_noised strength"]]:
    """The strengths, 0 first, and the values, draws averaged; where 0 was not measured, what was measured before the noise."""
    averaged = dataset[name].mean("noise_draw").transpose("paragraph", "chosen_by", "weights_noised", "strength")
    strengths, values = dataset["strength"].values.astype(np.float64), averaged.values.astype(np.float64)
    if strengths[0] == 0:
        return strengths, values
    start = np.broadcast_to(dataset[before].values[:, None, None, None], (*values.shape[:3], 1))
    return np.concatenate([[0.0], strengths]), np.concatenate([start, values], axis=-1)


def _boxes(count: int, top: float) -> list[Box]:
    """Places of so many panels, three abreast."""
    width = (WIDTH - LEFT - RIGHT - (COLUMNS - 1) * GAP) / COLUMNS
    places = (divmod(number, COLUMNS) for number in range(count))
    step = TITLE + HEIGHT + UNDER
    return [Box(LEFT + column * (width + GAP), top + TITLE + row * step, width, HEIGHT) for row, column in places]


def _highest(interval: Interval) -> float:
    """The largest number drawn; 0 if there is none."""
    drawn = np.concatenate([interval.estimate.ravel(), interval.high.ravel()])
    return float(np.max(drawn[np.isfinite(drawn)], initial=0.0))


def _control(panel: Panel, x: Float[np.ndarray, " point"], interval: Interval, group: Group) -> None:
    """The same noise on random weights: dashed, its band lighter."""
    name = f"{group.words}, random weights: 95% interval"
    lighter = see_through(group.colour, 0.08)
    panel.band(x, interval.low, interval.high, "null interval", group, name=name, fillcolor=lighter)
    panel.null_line(x, interval.estimate, CONTROL, group)


KIND = FigureKind(
    "noise",
    needs=(("noised_exact_match",), ("unperturbed_exact_match",)),
    title="How much noise a recital survives",
    caption="Exact match against the strength of the noise on the weights with the largest gradients of a group, a panel for each number "
    f"of weights. Dashed: as many random weights. {BANDS}",
    function=noise,
)
