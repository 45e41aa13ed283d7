"""How often each token stands in a corpus."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.errors import InputError, LocalizeError
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


def unigram_counts(
    corpus: Any, *, vocab_size: int, tokenizer: Any = None, text_field: str = "text"
) -> Int[Tensor, " vocab"]:
    """Occurrences of each token in a corpus, read as a stream; of equal documents only the first counts.

    Args:
        corpus: `Paragraphs`; a `.npy` file or array of token rows; a text file, one document a line; or any iterable of
            strings, of rows with a text field (a streamed `datasets.Dataset`), or of token id sequences. One flat sequence
            of token ids is one document.
        vocab_size: Length of the result; a token id outside it is an error.
        tokenizer: Needed where the corpus is text.
        text_field: The field of a row that holds its text.

    Returns:
        int64 counts, one per token id.

    Raises:
        InputError: If a document cannot be read as tokens, or a token lies outside the vocabulary.
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    seen: set[bytes] = set()
    for number, document in enumerate(_documents(corpus)):
        row = _token_ids(document, number, tokenizer, text_field)
        key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        if key in seen or row.size == 0:
            continue
        seen.add(key)
        if row.min() < 0 or row.max() >= vocab_size:
            worst = row[(row < 0) | (row >= vocab_size)][0]
            raise InputError(
                f"corpus document {number}: token id {worst} is outside the vocabulary, 0..{vocab_size - 1}."
            )
        np.add.at(counts, row, 1)
    if not seen:
        raise InputError("corpus: no documents; at least one is needed to count tokens.")
    return torch.from_numpy(counts)


def corpus_counts(
    model: "HookedModel",
    paragraphs: Paragraphs,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None,
    caller: str,
) -> tuple[Int[Tensor, " vocab"], str]:
    """The counts that say how rare a token is, and a few words on whose they are.

    Args:
        model: Its training corpus is counted, where its folder has the counts and none are given.
        paragraphs: Counted themselves, where neither is there.
        counts: Occurrences of each token in a reference corpus, or None.
        caller: The measurement that asks, named in errors.

    Returns:
        One count per token of the vocabulary; "given", "training corpus" or "the paragraphs measured".

    Raises:
        LocalizeError: If `counts` is no array of one entry per token of the vocabulary.
    """
    whose = "given"
    if counts is None:
        whose = "training corpus" if model.unigram_counts is not None else "the paragraphs measured"
        counts = model.unigram_counts
    if counts is None:
        counts = unigram_counts(paragraphs, vocab_size=model.vocab_size)
    if not isinstance(counts, torch.Tensor | np.ndarray):
        raise LocalizeError(
            f"{caller}: counts is a {type(counts).__name__}; one count per token is needed, as unigram_counts gives them."
        )
    counts = torch.as_tensor(counts)
    if len(counts) != model.vocab_size:
        raise LocalizeError(
            f"{caller}: counts has {len(counts)} entries; the vocabulary of {model.name} has {model.vocab_size}."
        )
    return counts, whose


def counts_hash(counts: Int[Tensor, " vocab"]) -> str:
    """A digest of token counts, for the provenance."""
    return hashlib.sha256(counts.cpu().numpy().astype("<i8").tobytes()).hexdigest()


def _documents(corpus: Any) -> Iterable[Any]:
    if isinstance(corpus, Paragraphs):
        return corpus.recall_tokens.numpy()
    if isinstance(corpus, str | Path):
        path = Path(corpus)
        if not path.is_file():
            raise InputError(f"corpus {path}: no such file.")
        if path.suffix == ".npy":
            try:
                corpus = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise InputError(f"corpus {path}: not an array of token ids ({str(error).splitlines()[0]}).") from None
        else:
            return _lines(path)
    if isinstance(corpus, torch.Tensor):
        corpus = corpus.numpy()
    flat = corpus.ndim == 1 if isinstance(corpus, np.ndarray) else isinstance(corpus, list | tuple) and _is_flat(corpus)
    return [corpus] if flat else corpus


def _is_flat(corpus: Sequence[Any]) -> bool:
    return bool(corpus) and all(isinstance(item, int | np.integer) for item in corpus)


def _lines(path: Path) -> Iterable[str]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"corpus {path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _token_ids(document: Any, number: int, tokenizer: Any, text_field: str) -> np.ndarray:
    if isinstance(document, dict):
        if text_field not in document:
            raise InputError(
                f"corpus document {number}: no field {text_field!r}; it has {', '.join(map(str, document))}."
            )
        document = document[text_field]
    if isinstance(document, str):
        if tokenizer is None:
            raise InputError(f"corpus document {number} is text; pass tokenizer= to count its tokens.")
        document = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
    row = np.asarray(document)
    if row.size and row.dtype.kind not in "iu":
        raise InputError(f"corpus document {number}: {row.dtype} values; token ids are integers.")
    return row.astype(np.int64).ravel()
