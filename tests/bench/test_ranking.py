"""Recall at |truth|, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.bench.ranking import chance_of, chosen, named_right, recall_at_truth

SCORES = np.array([[5.0, 1.0, 4.0], [3.0, 2.0, 9.0]])
TRUTH = np.array([[True, False, False], [True, True, False]])
ALL = np.ones_like(TRUTH)


def test_recall_is_the_share_of_the_true_units_among_as_many_of_the_highest_scores():
    assert recall_at_truth(SCORES, TRUTH, ALL) == pytest.approx(1 / 3)  # 9, 5, 4: of the true ones 5 alone


def test_what_is_no_candidate_takes_no_place():
    assert recall_at_truth(SCORES, TRUTH, SCORES < 9) == pytest.approx(2 / 3)  # 5, 4, 3


def test_a_text_with_no_true_unit_has_no_recall():
    assert np.isnan(recall_at_truth(SCORES, np.zeros_like(TRUTH), ALL))
    assert np.isnan(chance_of(np.zeros_like(TRUTH), ALL))


def test_chance_is_the_share_of_candidates_that_is_true():
    assert chance_of(TRUTH, SCORES < 9) == pytest.approx(3 / 5)


def test_scores_that_are_all_alike_find_as_much_as_chance():
    assert recall_at_truth(np.zeros((2, 3)), TRUTH, ALL) == pytest.approx(chance_of(TRUTH, ALL))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=12), st.data())
def test_ties_count_by_their_chance_of_being_drawn(scores, data):
    count = data.draw(st.integers(1, len(scores)))
    values = np.array(scores, float)
    rng = np.random.default_rng(0)
    drawn = np.zeros(len(values))
    for _ in range(2000):
        drawn[np.lexsort((rng.random(len(values)), -values))[:count]] += 1 / 2000
    found = chosen(values, np.ones(len(values), bool), count)
    assert found.sum() == pytest.approx(count)
    assert np.abs(found - drawn).max() < 0.07


def test_the_layer_with_the_most_is_named_and_layers_that_tie_share():
    assert named_right(np.array([1.0, 3.0, 2.0]), 1) == 1
    assert named_right(np.array([1.0, 3.0, 2.0]), 2) == 0
    assert named_right(np.array([3.0, 3.0, 2.0]), 0) == 0.5
