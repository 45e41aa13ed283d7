"""Hazards behind a lost exact match: known ones are found again, and the formulas are those of slow sums."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.integrate

from localize.statistics import saturation
from localize.statistics.saturation import GRID, Hazards, _FirstErrors, fitted

END = 20


def first_errors(rng, hazard):
    """Tokens lost where the first error comes at such a rate, of 20."""
    return END - np.minimum(np.floor(rng.standard_exponential(hazard.shape) / hazard), END)


def some(rng, paragraphs=5, draws=2, positions=4):
    """Some losses, a position where nothing was put, and hazards for them."""
    lost = first_errors(rng, np.full((paragraphs, draws, positions), 0.08))
    lost[:, :, 0] = np.nan
    weights = rng.dirichlet(np.ones(len(GRID)))
    now = Hazards(
        rng.gamma(2.0, 0.05, paragraphs), np.full(paragraphs, 5.0), rng.gamma(2.0, 0.5, positions), weights, 1.7
    )
    return lost, now


def chance(kept, wrong, mean, shape, factor=1.0):
    """That the first error comes after so many tokens, or none up to there, by integrating over the draw's factor."""

    def density(v):
        hazard = mean * factor * v
        survived = np.exp(-hazard * kept)
        return scipy.stats.gamma.pdf(v, shape, scale=1 / shape) * (survived - wrong * survived * np.exp(-hazard))

    return scipy.integrate.quad(density, 0, np.inf, limit=200)[0]


def test_the_likelihood_is_that_of_integrals_over_the_factors():
    lost, now = some(np.random.default_rng(0), paragraphs=2, positions=3)
    seen, before = _FirstErrors.of(lost, np.full(2, float(END)), np.zeros(2)), 0.0
    for i in range(2):
        for p in (1, 2):
            mean, each = now.levels[i] * now.profile[p], 0.0
            for weight, factor in zip(now.weights, GRID, strict=True):
                both = 1.0
                for d in range(2):
                    kept = END - lost[i, d, p]
                    both *= chance(kept, float(kept < END), mean, now.shape, factor)
                each += weight * both
            before += np.log(each)
    assert seen.likelihood(now) == pytest.approx(before, rel=1e-6)


def test_where_levels_are_free_every_step_is_more_likely_than_the_one_before(monkeypatch):
    monkeypatch.setattr(saturation, "LEVEL_SHAPES", (1e-9, 1e-9))
    lost, now = some(np.random.default_rng(1), paragraphs=30, positions=8)
    lost, now = lost[..., 1:], replace(now, profile=now.profile[1:])
    seen = _FirstErrors.of(lost, np.full(30, float(END)), np.arange(30) % 2)
    told = []
    for _ in range(8):
        told.append(seen.likelihood(now))
        now = seen.better(now)
    assert (np.diff(told) > 0).all()
    assert now.weights.sum() == pytest.approx(1)


def test_levels_a_profile_and_a_spread_are_found_again():
    rng = np.random.default_rng(2)
    levels, profile = np.repeat([0.01, 0.2], 60), np.exp(np.linspace(-1.5, 1.5, 15))
    own = rng.choice([0.2, 1.0, 5.0], (120, 1, 15))
    hazard = levels[:, None, None] * profile * own * rng.gamma(2.0, 0.5, (120, 3, 15))
    found = fitted(first_errors(rng, hazard), np.full(120, float(END)), np.repeat([0, 1], 60))
    ratio = np.median(found.levels[60:]) / np.median(found.levels[:60])
    assert 12 < ratio < 33  # 20
    assert np.corrcoef(np.log(found.profile), np.log(profile))[0, 1] > 0.95
    spread = np.sqrt(found.weights @ np.log(GRID) ** 2 - (found.weights @ np.log(GRID)) ** 2)
    assert 0.9 < spread < 1.8  # 1.31
    assert 0.8 < found.shape < 6  # 2


