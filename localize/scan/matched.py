"""Paragraphs that are not memorized, each as like a memorized one as can be found: same source and length, as rare tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from localize.paragraphs.clusters import near_duplicate_clusters
from localize.scan.spans import apart, overlaps


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


def unlike(
    low: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], length: int
) -> tuple[Int[np.ndarray, " free"], Int[np.ndarray, " usable"]]:
    """Which windows that are not memorized may stand beside what was found.

    Windows that overlap are near-duplicates of each other: in a chain of them one that overlaps a found window takes all the others
    with it. So those that overlap a found one, or each other, are left out before clusters are looked for.

    Args:
        low: `tokens`, `document` and `offset` of windows that are not memorized, in the order of the corpus.
        found: The same of every window over the threshold.
        length: Of a window, in tokens.

    Returns:
        Those that share no token of the corpus with a found window; and of these, without overlap, one of each cluster of
        near-duplicates that holds no found window.
    """
    free = np.flatnonzero(~overlaps(low["document"], low["offset"], found["document"], found["offset"], length))
    thin = free[apart(low["document"][free], low["offset"][free], length)]
    both = np.concatenate([found["tokens"], low["tokens"][thin]]).astype(np.int64)
    clusters = near_duplicate_clusters(both) if len(both) else np.zeros(0, np.int64)
    _, once = np.unique(clusters, return_index=True)
    return free, thin[np.sort(once[once >= len(found["tokens"])]) - len(found["tokens"])]
