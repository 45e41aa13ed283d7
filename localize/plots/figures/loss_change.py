"""Which parts of the weights took a text in while a model was trained, and which let it go: bars to both sides of zero."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.loss_change import (
    ALL,
    ATTENTION,
    MLP,
    NONE,
    VARIABLES,
    Allocation,
    WeightPart,
    allocations,
    intervals,
)
from localize.axes import COMPONENTS, EXPOSURES
from localize.errors import LocalizeError, caller, public
from localize.plots.groups import Group
from localize.plots.kinds import TrainingFigureKind
from localize.plots.roughness import mark_rough
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, Px, component_words, plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

LEFT, GAP, RIGHT, UNDER = 26, 12, 8, 36
ROOM: Px = 12
"""Between the rows of panels of two sets."""
OUTSIDE_LABELS: Px = 78
"""Left of the panel of what lies outside of the blocks."""
ROW: Px = 26
"""Of a panel's height for each layer."""

ROOM_OF_LABEL: Px = 34
"""From one number at an axis to the next, at least."""

LOOKS = {"shown": ("#D55E00", "steps that show it"), "other": ("#0072B2", "other steps")}
"""Colour and words of each kind of steps."""

PLACES = {"shown": -0.21, "other": 0.21}
"""Where in a layer's row its bars stand; held-out text stands at the lower edge of each."""
BAR, NULL_BAR = 0.24, 0.12

WORDS = {
    "layer_norms": "layer norms",
    "W_E + W_U": "W<sub>E</sub> = W<sub>U</sub>",
    "biases": "biases",
    ALL: "all weights",
}
BLOCKS = {"component": COMPONENTS, "block": (ATTENTION, MLP)}


@public("plots.loss_change")
def loss_change(
    signature: "MemorizationSignature",
    step: int = -1,
    *,
    since: int | None = None,
    by: str = "component",
    seed: int = 0,
) -> "go.Figure":
    """What each component of each layer changed in a set's NLL: in steps that show it, and in the others, as bars.

    To the left of zero a part of the weights takes the set in, to the right it lets it go. Grey, beside each bar: the same of held-out
    text at the same steps; what a bar has beyond it is memory. A row of panels for each set that steps show, one for each component and
    one for what lies outside of the blocks. The numbers are those of `localize.loss_change_table`.

    Args:
        signature: As `localize.loss_change_table` takes it.
        step: Steps of training after which the window ends; -1 for the last.
        since: After which it begins; None for the first that was followed.
        by: "component", or "block" for attention and MLP.
        seed: Of nothing: there are no draws.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.loss_change_table` raises it.
        LocalizeError: As there; also if `by` is "head".
    """
    if by not in BLOCKS:
        raise LocalizeError(f"{caller()}: by={by!r} is not one of {', '.join(BLOCKS)}.")
    found = allocations(signature, step, since, by)
    drawn = [one for one in found if np.nan_to_num(one.own[:, 0]).any()] or found
    sheet, top, bottom = Sheet(), TITLE, 0
    for one in drawn:
        bottom = _set(sheet, one, by, top) + UNDER + NOTE
        sheet.text(_note(one), 4, bottom, colour=NULL)
        top = bottom + TITLE + ROOM
    return sheet.finish(bottom + 4)


