"""Variants of one training beside each other: what each teaches and costs, and the difference that it makes to the first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.dose import EXACT_MATCH
from localize.analysis.draws import Draws
from localize.analysis.rows import DIFFERENCE, NO_NULL, Null, Row, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import OWN, Trainings
from localize.axes import TRAINED
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, Range, pair_differences
from localize.statistics.seeds import seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

NLL, RISE, COST = "NLL", "NLL since {stage} began", "NLL beyond the twin's"
HELD_OUT = "held-out"


@dataclass(frozen=True, eq=False)
class Measured:
    """One quantity of some paragraphs of one arm.

    Attributes:
        quantity: Its name.
        text: Of which paragraphs it is: planted, in which window where there are several; held out, of which stage likewise.
        values: Of each paragraph.
        rows: Which paragraphs they are.
        possible: Where their mean can lie.
    """

    quantity: str
    text: str
    values: Float[np.ndarray, "seed paragraph"]
    rows: Bool[np.ndarray, " paragraph"]
    possible: Range = UNBOUNDED

    @property
    def planted(self) -> bool:
        """Whether it is of paragraphs that were trained on."""
        return self.text.startswith(TRAINED)


@public
def arm_table(
    signature: "MemorizationSignature", step: int = -1, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """What held-out text and planted paragraphs came to in each arm of a training by some step, beside the first arm.

    Args:
        signature: Over training, with `training_arm`; else as `dose_table` takes it, planted paragraphs or not.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `text` and `training_arm`, columns as in `dose_table`. Quantities, in nats per token but for exact match
        (tokens): "NLL" of held-out and of planted text; of held-out text of earlier stages "NLL since STAGE began", the last one; with
        a twin run "NLL beyond the twin's", what the planted rows cost held-out text; the pair effect, or the unmatched gap, and exact
        match of planted paragraphs. The null of an arm is the first arm, and `difference` the arm less the first, of the same
        paragraphs and seeds, with its interval; p is of the paired t-test over seeds, nan with one seed. Intervals as in `dose_table`.

    Raises:
        SignatureError: If the signature has no arms, is not over steps, does not say what was planted, or the step was not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    from localize.analysis.tables import table_of

    arms, draws = trainings_by_arm(signature), Draws(seed, resamples)
    first = next(iter(arms.values()))
    first.warn_of_few_seeds()
    rows = arm_rows(arms, first.at(step), draws)
    order = {key: at for at, key in enumerate(dict.fromkeys((row["quantity"], row["text"]) for row in rows))}
    rows.sort(key=lambda row: order[row["quantity"], row["text"]])
    return table_of(rows, ("quantity", "text", "training_arm"), (*DIFFERENCE, *OWN[2:]))


def trainings_by_arm(signature: "MemorizationSignature") -> dict[str, Trainings]:
    """What was measured in each arm.

    Raises:
        SignatureError: If there are no arms.
    """
    if "training_arm" not in signature.over_training:
        raise SignatureError(f"{caller()}: the signature has no axis 'training_arm'; a training with arms is needed.")
    return {arm: Trainings.of(part) for arm, part in signature.arms.items()}


def arm_rows(arms: dict[str, Trainings], at: int, draws: Draws) -> list[Row]:
    """All quantities of all arms, each beside the same of the first, p-values of each quantity corrected for all."""
    rows: list[Row] = []
    first: dict[tuple[str, str], Measured] = {}
    for arm, trainings in arms.items():
        for one in measured(trainings, at):
            about = {"quantity": one.quantity, "text": one.text, "training_arm": arm} | trainings.labels
            beside = first.setdefault((one.quantity, one.text), one)
            rows.append(about | _row(trainings, one, None if beside is one else beside, draws))
    correct_by_quantity(rows)
    return rows


def measured(trainings: Trainings, at: int) -> Iterator[Measured]:
    """What is told of one arm at one of its measured steps."""
    nll, parts = trainings.nll[:, at], trainings.parts
    for stage, rows in trainings.held_out_by_text.items():
        text = f"{HELD_OUT}, {stage}" if stage else HELD_OUT
        yield Measured(NLL, text, nll, rows)
        begun = np.flatnonzero(trainings.steps <= parts[-1].begin) if len(parts) > 1 else []
        if len(begun) and begun[-1] < at and stage != parts[-1].name:
            yield Measured(RISE.format(stage=parts[-1].name), text, nll - trainings.nll[:, begun[-1]], rows)
        if trainings.twin_nll is not None:
            yield Measured(COST, text, -trainings.gap[:, at], rows)
    windows = trainings.windows()
    for window in windows:
        rows, text = trainings.inside(window), TRAINED + (f", {window.words}" if len(windows) > 1 else "")
        yield Measured(NLL, text, nll, rows)
        if trainings.twin_nll is not None or trainings.held_out.any():
            yield Measured(trainings.gap_name, text, trainings.gap[:, at], rows)
        yield Measured(EXACT_MATCH, text, trainings.exact_match[:, at], rows, trainings.possible_tokens)


def _row(trainings: Trainings, one: Measured, first: Measured | None, draws: Draws) -> Row:
    """A quantity with its interval; beside the first arm, and the difference to it."""
    interval = trainings.interval(one.values, one.rows, draws, one.possible)
    basis = trainings.basis(one.rows)
    if first is None:
        return row_of(interval, NO_NULL, basis) | dict.fromkeys(DIFFERENCE, np.nan)
    less = pair_differences(one.values, first.values)
    apart = trainings.interval(less, one.rows, draws)
    p_value = seed_test(trainings.mean(less[:, None], one.rows)[:, 0]) if trainings.seeds > 1 else np.nan
    null = Null.measured(trainings.interval(first.values, first.rows, draws, first.possible), p_value, apart.rough)
    ends = dict(zip(DIFFERENCE, map(float, (apart.estimate, apart.low, apart.high)), strict=True))
    return row_of(interval, null, basis, matched_on="seed, paragraph") | ends
