"""Rows of a Markov chain: text whose law is known, of which as much as is wanted is new."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from localize.errors import InputError
from localize.train.recipe import TrainingCorpus

CONCENTRATION = 0.025
"""Of the Dirichlet distribution that each word's successors are drawn from: of 64 words they have about 1.3 nats of entropy."""
BLOCK = 1024
"""Rows drawn together; each block has a key of its own, so that rows are the same wherever a series is entered."""


def transitions(corpus: TrainingCorpus) -> Float[np.ndarray, "word word"]:
    """The probability of each word after each; 0 for words that the chain does not use.

    Raises:
        InputError: If the words are not among the vocabulary.
    """
    first, after = corpus.words or (0, corpus.vocab)
    if not 0 <= first < after <= corpus.vocab or not (corpus.mark is None or 0 <= corpus.mark < corpus.vocab):
        raise InputError(
            f"recipe: a chain of the words {first}..{after - 1} with mark={corpus.mark}: 0..{corpus.vocab - 1} are its vocabulary."
        )
    rng = np.random.default_rng([corpus.rules, 11])
    matrix = np.zeros((corpus.vocab, corpus.vocab))
    used = slice(first, after)
    matrix[used, used] = rng.dirichlet(np.full(after - first, CONCENTRATION), after - first)
    return matrix


def chain_rows(
    corpus: TrainingCorpus, key: tuple[int, ...], length: int, *, start: int = 0
) -> Iterator[Int[np.ndarray, " position"]]:
    """Rows `start`, `start + 1`, ... of the series `key`, without end.

    The first word, after the mark where there is one, is any of those that the chain uses alike.
    """
    first, after = corpus.words or (0, corpus.vocab)
    total = np.cumsum(transitions(corpus), axis=1)
    total /= total[:, -1:].clip(1e-300)
    begun = int(corpus.mark is not None)
    block, skipped = divmod(start, BLOCK)
    while True:
        rng = np.random.default_rng([*key, 12, block])
        chance = rng.random((BLOCK, length))
        rows = np.empty((BLOCK, length), np.int64)
        if corpus.mark is not None:
            rows[:, 0] = corpus.mark
        rows[:, begun] = first + (chance[:, begun] * (after - first)).astype(np.int64)
        for at in range(begun + 1, length):
            rows[:, at] = np.minimum((total[rows[:, at - 1]] <= chance[:, at, None]).sum(1), after - 1)
        yield from rows[skipped:]
        block, skipped = block + 1, 0


def chain_text(row: Int[np.ndarray, " position"]) -> str:
    """A row as text that `chain_tokenizer` reads back."""
    return " ".join(f"w{word}" for word in row)


def chain_tokenizer(vocab: int) -> Any:
    """A tokenizer of a chain's words, divided by spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{word}": word for word in range(vocab)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
