"""How well scores of units rank those that a text is known to be kept in."""

import numpy as np
from jaxtyping import Bool, Float


def recall_at_truth(
    scores: Float[np.ndarray, "*unit"], truth: Bool[np.ndarray, "*unit"], candidates: Bool[np.ndarray, "*unit"]
) -> float:
    """Recall at |truth|: the share of the true units among as many of the highest scores.

    Units that tie with the last place share it: each counts by its chance of being drawn.

    Args:
        scores: Of all units.
        truth: The true ones, some of the candidates.
        candidates: Those that are ranked.

    Returns:
        From 0 to 1; nan where nothing is true.
    """
    count = int(truth.sum())
    if not count:
        return float("nan")
    return float((chosen(scores, candidates, count) * truth).sum() / count)


def chosen(
    scores: Float[np.ndarray, "*unit"], candidates: Bool[np.ndarray, "*unit"], count: int
) -> Float[np.ndarray, "*unit"]:
    """Of each unit the probability that it is among the `count` highest scores of the candidates, ties drawn at random."""
    ranked = np.sort(scores[candidates])[::-1]
    last = ranked[min(count, len(ranked)) - 1]
    above, level = candidates & (scores > last), candidates & (scores == last)
    room = (min(count, len(ranked)) - above.sum()) / level.sum()
    return above + room * level


def chance_of(truth: Bool[np.ndarray, "*unit"], candidates: Bool[np.ndarray, "*unit"]) -> float:
    """The recall of random scores: the share of the candidates that is true; nan where nothing is."""
    return float(truth.sum() / candidates.sum()) if truth.any() else float("nan")


def named_right(of_layer: Float[np.ndarray, " layer"], layer: int) -> float:
    """Whether the layer with the most is the right one: 1, 0, or a share of 1 where several have as much."""
    best = of_layer == of_layer.max()
    return float(best[layer] / best.sum())
