"""Intervals and tests over trainings that differ in their seed: each gives one number, and they are independent."""

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.statistics.bootstrap import Interval
from localize.statistics.roughness import FEWEST


@public
def seed_interval(values: Float[np.ndarray, "seed *cell"], *, level: float = 0.95) -> Interval:
    """The mean over seeds, with the interval of Student's t.

    Args:
        values: One number per seed and cell; nan is a missing one, left out cell by cell.
        level: Share of intervals that should hold the mean of all seeds, between 0 and 1.

    Returns:
        The ends are nan where fewer than two seeds have a value. It is rough where fewer than 5 have, or all have the same.

    Raises:
        LocalizeError: (a ValueError) If `level` is out of range.

    Source:
        Student 1908.
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise LocalizeError(f"{caller()}: level={level} must lie between 0 and 1.")
    count, mean, error = _moments(values)
    reach = np.where(count > 1, stdtrit(np.maximum(count - 1, 1), (1 + level) / 2) * error, np.nan)
    rough = (count < FEWEST) | ~(error > 0)
    return Interval(mean, np.asarray(mean - reach), np.asarray(mean + reach), rough=np.asarray(rough))


@public
def seed_test(differences: Float[np.ndarray, "seed *cell"]) -> Float[np.ndarray, "*cell"]:
    """Two-sided p-value of a mean of 0 over seeds, by Student's t; of differences, of a paired t-test.

    Args:
        differences: One number per seed and cell; nan is left out.

    Returns:
        nan where fewer than two seeds have a value, or all have the same, so that they do not show how much they vary.

    Source:
        Student 1908.
    """
    from scipy.special import stdtr

    count, mean, error = _moments(differences)
    told = (count > 1) & (error > 0)
    t = np.abs(mean) / np.where(told, error, 1.0)
    return np.where(told, 2 * stdtr(np.maximum(count - 1, 1), -t), np.nan)


def _moments(
    values: Float[np.ndarray, "seed *cell"],
) -> tuple[np.ndarray, Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Per cell: how many seeds have a value, their mean, and its standard error; that is 0 where it is rounding only."""
    there = ~np.isnan(values)
    count = np.asarray(there.sum(0))
    mean = np.asarray(np.where(there, values, 0.0).sum(0) / np.maximum(count, 1))
    squares = (np.where(there, values - mean, 0.0) ** 2).sum(0)
    error = np.asarray(np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1)))
    error = np.where(error > 1e-12 * np.abs(mean), error, 0.0)
    return count, np.where(count > 0, mean, np.nan), error
