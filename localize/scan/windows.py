"""Windows of a corpus, some thousands at a time, with a state to go on from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from jaxtyping import Int

from localize.scan.corpus import NOTHING, START, Corpus, Piece, Place


@dataclass(frozen=True, eq=False)
class State:
    """Where a stream of windows stands.

    Attributes:
        place: Of the next piece.
        carry: Tokens before it that the next window starts with.
        offset: Where the next window starts in its document.
        skip: Tokens of the next piece that lie before it, where windows lie apart.
    """

    place: Place = START
    carry: Int[np.ndarray, " token"] = field(default_factory=lambda: NOTHING)
    offset: int = 0
    skip: int = 0


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of consecutive pieces.

    Attributes:
        tokens: `(window, position)`, int64.
        document: Of each window.
        offset: Of its first token in the document.
        source: Of each window.
        skipped: What could not be read, a line each.
        after: Where the next unit starts; None after the last.
    """

    tokens: Int[np.ndarray, "window position"]
    document: Int[np.ndarray, " window"]
    offset: Int[np.ndarray, " window"]
    source: tuple[str, ...]
    skipped: tuple[str, ...]
    after: State | None


def units(corpus: Corpus, *, length: int, stride: int, size: int, vocab_size: int, state: State) -> Iterator[Windows]:
    """At least `size` windows each, but for the last; a unit ends where a piece does, so that it follows from the state alone.

    Args:
        corpus: What is cut.
        length: Tokens of a window; a document's last tokens that fill no window are left out.
        stride: Tokens from one window's start to the next one's in the same document.
        size: Windows of a unit.
        vocab_size: A document with a token id outside the vocabulary is left out, and told.
        state: Where to start.
    """
    carry, offset, skip = state.carry, state.offset, state.skip
    gathered, skipped, count = list[tuple[np.ndarray, int, int, str]](), list[str](), 0
    pieces = corpus.pieces(state.place)
    for piece, following in _with_next(pieces):
        tokens, told = _checked(piece, vocab_size)
        skipped += told
        if piece.place.part == 0:
            carry, offset, skip = NOTHING, 0, 0
        buffer = np.concatenate([carry, tokens])
        buffer, skip = buffer[skip:], max(0, skip - len(buffer))
        fits = max(0, (len(buffer) - length) // stride + 1)
        if fits:
            cut = np.lib.stride_tricks.sliding_window_view(buffer, length)[: fits * stride : stride]
            gathered.append((cut, piece.place.document, offset, piece.source))
            count += fits
        carry, offset, skip = (
            buffer[fits * stride :],
            offset + fits * stride,
            skip + max(0, fits * stride - len(buffer)),
        )
        if piece.ends:
            carry, offset, skip = NOTHING, 0, 0
        if count >= size or following is None:
            after = None if following is None else State(following.place, carry.copy(), offset, skip)
            yield _unit(gathered, tuple(skipped), after, length, stride)
            gathered, skipped, count = [], [], 0


def _with_next(pieces: Iterator[Piece]) -> Iterator[tuple[Piece, Piece | None]]:
    """Each piece with the one after it."""
    last: Piece | None = None
    for piece in chain(pieces, [None]):
        if last is not None:
            yield last, piece
        last = piece


def _checked(piece: Piece, vocab_size: int) -> tuple[np.ndarray, list[str]]:
    """A piece's tokens, none if one is outside the vocabulary; and what is to be told."""
    tokens, told = piece.tokens, list(piece.skipped)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        outside = tokens[(tokens < 0) | (tokens >= vocab_size)][0]
        told.append(
            f"document {piece.place.document}: token id {outside} is outside the vocabulary, 0..{vocab_size - 1}"
        )
        return NOTHING, told
    return tokens, told


def _unit(
    gathered: list[tuple[np.ndarray, int, int, str]],
    skipped: tuple[str, ...],
    after: State | None,
    length: int,
    stride: int,
) -> Windows:
    counts = [len(windows) for windows, *_ in gathered]
    tokens = np.concatenate([windows for windows, *_ in gathered]) if gathered else np.zeros((0, length), np.int64)
    documents = np.repeat(np.array([document for _, document, *_ in gathered], np.int64), counts)
    starts = [first + stride * np.arange(count) for (_, _, first, _), count in zip(gathered, counts, strict=True)]
    sources = tuple(source for (*_, source), count in zip(gathered, counts, strict=True) for _ in range(count))
    return Windows(tokens, documents, np.concatenate(starts) if starts else NOTHING, sources, skipped, after)
