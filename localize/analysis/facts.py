"""How many facts a model knows, and how much of what is asked for that is, where the facts are more than it can hold.

A fact is a key and a random value; it is known if every token of its value, behind the key, is the model's first choice. *Known* counts
facts, each alike; *accuracy* weighs each by how frequent it is, as questions would ask for it, whatever it was shown. Training on fewer
facts does not raise what a model can hold, but decides which facts these are.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.capacity import row_of_set
from localize.analysis.draws import Draws
from localize.analysis.rows import DIFFERENCE, Null, Row
from localize.analysis.seed_rows import correct_by_quantity, mean_over
from localize.analysis.sets import OfSet, sets_of
from localize.analysis.trainings import warn_of_few_seeds
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, ZERO_TO_ONE, Range, pair_differences
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

SOURCE = "facts"
KNOWN, ACCURACY, PER_PARAMETER = "known facts", "accuracy, weighted by frequency", "bits per parameter"
INDEX = ("arm", "step", "quantity")
OWN = (*DIFFERENCE, "kept", "selected_by", "rows", "parameters", "unit", "seeds")
RANDOM, NEVER = "facts kept at random", "facts never shown"


@public
def facts_table(
    signature: "MemorizationSignature", step: int | None = -1, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """How many facts a model knows, and how often it would be right, by which facts it was trained on.

    Args:
        signature: Over training, of a recipe with `[corpus] source = "facts"`; with `training_arm` of all arms.
        step: Steps of training after which it was measured; -1 for the last, None for all of them.
        seed: Of bootstrap and permutation, with one seed of the training.
        resamples: Draws of each.

    Returns:
        Indexed by `arm` ("" without arms), `step` and `quantity`, columns as in `dose_table`, without windows, and `kept`, how many facts
        the last stage shows, `selected_by` what ("": all are kept), `rows`, how many there are, and `parameters`. Quantities: "known
        facts", a number of facts; "accuracy, weighted by frequency", in [0, 1]: the chance that a fact asked for by its frequency is known;
        "bits per parameter" of the values, of each fact at least 0, so that facts no longer shown do not take away from others. The
        null, and `difference` to it, is the arm that keeps as many at random (`matched_on` "facts kept at random"), of the same seeds;
        of this arm itself, and where there is none, it is facts of the same law that were never shown ("facts never shown"). Intervals
        over seeds are Student's t, p is of the paired t-test, corrected in `q_value` for all rows of a quantity. With one seed
        intervals are over facts, and p of an arm beside another is nan.

    Raises:
        SignatureError: If the signature is of another corpus, not over steps, or the step was not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds.

    Source:
        arXiv 2604.08519.
    """
    from localize.analysis.tables import table_of

    sets, draws = sets_of(signature, SOURCE), Draws(seed, resamples)
    warn_of_few_seeds(min(one.trainings.seeds for one in sets), alone="intervals are over facts")
    steps = sets[0].trainings.steps
    places = range(len(steps)) if step is None else [sets[0].trainings.at(step)]
    rows = [row for at in places for row in facts_rows(sets, at, draws)]
    correct_by_quantity(rows)
    return table_of(rows, INDEX, OWN)


def facts_rows(sets: list[OfSet], at: int, draws: Draws) -> Iterator[Row]:
    """All quantities of all arms at one of the measured steps."""
    for one in sets:
        if not np.array_equal(one.trainings.steps, sets[0].trainings.steps):
            raise SignatureError(f"{caller()}: the arms were measured at different steps.")
        beside = next((other for other in sets if other is not one and selected_by(other) == "random"), None)
        if selected_by(one) == "random":
            beside = None
        kept, step = kept_by(one), int(one.trainings.steps[at])
        about: dict[str, Any] = {"arm": one.arm, "step": step, "kept": kept, "selected_by": selected_by(one)}
        about |= {"rows": one.rows, "parameters": one.parameters} | one.trainings.labels
        for quantity in (KNOWN, ACCURACY, PER_PARAMETER):
            yield about | {"quantity": quantity} | _row(one, beside, quantity, at, draws)


def kept_by(one: OfSet) -> int:
    """How many facts the last stage shows."""
    return int((one.told["kept"] or [{}])[-1].get("keep") or one.rows)


def selected_by(one: OfSet) -> str:
    """By what they were selected; "" if all are shown."""
    return str((one.told["kept"] or [{}])[-1].get("select", ""))


def values_of(one: OfSet, quantity: str, at: int) -> Float[np.ndarray, "seed paragraph"]:
    """What the mean over all facts of the set is of; of facts never shown as if each of them stood for all alike."""
    if quantity == PER_PARAMETER:
        return np.maximum(one.bits[:, at], 0.0) * one.rows / one.parameters
    known = one.whole[:, at].astype(float)
    if quantity == KNOWN:
        return known * one.rows
    weight = np.ones(known.shape[1])
    weight[one.shown] = np.arange(1, one.rows + 1) ** -float(one.told["exponent"])
    weight[one.shown] *= one.rows / weight[one.shown].sum()
    return known * weight


def _row(one: OfSet, beside: OfSet | None, quantity: str, at: int, draws: Draws) -> Row:
    """A quantity beside the same of the arm that keeps facts at random, or of facts never shown, and the difference."""
    values, shown, seeds = values_of(one, quantity, at), one.shown, one.trainings.seeds
    possible = {KNOWN: Range(0, one.rows), ACCURACY: ZERO_TO_ONE}.get(quantity, UNBOUNDED)
    row = row_of_set(one, values, draws, possible)
    own = values[:, shown].mean(1)
    if beside is None:
        less = own - values[:, one.trainings.held_out].mean(1)
        return row | {"matched_on": NEVER} | _ends(less)
    others = values_of(beside, quantity, at)
    less = pair_differences(own, others[:, beside.shown].mean(1))
    null = mean_over(others, beside.shown, beside.trainings.clusters, draws, possible)
    held_against = Null.measured(null, seed_test(less) if seeds > 1 else np.nan)
    told = {
        "null": float(held_against.mean), "null_mean_low": float(null.low), "null_mean_high": float(null.high),
        "p_value": float(held_against.p_value), "matched_on": RANDOM,
    }  # fmt: skip
    return row | told | _ends(less)


def _ends(less: Float[np.ndarray, " seed"]) -> Row:
    """The columns of a difference, over seeds; of one seed without ends."""
    found = seed_interval(less)
    return dict(zip(DIFFERENCE, map(float, (found.estimate, found.low, found.high)), strict=True))
