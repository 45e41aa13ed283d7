"""The tables that a training has, in the order in which they tell of it: one list for the terminal and the report."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from localize.analysis.arms import arm_table
from localize.analysis.capacity import capacity_table
from localize.analysis.counterfactual import counterfactual_table
from localize.analysis.dose import dose_table
from localize.analysis.early_signs import early_signs
from localize.analysis.facts import facts_table
from localize.analysis.forgetting import forgetting_table
from localize.analysis.loss_change import loss_change_table
from localize.analysis.membership import membership_table
from localize.analysis.recital import recital_table
from localize.analysis.rows import DIFFERENCE
from localize.analysis.sinks import has_sinks, sink_table
from localize.analysis.stored_units import HELD, LOW_HALF
from localize.analysis.trainings import Design, design_of, parts_told
from localize.analysis.unit_dynamics import ALIKE, KEPT, LESS_TWIN, UnitDynamics, unit_dynamics_table

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature


class TrainingTable(NamedTuple):
    """One table: its name, what it tells, the arm that it is of, "" of none, and what makes it."""

    name: str
    title: str
    arm: str
    make: "Callable[..., pd.DataFrame]"


def _longest(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """AUCs behind the whole prefix and of the longest n-grams alone."""
    return membership_table(signature, every=False, seed=seed)


def _by_block(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """Loss change of attention and MLP of each layer; nothing of it is drawn from a seed."""
    return loss_change_table(signature, by="block").droplevel("head")


def _of_units(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """What tells units of planted texts from those of others, when they were last shown and in the end."""
    table = unit_dynamics_table(signature, seed=seed)
    dynamics = UnitDynamics.of(signature)
    steps = {int(dynamics.trainings.steps[dynamics.last_shown(level.window)]) for level in dynamics.levels()}
    step, copies, layer = (table.index.get_level_values(name).to_numpy() for name in ("step", "copies", "layer"))
    quantity = table.index.get_level_values("quantity").to_numpy()
    named = {name.format(dynamics.units) for name in (ALIKE, *(name + LESS_TWIN for name in (KEPT, HELD, LOW_HALF)))}
    told = np.isin(step, list(steps)) & (copies > 0) & (layer < 0) & np.isin(quantity, list(named))
    told &= (table["estimate"] != table["null"]).to_numpy()  # not what is kept at the step by which it is told
    return table[told].droplevel("layer").drop(columns=list(DIFFERENCE))  # pyright: ignore[reportReturnType]


def _of_sinks(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """The seed is of no bootstrap here."""
    return sink_table(signature)


TABLES: "dict[Design, tuple[tuple[str, str, Callable[..., pd.DataFrame]], ...]]" = {
    "arms": (("arms", "Variants of the training beside the first", arm_table),),
    "planted": (
        ("dose", "What copies taught, by when they were shown", dose_table),
        ("recital", "When texts were first recited whole", recital_table),
        ("forgetting", "What is left after the last time", forgetting_table),
        ("early-signs", "What told early which texts would be learned", early_signs),
    ),
    "halves": (("counterfactual", "What texts' own rows do for them", counterfactual_table),),
    "capacity": (("capacity", "How many bits are held", partial(capacity_table, step=-1)),),
    "facts": (("facts", "How many facts are known", facts_table),),
}


def training_tables(signature: "MemorizationSignature") -> Iterator[TrainingTable]:
    """All tables of a signature over training; of several arms the one of all, and then those of each."""
    for arm, part in parts_told(signature).items():
        for name, title, make in TABLES[design_of(part)]:
            yield TrainingTable(name, title, arm, partial(make, part))
        if design_of(part) == "arms" and "sink_nll" in part and has_sinks(part):
            yield TrainingTable(
                "sinks", "What is left of planted texts without memorization sinks", arm, partial(_of_sinks, part)
            )
        if design_of(part) == "planted" and "loss_change" in part:
            yield TrainingTable(
                "loss-change", "Which weights took texts in, and let them go", arm, partial(_by_block, part)
            )
        if design_of(part) == "planted" and "min_k" in part:
            title = "Which metric tells planted texts from held-out ones"
            yield TrainingTable("membership", title, arm, partial(_longest, part))
        if design_of(part) == "planted" and "unit_score" in part and "training_run" in part.over_training:
            yield TrainingTable("units", "Where units appear, move and vanish", arm, partial(_of_units, part))
