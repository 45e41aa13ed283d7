"""The tables that a training has, in the order in which they tell of it: one list for the terminal and the report."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from localize.analysis.arms import arm_table
from localize.analysis.counterfactual import counterfactual_table
from localize.analysis.dose import dose_table
from localize.analysis.early_signs import early_signs
from localize.analysis.forgetting import forgetting_table
from localize.analysis.loss_change import loss_change_table
from localize.analysis.membership import membership_table
from localize.analysis.recital import recital_table
from localize.analysis.trainings import Design, design_of

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


TABLES: "dict[Design, tuple[tuple[str, str, Callable[..., pd.DataFrame]], ...]]" = {
    "arms": (("arms", "Variants of the training beside the first", arm_table),),
    "planted": (
        ("dose", "What copies taught, by when they were shown", dose_table),
        ("recital", "When texts were first recited whole", recital_table),
        ("forgetting", "What is left after the last time", forgetting_table),
        ("early-signs", "What told early which texts would be learned", early_signs),
    ),
    "halves": (("counterfactual", "What texts' own rows do for them", counterfactual_table),),
}


def training_tables(signature: "MemorizationSignature") -> Iterator[TrainingTable]:
    """All tables of a signature over training; of several arms the one of all, and then those of each."""
    for arm, part in {"": signature, **signature.arms}.items():
        for name, title, make in TABLES[design_of(part)]:
            yield TrainingTable(name, title, arm, partial(make, part))
        if design_of(part) == "planted" and "loss_change" in part:
            yield TrainingTable(
                "loss-change", "Which weights took texts in, and let them go", arm, partial(_by_block, part)
            )
        if design_of(part) == "planted" and "min_k" in part:
            title = "Which metric tells planted texts from held-out ones"
            yield TrainingTable("membership", title, arm, partial(_longest, part))
