"""What a training learned of paragraphs by how often, and when, it was shown them.

- *Pair effect*: the paragraph's NLL in the twin run, trained from the same seed on the same rows but the planted ones, less its NLL in
  the planted run. How hard the paragraph is drops out. Null: the same of held-out paragraphs, which neither run was shown.
- *Unmatched gap*, where there is no twin run: the mean NLL of held-out paragraphs less the planted one's. How hard the paragraphs are
  is in it, and outweighs few copies: 64 paragraphs a level are needed. Null: the labels dealt out anew over clusters.
- *Exact match* in the planted run. Null: that of held-out paragraphs.
- *AUC*: how surely a planted paragraph is told from a held-out one by its pair effect, by its loss alone, and the difference of these; of a
  training that went on from a trained model also by the loss less that model's, which needs no twin.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.draws import Draws
from localize.analysis.rows import Null, Row, auc_row, pair_wins, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import OWN, Level, Trainings
from localize.errors import caller, public, warn
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, auc
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

EXACT_MATCH = "exact match"
AUC_PAIR, AUC_LOSS = "AUC of the pair effect", "AUC of the loss"
AUC_FALL = "AUC of the loss less the first model's"
AUC_GAIN = f"{AUC_PAIR} - {AUC_LOSS}"

FEW_ITEMS = 64
"""Paragraphs of a level below which the loss tells few copies from none by chance of which paragraphs they are."""


@public
def dose_table(
    signature: "MemorizationSignature", step: int = -1, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """What was learned of paragraphs by some step, by how many copies of them were planted and in which part of the training.

    Args:
        signature: Over training: `nll` and `exact_match`, with the coordinate `duplicates` (0 of held-out paragraphs), and
            `window_start` and `window_end` where they are known. With the twin run, along `training_run`, effects are of minimal pairs.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `copies`, `window` and `quantity` (see `localize.analysis.dose`), columns as in `summary` and `window_start`,
        `window_end`, `unit` and `seeds`. NLL and its differences are in nats per token, exact match in tokens. Of two or more seeds
        (`unit` "seeds") each gives one number and the interval is Student's t over these, p of the paired t-test of a number and its
        null. The paragraphs are the same in all seeds, so that it tells what other trainings would learn of these, not what
        other paragraphs would be learned; only p of an unmatched gap and its null are over clusters of paragraphs. Of one seed
        (`unit` "clusters") it is a bootstrap over clusters, p by labels permuted over them. `q_value` corrects the p-values of a
        quantity for all levels. p is nan where all seeds give the same number.

    Raises:
        SignatureError: If the signature is not over training, does not say what was planted, has nothing held out, or the step was
            not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds, and, without a twin run, of levels of fewer than 64 paragraphs.
    """
    from localize.analysis.tables import table_of

    trainings, draws = Trainings.of(signature), Draws(seed, resamples)
    trainings.need_held_out()
    trainings.warn_of_few_seeds()
    if trainings.twin_nll is None and (few := [one for one in trainings.levels() if one.rows.sum() < FEW_ITEMS]):
        told = ", ".join(f"{one.rows.sum()} of {one.copies} copies in {one.window.words}" for one in few)
        warn(
            f"{caller()}: few paragraphs ({told}) and no twin run; below {FEW_ITEMS}, how hard they are outweighs what was learned."
        )
    return table_of(dose_rows(trainings, trainings.at(step), draws), ("copies", "window", "quantity"), OWN)


def dose_rows(trainings: Trainings, at: int, draws: Draws) -> list[Row]:
    """All quantities of all levels, p-values of each corrected for all levels."""
    rows = []
    for level in trainings.levels():
        about = level.labels | trainings.labels
        rows.append(about | {"quantity": trainings.gap_name} | trainings.gap_row(at, level.rows, draws))
        rows.append(about | exact_match_row(trainings, at, level, draws))
        rows += [about | row for row in auc_rows(trainings, at, level, draws)]
    correct_by_quantity(rows)
    return rows


def exact_match_row(trainings: Trainings, at: int, level: Level, draws: Draws) -> Row:
    """Exact match in the planted run, beside that of held-out paragraphs."""
    values, possible = trainings.exact_match[:, at], trainings.possible_tokens
    return {"quantity": EXACT_MATCH} | trainings.mean_row(values, level.rows, draws, possible)


def auc_rows(trainings: Trainings, at: int, level: Level, draws: Draws) -> list[Row]:
    """How surely planted paragraphs are told from held-out ones by their loss and, with a twin run, by their pair effect."""
    scores = {AUC_LOSS: -trainings.nll[:, at]}
    if trainings.went_on:
        scores[AUC_FALL] = trainings.nll[:, 0] - trainings.nll[:, at]
    if trainings.twin_nll is not None:
        scores = {AUC_PAIR: trainings.gap[:, at]} | scores
    of = _aucs_of_seeds if trainings.seeds > 1 else _aucs_of_clusters
    return of(trainings, level, scores, draws)


def _aucs_of_seeds(
    trainings: Trainings, level: Level, scores: dict[str, Float[np.ndarray, "seed paragraph"]], draws: Draws
) -> list[Row]:
    basis = trainings.basis(level.rows | trainings.held_out)
    found = {name: auc(values.T, level.rows, trainings.held_out) for name, values in scores.items()}
    rows = []
    for name, values in found.items():
        interval = seed_interval(values).within(ZERO_TO_ONE)
        rows.append({"quantity": name} | row_of(interval, Null(0.5, p_value=seed_test(values - 0.5)), basis))
    if AUC_PAIR in found:
        gain = found[AUC_PAIR] - found[AUC_LOSS]
        interval, null = seed_interval(gain).within(MINUS_ONE_TO_ONE), Null(0.0, p_value=seed_test(gain))
        rows.append({"quantity": AUC_GAIN} | row_of(interval, null, basis))
    return rows


def _aucs_of_clusters(
    trainings: Trainings, level: Level, scores: dict[str, Float[np.ndarray, "seed paragraph"]], draws: Draws
) -> list[Row]:
    """Of one seed: over the paragraphs judged. p of an AUC is that of mean ranks; of a gain there is none."""
    judged = level.rows | trainings.held_out
    planted, clusters, basis = level.rows[judged], trainings.clusters[judged], trainings.basis(judged)
    of_judged = {name: values[0, judged] for name, values in scores.items()}
    rows = [{"quantity": name} | auc_row(values, planted, clusters, draws) for name, values in of_judged.items()]
    if AUC_PAIR in of_judged:
        gain = pair_wins(of_judged[AUC_PAIR], planted) - pair_wins(of_judged[AUC_LOSS], planted)
        interval = draws.pairs(gain, np.ones(gain.shape), planted, clusters).within(MINUS_ONE_TO_ONE)
        rows.append({"quantity": AUC_GAIN} | row_of(interval, Null(0.0), basis))
    return rows
