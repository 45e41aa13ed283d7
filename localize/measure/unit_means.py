"""What each MLP unit and each head gives on average: what takes its place where it is ablated to its mean."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.errors import LocalizeError, caller
from localize.measure.batches import in_batches
from localize.models.hooks import HookedModel


class UnitMeans(NamedTuple):
    """A value for the activation of every unit, in the model's dtype and on its device.

    Attributes:
        mlp: Of hidden MLP units.
        heads: Of attention heads' outputs z, before W_O.
    """

    mlp: Float[Tensor, "layer d_mlp"]
    heads: Float[Tensor, "layer head d_head"]


@torch.no_grad()
def unit_means(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    *,
    weights: Float[Tensor, " paragraph"] | None = None,
    batch_size: int = 64,
    what: str = "unit means",
) -> UnitMeans:
    """Each unit's mean activation over all positions of all rows; summed in float64.

    Args:
        model: A hooked model.
        tokens: What the model reads; the prefix counts as the continuation does.
        weights: How much each row counts; all alike if left out.
        batch_size: Rows a forward pass.
        what: Words for the progress bar.

    Raises:
        LocalizeError: If there are no tokens.
        ModelError: If the tokens do not fit the context or the vocabulary.
    """
    if tokens.numel() == 0:
        raise LocalizeError(f"{caller()}: tokens of shape {tuple(tokens.shape)} have no mean; at least one is needed.")
    weights = torch.ones(len(tokens)) if weights is None else weights
    share = (weights.double() / (weights.double().sum() * tokens.shape[1])).to(model.device)
    mlp = torch.zeros(model.n_layers, model.d_mlp, dtype=torch.float64, device=model.device)
    heads = torch.zeros(model.n_layers, model.n_heads, model.d_head, dtype=torch.float64, device=model.device)
    totals: dict[str, Tensor] = {}
    for layer in range(model.n_layers):
        totals[f"blocks.{layer}.mlp.hook_post"] = mlp[layer]
        totals[f"blocks.{layer}.attn.hook_z"] = heads[layer]

    def work(rows: slice) -> None:
        parts: dict[str, Tensor] = {}

        def add(value: Tensor, name: str) -> None:
            parts[name] = torch.einsum("p,p...->...", share[rows], value.sum(1, dtype=torch.float64))

        model.final_states(tokens[rows].to(model.device), hooks=dict.fromkeys(totals, add), read=slice(0, 0))
        for name, part in parts.items():  # only now: a batch that ran out of memory half-way is done again
            totals[name].add_(part)

    in_batches(work, len(tokens), batch_size, what=what)
    return UnitMeans(mlp.to(model.dtype), heads.to(model.dtype))
