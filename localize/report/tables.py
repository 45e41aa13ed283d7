"""Tables as a page shows and sorts them, and as a file of comma-separated values holds them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localize.report.literal import cut, readable

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "·"
"""Stands where there is no number."""

LONGEST_CELL = 400
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes as the beginning of a formula."""


@dataclass(frozen=True)
class TableCell:
    """What a table shows at one place.

    Attributes:
        text: As it is read.
        value: What it is sorted by, as a number; nan where there is none, None of text.
    """

    text: str
    value: float | None = None

    @property
    def key(self) -> str:
        """The number to sort by; nothing for nan and for text."""
        return "" if self.value is None or math.isnan(self.value) else repr(float(self.value))


@dataclass(frozen=True)
class Column:
    """A head of a table.

    Attributes:
        head: Its words, with the unit.
        number: Whether numbers stand under it.
        wide: Whether sentences do.
    """

    head: str
    number: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        name: Part of its id and of its file's name.
        caption: What it is.
        columns: Its heads.
        rows: As many cells each.
        csv: The same numbers in full, as text of a file; "" where there is nothing to take away.
        note: What the reader should know of its numbers.
        folded: How many rows are shown at first; None is all.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    csv: str = ""
    note: str = ""
    folded: int | None = None


def text(value: object) -> TableCell:
    """A cell of words."""
    return TableCell(cut(readable(value), LONGEST_CELL))


def number(value: float, digits: int = 3) -> TableCell:
    """A cell with a number."""
    value = float(value)
    return TableCell(NOTHING if math.isnan(value) else signed(f"{value:,.{digits}f}"), value)


def count(value: int) -> TableCell:
    """A cell with a whole number."""
    return TableCell(f"{int(value):,}", float(value))


def small(value: float) -> TableCell:
    """Three digits, whatever the size of the number."""
    return TableCell(significant(float(value)), float(value))


def significant(value: float) -> str:
    """ "0.0312", "1.2e-07", "1,250"."""
    if math.isnan(value):
        return NOTHING
    return signed(f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}")


def between(middle: float, low: float, high: float, digits: int | None = 3, *, rough: bool = False) -> TableCell:
    """ "0.652 [0.645, 0.658]", sorted by its first number; "~[" of a rough interval, and nothing where there is none."""
    write = significant if digits is None else lambda value: number(value, digits).text
    ends = "" if math.isnan(low) or math.isnan(high) else f" {'~' * rough}[{write(low)}, {write(high)}]"
    return TableCell(write(float(middle)) + ends, float(middle))


def range_of(low: float, high: float) -> TableCell:
    """ "-0.01 to 0.02", sorted by its upper end."""
    return TableCell(NOTHING if math.isnan(low) else f"{significant(low)} to {significant(high)}", float(high))


def chance(value: float, *, rough: bool = False) -> TableCell:
    """A p- or q-value; "~" before a rough one."""
    told = NOTHING if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
    return TableCell("~" * (rough and not math.isnan(value)) + told, float(value))


def signed(written: str) -> str:
    """With a minus sign that is as wide as a plus; none before zero."""
    bare = written.removeprefix("-")
    return bare if not bare.strip("0.,") else written.replace("-", "−", 1) if written != bare else written


def group_words(group: str) -> str:
    """A group, or the difference of two, in words."""
    return group.replace("_", " ").replace(" - ", " − ")


def csv_of(frame: "pd.DataFrame", *, index: bool = True) -> str:
    """Comma-separated values in full precision; text that a spreadsheet would take for a formula begins with an apostrophe."""

    def literal(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        safe = value.encode("utf-8", "replace").decode("utf-8")
        return "'" + safe if safe.startswith(FORMULA) else safe

    whole = frame.reset_index() if index else frame
    return whole.map(literal).rename(columns=lambda name: literal(str(name))).to_csv(index=False, lineterminator="\r\n")


def rows_of(rows: Iterable[Sequence[TableCell]]) -> tuple[tuple[TableCell, ...], ...]:
    """Rows as a `Table` keeps them."""
    return tuple(tuple(row) for row in rows)
