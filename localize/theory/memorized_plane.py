"""What pictures of memorized priors need beyond one unknown number: two of them, and how many modes are left."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.theory.memorized_prior import (
    Observation,
    Operator,
    covariance_of,
    linearised_at,
    linearised_weights,
    memorized_posterior,
    memorized_prior,
)
from localize.theory.mixture import effective_modes

if TYPE_CHECKING:
    import xarray as xr


@public("theory.memorized_plane")
def memorized_plane(
    examples: Float[np.ndarray, "component 2"],
    spreads: Sequence[float],
    observed: Observation,
    *,
    x1: Float[np.ndarray, " x1"],
    x2: Float[np.ndarray, " x2"],
    mass: float = 0.9,
) -> "xr.Dataset":
    """The posterior of two unknown numbers: exact on a grid, and the ellipses of the linearised one.

    Args:
        examples: Training examples.
        spreads: Standard deviations s of the prior.
        observed: y, and how it comes from x.
        x1: Grid of the first unknown; it must reach over all that is likely.
        x2: Of the second.
        mass: Share of a component that lies inside of its ellipse.

    Returns:
        Along `spread`: `posterior` by `x1` and `x2`, a density that sums to 1 over the grid's cells; `ellipse` by `example`, `point` and
        `axis`; `weight` by `example`; `effective_modes`; and the `training` examples by `example` and `axis`.

    Raises:
        LocalizeError: As `theory.memorized_posterior`; and if a grid has fewer than 2 points or does not ascend.
    """
    import xarray as xr

    for name, values in (("x1", x1), ("x2", x2)):
        if len(values) < 2 or not (np.diff(values) > 0).all():
            raise LocalizeError(f"{caller()}: {name} must be at least 2 ascending points.")
    points = np.stack(np.meshgrid(x1, x2, indexing="ij"), -1).reshape(-1, 2)
    cell = np.outer(np.gradient(x1), np.gradient(x2))
    likelihood = observed.likelihood(points)
    densities, mixtures = [], [memorized_posterior(examples, spread, observed) for spread in spreads]
    for spread in spreads:
        density = (memorized_prior(examples, spread).density(points) * likelihood).reshape(cell.shape)
        densities.append(density / (density * cell).sum())
    told: dict = {
        "posterior": (("spread", "x1", "x2"), np.stack(densities)),
        "ellipse": (("spread", "example", "point", "axis"), np.stack([m.ellipses(mass=mass) for m in mixtures])),
        "weight": (("spread", "example"), np.stack([mixture.weights for mixture in mixtures])),
        "effective_modes": ("spread", [mixture.effective_modes for mixture in mixtures]),
        "training": (("example", "axis"), examples),
    }
    return xr.Dataset(told, {"spread": list(spreads), "x1": x1, "x2": x2}, {"mass": mass})


@public("theory.modes_over_spread")
def modes_over_spread(
    counts: Sequence[int],
    spreads: Sequence[float],
    forward: Operator,
    jacobian: Operator,
    *,
    noise: int | float,
    d: int = 2,
    draws: int = 40,
    seed: int = 0,
) -> "xr.Dataset":
    """Effective modes of the posterior of numbers of training examples, drawn from N(0, I), with the unknown drawn from it too.

    Args:
        counts: Numbers of training examples, at least 1 each.
        spreads: Standard deviations s of the prior.
        forward: F, as of an `Observation`.
        jacobian: F'.
        noise: Standard deviation of the noise.
        d: Dimension of the unknown, at least 1.
        draws: Problems drawn, at least 2.
        seed: Of the draws. A problem of more examples has those of fewer among them.

    Returns:
        `effective_modes` along `count` and `spread`, means over problems, with `_low` and `_high`: 95% intervals by Student's t.

    Raises:
        LocalizeError: If a number is too small, or as `theory.memorized_posterior`.
    """
    import xarray as xr
    from scipy.stats import t

    if min(*counts, d) < 1 or draws < 2:
        raise LocalizeError(
            f"{caller()}: counts = {list(counts)}, d = {d}, draws = {draws}; at least 1, 1 and 2 are needed."
        )
    for spread in spreads:
        covariance_of(spread, 1, "spread")
    found = np.empty((draws, len(counts), len(spreads)))
    for draw in range(draws):
        rng = np.random.default_rng([seed, 89, draw])
        clean = forward(rng.standard_normal((1, d)))[0]
        beside = covariance_of(noise, len(clean), "noise")
        y, examples = clean + noise * rng.standard_normal(len(clean)), rng.standard_normal((max(counts), d))
        j, r = linearised_at(examples, y, forward, jacobian)
        for row, count in enumerate(counts):
            weights = linearised_weights(np.array(spreads, dtype=np.float64), j[:count], r[:count], beside)
            found[draw, row] = effective_modes(weights)
    mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(draws)
    half = t.ppf(0.975, draws - 1) * error
    values = {"effective_modes": mean, "effective_modes_low": mean - half, "effective_modes_high": mean + half}
    told = {name: (("count", "spread"), value) for name, value in values.items()}
    return xr.Dataset(told, {"count": list(counts), "spread": list(spreads)}, {"draws": draws, "d": d, "noise": noise})
