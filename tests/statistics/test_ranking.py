"""The order of scores, against Python's own sort."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localize.statistics.ranking import ranked, ranks


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_items_are_ranked_as_python_sorts_them_the_first_of_equals_first(one, other):
    scores = np.array([one, other], float)
    for order, values in zip(ranked(scores), (one, other), strict=True):
        assert order.tolist() == sorted(range(6), key=lambda at: (-values[at], at))


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.integers(0, 7))
def test_the_best_units_of_each_row_are_those_whose_rank_is_below_their_number(values, count):
    scores = np.array(values, float).reshape(2, 2, 3)
    best = ranks(scores) < count
    for row, chosen in zip(scores, best, strict=True):
        first = sorted(range(6), key=lambda at: (-row.flat[at], at))[:count]
        assert np.flatnonzero(chosen).tolist() == sorted(first)


def test_what_has_no_score_comes_last():
    assert ranked(np.array([np.nan, -1.0, np.nan, 2.0])).tolist() == [3, 1, 0, 2]
