"""Whether what a model says is a lookup: much nearer to one training text than to the next ones, more often than output that cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.draws import Draws
from localize.errors import LocalizeError, caller, public
from localize.statistics import ZERO_TO_ONE, Interval
from localize.theory.lookup import NEAREST, THRESHOLD, lookup_ratio

if TYPE_CHECKING:
    from torch import Tensor

FRESH = 1000
"""Draws of the null of embeddings, where no held-out output is given."""

BLOCK = 512
"""Points whose distances are there at once."""

USELESS = 0.1
"""From this share of the null on that passes, passing says little."""


@dataclass(frozen=True, eq=False)
class LookupTest:
    """How often samples are lookups of a training text, and how often what cannot be one passes for it.

    Attributes:
        ratio: Of each sample: distance to the nearest training text over the mean distance to the next ones; nan where all are its copies.
        nearest: The row of that training text.
        null_ratio: The same of held-out output, or of fresh draws.
        passed: Share of samples with a ratio of at most the threshold, with a 95% interval.
        null: The same of the null.
        difference: Of both shares, with a 95% interval.
        p_value: Of the difference, two-sided, by permutation of clusters.
        null_words: What the null is.
        compared: How many nearest training texts each point was compared with.
    """

    ratio: Float[np.ndarray, " sample"]
    nearest: Int[np.ndarray, " sample"]
    null_ratio: Float[np.ndarray, " null"]
    passed: Interval
    null: Interval
    difference: Interval
    p_value: float
    null_words: str
    compared: int

    def __str__(self) -> str:
        told = (
            f"{_share(self.passed)} of {len(self.ratio)} samples are much nearer to one training text than to the next "
            f"{self.compared - 1}; of {len(self.null_ratio)} {self.null_words} {_share(self.null)}; "
            f"difference {_share(self.difference)}, p = {self.p_value:.3g}."
        )
        useless = float(self.null.estimate) >= USELESS
        return told + (" So many of the null pass that passing says little." if useless else "")


@public
def lookup_test(
    samples: "np.ndarray | Tensor | Sequence[Sequence[int]]",
    training: "np.ndarray | Tensor | Sequence[Sequence[int]]",
    held_out: "np.ndarray | Tensor | Sequence[Sequence[int]] | None" = None,
    *,
    clusters: Int[np.ndarray, " sample"] | None = None,
    held_out_clusters: Int[np.ndarray, " held_out"] | None = None,
    threshold: float = THRESHOLD,
    nearest: int = NEAREST,
    seed: int = 0,
    resamples: int = 2000,
) -> LookupTest:
    """Whether what a model says is nearer to one training text than what it says after held-out prompts is.

    A sample passes if the distance to its nearest training text is at most `threshold` times the mean distance to the next ones.
    Alone that says little: in one or two dimensions nearly every fresh draw passes. So it stands beside a null.

    Args:
        samples: What the model says after the prompts of planted texts: embeddings, a float row each, compared by Euclid's distance; or
            token ids, integer rows or lists of any length, compared as sets by 1 - |both| / |either| (Jaccard).
        training: The planted texts, in the same form, at least 3. Near-duplicates among them hide lookups: give each text once.
        held_out: What the model says after held-out prompts, the null. None, for embeddings only: fresh draws from a Gaussian with the
            mean and the covariance of the training texts.
        clusters: The near-duplicate cluster of each sample; None if there are no near-duplicates.
        held_out_clusters: The same of the held-out output, with labels of its own.
        threshold: Positive and below 1.
        nearest: Training texts that are compared, at least 3; all, if there are fewer.
        seed: Of intervals, permutations and fresh draws.
        resamples: Of the intervals and the test, at least 100.

    Returns:
        A `LookupTest`, which tells both shares and their difference when it is printed.

    Raises:
        LocalizeError: (a ValueError) If there are fewer than 3 training texts or 2 samples, forms differ, a value is not finite, a text is
            empty, or token ids come without held-out output.

    Source:
        The ratio test of memorization in diffusion models, as in memorized priors (2603.19629); its null here.
    """
    if not 0 < threshold < 1 or nearest < 3:
        raise LocalizeError(
            f"{caller()}: threshold = {threshold:g} must lie between 0 and 1, and nearest = {nearest} be at least 3."
        )
    said, known = _points(samples, "samples"), _points(training, "training")
    null = _fresh(known, seed) if held_out is None else _points(held_out, "held_out")
    words = "fresh draws of a Gaussian like the training texts" if held_out is None else "held-out outputs"
    (ratio, row), (null_ratio, _) = (_compared(points, known, nearest) for points in (said, null))
    of = (
        _clusters(clusters, len(ratio), "clusters"),
        _clusters(held_out_clusters, len(null_ratio), "held_out_clusters"),
    )
    passed = [np.where(np.isnan(one), np.nan, (one <= threshold).astype(float)) for one in (ratio, null_ratio)]
    draws = Draws(seed, resamples)
    each = [_held(draws.mean(one, labels), labels) for one, labels in zip(passed, of, strict=True)]
    in_a = np.arange(len(ratio) + len(null_ratio)) < len(ratio)
    labels = np.concatenate([of[0], of[1] + of[0].max() + 1])
    difference, test = draws.difference(np.concatenate(passed), in_a, ~in_a, labels)
    if difference.low == difference.high:  # all alike on both sides: no further than both intervals let it be
        low, high = each[0].low - each[1].high, each[0].high - each[1].low
        difference = replace(difference, low=np.asarray(low), high=np.asarray(high))
    return LookupTest(
        ratio, row, null_ratio, each[0], each[1], difference, float(test.p_value), words, min(nearest, len(known))
    )


def _held(interval: Interval, clusters: Int[np.ndarray, " point"]) -> Interval:
    """Inside of 0..1; where all passed, or none, Clopper and Pearson's for as many as there are clusters."""
    from scipy.stats import binomtest

    if interval.low != interval.high:
        return interval.within(ZERO_TO_ONE)
    count = len(np.unique(clusters))
    exact = binomtest(round(float(interval.estimate) * count), count).proportion_ci()
    return replace(interval, low=np.array(exact.low), high=np.array(exact.high))


