"""Which texts are learned by heart: what is known of a text early in a training, against what was learned of it in the end.

The signs of a text: copies planted, how rare its words are and how new its runs of words (where the training tells them), its NLL early,
how far that fell, and what was learned of it by then (the pair effect, or the unmatched gap). Each sign's rank correlation with what
was learned in the end is told over all planted texts, and within levels, among texts planted alike, so that copies and windows drop out.
All signs together predict by ridge regression of ranks, each text by a fit to others. Null: what was learned, dealt out anew among all
texts, or among those of a level.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.rows import Null, Row, row_of
from localize.analysis.trainings import Trainings, label_of_run
from localize.axes import TRAINED
from localize.errors import SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE
from localize.statistics.seeds import seed_interval

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

ALL, LEVELS = "all planted", "planted alike"
TOGETHER = "all signs together, held out"
FOLDS, PENALTY = 5, 1.0


@public
def early_signs(
    signature: "MemorizationSignature", share: float = 0.1, *, seed: int = 0, resamples: int = 1000
) -> "pd.DataFrame":
    """How well what is known of planted texts early in a training tells what of them will have been learned in the end.

    Args:
        signature: Over training, as `dose_table` takes it; with the coordinates `rarity` and `novelty` these are signs, too.
        share: Of the training after which signs are read, above 0 and below 1: the last measured step by then.
        seed: Of folds and of what is dealt out anew.
        resamples: How often what was learned is dealt out anew.

    Returns:
        Indexed by `sign` and `among` ("all planted", or, of several, "planted alike": within levels of copies and window), columns as in
        `dose_table`: Spearman's rank correlation, -1 to 1, mean over seeds with Student's interval; null and p by dealing out anew,
        alike in all seeds. With one seed there is no interval.

    Raises:
        SignatureError: If the signature is not over training, does not say what was planted, or nothing was measured so early.
        LocalizeError: If `share` is out of range.
    """
    from localize.analysis.tables import table_of

    trainings = Trainings.of(signature)
    trainings.need_held_out()
    trainings.warn_of_few_seeds()
    at = early_place(trainings, share)
    rows = trainings.planted
    level = np.zeros(int(rows.sum()), np.int64)
    for number, one in enumerate(trainings.levels()):
        level[one.rows[rows]] = number
    signs, learned = signs_of(trainings, at), trainings.gap[:, -1][:, rows]
    rng, found = np.random.default_rng(seed), list[Row]()
    fold = rng.permutation(len(level)) % FOLDS
    levels = [(ALL, np.zeros(len(level), np.int64)), *([(LEVELS, level)] if level.any() else [])]
    for among, of in levels:
        told = {name: values for name, values in signs.items() if _varies(values, of)}
        ranked = {name: centred_ranks(values, of) for name, values in told.items()}
        target, dealt = centred_ranks(learned, of), [dealt_within(of, rng) for _ in range(resamples)]
        predictions = dict(ranked)
        if len(ranked) > 1:
            predictions[TOGETHER] = held_out_fit(np.stack(list(ranked.values()), -1), target, fold)
        for name, values in predictions.items():
            own = correlation(values, target)
            null = _null(name, values, ranked, target, fold, dealt)
            p_value = float((1 + (np.abs(null) >= np.abs(own.mean())).sum()) / (1 + resamples))
            about = {"sign": name, "among": among, "step": int(trainings.steps[at])} | trainings.labels
            low, high = np.quantile(null, [0.025, 0.975])
            numbers = Null.dealt(null.mean(), low, high, p_value)
            found.append(about | row_of(seed_interval(own).within(MINUS_ONE_TO_ONE), numbers, trainings.basis(rows)))
    return table_of(found, ("sign", "among"), ("step", "unit", "seeds"))


def early_place(trainings: Trainings, share: float) -> int:
    """The last measured step by a share of the training, and not the first, at which nothing was trained."""
    if not 0 < share < 1:
        raise SignatureError(f"{caller()}: share={share} must lie between 0 and 1.")
    early = np.flatnonzero((trainings.steps <= share * trainings.total_steps) & (trainings.steps > 0))
    if not len(early):
        raise SignatureError(
            f"{caller()}: nothing was measured in the first {share:.0%} of {trainings.total_steps} steps; the first step measured "
            f"after training began is {trainings.steps[trainings.steps > 0].min(initial=trainings.total_steps)}."
        )
    return int(early[-1])


def signs_of(trainings: Trainings, at: int) -> dict[str, Float[np.ndarray, "seed paragraph"]]:
    """What is known of the planted texts at one of the measured steps."""
    rows, dataset = trainings.planted, trainings.dataset
    found = {"copies": np.broadcast_to(trainings.copies[rows].astype(float), (trainings.seeds, int(rows.sum())))}
    for name, words in (("rarity", "rarity of its words"), ("novelty", "share of new runs of words")):
        if name in dataset.coords:
            found[words] = np.broadcast_to(label_of_run(dataset, name, TRAINED)[:, rows], found["copies"].shape)
    found["NLL early"] = trainings.nll[:, at][:, rows]
    found["fall of the NLL"] = (trainings.nll[:, 0] - trainings.nll[:, at])[:, rows]
    found[f"{trainings.gap_name} early"] = trainings.gap[:, at][:, rows]
    return found


def _varies(values: Float[np.ndarray, "seed paragraph"], level: Int[np.ndarray, " paragraph"]) -> bool:
    """Whether a sign tells texts of a level apart."""
    return any(np.ptp(values[:, level == one], axis=1).max() > 0 for one in np.unique(level))


def centred_ranks(
    values: Float[np.ndarray, "seed paragraph"], level: Int[np.ndarray, " paragraph"]
) -> Float[np.ndarray, "seed paragraph"]:
    """Ranks within levels, ties by their mean, from their middle, as shares of the level."""
    from scipy.stats import rankdata

    found = np.zeros(values.shape)
    for one in np.unique(level):
        of = level == one
        found[:, of] = (rankdata(values[:, of], axis=1) - (of.sum() + 1) / 2) / of.sum()
    return found


def correlation(
    one: Float[np.ndarray, "seed paragraph"], other: Float[np.ndarray, "seed paragraph"]
) -> Float[np.ndarray, " seed"]:
    """Of two sets of centred numbers, seed by seed; 0 where one of them is constant."""
    sizes = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.where(sizes > 0, (one * other).sum(1) / np.where(sizes > 0, sizes, 1.0), 0.0)


def dealt_within(level: Int[np.ndarray, " paragraph"], rng: np.random.Generator) -> Int[np.ndarray, " paragraph"]:
    """The texts of each level in another order."""
    order = np.arange(len(level))
    for one in np.unique(level):
        members = np.flatnonzero(level == one)
        order[members] = rng.permutation(members)
    return order


def held_out_fit(
    signs: Float[np.ndarray, "seed paragraph sign"],
    target: Float[np.ndarray, "seed paragraph"],
    fold: Int[np.ndarray, " paragraph"],
) -> Float[np.ndarray, "seed paragraph"]:
    """Each text's target by ridge regression on the signs of the texts in other folds, seed by seed."""
    found, eye = np.empty(target.shape), PENALTY * np.eye(signs.shape[-1])
    for one in np.unique(fold):
        own, rest = fold == one, fold != one
        x = signs[:, rest]
        weights = np.linalg.solve(x.swapaxes(1, 2) @ x + eye, x.swapaxes(1, 2) @ target[:, rest, None])
        found[:, own] = (signs[:, own] @ weights)[..., 0]
    return found


def _null(
    name: str,
    values: Float[np.ndarray, "seed paragraph"],
    ranked: dict[str, Float[np.ndarray, "seed paragraph"]],
    target: Float[np.ndarray, "seed paragraph"],
    fold: Int[np.ndarray, " paragraph"],
    dealt: list[Int[np.ndarray, " paragraph"]],
) -> Float[np.ndarray, " draw"]:
    """Mean correlations with what was learned dealt out anew; what is fitted is fitted to each anew."""
    if name != TOGETHER:
        return np.array([correlation(values, target[:, order]).mean() for order in dealt])
    signs = np.stack(list(ranked.values()), -1)
    return np.array([
        correlation(held_out_fit(signs, target[:, order], fold), target[:, order]).mean() for order in dealt
    ])  # fmt: skip
