"""Which texts are learned by heart: what is known of a text early in a training, against what was learned of it in the end.

The signs of a text: copies planted, how rare its words are and how new its runs of words (where the training tells them), its NLL early,
how far that fell, and what was learned of it by then (the pair effect, or the unmatched gap). Each sign's rank correlation with what
was learned in the end is told over all planted texts, and within levels, among texts planted alike, so that copies and windows drop out.
All signs together predict by ridge regression of ranks, each text by a fit to others. Null: what was learned, dealt out anew among all
texts, or among those of a level.

As a warning a sign flags the tenth of the texts of each level that it ranks first: how many of them are among the tenth learned most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.rows import Null, Row, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import Trainings, label_of_run, warn_of_few_seeds
from localize.axes import TRAINED
from localize.errors import LocalizeError, SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, Range
from localize.statistics.roughness import FEWEST
from localize.statistics.seeds import seed_interval

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

ALL, LEVELS = "all planted", "planted alike"
TOGETHER = "all signs together, held out"
FOLDS, PENALTY = 5, 1.0
FLAGGED = 0.1
"""The share of texts that is flagged, and that counts as learned most."""

CORRELATION, CAUGHT = "rank correlation", "flagged tenth, share of it learned most"

Texts = Float[np.ndarray, "seed paragraph"]


@dataclass(frozen=True, eq=False)
class _Told:
    """One number of a sign: of each seed, what is expected of one that tells nothing, and means over seeds where that is dealt out.

    Few: so few texts are told apart by it that the number hangs on them.
    """

    quantity: str
    sign: str
    own: Float[np.ndarray, " seed"]
    null: Float[np.ndarray, " draw"]
    chance: float
    possible: Range
    few: bool

    def numbers(self) -> Null:
        """The null, and the share of draws that lie as far from its mean."""
        middle, (low, high) = self.null.mean(), np.quantile(self.null, [0.025, 0.975])
        as_far = (np.abs(self.null - middle) >= np.abs(self.own.mean() - middle) - 1e-12).sum()
        return Null.dealt(middle, low, high, float((1 + as_far) / (1 + len(self.null))), True if self.few else None)


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
        Indexed by `quantity`, `sign` and `among` ("all planted", or, of several, "planted alike": within levels of copies and window),
        columns as in `dose_table`, and `chance`, what is expected of a sign that tells nothing. Quantities: Spearman's rank correlation
        with what was learned in the end, -1 to 1; and, as a warning, which share of the tenth of texts that a sign ranks first, or last
        if its correlation is negative, is of the tenth learned most, 0 to 1, chance about .1. A tenth is one of each level, at least
        one text; texts that tie share the last places. All signs together rank each text by a fit to others. Means over seeds with
        Student's interval, rough also where fewer than 5 texts have another value of the sign than most; null and two-sided p by
        dealing out anew, alike in all seeds; `q_value` corrects p for all rows of the
        same `among`. With one seed there is no interval.

    Raises:
        SignatureError: If the signature is not over training, does not say what was planted, or nothing was measured so early.
        LocalizeError: If `share` is no number between 0 and 1.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    from localize.analysis.tables import table_of

    trainings = Trainings.of(signature)
    rows = early_rows(trainings, share, seed, resamples)
    warn_of_few_seeds(trainings.seeds, alone="there are no intervals")
    return table_of(rows, ("quantity", "sign", "among"), ("chance", "step", "unit", "seeds"))


def early_rows(trainings: Trainings, share: float, seed: int, resamples: int) -> list[Row]:
    """The rows of `early_signs`."""
    trainings.need_held_out()
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
        labels = {"among": among, "step": int(trainings.steps[at])} | trainings.labels
        for told in _told(signs, learned, of, fold, resamples, rng):
            numbers = row_of(seed_interval(told.own).within(told.possible), told.numbers(), trainings.basis(rows))
            found.append({"quantity": told.quantity, "sign": told.sign, "chance": told.chance} | labels | numbers)
    correct_by_quantity(found, "among")
    return found


def early_place(trainings: Trainings, share: float) -> int:
    """The last measured step by a share of the training, and not the first, at which nothing was trained."""
    if not 0 < share < 1:
        raise LocalizeError(f"{caller()}: share={share} must lie between 0 and 1, a part of the training.")
    early = np.flatnonzero((trainings.steps <= share * trainings.total_steps) & (trainings.steps > 0))
    if not len(early):
        raise SignatureError(
            f"{caller()}: nothing was measured in the first {share:.0%} of {trainings.total_steps} steps; the first step measured "
            f"after training began is {trainings.steps[trainings.steps > 0].min(initial=trainings.total_steps)}."
        )
    return int(early[-1])


def signs_of(trainings: Trainings, at: int) -> dict[str, Texts]:
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


def _varies(values: Texts, level: Int[np.ndarray, " paragraph"]) -> bool:
    """Whether a sign tells texts of a level apart."""
    return any(np.ptp(values[:, level == one], axis=1).max() > 0 for one in np.unique(level))


def told_apart(values: Texts, level: Int[np.ndarray, " paragraph"]) -> int:
    """How many texts have another value than the most frequent of their level, in the seed with the fewest."""

    def of_level(one: Float[np.ndarray, " member"]) -> int:
        return len(one) - int(np.unique(one, return_counts=True)[1].max())

    return min(sum(of_level(of_seed[level == one]) for one in np.unique(level)) for of_seed in values)


def centred_ranks(values: Texts, level: Int[np.ndarray, " paragraph"]) -> Texts:
    """Ranks within levels, ties by their mean, from their middle, as shares of the level."""
    from scipy.stats import rankdata

    found = np.zeros(values.shape)
    for one in np.unique(level):
        of = level == one
        found[:, of] = (rankdata(values[:, of], axis=1) - (of.sum() + 1) / 2) / of.sum()
    return found


def correlation(one: Texts, other: Texts) -> Float[np.ndarray, " seed"]:
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
    target: Texts,
    fold: Int[np.ndarray, " paragraph"],
) -> Texts:
    """Each text's target by ridge regression on the signs of the texts in other folds, seed by seed."""
    found, eye = np.empty(target.shape), PENALTY * np.eye(signs.shape[-1])
    for one in np.unique(fold):
        own, rest = fold == one, fold != one
        x = signs[:, rest]
        weights = np.linalg.solve(x.swapaxes(1, 2) @ x + eye, x.swapaxes(1, 2) @ target[:, rest, None])
        found[:, own] = (signs[:, own] @ weights)[..., 0]
    return found