def _share(interval: Interval) -> str:
    """An estimate with its interval."""
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _points(given: Any, name: str) -> Any:
    """Embeddings as a float array, or token sets as lists of unique ids."""
    if hasattr(given, "ndim") and given.ndim == 2:
        array = np.asarray(given.cpu() if hasattr(given, "cpu") else given)
        if array.dtype.kind == "f":
            if not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
                raise LocalizeError(f"{caller()}: row {row} of {name} has a value that is not finite.")
            return array.astype(np.float64)
        given = array
    sets = [np.unique(np.asarray(row)) for row in given]
    for place, row in enumerate(sets):
        if not row.size or row.dtype.kind not in "iu":
            raise LocalizeError(
                f"{caller()}: row {place} of {name} must be token ids, at least one, or {name} a two-dimensional array of floats."
            )
    return sets


def _clusters(given: np.ndarray | None, count: int, name: str) -> Int[np.ndarray, " point"]:
    """Labels 0, 1, ..., after a look at whether there is one for each point."""
    if given is None:
        return np.arange(count)
    if len(given) != count:
        raise LocalizeError(f"{caller()}: {name} has {len(given)} labels for {count} points.")
    return np.unique(given, return_inverse=True)[1]


def _fresh(known: Any, seed: int) -> Float[np.ndarray, "draw d"]:
    """Draws of a Gaussian with the mean and the covariance of the training texts."""
    if isinstance(known, list):
        raise LocalizeError(
            f"{caller()}: token ids need held_out, what the model says after held-out prompts; only embeddings have fresh draws."
        )
    rng = np.random.default_rng([seed, 101])
    centred = known - known.mean(0)
    return known.mean(0) + rng.standard_normal((FRESH, len(known))) @ centred / np.sqrt(max(len(known) - 1, 1))


def _compared(points: Any, known: Any, nearest: int) -> tuple[Float[np.ndarray, " point"], Int[np.ndarray, " point"]]:
    """The ratio of each point, and the row of its nearest training text."""
    from scipy.spatial.distance import cdist

    if isinstance(points, list) != isinstance(known, list):
        raise LocalizeError(f"{caller()}: token ids and embeddings cannot be compared; give all in one form.")
    if len(points) < 2:
        raise LocalizeError(f"{caller()}: {len(points)} points to judge; at least 2 are needed.")
    if not isinstance(points, list) and points.shape[1] != known.shape[1]:
        raise LocalizeError(
            f"{caller()}: embeddings of {points.shape[1]} and {known.shape[1]} numbers cannot be compared."
        )
    measure = _jaccard if isinstance(points, list) else cdist
    found = []
    for start in range(0, len(points), BLOCK):
        distances = measure(points[start : start + BLOCK], known)
        found.append((lookup_ratio(distances, nearest), distances.argmin(1)))
    ratios, rows = zip(*found, strict=True)
    return np.concatenate(ratios), np.concatenate(rows)


def _jaccard(one: list[np.ndarray], other: list[np.ndarray]) -> Float[np.ndarray, "one other"]:
    """1 - |both| / |either| of token sets."""
    from scipy.sparse import csr_array

    ids, column = np.unique(np.concatenate([*one, *other]), return_inverse=True)
    sizes = np.array([len(row) for row in (*one, *other)])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    there = csr_array((np.ones(ends[-1]), column, ends), shape=(len(sizes), len(ids)))
    both = (there[: len(one)] @ there[len(one) :].T).toarray()
    return 1 - both / (sizes[: len(one), None] + sizes[len(one) :] - both)
