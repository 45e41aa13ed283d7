"""Inverse problems under a prior that has memorized its training examples: a generative model that overfits.

The prior is a Gaussian of standard deviation s around each example. What is observed is y = F(x) + noise. As s goes to 0 the posterior
becomes a lookup: a choice among the training examples, whatever else would explain y.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.theory.mixture import Mixture, effective_modes

if TYPE_CHECKING:
    import xarray as xr

Operator = Callable[[Float[np.ndarray, "point d"]], np.ndarray]

KINDS = ("exact", "linearised", "without_determinant")
"""Of posteriors of one unknown number."""

SINGULAR = 1e12
"""From this condition number on a covariance has no inverse to speak of."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What was observed of an unknown x, and how it comes from x.

    Attributes:
        y: F(x) + noise.
        forward: F, of points (point, d), row by row: (point, m).
        jacobian: F', of points, row by row: (point, m, d).
        noise: Standard deviation of the noise, positive; or its covariance.
    """

    y: Float[np.ndarray, " m"]
    forward: Operator
    jacobian: Operator
    noise: int | float | Float[np.ndarray, "m m"]

    def covariance(self) -> Float[np.ndarray, "m m"]:
        """Of the noise."""
        if isinstance(self.noise, int | float):
            return covariance_of(self.noise, len(self.y), "noise")
        return _regular(np.asarray(self.noise), "noise")

    def likelihood(self, x: Float[np.ndarray, "point d"]) -> Float[np.ndarray, " point"]:
        """Density of y given each point."""
        noise = Mixture(np.ones(1), self.y[None], self.covariance()[None])
        return noise.density(self.forward(x))


def covariance_of(deviation: int | float, d: int, name: str) -> Float[np.ndarray, "d d"]:
    """The same standard deviation in each direction."""
    if not 0 < deviation < np.inf:
        raise LocalizeError(f"{caller()}: {name} = {deviation:g} must be positive: a standard deviation.")
    return deviation**2 * np.eye(d)


def _regular(covariance: Float[np.ndarray, "m m"], name: str) -> Float[np.ndarray, "m m"]:
    values = np.linalg.eigvalsh(covariance)
    if not (np.allclose(covariance, covariance.T) and values[0] > 0 and values[-1] < SINGULAR * values[0]):
        raise LocalizeError(
            f"{caller()}: the covariance {name} has eigenvalues {values[0]:.3g} to {values[-1]:.3g}; it must be symmetric and not singular."
        )
    return covariance


@public("theory.memorized_prior")
def memorized_prior(examples: Float[np.ndarray, "component d"], spread: int | float) -> Mixture:
    """The prior of a model that has memorized its training examples: a Gaussian around each.

    Args:
        examples: What it was trained on.
        spread: Standard deviation s, positive.

    Raises:
        LocalizeError: If there is no example or one is not finite, or the spread is not positive.

    Source:
        Memorized priors (2603.19629).
    """
    count, d = examples.shape
    if not count or not np.isfinite(examples).all():
        raise LocalizeError(f"{caller()}: {count} training examples; at least one is needed, and all must be finite.")
    covariance = covariance_of(spread, d, "spread")
    return Mixture(np.full(count, 1 / count), examples, np.tile(covariance, (count, 1, 1)))


@public("theory.memorized_posterior")
def memorized_posterior(
    examples: Float[np.ndarray, "component d"], spread: int | float, observed: Observation, *, determinant: bool = True
) -> Mixture:
    """The posterior under a memorized prior, with F linearised at each example: exact for a linear F, and for any as s goes to 0.

    Args:
        examples: What the prior was trained on.
        spread: Standard deviation s of the prior around each.
        observed: y, and how it comes from x.
        determinant: Whether weights have the factor det(C)^-1/2, which is the same in all components of a linear F alone. Without it they
            are those of the authors' code, for comparison.

    Raises:
        LocalizeError: If a standard deviation is not positive, a covariance singular, or F or F' of another shape.

    Source:
        Memorized priors (2603.19629): with J = F'(x_n) and r = y - F(x_n), component n has covariance
        (1 / s^2 + J' noise^-1 J)^-1 and mean x_n + covariance J' noise^-1 r.
    """
    prior, noise = memorized_prior(examples, spread), observed.covariance()
    j, r = linearised_at(examples, observed.y, observed.forward, observed.jacobian)
    weights = linearised_weights(np.array([spread]), j, r, noise, determinant=determinant)[0]
    back = np.swapaxes(np.linalg.solve(noise, j), 1, 2)  # J' noise^-1
    covariances = np.linalg.inv(np.linalg.inv(prior.covariances) + back @ j)
    means = examples + (covariances @ back @ r[..., None])[..., 0]
    return Mixture(weights, means, (covariances + np.swapaxes(covariances, 1, 2)) / 2)


def linearised_at(
    examples: Float[np.ndarray, "component d"], y: Float[np.ndarray, " m"], forward: Operator, jacobian: Operator
) -> tuple[Float[np.ndarray, "component m d"], Float[np.ndarray, "component m"]]:
    """F' at each example, and what F leaves of y there."""
    told, j = forward(examples), jacobian(examples)
    shape, whole = (len(examples), len(y)), (len(examples), len(y), examples.shape[1])
    if told.shape != shape or j.shape != whole:
        raise LocalizeError(
            f"{caller()}: forward and jacobian give shapes {told.shape} and {j.shape}; {shape} and {whole} are needed."
        )
    return j, y - told


def linearised_weights(
    spreads: Float[np.ndarray, " spread"],
    j: Float[np.ndarray, "component m d"],
    r: Float[np.ndarray, "component m"],
    noise: Float[np.ndarray, "m m"],
    *,
    determinant: bool = True,
) -> Float[np.ndarray, "spread component"]:
    """Weights of the linearised posterior's components: det(C)^-1/2 exp(-r' C^-1 r / 2) with C = s^2 J J' + noise, scaled to sum to 1."""
    from scipy.special import softmax

    c = spreads[:, None, None, None] ** 2 * (j @ np.swapaxes(j, 1, 2)) + noise  # (spread, component, m, m)
    solved = np.linalg.solve(c, np.broadcast_to(r[..., None], (*c.shape[:-1], 1)))[..., 0]
    logs = -(r * solved).sum(-1) / 2
    return softmax(logs - np.linalg.slogdet(c)[1] / 2 if determinant else logs, axis=1)


@public("theory.memorized_curves")
def memorized_curves(
    examples: Sequence[float] | np.ndarray,
    spreads: Sequence[float],
    observed: Observation,
    *,
    x: Float[np.ndarray, " x"],
) -> "xr.Dataset":
    """Prior, likelihood and posterior of one unknown number, exact by quadrature and linearised.

    Args:
        examples: Training examples, numbers, at least two different ones.
        spreads: Standard deviations s of the prior.
        observed: y, and how it comes from x.
        x: Where the densities are told, ascending, at least 3 points; it must reach over all that is likely, and be fine beside the
            smallest spread.

    Returns:
        Along `spread` and `x`: `prior`, `likelihood` (scaled to an integral of 1) and, by `kind`, `posterior`: "exact", by quadrature,
        "linearised", or linearised "without_determinant". By `kind` too: `weight` of each `example`; `effective_modes`, exp(entropy) of
        the weights; `weight_distance` and `posterior_distance`, total variations from the exact, 0 to 1. `null` along `x` is the posterior
        if nothing is memorized: under one Gaussian with the mean and the variance of the examples.

    Raises:
        LocalizeError: As `theory.memorized_posterior`; and if `x` does not ascend, or examples are all the same.
    """
    import xarray as xr

    if len(x) < 3 or not (np.diff(x) > 0).all():
        raise LocalizeError(f"{caller()}: x must be at least 3 ascending points.")
    known = np.asarray(examples, dtype=np.float64)
    if known.ndim != 1 or np.ptp(known) == 0:
        raise LocalizeError(f"{caller()}: examples must be a list of numbers that are not all the same.")
    likelihood = observed.likelihood(x[:, None])
    rows = [_of_spread(known, spread, observed, likelihood, x) for spread in spreads]
    dims = {
        "prior": ("spread", "x"), "posterior": ("spread", "kind", "x"), "weight": ("spread", "kind", "example"),
        "effective_modes": ("spread", "kind"), "weight_distance": ("spread", "kind"), "posterior_distance": ("spread", "kind"),
    }  # fmt: skip
    told: dict = {name: (along, np.stack([row[name] for row in rows])) for name, along in dims.items()}
    told["likelihood"] = ("x", likelihood / _integral(likelihood, x))
    whole = memorized_prior(np.array([[known.mean()]]), float(known.std())).density(x[:, None]) * likelihood
    told["null"] = ("x", whole / _integral(whole, x))
    axes = {"spread": list(spreads), "kind": list(KINDS), "x": x, "example": known}
    return xr.Dataset(told, axes, {"y": float(observed.y[0])})


def _of_spread(
    known: Float[np.ndarray, " example"],
    spread: float,
    observed: Observation,
    likelihood: Float[np.ndarray, " x"],
    x: Float[np.ndarray, " x"],
) -> dict[str, np.ndarray]:
    """Densities and weights of one spread, exact and linearised."""
    column, at = known[:, None], x[:, None]
    each = [
        memorized_prior(one[None], spread).density(at) * likelihood for one in column
    ]  # of each example, times its evidence
    evidence = np.array([_integral(part, x) for part in each])
    mixtures = [memorized_posterior(column, spread, observed, determinant=with_it) for with_it in (True, False)]
    weights = np.stack([evidence / evidence.sum(), *(mixture.weights for mixture in mixtures)])
    posterior = np.stack([np.sum(each, 0) / evidence.sum(), *(mixture.density(at) for mixture in mixtures)])
    return {
        "prior": memorized_prior(column, spread).density(at),
        "posterior": posterior,
        "weight": weights,
        "effective_modes": effective_modes(weights),
        "weight_distance": np.abs(weights - weights[0]).sum(1) / 2,
        "posterior_distance": np.array([_integral(np.abs(one - posterior[0]), x) / 2 for one in posterior]),
    }


def _integral(values: Float[np.ndarray, " x"], x: Float[np.ndarray, " x"]) -> float:
    from scipy.integrate import simpson

    return float(simpson(values, x=x))
