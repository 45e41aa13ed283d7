"""A choice of single weights: by their gradients or other scores, by layer, component and head, and the controls to each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, MLP_COMPONENTS
from localize.errors import LocalizeError, caller, public
from localize.keyed import keyed_integer
from localize.localizers.weight_gradient import mean_gradients
from localize.measure.inputs import reads_inputs
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads
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
        share = len(self) / max(self.total, 1)
        return f"WeightMask({len(self):,} of {self.total:,} weights, {share:.3%}, in {len(self.shapes)} matrices)"

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

    @property
    def layers(self) -> dict[int, int]:
        """How many weights are chosen in each layer that was chosen from."""
        counts = dict.fromkeys(sorted({layer for layer, _ in self.shapes}), 0)
        for (layer, _), chosen in self.indices.items():
            counts[layer] += len(chosen)
        return counts

    def check(self, model: HookedModel, *, weights: bool = True) -> None:
        """Raise a `LocalizeError` if the mask is empty, of another model, or damaged.

        Without `weights` any model of the same shape will do, an edited one, say.
        """
        if len(self) == 0:
            raise LocalizeError(f"{caller()}: the mask chooses no weight; at least one is needed.")
        if fault := wrong_places(self.indices, self.shapes):
            raise LocalizeError(f"{caller()}: mask: {fault}")
        if weights and self.weights_hash != model.weights_hash():
            raise LocalizeError(
                f"{caller()}: the mask is of other weights than those of {model.name}; choose it from this model, unedited."
            )
        for (layer, component), shape in self.shapes.items():
            if tuple(shape) != (of_model := tuple(model.weight(layer, component).shape)):
                raise LocalizeError(
                    f"{caller()}: mask: layer {layer} {component} is {tuple(shape)}; in {model.name} it is {of_model}."
                )

    @public
    def random_like(self, seed: int) -> "WeightMask":
        """As many random weights in each matrix, none of them the mask's own: the control of the same size and shape.

        Each matrix's are drawn without replacement, keyed by the seed and its place.

        Raises:
            LocalizeError: If more than half of a matrix is chosen, so that it has too few others.
        """
        indices = {}
        for (layer, component), chosen in self.indices.items():
            others = (~self.matrix(layer, component)).flatten().nonzero()[:, 0]
            if len(others) < len(chosen):
                raise LocalizeError(
                    f"{caller()}: {len(chosen):,} weights of layer {layer} {component} are chosen, {len(others):,} are not; as many "
                    "others are needed."
                )
            generator = np.random.default_rng(keyed_integer(2**32, "random weights", seed, layer, component))
            drawn = generator.choice(len(others), len(chosen), replace=False, shuffle=False)
            indices[layer, component] = others[np.sort(drawn)]
        return WeightMask(indices, self.shapes, self.weights_hash)

    @property
    def has_random_like(self) -> bool:
        """Whether every matrix has as many weights that are not chosen as chosen ones."""
        return all(2 * len(chosen) <= np.prod(self.shapes[cell]) for cell, chosen in self.indices.items())


@reads_inputs("paragraphs")
def top_weights(
    model: HookedModel,
    paragraphs: Paragraphs,
    fraction: float = 0.001,
    *,
    components: str | Sequence[str] = COMPONENTS,
    layers: int | Sequence[int] | None = None,
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
    check_fraction(fraction)
    cells = _cells(model, layers, components)
    gradients = mean_gradients(model, paragraphs, cells, batch_size, "top weights")
    return largest_weights(model, {cell: gradients[cell].abs_() for cell in cells}, fraction)


@reads_inputs()
def largest_weights(
    model: HookedModel,
    scores: Mapping[tuple[int, str], Float[Tensor, "_ _"] | Float[np.ndarray, "_ _"]],
    fraction: float = 0.001,
) -> WeightMask:
    """The weights with the largest scores, in one ranking over all matrices given: a mask from any localizer.

    Args:
        model: A hooked model.
        scores: For some (layer, component) a score of each weight, `(input, output)` as `model.weight` shows it. They are ranked as
            they are: for sizes give absolute values.
        fraction: How many of the weights given, in (0, 1]; rounded to whole weights, at least 1.

    Returns:
        Exactly that many weights; of equal scores those of lower layers and earlier places come first.

    Raises:
        LocalizeError: If `fraction` is out of range, there are no scores, one is nan, or a matrix has another shape than the model's.
        ModelError: If the model has no such layer or component.
    """
    check_fraction(fraction)
    if not scores:
        raise LocalizeError(f"{caller()}: scores of at least one (layer, component) are needed.")
    scores = {cell: torch.as_tensor(matrix) for cell, matrix in scores.items()}
    for (layer, component), matrix in scores.items():
        if matrix.shape != (shape := model.weight(layer, component).shape):
            raise LocalizeError(
                f"{caller()}: scores of layer {layer} {component} are {tuple(matrix.shape)}; the weights of {model.name} there are "
                f"{tuple(shape)}."
            )
    count = max(1, round(fraction * sum(matrix.numel() for matrix in scores.values())))
    return largest_count(model, scores, count)


@reads_inputs()
def choose_weights(
    model: HookedModel,
    *,
    layers: int | Sequence[int] | None = None,
    components: str | Sequence[str] = COMPONENTS,
    heads: Collection[tuple[int, int]] | None = None,
) -> WeightMask:
    """All weights of some layers, components or attention heads; of all blocks if nothing else is said.

    Args:
        model: A hooked model.
        layers: Those layers; None for all.
        components: Those components; with `heads`, all stands for the four that divide into heads.
        heads: Those heads, as (layer, head) pairs, instead of `layers`.

    Raises:
        LocalizeError: If a layer, component or head is out of range, a component has no heads, or layers and heads are given both.
    """
    if heads is None:
        cells = _cells(model, layers, components)
        shapes = _shapes(model, cells)
        indices = {cell: torch.arange(shape[0] * shape[1]) for cell, shape in shapes.items()}
        return WeightMask(indices, shapes, model.weights_hash())
    if layers is not None:
        raise LocalizeError(f"{caller()}: layers={layers} and heads are both given; heads name their layers.")
    in_layer: dict[int, list[int]] = {}
    for layer, head in sorted(heads):
        if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
            raise LocalizeError(
                f"{caller()}: heads: ({layer}, {head}) must be a layer in 0..{model.n_layers - 1} and a head in "
                f"0..{model.n_heads - 1} of {model.name}."
            )
        in_layer.setdefault(layer, []).append(head)
    if not in_layer:
        raise LocalizeError(f"{caller()}: heads: at least one (layer, head) is needed.")
    components = (components,) if isinstance(components, str) else components
    components = ATTENTION_COMPONENTS if set(components) == set(COMPONENTS) else components
    cells = _cells(model, list(in_layer), components)
    if headless := [component for component in MLP_COMPONENTS if component in components]:
        raise LocalizeError(
            f"{caller()}: component {headless[0]!r} has no heads; those that have: {', '.join(ATTENTION_COMPONENTS)}."
        )
    shapes = _shapes(model, cells)
    indices = {cell: _places_of_heads(model, cell[1], shape, in_layer[cell[0]]) for cell, shape in shapes.items()}
    return WeightMask(indices, shapes, model.weights_hash())


@reads_inputs("paragraphs")
def mask_controls(
    model: HookedModel, paragraphs: Paragraphs, mask: WeightMask, *, seed: int, batch_size: int = 16
) -> dict[str, WeightMask]:
    """Masks to hold a mask against: an edit of what it chooses should do what an edit of these does not.

    Args:
        model: The model that the mask is of.
        paragraphs: Those whose gradient chooses in the other layers.
        mask: The mask.
        seed: Of the random weights.
        batch_size: Paragraphs a backward pass.

    Returns:
        "random": `mask.random_like(seed)`, left out if more than half of a matrix is chosen. "all": every weight of the blocks, left
        out if the mask is that. "other layers": as many weights as the mask has, none of them its own, of the components that it was
        chosen from, with the largest gradients of the paragraphs' mean NLL in the layers that it does not name. It names the fewest
        layers that together hold at least half of its weights, of equal ones the lower. "other layers" is left out if too few
        weights are left.

    Raises:
        LocalizeError: If the mask is empty, damaged or of another model.
        InputError: If the paragraphs do not fit the model.
    """
    mask.check(model)
    controls = {"random": mask.random_like(seed)} if mask.has_random_like else {}
    if len(everything := choose_weights(model)) > len(mask):
        controls["all"] = everything
    others = sorted(set(range(model.n_layers)) - set(named_layers(mask)))
    components = {component for _, component in mask.shapes}
    cells = [(layer, component) for layer in others for component in COMPONENTS if component in components]
    if sum(model.weight(*cell).numel() - len(mask.indices.get(cell, ())) for cell in cells) < len(mask):
        return controls
    gradients = mean_gradients(model, paragraphs, cells, batch_size, "mask controls")
    sizes = {cell: gradients[cell].abs_() for cell in cells}
    for cell in set(cells) & mask.indices.keys():
        sizes[cell].view(-1)[mask.indices[cell].to(sizes[cell].device)] = -1.0  # its own weights come last
    return controls | {"other layers": largest_count(model, sizes, len(mask))}


def named_layers(mask: WeightMask) -> list[int]:
    """The fewest layers that together hold at least half of a mask's weights, ascending; of equal ones the lower."""
    named, held = [], 0
    for layer, count in sorted(mask.layers.items(), key=lambda item: (-item[1], item[0])):
        if 2 * held >= len(mask):
            break
        named.append(layer)
        held += count
    return sorted(named)


