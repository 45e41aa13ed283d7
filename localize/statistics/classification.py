"""How well features tell two groups apart in clusters that were not trained on, for many labellings at once.

The classifier is a linear one with a penalty (ridge regression on labels of -1 and 1) because what it says of rows left out follows in
closed form from one inverse of all rows: hundreds of permuted labellings, and all pairs of folds, cost little more than one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.errors import LocalizeError, caller, public
from localize.statistics.bootstrap import Interval, check_draws, reaches
from localize.statistics.groups import ClusterParts, parts_of_rows
from localize.statistics.roughness import too_few, too_skewed
from localize.statistics.studentized import ClusterEffects

FOLDS = 10
REPEATS = 6
FEWEST_FOLDS = 3
"""Two are held out together, and one at least must be left to train on and to judge penalties by."""

PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Beside the sum of squares of features that are scaled to a mean square of 1 and divided by the root of their number."""

LIGHT = 1.0
"""Of what a part is added to: some hundred rows of two features hardly feel it."""

INTERCEPT = 100.0
"""Variance of the constant, so large that it is not pulled to 0."""

DIGITS = 9
"""Scores that agree in so many decimals are ties."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a classifier says of pairs of an a and a b that it was not trained on.

    Attributes:
        wins: Of the first labelling, for each pair: in how many repeats the a scores higher; ties count half.
        pairs: In how many repeats the two are in different folds, and so compared.
        auc: Of every labelling: the share of the pairs compared in which the a scores higher.
        by_repeat: Of the first labelling, the same in each repeat alone.
        ahead: Of the first labelling, for each row: of the rows that it is compared with, how many score lower.
    """

    wins: Float[np.ndarray, "a b"]
    pairs: Float[np.ndarray, "a b"]
    auc: Float[np.ndarray, " labelling"]
    by_repeat: Float[np.ndarray, " repeat"]
    ahead: Float[np.ndarray, " row"]


