"""How large a difference between two groups is, free of its unit; clusters play no part in it."""

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import public
from localize.statistics.clusters import check_paragraphs


@public
def standardized_difference(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
) -> Float[np.ndarray, "*cell"]:
    """Hedges' g: mean(a) - mean(b) in pooled standard deviations, corrected for small samples.

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups.

    Returns:
        Dimensionless; nan where a group has fewer than two measured or nothing varies within the groups.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, or a value is infinite.

    Source:
        Hedges 1981, with the exact correction (gamma functions).
    """
    check_paragraphs(values, np.arange(len(values)), in_a=in_a, in_b=in_b)
    flat = values.reshape(len(values), -1)
    counts, means, squares = zip(*(_moments(flat[mask]) for mask in (in_a, in_b)), strict=True)
    enough = (counts[0] > 1) & (counts[1] > 1)
    freedom = np.where(enough, counts[0] + counts[1] - 2, 2)
    pooled = np.sqrt((squares[0] + squares[1]) / freedom)
    correction = small_sample_correction(freedom)
    size = np.maximum(np.abs(means[0]), np.abs(means[1]))
    defined = enough & (pooled > 1e-12 * size)
    g = np.where(defined, correction * (means[0] - means[1]) / np.where(defined, pooled, 1.0), np.nan)
    return g.reshape(values.shape[1:])


@public
def auc(
    values: Real[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, "paragraph"],
    in_b: Bool[np.ndarray, "paragraph"],
) -> Float[np.ndarray, "*cell"]:
    """Probability that a random paragraph of a has a larger value than a random one of b, ties counted half.

    >>> auc(np.array([3.0, 1.0, 2.0]), np.array([True, False, False]), np.array([False, True, True]))
    array(1.)

    Args:
        values: One number per paragraph and cell; nan is a missing measurement, left out cell by cell.
        in_a: The paragraphs of group a.
        in_b: Those of group b; none may be in both groups.

    Returns:
        In [0, 1], 0.5 if the groups are alike; nan where a group has nothing measured.

    Raises:
        LocalizeError: (a ValueError) If a group is empty, the groups overlap, or a value is infinite.

    Source:
        Mann and Whitney 1947: U / (n_a n_b), by ranks.
    """
    from scipy.stats import rankdata

    check_paragraphs(values, np.arange(len(values)), in_a=in_a, in_b=in_b)
    compared = np.concatenate([values[in_a], values[in_b]]).astype(np.float64)
    measured, a = ~np.isnan(compared), int(in_a.sum())
    # nan sorts last, so the ranks of what was measured are those without it.
    ranks = np.where(measured, rankdata(np.where(measured, compared, np.inf), axis=0), 0.0)
    count_a, count_b = measured[:a].sum(0), measured[a:].sum(0)
    pairs = count_a * count_b
    wins = ranks[:a].sum(0) - count_a * (count_a + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)


@public
def paired_difference(
    values: Real[np.ndarray, "paragraph *cell"],
) -> Float[np.ndarray, "*cell"]:
    """Hedges' g of paired differences: their mean in their own standard deviations, corrected for small samples.

    Args:
        values: One difference per paragraph (or pair) and cell; nan is a missing measurement, left out cell by cell.

    Returns:
        Dimensionless; nan where fewer than three are measured or all differences are equal. It is the size of the mean change
        beside how much changes vary, not beside how much paragraphs do.

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph, or a value is infinite.

    Source:
        Cohen 1988, section 2.3.5 (d_z); the correction of Hedges 1981 with n - 1 degrees of freedom.
    """
    check_paragraphs(values, np.arange(len(values)))
    count, mean, squares = _moments(values.reshape(len(values), -1))
    freedom = np.maximum(count - 1, 2)
    spread = np.sqrt(squares / freedom)
    defined = (count > 2) & (spread > 1e-12 * np.abs(mean))
    g = np.where(defined, small_sample_correction(freedom) * mean / np.where(defined, spread, 1.0), np.nan)
    return g.reshape(values.shape[1:])


@public
def share_rising(values: Real[np.ndarray, "paragraph *cell"]) -> Float[np.ndarray, "*cell"]:
    """Share of paired differences above 0, those of 0 counted half.

    >>> share_rising(np.array([2.0, -1.0, 0.0, 3.0]))
    array(0.625)

    Args:
        values: One difference per paragraph and cell; nan is a missing measurement, left out cell by cell.

    Returns:
        In [0, 1], 0.5 if as many rise as fall; nan where nothing is measured.

    Raises:
        LocalizeError: (a ValueError) If there is no paragraph, or a value is infinite.
    """
    check_paragraphs(values, np.arange(len(values)))
    count = (~np.isnan(values)).sum(0)
    rising = (values > 0).sum(0) + (values == 0).sum(0) / 2
    return np.where(count > 0, rising / np.maximum(count, 1), np.nan)


def small_sample_correction(freedom: Int[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """What an effect size in estimated standard deviations is to be multiplied by, to be right on average; at least 2 degrees."""
    from scipy.special import gammaln

    return np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)


def _moments(
    values: Real[np.ndarray, "paragraph cell"],
) -> tuple[Int[np.ndarray, "cell"], Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """Per cell: how many are measured, their mean, the sum of squared deviations from it."""
    values = values.astype(np.float64)
    measured = ~np.isnan(values)
    count = measured.sum(0)
    mean = np.where(measured, values, 0.0).sum(0) / np.maximum(count, 1)
    return count, mean, (np.where(measured, values - mean, 0.0) ** 2).sum(0)
