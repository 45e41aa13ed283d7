"""Fits in finite dimensions: each against another solver, and their errors against the limit."""

import numpy as np
import pytest

import localize as lz
from localize.theory.losses import HINGE, LOGISTIC, SQUARE
from localize.theory.simulation import drawn, fitted


@pytest.fixture(scope="module")
def problem():
    x, _, labels, _ = drawn(2.0, 0.2, 60, 3)
    return x, labels


def features(x, mu, nu):
    """Of the kernel mu x.x' / d + nu [x = x']: the inputs, and one for each example."""
    return np.hstack([np.sqrt(mu / x.shape[1]) * x, np.sqrt(nu) * np.eye(len(x))])


@pytest.mark.parametrize(("penalty", "nu"), [(0.01, 0.0), (1.0, 0.0), (0.3, 0.5)])
def test_a_square_fit_solves_its_linear_equations(problem, penalty, nu):
    x, labels = problem
    kernel = features(x, 0.7, nu) @ features(x, 0.7, nu).T
    dual, outputs = fitted(kernel, labels, penalty, SQUARE)
    exact = np.linalg.solve(kernel + penalty * np.eye(len(x)), labels)
    assert np.allclose(outputs, kernel @ exact, atol=1e-5) and np.allclose(x.T @ dual, x.T @ exact, atol=1e-3)


@pytest.mark.parametrize(("penalty", "nu"), [(0.3, 0.0), (2.0, 0.0), (0.3, 0.5)])
def test_other_fits_are_those_of_scikit_learn(problem, penalty, nu):
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    x, labels = problem
    rows = features(x, 1.0, nu)
    common = {"C": 1 / penalty, "fit_intercept": False, "tol": 1e-8, "max_iter": 1_000_000}
    for loss, model in ((HINGE, LinearSVC(loss="hinge", **common)), (LOGISTIC, LogisticRegression(**common))):
        weights = model.fit(rows, labels).coef_[0]
        dual, outputs = fitted(rows @ rows.T, labels, penalty, loss)
        assert np.allclose(outputs, rows @ weights, atol=1e-3), loss.name
        assert np.allclose(rows.T @ dual, weights, atol=1e-3), loss.name


def test_labels_are_as_is_said():
    x, rule, labels, facts = drawn(50.0, 0.3, 40, 0)
    right = labels == np.sign(x @ rule)
    assert len(labels) == 2000 and set(labels) == {-1.0, 1.0}
    assert right[~facts].all() and facts.mean() == pytest.approx(0.3, abs=0.04)
    assert right[facts].mean() == pytest.approx(0.5, abs=0.06)
    assert abs(x.mean()) < 0.01 and x.std() == pytest.approx(1, abs=0.01)


def z_of(simulated, exact):
    """Distance from the limit in standard errors, of the errors that vary over seeds."""
    from scipy.stats import t

    half = t.ppf(0.975, simulated.attrs["seeds"] - 1)
    found = []
    for what in ("rule_error", "fact_error"):
        error = (simulated[what + "_high"] - simulated[what]) / half
        z = ((simulated[what] - exact[what]) / error).values
        found += z[(simulated[what + "_low"].values > 0) & np.isfinite(z)].tolist()
    return np.array(found)


def test_errors_of_ridge_are_near_the_limit():
    cells = {"alpha": [0.5, 2], "eps": [0.1, 0.4], "penalty": [0.1, 1.0], "nu": [0.0, 0.3]}
    z = z_of(lz.theory.simulate(**cells, d=120, seeds=6), lz.theory.rules_and_facts(**cells))
    assert len(z) > 20
    assert 0.6 < np.sqrt((z**2).mean()) < 1.8 and abs(np.median(z)) < 0.8


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_errors_of_other_losses_are_near_the_limit(loss):
    cells = {"alpha": 2, "eps": 0.3, "penalty": 1.0, "nu": [0.0, 0.5], "loss": loss}
    z = z_of(lz.theory.simulate(**cells, d=100, seeds=12), lz.theory.rules_and_facts(**cells))
    assert len(z) == 4
    assert np.abs(z).max() < 3.5 and abs(z.mean()) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["square", "hinge"])
def test_errors_scatter_around_the_limit_as_their_intervals_say(loss):
    cells = {"alpha": [0.5, 1, 2], "eps": [0.1, 0.3], "penalty": [0.3, 1.0, 4.0], "nu": [0.0, 0.3], "loss": loss}
    z = z_of(lz.theory.simulate(**cells, d=200, seeds=12), lz.theory.rules_and_facts(**cells))
    assert len(z) > 40
    assert 0.8 < z.std() < 1.25 and abs(z.mean()) < 0.4


def test_a_cell_is_drawn_alike_whatever_else_is_asked_for():
    alone = lz.theory.simulate(2, 0.2, 1.0, d=30, seeds=3)
    among = lz.theory.simulate([1, 2], [0.1, 0.2], 1.0, d=30, seeds=3)
    for name in alone.data_vars:
        assert float(among[name].sel(alpha=2, eps=0.2)) == float(alone[name])


def test_where_no_fact_is_wrong_the_interval_is_that_of_so_many_facts():
    from scipy.stats import binomtest

    found = lz.theory.simulate(0.5, 0.5, 0.001, nu=1.0, d=40, seeds=3)
    facts = sum(int(drawn(0.5, 0.5, 40, seed, 0.001, 1.0)[3].sum()) for seed in range(3))
    assert float(found.fact_error) == 0.0 == float(found.fact_error_low)
    assert float(found.fact_error_high) == pytest.approx(binomtest(0, facts).proportion_ci().high)
    assert np.isnan(float(lz.theory.simulate(0.5, 0, 0.1, d=40, seeds=3).fact_error))


def test_an_interval_is_students():
    from scipy.stats import t

    found = lz.theory.simulate(2, 0.5, 1.0, d=40, seeds=4)
    from localize.theory.simulation import _one

    rule = np.array([_one(2.0, 0.5, 1.0, 1.0, 0.0, SQUARE, 40, seed)[0] for seed in range(4)])
    low, high = t.interval(0.95, 3, rule.mean(), rule.std(ddof=1) / 2)
    assert (float(found.rule_error_low), float(found.rule_error_high)) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"d": 1}, "theory.simulate: d = 1 and seeds = 5 must each be at least 2."),
        ({"seeds": 1}, "theory.simulate: d = 20 and seeds = 1 must each be at least 2."),
        ({"alpha": -1}, "theory.simulate: alpha = -1 must be positive: training examples per dimension."),
    ],
)
def test_bad_input_is_told_in_one_line(given, message):
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.simulate(**{"alpha": 1, "eps": 0.1, "penalty": 1.0, "d": 20} | given)
    assert str(error.value) == message


def test_a_fit_that_does_not_settle_says_so(problem, monkeypatch):
    monkeypatch.setattr("localize.theory.simulation.MOST_ROUNDS", 2)
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.simulate(2, 0.1, 0.5, d=20, loss="hinge")
    assert str(error.value) == "theory.simulate: the fit did not settle in 2 rounds at penalty = 0.5."
