"""Rules and Facts: errors that are known to four digits, and one way of solving them against the other."""

from importlib import import_module

import numpy as np
import pytest

import localize as lz
from localize.theory.losses import HINGE, LOGISTIC, SQUARE
from localize.theory.rules_and_facts import bayes, square, state_evolution

# eps, alpha, penalty, nu, rule error, fact error
RIDGE = [
    (0.05, 0.5, 0.01, 0, 0.3500, 0.0000), (0.05, 0.5, 0.740495, 0, 0.3328, 0.0039),
    (0.05, 0.5, 4, 0, 0.3374, 0.0567), (0.05, 0.5, 0.2, 0.3, 0.3332, 0.0000),
    (0.05, 2, 0.01, 0, 0.2247, 0.1600), (0.05, 2, 0.740495, 0, 0.2027, 0.2166),
    (0.05, 2, 4, 0, 0.2154, 0.2728), (0.05, 2, 0.2, 0.3, 0.2035, 0.0000),
    (0.05, 4, 0.01, 0, 0.1466, 0.3470), (0.05, 4, 0.740495, 0, 0.1429, 0.3547),
    (0.05, 4, 4, 0, 0.1527, 0.3701), (0.05, 4, 0.2, 0.3, 0.1432, 0.0013),
    (0.1, 0.5, 0.01, 0, 0.3614, 0.0000), (0.1, 0.5, 0.939255, 0, 0.3423, 0.0079),
    (0.1, 0.5, 4, 0, 0.3454, 0.0553), (0.1, 0.5, 0.2, 0.3, 0.3433, 0.0000),
    (0.1, 2, 0.01, 0, 0.2435, 0.1599), (0.1, 2, 0.939255, 0, 0.2184, 0.2210),
    (0.1, 2, 4, 0, 0.2271, 0.2680), (0.1, 2, 0.2, 0.3, 0.2203, 0.0000),
    (0.1, 4, 0.01, 0, 0.1622, 0.3428), (0.1, 4, 0.939255, 0, 0.1575, 0.3520),
    (0.1, 4, 4, 0, 0.1645, 0.3659), (0.1, 4, 0.2, 0.3, 0.1582, 0.0010),
    (0.3, 0.5, 0.01, 0, 0.4001, 0.0000), (0.3, 0.5, 2.205707, 0, 0.3778, 0.0312),
    (0.3, 0.5, 4, 0, 0.3781, 0.0504), (0.3, 0.5, 0.2, 0.3, 0.3813, 0.0000),
    (0.3, 2, 0.01, 0, 0.3099, 0.1594), (0.3, 2, 2.205707, 0, 0.2763, 0.2323),
    (0.3, 2, 4, 0, 0.2773, 0.2490), (0.3, 2, 0.2, 0.3, 0.2841, 0.0000),
    (0.3, 4, 0.01, 0, 0.2254, 0.3254), (0.3, 4, 2.205707, 0, 0.2160, 0.3406),
    (0.3, 4, 4, 0, 0.2169, 0.3469), (0.3, 4, 0.2, 0.3, 0.2199, 0.0002),
]  # fmt: skip
HINGED = [
    (0.1, 1, 0.1, 0, 0.3061, 0.0039), (0.1, 1, 1, 0, 0.2899, 0.1664),
    (0.1, 1, 0.01, 1, 0.2843, 0.0000), (0.1, 1, 1, 1, 0.2840, 0.0001),
    (0.1, 2, 0.1, 0, 0.2323, 0.1464), (0.1, 2, 1, 0, 0.2252, 0.2797),
    (0.1, 2, 0.01, 1, 0.2174, 0.0000), (0.1, 2, 1, 1, 0.2156, 0.0050),
    (0.1, 4, 0.1, 0, 0.1512, 0.3264), (0.1, 4, 1, 0, 0.1617, 0.3736),
    (0.1, 4, 0.01, 1, 0.1548, 0.0000), (0.1, 4, 1, 1, 0.1497, 0.0335),
    (0.3, 1, 0.1, 0, 0.3618, 0.0102), (0.3, 1, 1, 0, 0.3349, 0.1513),
    (0.3, 1, 0.01, 1, 0.3339, 0.0000), (0.3, 1, 1, 1, 0.3332, 0.0001),
    (0.3, 2, 0.1, 0, 0.3013, 0.1472), (0.3, 2, 1, 0, 0.2778, 0.2559),
    (0.3, 2, 0.01, 1, 0.2785, 0.0000), (0.3, 2, 1, 1, 0.2751, 0.0029),
    (0.3, 4, 0.1, 0, 0.2210, 0.3067), (0.3, 4, 1, 0, 0.2136, 0.3505),
    (0.3, 4, 0.01, 1, 0.2174, 0.0000), (0.3, 4, 1, 1, 0.2091, 0.0176),
]  # fmt: skip

