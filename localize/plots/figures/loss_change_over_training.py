"""Which parts of the weights take a text in and let it go, step by step: the sums of loss change allocation so far."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.loss_change import ATTENTION, BOTH, MLP, NONE, VARIABLES, Allocation, allocations
from localize.axes import EXPOSURES
from localize.errors import LocalizeError, SignatureError, caller, public
from localize.plots.figures.loss_change import BLOCKS, LOOKS, WORDS
from localize.plots.groups import Group
from localize.plots.kinds import TrainingFigureKind
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, Px, axis_words, component_words, plain
from localize.statistics.seeds import seed_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

COLUMNS = 4
LEFT, STEP, WIDE, HEIGHT, ROOM, UNDER = 60, 166, 116, 104, 44, 40

LINES = {**LOOKS, BOTH: ("#000000", "all steps")}
"""Colour and words of each kind of steps."""

NULL_WORDS = "held-out text at the same steps"


@public("plots.loss_change_over_training")
def loss_change_over_training(
    signature: "MemorizationSignature", *, layer: int | None = None, by: str = "block", seed: int = 0
) -> "go.Figure":
    """What each part of the weights changed in a set's NLL so far, by training step: in steps that show it, in others, and in all.

    A line that falls takes the set in, one that rises lets it go. Dashed, in the same colour: the same of held-out text at the same
    steps; what a line has beyond it is memory. Panels have scales of their own. The numbers are those of `localize.loss_change_table`
    at each step, summed over layers.

    Args:
        signature: As `localize.loss_change_table` takes it, measured at several steps of a training.
        layer: The layer that is drawn; None for all of them together, and what lies outside.
        by: "block" for attention and MLP, or "component".
        seed: Of nothing: there are no draws.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.loss_change_table` raises it, or if it is of one step alone.
        LocalizeError: If `by` is another word, or there is no such layer.
    """
    if by not in BLOCKS:
        raise LocalizeError(f"{caller()}: by={by!r} is not one of {', '.join(BLOCKS)}.")
    by_step = _by_step(signature, by)
    last = by_step[-1]
    layers = sorted({part.layer for part in last[0].parts} - {NONE})
    if layer is not None and layer not in layers:
        raise LocalizeError(f"{caller()}: layer={layer!r} is not one of 0..{layers[-1]}.")
    drawn = [at for at, one in enumerate(last) if np.nan_to_num(one.own[:, 0]).any()] or list(range(len(last)))
    sheet, top, bottom = Sheet(), TITLE, 0
    for at in drawn:
        bottom = _set(sheet, [found[at] for found in by_step], layer, top)
        top = bottom + TITLE + ROOM / 2
    return sheet.finish(bottom + 4)


def _by_step(signature: "MemorizationSignature", by: str) -> list[list[Allocation]]:
    """The sums so far of each set, at every step that was measured."""
    found = allocations(signature, -1, None, by)  # which tells what is wrong with the signature
    steps = np.atleast_1d(signature.dataset["training_step"].values) if "training_step" in signature.dataset else []
    if len(steps) < 2:
        raise SignatureError(f"{caller()}: the signature is of one step alone; several steps of a training are needed.")
    return [*(allocations(signature, int(step), None, by) for step in steps[:-1]), found]


def _set(sheet: Sheet, by_step: list[Allocation], layer: int | None, top: Px) -> Px:
    """The panels of one set, and the line that tells of it; gives their bottom in px."""
    last, bottom = by_step[-1], top
    steps = np.array([one.step for one in by_step])
    panels = _panels(last, layer)
    for number, (words, chosen) in enumerate(panels.items()):
        left, row = LEFT + number % COLUMNS * STEP, number // COLUMNS
        box = Box(left, top + row * (HEIGHT + ROOM), WIDE, HEIGHT)
        lowest = number + COLUMNS >= len(panels)
        x: dict[str, Any] = {"nticks": 4} | ({"title": {"text": axis_words("training_step")}} if lowest else {})
        y: dict[str, Any] = {"nticks": 5, "zeroline": True, "zerolinecolor": NULL, "zerolinewidth": 1}
        if number % COLUMNS == 0:
            y["title"] = {"text": "nats per token"}
        panel = sheet.panel(box, words, x=x, y=y)
        own, null = (
            np.stack([getattr(one, name)[..., chosen].sum(-1) for one in by_step], 1) for name in ("own", "null")
        )
        _lines(panel, last, steps, own, null)
        bottom = box.bottom
    sheet.text(_note(last, layer), 4, bottom + UNDER + NOTE, colour=NULL)
    return bottom + UNDER + NOTE


def _panels(of: Allocation, layer: int | None) -> dict[str, list[int]]:
    """Titles, each with the places of the parts that are summed there."""
    found: dict[str, list[int]] = {}
    for at, part in enumerate(of.parts):
        if layer is not None and part.layer != layer:
            continue
        words = {ATTENTION: "attention", MLP: "MLP"} | WORDS
        found.setdefault(words.get(part.component) or component_words(part.component), []).append(at)
    return found


def _lines(
    panel: Panel,
    of: Allocation,
    steps: np.ndarray,
    own: Float[np.ndarray, "seed step exposure_or_both"],
    null: Float[np.ndarray, "seed step exposure_or_both"],
) -> None:
    """A line with its band for each kind of steps; dashed, held-out text's."""
    import plotly.graph_objects as go

    for at, exposure in enumerate((*EXPOSURES, BOTH)):
        colour, words = LINES[exposure]
        group = Group(words, words, colour, "circle", of.rows, of.clusters[of.rows])
        if np.isfinite(null[..., at]).any():
            panel.null_line(steps, null[..., at].mean(0), NULL_WORDS, group)
        if not np.isfinite(own[..., at]).any():
            continue
        interval = seed_interval(own[..., at])
        rough = np.asarray(interval.rough) & (own[..., at] != 0).any(
            0
        )  # before anything was changed there is nothing to judge
        panel.band(steps, interval.low, interval.high, "interval", group, rough, name=f"{words}: 95% interval")
        trace = go.Scatter(
            x=steps, y=interval.estimate, mode="lines", line={"color": colour, "width": 1.5}, name=words,
            showlegend=panel.sheet.first(words),
        )  # fmt: skip
        panel.add(trace, "mean", group)


def _note(of: Allocation, layer: int | None) -> str:
    """Which set and layers, how much of the change the parts miss in the end, and what bands are over."""
    over = f"bands: 95% intervals over {of.seeds} seeds" if of.seeds > 1 else "one seed"
    where = "all layers together" if layer is None else f"layer {layer}"
    return f"Change of the NLL of {plain(of.name)} since step {of.since}, {where}; all parts miss {np.max(of.error):.1%} of it; {over}"


def _there(signature: "MemorizationSignature") -> bool:
    return all(name in signature for name in VARIABLES) and signature.dataset.sizes.get("training_step", 1) > 2


KIND = TrainingFigureKind(
    "loss_change_over_training",
    title="When weights took texts in, and let them go",
    caption="Loss change allocation up to each step of the training: what moving the weights of a part changed in the mean NLL of planted "
    "paragraphs (nats per token), in steps that show some of them, in other steps, and in all. Falling lines take them in, rising ones "
    "let them go. Dashed, in the same colour: held-out paragraphs at the same steps; what a line has beyond it is memory. Panels have "
    "scales of their own. Bands are 95% intervals over seeds (Student's t); with one seed there are none.",
    function=loss_change_over_training,
    there=_there,
)
