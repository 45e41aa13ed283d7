"""Counterparts, splines and overlap weights, each held against a slower way to the same."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from localize.statistics.overlap import CALIPER, RIDGE, has_counterpart, independent, overlap_weights, spline


def made(seed, of_a=40, of_b=70, apart=1.0):
    rng = np.random.default_rng(seed)
    a = np.arange(of_a + of_b) < of_a
    return rng.normal(np.where(a, apart / 2, -apart / 2), 1.0), a


@pytest.mark.parametrize("apart", [0.5, 2.0, 4.0])
def test_a_counterpart_is_a_row_of_the_other_group_within_the_caliper(apart):
    x, a = made(0, apart=apart)
    reach = CALIPER * np.sqrt((x[a].var() + x[~a].var()) / 2)
    slow = [any(abs(x[i] - x[j]) <= reach for j in range(len(x)) if a[i] != a[j]) for i in range(len(x))]
    assert has_counterpart(x, a).tolist() == slow
    assert 0 < np.sum(slow) < len(x)


def test_equal_values_are_counterparts_where_nothing_varies_and_others_are_not():
    a = np.array([True, True, False, False])
    assert has_counterpart(np.full(4, 0.3), a).all()
    assert not has_counterpart(np.where(a, 0.3, 0.4), a).any()


@pytest.mark.parametrize("pieces", [1, 4, 40])
def test_a_spline_sums_to_one_and_holds_every_cubic(pieces):
    x = np.random.default_rng(1).exponential(size=300)
    basis = spline(x, pieces)
    assert basis.shape == (300, pieces + 3)
    np.testing.assert_allclose(basis.sum(1), 1, rtol=1e-12)
    for power in range(4):
        fitted = basis @ np.linalg.lstsq(basis, x**power, rcond=None)[0]
        np.testing.assert_allclose(fitted, x**power, atol=1e-8 * x.max() ** power)


def test_one_value_has_a_constant_and_ties_have_fewer_pieces():
    assert (spline(np.full(5, 2.0), 3) == np.ones((5, 1))).all()
    assert spline(np.array([0.0] * 90 + [1.0, 2.0, 3.0] * 3), 10).shape[1] <= 7


def test_an_independent_basis_is_orthonormal_as_rows_are_weighted_and_spans_the_same():
    x, _ = made(2)
    weights = np.random.default_rng(3).random(len(x))
    basis = spline(x, 3)
    twice = np.concatenate([basis, 2 * basis[:, :2]], axis=1)
    own = independent(twice, weights)
    assert own.shape == basis.shape
    np.testing.assert_allclose((own * weights[:, None]).T @ own, np.eye(own.shape[1]), atol=1e-10)
    np.testing.assert_allclose(own @ np.linalg.lstsq(own, basis, rcond=None)[0], basis, atol=1e-9)


def test_weights_are_the_chance_of_the_other_group_under_penalized_likelihood():
    x, a = made(4)
    basis = spline(x, 2)
    centred = basis - basis.mean(0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    own = left[:, lengths > 1e-7 * lengths[0]] * np.sqrt(len(x))
    terms = np.concatenate([np.ones((len(x), 1)), own], axis=1)

    def loss(slopes):
        logit = terms @ slopes
        return np.logaddexp(0, logit).sum() - (a * logit).sum() + RIDGE / 2 * (slopes[1:] ** 2).sum()

    chance = expit(terms @ minimize(loss, np.zeros(terms.shape[1]), method="BFGS", options={"gtol": 1e-7}).x)
    expected = np.where(a, 1 - chance, chance)
    expected /= np.where(a, expected[a].sum(), expected[~a].sum())
    np.testing.assert_allclose(overlap_weights(basis, a), expected, rtol=1e-4)


def test_weights_make_the_groups_alike_and_are_even_where_they_are():
    x, a = made(5, of_a=400, of_b=600)
    weights = overlap_weights(spline(x, 4), a)
    assert (weights >= 0).all() and weights[a].sum() == weights[~a].sum() == pytest.approx(1)
    for power in (1, 2, 3):
        apart = x[a].__pow__(power).mean() - x[~a].__pow__(power).mean()
        left = weights[a] @ x[a] ** power - weights[~a] @ x[~a] ** power
        assert abs(left) < 0.03 * abs(apart) + 0.01
    same = overlap_weights(np.ones((len(x), 1)), a)
    np.testing.assert_allclose(same[a], 1 / 400)
    np.testing.assert_allclose(same[~a], 1 / 600)
