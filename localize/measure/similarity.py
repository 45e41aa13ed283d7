"""Whether two sets of paragraphs, or a paragraph and its changed copy, pull on the same weights in the same direction."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from localize.axes import COMPONENTS
from localize.errors import InputError
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.gradient_size import gradient_products, outer_and_inner
from localize.measure.heads import mismatched
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.recall import recall_of
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


def _told(copies: Paragraphs) -> str:
    """Which texts the copies are: also where they are a model's own continuations, of which `data_hash` tells nothing."""
    digest = hashlib.sha256(copies.tokens.numpy().astype("<i8").tobytes()).hexdigest()
    return f"{copies.source}, {copies.continuation} continuation, tokens {digest}"


@reads_inputs("paragraphs", "copies")
def copy_similarity(
    model: HookedModel, paragraphs: Paragraphs, copies: Paragraphs, *, seed: int = 0, batch_size: int = 16
) -> "MemorizationSignature":
    """Cosine between the gradients of each paragraph and of its changed copy, per layer and component.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs, in two clusters at least.
        copies: As many, row by row the same paragraph changed: another prefix token, another continuation.
        seed: Of the null's partners.
        batch_size: Rows a backward pass; a paragraph, its copy and the null's copy are three.

    Returns:
        `copy_similarity` and `copy_similarity_null`, the cosine with the copy of a paragraph from another cluster; in [-1, 1], nan where a
        gradient is 0. Recall is attached.

    Raises:
        InputError: If there is not one copy of like shape for each paragraph, all are in one cluster, or something does not fit
            the model.

    Source:
        Stoehr et al. 2024, appendix, of sets. Per paragraph, and the null: ours.
    """
    if copies.tokens.shape != paragraphs.tokens.shape or copies.prefix_length != paragraphs.prefix_length:
        raise InputError(
            f"copy_similarity: the copies are {copies!r} and the paragraphs {paragraphs!r}; one copy of the same prefix and "
            "continuation length is needed for each paragraph."
        )
    copies.check_fits(model)
    recall = recall_of(model, paragraphs)
    partners = torch.from_numpy(mismatched(paragraphs, 1, seed, "copy_similarity")[:, 0])
    shape = (2, len(paragraphs), model.n_layers, len(COMPONENTS))
    similarity = torch.full(shape, torch.nan, dtype=torch.promote_types(model.dtype, torch.float32))

    def work(rows: slice) -> None:
        count = rows.stop - rows.start

        def on_linear(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            sides = outer_and_inner(component, x, d)
            own, copy, other = zip(*(side.split(count) for side in sides), strict=True)
            squares = [gradient_products(one, one, 1).clamp(min=0)[:, 0] for one in (own, copy, other)]
            for null, (two, square) in enumerate(zip((copy, other), squares[1:], strict=True)):
                scale = (squares[0] * square).sqrt()
                cosine = gradient_products(own, two, 1)[:, 0] / scale
                similarity[null, rows, layer, COMPONENTS.index(component)] = cosine.clamp(-1, 1).cpu()

        triple = [paragraphs.tokens[rows], copies.tokens[rows], copies.tokens[partners[rows]]]
        tokens = torch.cat(triple).to(model.device)
        backward_pass(model, tokens, continuation_mask(tokens, paragraphs.prefix_length), on_linear=on_linear)

    in_batches(work, len(paragraphs), max(1, batch_size // 3), what="copy similarity")
    arrays = {"copy_similarity": similarity[0], "copy_similarity_null": similarity[1]}
    call = {"measurement": "copy_similarity", "copies": _told(copies), "seed": seed, "batch_size": batch_size}
    return labelled(model, paragraphs, recall, arrays, call=call)
