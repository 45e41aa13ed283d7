"""The words for axes and weights that every file uses, so that arrays meet by name."""

from collections.abc import Iterable
from typing import Final

ATTENTION_COMPONENTS: Final = ("W_Q", "W_K", "W_V", "W_O")
"""Weights that divide into heads."""

MLP_COMPONENTS: Final = ("W_in", "W_out")

COMPONENTS: Final = (*ATTENTION_COMPONENTS, *MLP_COMPONENTS)
"""The weights of one block, biases and layer norms left out, in the order of every `component` axis."""

MEMORIZED: Final = "memorized"
NOT_MEMORIZED: Final = "not_memorized"
PARTIAL: Final = "partial"

RECALL_GROUPS: Final = (MEMORIZED, PARTIAL, NOT_MEMORIZED)
"""Groups that follow from exact match: all tokens right, between, at most 20 % right."""

TRUE: Final = "true"
OWN: Final = "own"

CONTINUATIONS: Final = (TRUE, OWN)
"""A paragraph's own text, or what the model says greedily after its prefix."""


def ordered_groups(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, those of recall first, from most to least memorized, the others by the alphabet."""
    present = set(names)
    return (*(g for g in RECALL_GROUPS if g in present), *sorted(present - set(RECALL_GROUPS)))
