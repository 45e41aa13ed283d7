"""Whether a paragraph and its changed copy pull on the same weights in the same direction."""

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from localize.axes import COMPONENTS
from localize.errors import InputError, caller
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.gradient_size import gradient_products, outer_and_inner
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.partners import mismatched
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


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
            f"{caller()}: the copies are {copies!r} and the paragraphs {paragraphs!r}; one copy of the same prefix and "
            "continuation length is needed for each paragraph."
        )
    copies.check_fits(model)
    recall = recall_of(model, paragraphs)
    partners = torch.from_numpy(mismatched(paragraphs, 1, seed)[:, 0])
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


def _told(copies: Paragraphs) -> str:
    """Which texts the copies are: also where they are a model's own continuations, of which `data_hash` tells nothing."""
    digest = hashlib.sha256(copies.tokens.numpy().astype("<i8").tobytes()).hexdigest()
    return f"{copies.source}, {copies.continuation} continuation, tokens {digest}"
