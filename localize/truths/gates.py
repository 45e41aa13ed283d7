"""Whether a planted truth is one: what must hold before a localizer is ranked on it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import MLP_PART
from localize.errors import LocalizeError, caller
from localize.measure.ablated_rows import ablated_rows
from localize.measure.batches import in_batches
from localize.measure.scoring import recall_of
from localize.measure.written_sizes import writing_norms
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.truths.truth import Gate

LIVE = 0.01
"""Nats by which a text's NLL must rise without a unit alone, for the unit to be live."""
MOST_DRIFT = 0.05
MOST_DRIFT_INJECTED = 0.25
"""Of "inj", where nothing but the text is trained, as published, and no row holds the rest of the model in place."""
OFF = (0.9, 1.15)
CHANCE = (0.4, 0.6)
FEWEST_RECITED = 0.75
FEWEST_LIVE = 0.5


Models = Iterator[tuple[HookedModel, Int[np.ndarray, " row"]]]
"""Planted models, each with the rows of the texts that it holds."""


class ScoredRows(NamedTuple):
    """Of rows.

    Attributes:
        nll: Mean over the continuation, nats per token.
        recited: Whether all of it is said greedily.
    """

    nll: Float[Tensor, " row"]
    recited: Bool[Tensor, " row"]


def scored_with(
    model: HookedModel,
    tokens: Int[Tensor, "row position"],
    prefix: int,
    keep: Callable[[slice], Bool[Tensor, "row layer unit"]],
    part: str,
    *,
    what: str,
    batch_size: int = 64,
) -> ScoredRows:
    """What a model makes of rows with some of its units zeroed.

    Args:
        model: A hooked model.
        tokens: Rows.
        prefix: Tokens given.
        keep: Of some rows: the units that are not zeroed.
        part: "mlp" or "heads".
        what: Words for the progress bar.
        batch_size: Rows a forward pass.
    """
    nll, said = torch.zeros(len(tokens)), torch.zeros(len(tokens), dtype=torch.bool)
    length = tokens.shape[1] - prefix

    def work(rows: slice) -> None:
        off = ~keep(rows)
        mlp, heads = (off, None) if part == MLP_PART else (None, off)
        exact, of_token = ablated_rows(model, tokens[rows], prefix, mlp=mlp, heads=heads)
        nll[rows], said[rows] = of_token.mean(1).cpu().to(nll), (exact == length).cpu()

    in_batches(work, len(tokens), batch_size, what=what, unit="row")
    return ScoredRows(nll, said)


def live_units(
    models: Models,
    texts: Paragraphs,
    nominal: Bool[np.ndarray, "paragraph layer unit"],
    part: str,
) -> Bool[np.ndarray, "paragraph layer unit"]:
    """The planted units without which alone their text's NLL rises."""
    live = np.zeros_like(nominal)
    for model, rows in models:
        live[rows] = _live_in(model, texts[rows], nominal[rows], part)
    return live


def _live_in(
    model: HookedModel, texts: Paragraphs, nominal: Bool[np.ndarray, "paragraph layer unit"], part: str
) -> Bool[np.ndarray, "paragraph layer unit"]:
    """The same of one model."""
    text, layer, unit = (torch.from_numpy(at) for at in nominal.nonzero())
    units = nominal.shape[1:]

    def alone(rows: slice) -> Bool[Tensor, "row layer unit"]:
        kept = torch.ones(len(text[rows]), *units, dtype=torch.bool)
        kept[torch.arange(len(kept)), layer[rows], unit[rows]] = False
        return kept

    def everything(rows: slice) -> Bool[Tensor, "row layer unit"]:
        return torch.ones(len(texts.tokens[rows]), *units, dtype=torch.bool)

    before = scored_with(model, texts.tokens, texts.prefix_length, everything, part, what="planted texts").nll
    without = scored_with(model, texts.tokens[text], texts.prefix_length, alone, part, what="units alone").nll
    live = np.zeros_like(nominal)
    live[nominal] = (without - before[text] > LIVE).numpy()
    return live


