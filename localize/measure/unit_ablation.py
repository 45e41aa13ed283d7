"""What the loss of single MLP units and heads does, each taken out by itself: no estimate, a forward pass from there on for each."""

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from localize.measure.batches import in_batches
from localize.measure.scoring import token_scores
from localize.measure.unit_effects import UnitScores
from localize.measure.unit_means import UnitMeans
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads
from localize.paragraphs.paragraphs import Paragraphs

STREAMS_AT_ONCE = {"cpu": 32, "cuda": 1024}
"""Residual streams, each without one unit, that go on together: on a CPU what its cache holds."""


class ChosenUnits(NamedTuple):
    """Which units are meant, of each paragraph.

    Attributes:
        mlp: MLP units.
        heads: Attention heads.
    """

    mlp: Bool[Tensor, "paragraph layer d_mlp"]
    heads: Bool[Tensor, "paragraph layer head"]

    @classmethod
    def all_of(cls, model: HookedModel, count: int) -> "ChosenUnits":
        """Every unit, of so many paragraphs."""
        mlp, heads = ((count, model.n_layers, size) for size in (model.d_mlp, model.n_heads))
        return cls(torch.ones(mlp, dtype=torch.bool), torch.ones(heads, dtype=torch.bool))


@torch.no_grad()
def unit_rises(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    means: UnitMeans | None = None,
    chosen: ChosenUnits | None = None,
    batch_size: int = 8,
    what: str = "ablated units",
) -> UnitScores:
    """By how much each paragraph's NLL (nats per token) rises without each unit, one at a time, at every position.

    One forward pass of the whole model; where it reaches the middle or the end of a block, passes without each of its heads or units
    branch off and go on to the end. A block's output is the sum of what its units write, so taking one out is a difference: what lies
    below, and the block itself, are computed once.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; of the continuation that they hold.
        means: What takes the place of each unit's activation; None for 0.
        chosen: The units taken out; None for all.
        batch_size: Paragraphs whose activations are held together; the numbers are the same for any, up to rounding.
        what: Words for the progress bar.

    Returns:
        The rises, nan for units that were not chosen.
    """
    chosen = ChosenUnits.all_of(model, len(paragraphs)) if chosen is None else chosen
    precise = torch.promote_types(model.dtype, torch.float32)
    rises = UnitScores(*(torch.full(part.shape, torch.nan, dtype=precise) for part in chosen))

    def work(rows: slice) -> None:
        part = _Ablation(model, paragraphs.tokens[rows].to(model.device), paragraphs.prefix_length, means)
        wanted, into = ChosenUnits(*(kind[rows] for kind in chosen)), UnitScores(*(kind[rows] for kind in rises))
        hooks = part.hooks(wanted, into)
        states = model.final_states(part.tokens[:, :-1], hooks=hooks, read=slice(part.first, None))
        clean = token_scores(model, states, part.targets)[1].mean(1).cpu()
        for values in into:
            values -= clean[:, None, None]

    in_batches(work, len(paragraphs), batch_size, what=what)
    return rises


class _Ablation(NamedTuple):
    """Some paragraphs, and what their units are set to."""

    model: HookedModel
    tokens: Tensor
    prefix_length: int
    means: UnitMeans | None

    @property
    def first(self) -> int:
        """The first position read."""
        return self.prefix_length - 1

    @property
    def targets(self) -> Tensor:
        return self.tokens[:, self.prefix_length :]

    def hooks(self, chosen: ChosenUnits, into: UnitScores) -> dict[str, Hook]:
        """Of a forward pass, from which a pass without each chosen unit branches off and writes its NLL."""
        hooks: dict[str, Hook] = {}
        for layer in range(self.model.n_layers):
            at = f"blocks.{layer}"
            w_o = split_heads(self.model.weight(layer, "W_O"), "W_O", self.model.n_heads)  # (head, d_head, d_model)
            w_out = self.model.weight(layer, "W_out")[:, None]  # (d_mlp, 1, d_model)
            of_mlp, of_heads = (None, None) if self.means is None else (self.means.mlp[layer], self.means.heads[layer])
            hooks |= self._branching(
                f"{at}.attn.hook_z", of_heads, w_o, f"{at}.hook_resid_mid", chosen.heads[:, layer], into.heads[:, layer]
            )
            hooks |= self._branching(
                f"{at}.mlp.hook_post", of_mlp, w_out, f"{at}.hook_resid_post", chosen.mlp[:, layer], into.mlp[:, layer]
            )
        return hooks

    def _branching(
        self, units: str, means: Tensor | None, writes: Tensor, stream: str, chosen: Tensor, into: Tensor
    ) -> dict[str, Hook]:
        """Two hooks: one keeps what taking a unit out takes away, (row, position, unit, part), one goes on from the stream without."""
        taken: list[Tensor] = []
        last = stream == f"blocks.{self.model.n_layers - 1}.hook_resid_post"
        skipped = self.first if last else 0  # nothing above mixes positions: those that are not read are left out

        def keep(value: Tensor, _: str) -> None:
            away = (value if means is None else value - means)[:, skipped:]
            taken.append(away.reshape(*away.shape[:2], len(writes), -1))

        def branch_off(resid: Tensor, name: str) -> None:
            away, resid = taken.pop(), resid[:, skipped:]
            pairs = chosen.nonzero()
            for some in pairs.split(STREAMS_AT_ONCE[resid.device.type]):
                row, unit = some.to(resid.device).T
                written = torch.einsum("ntp,npd->ntd", away[row, :, unit], writes[unit])
                states = self.model.resume(resid[row] - written, at=name, read=slice(self.first - skipped, None))
                nll = token_scores(self.model, states, self.targets[row])[1].mean(1)
                into[some[:, 0], some[:, 1]] = nll.to(into)

        return {units: keep, stream: branch_off}


def ablation_cost(model: HookedModel, paragraphs: Paragraphs, chosen: ChosenUnits | None = None) -> float:
    """What `unit_rises` takes for each paragraph, in forward passes: of each pass the share that is computed."""
    chosen = ChosenUnits.all_of(model, 1) if chosen is None else chosen
    of_heads, of_mlp = (part.double().sum(2).mean(0).tolist() for part in (chosen.heads, chosen.mlp))
    passes = 1.0
    for layer in range(model.n_layers):
        passes += of_heads[layer] * share_above(model, paragraphs, 2 * layer + 1)
        passes += of_mlp[layer] * share_above(model, paragraphs, 2 * layer + 2)
    return passes


def share_above(model: HookedModel, paragraphs: Paragraphs, half: int) -> float:
    """What share of a forward pass's products with weights lies above a half block: `2 * layer` is attention, `2 * layer + 1` the MLP.

    Attention's products of queries and keys are left out, and what the last layer spares at positions that are not read.
    """
    attention, mlp = 4 * model.d_model**2, 2 * model.d_model * model.d_mlp
    attentions, mlps = model.n_layers - (half + 1) // 2, model.n_layers - half // 2
    read = paragraphs.continuation_length / (paragraphs.tokens.shape[1] - 1)
    unembedding = read * model.vocab_size * model.d_model
    whole = model.n_layers * (attention + mlp) + unembedding
    return (attentions * attention + mlps * mlp + unembedding) / whole
