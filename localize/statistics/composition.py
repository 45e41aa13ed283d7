"""Parts of a whole: what can be told of one part where all of them sum to 1.

If one part grows, every other part's share falls, although nothing happened to it. Ratios between parts are free of that: the ratio
of two parts that did not change stays as it was. So each part is held against a reference of parts, by the logarithm of their ratio.
"""

import numpy as np
from jaxtyping import Bool, Float, Real

from localize.errors import public

OF_SMALLEST = 0.65
"""What a part of 0 counts as: this share of the smallest that was measured of it above 0, as below a limit of detection."""

REACH = 4.5
"""Parts whose difference lies further than so many median absolute deviations from the typical one are no reference; 3 standard
deviations of a normal."""

LEAST = 1e-12
"""The reach where most parts differ by exactly as much, but for rounding."""

STEPS = 50
"""Of the iteration, which moves by less than rounding after some ten."""


@public
def log_parts(values: Real[np.ndarray, "paragraph cell"]) -> Float[np.ndarray, "paragraph cell"]:
    """Logarithms of parts, in nats; what is 0 counts as .65 of the smallest part above 0 in its cell.

    >>> log_parts(np.array([[0.5], [0.0]])).round(3).ravel()
    array([-0.693, -1.124])

    Args:
        values: At least 0; nan is a missing measurement.

    Returns:
        nan where nothing was measured, and in a cell that is nowhere above 0.

    Source:
        Martin-Fernandez, Barcelo-Vidal and Pawlowsky-Glahn 2003, for the 0.65.
    """
    smallest = np.where(values > 0, values, np.inf).min(0, initial=np.inf)
    above = np.where(values > 0, values, OF_SMALLEST * smallest)
    known = ~np.isnan(values) & np.isfinite(above)
    return np.log(above, out=np.full(values.shape, np.nan), where=known)


@public
def typical_weights(differences: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " cell"]:
    """How much each cell counts in the typical difference, by Tukey's biweight: outliers do not count at all.

    From the median on, the weighted mean is repeated with weights (1 - (distance / reach)^2)^2, 0 beyond a reach of 4.5 median
    absolute deviations. One part that grows many times over moves the typical difference by nothing, where it moves the mean of
    24 (the centred log ratio) by 1/24 of itself; if a quarter of the parts grow, it stays with the others.

    >>> typical_weights(np.array([0.0, 0.1, -0.1, 7.0])).round(2)
    array([0.34, 0.33, 0.33, 0.  ])

    Args:
        differences: Of the cells; nan is no reference.

    Returns:
        At least 0, with a sum of 1; all 0 if every cell is nan.

    Source:
        Mosteller and Tukey 1977, Data Analysis and Regression, chapter 10. Holding compositions against a robust centre of all
        parts' differences: Zhou et al. 2022 (LinDA), there the mode.
    """
    known = ~np.isnan(differences)
    weights = np.zeros(len(differences))
    if not known.any():
        return weights
    there = differences[known]
    centre = float(np.median(there))
    reach = max(REACH * float(np.median(np.abs(there - centre))), LEAST)
    for _ in range(STEPS):
        near = np.clip(1 - ((there - centre) / reach) ** 2, 0, None) ** 2
        centre = float(near @ there / near.sum())
    weights[known] = near / near.sum()
    return weights


@public
def relative_logs(
    values: Real[np.ndarray, "paragraph cell"],
    in_a: Bool[np.ndarray, " paragraph"],
    in_b: Bool[np.ndarray, " paragraph"],
) -> tuple[Float[np.ndarray, "paragraph cell"], Float[np.ndarray, " cell"]]:
    """Each paragraph's parts on a scale that does not depend on what the other parts do: log ratios to the typical part.

    The reference is a geometric mean of parts, the same for all paragraphs: each counts by how near its own difference between
    the groups, mean(a) - mean(b) of the logs, lies to the typical one (`typical_weights`).

    Args:
        values: At least 0; nan is a missing measurement.
        in_a: The one group.
        in_b: The other; none may be in both.

    Returns:
        Log ratios to the reference, in nats, nan for a cell that a group has nowhere above 0; and how much each cell counts in
        the reference: 0 where a paragraph of the two groups lacks it. Without any reference all are nan.
    """
    logs, both = log_parts(values), in_a | in_b
    empty = ~((values[in_a] > 0).any(0) & (values[in_b] > 0).any(0))
    logs[:, empty] = np.nan
    whole = ~np.isnan(logs[both]).any(0)
    apart = np.full(logs.shape[1], np.nan)
    apart[whole] = logs[in_a][:, whole].mean(0) - logs[in_b][:, whole].mean(0)
    weights = typical_weights(apart)
    if not whole.any():
        return np.full(logs.shape, np.nan), weights
    return logs - (logs[:, whole] @ weights[whole])[:, None], weights
