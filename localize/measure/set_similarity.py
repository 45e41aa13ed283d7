"""Whether two sets of paragraphs pull on the same weights in the same direction."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from localize.axes import COMPONENTS
from localize.measure.equal_sets import EQUAL, Sets, sets_of
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
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    set_sizes: str = EQUAL,
    set_draws: int = 4,
    seed: int = 0,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """Cosine between the gradients of groups' mean NLL, per layer and component, beside what halves of one group reach.

    The clusters of each set are cut into two random halves. How alike two groups can be at most, at half their size, is what the
    two halves of one set are; in so many dimensions unrelated gradients have a cosine near 0. Both grow with the sets' size.

    Args:
        model: A hooked model.
        paragraphs: At least one group; gradients are of the continuation they hold.
        set_sizes: "equal" draws of each group disjoint random sets as large as the smallest group, "all" takes each group whole.
        set_draws: Sets of each group at most.
        seed: Of sets and halves.
        batch_size: Paragraphs a backward pass.

    Returns:
        `set_similarity` of whole sets, mean over the pairs of the two groups' sets, 1 on the diagonal; `set_split_similarity`, the
        mean cosine of a half of the one with a half of the other and, on the diagonal, of one set's two halves: nan for sets of
        one cluster. Both in [-1, 1]. `set_size`, `set_count`: paragraphs of each set, sets of each group. Two copies of the
        blocks' weights per set are held in memory. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.
        LocalizeError: If `set_sizes` is another word, or `set_draws` below 1.

    Source:
        Stoehr et al. 2024, appendix: whole sets. The halves: ours.
    """
    recall = recall_of(model, paragraphs)
    group = groups_of(paragraphs, recall)
    drawn = sets_of(group, paragraphs.hashes, sizes=set_sizes, draws=set_draws, seed=seed)
    names, count, chosen = drawn.names, len(drawn.group), np.flatnonzero(drawn.of >= 0)
    half = _halves(drawn.of[chosen], paragraphs.clusters[chosen], seed)
    labels = 2 * drawn.of[chosen] + half
    found = set_gradients(model, paragraphs[chosen], labels, batch_size=batch_size, what="set similarity").by_set
    sizes = np.bincount(labels, minlength=2 * count).reshape(count, 2)
    shape = (len(names), len(names), model.n_layers, len(COMPONENTS))
    whole, split = np.full(shape, np.nan), np.full(shape, np.nan)
    for layer in range(model.n_layers):
        for c, component in enumerate(COMPONENTS):
            parts = [found[label][layer, component] if label in found else None for label in range(2 * count)]
            of_sets = _cosines(_products(parts), sizes)
            whole[:, :, layer, c], split[:, :, layer, c] = (_of_groups(one, drawn) for one in of_sets)
    arrays = {"set_similarity": whole, "set_split_similarity": split}
    arrays |= drawn.arrays()
    call = {
        "measurement": "set_similarity",
        "set_sizes": set_sizes,
        "set_draws": set_draws,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": names, "other_set": names})


def _of_groups(of_sets: Float[np.ndarray, "drawn_set drawn_set"], drawn: Sets) -> Float[np.ndarray, "set set"]:
    """The mean over pairs of two groups' sets that have a cosine; of one group, of each set with itself."""
    means = np.full((len(drawn.names), len(drawn.names)), np.nan)
    for i, one in enumerate(drawn.names):
        for j, other in enumerate(drawn.names):
            rows = drawn.drawn(one)
            cosines = of_sets[rows, rows] if i == j else of_sets[np.ix_(rows, drawn.drawn(other))]
            if not np.isnan(cosines).all():
                means[i, j] = np.nanmean(cosines)
    return means


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
