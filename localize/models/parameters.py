"""Where each component of a block lies in the weights: (layer, component, head) to a view."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.errors import ModelError, caller, public

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

Family = Literal["gpt-neo", "gpt2"]


def linear_modules(block: Any, family: Family) -> dict[str, tuple[Any, int]]:
    """The linear map that computes each component, and which third of its output is the component's.

    GPT-2 computes query, key and value in one map, `c_attn`; GPT-Neo in three.
    """
    mlp = {"W_in": (block.mlp.c_fc, 0), "W_out": (block.mlp.c_proj, 0)}
    if family == "gpt2":
        attn = block.attn
        return {
            "W_Q": (attn.c_attn, 0),
            "W_K": (attn.c_attn, 1),
            "W_V": (attn.c_attn, 2),
            "W_O": (attn.c_proj, 0),
        } | mlp
    attn = block.attn.attention
    return {"W_Q": (attn.q_proj, 0), "W_K": (attn.k_proj, 0), "W_V": (attn.v_proj, 0), "W_O": (attn.out_proj, 0)} | mlp


def input_output_view(
    weight: Float[Tensor, "a b"], component: str, part: int, family: Family
) -> Float[Tensor, "input output"]:
    """A component's weight as a map from its input to its output, as a view that writes through.

    GPT-Neo stores (output, input); GPT-2 stores (input, output), with q, k, v side by side.
    """
    if family == "gpt-neo":
        return weight.T
    if component in ("W_Q", "W_K", "W_V"):
        width = weight.shape[1] // 3
        return weight[:, part * width : (part + 1) * width]
    return weight


@public
def split_heads(
    matrix: Float[Tensor, "*batch input output"], component: str, n_heads: int
) -> Float[Tensor, "*batch head a b"]:
    """An (input, output) matrix of an attention component as one matrix per head.

    Returns:
        W_Q, W_K, W_V: `(*batch, head, d_model, d_head)`; W_O: `(*batch, head, d_head, d_model)`, as in TransformerLens. A view.

    Raises:
        ModelError: If the component does not divide into heads.
    """
    if component not in ATTENTION_COMPONENTS:
        raise ModelError(
            f"{caller()}: component={component!r} has no heads; those that have: {', '.join(ATTENTION_COMPONENTS)}."
        )
    if component == "W_O":
        return matrix.unflatten(-2, (n_heads, matrix.shape[-2] // n_heads))
    return matrix.unflatten(-1, (n_heads, matrix.shape[-1] // n_heads)).movedim(-2, -3)


def weight_view(
    model: "HookedModel", layer: int, component: str, head: int | None = None, *, grad: bool = False
) -> Tensor:
    """The weight (or its `.grad`) of one component, whole or of one head, as a view that writes through.

    Args:
        model: The hooked model.
        layer: Block, 0-based.
        component: One of W_Q W_K W_V W_O W_in W_out.
        head: Head of an attention component, 0-based; None for the whole matrix.
        grad: Give the gradient that the last backward pass left there instead.

    Returns:
        `(input, output)` for a whole matrix; for a head `(d_model, d_head)`, or `(d_head, d_model)` for W_O.

    Raises:
        ModelError: If there is no such layer, component or head, or no gradient has been computed.
    """
    if component not in COMPONENTS:
        raise ModelError(f"component={component!r} is not one of {', '.join(COMPONENTS)}.")
    if not 0 <= layer < model.n_layers:
        raise ModelError(f"layer={layer} must lie in 0..{model.n_layers - 1}, the layers of {model.name}.")
    if head is not None and not 0 <= head < model.n_heads:
        raise ModelError(f"head={head} must lie in 0..{model.n_heads - 1}, the heads of {model.name}.")
    module, part = linear_modules(model.blocks[layer], model.family)[component]
    stored = module.weight.grad if grad else module.weight.data
    if stored is None:
        raise ModelError(
            f"layer {layer} {component} holds no gradient; run a backward pass with its weights unfrozen first."
        )
    matrix = input_output_view(stored, component, part, model.family)
    return matrix if head is None else split_heads(matrix, component, model.n_heads)[head]


def block_weight_count(model: "HookedModel") -> int:
    """How many weights the components hold: biases, norms, embeddings and unembedding left out."""
    with torch.no_grad():
        return sum(
            weight_view(model, layer, component).numel() for layer in range(model.n_layers) for component in COMPONENTS
        )


def bounded(rows: Float[Tensor, "unit part"], most: Float[Tensor, " unit"]) -> None:
    """Scale rows down, in place, to norms of at most so much."""
    with torch.no_grad():
        norm = rows.norm(dim=1)
        rows.mul_((most / norm.clamp(min=1e-30)).clamp(max=1.0)[:, None])
