"""What one replaced prefix token does: lost exact match, raised NLL, and how few positions do it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.effects import effect_of, one_kind, put_only
from localize.errors import public
from localize.plots.figures.perturbed_paragraph import CHANGES, draw_paragraph
from localize.plots.groups import Group, change_range, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureAsked, FigureKind, paragraph_asked
from localize.plots.series import whiskers
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import axis_words, plain, variable_words
from localize.signature.schema import range_of
from localize.statistics import cumulated_share
from localize.statistics.ranges import Range

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = ("unperturbed_exact_match", "perturbed_exact_match", "unperturbed_nll", "perturbed_nll")
MEASUREMENT = "localize.perturb_prefix(model, paragraphs)"
PERMUTED, ALIKE = "positions permuted", "kinds alike"
LEFT, PANEL_WIDTH, STEP = 44, 176, 236
KIND_WORDS = {
    "uniform": "any token",
    "frequency": "as frequent",
    "second_choice": "second choice",
    "neutral": "common token",
}
"""What is put in the place of a token, short enough for the note over a panel."""


@public("plots.perturbation")
def perturbation(
    signature: "MemorizationSignature",
    *,
    kind: str | None = None,
    paragraph: int | str | None = None,
    tokenizer: Any = None,
    seed: int = 0,
) -> "go.Figure":
    """Effect of replacing one prefix token, against its position, a line per group; and how concentrated it is.

    Lost exact match and raised NLL: draws averaged, then paragraphs, with 95 % bands by bootstrap over clusters.
    Dashed: the group's mean over positions, which is what permuting positions gives. Concentration: the share of
    the NLL rise in the k positions with most of it, chosen on every second draw and scored on the others,
    both ways averaged, so that noise gives the diagonal (dashed); not of the lost exact match, which ends at the first wrong token, so
    that its shares follow from how easily a text is lost (`signature.concentration`). With a single draw, choosing and scoring share
    it, noise rises above the diagonal, and the panel says so. Below stands how often each token of the continuation is wrong. Of
    several kinds of replacement one is drawn, and
    beside the tokens what each of them costs on average, with their mean (dashed).

    Of one paragraph: lost exact match and raised NLL at each of its tokens, every draw a thin line, and their mean; behind it
    its group's mean with the band; dashed: its own mean over positions. The most changed token is bold.

    Args:
        signature: Holds `localize.perturb_prefix`.
        kind: Of replacement: "uniform", "frequency", "second_choice" or "neutral"; None is the first measured.
        paragraph: Draw this one, by number or id, instead of the groups.
        tokenizer: Of transformers or tokenizers, or a model with one, for the tokens of one paragraph; None shows token ids.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the perturbation, or this kind of it, or there is no such paragraph.

    Source:
        Stoehr et al. 2024, section 6; draws, kinds, intervals, nulls and concentration are ours.
    """
    if paragraph is not None:
        require(signature, VARIABLES, MEASUREMENT)
        dataset = one_kind(signature.dataset, kind)
        return draw_paragraph(signature, dataset, paragraph, tokenizer, put_words(signature, dataset), seed)
    sheet = Sheet()
    return sheet.finish(draw_perturbation(signature, sheet, 0, kind=kind, seed=seed))


def draw_perturbation(
    signature: "MemorizationSignature",
    sheet: Sheet,
    top: Px,
    *,
    seed: int,
    kind: str | None = None,
    compact: bool = False,
) -> Px:
    """Draw on a sheet from `top` px downwards; gives the bottom in px."""
    require(signature, VARIABLES, MEASUREMENT)
    dataset, groups = one_kind(signature.dataset, kind), groups_of(signature)
    own = continuation_words(signature, "perturbed_exact_match")
    height = 126 if compact else 170
    boxes = [Box(LEFT + column * STEP, top + TITLE + NOTE, PANEL_WIDTH, height) for column in range(3)]
    what = put_words(signature, dataset)
    for box, (name, title, words, sign) in zip(boxes, CHANGES, strict=False):
        x = {"title": {"text": axis_words("prefix_position")}, "nticks": 6}
        y = {"title": {"text": variable_words(f"perturbed_{name}", words)}, "rangemode": "tozero"}
        panel = sheet.panel(box, f"{title}, {own}", f"{what}dashed: {PERMUTED}", x=x, y=y)
        possible = change_range(dataset, name, sign)
        _against_position(panel, groups, sign * rise(dataset, name), dataset["prefix_position"].values, seed, possible)
    _concentration(sheet, boxes[2], groups, dataset, own, seed)
    if compact or "perturbed_token_error" not in signature:
        return boxes[0].bottom + 38
    _below(sheet, boxes[0].bottom + 52 + TITLE + NOTE, signature, dataset, groups, seed)
    return boxes[0].bottom + 52 + TITLE + NOTE + LOW + 38


LOW = 120
"""Height in px of the panels below."""


def put_words(signature: "MemorizationSignature", dataset: "xr.Dataset") -> str:
    """ "second choice; spans of 3; ", or nothing for what is usual: one token by any other."""
    kind = str(dataset["kind"].item())
    calls = [call for call in signature.dataset.attrs["calls"] if call.get("measurement") == "perturb_prefix"]
    span = int(calls[-1].get("span", 1)) if calls else 1
    told = [] if kind == "uniform" else [KIND_WORDS.get(kind, plain(kind))]
    return "".join(f"{words}; " for words in [*told, *([f"spans of {span}"] if span > 1 else [])])


def rise(dataset: "xr.Dataset", name: str) -> Float[np.ndarray, "paragraph prefix_position"]:
    """`name` after replacing a token less before, draws averaged; nan where nothing was put."""
    change = dataset[f"perturbed_{name}"].mean("draw") - dataset[f"unperturbed_{name}"]
    return change.transpose("paragraph", "prefix_position").values.astype(np.float64)


def _against_position(
    panel: Panel,
    groups: list[Group],
    change: Float[np.ndarray, "paragraph position"],
    positions: np.ndarray,
    seed: int,
    possible: Range,
) -> None:
    for group in groups:
        interval = group.interval(change, seed, possible)
        level = float(np.nanmean(interval.estimate)) if np.isfinite(interval.estimate).any() else np.nan
        panel.null_line([positions[0], positions[-1]], [level, level], PERMUTED, group)
        panel.curve(positions, interval, group)


def _below(
    sheet: Sheet, top: Px, signature: "MemorizationSignature", dataset: "xr.Dataset", groups: list[Group], seed: int
) -> None:
    """How often each token of the continuation is wrong; beside it, of several kinds, what each costs."""
    kinds = [str(name) for name in signature.dataset["kind"].values]
    wide = Box(LEFT, top, PANEL_WIDTH + STEP * (1 if len(kinds) > 1 else 2), LOW)
    own = continuation_words(signature, "perturbed_token_error")
    x = {"title": {"text": axis_words("continuation_position")}, "nticks": 12}
    y = {"title": {"text": variable_words("perturbed_token_error", "tokens wrong")}, "rangemode": "tozero"}
    title = f"Tokens wrong after a replacement, {own}"
    panel = sheet.panel(wide, title, f"{put_words(signature, dataset)}dashed: {PERMUTED}", x=x, y=y)
    wrong = dataset["perturbed_token_error"].transpose("paragraph", "continuation_position")
    _against_position(
        panel,
        groups,
        wrong.values.astype(np.float64),
        dataset["continuation_position"].values,
        seed,
        range_of(dataset, "perturbed_token_error"),
    )
    if len(kinds) > 1:
        _kinds(sheet, Box(LEFT + 2 * STEP, top, PANEL_WIDTH, LOW), signature, kinds, groups, seed)


def _kinds(
    sheet: Sheet, box: Box, signature: "MemorizationSignature", kinds: list[str], groups: list[Group], seed: int
) -> None:
    """The lost exact match of each kind of replacement, averaged over the positions where something was put."""
    import plotly.graph_objects as go

    dataset = signature.dataset
    change = dataset["unperturbed_exact_match"] - dataset["perturbed_exact_match"].mean(["draw", "prefix_position"])
    at = np.arange(len(kinds))
    words = [KIND_WORDS.get(kind, plain(kind)).replace(" ", "<br>") for kind in kinds]
    x = {"tickvals": at, "ticktext": words, "range": [-0.5, len(kinds) - 0.5]}
    y = {"title": {"text": variable_words("perturbed_exact_match", "lost exact match")}, "rangemode": "tozero"}
    panel = sheet.panel(box, "Lost by kind of replacement", f"dashed: {ALIKE}", x=x, y=y)
    for place, group in enumerate(groups):
        lost = change.transpose("paragraph", "kind").values.astype(np.float64)
        interval = group.interval(lost, seed, change_range(dataset, "exact_match", -1.0))
        aside = 0.16 * (place - (len(groups) - 1) / 2)
        panel.null_line([-0.5, len(kinds) - 0.5], [float(np.mean(interval.estimate))] * 2, ALIKE, group)
        marker = {"color": group.colour, "symbol": group.symbol, "size": 6}
        points = go.Scatter(
            x=at + aside, y=interval.estimate, mode="markers", marker=marker, error_y=whiskers(interval, group.colour),
            name=group.words, showlegend=False,
        )  # fmt: skip
        panel.add(points, "mean", group)


def concentration(drop: Float[np.ndarray, "paragraph draw position"]) -> Float[np.ndarray, "paragraph count"]:
    """Per cent of the loss in the k positions that lose most, for k = 0 .. all; nan where nothing is lost.

    Chosen on every second draw, scored on the others, and the other way round. Positions that tie in the choosing draws
    share what they score, so that their order in the prefix plays no part. A single draw chooses and scores itself.
    """
    twice = np.repeat(drop, 2, axis=1) if drop.shape[1] == 1 else drop
    halves = twice[:, ::2].mean(1), twice[:, 1::2].mean(1)
    return 50 * (cumulated_share(*halves) + cumulated_share(*halves[::-1]))


def _concentration(sheet: Sheet, box: Box, groups: list[Group], dataset: "xr.Dataset", own: str, seed: int) -> None:
    drop = put_only(effect_of(dataset, "nll").clip(min=0))
    single = drop.shape[1] == 1
    shares, count = concentration(drop), np.arange(drop.shape[2] + 1)
    note = "one draw chooses and scores: biased up" if single else f"dashed: {PERMUTED}"
    x = {"title": {"text": "positions, largest rise first (tokens)"}, "nticks": 6}
    y = {"title": {"text": "share of the NLL rise (%)"}, "range": [0, 103]}
    panel = sheet.panel(box, f"Concentration, {own}", note, x=x, y=y)
    panel.null_line([0, count[-1]], [0, 100], PERMUTED)
    for group in groups:
        if np.isfinite(shares[group.rows]).any():
            panel.curve(count, group.interval(shares, seed), group)


@public("plots.perturb_prefix_paragraph")
def perturb_prefix_paragraph(
    signature: "MemorizationSignature",
    paragraph: int | str = 0,
    *,
    kind: str | None = None,
    tokenizer: Any = None,
    seed: int = 0,
) -> "go.Figure":
    """What `perturbation` draws of one paragraph.

    Args:
        signature: Holds `localize.perturb_prefix`.
        paragraph: Its number or id.
        kind: Of replacement: "uniform", "frequency", "second_choice" or "neutral"; None is the first measured.
        tokenizer: Of transformers or tokenizers, or a model with one; None shows token ids.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the perturbation, or this kind of it, or there is no such paragraph.
    """
    return perturbation(signature, kind=kind, paragraph=paragraph, tokenizer=tokenizer, seed=seed)


def _of_one_paragraph(signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
    chosen = paragraph_asked(signature, asked)
    return {"": perturb_prefix_paragraph(signature, chosen, tokenizer=asked.tokenizer, seed=asked.seed)}


KIND = FigureKind(
    "perturb_prefix",
    needs=tuple((name,) for name in VARIABLES),
    title="What one replaced prefix token does",
    caption="Exact match lost and NLL raised by replacing the prefix token at each position, and the share of the NLL rise in the "
    "positions with most of it, chosen on other draws than those shown; below, how often each token of the continuation is wrong. Dashed: "
    f"positions permuted. {BANDS}",
    function=perturbation,
    also=("perturbed_token_error",),
)

KIND_OF_ONE_PARAGRAPH = FigureKind(
    "perturb_prefix_paragraph",
    needs=tuple((name,) for name in VARIABLES),
    title="What each prefix token of one paragraph does",
    caption="Exact match lost and NLL raised by replacing each prefix token of one paragraph: every random draw a thin line, their mean "
    "a thick one, the most changed token in bold. Dashed: its mean over positions, which permuting them gives; grey: the mean "
    "of its group with its 95% interval by bootstrap over clusters.",
    function=perturb_prefix_paragraph,
    make=_of_one_paragraph,
)
