"""Whether a few activations dwarf all others, and how sparse a text's activations are, beside a model with random weights."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.untrained import untrained as untrained_twin
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


class ActivationSizes(NamedTuple):
    """What the activations of each paragraph are like in each layer.

    Attributes:
        largest: Largest |activation| of the stream that leaves the layer.
        ratio: That over the median |activation| there.
        position: Where it is.
        dimension: In which dimension of the stream.
        stream_sparsity: Hoyer sparsity of the stream, mean over the positions that predict the continuation.
        mlp_sparsity: Likewise of the MLP's activations, behind the nonlinearity.
    """

    largest: Float[Tensor, "paragraph layer"]
    ratio: Float[Tensor, "paragraph layer"]
    position: Int[Tensor, "paragraph layer"]
    dimension: Int[Tensor, "paragraph layer"]
    stream_sparsity: Float[Tensor, "paragraph layer"]
    mlp_sparsity: Float[Tensor, "paragraph layer"]


@reads_inputs("paragraphs")
@torch.no_grad()
def massive_activations(
    model: HookedModel, paragraphs: Paragraphs, *, untrained: bool = True, seed: int = 0, batch_size: int = 64
) -> "MemorizationSignature":
    """The largest activation of the residual stream over its median, per layer, and how sparse stream and MLP are.

    An activation is called massive where it exceeds 100 and 1,000 times the median of its layer (`massive_activation_table`).

    Args:
        model: A hooked model.
        paragraphs: The paragraphs, of the continuation that they hold.
        untrained: Also measure a model of the same shape with random weights.
        seed: Of the twin's weights.
        batch_size: Paragraphs a forward pass; the numbers are the same for any, up to rounding.

    Returns:
        Of the stream that leaves each layer, over all positions and dimensions of a paragraph: `largest_activation` (activation units),
        `activation_ratio`, that over the median of |activation|, and where it is, `largest_position` and `largest_dimension`.
        `stream_sparsity` and `mlp_sparsity`, Hoyer's, 0 where all are equally large, 1 where all but one are 0: of the stream, and of
        the MLP's activations behind the nonlinearity, each the mean over the positions that predict the continuation. Of the twin
        `activation_ratio_untrained`, `stream_sparsity_untrained` and `mlp_sparsity_untrained`. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model.

    Source:
        Sun et al. 2024 (arXiv 2402.17762); sparsity: Hoyer 2004.
    """
    recall = recall_of(model, paragraphs)
    found = activation_sizes(model, paragraphs, batch_size)
    arrays: dict[str, Tensor] = {
        "largest_activation": found.largest,
        "activation_ratio": found.ratio,
        "largest_position": found.position,
        "largest_dimension": found.dimension,
        "stream_sparsity": found.stream_sparsity,
        "mlp_sparsity": found.mlp_sparsity,
    }
    if untrained:
        twin = activation_sizes(untrained_twin(model, seed), paragraphs, batch_size)
        arrays |= {
            "activation_ratio_untrained": twin.ratio,
            "stream_sparsity_untrained": twin.stream_sparsity,
            "mlp_sparsity_untrained": twin.mlp_sparsity,
        }
    call = {"measurement": "massive_activations", "untrained": untrained, "seed": seed, "batch_size": batch_size}
    return labelled(model, paragraphs, recall, arrays, call=call)


def activation_sizes(model: HookedModel, paragraphs: Paragraphs, batch_size: int = 64) -> ActivationSizes:
    """The numbers of one model."""
    count, layers = len(paragraphs), model.n_layers
    predicting = slice(paragraphs.prefix_length - 1, paragraphs.tokens.shape[1] - 1)
    floats = [torch.empty(count, layers, dtype=torch.float32) for _ in range(4)]
    places = [torch.empty(count, layers, dtype=torch.int64) for _ in range(2)]
    found = ActivationSizes(floats[0], floats[1], places[0], places[1], floats[2], floats[3])

    def work(rows: slice) -> None:
        def of_stream(layer: int) -> Hook:
            def hook(value: Tensor, _: str) -> None:
                size = value.abs().float()  # (row, position, dimension)
                flat = size.flatten(1)
                largest, place = flat.max(1)
                found.largest[rows, layer] = largest.cpu()
                found.ratio[rows, layer] = (largest / flat.median(1).values).cpu()
                found.position[rows, layer] = (place // size.shape[2]).cpu()
                found.dimension[rows, layer] = (place % size.shape[2]).cpu()
                found.stream_sparsity[rows, layer] = hoyer_sparsity(size[:, predicting]).mean(1).cpu()

            return hook

        def of_mlp(layer: int) -> Hook:
            def hook(value: Tensor, _: str) -> None:
                found.mlp_sparsity[rows, layer] = hoyer_sparsity(value[:, predicting].float()).mean(1).cpu()

            return hook

        hooks = {f"blocks.{layer}.hook_resid_post": of_stream(layer) for layer in range(layers)}
        hooks |= {f"blocks.{layer}.mlp.hook_post": of_mlp(layer) for layer in range(layers)}
        model.forward(paragraphs.tokens[rows].to(model.device), hooks=hooks, read=slice(-1, None))

    in_batches(work, count, batch_size, what="activations")
    return found


def hoyer_sparsity(values: Float[Tensor, "*cell dimension"]) -> Float[Tensor, "*cell"]:
    """(sqrt(n) - |x|_1 / |x|_2) / (sqrt(n) - 1): 0 where all n are equally large, 1 where all but one are 0; nan where all are 0.

    >>> hoyer_sparsity(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))
    tensor([0., 1.])
    """
    root = values.shape[-1] ** 0.5
    return (root - values.abs().sum(-1) / torch.linalg.vector_norm(values, dim=-1)) / (root - 1)
