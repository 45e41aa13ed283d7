"""What each MLP unit's activation times its gradient says of the NLL without it."""

import torch
from jaxtyping import Float
from torch import Tensor

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "estimated rise of the NLL without each MLP unit, in nats per token: minus the sum over positions of its activation times the "
    "gradient there; the others play no part",
    "gradient x activation: Shrikumar et al. 2016 (arXiv 1605.01713); signed so that a unit that the recital needs is above 0",
)
def gradient_activation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units."""
    return Scores.of(model, paragraphs, mlp=unit_effects(model, paragraphs), cost=3.0)


def unit_effects(
    model: HookedModel, paragraphs: Paragraphs, batch_size: int = 16
) -> Float[Tensor, "paragraph layer d_mlp"]:
    """The estimated rise of each paragraph's NLL (nats per token) without each MLP unit.

    To first order the NLL changes by sum_t (0 - a_t) g_t if a unit's activations a are taken away, where g is the NLL's gradient by
    them.
    """
    precise = torch.promote_types(model.dtype, torch.float32)
    rise = torch.zeros(len(paragraphs), model.n_layers, model.d_mlp, dtype=precise)

    def work(rows: slice) -> None:
        def keep(into: Float[Tensor, "row d_mlp"]) -> Hook:
            def on_activation(value: Float[Tensor, "row position d_mlp"], _: str) -> None:
                a = value.detach()

                def on_gradient(g: Float[Tensor, "row position d_mlp"]) -> None:
                    into.copy_(-(a.to(precise) * g.to(precise)).sum(1))

                value.register_hook(on_gradient)

            return on_activation

        hooks = {f"blocks.{layer}.mlp.hook_post": keep(rise[rows, layer]) for layer in range(model.n_layers)}
        tokens = paragraphs.tokens[rows].to(model.device)
        backward_pass(model, tokens, continuation_mask(tokens, paragraphs.prefix_length), hooks=hooks)

    in_batches(work, len(paragraphs), batch_size, what="MLP units")
    return rise
