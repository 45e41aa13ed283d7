"""One paragraph's perturbation, position by position: every draw, their mean, and its group's."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.plots.groups import Group, change_range, continuation_words, groups_of
from localize.plots.paragraph import loss_variable, measured_tokens, row_of
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import NULL, WIDTH, plain, see_through, variable_words
from localize.plots.token_axis import changed_position, token_axis
from localize.plots.token_text import token_texts
from localize.statistics.ranges import Range

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

LEFT, RIGHT, HEIGHT, BETWEEN = 44, 8, 120, 14
CHANGES = (("exact_match", "Lost exact match", "lost exact match", -1.0), ("nll", "Raised NLL", "NLL rise", 1.0))
"""Variable, title, words and sign of what a replacement does."""

DRAW, GROUP_MEAN = "one draw", "mean of its group (95%)"


def draw_paragraph(
    signature: "MemorizationSignature", dataset: "xr.Dataset", paragraph: int | str, tokenizer: Any, put: str, seed: int
) -> "go.Figure":
    """The figure of one paragraph; `dataset` is of one kind of replacement, `put` tells which."""
    row = row_of(dataset, paragraph)
    prefix = dataset.sizes["prefix_position"]
    texts = token_texts(measured_tokens(signature.dataset, row, loss_variable(dataset))[:prefix].tolist(), tokenizer)
    group = next(g for g in groups_of(signature) if g.rows[row])
    own, name = continuation_words(signature, "perturbed_exact_match"), plain(str(dataset["paragraph"].values[row]))
    x, below = token_axis(texts, WIDTH - LEFT - RIGHT, changed_position(dataset, row))
    sheet, top = Sheet(), TITLE + NOTE
    for number, (quantity, title, words, sign) in enumerate(CHANGES):
        last = number == len(CHANGES) - 1
        box = Box(LEFT, top, WIDTH - LEFT - RIGHT, HEIGHT)
        hidden = x | {"title": {"text": None}, "ticktext": [""] * len(x["ticktext"])}
        y = {"title": {"text": variable_words(f"perturbed_{quantity}", words)}, "rangemode": "tozero"}
        note = f"{put}dashed: {POSITIONS}; grey: {GROUP_MEAN}"
        panel = sheet.panel(box, f"{title}, {own}: {name}, {group.words}", note, x=x if last else hidden, y=y)
        after = dataset[f"perturbed_{quantity}"].transpose("paragraph", "draw", "prefix_position").values
        before = dataset[f"unperturbed_{quantity}"].values.astype(np.float64)
        _lines(panel, group, sign * (after - before[:, None, None]), row, seed, change_range(dataset, quantity, sign))
        top = box.bottom + BETWEEN + TITLE + NOTE
    return sheet.finish(top - BETWEEN - TITLE - NOTE + below + 6)


POSITIONS = "positions permuted"


def _lines(
    panel: Panel,
    group: Group,
    change: Float[np.ndarray, "paragraph draw position"],
    row: int,
    seed: int,
    possible: Range,
) -> None:
    """The group behind, then the draws, then their mean, with the mean over positions."""
    import plotly.graph_objects as go

    count = np.isfinite(change).sum(1)
    means = np.where(count > 0, np.nansum(change, axis=1) / np.maximum(count, 1), np.nan)
    at, interval = np.arange(change.shape[2]), group.interval(means, seed, possible)
    fill = {"name": GROUP_MEAN, "fillcolor": see_through(NULL, 0.22)}
    panel.band(at, interval.low, interval.high, "interval", group, interval.rough, **fill)
    shown, sheet = {"hoverinfo": "skip"}, panel.sheet
    panel.add(
        go.Scatter(x=at, y=interval.estimate, mode="lines", line={"color": NULL, "width": 1}, name=GROUP_MEAN,
                   showlegend=sheet.first(GROUP_MEAN), legendgroup=GROUP_MEAN, **shown), "context", group,
    )  # fmt: skip
    for number, values in enumerate(change[row]):
        thin = {"color": see_through(group.colour, 0.4), "width": 0.8}
        line = go.Scatter(x=at, y=values, mode="lines+markers", marker={"size": 2.5}, line=thin, name=DRAW,
                          showlegend=sheet.first(DRAW), legendgroup=DRAW,
                          hovertemplate=f"draw {number}, token %{{x}}: %{{y:.3g}}<extra></extra>")  # fmt: skip
        panel.add(line, "draw", group)
    own = means[row]
    level = float(np.nanmean(own)) if np.isfinite(own).any() else float("nan")
    panel.null_line([-0.5, len(at) - 0.5], [level, level], POSITIONS, group)
    thick = {"color": group.colour, "width": 1.8}
    words = f"mean of its {change.shape[1]} draws" if change.shape[1] > 1 else "its draw"
    line = go.Scatter(x=at, y=own, mode="lines+markers", marker={"size": 4, "symbol": group.symbol}, line=thick, name=words,
                      showlegend=sheet.first("mean"), hovertemplate="token %{x}: %{y:.3g}<extra></extra>")  # fmt: skip
    panel.add(line.update(legendgroup=words), "mean", group)
