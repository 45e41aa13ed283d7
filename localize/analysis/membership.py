"""Which metric of memory tells planted texts from held-out ones, by how often they were shown: AUCs over a training's seeds.

- *AUC*: the share of pairs of a planted and a held-out paragraph in which the planted one has the larger value, ties half.
- Null: the AUC of the same paragraphs in the twin run, which was shown none of them: what their own difficulty gives. Few paragraphs of a
  level are seldom as hard as the held-out ones on average, so that this is not .5. Without a twin run it is chance, .5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.draws import Draws
from localize.analysis.memory import SAME_ORDER, arrays_of
from localize.analysis.rows import DIFFERENCE, Null, Row, auc_row, differing, pair_wins, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import OWN, Level, Trainings, array_in_run
from localize.axes import TRAINED, TWIN
from localize.errors import SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, Interval, auc
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

AUC = "AUC"
CHANCE = 0.5


@dataclass(frozen=True, eq=False)
class Score:
    """One metric over training, larger where more is memorized.

    Attributes:
        variable: Where it stands in a signature.
        words: Its name, with the tokens given or the length of n-grams where it depends on them.
        values: In the planted run.
        twin: In the twin run; None where there is none.
    """

    variable: str
    words: str
    values: Float[np.ndarray, "seed step paragraph"]
    twin: Float[np.ndarray, "seed step paragraph"] | None


@public
def membership_table(
    signature: "MemorizationSignature", step: int = -1, *, every: bool = True, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """How surely each metric of memory tells planted paragraphs from held-out ones, by copies and window, beside the twin run.

    Args:
        signature: As `localize.dose_table` takes it, with the variables of `localize.memory` too: what a recipe leaves that watches
            `measures = ["recall", "memory"]`.
        step: Steps of training after which it was measured; -1 for the last.
        every: Whether a metric has a row for every number of tokens given and every length of n-grams; else for the whole prefix and the
            longest n-grams alone.
        seed: Of bootstrap and permutation, with one seed of the training.
        resamples: Draws of each.

    Returns:
        Indexed by `metric` (as in `localize.memory_table`), `copies` and `window`, columns as in `localize.dose_table` and `variable`,
        `difference`, `difference_low`, `difference_high`, `p_chance`. The estimate is the AUC in the planted run, in [0, 1]; the null
        that of the same paragraphs in the twin run (`matched_on` "twin"), the difference the one less the other; `p_chance` is against
        an AUC of .5. Of two or more seeds each gives one AUC, intervals are Student's t, and p is of the paired t-test of estimate and
        null. Of one seed intervals are by bootstrap over clusters; `p_chance` is that of mean ranks, and with a twin run there is no p.
        Without a twin run the null is .5. `q_value` corrects for all metrics and levels. p is nan where all seeds give the same number.

    Raises:
        SignatureError: As `localize.dose_table`, and if there are no metrics of memory.

    Warns:
        UserWarning: Of fewer than 5 seeds.

    Source:
        AUCs of several metrics by copies: Hubble (arXiv 2510.19811).
    """
    from localize.analysis.tables import table_of

    trainings = judged(signature)
    trainings.warn_of_few_seeds()
    scores, at, draws = scores_of(trainings), trainings.at(step), Draws(seed, resamples)
    levels = list(trainings.levels())
    rows = [
        {"metric": score.words, "variable": score.variable}
        | level.labels
        | trainings.labels
        | membership_row(trainings, score, at, level, draws)
        for score in (scores if every else longest(scores))
        for level in levels
    ]
    correct_by_quantity(rows)
    return table_of(rows, ("metric", "copies", "window"), (*OWN, "variable", *DIFFERENCE, "p_chance"))


def judged(signature: "MemorizationSignature") -> Trainings:
    """The trainings of a signature with planted and held-out paragraphs and metrics of memory; a `SignatureError` of any other."""
    trainings = Trainings.of(signature)
    trainings.need_held_out()
    if "min_k" not in signature:
        raise SignatureError(
            f'{caller()}: the signature has no \'min_k\'; watch measures = ["recall", "memory"] while training.'
        )
    return trainings


def scores_of(trainings: Trainings) -> list[Score]:
    """All metrics that order paragraphs in a way of their own, in the order of their declaration."""
    runs = (TRAINED,) if trainings.twin_nll is None else (TRAINED, TWIN)
    found = []
    for variable, words, array in arrays_of(trainings.dataset):
        if variable.name not in SAME_ORDER:
            parts = [array_in_run(array, run).transpose("training_seed", "training_step", "paragraph") for run in runs]
            values = [part.values.astype(float) for part in parts]
            found.append(Score(variable.name, words, values[0], values[1] if len(values) > 1 else None))
    return found


def longest(scores: Sequence[Score]) -> list[Score]:
    """Of each variable the last metric: behind the whole prefix, of the longest n-grams."""
    return list({score.variable: score for score in scores}.values())


def membership_row(trainings: Trainings, score: Score, at: int, level: Level, draws: Draws) -> Row:
    """The AUC of a metric of one level, beside that of the same paragraphs in the twin run."""
    values, twin = score.values[:, at], None if score.twin is None else score.twin[:, at]
    there = ~np.isnan(values).any(0)
    chosen, held_out = level.rows & there, trainings.held_out & there
    if not chosen.any() or not held_out.any():
        return {"quantity": AUC, "p_chance": np.nan} | row_of() | dict.fromkeys(DIFFERENCE, np.nan)
    of = _over_seeds if trainings.seeds > 1 else _over_clusters
    return {"quantity": AUC} | of(trainings, values, twin, chosen, held_out, draws)


def _over_seeds(
    trainings: Trainings,
    values: Float[np.ndarray, "seed paragraph"],
    twin: Float[np.ndarray, "seed paragraph"] | None,
    chosen: Bool[np.ndarray, " paragraph"],
    held_out: Bool[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    own = auc(values.T, chosen, held_out)  # seed
    other = np.full(len(own), CHANCE) if twin is None else auc(twin.T, chosen, held_out)
    p_chance, p_value = (float(seed_test(own - null)) for null in (CHANCE, other))
    null, matched_on = Null(CHANCE, p_value=p_value), ""
    if twin is not None:
        null, matched_on = Null.measured(seed_interval(other).within(ZERO_TO_ONE), p_value), TWIN
    interval, basis = seed_interval(own).within(ZERO_TO_ONE), trainings.basis(chosen | held_out)
    return (
        row_of(interval, null, basis, matched_on=matched_on)
        | differing(seed_interval(own - other).within(MINUS_ONE_TO_ONE))
        | {"p_chance": p_chance}
    )


def _over_clusters(
    trainings: Trainings,
    values: Float[np.ndarray, "seed paragraph"],
    twin: Float[np.ndarray, "seed paragraph"] | None,
    chosen: Bool[np.ndarray, " paragraph"],
    held_out: Bool[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    rows = chosen | held_out
    planted, clusters = chosen[rows], trainings.clusters[rows]
    own = auc_row(values[0, rows], planted, clusters, draws)
    p_chance = {"p_chance": own["p_value"]}
    if twin is None:
        apart = Interval(*(np.array(own[end] - CHANCE) for end in ("estimate", "low", "high")))
        return own | differing(apart) | p_chance
    other = auc_row(twin[0, rows], planted, clusters, draws)
    gain = pair_wins(values[0, rows], planted) - pair_wins(twin[0, rows], planted)
    apart = draws.pairs(gain, np.ones(gain.shape), planted, clusters).within(MINUS_ONE_TO_ONE)
    null = Null.measured(_interval(other), np.nan)
    return row_of(_interval(own), null, trainings.basis(rows), matched_on=TWIN) | differing(apart) | p_chance


def _interval(row: Row) -> Interval:
    """The estimate of a row with its ends."""
    return Interval(*(np.array(row[end]) for end in ("estimate", "low", "high")), rough=np.array(bool(row["rough"])))
