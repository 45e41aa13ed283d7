import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import LocalizeError
from localize.statistics import gini


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