# eps, alpha, least possible rule error, rule error of the best ridge
LEAST = [
    (0.05, 0.5, 0.3327, 0.3328), (0.05, 1, 0.2700, 0.2712), (0.05, 2, 0.1954, 0.2027), (0.05, 4, 0.1222, 0.1429),
    (0.05, 8, 0.0672, 0.0995), (0.1, 0.5, 0.3422, 0.3423), (0.1, 1, 0.2834, 0.2844), (0.1, 2, 0.2122, 0.2184),
    (0.1, 4, 0.1384, 0.1575), (0.1, 8, 0.0785, 0.1109), (0.3, 0.5, 0.3777, 0.3778), (0.3, 1, 0.3315, 0.3322),
    (0.3, 2, 0.2726, 0.2763), (0.3, 4, 0.2032, 0.2160), (0.3, 8, 0.1320, 0.1606), (0.5, 0.5, 0.4119, 0.4120),
    (0.5, 1, 0.3776, 0.3779), (0.5, 2, 0.3323, 0.3337), (0.5, 4, 0.2749, 0.2804), (0.5, 8, 0.2070, 0.2231),
]  # fmt: skip

FOUR_DIGITS = 5.5e-5


def errors(eps, alpha, penalty, nu, loss="square", mu=1.0):
    found = lz.theory.rules_and_facts(alpha, eps, penalty, nu=nu, loss=loss, mu=mu)
    return float(found.rule_error), float(found.fact_error)


@pytest.mark.parametrize("truth", RIDGE)
def test_ridge_errs_as_is_known(truth):
    assert errors(*truth[:4]) == pytest.approx(truth[4:], abs=FOUR_DIGITS)


@pytest.mark.parametrize("truth", HINGED)
def test_a_hinge_errs_as_is_known(truth):
    assert errors(*truth[:4], loss="hinge") == pytest.approx(truth[4:], abs=FOUR_DIGITS)


@pytest.mark.parametrize(("eps", "alpha", "least", "ridge"), LEAST)
def test_the_least_error_and_that_of_the_best_ridge_are_as_is_known(eps, alpha, least, ridge):
    found = lz.theory.rules_and_facts(alpha, eps, lz.theory.best_ridge(eps))
    assert float(found.bayes_error) == pytest.approx(least, abs=FOUR_DIGITS)
    assert float(found.rule_error) == pytest.approx(ridge, abs=FOUR_DIGITS)


def test_order_parameters_are_as_is_known():
    found = lz.theory.rules_and_facts(2, 0.1, 0.2, nu=0.3)
    assert [float(found[name]) for name in ("overlap", "norm", "variance")] == pytest.approx(
        [0.516472, 0.449899, 2.903882], abs=2e-6
    )
    found = lz.theory.rules_and_facts(2, 0.3, 0.1, loss="hinge")
    assert [float(found[name]) for name in ("overlap", "norm", "variance")] == pytest.approx(
        [1.11915, 3.66482, 2.0073], abs=2e-5
    )


@pytest.mark.parametrize(
    "cell",
    [(0.5, 0.1, 0.01, 1.0, 0.0), (2.0, 0.1, 0.5, 1.0, 0.3), (4.0, 0.3, 1.0, 0.4, 0.2), (1.0, 1.0, 1.0, 2.0, 0.5)],
)
def test_the_state_evolution_of_the_square_loss_is_the_closed_form(cell):
    alpha, eps, penalty, mu, nu = cell
    evolved = state_evolution(*cell, SQUARE)
    closed = square(*map(np.array, (alpha, eps, penalty)), mu, np.array(nu))
    assert list(vars(evolved).values()) == pytest.approx(
        [float(value) for value in vars(closed).values()], rel=1e-5, abs=1e-9
    )


def test_ridge_solves_its_own_equations():
    """The closed form, put into V = mu / (penalty + mu alpha / (1 + V)) + nu / penalty."""
    alpha, eps, penalty, mu, nu = 3.0, 0.2, 0.7, 0.6, 0.25
    v = float(square(*map(np.array, (alpha, eps, penalty)), mu, np.array(nu)).variance)
    assert v == pytest.approx(mu / (penalty + mu * alpha / (1 + v)) + nu / penalty, rel=1e-12)


@pytest.mark.parametrize("loss", ["square", "hinge", "logistic"])
def test_only_the_ratio_of_kernel_and_penalty_counts(loss):
    assert errors(0.1, 2, 0.5, 0.3, loss) == pytest.approx(errors(0.1, 2, 2.0, 1.2, loss, mu=4.0), abs=1e-6)


def test_the_rule_error_of_ridge_depends_on_the_sum_and_facts_are_memorized_at_no_cost():
    all_penalty, all_nu = errors(0.1, 4, 1.0, 0.0), errors(0.1, 4, 1e-6, 1.0 - 1e-6)
    assert all_nu[0] == pytest.approx(all_penalty[0], abs=1e-9)
    assert all_penalty[1] > 0.3 and all_nu[1] < 1e-12


