"""Which token ids a text can hold: an embedding is often padded past its tokenizer, and no text holds what is beyond."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from localize.errors import ModelError

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


def text_tokens(model: "HookedModel") -> Int[np.ndarray, " token"]:
    """The ids from which random tokens are drawn, ascending.

    Returns:
        Those that the model's tokenizer has, special and added ones too: they stand between texts in training, and a text that spells
        them out holds them. Without a tokenizer, or with one that does not tell its ids, the whole vocabulary.

    Raises:
        ModelError: If the tokenizer has fewer than two ids within the vocabulary.
    """
    tell = getattr(model.tokenizer, "get_vocab", None)
    if tell is None:
        return np.arange(model.vocab_size)
    ids = np.unique(np.fromiter(tell().values(), np.int64))
    ids = ids[(ids >= 0) & (ids < model.vocab_size)]
    if len(ids) < 2:
        raise ModelError(
            f"{model.name}: its tokenizer has {len(ids)} ids within the vocabulary, 0..{model.vocab_size - 1}; another token to put in "
            "the place of one needs at least two."
        )
    return ids


def text_tokens_words(model: "HookedModel") -> str:
    """Which ids those are, for the provenance."""
    count = len(text_tokens(model))
    if getattr(model.tokenizer, "get_vocab", None) is None:
        return f"all {count} ids of the vocabulary, without a tokenizer"
    return f"the tokenizer's {count} of {model.vocab_size} ids"


def text_tokens_hash(model: "HookedModel") -> str | None:
    """A digest of those ids; None where they are the whole vocabulary."""
    ids = text_tokens(model)
    return None if len(ids) == model.vocab_size else hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
