"""What was asked of a run: which model, which paragraphs, which measurements with which options; and what made it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.measurements import MEASUREMENTS, REGISTRY
from localize.report.literal import cut, readable
from localize.report.tables import Column, Table, count, csv_of, group_words, number, rows_of, text
from localize.statistics import effective_clusters

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

SURROUNDINGS = ("dtype", "device", "threads", "threads_wait", "attention", "tf32", "batch_size", "versions")
"""What a call tells of the machine rather than of the question."""

LONGEST_OPTION = 300
SHOWN_SKIPPED = 20


def model_facts(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each fact of a model."""
    facts = [
        ("name", model["name"]),
        ("family", model["family"]),
        ("layers × heads", f"{model['layers']} × {model['heads']}"),
        ("width", f"{model['d_model']}"),
        ("weights", {"raw": "as they were trained", "folded": "layer norms folded, centred"}.get(str(model["weights"]), model["weights"])),
        ("weights hash", model["weights_hash"]),
    ]  # fmt: skip
    if model.get("revision"):
        facts.insert(1, ("revision", model["revision"]))
    if model.get("foreign_hooks"):
        facts.append(("hooks and modules of others", "; ".join(model["foreign_hooks"])))
    return [(name, option_words(value)) for name, value in facts]


def data_facts(dataset: "xr.Dataset") -> list[tuple[str, str]]:
    """Name and value of each fact of the paragraphs."""
    about, clusters = dataset.attrs["paragraphs"], dataset["cluster"].values
    distinct, effective = len(np.unique(clusters)), effective_clusters(clusters)
    near = "" if round(effective) >= distinct else f", effectively {effective:.1f}"
    skipped = len(about["skipped"])
    return [
        (name, option_words(value))
        for name, value in (
            ("source", about["source"]),
            ("paragraphs", f"{len(clusters):,}"),
            ("length", f"{about['prefix_length']} prefix + {about['continuation_length']} continuation tokens"),
            ("near-duplicate clusters", f"{distinct:,}{near}"),
            ("rows skipped", f"{skipped:,}" if skipped else "none"),
            ("data hash", about["data_hash"]),
        )
    ]


def skipped_rows(dataset: "xr.Dataset") -> list[str]:
    """What was said of the first rows that were left out, and how many more there are."""
    skipped = dataset.attrs["paragraphs"]["skipped"]
    told = [cut(readable(line), LONGEST_OPTION) for line in skipped[:SHOWN_SKIPPED]]
    return told + ([f"… and {len(skipped) - len(told):,} more"] if len(skipped) > len(told) else [])


def groups_table(signature: "MemorizationSignature", key: str, names: tuple[str, ...]) -> Table:
    """Each group's size and recall."""
    import pandas as pd

    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    length = dataset.attrs["paragraphs"]["continuation_length"]
    rows, numbers = [], []
    for name in names:
        chosen = group == name
        size, effective = int(chosen.sum()), effective_clusters(clusters[chosen])
        distinct = len(np.unique(clusters[chosen]))
        match, nll = (float(dataset[of].values[chosen].mean()) for of in ("exact_match", "nll"))
        rows.append(
            [text(group_words(name)), count(size), count(distinct), number(effective, 1), number(match, 1), number(nll)]
        )
        numbers.append([name, size, distinct, effective, match, nll])
    heads = ("group", "paragraphs", "clusters", "effective_clusters", "exact_match", "nll")
    columns = (
        Column("group"), Column("paragraphs", True), Column("near-duplicate clusters", True),
        Column("effective clusters", True), Column(f"mean exact match (of {length} tokens)", True),
        Column("mean NLL (nats per token)", True),
    )  # fmt: skip
    csv = csv_of(pd.DataFrame(numbers, columns=heads), index=False)
    which = dataset["exact_match"].attrs.get("continuation", "")
    note = f"Of the {which} continuation." if which else ""
    return Table(f"{key}-groups", "Groups", columns, rows_of(rows), csv, note)


def measurements_table(calls: list[dict[str, Any]], key: str) -> Table:
    """Every measurement with its options."""
    rows = [
        [text(_measured(call["measurement"])), text(call["measurement"]),
         text(call.get("continuation", "")), text(_options(call))]
        for call in calls
    ]  # fmt: skip
    columns = (Column("measured", wide=True), Column("function"), Column("continuation"), Column("options", wide=True))
    return Table(f"{key}-measurements", "Measurements and their options", columns, rows_of(rows))


def _measured(name: str) -> str:
    """A measurement in words."""
    return MEASUREMENTS[name].words if name in MEASUREMENTS else name


def left_out(calls: list[dict[str, Any]]) -> str:
    """What could have been measured and was not, in a sentence; "" where nothing was left out."""
    made = {"recall", *(call["measurement"] for call in calls)}  # recall comes with all others
    missing = [one.words for one in MEASUREMENTS.values() if one.asked and one.name not in made]
    return f"Not measured: {', '.join(missing)}." if missing else ""


def _options(call: Mapping[str, Any]) -> str:
    left = ("measurement", "continuation", *SURROUNDINGS)
    return ", ".join(f"{name} {option_words(value)}" for name, value in call.items() if name not in left)


def surroundings_table(calls: list[dict[str, Any]], key: str) -> Table:
    """On what each measurement was made, and with which versions."""
    rows = []
    for call in calls:
        versions = ", ".join(f"{name} {version}" for name, version in call.get("versions", {}).items())
        told = [f"{name} {option_words(call[name])}" for name in SURROUNDINGS[:-1] if name in call]
        rows.append([text(call["measurement"]), text(call.get("seed", "none")), text(", ".join(told)), text(versions)])
    columns = (Column("measurement"), Column("seed"), Column("computed with", wide=True), Column("versions", wide=True))
    return Table(f"{key}-provenance", "What computed it", columns, rows_of(rows))


def variables_table(signature: "MemorizationSignature", key: str) -> Table:
    """Every variable: its axes, unit, continuation and what it is."""
    dataset = signature.dataset
    rows = [
        [text(name), text(" × ".join(f"{dim} {size}" for dim, size in dataset[name].sizes.items())),
         text(REGISTRY[name].unit), text(dataset[name].attrs.get("continuation", "")), text(REGISTRY[name].description),
         text(REGISTRY[name].source)]
        for name in signature.variables
    ]  # fmt: skip
    heads = ("variable", "axes", "unit", "continuation", "what it is", "source")
    columns = tuple(Column(head, wide=head not in ("unit", "continuation")) for head in heads)
    return Table(f"{key}-variables", "Variables", columns, rows_of(rows))


def option_words(value: Any) -> str:
    """An option as it is read: a run of whole numbers as "0–49", nothing longer than a few lines.

    >>> option_words([0, 1, 2, 3, 7])
    '0–3, 7'
    """
    return cut(readable(_words(value)), LONGEST_OPTION)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_words(item)}" for name, item in value.items()) + ")"
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            return _runs([int(item) for item in value])
        return ", ".join(_words(item) for item in value) or "none"
    return str(value)


def _runs(numbers: list[int]) -> str:
    """Whole numbers, three or more that follow one another as their ends."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
