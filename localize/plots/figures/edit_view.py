"""What figures show of an edit: its paragraphs, what they are to it, and which continuation each is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.change import Change, Pooled
from localize.axes import FORGET, KEPT, MEMORIZED, NEAR_DUPLICATE
from localize.plots.groups import Group
from localize.plots.theme import INK, NULL, group_style, plain

TRUE_MATCH, OWN_MATCH = "exact_match", "reference_exact_match"
RECITED = (FORGET, NEAR_DUPLICATE, f"{KEPT}_{MEMORIZED}", MEMORIZED)
"""Who is asked for the true continuation; all others for what the unedited model says, which that recites in full."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star")
"""Of edits; those of controls are open."""

Table = dict[Any, dict[str, Any]]
"""Rows of `edit_table` by edit, quantity and group."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit, its repetitions one below the other.

    Attributes:
        name: As it was given.
        words: As it is shown.
        symbol: Its marker.
        colour: `#rrggbb`.
        rows: All paragraphs of all repetitions.
        groups: What they are to the edit, as far as there are any.
        length: Tokens of a continuation.
    """

    name: str
    words: str
    symbol: str
    colour: str
    rows: Pooled
    groups: dict[str, Group]
    length: int

    @classmethod
    def of(cls, name: str, given: Sequence[Change], place: int, roles: tuple[str, ...], *, control: bool) -> "Edit":
        """All of these changes, with the symbol of a place among the edits."""
        rows, groups = Pooled.of(given), {}
        for role in roles:
            inside = rows.group == role
            if inside.any():
                groups[role] = Group(role, plain(role), *group_style(role, roles), inside, rows.clusters[inside])
        length = max(int(change.before.dataset.attrs["paragraphs"]["continuation_length"]) for change in given)
        symbol = SYMBOLS[place % len(SYMBOLS)]
        look = (f"{symbol}-open", NULL) if control else (symbol, INK)
        return cls(name, plain(name), *look, rows, groups, length)

    def match(self, role: str) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Exact match of every row before and after, of the continuation that the role is asked for."""
        which = self.rows.quantities.index(TRUE_MATCH if role in RECITED else OWN_MATCH)
        before, after = self.rows.values[:, :, which]
        return before, after

    def repetitions(self) -> Float[np.ndarray, "repetition 2"]:
        """What each repetition leaves of the forget set, and what it changes in the memorized paragraphs; nan without any."""
        left, (before, after) = self.match(FORGET)[1], self.match(MEMORIZED)
        number = self.rows.repetition
        return np.array(
            [
                [
                    _mean(left, self.groups[FORGET].rows & there),
                    _mean(after - before, self.groups[MEMORIZED].rows & there),
                ]
                for there in (number == each for each in range(number.max() + 1))
            ]
        )


def _mean(values: Float[np.ndarray, " row"], chosen: Bool[np.ndarray, " row"]) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")
