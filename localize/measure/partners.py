"""For each paragraph others to hold it against, that are no near-duplicates of it: what the nulls of mismatched pairs take."""

import numpy as np
from jaxtyping import Int

from localize.errors import InputError, caller
from localize.keyed import keyed_integer
from localize.paragraphs.paragraphs import Paragraphs


def check_clusters(paragraphs: Paragraphs, null_of: str | None = None) -> None:
    """Raise an `InputError` unless there are two clusters, so that a paragraph can be held against one from another.

    Args:
        paragraphs: The paragraphs.
        null_of: The measurement whose null that is, where it is not called yet; None for the one that was called.
    """
    if len(np.unique(paragraphs.clusters)) < 2:
        raise InputError(
            f"{paragraphs.source}: {len(paragraphs)} paragraph(s) in one cluster of near-duplicates; "
            f"the null of {null_of or caller()} needs at least two clusters."
        )


def mismatched(paragraphs: Paragraphs, draws: int, seed: int) -> Int[np.ndarray, "paragraph draw"]:
    """For each paragraph some others, drawn evenly from the paragraphs of other clusters, keyed by seed, paragraph and draw.

    Raises:
        InputError: If all paragraphs are in one cluster.
    """
    check_clusters(paragraphs)
    clusters = paragraphs.clusters
    by_hash = np.array(sorted(range(len(paragraphs)), key=paragraphs.hashes.__getitem__))  # whatever order they come in
    others = {cluster: by_hash[clusters[by_hash] != cluster] for cluster in np.unique(clusters)}
    return np.array(
        [
            [others[cluster][keyed_integer(len(others[cluster]), "mismatch", seed, key, draw)] for draw in range(draws)]
            for cluster, key in zip(clusters, paragraphs.hashes, strict=True)
        ]
    )
