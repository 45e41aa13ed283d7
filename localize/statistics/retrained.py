"""Intervals of a cross-validated AUC that allow for the classifier, which would be another one in other paragraphs."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from localize.statistics.bootstrap import Interval


def retrained(
    interval: Interval,
    null: Float[np.ndarray, " labelling"],
    fixed: Float[np.ndarray, " labelling"],
    clusters: float,
    scale: float = 1.0,
) -> Interval:
    """An interval of scores as they are, widened by the variance of what the classifier learns.

    A bootstrap of scores as they are holds the classifier fixed. Where it learns little, what it happens to learn is a large part
    of an AUC's variance: with nothing to tell, such intervals covered .81 to .89. Permuted labels show that part: it is the
    variance of the number when the classifier is trained anew for each labelling, less that with the scores held.

    Args:
        interval: Of the scores as they are.
        null: The number under permuted labels, trained anew for each; nan where there is none.
        fixed: The same labellings' number with the scores held.
        clusters: Effective clusters of the group that has fewer: the interval reaches t standard errors, of one freedom less.
        scale: How much smaller the learned part of a standard error is at the estimate than where nothing is told.

    Returns:
        The same interval with both ends moved away from the estimate; rough where there is no null to judge by, or no width to widen.
    """
    from scipy.special import stdtrit

    known = ~np.isnan(null) & ~np.isnan(fixed)
    width = float(interval.high - interval.low)
    if known.sum() < 2 or not width > 0:
        return replace(interval, rough=np.asarray(True))
    learned = max(float(null[known].var() - fixed[known].var()), 0.0) * scale**2
    error = width / (2 * stdtrit(max(clusters - 1, 1.0), 0.975))
    stretch = np.sqrt(1 + learned / error**2)
    low, high = (interval.estimate + (end - interval.estimate) * stretch for end in (interval.low, interval.high))
    return replace(interval, low=np.asarray(low), high=np.asarray(high))


def retrained_auc(
    interval: Interval, null: Float[np.ndarray, " labelling"], fixed: Float[np.ndarray, " labelling"], clusters: float
) -> Interval:
    """`retrained` for an AUC itself, on the logit scale: its ends stay inside 0 and 1, and reach further towards .5.

    On that scale the learned part of the standard error is taken to be the same everywhere.
    """
    auc = float(interval.estimate)
    if not 0 < auc < 1:
        return replace(interval, rough=np.asarray(True))
    slope = auc * (1 - auc)
    wide = retrained(interval, null, fixed, clusters, 4 * slope)
    middle, reach = np.log(auc / (1 - auc)), float(wide.high - wide.low) / 2 / slope
    low, high = (1 / (1 + np.exp(-(middle + side * reach))) for side in (-1, 1))
    return replace(wide, low=np.asarray(low), high=np.asarray(high))


def fixed_auc(
    scores: Float[np.ndarray, " row"], labels: Bool[np.ndarray, "labelling row"]
) -> Float[np.ndarray, " labelling"]:
    """The AUC of one and the same scores under many labellings; ties count half."""
    from scipy.stats import rankdata

    of_a = labels.sum(1)
    return (labels @ rankdata(scores) - of_a * (of_a + 1) / 2) / (of_a * (labels.shape[1] - of_a))
