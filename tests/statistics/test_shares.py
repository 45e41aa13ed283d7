import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import LocalizeError
from localize.statistics import cumulated_share, gini


@given(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=15))
def test_gini_is_half_the_mean_difference_of_all_pairs_over_the_mean(shares):
    x = np.array(shares)
    by_pairs = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert gini(x) == pytest.approx(by_pairs, abs=1e-12)


def test_equal_shares_have_gini_zero_and_one_head_with_everything_nearly_one():
    assert gini(np.full(7, 3)) == 0.0
    assert gini(np.array([0, 0, 9, 0])) == 0.75


def test_gini_runs_along_the_axis_asked_for():
    values = np.random.default_rng(0).random((3, 4, 5))
    got = gini(values, axis=1)
    assert got.shape == (3, 5)
    assert got[2, 3] == pytest.approx(float(gini(values[2, :, 3])))


def test_nothing_to_share_is_nan():
    assert np.isnan(gini(np.zeros(3)))
    assert np.isnan(gini(np.array([[1.0, np.nan], [1.0, 3.0]]))).tolist() == [True, False]


def test_a_negative_share_is_told_in_one_line():
    with pytest.raises(LocalizeError) as told:
        gini(np.array([1.0, -2.0]))
    assert str(told.value) == "gini: values holds -2.0; shares are defined for finite values of at least 0."


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 8))
def test_a_cumulated_share_is_the_mean_over_every_order_of_the_ties(seed, rows, items):
    rng = np.random.default_rng(seed)
    choosing, scoring = rng.integers(0, 3, (rows, items)).astype(float), rng.integers(0, 9, (rows, items)).astype(float)
    curves = []
    for _ in range(300):
        order = np.argsort(-choosing + rng.uniform(0, 0.5, choosing.shape), axis=1)
        curves.append(np.take_along_axis(scoring, order, 1).cumsum(1))
    got, total = cumulated_share(choosing, scoring), scoring.sum(1)
    assert np.isnan(got[total == 0]).all()
    kept = total > 0
    expected = np.mean(curves, axis=0)[kept] / total[kept, None]
    assert got[kept, 1:] == pytest.approx(expected, abs=0.25)
    assert got[kept, -1] == pytest.approx(1.0)


def test_a_cumulated_share_by_hand():
    curve = cumulated_share(np.array([[5.0, 1.0, 1.0], [1.0, 2.0, 3.0]]), np.array([[6.0, 4.0, 0.0], [1.0, 0.0, 3.0]]))
    assert curve == pytest.approx(np.array([[0, 0.6, 0.8, 1.0], [0, 0.75, 0.75, 1.0]]))
