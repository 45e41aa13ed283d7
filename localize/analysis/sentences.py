"""A row of a table in one sentence: the words that its interval and its test support, with the numbers that they rest on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from localize.analysis.rows import DIFFERENCE, Row, is_rough, side
from localize.statistics import LEVEL

Part = Literal["estimate", "difference", "null"]
Correction = Literal["p_value", "q_value"]

NOT_KNOWN = "not known: not measured, or too few clusters"

ENDS: dict[Part, tuple[str, str, str]] = {
    "estimate": ("estimate", "low", "high"),
    "difference": DIFFERENCE,
    "null": ("estimate", "low", "high"),
}
"""Which numbers of a row a sentence is about."""


@dataclass(frozen=True)
class Wording:
    """What is said of a row, by what its numbers support; names in braces are filled in.

    Attributes:
        above: Significantly above 0, or above the null.
        below: Significantly below.
        neither: Neither.
        unknown: There is no interval, or no test where one is asked for.
    """

    above: str
    below: str
    neither: str
    unknown: str = NOT_KNOWN

    def words(self, decided: int | None) -> str:
        """The words of a decision, as `decision` makes it."""
        return {1: self.above, -1: self.below, 0: self.neither, None: self.unknown}[decided]


def decision(row: Row, part: Part = "estimate", p: Correction = "p_value") -> int | None:
    """Which side a row's number lies on: 1 above, -1 below, 0 not significant at .05, None not known.

    Args:
        row: With the columns of all tables.
        part: "estimate" or "difference" asks both the 95 % interval, beside 0, and the p-value; an interval from few clusters can
            miss 0 where no test could reject it. The interval alone is asked where there is no p-value. "null" asks the p-value
            alone, and on which side of the null's mean the estimate lies.
        p: "p_value", or "q_value" where it is one of many.
    """
    if part == "null":
        if np.isnan(row[p]) or np.isnan(row["estimate"]) or np.isnan(row["null"]):
            return None
        return 0 if row[p] > LEVEL else int(np.sign(row["estimate"] - row["null"]))
    _, low, high = ENDS[part]
    return side(row[low], row[high], row[p])


def sentence(
    row: Row,
    wording: Wording,
    *,
    part: Part = "estimate",
    p: Correction = "p_value",
    unit: str = "",
    **names: Any,
) -> str:
    """What a row says, and the numbers that say it.

    >>> row = {"estimate": -0.2, "low": -0.3, "high": -0.1, "p_value": 0.004, "n": 245, "clusters": 96, "rough": False}
    >>> sentence(row, Wording("{a} is higher", "{a} is lower", "no significant difference"), a="memorized")
    'memorized is lower (-0.2 [-0.3, -0.1], p = 0.004; 245 paragraphs in 96 clusters)'

    Args:
        row: With the columns of all tables.
        wording: What can be said.
        part: What is decided by; see `decision`.
        p: Which p-value decides, and is printed.
        unit: Of the number.
        names: What stands in the wording's braces.
    """
    words = wording.words(decision(row, part, p)).format(**names)
    numbers = _numbers(row, part, p, unit)
    return f"{words} ({numbers})" if numbers else words


def _numbers(row: Row, part: Part, p: Correction, unit: str) -> str:
    """ "-0.2 [-0.3, -0.1] nats, p = 0.004; 245 paragraphs in 96 clusters; rough"; nothing where nothing was measured."""
    estimate, low, high = (row[name] for name in ENDS[part])
    if np.isnan(estimate):
        return ""
    interval = "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"
    told = f"{estimate:.3g}{interval}{' ' * bool(unit)}{unit}"
    if part == "null" and not np.isnan(row["null"]):
        told += f", null {row['null']:.3g}"
    if not np.isnan(row[p]):
        told += f", {p[0]} {'< 0.001' if row[p] < 0.001 else f'= {row[p]:.3f}'}"
    basis = f"{row['n']} paragraphs in {row['clusters']} clusters"
    return "; ".join([told, basis, *(["rough"] if is_rough(row) else [])])
