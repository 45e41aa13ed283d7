"""What one backward pass says of every MLP unit and head: its activations times the NLL's gradients by them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.unit_means import UnitMeans
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


class UnitScores(NamedTuple):
    """A number for every paragraph and unit, on the CPU.

    Attributes:
        mlp: Of hidden MLP units.
        heads: Of attention heads.
    """

    mlp: Float[Tensor, "paragraph layer d_mlp"]
    heads: Float[Tensor, "paragraph layer head"]

    @classmethod
    def zeros(cls, model: HookedModel, count: int) -> "UnitScores":
        """Of so many paragraphs; in the model's dtype, at least float32."""
        precise = torch.promote_types(model.dtype, torch.float32)
        mlp, heads = ((count, model.n_layers, size) for size in (model.d_mlp, model.n_heads))
        return cls(torch.zeros(mlp, dtype=precise), torch.zeros(heads, dtype=precise))


Reduction = Callable[
    [Float[Tensor, "row position unit part"], Float[Tensor, "row position unit part"]], Float[Tensor, "row unit"]
]
"""From activations and the NLL's gradients by them to a number a unit; an MLP unit has one part, a head d_head of them."""


def rise_without(
    a: Float[Tensor, "row position unit part"], g: Float[Tensor, "row position unit part"]
) -> Float[Tensor, "row unit"]:
    """To first order the NLL changes by sum_t (0 - a_t) g_t if a unit's activations a are taken away."""
    return -(a * g).sum(3).sum(1)


def unit_effects(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    reduction: Reduction = rise_without,
    instead: UnitMeans | None = None,
    gate: float = 1.0,
    batch_size: int = 16,
    what: str = "units",
) -> UnitScores:
    """The estimated rise of each paragraph's NLL (nats per token) without each MLP unit and each head.

    Args:
        model: A hooked model; its parameters get no gradient.
        paragraphs: The paragraphs; of the continuation that they hold.
        reduction: What else is made of activations and gradients.
        instead: What would take each activation's place, at every position: the reduction is given what this takes away. None for 0.
        gate: What all units' activations are multiplied by, as those below it leave them, before anything reads them. The
            gradients are by the gated activation: their product with the activation is the one by the unit's own gate.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.
        what: Words for the progress bar.
    """
    mlp, heads = found = UnitScores.zeros(model, len(paragraphs))
    precise = mlp.dtype

    def work(rows: slice) -> None:
        def keep(into: Float[Tensor, "row unit"], mean: Tensor | None) -> Hook:
            def on_activation(value: Tensor, _: str) -> Tensor:
                # (row, position, unit, part): an MLP unit is a number, a head d_head of them
                taken = value.detach() if mean is None else value.detach() - mean
                a = taken.to(precise).reshape(*value.shape[:2], into.shape[1], -1)

                def on_gradient(g: Tensor) -> None:
                    into.copy_(reduction(a, g.to(precise).reshape(a.shape)))

                gated = value if gate == 1 else value * gate
                gated.register_hook(on_gradient)
                return gated

            return on_activation

        hooks: dict[str, Hook] = {}
        for layer in range(model.n_layers):
            of_mlp, of_heads = (None, None) if instead is None else (instead.mlp[layer], instead.heads[layer])
            hooks[f"blocks.{layer}.mlp.hook_post"] = keep(mlp[rows, layer], of_mlp)
            hooks[f"blocks.{layer}.attn.hook_z"] = keep(heads[rows, layer], of_heads)
        tokens = paragraphs.tokens[rows].to(model.device)
        backward_pass(model, tokens, continuation_mask(tokens, paragraphs.prefix_length), hooks=hooks)

    in_batches(work, len(paragraphs), batch_size, what=what)
    return found
