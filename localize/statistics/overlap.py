"""Rows of two groups that are alike in something: who has a counterpart, and weights that make the two groups alike in it."""

import numpy as np
from jaxtyping import Bool, Float

CALIPER = 0.2
"""How far a counterpart may be, in standard deviations of what is matched on inside the groups: Austin 2011."""

MOST_PIECES = 40
CLUSTERS_A_PIECE = 10.0
"""Of the spline: so many effective clusters for each of its pieces, and no more pieces than these."""

DEGREE = 3
RIDGE = 1.0
"""Of the propensity's coefficients, of columns with a mean square of 1: without it few rows in one group would be told apart by chance."""

STEPS = 50
LARGEST_STEP = 3.0
CONVERGED = 1e-10

INDEPENDENT = 1e-7
"""Directions of a basis that are shorter than this share of the longest are rounding."""


def has_counterpart(x: Float[np.ndarray, " row"], a: Bool[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Whether a row of the other group lies within the caliper, .2 standard deviations of `x` inside the groups.

    >>> has_counterpart(np.array([0.0, 5.0, 10.0, 0.3, 5.1, 30.0]), np.array([True] * 3 + [False] * 3))
    array([ True,  True, False,  True,  True, False])
    """
    reach = CALIPER * np.sqrt((x[a].var() + x[~a].var()) / 2) * (1 + CONVERGED) + CONVERGED * np.abs(x).max()
    near = np.empty(len(x), bool)
    for own, other in ((a, np.sort(x[~a])), (~a, np.sort(x[a]))):
        near[own] = np.searchsorted(other, x[own] + reach, side="right") > np.searchsorted(other, x[own] - reach)
    return near


def spline(x: Float[np.ndarray, " row"], pieces: int) -> Float[np.ndarray, "row term"]:
    """Cubic splines with knots at quantiles of `x`, whose sum is 1; the constant alone where `x` has one value."""
    from scipy.interpolate import BSpline

    knots = np.unique(np.quantile(x, np.linspace(0, 1, pieces + 1)))
    if len(knots) < 2:
        return np.ones((len(x), 1))
    around = np.concatenate([[knots[0]] * DEGREE, knots, [knots[-1]] * DEGREE])
    return BSpline.design_matrix(np.clip(x, knots[0], knots[-1]), around, DEGREE).toarray()


def independent(
    basis: Float[np.ndarray, "row term"], weights: Float[np.ndarray, " row"]
) -> Float[np.ndarray, "row some"]:
    """A basis of the same space, at right angles and of length 1 as rows are weighted."""
    _, lengths, turned = np.linalg.svd(np.sqrt(weights)[:, None] * basis, full_matrices=False)
    kept = lengths > INDEPENDENT * lengths[0]
    return basis @ (turned[kept].T / lengths[kept])


def overlap_weights(basis: Float[np.ndarray, "row term"], a: Bool[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """1 - e for rows of group a and e for the others, e the chance that such a row is of a; each group's sum to 1.

    They are largest where both groups are, never negative, and make the groups' means of `basis` alike, but for the ridge.

    Args:
        basis: What the chance follows from, the constant included.
        a: Which rows are of group a.

    Source:
        Li, Morgan and Zaslavsky 2018, Balancing covariates via propensity score weighting; logistic, by Newton's method.
    """
    from scipy.special import expit, logit

    even = np.full(len(a), 1 / len(a))
    own = independent(basis - basis.mean(0), even) if basis.shape[1] > 1 else np.zeros((len(a), 0))
    terms = np.concatenate([np.ones((len(a), 1)), own], axis=1)
    ridge = np.diag(np.r_[0.0, np.full(own.shape[1], RIDGE)])
    slopes = np.zeros(terms.shape[1])
    slopes[0] = logit(a.mean())
    for _ in range(STEPS):
        chance = expit(terms @ slopes)
        pull = terms.T @ (a - chance) - ridge @ slopes
        step = np.linalg.solve((terms.T * (chance * (1 - chance))) @ terms + ridge, pull)
        slopes += step.clip(-LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max() < CONVERGED:
            break
    chance = expit(terms @ slopes)
    weights = np.where(a, 1 - chance, chance)
    return weights / np.where(a, weights[a].sum(), weights[~a].sum())
