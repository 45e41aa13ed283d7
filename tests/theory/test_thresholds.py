"""What can be fitted, which ridge is best, and what an activation is as a kernel."""

import numpy as np
import pytest

import localize as lz

CAPACITY = {0.05: 4.8665, 0.1: 3.8097, 0.2: 2.9923, 0.3: 2.6147, 0.5: 2.2453, 0.7: 2.0777, 0.9: 2.0082, 1: 2.0}
GARDNER = {0: 2.0, 0.5: 0.9612, 1: 0.5196, 2: 0.2002}


@pytest.mark.parametrize(("eps", "truth"), CAPACITY.items())
def test_so_many_labels_can_be_fitted(eps, truth):
    assert lz.theory.capacity(eps) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize(("margin", "truth"), GARDNER.items())
def test_gardners_capacity_goes_down_with_the_margin(margin, truth):
    assert lz.theory.capacity(1.0, margin=margin) == pytest.approx(truth, abs=5.1e-5)


def test_gardners_capacity_is_one_over_his_integral():
    from scipy.integrate import quad
    from scipy.stats import norm

    kappa = 0.7
    integral = quad(lambda t: norm.pdf(t) * (t + kappa) ** 2, -kappa, 12)[0]
    assert lz.theory.capacity(1.0, margin=kappa) == pytest.approx(1 / integral, rel=1e-6)


def test_a_rule_without_facts_can_be_fitted_whatever_there_is():
    assert lz.theory.capacity(0) == np.inf
    assert lz.theory.capacity(0.001) > 15


@pytest.mark.parametrize(("alpha", "fits"), [(3.0, True), (4.6, False)])
def test_above_the_capacity_labels_cannot_be_fitted(alpha, fits):
    """Linear programming finds a rule that fits all labels of eps = .1 below 3.81 examples per dimension, and none above."""
    from scipy.optimize import linprog

    from localize.theory.simulation import drawn

    x, _, labels, _ = drawn(alpha, 0.1, 150, 0)
    found = linprog(np.zeros(150), A_ub=-labels[:, None] * x, b_ub=-np.ones(len(x)), bounds=(None, None))
    assert found.success == fits


@pytest.mark.parametrize(("eps", "mu"), [(0.0, 1.0), (0.1, 1.0), (0.3, 0.4)])
def test_no_ridge_has_less_rule_error_than_the_best(eps, mu):
    from scipy.optimize import minimize_scalar

    def error(penalty):
        return float(lz.theory.rules_and_facts(3, eps, penalty, mu=mu).rule_error)

    best = minimize_scalar(error, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-6}).x
    assert lz.theory.best_ridge(eps, mu=mu) == pytest.approx(best, rel=1e-3)


def test_the_kernel_of_a_rectifier_and_of_a_line_are_known():
    assert lz.theory.kernel_parts(lambda z: np.maximum(z, 0)) == pytest.approx(
        (0.25, 0.5 - 0.25 - 1 / (2 * np.pi)), abs=1e-5
    )
    assert lz.theory.kernel_parts(lambda z: 3 * z - 1) == pytest.approx((9.0, 0.0), abs=1e-9)
    assert lz.theory.kernel_parts(lambda z: z + z**2) == pytest.approx((1.0, 2.0), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lz.theory.capacity(1.1),
            "theory.capacity: eps = 1.1 must lie in 0..1: the share of labels that are random.",
        ),
        (lambda: lz.theory.capacity(0.1, margin=-1), "theory.capacity: margin = -1 must be at least 0 and finite."),
        (
            lambda: lz.theory.best_ridge(1),
            "theory.best_ridge: eps = 1 must lie in 0..1 and below 1: without a rule no ridge is best.",
        ),
        (lambda: lz.theory.best_ridge(0.1, mu=0), "theory.best_ridge: mu = 0 must be positive and finite."),
        (
            lambda: lz.theory.kernel_parts(np.square),
            "theory.kernel_parts: an activation with mu = 0.000, nu = 2.000 gives no kernel that learns a rule; mu must be positive.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(lz.LocalizeError) as error:
        call()
    assert str(error.value) == message
