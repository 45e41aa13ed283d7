"""Recall from the context beside recall from the weights: a text's continuation with the text, or another one, shown once before."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.axes import SHOWN
from localize.errors import LocalizeError, caller
from localize.keyed import keyed_uniforms
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.partners import check_clusters, mismatched
from localize.measure.scoring import check_changed, recall_of, score_tokens
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs", check=check_clusters)
@torch.no_grad()
def in_context(
    model: HookedModel, paragraphs: Paragraphs, *, length: int | None = None, seed: int = 0, batch_size: int = 64
) -> "MemorizationSignature":
    """NLL and exact match of a continuation behind its prefix alone, with the same text shown once before, and with another one.

    What is said behind the prefix alone comes from the weights. Another text shown before is the null: as much context, and the asked
    text at the same positions, but nothing to copy. What the same text shown before adds to that comes from the context: by copying,
    where it also adds to what its tokens do in another order, which tell the topic and the words alone.

    Texts are the first tokens of the paragraphs, cut into prefix and continuation in the proportion of the paragraph's. Alone a text
    stands at positions 0, 1, ..., as in recall; behind another it begins at position `length`. So "nothing" differs from the others in
    position, too, which a model with position embeddings sees; the others stand alike. What is shown stands `length` tokens back: a
    local layer whose window is shorter cannot reach it.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; of their true text where it is known.
        length: Tokens of a text, prefix and continuation together; None for half of the paragraph's, so that two stand where recall
            reads one. Longer ones may reach positions that fit the context but that no training row had.
        seed: Of the choice of the other texts, and of the other order, keyed by it and the paragraph.
        batch_size: Paragraphs a forward pass.

    Returns:
        Along `shown` ("nothing", "same", "shuffled", "other"): `in_context_nll` (nats per token) of the continuation and
        `in_context_exact_match` (tokens), which is read off the same teacher-forced pass: up to the first error decoding says the true
        tokens. The other text is a paragraph of another cluster. Recall, of the whole paragraph, is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, or are all in one cluster.
        LocalizeError: If `length` is out of range, or an NLL is not finite.

    Source:
        Ours.
    """
    length = _length(model, paragraphs, length)
    recall = recall_of(model, paragraphs)
    others = mismatched(paragraphs, 1, seed)[:, 0]
    texts, prefix = paragraphs.recall_tokens[:, :length], prefix_of(length, paragraphs)
    before = {"same": texts, "shuffled": shuffled(texts, paragraphs.hashes, seed), "other": texts[others]}
    nll, exact_match = (np.empty((len(paragraphs), len(SHOWN))) for _ in range(2))

    def work(rows: slice) -> None:
        for at, shown in enumerate(SHOWN):
            asked = texts[rows]
            tokens = asked if shown not in before else torch.cat([before[shown][rows], asked], dim=1)
            right, loss = score_tokens(model, tokens.to(model.device), tokens.shape[1] - length + prefix)
            nll[rows, at] = loss.double().mean(1).cpu().numpy()
            exact_match[rows, at] = right.cumprod(1).sum(1).cpu().numpy()

    in_batches(work, len(paragraphs), batch_size, what="in context")
    check_changed(model, paragraphs.ids, nll)
    call = {"measurement": "in_context", "length": length, "prefix": prefix, "seed": seed, "batch_size": batch_size}
    arrays = {"in_context_nll": nll, "in_context_exact_match": exact_match}
    return labelled(model, paragraphs, recall, arrays, call=call, continuation=paragraphs.recall_continuation)


def shuffled(
    texts: Int[Tensor, "paragraph position"], hashes: Sequence[bytes], seed: int
) -> Int[Tensor, "paragraph position"]:
    """The tokens of each text in an order of its own, keyed by seed and paragraph."""
    orders = [np.argsort(keyed_uniforms(texts.shape[1], "order", seed, key), kind="stable") for key in hashes]
    return texts.gather(1, torch.from_numpy(np.stack(orders)))


def prefix_of(length: int, paragraphs: Paragraphs) -> int:
    """How many of the first tokens are the prefix: the paragraphs' own share, at least one and not all."""
    whole = paragraphs.tokens.shape[1]
    return min(max(1, round(length * paragraphs.prefix_length / whole)), length - 1)


def _length(model: HookedModel, paragraphs: Paragraphs, given: int | None) -> int:
    """Tokens of a text."""
    whole = paragraphs.tokens.shape[1]
    most = min(model.n_ctx // 2, whole)
    length = min(most, max(2, whole // 2)) if given is None else given
    if not isinstance(length, Integral) or isinstance(length, bool) or not 2 <= length <= most:
        raise LocalizeError(
            f"{caller()}: length={length!r} must be a whole number in 2..{most}: a text has {whole} tokens, and two must fit the context "
            f"of {model.name}, which is {model.n_ctx}."
        )
    return int(length)
