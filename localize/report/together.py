"""Several runs side by side: what they share, one column each."""

import re
from collections.abc import Sequence

import pandas as pd

from localize.report.tables import NOTHING, Column, Table, TableCell, csv_of, group_words, rows_of, text

Numbers = dict[tuple[str, str], TableCell]
"""What one run tells, by quantity and group."""

SITE = re.compile(r"\b(of head|without head|head activation) (L\d+\.H\d+(?:\.\w+)?)$")
"""Which head or activation a quantity of the summary is of: chosen by each run for itself."""


def run_numbers(tables: Sequence[Table]) -> Numbers:
    """The numbers of a run's tables of groups, of the summary and of edits, by names that runs can share."""
    found: Numbers = {}
    for table in tables:
        kind = table.name.split("-", 1)[1]
        for row in table.rows:
            if kind == "groups":
                for column, cell in zip(table.columns[1:], row[1:], strict=True):
                    found[column.head, row[0].text] = cell
            elif kind == "summary":
                quantity, site = shared_name(row[0].text)
                found[quantity, row[1].text] = TableCell(
                    f"{site}: {row[2].text}" if site else row[2].text, row[2].value
                )
            elif kind == "edits":
                found[f"{row[0].text}: change of {row[1].text}", row[2].text] = row[5]
    return found


def shared_name(quantity: str) -> tuple[str, str]:
    """A quantity without the head or activation that this run chose, and that.

    >>> shared_name("rare-token score of head L1.H2")
    ('rare-token score of the strongest head', 'L1.H2')
    """
    found = SITE.search(quantity)
    if found is None:
        return quantity, ""
    words = {"of head": "of the strongest head", "without head": "without that head"}
    kept = words.get(found[1], "the strongest head activation")
    return quantity[: found.start()] + kept, found[2]


def side_by_side(runs: Sequence[tuple[str, Numbers]], unlike: str = "") -> Table | None:
    """What at least two of several runs tell, and what of it does not compare; None where there is nothing."""
    keys = list(dict.fromkeys(key for _, numbers in runs for key in numbers))
    shared = [key for key in keys if sum(key in numbers for _, numbers in runs) > 1]
    if len(runs) < 2 or not shared:
        return None
    missing = TableCell(NOTHING, float("nan"))
    rows = [[text(key[0]), text(group_words(key[1])), *(n.get(key, missing) for _, n in runs)] for key in shared]
    columns = (Column("quantity"), Column("group"), *(Column(name, True) for name, _ in runs))
    note = (
        "Estimates with their 95% intervals; each run's nulls and p-values stand in its own tables. Between runs nothing is tested. "
        "A head is the one that the run itself chose, on other clusters than those it is told on."
    )
    note += f" {unlike[:1].upper()}{unlike[1:]}." if unlike else ""
    frame = pd.DataFrame([[cell.text for cell in row] for row in rows], columns=[column.head for column in columns])
    return Table("together", "What the runs share", columns, rows_of(rows), csv_of(frame, index=False), note, 30)
