"""Memorized priors: what is known to four digits, and what must hold of any."""

import numpy as np
import pytest

import localize as lz

EXAMPLES = [-1.5, -0.4, 0.4, 1.2, 2.5]
X = np.linspace(-5, 6, 4001)


def cubic(x):
    return x + 0.3 * x**3


def cubic_slope(x):
    return (1 + 0.9 * x**2)[:, :, None]


def bent(x):
    return np.stack([x[:, 0] + 0.3 * x[:, 0] * x[:, 1], x[:, 1] + 0.2 * x[:, 0] ** 2], 1)


def bent_slope(x):
    one = np.stack([1 + 0.3 * x[:, 1], 0.3 * x[:, 0]], -1)
    return np.stack([one, np.stack([0.4 * x[:, 0], np.ones(len(x))], -1)], 1)


def observed(y=(1.0,), forward=cubic, jacobian=cubic_slope, noise=0.3):
    return lz.theory.Observation(np.array(y), forward, jacobian, noise)


@pytest.fixture(scope="module")
def curves():
    return lz.theory.memorized_curves(EXAMPLES, [0.3, 0.1], observed(), x=X)


def test_weights_and_modes_are_as_is_known(curves):
    exact = curves.sel(kind="exact")
    assert exact.weight.values == pytest.approx(
        np.array([[0, 0.0059, 0.5139, 0.4802, 0], [0, 0.0002, 0.6046, 0.3953, 0]]), abs=5.5e-5
    )
    assert exact.effective_modes.values == pytest.approx([2.0642, 1.9591], abs=5.5e-5)


def test_the_linearised_weights_are_as_far_from_the_exact_as_is_known_and_further_without_the_determinant(curves):
    distance = curves.weight_distance
    assert distance.sel(kind="linearised").values == pytest.approx([0.0222, 0.0218], abs=5.5e-5)
    assert distance.sel(kind="without_determinant").values == pytest.approx([0.1083, 0.0618], abs=5.5e-5)
    assert (distance.sel(kind="exact") == 0).all()
    further = curves.posterior_distance
    assert (further.sel(kind="linearised") < further.sel(kind="without_determinant")).all()


def test_densities_integrate_to_one_and_the_posterior_is_bayes(curves):
    from scipy.integrate import quad

    for name in ("prior", "posterior", "likelihood", "null"):
        assert curves[name].integrate("x").values == pytest.approx(1, abs=1e-5)

    def joint(x, spread=0.3):
        prior = sum(np.exp(-((x - one) ** 2) / (2 * spread**2)) for one in EXAMPLES)
        return prior * np.exp(-((1 - cubic(x)) ** 2) / (2 * 0.3**2))

    scale = quad(joint, -4, 5, points=EXAMPLES, epsabs=1e-12)[0]
    at = X[[1800, 2100, 2200]]
    found = curves.posterior.sel(spread=0.3, kind="exact").sel(x=at).values
    assert found == pytest.approx(joint(at) / scale, rel=1e-6)


def test_the_null_is_the_posterior_under_one_gaussian(curves):
    joint = np.exp(-((X - np.mean(EXAMPLES)) ** 2) / (2 * np.var(EXAMPLES))) * np.exp(
        -((1 - cubic(X)) ** 2) / (2 * 0.3**2)
    )
    assert curves.null.values == pytest.approx(joint / np.trapezoid(joint, X), abs=1e-6)


def test_a_linear_operator_is_exact_with_and_without_the_determinant():
    linear = observed(forward=lambda x: 2 * x - 0.5, jacobian=lambda x: np.full((len(x), 1, 1), 2.0))
    found = lz.theory.memorized_curves(EXAMPLES, [0.4], linear, x=X)
    assert found.posterior_distance.values == pytest.approx(0, abs=1e-8)
    assert found.weight_distance.values == pytest.approx(0, abs=1e-8)


def test_a_component_is_kalmans_update():
    noise = np.array([[0.3, 0.1], [0.1, 0.2]])
    examples = np.array([[0.3, -0.2], [1.0, 0.5]])
    found = lz.theory.memorized_posterior(examples, 0.4, observed([0.5, 0.1], bent, bent_slope, noise))
    from scipy.stats import multivariate_normal

    chances = []
    for place, (x, j) in enumerate(zip(examples, bent_slope(examples), strict=True)):
        c = 0.16 * j @ j.T + noise
        gain = 0.16 * j.T @ np.linalg.inv(c)
        r = np.array([0.5, 0.1]) - bent(x[None])[0]
        assert found.means[place] == pytest.approx(x + gain @ r)
        assert found.covariances[place] == pytest.approx((np.eye(2) - gain @ j) * 0.16)
        chances.append(multivariate_normal(cov=c).pdf(r))
    assert found.weights == pytest.approx(np.array(chances) / np.sum(chances))


def test_more_observations_than_unknowns_and_fewer_are_allowed():
    two = observed([1.0, 0.8], lambda x: np.hstack([x, x**2]), lambda x: np.stack([np.ones_like(x), 2 * x], 1))
    assert lz.theory.memorized_posterior(np.array([[0.5], [1.0]]), 0.2, two).means.shape == (2, 1)
    one = observed([0.5], lambda x: x[:, :1], lambda x: np.tile([[[1.0, 0.0]]], (len(x), 1, 1)))
    found = lz.theory.memorized_posterior(np.zeros((3, 2)), 0.2, one)
    assert found.covariances[0][1, 1] == pytest.approx(0.04) and found.covariances[0][0, 0] < 0.04


