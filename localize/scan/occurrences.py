"""How often token sequences of one length stand in a corpus, at any place of any document."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt64

from localize.scan.corpus import NOTHING, START, Corpus, Place

BASE = 0x9E3779B97F4A7C15 | 1
"""Odd, so that it has an inverse modulo 2^64."""


def rolling_hashes(tokens: Int[np.ndarray, " token"], length: int) -> UInt64[np.ndarray, " window"]:
    """A polynomial of every window's tokens modulo 2^64: equal windows have equal hashes, others almost always different ones.

    Args:
        tokens: Token ids.
        length: Of a window.
    """
    count = len(tokens) - length + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(len(tokens), np.uint64(BASE))]), dtype=np.uint64)
        inverse = np.uint64(pow(BASE, -1, 2**64))
        inverses = np.cumprod(np.concatenate([[np.uint64(1)], np.full(len(tokens), inverse)]), dtype=np.uint64)
        terms = _mixed(tokens) * inverses[: len(tokens)]
        before = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])
        return (before[length:] - before[:-length]) * powers[:count]


def _mixed(tokens: Int[np.ndarray, " token"]) -> UInt64[np.ndarray, " token"]:
    """Token ids spread over 64 bits: of a polynomial with small coefficients the low bits would say little."""
    value = tokens.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Occurrences:
    """Counts given sequences in a corpus, a piece at a time.

    Args:
        sequences: `(sequence, position)`, all different.
    """

    def __init__(self, sequences: Int[np.ndarray, "sequence position"]):
        self.length = sequences.shape[1]
        hashes = (
            rolling_hashes(sequences.ravel(), self.length)[:: self.length] if len(sequences) else np.zeros(0, np.uint64)
        )
        self._order = np.argsort(hashes, kind="stable")
        self._hashes, self._sequences = hashes[self._order], sequences
        self.counts = np.zeros(len(sequences), np.int64)

    def add(self, tokens: Int[np.ndarray, " token"]) -> None:
        """Count what starts in these tokens and ends in them."""
        hashes = rolling_hashes(tokens, self.length)
        first = np.searchsorted(self._hashes, hashes, side="left")
        there = first < len(self._hashes)
        there[there] = self._hashes[first[there]] == hashes[there]
        for at in np.flatnonzero(there):
            place = int(first[at])
            while place < len(self._hashes) and self._hashes[place] == hashes[at]:
                number = self._order[place]
                # hashes only point: what counts is the tokens
                if np.array_equal(self._sequences[number], tokens[at : at + self.length]):
                    self.counts[number] += 1
                place += 1


def joined_pieces(
    corpus: Corpus, length: int, start: Place = START, carry: Int[np.ndarray, " token"] = NOTHING
) -> Iterator[tuple[Place, Int[np.ndarray, " token"], Int[np.ndarray, " token"]]]:
    """The corpus's pieces with the last `length - 1` tokens before each in its document, so that no sequence is cut.

    Args:
        corpus: What is read.
        length: Of the sequences.
        start: The first piece.
        carry: The tokens before it, as they were given with the piece before.

    Yields:
        A piece's place, its tokens with those before it, and the tokens to carry on.
    """
    for piece in corpus.pieces(start):
        if piece.place.part == 0:
            carry = NOTHING
        tokens = np.concatenate([carry, piece.tokens])
        carry = tokens[max(0, len(tokens) - length + 1) :]
        yield piece.place, tokens, carry