def check_fraction(fraction: float) -> None:
    """Raise a `LocalizeError` unless it is a share of weights to choose."""
    if not 0 < fraction <= 1:
        raise LocalizeError(f"{caller()}: fraction={fraction} must lie above 0 and be at most 1.")


def _cells(
    model: HookedModel, layers: int | Sequence[int] | None, components: str | Sequence[str]
) -> list[tuple[int, str]]:
    """Each (layer, component) asked for, in the order of the ranking."""
    if layers is None:
        layers = range(model.n_layers)
    elif isinstance(layers, int):
        layers = (layers,)
    components = (components,) if isinstance(components, str) else components
    if not components or set(components) - set(COMPONENTS):
        raise LocalizeError(f"{caller()}: components={list(components)} must be some of {', '.join(COMPONENTS)}.")
    if not len(layers) or set(layers) - set(range(model.n_layers)):
        raise LocalizeError(
            f"{caller()}: layers={list(layers)} must be some of 0..{model.n_layers - 1}, the layers of {model.name}."
        )
    return [(layer, component) for layer in sorted(set(layers)) for component in COMPONENTS if component in components]


def _shapes(model: HookedModel, cells: Sequence[tuple[int, str]]) -> dict[tuple[int, str], tuple[int, int]]:
    shapes = {cell: model.weight(*cell).shape for cell in cells}
    return {cell: (shape[0], shape[1]) for cell, shape in shapes.items()}


