"""Mixtures of Gaussians, against scipy's and against differences."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import localize as lz
from localize.theory import Mixture

COVARIANCES = np.array([[[0.5, 0.2], [0.2, 0.3]], [[1.0, -0.4], [-0.4, 0.9]]])
MEANS = np.array([[0.0, 1.0], [2.0, -1.0]])
MIXTURE = Mixture(np.array([0.3, 0.7]), MEANS, COVARIANCES)
POINTS = np.array([[0.1, 0.7], [1.0, 0.0], [3.0, -2.0], [-1.0, 2.0]])


def test_the_density_is_scipys():
    parts = [
        w * multivariate_normal(m, c).pdf(POINTS) for w, m, c in zip(MIXTURE.weights, MEANS, COVARIANCES, strict=True)
    ]
    assert MIXTURE.density(POINTS) == pytest.approx(np.sum(parts, 0))


def test_the_score_is_the_slope_of_the_log_density():
    step = 1e-5
    slope = [
        (np.log(MIXTURE.density(POINTS + step * way)) - np.log(MIXTURE.density(POINTS - step * way))) / (2 * step)
        for way in np.eye(2)
    ]
    assert MIXTURE.score(POINTS) == pytest.approx(np.stack(slope, 1), abs=1e-7)


def test_the_score_of_a_memorized_prior_pulls_to_the_examples_by_a_softmax():
    from scipy.special import softmax

    examples, s = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 0.0]]), 0.6
    away = examples - POINTS[:, None]
    likely = softmax(-(away**2).sum(2) / (2 * s**2), axis=1)
    pulls = (likely[..., None] * away).sum(1) / s**2
    assert lz.theory.memorized_prior(examples, s).score(POINTS) == pytest.approx(pulls)


def test_effective_modes_count_what_is_alike():
    for weights, modes in (([1.0, 0.0], 1.0), ([0.25] * 4, 4.0), ([0.5, 0.5, 0.0], 2.0)):
        made = Mixture(np.array(weights), np.zeros((len(weights), 1)), np.ones((len(weights), 1, 1)))
        assert made.effective_modes == pytest.approx(modes)
        assert np.isfinite(made.density(np.zeros((1, 1)))).all()


def test_draws_have_the_mixtures_moments_and_each_seed_its_own():
    drawn = lz.theory.sample_posterior(MIXTURE, 40_000, seed=1)
    mean = MIXTURE.weights @ MEANS
    spread = np.einsum("c,cde->de", MIXTURE.weights, COVARIANCES + np.einsum("cd,ce->cde", MEANS - mean, MEANS - mean))
    assert drawn.mean(0) == pytest.approx(mean, abs=0.03)
    assert np.cov(drawn.T) == pytest.approx(spread, abs=0.05)
    again = lz.theory.sample_posterior(MIXTURE, 40_000, seed=1)
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, lz.theory.sample_posterior(MIXTURE, 40_000, seed=2))


def test_an_ellipse_holds_its_share():
    outline = MIXTURE.ellipses(mass=0.8)
    for mean, covariance, points in zip(MEANS, COVARIANCES, outline, strict=True):
        away = points - mean
        squared = (away * np.linalg.solve(covariance, away.T).T).sum(1)
        assert squared == pytest.approx(-2 * np.log(0.2))  # chi-squared of two degrees of freedom
        assert points[0] == pytest.approx(points[-1])


def test_bad_input_is_told_in_one_line():
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.sample_posterior(MIXTURE, 0)
    assert str(error.value) == "theory.sample_posterior: draws = 0 must be at least 1."
    with pytest.raises(lz.LocalizeError) as error:
        Mixture(np.ones(1), np.zeros((1, 3)), np.eye(3)[None]).ellipses()
    assert str(error.value) == "localize: an ellipse of 3 dimensions; there are ellipses of two only."
