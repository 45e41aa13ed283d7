"""Curves of forgetting are found again."""

import numpy as np
import pytest
from scipy.optimize import minimize

from localize.statistics.forgetting import Forgetting, fitted_forgetting

SINCE = np.array([0.0, 25, 50, 75, 150, 300, 600, 1125])


@pytest.mark.parametrize(("floor", "drop", "tau"), [(0.1, 0.6, 75.0), (-0.02, 0.3, 400.0), (0.0, 2.0, 30.0)])
def test_floor_drop_and_tau_are_found_again(floor, drop, tau):
    fit = fitted_forgetting(SINCE, floor + drop * np.exp(-SINCE / tau))
    np.testing.assert_allclose([fit.floor, fit.drop, fit.tau], [floor, drop, tau], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.at(SINCE), floor + drop * np.exp(-SINCE / tau), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted_forgetting(SINCE * 40, 1e-3 * fit.at(SINCE)).tau, 40 * tau, rtol=1e-6)


def test_of_noisy_points_it_is_the_curve_of_least_squares():
    gap = 0.1 + 0.6 * np.exp(-SINCE / 75) + np.random.default_rng(0).normal(0, 0.03, len(SINCE))
    fit = fitted_forgetting(SINCE, gap)

    def missed(p):
        return ((p[0] + p[1] * np.exp(-SINCE / np.exp(p[2])) - gap) ** 2).sum()

    slow = minimize(
        missed, (0.2, 0.4, np.log(50)), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 5000}
    )
    np.testing.assert_allclose([fit.floor, fit.drop, fit.tau], [*slow.x[:2], np.exp(slow.x[2])], rtol=1e-4)


def test_missing_points_are_left_out_and_fewer_than_four_give_no_curve():
    gap = 0.1 + 0.6 * np.exp(-SINCE / 75)
    holes = gap.copy()
    holes[[2, 5]] = np.nan
    assert fitted_forgetting(SINCE, holes).tau == pytest.approx(75)
    assert fitted_forgetting(SINCE[:4], gap[:4]).fitted and not fitted_forgetting(SINCE[:3], gap[:3]).fitted
    assert Forgetting() != fitted_forgetting(SINCE, gap) and np.isnan(fitted_forgetting(SINCE[:3], gap[:3]).tau)


def test_what_does_not_fall_has_a_floor_and_no_time_and_what_falls_straight_no_floor():
    for gap in (np.full(8, 0.3), np.arange(8.0)):
        fit = fitted_forgetting(SINCE, gap)
        assert (fit.floor, fit.drop) == (pytest.approx(gap.mean()), 0.0) and np.isnan(fit.tau)
        np.testing.assert_allclose(fit.at(SINCE), gap.mean())
    assert not fitted_forgetting(SINCE, 1 - 1e-4 * SINCE).fitted


def test_what_is_not_found_is_no_curve(monkeypatch):
    def lost(*args, **kwargs):
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr("scipy.optimize.curve_fit", lost)
    assert not fitted_forgetting(SINCE, np.exp(-SINCE / 75)).fitted