def test_nothing_is_learned_of_facts_alone_and_nothing_is_below_the_least_error():
    found = lz.theory.rules_and_facts([0.5, 2, 8], [0, 0.3, 1], [0.01, 1], nu=[0, 0.5], loss="square")
    assert found.rule_error.dims == ("alpha", "eps", "penalty", "nu") and found.bayes_error.dims == ("alpha", "eps")
    assert np.allclose(found.rule_error.sel(eps=1), 0.5) and np.allclose(found.bayes_error.sel(eps=1), 0.5)
    assert (found.rule_error >= found.bayes_error - 1e-9).all()
    hinge, logistic = (lz.theory.rules_and_facts(2, 0.1, [0.1, 1], loss=loss) for loss in ("hinge", "logistic"))
    assert (hinge.rule_error > hinge.bayes_error).all() and (logistic.rule_error > logistic.bayes_error).all()


def test_a_value_along_an_axis_is_the_value_alone():
    along = lz.theory.rules_and_facts([1, 2], 0.1, [0.1, 1.0], loss="hinge")
    assert along.rule_error.shape == (2, 2)
    alone = errors(0.1, 2, 0.1, 0, "hinge")
    assert (float(along.rule_error[1, 0]), float(along.fact_error[1, 0])) == pytest.approx(alone, abs=1e-12)


def test_the_least_error_solves_its_equation_by_another_quadrature():
    from scipy.integrate import quad
    from scipy.stats import norm

    eps, alpha = 0.2, 3.0
    q = np.cos(np.pi * float(bayes(np.array(alpha), np.array(eps)))) ** 2
    s = np.sqrt(1 - q)

    def part(w):
        slope = (1 - eps) * norm.pdf(w / s) / s
        return norm.pdf(w, scale=np.sqrt(q)) * slope**2 / ((1 - eps) * norm.cdf(w / s) + eps / 2)

    hat = 2 * alpha * quad(part, -8, 8, epsabs=1e-12)[0]
    assert hat / (1 + hat) == pytest.approx(q, abs=1e-7)


def test_least_errors_of_noiseless_labels_are_below_all_others():
    least = lz.theory.rules_and_facts(4, np.linspace(0, 1, 6), 1.0).bayes_error.values
    assert (np.diff(least) > 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 0}, "theory.rules_and_facts: alpha = 0 must be positive: training examples per dimension."),
        ({"alpha": [1, -2]}, "theory.rules_and_facts: alpha = -2 must be positive: training examples per dimension."),
        ({"eps": 1.5}, "theory.rules_and_facts: eps = 1.5 must lie in 0..1: the share of labels that are random."),
        (
            {"eps": float("nan")},
            "theory.rules_and_facts: eps = nan must lie in 0..1: the share of labels that are random.",
        ),
        ({"penalty": 0}, "theory.rules_and_facts: penalty = 0 must be positive."),
        ({"alpha": []}, "theory.rules_and_facts: alpha of shape (0,) must be a number or a list of numbers."),
        (
            {"nu": -1},
            "theory.rules_and_facts: mu = 1, nu = -1 is no kernel that learns a rule; mu must be positive, nu at least 0.",
        ),
        (
            {"mu": 0.0},
            "theory.rules_and_facts: mu = 0, nu = 0 is no kernel that learns a rule; mu must be positive, nu at least 0.",
        ),
        (
            {"loss": "cube"},
            "theory.rules_and_facts: loss = 'cube' must be one of square, hinge, logistic, or a theory.Loss.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(given, message):
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.rules_and_facts(**{"alpha": 1, "eps": 0.1, "penalty": 1.0} | given)
    assert str(error.value) == message


def test_a_state_evolution_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr(import_module("localize.theory.rules_and_facts"), "MOST_STEPS", 3)
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.rules_and_facts(2, 0.1, 0.5, loss="hinge")
    assert str(error.value) == (
        "theory.rules_and_facts: the state evolution did not settle in 3 steps at alpha = 2, eps = 0.1, penalty = 0.5; a larger "
        "penalty helps."
    )


@pytest.mark.parametrize("loss", [SQUARE, HINGE, LOGISTIC], ids=lambda loss: loss.name)
def test_a_proximal_point_is_the_least_of_its_sum(loss):
    from scipy.optimize import minimize_scalar

    value = {
        "square": lambda m: (1 - m) ** 2 / 2,
        "hinge": lambda m: max(0.0, 1 - m),
        "logistic": lambda m: np.logaddexp(0, -m),
    }[loss.name]
    for w in (-2.3, 0.1, 0.6, 1.7):
        for v in (0.2, 3.0):
            least = minimize_scalar(lambda m, w=w, v=v: value(m) + (m - w) ** 2 / (2 * v), options={"xtol": 1e-10}).x
            assert loss.proximal(np.array([w]), v)[0] == pytest.approx(least, abs=1e-6)
    assert (value(1e-6) - value(-1e-6)) / 2e-6 == pytest.approx(loss.slope, abs=1e-6)
