"""What rows score where each has units of its own ablated, all of them together, in one forward pass."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.measure.scoring import score
from localize.measure.unit_means import UnitMeans
from localize.models.activations import Hook
from localize.models.hooks import HookedModel


@torch.no_grad()
def ablated_rows(
    model: HookedModel,
    tokens: Int[Tensor, "row position"],
    prefix_length: int,
    *,
    mlp: Bool[Tensor, "row layer d_mlp"] | None = None,
    heads: Bool[Tensor, "row layer head"] | None = None,
    means: UnitMeans | None = None,
) -> tuple[Int[Tensor, " row"], Float[Tensor, "row continuation_position"]]:
    """Exact match (tokens) and token NLL (nats) of each row's continuation without some of its units.

    Args:
        model: A hooked model.
        tokens: Rows, on any device.
        prefix_length: Tokens given.
        mlp: The MLP units ablated in each row; None for none.
        heads: The heads ablated in each row; None for none.
        means: What takes the place of each unit's activation, at every position; None for 0.
    """
    tokens = tokens.to(model.device)
    hooks: dict[str, Hook] = {}
    if mlp is not None:
        hooks |= _replacing(model, "mlp.hook_post", mlp, None if means is None else means.mlp)
    if heads is not None:
        hooks |= _replacing(model, "attn.hook_z", heads, None if means is None else means.heads)
    states = model.final_states(tokens[:, :-1], hooks=hooks, read=slice(prefix_length - 1, None))
    return score(model, states, tokens[:, prefix_length:])


def _replacing(
    model: HookedModel,
    site: str,
    units: Bool[Tensor, "row layer unit"],
    values: Float[Tensor, "layer unit *part"] | None,
) -> dict[str, Hook]:
    """Hooks that set a row's ablated units to these values, or to 0."""
    units = units.to(model.device)

    def at(layer: int) -> Hook:
        def replace(given: Float[Tensor, "row position unit *part"], _: str) -> Tensor:
            mask = units[:, layer, None]  # (row, 1, unit)
            mask = mask.view(
                *mask.shape, *[1] * (given.ndim - mask.ndim)
            )  # a head has d_head parts, an MLP unit is a number
            return given.masked_fill(mask, 0.0) if values is None else torch.where(mask, values[layer], given)

        return replace

    return {f"blocks.{layer}.{site}": at(layer) for layer in range(model.n_layers)}