def test_levels_of_a_group_are_drawn_to_its_mean_as_far_as_they_are_alike():
    rng = np.random.default_rng(3)
    for spread, least, most in ((0.0, 0.0, 0.25), (1.0, 0.6, 1.2)):
        hazard = 0.05 * np.exp(spread * rng.normal(size=(80, 1, 1))) * np.ones((80, 2, 20))
        found = fitted(first_errors(rng, hazard), np.full(80, float(END)), np.zeros(80))
        assert least <= np.log(found.levels).std() <= most


def test_a_level_is_the_posterior_of_a_gamma_distribution():
    lost, now = some(np.random.default_rng(0), paragraphs=4)
    seen = _FirstErrors.of(lost, np.full(4, float(END)), np.zeros(4))
    errors, exposure = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 20.0, 50.0])
    levels, certainty = seen.levels(errors, exposure, now)
    shape = now.levels.mean() ** 2 / (now.levels.var() + (now.levels**2 / 5).mean())
    np.testing.assert_allclose(certainty, shape + errors)
    np.testing.assert_allclose(levels, (shape + errors) / (shape / 0.1 + exposure))


def test_what_is_simulated_is_lost_at_the_hazards_and_alike_in_a_cluster():
    weights = np.zeros(len(GRID))
    weights[len(GRID) // 2] = 1.0  # a factor of 1
    hazards = Hazards(np.array([0.05, 0.5]), np.full(2, 1e9), np.array([1.0, 2.0, np.nan]), weights, 50.0)
    lost = np.zeros((2, 4000, 3))
    lost[0, 7, 1] = np.nan
    got = hazards.simulated(np.random.default_rng(0), lost, np.array([20.0, 5.0]), np.array([0, 1]))
    assert np.isnan(got[:, :, 2]).all() and np.isnan(got[0, 7, 1]) and np.isnan(got).sum() == 8001
    for i, p, end, hazard in ((0, 0, 20, 0.05), (0, 1, 20, 0.1), (1, 0, 5, 0.5)):
        values = got[i, :, p][~np.isnan(got[i, :, p])]
        kept = [(1 + hazard * k / 50) ** -50 for k in range(1, end + 1)]  # P(kept >= k)
        assert values.min() >= 0 and values.max() <= end
        assert values.mean() == pytest.approx(end - sum(kept), abs=0.25)
    weights = np.full(len(GRID), 1 / len(GRID))
    wide = Hazards(np.full(4, 0.05), np.full(4, 1e9), np.ones(300), weights, 50.0)
    many = wide.simulated(
        np.random.default_rng(0), np.zeros((4, 40, 300)), np.full(4, 20.0), np.array([3, 3, 5, 6])
    ).mean(1)
    together = np.corrcoef(many)
    assert together[0, 1] > 0.95 and abs(together[[0, 0, 2], [2, 3, 3]]).max() < 0.3


def test_the_expected_is_the_mean_over_simulations_that_have_a_value():
    hazards = Hazards(
        np.array([0.02, np.nan]), np.array([2.0, np.nan]), np.ones(3), np.full(len(GRID), 1 / len(GRID)), 2.0
    )
    lost, before, clusters = np.zeros((2, 2, 3)), np.full(2, 20.0), np.arange(2)

    def measure(some):
        total = some.sum((1, 2))
        return np.stack([total, np.where(total > 30, total, np.nan)])

    got = hazards.expected(measure, lost, before, clusters, seed=3, repeats=40)
    rng = np.random.default_rng([3, 31])
    all_of_them = np.stack([measure(hazards.simulated(rng, lost, before, clusters)) for _ in range(40)])
    np.testing.assert_allclose(got[:, 0], np.nanmean(all_of_them[:, :, 0], axis=0))
    assert np.isnan(got[:, 1]).all()


def test_where_nothing_is_lost_there_is_no_level():
    found = fitted(np.zeros((3, 2, 4)), np.full(3, 20.0), np.array(["a", "a", "b"]))
    assert np.isnan(found.levels).all() and np.isnan(found.profile).all()
    lost = np.zeros((3, 2, 4))
    lost[0] = first_errors(np.random.default_rng(0), np.full((2, 4), 0.3))
    assert np.isfinite(fitted(lost, np.full(3, 20.0), np.array(["a", "a", "b"])).levels).tolist() == [
        True,
        False,
        False,
    ]
