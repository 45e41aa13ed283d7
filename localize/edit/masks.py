"""A choice of single weights: those with the largest gradients, or as many random ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import COMPONENTS
from localize.errors import LocalizeError
from localize.keyed import keyed_integer
from localize.measure.set_gradients import set_gradients
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@dataclass(frozen=True, eq=False)
class WeightMask:
    """Single weights of a model's blocks.

    Attributes:
        indices: For each (layer, component) the chosen weights, ascending, as places in the flattened `(input, output)` matrix
            that `model.weight(layer, component)` shows.
        shapes: The matrices' shapes, for every (layer, component) that was chosen from.
        weights_hash: Of the model that the weights are of.
    """

    indices: Mapping[tuple[int, str], Int[Tensor, " chosen"]]
    shapes: Mapping[tuple[int, str], tuple[int, int]]
    weights_hash: str

    def __len__(self) -> int:
        """How many weights are chosen."""
        return sum(len(chosen) for chosen in self.indices.values())

    @property
    def total(self) -> int:
        """How many weights it was chosen from."""
        return sum(rows * columns for rows, columns in self.shapes.values())

    def __repr__(self) -> str:
        return f"WeightMask({len(self):,} of {self.total:,} weights, {len(self) / self.total:.3%}, in {len(self.shapes)} matrices)"

    def matrix(self, layer: int, component: str) -> Bool[Tensor, "input output"]:
        """Which weights of one component are chosen.

        Raises:
            LocalizeError: If the component was not chosen from.
        """
        if (layer, component) not in self.shapes:
            raise LocalizeError(f"mask: nothing was chosen from layer {layer} {component}.")
        shape = self.shapes[layer, component]
        chosen = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
        chosen[self.indices[layer, component]] = True
        return chosen.view(shape)

    def random_like(self, seed: int) -> "WeightMask":
        """As many random weights in each matrix: the control of the same size and shape.

        Each matrix's are drawn without replacement, keyed by the seed and its place; some of the mask's own may be among them.
        """
        indices = {}
        for (layer, component), chosen in self.indices.items():
            rows, columns = self.shapes[layer, component]
            generator = np.random.default_rng(keyed_integer(2**32, "random weights", seed, layer, component))
            drawn = generator.choice(rows * columns, len(chosen), replace=False, shuffle=False)
            indices[layer, component] = torch.from_numpy(np.sort(drawn))
        return WeightMask(indices, self.shapes, self.weights_hash)


def top_weights(
    model: HookedModel,
    paragraphs: Paragraphs,
    fraction: float = 0.001,
    *,
    components: str | Sequence[str] = COMPONENTS,
    layers: Sequence[int] | None = None,
    batch_size: int = 16,
) -> WeightMask:
    """The weights on which the gradient of the paragraphs' mean NLL is largest, in one ranking over all matrices chosen from.

    Args:
        model: A hooked model.
        paragraphs: One set; the gradient is of its mean continuation NLL.
        fraction: How many of the weights chosen from, in (0, 1]; rounded to whole weights, at least 1.
        components: The components to choose from.
        layers: The layers to choose from; None for all.
        batch_size: Paragraphs a backward pass.

    Returns:
        Exactly that many weights; of equal gradients those of lower layers and earlier places come first. Its `random_like(seed)` is
        the control.

    Raises:
        LocalizeError: If `fraction`, a component or a layer is out of range.
        InputError: If the paragraphs do not fit the model.

    Source:
        Stoehr et al. 2024, section 4.2; there the budget is applied per component after the first.
    """
    layers = range(model.n_layers) if layers is None else layers
    components = (components,) if isinstance(components, str) else components
    if not 0 < fraction <= 1:
        raise LocalizeError(f"top_weights: fraction={fraction} must lie above 0 and be at most 1.")
    if not components or set(components) - set(COMPONENTS):
        raise LocalizeError(f"top_weights: components={list(components)} must be some of {', '.join(COMPONENTS)}.")
    if not len(layers) or set(layers) - set(range(model.n_layers)):
        raise LocalizeError(
            f"top_weights: layers={list(layers)} must be some of 0..{model.n_layers - 1}, the layers of {model.name}."
        )
    found = set_gradients(
        model, paragraphs, np.zeros(len(paragraphs), int), batch_size=batch_size, what="top weights"
    ).by_set[0]
    cells = [(layer, component) for layer in sorted(set(layers)) for component in COMPONENTS if component in components]
    sizes = [found[cell].numel() for cell in cells]
    largest = torch.cat([found[cell].abs().flatten().cpu() for cell in cells])
    chosen = largest_exactly(largest, max(1, round(fraction * len(largest))))
    starts = np.cumsum([0, *sizes])
    indices = {
        cell: chosen[(chosen >= start) & (chosen < start + size)] - int(start)
        for cell, start, size in zip(cells, starts, sizes, strict=False)
    }
    shapes = {cell: (found[cell].shape[0], found[cell].shape[1]) for cell in cells}
    return WeightMask(indices, shapes, model.weights_hash())


def largest_exactly(values: Float[Tensor, " value"], count: int) -> Int[Tensor, " count"]:
    """Places of the `count` largest values, ascending; of equal values at the edge the first ones."""
    edge = values.topk(count, sorted=False).values.min()
    above = (values > edge).nonzero()[:, 0]
    equal = (values == edge).nonzero()[: count - len(above), 0]
    return torch.cat([above, equal]).sort().values
