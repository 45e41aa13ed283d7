"""How much each MLP unit and each head writes to the residual stream."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.batches import in_batches
from localize.measure.unit_effects import UnitScores
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads


def row_norms(model: HookedModel, layer: int) -> Float[Tensor, " d_mlp"]:
    """L2 norm of what each MLP unit of a layer writes with: its row of W_out."""
    precise = torch.promote_types(model.dtype, torch.float32)
    return torch.linalg.vector_norm(model.weight(layer, "W_out"), dim=1, dtype=precise)


class WritingNorms(NamedTuple):
    """The size of what each unit writes with, whatever it reads.

    Attributes:
        mlp: Of hidden MLP units.
        heads: Of attention heads.
    """

    mlp: Float[Tensor, "layer d_mlp"]
    heads: Float[Tensor, "layer head"]


@torch.no_grad()
def writing_norms(model: HookedModel) -> WritingNorms:
    """L2 norm of each MLP unit's row of W_out and of each head's part of W_O."""
    layers = range(model.n_layers)
    mlp = torch.stack([row_norms(model, layer) for layer in layers])
    w_o = torch.stack([split_heads(model.weight(layer, "W_O"), "W_O", model.n_heads) for layer in layers])
    return WritingNorms(mlp, torch.linalg.vector_norm(w_o, dim=(2, 3), dtype=mlp.dtype))


@torch.no_grad()
def written_sizes(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    *,
    first: int = 0,
    batch_size: int = 64,
    what: str = "activations",
) -> UnitScores:
    """Mean L2 norm of what each unit writes at a position: |a| |its row of W_out|, or |z W_O| of a head; one forward pass.

    Args:
        model: A hooked model.
        tokens: Rows; the last token, which predicts nothing, is not read.
        first: The position from which on the mean is taken.
        batch_size: Rows a forward pass.
        what: Words for the progress bar.
    """
    mlp, heads = found = UnitScores.zeros(model, len(tokens))
    precise = mlp.dtype

    def work(rows: slice) -> None:
        hooks = {}
        for layer in range(model.n_layers):
            w_o = split_heads(model.weight(layer, "W_O"), "W_O", model.n_heads).to(precise)
            products = w_o @ w_o.transpose(1, 2)  # (head, d_head, d_head): |z W_O|^2 = z (W_O W_O^T) z^T

            def of_mlp(a: Tensor, _: str, layer: int = layer) -> None:
                mlp[rows, layer] = (a[:, first:].abs().mean(1, dtype=precise) * row_norms(model, layer)).cpu()

            def of_heads(z: Tensor, _: str, layer: int = layer, products: Tensor = products) -> None:
                read = z[:, first:].to(precise)
                squares = (torch.einsum("pthd,hde->pthe", read, products) * read).sum(3)
                heads[rows, layer] = squares.clamp(min=0).sqrt().mean(1).cpu()

            hooks |= {f"blocks.{layer}.mlp.hook_post": of_mlp, f"blocks.{layer}.attn.hook_z": of_heads}
        model.final_states(tokens[rows, :-1].to(model.device), hooks=hooks, read=slice(0, 0))

    in_batches(work, len(tokens), batch_size, what=what)
    return found