def test_it_becomes_a_lookup_as_the_spread_goes_to_nothing():
    found = lz.theory.memorized_posterior(np.array(EXAMPLES)[:, None], 1e-4, observed())
    likely = observed().likelihood(np.array(EXAMPLES)[:, None])
    assert found.weights == pytest.approx(likely / likely.sum(), abs=1e-5)
    assert found.means[:, 0] == pytest.approx(EXAMPLES, abs=1e-5)


def test_the_plane_is_exact_and_its_ellipses_are_those_of_the_components():
    examples = np.array([[-0.5, 0.2], [0.6, 0.1], [0.2, -0.7]])
    grid = np.linspace(-3, 3, 161)
    linear = observed([0.2, 0.1], lambda x: x, lambda x: np.tile(np.eye(2), (len(x), 1, 1)))
    found = lz.theory.memorized_plane(examples, [0.5, 0.2], linear, x1=grid, x2=grid + 0.1)
    assert found.posterior.integrate(("x1", "x2")).values == pytest.approx(1, abs=1e-3)
    mixture = lz.theory.memorized_posterior(examples, 0.5, linear)
    points = np.stack(np.meshgrid(grid, grid + 0.1, indexing="ij"), -1).reshape(-1, 2)
    assert found.posterior.sel(spread=0.5).values.ravel() == pytest.approx(mixture.density(points), abs=1e-4)
    assert found.ellipse.sel(spread=0.5).values == pytest.approx(mixture.ellipses(mass=0.9))
    assert found.weight.sel(spread=0.5).values == pytest.approx(mixture.weights)
    assert float(found.effective_modes.sel(spread=0.5)) == pytest.approx(mixture.effective_modes)
    assert found.training.values == pytest.approx(examples)


def test_modes_over_spread_are_those_of_each_problem():
    found = lz.theory.modes_over_spread([2, 5], [0.1, 1.0], bent, bent_slope, noise=0.3, draws=3, seed=4)
    counted = np.empty((3, 2, 2))
    for draw in range(3):
        rng = np.random.default_rng([4, 89, draw])
        y = bent(rng.standard_normal((1, 2)))[0] + 0.3 * rng.standard_normal(2)
        examples = rng.standard_normal((5, 2))
        for row, count in enumerate((2, 5)):
            for column, spread in enumerate((0.1, 1.0)):
                mixture = lz.theory.memorized_posterior(examples[:count], spread, observed(y, bent, bent_slope))
                counted[draw, row, column] = mixture.effective_modes
    assert found.effective_modes.values == pytest.approx(counted.mean(0))
    from scipy.stats import t

    half = t.ppf(0.975, 2) * counted.std(0, ddof=1) / np.sqrt(3)
    assert found.effective_modes_high.values == pytest.approx(counted.mean(0) + half)
    assert found.effective_modes_low.values == pytest.approx(counted.mean(0) - half)


SINGULAR = np.array([[1.0, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lz.theory.memorized_prior(np.zeros((0, 2)), 0.1),
            "theory.memorized_prior: 0 training examples; at least one is needed, and all must be finite.",
        ),
        (
            lambda: lz.theory.memorized_prior(np.array([[np.nan], [1.0]]), 0.1),
            "theory.memorized_prior: 2 training examples; at least one is needed, and all must be finite.",
        ),
        (
            lambda: lz.theory.memorized_posterior(
                np.zeros((3, 1)), 0.1, observed(jacobian=lambda x: np.ones((len(x), 1)))
            ),
            "theory.memorized_posterior: forward and jacobian give shapes (3, 1) and (3, 1); (3, 1) and (3, 1, 1) are needed.",
        ),
        (
            lambda: lz.theory.memorized_prior(np.zeros((3, 2)), 0),
            "theory.memorized_prior: spread = 0 must be positive: a standard deviation.",
        ),
        (
            lambda: lz.theory.memorized_posterior(np.zeros((3, 1)), 0.1, observed(noise=-1.0)),
            "theory.memorized_posterior: noise = -1 must be positive: a standard deviation.",
        ),
        (
            lambda: lz.theory.memorized_posterior(
                np.zeros((3, 2)), 0.1, observed([0.0, 0.0], bent, bent_slope, SINGULAR)
            ),
            "theory.memorized_posterior: the covariance noise has eigenvalues 0 to 2; it must be symmetric and not singular.",
        ),
        (
            lambda: lz.theory.memorized_curves(EXAMPLES, [0.1], observed(), x=np.array([1.0, 0.0, 2.0])),
            "theory.memorized_curves: x must be at least 3 ascending points.",
        ),
        (
            lambda: lz.theory.memorized_curves([1.0, 1.0], [0.1], observed(), x=X),
            "theory.memorized_curves: examples must be a list of numbers that are not all the same.",
        ),
        (
            lambda: lz.theory.memorized_plane(np.zeros((2, 2)), [0.1], observed(), x1=X, x2=np.zeros(3)),
            "theory.memorized_plane: x2 must be at least 2 ascending points.",
        ),
        (
            lambda: lz.theory.modes_over_spread([0], [0.1], bent, bent_slope, noise=0.1),
            "theory.modes_over_spread: counts = [0], d = 2, draws = 40; at least 1, 1 and 2 are needed.",
        ),
        (
            lambda: lz.theory.modes_over_spread([2], [-0.1], bent, bent_slope, noise=0.1),
            "theory.modes_over_spread: spread = -0.1 must be positive: a standard deviation.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(lz.LocalizeError) as error:
        call()
    assert str(error.value) == message
