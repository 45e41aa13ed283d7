"""Intervals and tests over seeds are scipy's."""

import numpy as np
import pytest
from scipy import stats

from localize.errors import LocalizeError
from localize.statistics.seeds import seed_interval, seed_test

VALUES = np.random.default_rng(0).normal(0.4, 1.0, (6, 3))


def test_the_interval_is_students_as_scipy_has_it():
    for level in (0.95, 0.8):
        told = seed_interval(VALUES, level=level)
        for cell, values in enumerate(VALUES.T):
            low, high = stats.t.interval(level, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
            np.testing.assert_allclose(
                [told.estimate[cell], told.low[cell], told.high[cell]], [values.mean(), low, high]
            )
        assert not told.rough.any()


def test_the_test_is_students_as_scipy_has_it():
    np.testing.assert_allclose(seed_test(VALUES), stats.ttest_1samp(VALUES, 0.0).pvalue)
    other = np.random.default_rng(1).normal(size=(6, 3))
    np.testing.assert_allclose(seed_test(VALUES - other), stats.ttest_rel(VALUES, other).pvalue)


def test_missing_seeds_are_left_out_cell_by_cell():
    holes = VALUES.copy()
    holes[0, 1] = np.nan
    told, whole = seed_interval(holes), seed_interval(VALUES[1:])
    assert (told.low[1], told.high[1]) == pytest.approx((whole.low[1], whole.high[1]))
    assert seed_test(holes)[1] == pytest.approx(seed_test(VALUES[1:])[1])
    assert told.low[0] == seed_interval(VALUES).low[0]


def test_one_seed_has_no_interval_and_few_or_equal_ones_a_rough_one():
    one = seed_interval(VALUES[:1])
    np.testing.assert_array_equal(one.estimate, VALUES[0])
    assert np.isnan(one.low).all() and np.isnan(one.high).all() and np.isnan(seed_test(VALUES[:1])).all()
    assert seed_interval(VALUES[:4]).rough.all() and not seed_interval(VALUES[:5]).rough.any()
    equal = seed_interval(np.full(7, 0.1))
    assert equal.rough and equal.low == equal.high == pytest.approx(0.1)
    assert np.isnan(seed_test(np.full(7, 0.1)))
    assert np.isnan(seed_interval(np.full((3, 1), np.nan)).estimate).all()


def test_a_level_out_of_range_is_refused():
    with pytest.raises(LocalizeError, match=r"^seed_interval: level=1\.5 must lie between 0 and 1\.$"):
        seed_interval(VALUES, level=1.5)
