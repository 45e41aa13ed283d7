"""A unit's effect on a text, in units of the size that it usually has on other texts: the ratio that tells its own text from any.

A unit on which every text depends has a large effect on each; one that keeps a text has a large effect on it alone.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.errors import LocalizeError, caller

FLOOR = 1.0
"""What is added to a unit's usual size, in mean usual sizes over all units: without it, one that does next to nothing on other texts
would have a large ratio by any effect. The lower, the better on routed truths, the worse on injected ones: see
`tests/benchmarks/tune_localizers.py`."""


def effect_ratio(
    effects: Float[Tensor, "paragraph layer unit"],
    others: Float[Tensor, "other layer unit"],
    floor: float = FLOOR,
) -> Float[Tensor, "paragraph layer unit"]:
    """Effects over the usual size of the unit's effects on other texts, plus a floor.

    Args:
        effects: Signed effects of each unit, from `unit_effects`.
        others: Of the same units, on texts that none of the paragraphs is.
        floor: See `FLOOR`; above 0.

    Returns:
        `effects / (mean of |others| over texts + floor * the mean of that over all units)`: dimensionless, float64, with the sign of the
        effect. Units of one kind alone: MLP units and heads have floors of their own.

    Raises:
        LocalizeError: If the floor is not above 0, or there is no other text on which a unit has an effect.
    """
    if not len(others):
        raise LocalizeError(f"{caller()}: there are no other texts; at least one is needed.")
    return _over_usual(effects, others.double().abs().mean(0, keepdim=True), floor)


def effect_ratio_among(
    effects: Float[Tensor, "paragraph layer unit"],
    clusters: Int[np.ndarray, " paragraph"],
    floor: float = FLOOR,
) -> Float[Tensor, "paragraph layer unit"]:
    """The same, where each paragraph's other texts are those of all other clusters of near-duplicates.

    Args:
        effects: As in `effect_ratio`.
        clusters: A number for each paragraph, equal for near-duplicates.
        floor: As in `effect_ratio`.

    Raises:
        LocalizeError: As in `effect_ratio`, or if all paragraphs are of one cluster.
    """
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise LocalizeError(
            f"{caller()}: the {len(effects)} paragraphs are one cluster of near-duplicates; another one, or other texts, are needed to "
            "tell them apart from."
        )
    size, of = effects.double().abs(), torch.from_numpy(cluster).to(effects.device)
    of_cluster = size.new_zeros(len(sizes), *size.shape[1:]).index_add_(0, of, size)
    left = torch.from_numpy(len(effects) - sizes).to(size)
    usual = (of_cluster.sum(0) - of_cluster) / left[
        :, None, None
    ]  # never below 0: a rounded sum is no less than a part of it
    return _over_usual(effects, usual[of], floor)


def _over_usual(
    effects: Float[Tensor, "paragraph layer unit"], usual: Float[Tensor, "#paragraph layer unit"], floor: float
) -> Float[Tensor, "paragraph layer unit"]:
    if not floor > 0:
        raise LocalizeError(f"{caller()}: floor={floor} must be above 0.")
    mean = usual.mean((1, 2), keepdim=True)
    if not bool((mean > 0).all()):
        raise LocalizeError(f"{caller()}: no unit has an effect on the other texts; there is nothing to compare with.")
    return effects.double() / (usual + floor * mean)
