"""Weights as the paper measured them: layer norms and value biases folded in, what writes to the residual stream centred.

None of it changes what the model says. A layer norm first centres and scales its input, so that a mean along d_model which
something writes to the residual stream is read by nobody; then it multiplies and shifts, which the map that reads it can do
as well. A softmax sees no constant added to all logits. And a head's attention sums to 1, so that its value bias adds the
same at every position, whatever it looks at. Gradients do change: those of W_Q W_K W_V W_in lose the norm's weight as a
factor, those of W_O see values without their bias; those of W_out stay.

Source:
    The processing that HookedTransformer (TransformerLens below 4) applied by default: `fold_ln`, `center_writing_weights`,
    `center_unembed`, `fold_value_biases`. Gradients in Stoehr et al. 2024 are of such weights.
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from localize.axes import COMPONENTS, FOLDED, RAW
from localize.models.parameters import linear_modules

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

READS = {"W_Q": "ln_1", "W_K": "ln_1", "W_V": "ln_1", "W_in": "ln_2"}
"""Which layer norm of its block a component reads."""

WRITES = ("W_O", "W_out")
"""Components whose output is added to the residual stream."""


def folded(model: "HookedModel") -> "HookedModel":
    """The same function with processed weights, in a copy.

    In the copy every layer norm has weight 1 and bias 0; W_E, W_pos, W_O, W_out, b_O and b_out have mean 0 along d_model, and
    so has what reads the stream: W_Q, W_K, W_V, W_in and the unembedding; the unembedding and its bias have mean 0 over the
    vocabulary; value biases are 0. For that the unembedding is no longer tied to W_E and has a bias, as have GPT-Neo's query,
    key and value maps. Log-probabilities and attention patterns are those of the raw model, up to rounding; logits differ
    from its logits by a constant at each position.

    Args:
        model: The model, which stays as it is. One that is folded already is given back, not copied.

    Returns:
        A model that shares no weight with the first, in its dtype and on its device, with its name, revision, tokenizer and
        token counts, and `weights` "folded". Computed in float64; in bfloat16 or float16 the cast back rounds each weight once.

    Source:
        See `localize.models.folding`.
    """
    if model.weights == FOLDED:
        return model
    return fold_in_place(model.copied())


@torch.no_grad()
def fold_in_place(model: "HookedModel") -> "HookedModel":
    """What `folded` does, to the model itself, which is given back: for a model that nobody else holds."""
    add_biases(model.hf)
    body = model.hf.transformer
    for embedding in (body.wte, body.wpe):
        embedding.weight.copy_(centred(embedding.weight.double()))
    for layer in range(model.n_layers):
        _fold_block(model, layer)
    _fold_unembedding(model.hf.lm_head, body.ln_f)
    model.weights = FOLDED
    model.sinks = None  # they go with the weights as they were trained
    return model


def add_biases(hf: Any) -> None:
    """Make room for what is folded: zero biases where there are none, and an unembedding that is not also W_E."""
    unembedding = hf.lm_head
    if unembedding.weight is hf.transformer.wte.weight:
        own = unembedding.weight.detach().clone()
        unembedding.weight = nn.Parameter(own, requires_grad=unembedding.weight.requires_grad)
    hf.config.tie_word_embeddings = False  # else transformers would tie them again
    hf.all_tied_weights_keys = {}
    for module in (*hf.transformer.h.modules(), unembedding):
        if isinstance(module, nn.Linear) and module.bias is None:
            zeros = module.weight.new_zeros(module.out_features)
            module.bias = nn.Parameter(zeros, requires_grad=module.weight.requires_grad)


def processing_of(hf: Any) -> str:
    """How a Hugging Face model's weights were processed, from their shape: only a folded unembedding has a bias."""
    bias = getattr(getattr(hf, "lm_head", None), "bias", None)
    return RAW if bias is None else FOLDED


def centred(matrix: Float[Tensor, "*rows column"]) -> Float[Tensor, "*rows column"]:
    """Each row less its mean."""
    return matrix - matrix.mean(-1, keepdim=True)


def read_plainly(
    matrix: Float[Tensor, "d_model output"],
    bias: Float[Tensor, " output"],
    scale: Float[Tensor, " d_model"],
    shift: Float[Tensor, " d_model"],
) -> tuple[Float[Tensor, "d_model output"], Float[Tensor, " output"]]:
    """A linear map of a layer norm's output as one of the plain normalisation, which has mean 0 along d_model.

    Args:
        matrix: Its weight.
        bias: Its bias.
        scale: The layer norm's weight.
        shift: The layer norm's bias.

    Returns:
        Weight, with mean 0 along d_model because a mean there meets none in its input, and bias.
    """
    return centred((scale[:, None] * matrix).T).T, bias + shift @ matrix


def _fold_block(model: "HookedModel", layer: int) -> None:
    """Fold one block's norms and value biases, centre what it writes."""
    block = model.blocks[layer]
    views = {component: (model.weight(layer, component), _bias(model, layer, component)) for component in COMPONENTS}
    new = {component: (weight.double(), bias.double()) for component, (weight, bias) in views.items()}
    for component, norm in READS.items():
        ln = getattr(block, norm)
        new[component] = read_plainly(*new[component], ln.weight.double(), ln.bias.double())
    for component in WRITES:
        weight, bias = new[component]
        new[component] = centred(weight), centred(bias)
    (w_v, b_v), (w_o, b_o) = new["W_V"], new["W_O"]
    new["W_V"], new["W_O"] = (w_v, torch.zeros_like(b_v)), (w_o, b_o + b_v @ w_o)
    for component, (weight, bias) in views.items():
        weight.copy_(new[component][0])
        bias.copy_(new[component][1])
    for norm in set(READS.values()):
        _make_plain(getattr(block, norm))


def _bias(model: "HookedModel", layer: int, component: str) -> Float[Tensor, " output"]:
    """A component's bias, as a view that writes through."""
    module, part = linear_modules(model.blocks[layer], model.family)[component]
    width = model.weight(layer, component).shape[1]
    return module.bias.data[part * width : (part + 1) * width]


def _fold_unembedding(unembedding: nn.Linear, ln: nn.LayerNorm) -> None:
    """Fold the final norm into the unembedding, and centre that over the vocabulary."""
    w_u, b_u = read_plainly(
        unembedding.weight.double().T, unembedding.bias.double(), ln.weight.double(), ln.bias.double()
    )
    unembedding.weight.copy_(centred(w_u).T)
    unembedding.bias.copy_(centred(b_u))
    _make_plain(ln)


def _make_plain(ln: nn.LayerNorm) -> None:
    """Leave a layer norm its normalisation only."""
    ln.weight.fill_(1)
    ln.bias.zero_()
