import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import LocalizeError
from localize.statistics import auc, standardized_difference


def hedges(x, y):
    n = len(x) + len(y) - 2
    pooled = math.sqrt(((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / n)
    return math.gamma(n / 2) / (math.sqrt(n / 2) * math.gamma((n - 1) / 2)) * (x.mean() - y.mean()) / pooled


def groups(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, size=(12, 2, 3)).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    return values, np.arange(12) < 5, (np.arange(12) >= 5) & (np.arange(12) < 11)


@given(st.integers(0, 2**32 - 1))
def test_auc_is_mann_whitneys_u_over_all_pairs(seed):
    values, in_a, in_b = groups(seed)
    got = auc(values, in_a, in_b)
    assert got.shape == (2, 3)
    for cell in np.ndindex(2, 3):
        x, y = (values[(mask, *cell)] for mask in (in_a, in_b))
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        if len(x) == 0 or len(y) == 0:
            assert np.isnan(got[cell])
        else:
            assert got[cell] == pytest.approx(scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)), abs=1e-12)


def test_auc_of_separated_groups_is_one_and_of_exchanged_ones_zero():
    values, in_a = np.array([5.0, 6.0, 1.0, 2.0, 5.0]), np.array([True, True, False, False, False])
    assert auc(values, in_a, ~in_a) == pytest.approx(5.5 / 6)
    assert auc(values, ~in_a, in_a) == pytest.approx(0.5 / 6)
    assert auc(values, in_a, np.array([False, False, True, True, False])) == 1.0


@given(st.integers(0, 2**32 - 1))
def test_standardized_difference_is_hedges_g(seed):
    values, in_a, in_b = groups(seed)
    got = standardized_difference(values, in_a, in_b)
    for cell in np.ndindex(2, 3):
        x, y = (values[(mask, *cell)] for mask in (in_a, in_b))
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        if len(x) < 2 or len(y) < 2 or (x.var() == 0 and y.var() == 0):
            assert np.isnan(got[cell])
        else:
            assert got[cell] == pytest.approx(hedges(x, y), rel=1e-10, abs=1e-12)


def test_standardized_difference_has_no_unit_and_the_sign_of_a_minus_b():
    rng = np.random.default_rng(0)
    values, in_a = rng.normal(size=(2000, 1)), np.arange(2000) < 1000
    values[in_a] += 0.7
    g = standardized_difference(values, in_a, ~in_a)
    assert g[0] == pytest.approx(0.7, abs=0.1)
    np.testing.assert_allclose(standardized_difference(1e-7 * values + 1e-6, in_a, ~in_a), g, rtol=1e-9)
    np.testing.assert_allclose(standardized_difference(values, ~in_a, in_a), -g)


def test_groups_that_do_not_vary_have_no_standardized_difference():
    in_a = np.arange(30) < 15
    assert np.isnan(standardized_difference(np.where(in_a, 0.1, 0.3), in_a, ~in_a))


@pytest.mark.parametrize("effect", [auc, standardized_difference])
def test_an_empty_group_is_told_in_one_line(effect):
    with pytest.raises(LocalizeError) as told:
        effect(np.arange(3.0), np.arange(3) > 5, np.arange(3) < 5)
    assert str(told.value) == (f"{effect.__name__}: in_a selects 0 of 3 paragraphs; at least one is needed to compare.")