@public
def cluster_folds(
    in_a: Bool[np.ndarray, " row"], clusters: np.ndarray, *, seed: int, folds: int = FOLDS, repeats: int = REPEATS
) -> Int[np.ndarray, "repeat row"]:
    """The fold that each row is held out in, whole clusters together and both groups in every fold as far as they reach.

    Args:
        in_a: Whether a row is in a; the others are in b.
        clusters: The cluster of each row.
        seed: Of all repeats; another one gives other divisions in each.
        folds: How many, at least 3; fewer are made where a group has fewer clusters.
        repeats: How often the rows are divided anew.

    Raises:
        LocalizeError: (a ValueError) If a group has fewer than 3 clusters, or `folds` or `repeats` is too small.

    Source:
        sklearn.model_selection.StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    for name, value, least in (("folds", folds, FEWEST_FOLDS), ("repeats", repeats, 1)):
        if value < least:
            raise LocalizeError(f"{caller()}: {name}={value} must be at least {least}.")
    fewest = min(len(np.unique(clusters[members])) for members in (in_a, ~in_a))
    if fewest < FEWEST_FOLDS:
        raise LocalizeError(f"{caller()}: a group has {fewest} clusters; at least {FEWEST_FOLDS} are needed in each.")
    fold = np.empty((repeats, len(in_a)), dtype=np.int64)
    for repeat, own in enumerate(np.random.default_rng([seed, 29]).integers(2**32, size=repeats).tolist()):
        divided = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=own)
        for number, (_, held_out) in enumerate(divided.split(clusters, in_a, clusters)):
            fold[repeat, held_out] = number
    return fold


def held_out(
    parts: Sequence[Real[np.ndarray, "row _"]],
    labels: Bool[np.ndarray, "labelling row"],
    fold: Int[np.ndarray, "repeat row"],
    *,
    base: Real[np.ndarray, "row _"] | None = None,
    after_repeat: Callable[[], object] = lambda: None,
) -> HeldOut:
    """Leave two folds out together, train on the others, compare the pairs of an a in one of the two and a b in the other.

    All pairs of folds have their turn, so that a repeat compares nine pairs in ten. Were one fold left out at a time, only pairs in
    it could be compared, a fifth or a tenth: over folds scores are not comparable, because a fold with more of a leaves fewer to
    train on, which lowers the scores there. Then the AUC hangs on how rows fall into folds: the gain of 20 features that tell
    nothing on top of a loss, in 120 rows, spread by .025 over divisions into 5 folds, and by .010 so.

    Features are centred and scaled by all rows, which asks no label; a missing one takes the mean, one that is constant is left
    out. Parts count alike, however many features each has. What the penalties say is averaged, with weights as the likelihood of
    normal errors: (sum of squared errors)^(-rows / 2), in the other folds, each predicted from all folds but itself. With a
    `base`, leaving the parts out altogether is one of the choices.

    Args:
        parts: Features; nan where missing.
        labels: Whether a row is called a, for each labelling.
        fold: The fold of each row, from `cluster_folds`.
        base: Features that are always in, with a light penalty only.
        after_repeat: Called after each repeat, as a progress bar is.

    Returns:
        nan for a labelling that leaves no pair in different folds.

    Source:
        Rows left out of a ridge regression: Pahikkala et al. 2006; pairs left out for an AUC: Airola et al. 2011; averaging by the
        likelihood of what is left out: Geisser and Eddy 1979, Yao et al. 2018 (pseudo-Bayesian model averaging).
    """
    from threadpoolctl import threadpool_limits

    target, count = np.where(labels.T, 1.0, -1.0), labels.shape[1]
    beats, compared = np.zeros((2, count, count))
    wins, pairs = np.zeros((2, len(fold), len(labels)))
    # The matrices are small: threads would wait for one another, ten times as long where the machine is shared.
    with threadpool_limits(1, user_api="blas"):
        solved = [_Solved.of(kernel, target) for kernel in _kernels(parts, base, count)]
        for repeat, of_row in enumerate(fold):
            rows = [np.flatnonzero(of_row == number) for number in range(of_row.max() + 1)]
            errors = np.array([[(one.missed(out) ** 2).sum(0) for out in rows] for one in solved])
            for f, g in combinations(range(len(rows)), 2):
                out, size = np.concatenate([rows[f], rows[g]]), len(rows[f])
                shares = _likelihoods(errors.sum(1) - errors[:, f] - errors[:, g], count - len(out))
                missed = sum(share * one.missed(out) for share, one in zip(shares, solved, strict=True))
                said = (target[out] - missed).round(DIGITS)
                over = (said[:size, None] > said[size:]).astype(np.int8) - (said[:size, None] < said[size:])
                won, there = _won(over, target[rows[f]], target[rows[g]])
                wins[repeat], pairs[repeat] = wins[repeat] + won, pairs[repeat] + there
                first = (1 + over[..., 0]) / 2
                beats[np.ix_(rows[f], rows[g])] += first
                beats[np.ix_(rows[g], rows[f])] += 1 - first.T
                compared[np.ix_(rows[f], rows[g])] += 1
                compared[np.ix_(rows[g], rows[f])] += 1
            after_repeat()
    of_pairs = np.ix_(labels[0], ~labels[0])
    return HeldOut(
        beats[of_pairs], compared[of_pairs], _shares(wins.sum(0), pairs.sum(0)), _shares(wins[:, 0], pairs[:, 0]),
        _shares(beats.sum(1), compared.sum(1)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Solved:
    """A ridge regression of all rows: with B the inverse of (kernel + 1), rows P left out are missed by B_PP^-1 (B y)_P."""

    inverse: Float[np.ndarray, "row row"]
    weights: Float[np.ndarray, "row labelling"]

    @classmethod
    def of(cls, kernel: Float[np.ndarray, "row row"], target: Float[np.ndarray, "row labelling"]) -> "_Solved":
        inverse = np.linalg.inv(kernel + np.eye(len(kernel)))
        return cls(inverse, inverse @ target)

    def missed(self, out: Int[np.ndarray, " out"]) -> Float[np.ndarray, "out labelling"]:
        """What lies between the labels of the rows left out and what the others say of them."""
        return np.linalg.inv(self.inverse[np.ix_(out, out)]) @ self.weights[out]


def _likelihoods(errors: Float[np.ndarray, "kernel labelling"], rows: int) -> Float[np.ndarray, "kernel labelling"]:
    """How much each kernel counts, by its sum of squared errors over so many rows: 1 in all."""
    least = np.maximum(errors.min(0), np.finfo(float).tiny)
    weights = np.maximum(errors / least, 1.0) ** (-rows / 2)
    return weights / weights.sum(0)


def _won(
    over: Real[np.ndarray, "one other labelling"],
    one: Float[np.ndarray, "one labelling"],
    other: Float[np.ndarray, "other labelling"],
) -> tuple[Float[np.ndarray, " labelling"], Float[np.ndarray, " labelling"]]:
    """In how many pairs of an a and a b the a scores higher, ties half, and how many there are.

    A pair's half difference of labels, (t - u) / 2, is 1, -1 or, of one group, 0: times the sign of its scores it counts wins less
    losses, and that is a sum over rows.
    """
    ahead, behind = over.sum(1, dtype=np.int32), over.sum(0, dtype=np.int32)
    less_losses = ((one * ahead).sum(0) - (other * behind).sum(0)) / 2
    of_a, of_b = (one > 0).sum(0), (other > 0).sum(0)
    pairs = of_a * (len(other) - of_b) + (len(one) - of_a) * of_b
    return (pairs + less_losses) / 2, pairs.astype(np.float64)


def _shares(part: Float[np.ndarray, " item"], whole: Float[np.ndarray, " item"]) -> Float[np.ndarray, " item"]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _kernels(
    parts: Sequence[Real[np.ndarray, "row _"]], base: Real[np.ndarray, "row _"] | None, rows: int
) -> list[Float[np.ndarray, "row row"]]:
    """Inner products of all rows for each penalty, over that penalty."""
    constant = np.full((rows, rows), INTERCEPT)
    if base is not None:
        constant = constant + _products(base) / LIGHT
    if not parts:
        return [constant]
    whole = np.mean([_products(part) for part in parts], axis=0)
    kernels = [constant + whole / penalty for penalty in PENALTIES]
    return kernels if base is None else [constant, *kernels]


def _products(features: Real[np.ndarray, "row feature"]) -> Float[np.ndarray, "row row"]:
    """Inner products of rows whose features are centred and scaled, over the number of features that vary."""
    features = features.astype(np.float64)
    there = ~np.isnan(features)
    filled = np.where(there, features, 0.0)
    count = np.maximum(there.sum(0), 1)
    mean = filled.sum(0) / count
    spread = np.sqrt((np.where(there, filled - mean, 0.0) ** 2).sum(0) / count)
    varies = spread > 1e-9 * np.abs(mean)
    scaled = np.where(there & varies, (filled - mean) / np.where(varies, spread, 1.0), 0.0)
    return scaled @ scaled.T / max(int(varies.sum()), 1)


@public
def pair_interval(
    wins: Float[np.ndarray, "a b"],
    pairs: Float[np.ndarray, "a b"],
    in_a: Bool[np.ndarray, " row"],
    clusters: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
    null: Float[np.ndarray, " labelling"] | None = None,
) -> Interval:
    """Interval of an AUC, or of the difference of two on the same pairs, by a bootstrap over clusters.

    It is that of `cluster_bootstrap_difference` for what each row contributes: the change when its cluster's rows of its group
    are left out. Scores are taken as they are: it is an interval over the paragraphs judged, for classifiers trained on so many
    others. How classifiers trained on others would differ is in it only as far as the repeats show it, so that where there is
    nothing to tell it is too short. `null` mends that: on neither side does the interval reach less far than the same number
    reaches under dealt-out labels, for which the classifier was trained anew.

    AUCs of given scores it held in 96 to 97 % of simulations (30 normal clusters against 40, 10 against 15, 12 against 100). Of a
    classifier that tells nothing it held .5 in 84 to 91 % without a `null` and in 93 to 97 % with 79 labellings.

    Args:
        wins: From `held_out`, or the difference of two of them.
        pairs: How often each pair is compared.
        in_a: The rows of a; the others are of b.
        clusters: The cluster of each row.
        seed: Of the draws.
        resamples: How often to draw, at least 100.
        level: Share of intervals that should hold the true value, between 0 and 1.
        null: The same number for other labellings of the rows, less what it is where there is nothing to tell: .5, or 0 of a
            difference of two. nan is a labelling that has none.

    Returns:
        nan for the ends with fewer than two clusters in a group. Of an AUC of exactly 1 it has no width without a `null`: no pair
        shows how often one would go wrong. It is rough as that of a difference is, and where a `null` has too few labellings to reach
        so far (39 for 95 %).

    Raises:
        LocalizeError: (a ValueError) If `resamples` or `level` is out of range.

    Source:
        What a row contributes: the placements of DeLong, DeLong and Clarke-Pearson 1988, here by cluster (Obuchowski 1997).
    """
    check_draws(resamples, level)
    parts, part = parts_of_groups(in_a, clusters)
    estimate = wins.sum() / pairs.sum()
    told = np.asarray(estimate)
    if parts.fewest < 2:
        return Interval(told, np.asarray(np.nan), np.asarray(np.nan), np.asarray(True))
    groups = tuple(
        ClusterEffects(
            parts.counts[g], np.array([estimate]), sign * _contributions(wins, pairs, axis, part[rows], parts.counts)[g]
        )
        for g, rows, axis, sign in ((parts.in_a, in_a, 1, 1), (~parts.in_a, ~in_a, 0, -1))
    )
    rng = np.random.default_rng([seed, 19])
    (down,), (up,) = reaches(groups, parts.both, parts.overlap, rng, resamples, level)
    rough = bool(too_few(groups)[0] | too_skewed(groups, parts.overlap)[0])
    if null is not None:
        dealt = np.sort(null[~np.isnan(null)])
        beyond = int(
            (len(dealt) + 1) * (1 - level) / 2 + 1e-9
        )  # on either side, so that the observed one is as likely there
        rough = rough or beyond == 0
        if len(dealt):
            down, up = max(down, dealt[-max(beyond, 1)]), max(up, -dealt[max(beyond, 1) - 1])
    return Interval(told, np.asarray(estimate - down), np.asarray(estimate + up), np.asarray(rough))


def _contributions(
    wins: Float[np.ndarray, "a b"],
    pairs: Float[np.ndarray, "a b"],
    axis: int,
    part: Int[np.ndarray, " row"],
    counts: Int[np.ndarray, "part"],
) -> Float[np.ndarray, "part 1"]:
    """Of each part, how far the share of pairs won would lie from it if all rows were like its own; 0 where none would be left."""
    won, there = (np.bincount(part, weights=matrix.sum(axis), minlength=len(counts)) for matrix in (wins, pairs))
    total, rest = pairs.sum(), pairs.sum() - there
    without = np.divide(wins.sum() - won, rest, out=np.full(len(counts), wins.sum() / total), where=rest > 0)
    size = np.bincount(part, minlength=len(counts)).sum()
    return ((wins.sum() / total - without) * (size - counts) / counts)[:, None]


def parts_of_groups(
    in_a: Bool[np.ndarray, " row"], clusters: np.ndarray
) -> tuple[ClusterParts, Int[np.ndarray, " row"]]:
    """The parts that clusters have in a and in b, and the part of each row."""
    part, sizes = parts_of_rows(clusters, in_a)
    count = np.bincount(part, minlength=sizes[0] + sizes[1] + 2 * sizes[2])
    return ClusterParts(np.zeros(1, np.int64), *sizes, count, np.zeros((len(count), 1))), part
