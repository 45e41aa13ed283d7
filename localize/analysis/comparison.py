"""`Comparison`: what two groups, or two sides of the same paragraphs, differ in; it prints, draws and exports."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.rise import compared_of
from localize.analysis.rows import COLUMNS
from localize.errors import LocalizeError, SignatureError
from localize.measurements import AXES
from localize.statistics import LEVEL, false_discovery
from localize.storage import replacing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NUMBERS = (
    "difference", "low", "high", "p_value", "q_value", "null_range_low", "null_range_high", "effect_size", "auc", "mean_a",
    "mean_b", "rough", "n", "clusters", "effective_clusters",
)  # fmt: skip
"""What is told of each cell."""

OWN = ("effect_size", "auc", "mean_a", "mean_b", "q_overall", "unit", "compared")
"""The columns of a comparison's table that others do not have."""

IN_TABLE = {"difference": "estimate"}
"""What a cell's numbers are called in the columns that all tables have, where the name is another."""

SUFFIXES = (".csv", ".parquet")
SHOWN = 20


class Comparison:
    """The difference of a and b in every cell of one variable or more, with interval, test and null. Frozen.

    Of two groups: `difference` is mean(a) - mean(b), `effect_size` Hedges' g, `auc` the probability that a paragraph of a has the
    larger value. Paired: the mean of after - before, in standard deviations of the pairs' differences, and the share of pairs
    that rise.

    Args:
        datasets: Per variable, in order: `difference`, `low`, `high`, `p_value`, `q_value`, `null_range_low`,
            `null_range_high`, `effect_size`, `auc`, `mean_a`, `mean_b`, `rough`, `n`, `clusters` and
            `effective_clusters` over its cells; attributes say what was compared and how.
        a: The one group, or what came after.
        b: What is subtracted from it.
        paired: Whether the same paragraphs are held against themselves.
    """

    __slots__ = ("_datasets", "a", "b", "paired")
    _datasets: "dict[str, xr.Dataset]"
    a: str
    b: str
    paired: bool

    def __init__(self, datasets: "Mapping[str, xr.Dataset]", a: str, b: str, *, paired: bool = False):
        own = {name: dataset.copy(deep=True) for name, dataset in datasets.items()}
        for dataset in own.values():
            for variable in dataset.variables.values():
                variable.values.flags.writeable = False
        for name, value in {"_datasets": own, "a": a, "b": b, "paired": paired}.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Comparison, paired=self.paired), (self._datasets, self.a, self.b)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a comparison is frozen; {name!r} cannot be set.")

    @property
    def variables(self) -> tuple[str, ...]:
        """What was compared, in the order of the signature or as asked."""
        return tuple(self._datasets)

    def __getitem__(self, name: str) -> "xr.Dataset":
        """The numbers of one variable over its cells."""
        if name not in self._datasets:
            raise SignatureError(f"comparison: no {name!r}; it holds {', '.join(self.variables)}.")
        copied = self._datasets[name].copy(deep=False)
        copied.attrs = dict(copied.attrs)
        return copied

    def __contains__(self, name: object) -> bool:
        return name in self._datasets

    def __len__(self) -> int:
        """Number of cells, of all variables together."""
        return sum(dataset["difference"].size for dataset in self._datasets.values())

    def to_dataframe(self, variable: str | None = None) -> "pd.DataFrame":
        """One row per cell, of one variable or of all.

        Returns:
            `variable`; `cell`, in words ("L1.H2, W_V", "layer 3, W_in"), empty where the variable is one number; `a`, `b`; a
            column for each axis, empty where the variable does not have it; the columns of all tables, `estimate` the difference;
            `effect_size`, `auc`, `mean_a`, `mean_b`; `q_overall`, Benjamini-Hochberg over all cells of all variables compared,
            whichever are asked for here; `unit`; and `compared`, "rise" (after - before a change) or "level".
        """
        import pandas as pd

        from localize.analysis.tables import ResultTable

        if variable is not None:
            self[variable]  # an unknown name is told
        tables = [_rows(dataset) for dataset in self._datasets.values()]
        axes = list(dict.fromkeys(axis for dataset in self._datasets.values() for axis in dataset["difference"].dims))
        order = ["variable", "cell", "a", "b", *axes, *COLUMNS, *OWN]
        if not tables:
            return ResultTable(columns=order)
        table = ResultTable(pd.concat(tables, ignore_index=True))
        table["q_overall"] = false_discovery(table["p_value"].to_numpy(dtype=float))
        table["a"], table["b"] = self.a, self.b
        table = table.loc[:, order]
        if variable is None:
            return table
        own = [str(axis) for axis in self._datasets[variable]["difference"].dims]
        kept = [name for name in order if name not in axes or name in own]
        return table.loc[table["variable"] == variable, kept].reset_index(drop=True)

    def strongest(self, count: int = SHOWN) -> "pd.DataFrame":
        """The rows of `to_dataframe` that stand out most: smallest `q_overall` first, among equals the largest |effect size|.

        They are chosen among all: their sizes are, on average, too large. `q_overall` allows for the choice.
        """
        if count < 1:
            raise LocalizeError(f"strongest: count={count} must be at least 1.")
        table = self.to_dataframe()
        size = table["effect_size"].abs().fillna(0.0)
        order = np.lexsort((-size.to_numpy(dtype=float), table["q_overall"].fillna(2.0).to_numpy(dtype=float)))
        return table.iloc[order[:count]].reset_index(drop=True)

    def save(self, path: str | Path) -> None:
        """Write `to_dataframe()` as .csv or .parquet; a killed save leaves the old file or the new one.

        Raises:
            LocalizeError: If the name ends in something else.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise LocalizeError(f"Comparison.save: {path} must end in {' or '.join(SUFFIXES)}.")
        table = self.to_dataframe()
        with replacing(path) as beside:
            if path.suffix == ".csv":
                table.to_csv(beside, index=False)
            else:
                table.to_parquet(beside, index=False)

    def counts(self) -> dict[str, int]:
        """How many cells there are, are tested, are discoveries over all cells (`q_overall` up to .05), and are rough."""
        p_values, rough = (
            np.concatenate([np.zeros(0), *(dataset[name].values.reshape(-1) for dataset in self._datasets.values())])
            for name in ("p_value", "rough")
        )
        return {
            "cells": len(p_values),
            "tested": int((~np.isnan(p_values)).sum()),
            "discoveries": int((false_discovery(p_values) <= LEVEL).sum()),
            "rough": int(rough.sum()),
        }

    def __repr__(self) -> str:
        n = self.counts()
        told = f"{n['discoveries']} of {n['tested']} cells differ at a false discovery rate of 5 %"
        kind = "paired; " if self.paired else ""
        return f"Comparison({self.a} - {self.b}: {kind}{told}; {n['rough']} rough; {', '.join(self.variables)})"

    def _repr_html_(self) -> str:
        from localize.analysis.comparison_html import comparison_html

        return comparison_html(self, SHOWN)


def cell_name(labels: Mapping[str, Any]) -> str:
    """A cell in words, from its label on each axis: "L1.H2, W_V", "layer 3, W_in", "position 12"; "" without axes.

    >>> cell_name({"layer": 1, "attention_component": "W_V", "head": 2})
    'L1.H2, W_V'
    """
    rest, words = dict(labels), []
    if "layer" in rest and "head" in rest:
        words.append(f"L{rest.pop('layer')}.H{rest.pop('head')}")
    elif "layer" in rest:
        words.append(_counted("layer", rest.pop("layer")))
    return ", ".join(words + [_counted(axis, label) for axis, label in rest.items()])


def _counted(axis: str, label: Any) -> str:
    """A place along an axis: a number as the axis has it, a name as it is."""
    known = AXES.get(axis)
    if known is not None and known.counted is not None:
        return known.counted.format(label)
    return label if isinstance(label, str) else f"{known.words if known else axis} {label}"


def _rows(dataset: "xr.Dataset") -> "pd.DataFrame":
    """One row per cell of a variable."""
    import pandas as pd

    dims = [str(dim) for dim in dataset["difference"].dims]
    labels = {
        dim: dataset[dim].values if dim in dataset.coords else np.arange(size)
        for dim, size in dataset["difference"].sizes.items()
    }
    at = np.indices(dataset["difference"].shape).reshape(len(dims), dataset["difference"].size)
    columns = {dim: labels[dim][index] for dim, index in zip(dims, at, strict=True)}
    cells = [dict(zip(dims, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    count = dataset["difference"].size
    told = {"variable": dataset.attrs["variable"], "unit": dataset.attrs["unit"], "compared": compared_of(dataset)}
    table = pd.DataFrame({name: [text] * count for name, text in told.items()})
    table["cell"] = [cell_name(cell) for cell in cells] if dims else [""]
    for dim, values in columns.items():
        # Whole numbers stay whole where other variables lack the axis.
        table[dim] = pd.array(values, dtype="Int64") if values.dtype.kind in "iu" else values
    for name in NUMBERS:
        table[IN_TABLE.get(name, name)] = dataset[name].values.reshape(-1)
    table["rough"] = table["rough"].astype("boolean")
    return table.assign(null=0.0, null_mean_low=np.nan, null_mean_high=np.nan, matched_on="")