def largest_count(model: HookedModel, scores: Mapping[tuple[int, str], Float[Tensor, "_ _"]], count: int) -> WeightMask:
    """The `count` weights with the largest scores."""
    cells = sorted(scores, key=lambda cell: (cell[0], COMPONENTS.index(cell[1])))
    for cell in cells:
        if bool(scores[cell].isnan().any()):
            raise LocalizeError(f"{caller()}: a score of layer {cell[0]} {cell[1]} is nan, which cannot be ranked.")
    chosen = largest_exactly(torch.cat([scores[cell].flatten().cpu() for cell in cells]), count)
    starts = np.cumsum([0, *(scores[cell].numel() for cell in cells)])
    edges = torch.searchsorted(chosen, torch.from_numpy(starts)).tolist()
    indices = {cell: chosen[edges[nth] : edges[nth + 1]] - int(starts[nth]) for nth, cell in enumerate(cells)}
    return WeightMask(indices, _shapes(model, cells), model.weights_hash())


def _places_of_heads(
    model: HookedModel, component: str, shape: tuple[int, int], heads: Sequence[int]
) -> Int[Tensor, " place"]:
    """Where some heads lie in a matrix of all heads, ascending."""
    mark = torch.zeros(shape)
    split_heads(mark, component, model.n_heads)[heads] = 1
    return mark.flatten().nonzero()[:, 0]


def wrong_places(
    indices: Mapping[tuple[int, str], Int[Tensor, "_"]], shapes: Mapping[tuple[int, str], tuple[int, int]]
) -> str | None:
    """What is wrong with places of weights, in words; None if they ascend within their matrices."""
    for (layer, component), places in indices.items():
        if (layer, component) not in shapes:
            return f"layer {layer} {component} has places, but no shape."
        if len(places) == 0:
            continue
        size = shapes[layer, component][0] * shapes[layer, component][1]
        if len(outside := places[(places < 0) | (places >= size)]):
            return f"place {int(outside[0])} in layer {layer} {component} must lie in 0..{size - 1}."
        if bool((falls := places[1:] <= places[:-1]).any()):
            nth = int(falls.nonzero()[0])
            return f"places in layer {layer} {component} must ascend, each once, but {int(places[nth + 1])} follows {int(places[nth])}."
    return None


def largest_exactly(values: Float[Tensor, " value"], count: int) -> Int[Tensor, " count"]:
    """Places of the `count` largest values, ascending; of equal values at the edge the first ones."""
    ranked = values.detach().float() if values.dtype.itemsize < 4 else values.detach()  # numpy has no bfloat16
    edge = float(np.partition(ranked.cpu().numpy(), -count)[-count])  # tens of times as fast as topk
    chosen = values > edge
    equal = (values == edge).nonzero()[:, 0]
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen.nonzero()[:, 0]
