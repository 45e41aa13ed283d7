"""Paragraphs that are not memorized, each as like a memorized one as can be found: same source and length, as rare tokens."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def rarity(
    tokens: Int[np.ndarray, "window position"], counts: Int[np.ndarray, " vocab"]
) -> Float[np.ndarray, " window"]:
    """Mean over a window's tokens of the logarithm of how often each stands in the corpus (+ 1), in nats."""
    return np.log1p(counts.astype(np.float64))[tokens].mean(1)


def matches(
    rare: Float[np.ndarray, " window"],
    source: Sequence[str],
    candidate_rare: Float[np.ndarray, " candidate"],
    candidate_source: Sequence[str],
) -> Int[np.ndarray, " window"]:
    """For each window another candidate of its source, so that their rarity differs least in all.

    Args:
        rare: `rarity` of the windows.
        source: Where each is from.
        candidate_rare: Likewise of the candidates.
        candidate_source: Likewise.

    Returns:
        The candidate's number, -1 where its source has none left.
    """
    from scipy.optimize import linear_sum_assignment

    found = np.full(len(rare), -1)
    sources, theirs = np.array(source), np.array(candidate_source)
    for name in dict.fromkeys(source):
        ours, others = np.flatnonzero(sources == name), np.flatnonzero(theirs == name)
        apart = np.abs(rare[ours][:, None] - candidate_rare[others])
        row, column = linear_sum_assignment(apart)
        found[ours[row]] = others[column]
    return found
