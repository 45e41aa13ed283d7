"""What follows the beginnings of n-grams in rows of tokens, counted for those beginnings alone that stand in some texts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from localize.measure.ngrams import AT_ONCE

Keys = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class Histories:
    """The beginnings of n-grams in texts: all runs of 0, 1, ... of their tokens, each with a number.

    Attributes:
        known: Of runs of 1, 2, ... tokens, the distinct keys, ascending: the number of the run less its last token, times `vocab`, plus
            that token. Their places are the runs' numbers.
        own: Which run begins at each place of each text.
        vocab: Number of tokens that there are.
    """

    known: list[Keys]
    own: list[Int[np.ndarray, "text _"]]
    vocab: int

    @classmethod
    def of(cls, texts: Int[np.ndarray, "text token"], longest: int, vocab: int) -> "Histories":
        """All runs up to so many tokens."""
        known, own = [], []
        for n in range(1, longest + 1):
            keys = texts if n == 1 else own[-1][:, :-1] * vocab + texts[:, n - 1 :]
            distinct, number = np.unique(keys, return_inverse=True)
            known.append(distinct)
            own.append(number.reshape(keys.shape))
        return cls(known, own, vocab)

    def places(
        self, rows: Int[np.ndarray, "row position"]
    ) -> Iterator[tuple[Int[np.ndarray, " place"], Int[np.ndarray, " place"]]]:
        """Where runs of 0, 1, ... tokens of a text begin in rows, counted through all rows, and which they are."""
        flat, length = rows.ravel(), rows.shape[1]
        place, number = np.arange(len(flat)), np.zeros(len(flat), np.int64)
        yield place, number
        for n, distinct in enumerate(self.known, 1):
            inside = place % length + n <= length
            place, number = place[inside], number[inside]
            keys = number * self.vocab + flat[place + n - 1]
            at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
            hit = distinct[at] == keys
            place, number = place[hit], at[hit]
            yield place, number

    def size(self, longest: int) -> int:
        """How many runs of so many tokens there are."""
        return len(self.known[longest - 1]) if longest else 1


@dataclass(frozen=True, eq=False)
class Followers:
    """How often each token follows each run of one length; pairs that never stand are not there.

    Attributes:
        keys: Run's number times `vocab` plus the token, ascending.
        counts: How often, at least once.
        total: Of each run, how often any token follows it.
        types: Of each run, how many different tokens do.
        vocab: Number of tokens that there are.
    """

    keys: Keys
    counts: Keys
    total: Int[np.ndarray, " run"]
    types: Int[np.ndarray, " run"]
    vocab: int

    @classmethod
    def of(cls, keys: Keys, counts: Keys, runs: int, vocab: int) -> "Followers":
        """From keys, some perhaps several times, and how often each stands."""
        distinct, place = np.unique(keys, return_inverse=True)
        summed = np.bincount(place, weights=counts, minlength=len(distinct)).astype(np.int64)
        total = np.bincount(distinct // vocab, weights=summed, minlength=runs).astype(np.int64)
        return cls(distinct, summed, total, np.bincount(distinct // vocab, minlength=runs), vocab)

    def count(self, keys: Int[np.ndarray, "*place"]) -> Int[np.ndarray, "*place"]:
        """How often each pair stands; 0 for one that never does."""
        if not len(self.keys):
            return np.zeros(keys.shape, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.counts[at], 0)

    def seen(
        self, runs: Int[np.ndarray, " place"], tokens: Int[np.ndarray, " place"], left_out: "Followers | None" = None
    ) -> tuple[Int[np.ndarray, " place"], Int[np.ndarray, " place"], Int[np.ndarray, " place"]]:
        """How often each token follows its run, how often any does, and how many different ones do.

        Args:
            runs: Numbers of runs.
            tokens: One for each.
            left_out: What stands in a part of the rows, which does not count.
        """
        keys = runs * self.vocab + tokens
        joint, total, types = self.count(keys), self.total[runs], self.types[runs]
        if left_out is None:
            return joint, total, types
        gone = left_out.keys[self.count(left_out.keys) == left_out.counts] // self.vocab
        fewer = np.bincount(gone, minlength=len(self.types))[runs]
        return joint - left_out.count(keys), total - left_out.total[runs], types - fewer


def followers(histories: Histories, rows: Integer[np.ndarray, "row position"]) -> list[Followers]:
    """What follows runs of 0, 1, ... tokens of the texts in the rows; what begins the next row follows nothing."""
    size = max(1, AT_ONCE // max(rows.shape[1], 1))
    found: list[list[tuple[Keys, Keys]]] = [[] for _ in range(len(histories.known) + 1)]
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size], np.int64)
        flat, length = part.ravel(), part.shape[1]
        for n, (place, number) in enumerate(histories.places(part)):
            goes_on = place % length + n < length
            keys = number[goes_on] * histories.vocab + flat[place[goes_on] + n]
            found[n].append(np.unique(keys, return_counts=True))
    return [
        Followers.of(
            np.concatenate([keys for keys, _ in parts]),
            np.concatenate([counts for _, counts in parts]),
            histories.size(n),
            histories.vocab,
        )
        for n, parts in enumerate(found)
    ]


def rows_holding(
    texts: Int[np.ndarray, "text token"], rows: Integer[np.ndarray, "row position"], vocab: int
) -> list[Int[np.ndarray, " _"]]:
    """For each text the rows in which all of its tokens stand one after the other."""
    histories, length = Histories.of(texts, texts.shape[1], vocab), rows.shape[1]
    which, size = histories.own[-1][:, 0], max(1, AT_ONCE // max(length, 1))
    numbers, at = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(rows), size):
        *_, (place, number) = histories.places(np.asarray(rows[start : start + size], np.int64))
        numbers.append(number)
        at.append(place // length + start)
    number, row = np.concatenate(numbers), np.concatenate(at)
    return [np.unique(row[number == text]) for text in which]


def witten_bell(
    joint: Int[np.ndarray, "*place order"],
    total: Int[np.ndarray, "*place order"],
    types: Int[np.ndarray, "*place order"],
    vocab: int,
) -> Float[np.ndarray, "*place order"]:
    """Interpolated Witten-Bell probability of tokens, for n-grams of 1, 2, ... tokens.

    p_n(w | h) = (c(h w) + T(h) p_(n-1)(w | h')) / (c(h) + T(h)), with T(h) the different tokens that follow h, h' the same without its
    first token, and p_0 = 1 / vocab; a history that never stands leaves p_(n-1).

    >>> witten_bell(np.array([[2, 1]]), np.array([[6, 2]]), np.array([[2, 2]]), 4)
    array([[0.3125 , 0.40625]])

    Args:
        joint: How often the token follows its history of 0, 1, ... tokens.
        total: How often any token does.
        types: How many different ones do.
        vocab: Number of tokens that there are.
    """
    lower, found = np.full(joint.shape[:-1], 1 / vocab), np.empty(joint.shape)
    for at in range(joint.shape[-1]):
        seen = total[..., at] + types[..., at]
        mixed = (joint[..., at] + types[..., at] * lower) / np.maximum(seen, 1)
        lower = found[..., at] = np.where(seen > 0, mixed, lower)
    return found