def top_tenth(values: Texts, level: Int[np.ndarray, " paragraph"]) -> Texts:
    """How much of each text is in the largest tenth of its level, of at least one text: 0 or 1, less where ties share a place."""
    found = np.zeros(values.shape)
    for one in np.unique(level):
        of = values[:, level == one]
        places = _places(of.shape[1])
        last = np.sort(of, axis=1)[:, -places, None]
        above, tied = of > last, of == last
        left = places - above.sum(1, keepdims=True)
        found[:, level == one] = above + tied * left / tied.sum(1, keepdims=True)
    return found


def caught(predicted: Texts, target: Texts, level: Int[np.ndarray, " paragraph"]) -> Float[np.ndarray, " seed"]:
    """Which share of the tenth predicted first is of the tenth that the target has largest."""
    flagged = top_tenth(predicted, level)
    return (flagged * top_tenth(target, level)).sum(1) / flagged.sum(1)


def _places(count: int) -> int:
    return max(1, round(FLAGGED * count))


def _told(
    signs: dict[str, Texts],
    learned: Texts,
    level: Int[np.ndarray, " paragraph"],
    fold: Int[np.ndarray, " paragraph"],
    resamples: int,
    rng: np.random.Generator,
) -> Iterator[_Told]:
    """Each sign that varies within levels, and all of them together; fits are made anew to what is dealt out anew."""
    ranked = {name: centred_ranks(values, level) for name, values in signs.items() if _varies(values, level)}
    target = centred_ranks(learned, level)
    dealt = [target[:, dealt_within(level, rng)] for _ in range(resamples)]
    sizes = np.unique(level, return_counts=True)[1].tolist()
    chance = sum(_places(size) ** 2 / size for size in sizes) / sum(map(_places, sizes))
    every, flags = np.stack(list(ranked.values()), -1), list[_Told]()
    for name in (*ranked, TOGETHER):
        fits = [held_out_fit(every, one, fold) if name == TOGETHER else ranked[name] for one in (target, *dealt)]
        agree = [correlation(fit, one) for fit, one in zip(fits, (target, *dealt), strict=True)]
        few = name != TOGETHER and told_apart(signs[name], level) < FEWEST
        yield _Told(CORRELATION, name, agree[0], _means(agree[1:]), 0.0, MINUS_ONE_TO_ONE, few)
        right = [
            caught(fit if name == TOGETHER else np.sign(of.mean()) * fit, one, level)
            for fit, of, one in zip(fits, agree, (target, *dealt), strict=True)
        ]
        flags.append(_Told(CAUGHT, name, right[0], _means(right[1:]), chance, ZERO_TO_ONE, few))
    yield from flags


def _means(of_draws: list[Float[np.ndarray, " seed"]]) -> Float[np.ndarray, " draw"]:
    """Over seeds."""
    return np.stack(of_draws).mean(1)
