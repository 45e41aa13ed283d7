import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import LocalizeError
from localize.statistics import false_discovery


def by_hand(p_values):
    """Benjamini and Hochberg, 1995: the least p_(j) m / j over all ranks j from one's own upwards."""
    order, m = np.argsort(p_values), len(p_values)
    q = np.empty(m)
    for rank, index in enumerate(order):
        q[index] = min(1.0, *(p_values[order[j]] * m / (j + 1) for j in range(rank, m)))
    return q


def test_four_tests_by_hand():
    np.testing.assert_allclose(false_discovery(np.array([0.01, 0.02, 0.03, 0.5])), [0.04, 0.04, 0.04, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_q_values_are_those_of_the_definition(p_values):
    np.testing.assert_allclose(false_discovery(np.array(p_values)), by_hand(np.array(p_values)), rtol=1e-12)


def test_a_test_not_made_stays_nan_and_does_not_count():
    grid = np.array([[0.01, np.nan, 0.5], [np.nan, 0.02, 0.03]])
    q = false_discovery(grid)
    assert q.shape == (2, 3) and np.isnan(q).tolist() == np.isnan(grid).tolist()
    np.testing.assert_allclose(q[~np.isnan(q)], [0.04, 0.5, 0.04, 0.04])


def test_no_test_made_gives_no_q_value():
    assert np.isnan(false_discovery(np.full((2, 2), np.nan))).all()
    assert false_discovery(np.array(0.03)) == 0.03


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_what_is_no_p_value_is_told_in_one_line(wrong):
    with pytest.raises(LocalizeError) as told:
        false_discovery(np.array([0.5, wrong]))
    assert str(told.value) == (
        f"false_discovery: p_values holds {wrong}; each must lie in 0..1, or be nan for a test not made."
    )
