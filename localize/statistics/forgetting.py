"""How what was trained on fades once it is shown no more: down to a floor, ever more slowly."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FEWEST_POINTS = 4
"""Of a curve with three unknowns, at least."""

BEYOND = 10.0
"""A time constant of more than so many times the span measured: the curve is a straight line there, and shows no floor."""

LEAST_TAU, NO_DROP = 1e-4, 1e-6
"""Of the span measured, and of the largest gap: a time constant is at least so long, and told only of a larger drop."""


@dataclass(frozen=True)
class Forgetting:
    """gap(t) = floor + drop exp(-t / tau), t steps after the last exposure; nan what the points do not tell.

    Attributes:
        floor: What is never forgotten, in the unit of the gap.
        drop: What is forgotten in the end, at least 0.
        tau: Steps after which 1/e of that is left; nan where there is no drop.
    """

    floor: float = np.nan
    drop: float = np.nan
    tau: float = np.nan

    @property
    def fitted(self) -> bool:
        """Whether there is a curve."""
        return not np.isnan(self.floor)

    def at(self, since: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
        """The gap so many steps after the last exposure."""
        fading = np.zeros(len(since)) if np.isnan(self.tau) else self.drop * np.exp(-since / self.tau)
        return self.floor + fading


def fitted_forgetting(since: Float[np.ndarray, " point"], gap: Float[np.ndarray, " point"]) -> Forgetting:
    """The curve nearest to some points, by least squares; nan if it is not found, shows no floor, or there are too few points.

    Args:
        since: Steps after the last exposure, at least 0.
        gap: What is left there; nan is left out.

    Source:
        Exponential decay to a floor: Tirumala et al. 2022 (arXiv 2205.10770).
    """
    from scipy.optimize import curve_fit

    there = ~np.isnan(gap)
    since, gap = since[there], gap[there]
    if len(gap) < FEWEST_POINTS:
        return Forgetting()
    span, size = float(since.max()) or 1.0, float(np.abs(gap).max()) or 1.0
    start = (gap[-1] / size, max((gap[0] - gap[-1]) / size, 0.01), 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of errors of the parameters, which are not used
        try:
            (floor, drop, tau), *_ = curve_fit(
                _curve, since / span, gap / size, p0=start, jac=_slopes,
                bounds=((-np.inf, 0.0, LEAST_TAU), (np.inf, np.inf, np.inf)),
            )  # fmt: skip
        except RuntimeError:  # not converged
            return Forgetting()
    if drop <= NO_DROP:
        return Forgetting(float(floor) * size, 0.0)
    if tau > BEYOND:
        return Forgetting()
    return Forgetting(float(floor) * size, float(drop) * size, float(tau) * span)


def _curve(t: np.ndarray, floor: float, drop: float, tau: float) -> np.ndarray:
    return floor + drop * np.exp(-t / tau)


def _slopes(t: np.ndarray, floor: float, drop: float, tau: float) -> np.ndarray:
    fading = np.exp(-t / tau)
    return np.stack([np.ones_like(t), fading, drop * fading * t / tau**2], axis=1)
