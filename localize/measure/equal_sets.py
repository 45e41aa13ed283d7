"""Sets of equal size: what the gradient of a group's mean NLL is depends on how many paragraphs are in the mean.

Paragraphs cancel in it, the more the more there are: the same text in a small set has a larger set-level gradient than in a large one.
Only sets of one size compare.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from localize.errors import LocalizeError, caller
from localize.keyed import keyed_integer

EQUAL, ALL = "equal", "all"
SET_SIZES = (EQUAL, ALL)
"""As many paragraphs of each group as the smallest has; or all of each, as in the paper, which compares within a group only."""

KEYS = 2**32


@dataclass(frozen=True, eq=False)
class Sets:
    """Disjoint sets of paragraphs of each group.

    Attributes:
        names: The groups, in the order in which they appear.
        group: Of each set, as an index into the names.
        of: The set of each paragraph; -1 for none.
    """

    names: tuple[str, ...]
    group: Int[np.ndarray, " drawn_set"]
    of: Int[np.ndarray, " paragraph"]

    @classmethod
    def none(cls, paragraphs: int) -> "Sets":
        """No set of any group."""
        return cls((), np.zeros(0, dtype=np.int64), np.full(paragraphs, -1))

    @property
    def sizes(self) -> Int[np.ndarray, " drawn_set"]:
        """Paragraphs of each set."""
        return np.bincount(self.of[self.of >= 0], minlength=len(self.group))

    def rows(self, drawn: int) -> Int[np.ndarray, " member"]:
        """The paragraphs of one set."""
        return np.flatnonzero(self.of == drawn)

    def arrays(self) -> dict[str, Int[np.ndarray, " set"]]:
        """How many paragraphs the sets of each group hold, and how many sets there are of it."""
        of_groups = [self.drawn(name) for name in self.names]
        return {
            "set_size": np.array([self.sizes[drawn[0]] for drawn in of_groups]),
            "set_count": np.array([len(drawn) for drawn in of_groups]),
        }

    def drawn(self, name: str) -> list[int]:
        """The sets of one group."""
        return np.flatnonzero(self.group == self.names.index(name)).tolist()


def sets_of(
    groups: Shaped[np.ndarray, " paragraph"],
    hashes: "tuple[bytes, ...]",
    *,
    sizes: str,
    draws: int,
    seed: int,
) -> Sets:
    """The sets of some groups.

    With "equal" each group gives as many disjoint random sets of the smallest group's size as it has paragraphs for, at most
    `draws`. Whether a paragraph comes before another follows from the seed and the two texts.

    Args:
        groups: The group of each paragraph.
        hashes: Of their texts.
        sizes: "equal" or "all".
        draws: Sets of each group at most, at least 1.
        seed: Of the order in which paragraphs are drawn.

    Raises:
        LocalizeError: If `sizes` is another word, or `draws` below 1.
    """
    if sizes not in SET_SIZES:
        raise LocalizeError(f"{caller()}: set_sizes={sizes!r} is not one of {', '.join(SET_SIZES)}.")
    if draws < 1:
        raise LocalizeError(f"{caller()}: set_draws={draws} must be at least 1.")
    names = tuple(dict.fromkeys(str(name) for name in groups))
    members = [np.flatnonzero(groups == name) for name in names]
    smallest = min((len(rows) for rows in members), default=0)
    of, group = np.full(len(groups), -1), []
    for index, rows in enumerate(members):
        if sizes == ALL:
            parts = [rows]
        else:
            keys = [keyed_integer(KEYS, seed, hashes[row], "set") for row in rows]
            ordered = rows[np.argsort(keys, kind="stable")]
            parts = [ordered[i * smallest : (i + 1) * smallest] for i in range(min(draws, len(rows) // smallest))]
        for part in parts:
            of[part] = len(group)
            group.append(index)
    return Sets(names, np.array(group, dtype=np.int64), of)
