"""Mixtures of Gaussians: what a memorized prior and its linearised posterior are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public

POINTS = 60
"""Of the outline of an ellipse."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians, a component for each training example.

    Attributes:
        weights: Of the components; they sum to 1.
        means: In the units of the examples.
        covariances: Symmetric and positive definite.
    """

    weights: Float[np.ndarray, " component"]
    means: Float[np.ndarray, "component d"]
    covariances: Float[np.ndarray, "component d d"]

    @property
    def effective_modes(self) -> float:
        """exp(entropy) of the weights: 1 where one component has all, and their number where they are alike."""
        return float(effective_modes(self.weights))

    def density(self, x: Float[np.ndarray, "point d"]) -> Float[np.ndarray, " point"]:
        """Probability density."""
        return np.exp(self._logs(x)).sum(1)

    def score(self, x: Float[np.ndarray, "point d"]) -> Float[np.ndarray, "point d"]:
        """Gradient of the log density: each component pulls towards its mean, by how likely it has made the point."""
        from scipy.special import softmax

        likely = softmax(self._logs(x), axis=1)  # (point, component)
        pulls = np.linalg.solve(self.covariances, np.moveaxis(self.means - x[:, None], 0, 2))  # (component, d, point)
        return np.einsum("pc,cdp->pd", likely, pulls)

    def _logs(self, x: Float[np.ndarray, "point d"]) -> Float[np.ndarray, "point component"]:
        """Log of each component's part of the density."""
        away = np.moveaxis(x[:, None] - self.means, 0, 2)  # (component, d, point)
        squared = (away * np.linalg.solve(self.covariances, away)).sum(1).T
        logs = np.linalg.slogdet(2 * np.pi * self.covariances)[1]
        with np.errstate(divide="ignore"):  # a component without weight
            return np.log(self.weights) - (squared + logs) / 2

    def ellipses(self, *, mass: float = 0.9) -> Float[np.ndarray, "component point 2"]:
        """For two dimensions: the closed curve of each component that holds this share of it."""
        from scipy.stats import chi2

        if self.means.shape[1] != 2:
            raise LocalizeError(
                f"{caller()}: an ellipse of {self.means.shape[1]} dimensions; there are ellipses of two only."
            )
        angle = np.linspace(0, 2 * np.pi, POINTS)
        circle = np.sqrt(chi2.ppf(mass, 2)) * np.stack([np.cos(angle), np.sin(angle)])
        return self.means[:, None] + np.swapaxes(np.linalg.cholesky(self.covariances) @ circle, 1, 2)


def effective_modes(weights: Float[np.ndarray, "*cell component"]) -> Float[np.ndarray, "*cell"]:
    """exp(entropy) of weights that sum to 1 over components."""
    from scipy.special import entr

    return np.asarray(np.exp(entr(weights).sum(-1)))


@public("theory.sample_posterior")
def sample_posterior(posterior: Mixture, draws: int, *, seed: int = 0) -> Float[np.ndarray, "draw d"]:
    """Independent draws from a mixture: a component by its weight, then a point of it.

    Args:
        posterior: Of `theory.memorized_posterior`, or any other mixture.
        draws: How many, at least 1.
        seed: Of the draws.

    Raises:
        LocalizeError: If no draw is asked for.
    """
    if draws < 1:
        raise LocalizeError(f"{caller()}: draws = {draws} must be at least 1.")
    rng = np.random.default_rng([seed, 83])
    of = rng.choice(len(posterior.weights), draws, p=posterior.weights)
    away = rng.standard_normal((draws, posterior.means.shape[1], 1))
    return posterior.means[of] + (np.linalg.cholesky(posterior.covariances)[of] @ away)[..., 0]
