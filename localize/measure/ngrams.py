"""How much of what a model says after a prefix stands in the rows that it was trained on, beside how much of the true text does."""

import hashlib
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import in_batches
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

LENGTHS = (2, 3, 4, 6, 8)
"""Tokens of the n-grams unless told otherwise, where the continuation has as many."""

AT_ONCE = 2**22
"""Tokens of rows that are looked through at once."""


def sampling_logits(
    logits: Float[Tensor, "row vocab"], temperature: float, top_k: int | None
) -> Float[Tensor, "row vocab"]:
    """Logits that sampling draws from: over the temperature, -inf below the top k."""
    scaled = logits / temperature
    if top_k is not None and top_k < scaled.shape[1]:
        least = scaled.topk(top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return scaled


def drawn_tokens(logits: Float[Tensor, "row vocab"], uniform: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The token of each row at which the summed probability first exceeds a uniform number; one of no probability is never drawn."""
    reached = logits.softmax(-1).cumsum(-1)
    below_one = uniform.clamp(max=1 - torch.finfo(uniform.dtype).eps)  # in float32 what is just below rounds to 1
    return (reached <= below_one[:, None] * reached[:, -1:]).sum(-1)


def sampled_continuations(
    model: HookedModel,
    paragraphs: Paragraphs,
    samples: int,
    *,
    temperature: float,
    top_k: int | None,
    seed: int,
    batch_size: int,
) -> Int[np.ndarray, "paragraph sample continuation_position"]:
    """What the model says after each prefix when it is sampled, some times; draws are keyed by seed, paragraph and sample."""
    prefixes, length = paragraphs.recall_tokens[:, : paragraphs.prefix_length], paragraphs.continuation_length
    said = np.empty((len(paragraphs), samples, length), np.int64)

    def work(rows: slice) -> None:
        drawn = [uniforms(key, samples, length, seed) for key in paragraphs.hashes[rows]]
        uniform = torch.from_numpy(np.concatenate(drawn))  # (paragraph sample, position)

        def choose(logits: Tensor, at: int) -> Tensor:
            precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
            here = uniform[:, at].to(precise.dtype).to(precise.device)
            return drawn_tokens(sampling_logits(precise, temperature, top_k), here)

        given = prefixes[rows].to(model.device).repeat_interleave(samples, 0)
        found = model.continue_by(given, length, choose)
        said[rows] = found.view(-1, samples, length).cpu().numpy()

    in_batches(work, len(paragraphs), max(1, batch_size // samples), what="samples")
    return said


def uniforms(key: bytes, samples: int, length: int, seed: int) -> Float[np.ndarray, "sample position"]:
    """Numbers in [0, 1) of a paragraph's samples; more samples begin with those of fewer."""
    return np.random.default_rng(keyed_integer(2**32, "samples", seed, key)).random((samples, length))


def shares_in_rows(
    texts: Int[np.ndarray, "text token"], rows: Integer[np.ndarray, "row position"], lengths: Sequence[int]
) -> Float[np.ndarray, "text ngram"]:
    """Share of each text's n-grams that stand somewhere in a row; those that go beyond the end of a row are none.

    The n-grams of the texts have numbers, those of n tokens by their first n - 1 and the last, so that none are mistaken for others
    however many words there are; rows are then looked through for these alone.

    Args:
        texts: Token ids, of all texts as many.
        rows: Token ids.
        lengths: Tokens of the n-grams, at most those of a text.
    """
    base = int(max(texts.max(initial=0), rows.max(initial=0))) + 1
    known, own = [], []  # of n = 1, 2, ...: the distinct n-grams, and which of them stands at each place of each text
    for n in range(1, max(lengths) + 1):
        keys = texts if n == 1 else own[-1][:, :-1] * base + texts[:, n - 1 :]
        distinct, number = np.unique(keys, return_inverse=True)
        known.append(distinct)
        own.append(number.reshape(keys.shape))
    seen = [np.zeros(len(distinct), bool) for distinct in known]
    size = max(1, AT_ONCE // max(rows.shape[1], 1))
    for start in range(0, len(rows), size):
        _mark(seen, known, np.asarray(rows[start : start + size], np.int64), base)
    return np.stack([seen[n - 1][own[n - 1]].mean(1) for n in lengths], axis=1)


def _mark(
    seen: list[Bool[np.ndarray, " _"]],
    known: list[Int[np.ndarray, " _"]],
    rows: Int[np.ndarray, "row position"],
    base: int,
) -> None:
    """Mark the n-grams that stand in these rows; a place is followed as long as its n-gram is one of them."""
    flat, length = rows.ravel(), rows.shape[1]
    place, number = np.arange(len(flat)), np.zeros(len(flat), np.int64)
    for n, (distinct, marked) in enumerate(zip(known, seen, strict=True), 1):
        inside = place % length + n <= length
        place, number = place[inside], number[inside]
        keys = number * base + flat[place + n - 1]
        at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
        hit = distinct[at] == keys
        place, number = place[hit], at[hit]
        marked[number] = True


def ngram_lengths(given: int | Sequence[int] | None, continuation_length: int) -> list[int]:
    """Tokens of the n-grams, ascending.

    Raises:
        LocalizeError: If one is longer than the continuation, or none is given.
    """
    if given is None:
        return [n for n in LENGTHS if n <= continuation_length] or [continuation_length]
    lengths = [given] if isinstance(given, int) else list(given)
    for n in lengths:
        if not isinstance(n, Integral) or not 1 <= n <= continuation_length:
            raise LocalizeError(
                f"{caller()}: ngrams={n!r} must be a whole number in 1..{continuation_length}, the tokens of the continuation."
            )
    if not lengths:
        raise LocalizeError(
            f"{caller()}: ngrams={given!r} is empty; at least one in 1..{continuation_length} is needed."
        )
    return sorted({int(n) for n in lengths})


def token_rows(given: Any) -> Integer[np.ndarray, "row position"]:
    """Rows of token ids, or those that a .npy file holds.

    Raises:
        InputError: If the file cannot be read, or they are not whole numbers of at least 0 in rows of one length.
    """
    rows, what = given, "rows"
    if isinstance(given, str | Path):
        what = f"rows {given}"
        try:
            rows = np.load(given, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise InputError(f"{caller()}: {what}: cannot be read; a .npy file of token ids is needed.") from None
    array = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    if array.dtype.kind not in "iu" or array.ndim != 2 or not array.size:
        raise InputError(
            f"{caller()}: {what}: {array.dtype} of shape {array.shape}; token ids, (row, position), are needed."
        )
    if (least := int(array.min())) < 0:
        raise InputError(f"{caller()}: {what}: holds {least}; token ids are 0 or more.")
    return array


def rows_facts(rows: Integer[np.ndarray, "row position"]) -> dict[str, Any]:
    """What rows are, for the provenance."""
    digest = hashlib.sha256()
    for start in range(0, len(rows), AT_ONCE):
        digest.update(np.ascontiguousarray(rows[start : start + AT_ONCE], dtype="<i8").tobytes())
    return {"shape": list(rows.shape), "hash": digest.hexdigest()}