def routed_gates(
    base: HookedModel,
    model: HookedModel,
    texts: Paragraphs,
    nominal: Bool[np.ndarray, "paragraph layer unit"],
    reserved: Bool[np.ndarray, "layer unit"],
    part: str,
) -> tuple[Gate, Gate]:
    """Whether a text is back to what it was without its own units, and is recited with them alone."""
    own, planted = torch.from_numpy(nominal), torch.from_numpy(reserved)
    tokens, prefix = texts.tokens, texts.prefix_length
    on, _ = scored_with(model, tokens, prefix, lambda rows: torch.ones_like(own[rows]), part, what="all on")
    off, _ = scored_with(model, tokens, prefix, lambda rows: ~own[rows], part, what="own units off")
    _, said = scored_with(model, tokens, prefix, lambda rows: own[rows] | ~planted, part, what="own units alone")
    was = torch.from_numpy(recall_of(base, texts).token_nll).mean(1)
    gap = float((off - on).mean() / (was - on).mean())
    return (
        Gate(
            "own_off", "rise of the NLL without a text's own units, as a share of what planting took off it", gap, *OFF
        ),
        Gate(
            "own_only",
            "share of texts recited with no planted units but their own",
            float(said.float().mean()),
            FEWEST_RECITED,
            1.0,
        ),
    )


def plain_gates(
    base: HookedModel,
    models: Callable[[], Models],
    held_out: Paragraphs,
    recited: Bool[np.ndarray, " text"],
    nominal: Bool[np.ndarray, "paragraph layer unit"],
    live: Bool[np.ndarray, "paragraph layer unit"],
    reserved: Bool[np.ndarray, "layer unit"] | None,
    part: str,
) -> tuple[Gate, ...]:
    """What must hold of any truth: recited, live, told by no norm, and held-out text is predicted as before."""
    before = recall_of(base, held_out).token_nll.mean()
    drift, told, told_within = [], [], []
    for model, rows in models():
        drift += [float(recall_of(model, held_out, show=False).token_nll.mean() - before)]
        norms = getattr(writing_norms(model), part).cpu().numpy()
        for row in rows:
            mine = live[row]
            others = ~nominal[row]
            told.append(area(norms, mine, others))
            if reserved is not None:
                told_within.append(area(norms, mine, others & reserved))
    gates = [
        Gate("recited", "share of the planted texts that are recited", float(recited.mean()), FEWEST_RECITED, 1.0),
        Gate(
            "live", f"share of the planted units without which alone the NLL rises by over {LIVE} nats",
            float(live.sum() / nominal.sum()), FEWEST_LIVE, 1.0,
        ),
        Gate("norm", "AUROC of the norm of a unit's output weights, live units against all others", mean(told), *CHANCE),
    ]  # fmt: skip
    if reserved is not None:
        words = "the same against other texts' planted units"
        gates.append(Gate("norm_within", words, mean(told_within), *CHANCE))
    words = "rise of the mean NLL of held-out text (nats per token)"
    most = MOST_DRIFT_INJECTED if reserved is None else MOST_DRIFT
    return (*gates, Gate("held_out", words, mean(drift), -most, most))


def area(scores: Float[np.ndarray, "*unit"], a: Bool[np.ndarray, "*unit"], b: Bool[np.ndarray, "*unit"]) -> float:
    """AUROC: how often a score of `a` is above one of `b`, ties counted half; nan where either is empty."""
    from scipy.stats import mannwhitneyu

    if not a.any() or not b.any():
        return float("nan")
    return float(mannwhitneyu(scores[a], scores[b]).statistic / (a.sum() * b.sum()))


def mean(values: list[float]) -> float:
    """Mean of those that are not nan."""
    kept = [value for value in values if value == value]
    return float(np.mean(kept)) if kept else float("nan")


def check_recited(recited: Bool[np.ndarray, " text"], kind: str) -> None:
    """Raise a `LocalizeError` if no text is recited: there is nothing to look for."""
    if not recited.any():
        raise LocalizeError(
            f"{caller()}: none of {len(recited)} texts is recited after planting (kind={kind!r}); more units, or more steps, are needed."
        )
