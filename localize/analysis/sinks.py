"""What a model trained with memorization sinks keeps of repeated texts without them, beside other ways of training.

- *gap*: the mean NLL of held-out paragraphs less that of the planted ones. How hard the texts are is in it, alike in all arms.
- *gap closed*: 1 less the gap over the standard run's of the same seed: 0 where dropping the sinks takes nothing away, 1 where the planted
  texts are no likelier than held-out ones. Null: the same of the run whose masks were drawn anew at each showing: no sink is a text's.
- *beyond each once*: the NLL of held-out paragraphs less that of the run that was shown each planted text once. Null: 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.arms import trainings_by_arm
from localize.analysis.choice import mean_measured
from localize.analysis.rows import DIFFERENCE, NO_NULL, Null, Row, differing, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import OWN, Trainings, array_in_run, warn_of_few_seeds
from localize.axes import FRESH, GATES, TRAINED
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, Range, pair_differences
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

REPEATED, HELD_OUT_NLL, GAP = "NLL, planted", "NLL, held-out", "gap"
CLOSED, BEYOND_ONCE = "gap closed", "held-out NLL beyond each once"
NO_SINKS = "no sinks"
"""What stands for the gate of a model that has none."""

AT_LEAST_0 = Range(0.0, np.inf)


@dataclass(frozen=True, eq=False)
class GatedNLL:
    """Mean NLL of one arm with one choice of its sinks, nats per token.

    Attributes:
        arm: Its name.
        gate: Which sinks are on.
        repeated: Of planted paragraphs.
        held_out: Of held-out ones.
        trainings: What was measured of the arm.
    """

    arm: str
    gate: str
    repeated: Float[np.ndarray, " seed"]
    held_out: Float[np.ndarray, " seed"]
    trainings: Trainings

    @property
    def gap(self) -> Float[np.ndarray, " seed"]:
        """How much likelier planted paragraphs are."""
        return self.held_out - self.repeated


@dataclass(frozen=True, eq=False)
class SinkArms:
    """The arms of a recipe by what they are for.

    Attributes:
        found: Every arm and gate, in their order.
        step: Steps of training after which it was measured.
        standard: The first arm without sinks whose texts were repeated.
        once: The arm without sinks that was shown each planted text once; None where there is none.
        control: The arm whose masks were drawn anew at each showing; None where there is none.
    """

    found: list[GatedNLL]
    step: int
    standard: GatedNLL
    once: GatedNLL | None
    control: str | None

    @classmethod
    def of(cls, signature: "MemorizationSignature", step: int = -1) -> "SinkArms":
        """From a signature over training with arms.

        Raises:
            SignatureError: If it has none, no arm has sinks or none does without, or nothing is planted or held out.
        """
        arms = trainings_by_arm(signature)
        told = signature.dataset.attrs.get("training", {}).get("arms", {})
        gating: dict[str, dict[str, Any]] = {arm: told.get(arm, {}).get("sinks", {}) for arm in arms}
        first = next(iter(arms.values()))
        first.need_held_out()
        if "sink_nll" not in signature or not any(gating.values()):
            raise SignatureError(
                f"{caller()}: no arm has memorization sinks that were measured; [sinks] in an arm of the recipe and watch measures = "
                '["recall", "sinks"] are needed.'
            )
        at = first.at(step)
        found = [one for arm, of in arms.items() for one in _gated(arm, of, at, bool(gating[arm]))]
        plain = [one for one in found if one.gate == NO_SINKS]
        repeated = [one for one in plain if one.trainings.copies.max() > 1 and not _always_new(one.trainings)]
        if not repeated:
            raise SignatureError(
                f"{caller()}: no arm without sinks whose texts were shown more than once; its gap is what is closed."
            )
        once = next((one for one in plain if one.trainings.copies.max() == 1), None)
        control = next((arm for arm, of in gating.items() if of and (not of["tied"] or of["foreign"])), None)
        return cls(found, int(first.steps[at]), repeated[0], once, control)

    def closed(self, one: GatedNLL) -> Float[np.ndarray, " seed"]:
        """The share of the standard run's gap that is gone; nan where that run has none."""
        gap = np.where(self.standard.gap > 0, self.standard.gap, np.nan)
        return 1 - one.gap / gap

    @property
    def gated(self) -> list[GatedNLL]:
        """Those of arms with sinks."""
        return [one for one in self.found if one.gate != NO_SINKS]

    def control_of(self, one: GatedNLL) -> GatedNLL | None:
        """The control with the same sinks on, unless it is that itself."""
        return next((of for of in self.found if of.arm == self.control != one.arm and of.gate == one.gate), None)