def _set(sheet: Sheet, of: Allocation, by: str, top: Px) -> Px:
    """The panels of one set; gives their bottom in px."""
    layers = sorted({part.layer for part in of.parts} - {NONE})
    outside = [part for part in of.parts if part.layer == NONE]
    height = ROW * max(len(layers), len(outside))
    count = len(BLOCKS[by])
    wide = (700 - LEFT - GAP * count - OUTSIDE_LABELS - RIGHT) / (count + 1.6)
    ends = _ends(of)
    for column, component in enumerate(BLOCKS[by]):
        box = Box(LEFT + column * (wide + GAP), top, wide, height)
        y = {"tickvals": layers, "ticktext": [str(at) for at in layers] if column == 0 else [""] * len(layers)}
        y |= {"title": {"text": "layer" if column == 0 else ""}, "range": [len(layers) - 0.5, -0.5], "ticks": ""}
        words = component_words(component) if by == "component" else {ATTENTION: "attention", MLP: "MLP"}[component]
        panel = sheet.panel(box, words, x=_axis(ends, column == count // 2, wide), y=y, grid=False)
        _bars(panel, of, [WeightPart(layer, component) for layer in layers])
    box = Box(LEFT + count * (wide + GAP) + OUTSIDE_LABELS - GAP, top, 1.6 * wide, height)
    names = [WORDS.get(part.component) or component_words(part.component) for part in outside]
    y = {"tickvals": list(range(len(outside))), "ticktext": names, "range": [len(outside) - 0.5, -0.5], "ticks": ""}
    whole = _ends(of, of.parts)
    panel = sheet.panel(box, "outside, and all", x=_axis(whole, False, 1.6 * wide), y=y, grid=False)
    _bars(panel, of, outside)
    return top + height


def _note(of: Allocation) -> str:
    """Which set and steps, how much of the change the parts miss, and what intervals are over."""
    over = f"95% intervals over {of.seeds} seeds" if of.seeds > 1 else "one seed"
    return (
        f"{plain(of.name)}, steps {of.since} to {of.step}; all parts miss {np.max(of.error):.1%} of the change; {over}"
    )


def _ends(of: Allocation, parts: "tuple[WeightPart, ...] | None" = None) -> tuple[float, float]:
    """From the smallest to the largest end of all bars, of blocks if no parts are named."""
    chosen = [at for at, part in enumerate(of.parts) if parts is not None or part.layer != NONE]
    own, null, _ = intervals(of)
    both = np.concatenate([
        end[: len(EXPOSURES), chosen].ravel() for one in (own, null) for end in (one.estimate, one.low, one.high)
    ])  # fmt: skip
    low, high = min(0.0, float(np.nanmin(both))), max(0.0, float(np.nanmax(both)))
    room = 0.08 * (high - low or 1.0)
    return low - room, high + room


def _axis(ends: tuple[float, float], titled: bool, wide: Px) -> dict[str, Any]:
    look: dict[str, Any] = {"range": list(ends), "zeroline": True, "zerolinecolor": NULL, "zerolinewidth": 1}
    step = _step((ends[1] - ends[0]) * ROOM_OF_LABEL / wide)
    look["tickvals"] = [step * at for at in range(int(np.ceil(ends[0] / step)), int(ends[1] // step) + 1)]
    return look | {"title": {"text": "change of the set's NLL (nats per token)" if titled else ""}}


def _step(least: float) -> float:
    """The smallest round number of at least this: 1, 2 or 5 of some decade."""
    decade = 10.0 ** np.floor(np.log10(least))
    return float(next(decade * digit for digit in (1, 2, 5, 10) if decade * digit >= least * (1 - 1e-9)))


def _bars(panel: Panel, of: Allocation, parts: list[WeightPart]) -> None:
    """Per part a bar for each kind of steps, and under it held-out text's."""
    import plotly.graph_objects as go

    chosen = [of.parts.index(part) for part in parts]
    own, null, _ = intervals(of)
    rows = np.arange(len(parts), dtype=float)
    for at, exposure in enumerate(EXPOSURES):
        colour, words = LOOKS[exposure]
        group = Group(of.name, plain(of.name), colour, "square", of.rows, of.clusters[of.rows])
        for interval, what, fill, wide, aside in (
            (own[at, chosen], "mean", colour, BAR, -0.08), (null[at, chosen], "null", NULL, NULL_BAR, 0.11),
        ):  # fmt: skip
            if np.isnan(interval.estimate).all():
                continue
            _bar(panel, go, interval, rows + PLACES[exposure] + aside, group, what, fill, wide, words)


def _bar(
    panel: Panel,
    go: Any,
    interval: Interval,
    y: np.ndarray,
    group: Group,
    what: str,
    fill: str,
    wide: float,
    words: str,
) -> None:
    """The bars of one kind with their intervals."""
    ends = {"error_x": whiskers(interval, "#222222")} if np.isfinite(interval.low).any() else {}
    name = words if what == "mean" else "held-out text at the same steps"
    bar = go.Bar(
        x=interval.estimate, y=y, width=wide, orientation="h", marker={"color": fill, "line": {"width": 0}}, name=name,
        showlegend=what == "mean" and panel.sheet.first(words), legendgroup=name, hovertemplate="%{x:.3g}<extra>" + name + "</extra>",
        **ends,
    )  # fmt: skip
    panel.add(bar, what, group)
    if what == "null":
        panel.sheet.null_key(name, {"mode": "markers", "marker": {"symbol": "square", "size": 8, "color": NULL}})
    else:
        mark_rough(panel, interval.high, y, interval, group, upright=True)


KIND = TrainingFigureKind(
    "loss_change",
    title="Which weights took texts in",
    caption="Loss change allocation: what the steps of the training changed in the mean NLL of planted paragraphs (nats per token) by "
    "moving each component's weights, apart for steps that show some of them and for other steps. Left of zero they are taken in, right "
    "of it they are let go. Grey: held-out paragraphs at the same steps; what a bar has beyond it is memory. Whiskers are 95% intervals "
    "over seeds (Student's t); with one seed there are none.",
    function=loss_change,
    there=lambda signature: all(name in signature for name in VARIABLES),
)
