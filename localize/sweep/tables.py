"""What a sweep holds as long tables, one for each variable."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError
from localize.storage import replacing
from localize.sweep.joined import label

if TYPE_CHECKING:
    import xarray as xr


def write_tables(
    where: str,
    held: "Sequence[tuple[Mapping[str, Any], xr.Dataset, set[str]]]",
    folder: Path,
    variables: Sequence[str] | None,
    rows: int,
) -> list[Path]:
    """Write each variable as one long table, `rows` paragraphs at a time, with a column per axis, label and option of the grid.

    Args:
        where: What an error begins with.
        held: Of each finished cell what the store tells of it, what it holds with all labels, and the names that are its own.
        folder: Where `VARIABLE.parquet` is written.
        variables: Names; None takes all.
        rows: Paragraphs in memory at once.

    Returns:
        The files.

    Raises:
        LocalizeError: If no cell holds a variable.
    """
    there = dict.fromkeys(str(name) for _, dataset, own in held for name in dataset.data_vars if name in own)
    files = []
    for variable in variables or there:
        if variable not in there:
            raise LocalizeError(f"{where}: no finished cell holds {variable!r}; there are {', '.join(there)}.")
        files.append(
            _write(folder, variable, [(cell, dataset) for cell, dataset, own in held if variable in own], rows)
        )
    return files


def _write(folder: Path, variable: str, holders: "list[tuple[Mapping[str, Any], xr.Dataset]]", rows: int) -> Path:
    """One variable of all cells that hold it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    blank = {key: "" for cell, _ in holders for part in cell["axes"].values() for key in part}
    path, writer = folder / f"{variable}.parquet", None
    with replacing(path) as beside:
        for cell, dataset in holders:
            axes = blank | {k: str(label(v)) for part in cell["axes"].values() for k, v in part.items()}
            told = {"model": cell["model"], "paragraphs": cell["paragraphs"], "measure": cell["measure"]} | axes
            for table in _tables(dataset, variable, rows):
                frame = table.assign(**told)
                batch = pa.Table.from_pandas(frame[[*told, *table.columns]], preserve_index=False)
                if writer is None:
                    writer = pq.ParquetWriter(beside, batch.schema)
                writer.write_table(batch.cast(writer.schema))
        assert writer is not None  # a finished cell has paragraphs
        writer.close()
    return path


def _tables(dataset: "xr.Dataset", variable: str, rows: int) -> Any:
    """Long tables of a variable, a block of paragraphs each."""
    array = dataset[variable]
    if "paragraph" not in array.dims:
        yield array.to_dataframe(name=variable).reset_index()
        return
    labels = [name for name in ("group", "cluster", "duplicates") if name in dataset.coords]
    array = array.reset_coords(drop=True).assign_coords({name: dataset[name] for name in labels})
    for start in itertools.count(0, rows):
        if start >= array.sizes["paragraph"]:
            return
        part = array.isel(paragraph=slice(start, start + rows)).load()
        frame = part.to_dataframe(name=variable).reset_index()
        yield frame[[*map(str, array.dims), *labels, variable]]