@public
def sink_table(signature: "MemorizationSignature", step: int = -1) -> "pd.DataFrame":
    """What memorization sinks did: NLL of planted and of held-out paragraphs by arm and gate, and the share of the gap that is closed.

    Args:
        signature: Over training with arms, some with `[sinks]`, at least one without whose texts are repeated, with the variables of
            `localize.sinks`: what a recipe leaves that watches `measures = ["recall", "sinks"]`.
        step: Steps of training after which it was measured; -1 for the last.

    Returns:
        Indexed by `training_arm`, `gate` ("no sinks", or as in `localize.sinks`) and `quantity` (see `localize.analysis.sinks`), columns as
        in `localize.arm_table`. NLL, gap and what lies beyond the arm shown each once are in nats per token, "gap closed" is a share,
        below 0 where the gap is larger, above 1 where planted texts are less likely than held-out ones. Each seed gives one number;
        intervals are Student's t over seeds, without ends where there is one. The null of NLL and gap is the standard arm's, that of "gap
        closed" the control's with the same sinks on, of the control itself 0; differences and p (t-test) are paired by seed. `q_value`
        corrects the p-values of a quantity.

    Raises:
        SignatureError: If there are no such arms, or the step was not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds.

    Source:
        Memorization sinks (arXiv 2507.09937); the control is ours.
    """
    from localize.analysis.tables import table_of

    arms = SinkArms.of(signature, step)
    warn_of_few_seeds(arms.standard.trainings.seeds, alone="there are no intervals")
    return table_of(sink_rows(arms), ("training_arm", "gate", "quantity"), (*DIFFERENCE, *OWN[2:]))


def has_sinks(signature: "MemorizationSignature") -> bool:
    """Whether some arm was trained with sinks and another, whose texts were repeated, without."""
    try:
        SinkArms.of(signature)
    except SignatureError:
        return False
    return True


def sink_rows(arms: SinkArms) -> list[Row]:
    """All quantities of all arms and gates, p-values of each quantity corrected."""
    rows = []
    for one in arms.found:
        about = {"training_arm": one.arm, "gate": one.gate} | one.trainings.labels
        for quantity, row in _quantities(arms, one):
            rows.append(about | {"quantity": quantity} | row)
    correct_by_quantity(rows)
    return rows


def _quantities(arms: SinkArms, one: GatedNLL) -> Iterator[tuple[str, Row]]:
    """Every number of one arm and gate."""
    standard = None if one is arms.standard else arms.standard
    yield REPEATED, _row(one, one.repeated, None if standard is None else standard.repeated, AT_LEAST_0)
    yield HELD_OUT_NLL, _row(one, one.held_out, None if standard is None else standard.held_out, AT_LEAST_0)
    yield GAP, _row(one, one.gap, None if standard is None else standard.gap)
    if one.gate != NO_SINKS:
        control = arms.control_of(one)
        nothing = np.zeros(len(one.gap)) if one.arm == arms.control else None
        yield CLOSED, _row(one, arms.closed(one), nothing if control is None else arms.closed(control))
    if arms.once is not None and one is not arms.once:
        yield BEYOND_ONCE, _row(one, one.held_out - arms.once.held_out, np.zeros(len(one.gap)))


def _row(
    one: GatedNLL,
    values: Float[np.ndarray, " seed"],
    null: Float[np.ndarray, " seed"] | None,
    possible: Range = UNBOUNDED,
) -> Row:
    """A number of each seed, beside that of the same seeds in another arm, or 0."""
    basis = one.trainings.basis(one.trainings.planted | one.trainings.held_out)
    interval = seed_interval(values).within(possible)
    if null is None:
        return row_of(interval, NO_NULL, basis) | dict.fromkeys(DIFFERENCE, np.nan)
    apart = pair_differences(values, null)
    p_value = seed_test(apart)
    if not null.any():
        return row_of(interval, Null(0.0, p_value=p_value), basis) | dict.fromkeys(DIFFERENCE, np.nan)
    beside = Null.measured(seed_interval(null).within(possible), p_value)
    return row_of(interval, beside, basis, matched_on="seed, paragraph") | differing(seed_interval(apart))


def _gated(arm: str, trainings: Trainings, at: int, sunk: bool) -> Iterator[GatedNLL]:
    """An arm by the sinks that are on; one without sinks once."""
    planted, held_out = trainings.planted, trainings.held_out
    if not sunk:
        nll = {NO_SINKS: trainings.nll[:, at]}
    else:
        array = array_in_run(trainings.dataset["sink_nll"], TRAINED)
        values = array.transpose("training_seed", "training_step", "paragraph", "gate").values.astype(float)
        nll = {gate: values[:, at, :, place] for place, gate in enumerate(GATES)}
    for gate, of in nll.items():
        yield GatedNLL(arm, gate, mean_measured(of[:, planted].T), mean_measured(of[:, held_out].T), trainings)


def _always_new(trainings: Trainings) -> bool:
    """Whether other texts were shown in the place of the planted ones."""
    kinds = trainings.dataset.coords.get("text_kind")
    return kinds is not None and bool((kinds.values[..., trainings.planted] == FRESH).all())
