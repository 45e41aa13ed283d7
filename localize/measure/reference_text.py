"""What a head's mean output is taken over: one named text, the same for every paragraph and group.

A mean over the paragraphs that are measured would make each one's number depend on which others are measured with it.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.synthetic import synthetic_paragraphs
from localize.paragraphs.tokenization import Tokenization
from localize.paragraphs.unseen import UNSEEN_FROM

GENERAL_TEXT, OWN_SET = "general text", "the paragraphs measured"
GENERAL_ROWS = 128
"""Of general text. With another series of as many, the rises of the embedded model's 32 heads move by .8 % in the median."""

HASH_LETTERS = 16


class ReferenceText(NamedTuple):
    """Rows of tokens, and how much each counts.

    Attributes:
        tokens: What the model reads.
        weights: Near-duplicates share the weight of one; they sum to 1.
        name: What it is, with a digest of it.
    """

    tokens: Int[Tensor, "row position"]
    weights: Float[Tensor, " row"]
    name: str

    @classmethod
    def of_paragraphs(cls, paragraphs: Paragraphs, tokens: Int[Tensor, "row position"], words: str) -> "ReferenceText":
        """All tokens but each paragraph's last, which predicts nothing; every cluster of near-duplicates counts alike."""
        _, cluster, sizes = np.unique(paragraphs.clusters, return_inverse=True, return_counts=True)
        weights = torch.from_numpy(1 / (sizes[cluster] * len(sizes)))
        return cls(tokens[:, :-1], weights, f"{words}, {paragraphs.data_hash[:HASH_LETTERS]}")


def reference_text(
    model: HookedModel, paragraphs: Paragraphs, tokens: Int[Tensor, "row position"], given: Paragraphs | None
) -> ReferenceText:
    """The text that is given; else general text, where the model's tokenizer speaks its vocabulary; else the paragraphs measured.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs measured.
        tokens: What of them is measured: with their true or the model's own continuation.
        given: What the user names.

    Raises:
        InputError: If what is given does not fit the model.
    """
    if given is not None:
        given.check_fits(model)
        return ReferenceText.of_paragraphs(given, given.tokens, given.source)
    return general_text(model, tokens.shape[1] - 1) or ReferenceText.of_paragraphs(paragraphs, tokens, OWN_SET)


def general_text(model: HookedModel, length: int) -> ReferenceText | None:
    """Generated paragraphs that no embedded model was trained on, one after the other in rows of so many tokens.

    Args:
        model: Its tokenizer reads them.
        length: Tokens of a row.

    Returns:
        None if the model has no tokenizer, or one that gives tokens outside of its vocabulary.
    """
    if model.tokenizer is None:
        return None
    tokenization, index = Tokenization(model.tokenizer), UNSEEN_FROM
    stream: list[int] = []
    while len(stream) < GENERAL_ROWS * length:
        for paragraph in synthetic_paragraphs(GENERAL_ROWS, seed=0, start=index):
            stream += tokenization.tokens(paragraph.text)
        index += GENERAL_ROWS
    tokens = torch.tensor(stream[: GENERAL_ROWS * length]).view(GENERAL_ROWS, length)
    if int(tokens.max()) >= model.vocab_size:
        return None
    digest = hashlib.sha256(tokens.numpy().astype("<i8").tobytes()).hexdigest()
    weights = torch.full((GENERAL_ROWS,), 1 / GENERAL_ROWS, dtype=torch.float64)
    return ReferenceText(tokens, weights, f"{GENERAL_TEXT}, {digest[:HASH_LETTERS]}")
