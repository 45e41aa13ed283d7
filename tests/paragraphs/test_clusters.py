"""Near-duplicates, against a slow and obvious implementation: every pair compared, joined by union-find."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localize.paragraphs.clusters import near_duplicate_clusters


def slow_clusters(rows, ngram, threshold):
    width = min(ngram, len(rows[0]))
    grams = [{tuple(row[i : i + width]) for i in range(len(row) - width + 1)} for row in rows]
    parent = list(range(len(rows)))

    def root(i):
        return i if parent[i] == i else root(parent[i])

    for i in range(len(rows)):
        for j in range(i):
            if Fraction(len(grams[i] & grams[j]), min(len(grams[i]), len(grams[j]))) >= threshold:
                parent[root(i)] = root(j)
    names = {}
    return [names.setdefault(root(i), len(names)) for i in range(len(rows))]


@st.composite
def token_rows(draw):
    length = draw(st.integers(1, 14))
    alphabet = draw(st.sampled_from([2, 5, 40]))
    fresh = st.lists(st.integers(0, alphabet), min_size=length, max_size=length)
    rows = [draw(fresh)]
    for _ in range(draw(st.integers(0, 9))):
        row, cut = draw(fresh), draw(st.integers(0, length))
        rows.append(draw(st.sampled_from(rows))[:cut] + row[cut:])  # the beginning of one that is there already
    return np.array(rows)


@settings(max_examples=150)
@given(
    token_rows(), st.integers(1, 6), st.sampled_from([Fraction(1, 100), Fraction(3, 10), Fraction(1, 2), Fraction(1)])
)
def test_clusters_are_those_of_comparing_every_pair(rows, ngram, threshold):
    assert near_duplicate_clusters(rows, ngram=ngram, threshold=float(threshold)).tolist() == slow_clusters(
        rows.tolist(), ngram, threshold
    )


def sharing(grams, shared, start=0):
    """Two rows of `grams` distinct 5-grams each, `shared` of them in both."""
    one = np.arange(start, start + grams + 4)
    other = np.arange(start, start + grams + 4) + 100_000
    if shared:
        other[: shared + 4] = one[-(shared + 4) :]
    return np.stack([one, other])


@pytest.mark.parametrize("grams", range(10, 101, 10))
def test_thirty_percent_is_a_near_duplicate_and_one_gram_less_is_not(grams):
    assert near_duplicate_clusters(sharing(grams, 3 * grams // 10)).tolist() == [0, 0]
    assert near_duplicate_clusters(sharing(grams, 3 * grams // 10 - 1)).tolist() == [0, 1]


def test_the_share_is_of_the_one_with_fewer_distinct_grams():
    # 7, 7, 7, ... has one 5-gram; it is all of it, and 1 in 16 of the other.
    constant = np.full(20, 7)
    mixed = np.concatenate([np.full(5, 7), np.arange(100, 115)])
    assert near_duplicate_clusters(np.stack([constant, mixed])).tolist() == [0, 0]


def test_a_chain_is_one_cluster_though_its_ends_share_nothing():
    steps = np.arange(24) + 12 * np.arange(6)[:, None]  # each shares half of itself with the next one
    assert near_duplicate_clusters(steps).tolist() == [0] * 6
    assert near_duplicate_clusters(steps[::2]).tolist() == [0, 1, 2]


def test_identical_rows_are_one_cluster_and_a_single_row_is_its_own():
    row = np.arange(30)
    assert near_duplicate_clusters(np.stack([row, row + 50, row])).tolist() == [0, 1, 0]
    assert near_duplicate_clusters(row[None]).tolist() == [0]


def test_rows_shorter_than_a_gram_are_near_only_if_equal():
    rows = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3], [3, 2, 1]])
    assert near_duplicate_clusters(rows).tolist() == [0, 1, 0, 2]


def test_a_gram_is_tokens_in_order_wherever_they_stand():
    row = np.arange(20)
    shifted = np.concatenate([np.arange(500, 507), row[:13]])
    assert near_duplicate_clusters(np.stack([row, shifted, row[::-1]])).tolist() == [0, 0, 1]


def test_clusters_are_numbered_by_first_appearance():
    families = np.arange(20) + 1000 * np.array([3, 1, 3, 0, 1, 2, 0])[:, None]
    assert near_duplicate_clusters(families).tolist() == [0, 1, 0, 2, 1, 3, 2]


@settings(max_examples=60)
@given(token_rows(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_change_who_belongs_together(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    before, after = near_duplicate_clusters(rows), near_duplicate_clusters(rows[order])
    together = before[order][:, None] == before[order][None, :]
    assert np.array_equal(together, after[:, None] == after[None, :])


def test_token_ids_of_any_size_and_sign_are_compared():
    row = np.arange(20) + 2**40
    assert near_duplicate_clusters(np.stack([row, row - 2**41, row])).tolist() == [0, 1, 0]
