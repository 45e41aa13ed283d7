"""What one replaced prefix token does: lost exact match, raised NLL, and how few positions do it."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import axis_words, variable_words
from localize.signature.summary import exact_match_drop
from localize.statistics import cumulated_share

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = ("unperturbed_exact_match", "perturbed_exact_match", "unperturbed_nll", "perturbed_nll")
PERMUTED = "positions permuted"
LEFT, PANEL_WIDTH, STEP = 44, 176, 236


def perturbation(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """Effect of replacing one prefix token, against its position, a line per group; and how concentrated it is.

    Lost exact match and raised NLL: draws averaged, then paragraphs, with 95 % bands by bootstrap over clusters.
    Dashed: the group's mean over positions, which is what permuting positions gives. Concentration: the share of
    the lost exact match in the k positions with most of it, chosen on every second draw and scored on the others,
    both ways averaged, so that noise gives the diagonal (dashed). With a single draw, choosing and scoring share
    it, noise rises above the diagonal, and the panel says so.

    Args:
        signature: Holds `localize.perturb_prefix`.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the perturbation.

    Source:
        Stoehr et al. 2024, section 6; draws, intervals, nulls and concentration are ours.
    """
    sheet = Sheet()
    return sheet.finish(draw_perturbation(signature, sheet, 0, seed=seed))


def draw_perturbation(
    signature: "MemorizationSignature", sheet: Sheet, top: Px, *, seed: int, compact: bool = False
) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px."""
    require(signature, "plots.perturbation", VARIABLES, "localize.perturb_prefix(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    own = continuation_words(signature, "perturbed_exact_match")
    above, height = top + TITLE + NOTE, 126 if compact else 170
    boxes = [Box(LEFT + column * STEP, above, PANEL_WIDTH, height) for column in range(3)]
    kinds = (("exact_match", "Lost exact match", "lost exact match", -1.0), ("nll", "Raised NLL", "NLL rise", 1.0))
    for box, (kind, title, words, sign) in zip(boxes, kinds, strict=False):
        x = {"title": {"text": axis_words("prefix_position")}, "nticks": 6}
        y = {"title": {"text": variable_words(f"perturbed_{kind}", words)}, "rangemode": "tozero"}
        panel = sheet.panel(box, f"{title}, {own}", f"dashed: {PERMUTED}", x=x, y=y)
        _against_position(panel, groups, sign * rise(dataset, kind), dataset["prefix_position"].values, seed)
    _concentration(sheet, boxes[2], groups, dataset, own, seed)
    return boxes[0].bottom + 38


def rise(dataset: "xr.Dataset", kind: str) -> Float[np.ndarray, "paragraph prefix_position"]:
    """`kind` after replacing a token less before, draws averaged."""
    change = dataset[f"perturbed_{kind}"].mean("draw") - dataset[f"unperturbed_{kind}"]
    return change.transpose("paragraph", "prefix_position").values.astype(np.float64)


def _against_position(
    panel: Panel, groups: list[Group], change: Float[np.ndarray, "paragraph position"], positions: np.ndarray, seed: int
) -> None:
    for group in groups:
        interval = group.interval(change, seed)
        level = float(np.mean(interval.estimate))
        panel.null_line([positions[0], positions[-1]], [level, level], PERMUTED, group)
        panel.curve(positions, interval, group)


def concentration(drop: Float[np.ndarray, "paragraph draw position"]) -> Float[np.ndarray, "paragraph count"]:
    """Per cent of the loss in the k positions that lose most, for k = 0 .. all; nan where nothing is lost.

    Chosen on every second draw, scored on the others, and the other way round. Positions that tie in the choosing draws
    share what they score, so that their order in the prefix plays no part. A single draw chooses and scores itself.
    """
    twice = np.repeat(drop, 2, axis=1) if drop.shape[1] == 1 else drop
    halves = twice[:, ::2].mean(1), twice[:, 1::2].mean(1)
    return 50 * (cumulated_share(*halves) + cumulated_share(*halves[::-1]))


def _concentration(sheet: Sheet, box: Box, groups: list[Group], dataset: "xr.Dataset", own: str, seed: int) -> None:
    drop = exact_match_drop(dataset)
    single = drop.shape[1] == 1
    shares, count = concentration(drop), np.arange(drop.shape[2] + 1)
    note = "one draw chooses and scores: biased up" if single else f"dashed: {PERMUTED}"
    x = {"title": {"text": "positions, most lost first (tokens)"}, "nticks": 6}
    y = {"title": {"text": "share of the loss (%)"}, "range": [0, 103]}
    panel = sheet.panel(box, f"Concentration, {own}", note, x=x, y=y)
    panel.null_line([0, count[-1]], [0, 100], PERMUTED)
    for group in groups:
        if np.isfinite(shares[group.rows]).any():
            panel.curve(count, group.interval(shares, seed), group)
