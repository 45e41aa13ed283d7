"""Tables of one shape: every analysis gives its estimate, interval, null, test and what they rest on in the same columns."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from localize.analysis.rows import COLUMNS, Row

NULL_END = "null_mean_{0} (interval of the null's mean) or null_range_{0} (central 95 % of the null)"
OF_AUC, OF_GAIN = "{} in the rows of the AUC", "{} in the rows of the gain in AUC"

RENAMED = {
    "null_low": NULL_END.format("low"),
    "null_high": NULL_END.format("high"),
    "paragraphs": "n",
    "change": "estimate",
    "difference": "estimate",
    "auc": OF_AUC.format("estimate"),
    "gain": OF_GAIN.format("estimate"),
    "gain_low": OF_GAIN.format("low"),
    "gain_high": OF_GAIN.format("high"),
    "gain_null": OF_GAIN.format("null"),
    "gain_null_low": OF_GAIN.format("null_range_low"),
    "gain_null_high": OF_GAIN.format("null_range_high"),
    "gain_p_value": OF_GAIN.format("p_value"),
}
"""What a column that a table had by another name is called."""


class ResultTable(pd.DataFrame):
    """A data frame whose columns, asked for by a name that they had, say what they are called now."""

    @property
    def _constructor(self) -> type["ResultTable"]:
        return ResultTable

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except KeyError:
            asked = [key] if isinstance(key, str) else key if isinstance(key, list) else []
            for name in asked:
                if name not in self.columns and name in RENAMED:
                    raise KeyError(f"{name!r} is called {RENAMED[name]} now") from None
            raise


def table_of(rows: Iterable[Row], index: Sequence[str], own: Sequence[str] = ()) -> ResultTable:
    """Rows as a table: indexed by what they are of, then the columns that all tables have, then the table's own."""
    table = ResultTable(list(rows), columns=[*index, *COLUMNS, *own])
    table["rough"] = table["rough"].astype("boolean")
    return ResultTable(table.set_index(list(index)))
