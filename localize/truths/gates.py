"""Whether a planted truth is one: what must hold before a localizer is ranked on it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
from localize.truths.kinds import INJ
from localize.truths.truth import Gate, Truth

LIVE = 0.01
"""Nats by which a text's NLL must rise without a unit alone, for the unit to be live."""
MOST_DRIFT = 0.05
MOST_DRIFT_INJECTED = 0.15
"""Of "inj", whose units the model uses already: a text can only be written into them at some cost to the rest."""
OFF = (0.9, 1.15)
OFF_OF_EACH = (0.75, 1.5)
"""Of the text that is farthest off: a mean must not hide one that is recited without its units."""
CHANCE = (0.4, 0.6)
RECITED, FEWEST_RECITED = "recited", 0.75
FEWEST_LIVE = 0.5
"""Of the planted units; in a truth with far more units than the text needs, hardly any matters alone, and little is left to find."""


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


def live_units(truth: Truth) -> Bool[np.ndarray, "paragraph layer unit"]:
    """The planted units without which alone their text's NLL rises."""
    live = np.zeros_like(truth.nominal)
    for model, rows in truth.models():
        live[rows] = _live_in(model, truth.paragraphs[rows], truth.nominal[rows], truth.part)
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

    before = torch.from_numpy(recall_of(model, texts, show=False).token_nll).mean(1)
    without = scored_with(model, texts.tokens[text], texts.prefix_length, alone, part, what="units alone").nll
    live = np.zeros_like(nominal)
    live[nominal] = (without - before[text] > LIVE).numpy()
    return live


def recited_alone(
    model: HookedModel,
    texts: Paragraphs,
    nominal: Bool[np.ndarray, "paragraph layer unit"],
    reserved: Bool[np.ndarray, "layer unit"],
    part: str,
) -> Bool[np.ndarray, " text"]:
    """Whether a model recites each text with no planted units but the text's own."""
    own, planted = torch.from_numpy(nominal), torch.from_numpy(reserved)
    tokens, prefix = texts.tokens, texts.prefix_length
    return scored_with(
        model, tokens, prefix, lambda rows: own[rows] | ~planted, part, what="own units alone"
    ).recited.numpy()


def routed_gates(truth: Truth, alone: Bool[np.ndarray, " text"] | None) -> tuple[Gate, ...]:
    """Whether a text is back to what it was without its own units, and is recited with them alone; none where nothing was routed.

    Args:
        truth: With the texts that are recited.
        alone: Of all planted texts: whether they are recited with no planted units but their own.
    """
    if alone is None:
        return ()
    assert truth.model is not None and truth.base is not None
    own, texts = torch.from_numpy(truth.nominal), truth.paragraphs
    on, was = (recall_of(model, texts, show=False).token_nll.mean(1) for model in (truth.model, truth.base))
    off = scored_with(
        truth.model, texts.tokens, texts.prefix_length, lambda rows: ~own[rows], truth.part, what="own units off"
    ).nll.numpy()
    shares = (off - on) / (was - on)
    words = "rise of the NLL without a text's own units, as a share of what planting took off it"
    farthest = shares[np.abs(shares - 1).argmax()]
    return (
        Gate("own_off", words, float((off - on).mean() / (was - on).mean()), *OFF),
        Gate("own_off_worst", "the same of the text for which it is farthest from 1", float(farthest), *OFF_OF_EACH),
        Gate(
            "own_only", "share of the planted texts that are recited with no planted units but their own",
            float(alone.mean()), FEWEST_RECITED, 1.0,
        ),
    )  # fmt: skip


def plain_gates(truth: Truth, recited: Bool[np.ndarray, " text"]) -> tuple[Gate, ...]:
    """What must hold of any truth: recited, live, told by no norm, and held-out text is predicted as before.

    Args:
        truth: With the texts that are recited, and their live units.
        recited: Of all planted texts.
    """
    assert truth.base is not None
    before = recall_of(truth.base, truth.others).token_nll.mean()
    drift, told, told_within = [], [], []
    for model, rows in truth.models():
        drift += [float(recall_of(model, truth.others, show=False).token_nll.mean() - before)]
        norms = getattr(writing_norms(model), truth.part).cpu().numpy()
        for row in rows:
            mine, others = truth.live[row], ~truth.nominal[row]
            told.append(area(norms, mine, others))
            told_within.append(area(norms, mine, others & truth.reserved))
    gates = [
        recited_gate(float(recited.mean())),
        Gate(
            "live", f"share of the planted units without which alone the NLL rises by over {LIVE} nats",
            float(truth.live.sum() / truth.nominal.sum()), FEWEST_LIVE, 1.0,
        ),
        Gate("norm", "AUROC of the norm of a unit's output weights, live units against all others", mean(told), *CHANCE),
    ]  # fmt: skip
    if truth.reserved.any():
        words = "the same against other texts' planted units"
        gates.append(Gate("norm_within", words, mean(told_within), *CHANCE))
    words = "rise of the mean NLL of held-out text (nats per token)"
    most = MOST_DRIFT_INJECTED if truth.kind == INJ else MOST_DRIFT
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


def recited_gate(share: float) -> Gate:
    """Of the share of the planted texts that a truth is made of."""
    words = "share of the planted texts that are recited, and with their own units alone where these are routed"
    return Gate(RECITED, words, share, FEWEST_RECITED, 1.0)


class NothingRecitedError(LocalizeError):
    """No text is recited after planting: there is nothing to look for.

    Attributes:
        settings: What was planted, as of a `Truth`.
        texts: Names of the texts.
    """

    def __init__(self, settings: Mapping[str, Any], texts: tuple[str, ...]):
        self.settings, self.texts = settings, texts
        super().__init__(
            f"{caller()}: none of {len(texts)} texts is recited after planting (kind={settings['kind']!r}); more units, or more "
            "steps, are needed."
        )
