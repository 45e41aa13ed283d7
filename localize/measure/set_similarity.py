"""Whether two sets of paragraphs pull on the same weights in the same direction."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from localize.axes import COMPONENTS
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.scoring import recall_of
from localize.measure.set_gradients import set_gradients
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
def set_similarity(
    model: HookedModel, paragraphs: Paragraphs, *, seed: int = 0, batch_size: int = 16
) -> "MemorizationSignature":
    """Cosine between the gradients of groups' mean NLL, per layer and component, beside what halves of one group reach.

    Each group's clusters are cut into two random halves. How alike two groups can be at most, at half their size, is what the two
    halves of one group are; in so many dimensions unrelated gradients have a cosine near 0.

    Args:
        model: A hooked model.
        paragraphs: At least one group; gradients are of the continuation they hold.
        seed: Of the halves.
        batch_size: Paragraphs a backward pass.

    Returns:
        `set_similarity` of whole groups, 1 on the diagonal; `set_split_similarity`, the mean cosine of a half of the one with a half
        of the other and, on the diagonal, of one group's two halves: nan for a group of one cluster. Both in [-1, 1]. Two copies
        of the blocks' weights per group are held in memory. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.

    Source:
        Stoehr et al. 2024, appendix: whole sets. The halves: ours.
    """
    recall = recall_of(model, paragraphs)
    group = groups_of(paragraphs, recall)
    names = tuple(dict.fromkeys(group.tolist()))
    half = _halves(group, paragraphs.clusters, seed)
    labels = np.array([2 * names.index(name) + int(second) for name, second in zip(group.tolist(), half, strict=True)])
    found = set_gradients(model, paragraphs, labels, batch_size=batch_size, what="set similarity").by_set
    sizes = np.bincount(labels, minlength=2 * len(names)).reshape(len(names), 2)
    shape = (len(names), len(names), model.n_layers, len(COMPONENTS))
    whole, split = np.full(shape, np.nan), np.full(shape, np.nan)
    for layer in range(model.n_layers):
        for c, component in enumerate(COMPONENTS):
            parts = [found[label][layer, component] if label in found else None for label in range(2 * len(names))]
            whole[:, :, layer, c], split[:, :, layer, c] = _cosines(_products(parts), sizes)
    arrays = {"set_similarity": whole, "set_split_similarity": split}
    call = {"measurement": "set_similarity", "seed": seed, "batch_size": batch_size}
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": names, "other_set": names})


def _halves(
    group: Shaped[np.ndarray, " paragraph"], clusters: Int[np.ndarray, " paragraph"], seed: int
) -> Shaped[np.ndarray, " paragraph"]:
    """Which paragraphs lie in the second half of their group's clusters."""
    second = np.zeros(len(group), dtype=bool)
    for name in dict.fromkeys(group.tolist()):
        of_group = np.unique(clusters[group == name])
        chosen = np.random.default_rng([seed, 13]).permutation(of_group)[: len(of_group) // 2]
        second |= (group == name) & np.isin(clusters, chosen)
    return second


def _products(parts: list[Tensor | None]) -> Float[np.ndarray, "half half"]:
    """Inner products of all pairs, in float64; nan where a half is empty."""
    products = np.full((len(parts), len(parts)), np.nan)
    for i, one in enumerate(parts):
        for j, other in enumerate(parts[: i + 1]):
            if one is not None and other is not None:
                # By column first, so that float32 sums few terms before float64 takes over.
                products[i, j] = products[j, i] = float((one * other).sum(0).double().sum())
    return products


def _cosines(
    products: Float[np.ndarray, "half half"], sizes: Int[np.ndarray, "set 2"]
) -> tuple[Float[np.ndarray, "set set"], Float[np.ndarray, "set set"]]:
    """Of whole sets, whose gradient is their halves' mean by size, and of halves; nan where a gradient is 0."""
    sets = len(sizes)
    mixing = np.zeros((sets, 2 * sets))
    for s in range(sets):
        mixing[s, 2 * s : 2 * s + 2] = sizes[s] / sizes[s].sum()
    whole = _normalized(mixing @ np.nan_to_num(products) @ mixing.T)
    cosine = _normalized(products).reshape(sets, 2, sets, 2)
    split = cosine.mean((1, 3))
    split[np.arange(sets), np.arange(sets)] = cosine[np.arange(sets), 0, np.arange(sets), 1]
    return whole, split


def _normalized(products: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    norms = np.sqrt(np.diag(products))
    scale = np.outer(norms, norms)
    return np.divide(products, scale, out=np.full_like(products, np.nan), where=scale > 0).clip(-1, 1)
