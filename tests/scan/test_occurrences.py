"""Windows and occurrences against slow and obvious implementations."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.scan import corpus as reading
from localize.scan import occurrences as module
from localize.scan.corpus import Corpus
from localize.scan.matched import matches, rarity
from localize.scan.occurrences import Occurrences, joined_pieces, rolling_hashes
from localize.scan.windows import State, units


@contextmanager
def pieces_of(tokens):
    """Documents are read in pieces of so many tokens: unlike pytest's patches, for one example alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "TOKEN_PIECE", tokens)
        yield


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_equal_windows_have_equal_hashes_and_others_do_not(tokens, length):
    tokens = np.array(tokens, dtype=np.int64)
    hashes = rolling_hashes(tokens, length)
    windows = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    assert len(hashes) == max(0, len(windows))
    for i, one in enumerate(windows):
        for j, other in enumerate(windows):
            assert (hashes[i] == hashes[j]) == (one == other)


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=30), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 9), st.booleans()
)  # fmt: skip
def test_every_occurrence_is_counted_once_and_none_across_documents(documents, length, piece, collide):
    windows = {tuple(d[i : i + length]) for d in documents for i in range(len(d) - length + 1)} | {(9,) * length}
    sequences = np.array(sorted(windows), dtype=np.int64)
    with pieces_of(piece), pytest.MonkeyPatch.context() as patch:
        if collide:  # all have one hash: the tokens decide
            patch.setattr(module, "rolling_hashes", lambda tokens, length: 0 * rolling_hashes(tokens, length))
        found = Occurrences(sequences)
        for _, tokens, _ in joined_pieces(Corpus(documents), length):
            found.add(tokens)
    for row, count in zip(sequences.tolist(), found.counts, strict=True):
        assert count == sum(d[i : i + length] == row for d in documents for i in range(len(d) - length + 1))


@given(
    st.lists(st.integers(0, 25), min_size=1, max_size=6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 7), st.integers(1, 9),
)  # fmt: skip
def test_units_hold_every_window_once_wherever_they_are_entered(lengths, length, stride, size, piece):
    with pieces_of(piece):
        documents = [np.arange(count) + 100 * number for number, count in enumerate(lengths)]
        wanted = [
            (number, start, documents[number][start : start + length].tolist())
            for number, count in enumerate(lengths)
            for start in range(0, count - length + 1, stride)
        ]
        found, state = [], State()
        while state is not None:  # each unit by a reader of its own
            unit = next(
                units(Corpus(documents), length=length, stride=stride, size=size, vocab_size=10**6, state=state), None
            )
            if unit is None:
                break
            found += list(zip(unit.document.tolist(), unit.offset.tolist(), unit.tokens.tolist(), strict=True))
            state = unit.after
        assert found == wanted
        together = units(Corpus(documents), length=length, stride=stride, size=size, vocab_size=10**6, state=State())
        assert [row for unit in together for row in unit.tokens.tolist()] == [row for *_, row in wanted]


def test_matches_keep_the_source_and_come_closest_in_all():
    counts = np.array([0, 9, 99])
    assert np.allclose(rarity(np.array([[0, 1], [2, 2]]), counts), [np.log(10) / 2, np.log(100)])
    found = matches(np.array([1.0, 2.0, 5.0]), ["a", "a", "b"], np.array([2.1, 9.0, 1.2, 5.0]), ["a", "a", "a", "a"])
    assert found.tolist() == [2, 0, -1]
