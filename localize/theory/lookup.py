"""Whether a point is a lookup: much nearer to one training example than to the next ones."""

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public

THRESHOLD, NEAREST = 0.5, 50
"""A point passes if the distance to its nearest example is at most this share of the mean distance to the next, up to the fiftieth."""


def lookup_ratio(distances: Float[np.ndarray, "point example"], nearest: int = NEAREST) -> Float[np.ndarray, " point"]:
    """Distance to the nearest example over the mean distance to the second to `nearest`-th, or to all others if there are fewer.

    0 for a copy of one example, 1 for a point that is as far from all of them; nan where all of these are copies of the point.
    """
    count = min(nearest, distances.shape[1])
    if count < 3:
        raise LocalizeError(f"{caller()}: {count} training examples to compare; at least 3 are needed.")
    near = np.sort(distances, 1)[:, :count]
    others = near[:, 1:].mean(1)
    return np.divide(near[:, 0], others, out=np.full(len(near), np.nan), where=others > 0)


@public("theory.lookup_null")
def lookup_null(
    d: int, *, training: int = 1000, draws: int = 1000, threshold: float = THRESHOLD, nearest: int = NEAREST, seed: int = 0
) -> float:  # fmt: skip
    """Share of fresh draws of N(0, I) that pass for lookups among training examples of the same law: nothing was memorized.

    >>> lookup_null(1), lookup_null(20)
    (1.0, 0.0)

    Args:
        d: Dimension, at least 1. In one or two nearly every fresh draw passes, in twenty hardly any.
        training: Examples, at least 3.
        draws: Fresh draws, at least 1.
        threshold: The ratio up to which a draw passes.
        nearest: Nearest examples that are compared.
        seed: Of both.

    Raises:
        LocalizeError: If a number is too small.

    Source:
        The test is that of works on memorization in diffusion models, as in memorized priors (2603.19629).
    """
    from scipy.spatial.distance import cdist

    if d < 1 or draws < 1:
        raise LocalizeError(f"{caller()}: d = {d} and draws = {draws} must each be at least 1.")
    rng = np.random.default_rng([seed, 97])
    examples, fresh = rng.standard_normal((training, d)), rng.standard_normal((draws, d))
    return float((lookup_ratio(cdist(fresh, examples), nearest) <= threshold).mean())
