"""How many bits of a set of random rows a model holds.

Of N rows of S uniform tokens a model that knows nothing needs N (S - 1) log2 V bits, the first token of a row apart, which nothing
predicts. A model that knows the set by heart needs log2 c bits for each of c rows that begin alike, which nobody can tell apart by their
first token: all of the data's bits are the former less the latter. The bits that it saves on the rows it was shown are memory and
nothing else, since the law leaves nothing to be learned: a lower bound of what it holds, because a memory need not show in the
probability of each token. *Capacity* is the most that any N reaches; what training did not reach in the steps it had is not in it, so the
curve over steps stands beside. Null: as many rows of the same law that were never shown, of which a model knows nothing, and by trusting
what it memorized less than nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.draws import Draws
from localize.analysis.rows import Row
from localize.analysis.seed_rows import correct_by_quantity, row_beside
from localize.analysis.sets import OfSet, sets_of, widened
from localize.analysis.trainings import warn_of_few_seeds
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, Interval, Range

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

SOURCE = "uniform"
BITS, PER_PARAMETER, SHARE = "bits", "bits per parameter", "share of the data's bits"
INDEX = ("arm", "rows", "dtype", "parameters", "step", "quantity")
OWN = ("data_bits", "data_bits_per_parameter", "unit", "seeds")


@public
def capacity_table(
    signature: "MemorizationSignature", step: int | None = None, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """How many bits of a set of uniform random rows a model holds, by how many rows there are, over the steps of its training.

    Args:
        signature: Over training, of a recipe with `[corpus] source = "uniform"`; with `training_arm` of all arms.
        step: Steps of training after which it was measured; -1 for the last, None for all of them.
        seed: Of bootstrap and permutation, with one seed of the training.
        resamples: Draws of each.

    Returns:
        Indexed by `arm` ("" without arms), `rows`, `dtype`, `parameters`, `step` and `quantity`, columns as in `dose_table`, without
        windows, and `data_bits`, all that can be known of the set, and `data_bits_per_parameter`. Quantities: "bits" of the whole set,
        a lower bound, at most `data_bits`, below 0 where the model does worse than the law; "bits per parameter"; "share of the data's
        bits" (1: the set is known wholly). Null: the same of as many rows that were never shown. Intervals over seeds are Student's t;
        where only a sample of the rows was measured, it stands for all, and they are wider by what other samples would give. p is of
        the paired t-test over seeds, corrected in `q_value` for all rows of a quantity. With one seed interval and p are over the rows.

    Raises:
        SignatureError: If the signature is of another corpus, not over steps, or the step was not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds.

    Source:
        Morris et al. 2025 (arXiv 2505.24832), section 3.
    """
    from localize.analysis.tables import table_of

    sets, draws = sets_of(signature, SOURCE), Draws(seed, resamples)
    warn_of_few_seeds(min(one.trainings.seeds for one in sets), alone="intervals are over rows of the set")
    rows = [row for one in sets for at in steps_of(one, step) for row in capacity_rows(one, at, draws)]
    correct_by_quantity(rows)
    return table_of(rows, INDEX, OWN)


def steps_of(one: OfSet, step: int | None) -> list[int]:
    """The places of the steps that are told."""
    return list(range(len(one.trainings.steps))) if step is None else [one.trainings.at(step)]


def capacity_rows(one: OfSet, at: int, draws: Draws) -> Iterator[Row]:
    """All quantities of one arm at one of its measured steps."""
    total, bits = one.data_bits, one.bits[:, at]
    about = one.labels | {"step": int(one.trainings.steps[at])} | one.trainings.labels
    about |= {"data_bits": total, "data_bits_per_parameter": total / one.parameters}
    for quantity, values in (
        (BITS, bits * one.rows), (PER_PARAMETER, bits * one.rows / one.parameters), (SHARE, bits * one.rows / total),
    ):  # fmt: skip
        yield about | {"quantity": quantity} | row_of_set(one, values, draws)


def row_of_set(
    one: OfSet, values: Float[np.ndarray, "seed paragraph"], draws: Draws, possible: Range = UNBOUNDED
) -> Row:
    """A mean over the rows of a set beside that of rows that were never shown."""
    trainings, shown = one.trainings, one.shown
    if not trainings.held_out.any():
        raise SignatureError(f"{caller()}: no row that was never shown was measured; held_out of at least 1 is needed.")
    row = row_beside(values, shown, trainings.held_out, trainings.clusters, draws, possible, matched_on="law")
    if trainings.seeds > 1:
        ends = Interval(*(np.array(row[end]) for end in ("estimate", "low", "high")))
        wide = widened(ends, values[:, shown].mean(0), one.rows, trainings.seeds).within(possible)
        row |= {"low": float(wide.low), "high": float(wide.high)}
    return row
