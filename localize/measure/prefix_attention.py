"""What every attention head pays to each prefix token."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from localize.axes import QUERIES
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.looking import look
from localize.measure.scoring import check_finite, recall_in_passing, score
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
@torch.no_grad()
def prefix_attention(model: HookedModel, paragraphs: Paragraphs, *, batch_size: int = 64) -> "MemorizationSignature":
    """The attention that every head pays to each token of the prefix.

    Who looks is the last token of the prefix, and, averaged, those of the continuation. The last of these is not fed: nothing is
    predicted after it.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; their continuations are those that look.
        batch_size: Paragraphs a forward pass; the numbers are the same for any, up to rounding.

    Returns:
        `prefix_attention`, a share of the attention. That of the last prefix token sums to 1 over the prefix, that of the
        continuation to at most 1: the rest goes to the continuation itself. 0 where a local layer does not see the token; nan
        from a continuation of one token, of which none is fed. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model.
    """
    recall, in_passing = recall_in_passing(model, paragraphs)
    prefix_length = paragraphs.prefix_length
    shape = (len(paragraphs), len(QUERIES), model.n_layers, model.n_heads, prefix_length)
    attention = np.empty(shape, np.float64 if model.dtype == torch.float64 else np.float32)

    def work(rows: slice) -> None:
        tokens = paragraphs.tokens[rows].to(model.device)
        looks, states = look(model, tokens, prefix_length)
        attention[rows] = looks.attention.transpose(0, 1).cpu().numpy()
        if in_passing:
            recall.fill(rows, *score(model, states, tokens[:, prefix_length:]))

    in_batches(work, len(paragraphs), batch_size, what="prefix attention")
    check_finite(model, paragraphs, recall)
    call = {"measurement": "prefix_attention", "batch_size": batch_size}
    return labelled(model, paragraphs, recall, {"prefix_attention": attention}, call=call)
