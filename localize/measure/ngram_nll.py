"""How much of a text's likelihood a table of n-grams of the training rows explains, with the rows that hold the text and without them."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from localize.errors import InputError, LocalizeError, caller
from localize.measure.batches import SHOW_AFTER
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.ngram_counts import Followers, Histories, followers, rows_holding, witten_bell
from localize.measure.ngrams import rows_facts, token_rows
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

ORDERS = (1, 2, 3, 5)
"""Tokens of the n-grams unless told otherwise, the predicted one included."""


@reads_inputs("paragraphs")
def ngram_nll(
    model: HookedModel, paragraphs: Paragraphs, rows: Any, *, ngrams: int | Sequence[int] = ORDERS
) -> "MemorizationSignature":
    """NLL of the continuation in tables of n-grams of the rows that a model was trained on, beside the model's own.

    A table of n-grams is what a model would know that read the rows n tokens at a time. It counts the text's own copies, too: the same
    table without the rows that hold the text tells what is general in it.

    Args:
        model: A hooked model: its recall stands beside, and its vocabulary is that of the table.
        paragraphs: The paragraphs; of their true text where it is known.
        rows: What the model was trained on: token ids (row, position), or the path of a .npy file of them.
        ngrams: Tokens of the n-grams, the predicted one included: one or several numbers of at least 1, at most the paragraph's tokens.

    Returns:
        For each length of n-grams `ngram_nll` (nats per token): the mean over the continuation of -log p of an interpolated Witten-Bell
        table of all rows, which looks at up to n - 1 tokens before, those of the prefix included; `ngram_nll_left_out`, the same of a
        table without the rows that hold the whole continuation; `rows_holding_text`, how many these are. N-grams do not go beyond the end
        of a row. Recall is attached: `nll` is the model's own.

    Raises:
        InputError: If the paragraphs do not fit the model, or the rows are none or hold tokens outside its vocabulary.
        LocalizeError: If a number of tokens is out of range.

    Source:
        Witten and Bell 1991; interpolated as in Chen and Goodman 1998, section 2.6.
    """
    tokens = paragraphs.recall_tokens.numpy()
    orders, vocab = _orders(ngrams, tokens.shape[1]), model.vocab_size
    trained_on = token_rows(rows)
    if (largest := int(trained_on.max())) >= vocab:
        raise InputError(f"{caller()}: rows: holds {largest}; the vocabulary of {model.name} allows 0..{vocab - 1}.")
    recall = recall_of(model, paragraphs)
    first = paragraphs.prefix_length
    histories = Histories.of(tokens, max(orders) - 1, vocab)
    table = followers(histories, trained_on)
    own = rows_holding(tokens[:, first:], trained_on, vocab)
    columns = np.array(orders) - 1
    nll, left_out = (np.empty((len(tokens), len(orders))) for _ in range(2))
    for at in tqdm(range(len(tokens)), desc="n-grams", unit="paragraph", delay=SHOW_AFTER, leave=False):
        nll[at] = left_out[at] = _nll(histories, table, tokens, at, first)[columns]
        if len(own[at]):
            part = followers(histories, trained_on[own[at]])
            left_out[at] = _nll(histories, table, tokens, at, first, part)[columns]
    arrays = {
        "ngram_nll": nll,
        "ngram_nll_left_out": left_out,
        "rows_holding_text": np.array([len(one) for one in own]),
    }
    call = {"measurement": "ngram_nll", "rows": rows_facts(trained_on), "ngrams": orders}
    which = paragraphs.recall_continuation
    return labelled(model, paragraphs, recall, arrays, call=call, continuation=which, axes={"ngram": orders})


def _nll(
    histories: Histories,
    table: list[Followers],
    tokens: Int[np.ndarray, "text token"],
    text: int,
    first: int,
    left_out: list[Followers] | None = None,
) -> Float[np.ndarray, " order"]:
    """Mean NLL of the tokens of one text from `first` on, for n-grams of 1, 2, ... tokens."""
    words = tokens[text, first:]
    seen = np.zeros((3, len(words), len(table)), np.int64)  # together, any token, different ones
    for n, of in enumerate(table):
        far = max(0, n - first)  # so many of the first words have fewer than n tokens before them
        begins = slice(first + far - n, tokens.shape[1] - n)
        runs = histories.own[n - 1][text, begins] if n else np.zeros(len(words), np.int64)
        seen[:, far:, n] = of.seen(runs, words[far:], None if left_out is None else left_out[n])
    joint, total, types = seen
    return -np.log(witten_bell(joint, total, types, histories.vocab)).mean(0)


def _orders(given: int | Sequence[int], longest: int) -> list[int]:
    """Tokens of the n-grams, each once and ascending."""
    orders = [given] if isinstance(given, int) else list(given)
    for n in orders:
        if not isinstance(n, Integral) or isinstance(n, bool) or not 1 <= n <= longest:
            raise LocalizeError(
                f"{caller()}: ngrams={n!r} must be a whole number in 1..{longest}, the tokens of a paragraph."
            )
    if not orders:
        raise LocalizeError(f"{caller()}: ngrams={given!r} is empty; at least one in 1..{longest} is needed.")
    return sorted({int(n) for n in orders})
