"""How large the gradient of each paragraph's NLL is on the weights of each MLP unit and each head."""

import torch
from jaxtyping import Float
from torch import Tensor

from localize.axes import MLP_COMPONENTS
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.gradient_size import gradient_sizes, outer_and_inner
from localize.measure.unit_effects import UnitScores
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


def unit_gradient_norms(
    model: HookedModel, paragraphs: Paragraphs, *, batch_size: int = 16, what: str = "units' gradients"
) -> UnitScores:
    """L2 norm of each paragraph's gradient on a unit's weights, nats per weight unit; one backward pass.

    An MLP unit's weights are its column of W_in and its row of W_out, a head's its parts of W_Q, W_K, W_V and W_O. Biases are left out.

    Args:
        model: A hooked model; its parameters get no gradient.
        paragraphs: The paragraphs; of the continuation that they hold.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.
        what: Words for the progress bar.
    """
    mlp, heads = UnitScores.zeros(model, len(paragraphs))
    precise = mlp.dtype

    def work(rows: slice) -> None:
        mlp[rows], heads[rows] = 0.0, 0.0  # squares are added below, and a batch may be done again

        def on_linear(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            if component in MLP_COMPONENTS:
                unit, stream = (d, x) if component == "W_in" else (x, d)
                mlp[rows, layer] += line_squares(unit.to(precise), stream.to(precise)).cpu()
            else:
                sizes = gradient_sizes(*outer_and_inner(component, x, d), model.n_heads, ("norm",))["norm"]
                heads[rows, layer] += sizes.square().cpu()

        tokens = paragraphs.tokens[rows].to(model.device)
        backward_pass(model, tokens, continuation_mask(tokens, paragraphs.prefix_length), on_linear=on_linear)

    in_batches(work, len(paragraphs), batch_size, what=what)
    return UnitScores(mlp.sqrt_(), heads.sqrt_())


def line_squares(
    unit: Float[Tensor, "paragraph position unit"], stream: Float[Tensor, "paragraph position d_model"]
) -> Float[Tensor, "paragraph unit"]:
    """Squared norm of each unit's line of G = sum over positions of unit_t stream_t^T, by the way that is less work.

    |G_u|^2 = sum over s, t of unit_su (stream_s . stream_t) unit_tu; where there are fewer positions than the stream is wide, G is
    not formed.
    """
    if unit.shape[1] < stream.shape[2]:
        return (unit * (stream @ stream.transpose(1, 2) @ unit)).sum(1).clamp(min=0)
    return torch.bmm(stream.transpose(1, 2), unit).square().sum(1)
