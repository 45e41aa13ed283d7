"""How often each token stands in a corpus."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.errors import InputError, LocalizeError, caller, first_line
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.records import HALF, RECORD_FILES, field_of, kind_of, lines, not_utf8, records, rows_of
from localize.paragraphs.tokenization import Tokenization
from localize.storage import is_unicode

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


def unigram_counts(
    corpus: Any, *, vocab_size: int, tokenizer: Any = None, text_field: str = "text"
) -> Int[Tensor, " vocab"]:
    """Occurrences of each token in a corpus, read as a stream; of equal documents only the first counts.

    Args:
        corpus: `Paragraphs`; a `.npy` file or array of token rows; a `.csv`, `.jsonl` or `.parquet` file of rows; any other file
            as text, one document a line (all but `.npy` and `.parquet` also as `.gz` or `.zst`); a pandas DataFrame; or any iterable
            of strings, of rows with a text field or `tokens` (a streamed `datasets.Dataset`), or of token id sequences. One flat
            sequence of token ids is one document.
        vocab_size: Length of the result; a token id outside it is an error.
        tokenizer: Needed where the corpus is text.
        text_field: The field of a row that holds its text.

    Returns:
        int64 counts, one per token id. A text with half a surrogate pair, which no tokenizer takes, is left out; a warning tells.

    Raises:
        InputError: If a document cannot be read as tokens, or a token lies outside the vocabulary.
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    seen: set[bytes] = set()
    left_out: list[int] = []
    for number, document in enumerate(_documents(corpus, text_field)):
        row = _token_ids(document, number, tokenizer, text_field)
        if row is None:
            left_out.append(number)
            continue
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
    if left_out:
        warnings.warn(
            f"corpus: {len(left_out)} of {number + 1} documents left out, the first number {left_out[0]}: its text holds {HALF}.",
            stacklevel=2,
        )
    if not seen:
        raise InputError("corpus: no documents; at least one is needed to count tokens.")
    return torch.from_numpy(counts)


def corpus_counts(
    model: "HookedModel",
    paragraphs: Paragraphs,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None,
) -> tuple[Int[Tensor, " vocab"], str]:
    """The counts that say how rare a token is, and a few words on whose they are.

    Args:
        model: Its training corpus is counted, where its folder has the counts and none are given.
        paragraphs: Counted themselves, where neither is there.
        counts: Occurrences of each token in a reference corpus, or None.

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
            f"{caller()}: counts is a {type(counts).__name__}; one count per token is needed, as unigram_counts gives them."
        )
    counts = torch.as_tensor(counts)
    if len(counts) != model.vocab_size:
        raise LocalizeError(
            f"{caller()}: counts has {len(counts)} entries; the vocabulary of {model.name} has {model.vocab_size}."
        )
    return counts, whose


def counts_hash(counts: Int[Tensor, " vocab"]) -> str:
    """A digest of token counts, for the provenance."""
    return hashlib.sha256(counts.cpu().numpy().astype("<i8").tobytes()).hexdigest()


def _documents(corpus: Any, text_field: str) -> Iterable[Any]:
    if isinstance(corpus, Paragraphs):
        return corpus.recall_tokens.numpy()
    if isinstance(corpus, str | Path):
        path = Path(corpus)
        if not path.is_file():
            raise InputError(f"corpus {path}: no such file.")
        if kind_of(path) != ".npy":
            return _values(path, text_field) if kind_of(path) in RECORD_FILES else _lines(path)
        try:
            corpus = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"corpus {path}: not an array of token ids ({first_line(error)}).") from None
    corpus = rows_of(corpus, "corpus")
    if isinstance(corpus, torch.Tensor):
        corpus = corpus.numpy()
    flat = corpus.ndim == 1 if isinstance(corpus, np.ndarray) else isinstance(corpus, list | tuple) and _is_flat(corpus)
    return [corpus] if flat else corpus


def _is_flat(corpus: Sequence[Any]) -> bool:
    return bool(corpus) and all(isinstance(item, int | np.integer) for item in corpus)


def _lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(lines(path, "corpus"), start=1):
        if problem := not_utf8(line):
            raise InputError(f"corpus {path}: line {number} is {problem}.")
        if line.strip():
            yield line.rstrip("\n")


def _values(path: Path, text_field: str) -> Iterator[Any]:
    for record in records(path, "corpus", (text_field,)):
        if record.problem:
            raise InputError(f"corpus {path}: {record.told}.")
        yield record.value


def _token_ids(document: Any, number: int, tokenizer: Any, text_field: str) -> np.ndarray | None:
    """A document's tokens; None if it is text that no tokenizer takes."""
    if isinstance(document, Mapping):
        given = field_of(document, (text_field, "tokens"))
        if given is None and text_field not in document:
            has = ", ".join(map(str, document))
            raise InputError(f"corpus document {number}: no field {text_field!r} or 'tokens'; it has {has}.")
        document = () if given is None else given
    if isinstance(document, str):
        if tokenizer is None:
            raise InputError(f"corpus document {number} is text; pass tokenizer= to count its tokens.")
        if not is_unicode(document):
            return None
        document = Tokenization(tokenizer).tokens(document)
    try:
        row = np.asarray(document)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"corpus document {number}: no token ids ({first_line(error)}).") from None
    if row.size and row.dtype.kind not in "iu":
        raise InputError(f"corpus document {number}: {row.dtype} values; token ids are integers.")
    return row.astype(np.int64).ravel()
