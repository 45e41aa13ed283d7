"""The Zarr store of a sweep: a group for each model and paragraph set, in it one for each measurement; who may write to it, and when.

A unit's numbers are written first and the unit is recorded last, by replacing one small file, so that the store can be read at
every moment and holds nothing that is called finished and is not.
"""

import asyncio
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.errors import LocalizeError, first_line
from localize.measure.labels import model_axes, paragraph_coords, paragraph_facts, windows
from localize.storage import only_writer, told_of_full_disk
from localize.sweep.lease import Lease

if TYPE_CHECKING:
    import xarray as xr
    import zarr

    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.sweep.bench import Outcome
    from localize.sweep.plan import Cell, ModelAndSet
    from localize.sweep.training_cells import TrainingCell

FORMAT = 1
MARK = "localize_sweep"
CHUNK_BYTES = 2**25
"""At most so many bytes a chunk, where a unit's rows can be divided."""


def is_remote(path: str) -> bool:
    """Whether it is a URL that fsspec opens: "s3://bucket/sweep.zarr"."""
    return "://" in path


class SweepStore:
    """A store opened for reading or, by `writing`, for writing.

    Args:
        path: A folder or a URL.

    Raises:
        LocalizeError: If there is no sweep, or one that another version of the format wrote.
    """

    def __init__(self, path: str | Path, *, make: bool = False, lease: Lease | None = None):
        import zarr

        self.path, self._lease = str(path), lease
        try:
            self.root = zarr.open_group(self.path, mode="r+" if make else "r", zarr_format=3)
        except FileNotFoundError:
            self.root = self._made() if make else self._absent()
        except (ValueError, KeyError, json.JSONDecodeError) as error:
            raise LocalizeError(f"sweep {self.path}: not readable as a Zarr group ({first_line(error)}).") from None
        made = self.root.attrs.get(MARK)
        if not isinstance(made, Mapping):
            raise LocalizeError(f"sweep {self.path}: a Zarr group, but not of a sweep; choose another --out.")
        if made.get("format") != FORMAT:
            raise LocalizeError(
                f"sweep {self.path}: made by localize {made.get('version')} in format {made.get('format')}; this version reads and "
                f"writes format {FORMAT}. Choose another --out, or read it with that version."
            )

    def _made(self) -> "zarr.Group":
        import zarr

        from localize import __version__

        if not is_remote(self.path):
            place = Path(self.path)
            if place.is_file() or (place.is_dir() and any(place.iterdir())):
                raise LocalizeError(f"sweep {self.path}: something else is there; a new or a sweep's folder is needed.")
        mark = {MARK: {"format": FORMAT, "version": __version__}}
        return zarr.create_group(self.path, zarr_format=3, attributes=mark)

    def _absent(self) -> "zarr.Group":
        raise LocalizeError(f"sweep {self.path}: no sweep is there.")

    def group(self, path: str) -> "zarr.Group | None":
        """A group of the store, if it is there."""
        import zarr

        try:
            found = self.root[path]
        except KeyError:
            return None
        return found if isinstance(found, zarr.Group) else None

    def told(self, path: str) -> dict[str, Any]:
        """What is recorded of a group, "" for the whole; nothing where it is not there."""
        group = self.group(path) if path else self.root
        return dict(group.attrs) if group is not None else {}

    def names(self, path: str) -> set[str]:
        """What a group holds, arrays and groups; nothing where it is not there."""
        group = self.group(path)
        with _unfinished_is_no_news():
            return set(map(str, group)) if group is not None else set()

    def recorded(self, cell: "Cell | TrainingCell", *, failed: bool) -> set[tuple[int, int]]:
        """The rows of a cell's finished units, and on request of those that raised."""
        told = self.told(cell.path)
        rows = [unit[:2] for unit in told.get("done", [])]
        rows += [failure["rows"] for failure in told.get("failed", [])] if failed else []
        return {(first, last) for first, last in rows}

    def describe(self, cells: "Sequence[Cell | TrainingCell]", document: Mapping[str, Any]) -> None:
        """Tell what this sweep is asked for: the cells that `open_sweep` shows, and the grid."""
        self.root.update_attributes(
            {"cells": [cell.about() for cell in cells], "grid": json.dumps(document, default=str)}
        )

    def prepare(self, pair: "ModelAndSet", model: "HookedModel", paragraphs: "Paragraphs") -> None:
        """Write who the paragraphs are, and the axes that all cells share; recall is filled in by its units."""
        if self.told(pair.path):
            return
        model_path, _ = pair.path.split("/")
        self.root.require_group(model_path)
        count = len(paragraphs)
        axes = {name: (name, values) for name, values in model_axes(model, paragraphs).items()}
        coords = {**paragraph_coords(paragraphs), **axes, "window": ("layer", windows(model))}
        parts = [
            RowsToWrite(name, (dims,) if isinstance(dims, str) else dims, values, {}, count, slice(None), count)
            for name, (dims, values) in coords.items()
        ]
        _write(self.root, pair.path, parts, {"model": pair.facts, "paragraphs": paragraph_facts(paragraphs)})

    def write(self, cell: "Cell | TrainingCell", outcome: "Outcome") -> None:
        """Write what a unit measured, then record that it is finished; or record what it raised."""
        if self._lease is not None:
            self._lease.check()
        rows = outcome.unit.rows
        before = self.told(cell.path)
        if not before:  # the group of a pair is there, that of a training's entry may not be
            self.root.require_group(cell.path.split("/")[0])
        attrs = before | {
            "cell": cell.about(),
            "failed": [failure for failure in before.get("failed", []) if tuple(failure["rows"]) != rows],
        }
        if outcome.dataset is None:
            failure = {"rows": list(rows), "error": outcome.error, "trace": outcome.trace, "where": outcome.where}
            _write(self.root, cell.path, [], attrs | {"failed": [*attrs["failed"], failure]})
            return
        dataset, count = outcome.dataset, outcome.unit.count
        names, parts = cell.own(dataset), []
        for name in names:
            variable = dataset[name].variable
            dims = tuple(map(str, variable.dims))
            at = slice(*rows) if "paragraph" in dims else slice(None)
            parts.append(RowsToWrite(name, dims, variable.values, variable.attrs, count, at, cell.block))
        attrs |= cell.attrs(dataset) | {
            "calls": before.get("calls") or dataset.attrs["calls"],
            "coords": sorted(name for name in names if name in dataset.coords),
            "done": sorted([*before.get("done", []), [*rows, round(outcome.seconds, 3), outcome.where]]),
        }
        _write(self.root, cell.path, parts, attrs)


@dataclass(frozen=True, eq=False)
class RowsToWrite:
    """Rows of an array that are to be written.

    Attributes:
        name: Of the array.
        dims: Its axes.
        values: Of the rows.
        attrs: Of the array, where it is made.
        count: Paragraphs of the whole set.
        rows: Where they go.
        block: Paragraphs of a unit.
    """

    name: str
    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any]
    count: int
    rows: slice
    block: int


def _write(root: "zarr.Group", path: str, parts: Sequence[RowsToWrite], attrs: Mapping[str, Any]) -> None:
    """Write parts of several arrays, and then what is recorded of their group.

    All is made in memory, and the files are written side by side: what is made in place looks at every group above it first.
    """
    from zarr.api.asynchronous import create_group
    from zarr.core.sync import sync
    from zarr.storage import MemoryStore

    async def all_parts() -> None:
        held: dict[str, Any] = {}
        memory = MemoryStore(held)
        await create_group(store=memory, zarr_format=3, attributes=dict(attrs))
        await asyncio.gather(*(_make(memory, part) for part in parts))
        record = held.pop("zarr.json")
        await asyncio.gather(*(root.store.set(f"{path}/{key}", value) for key, value in held.items()))
        await root.store.set(f"{path}/zarr.json", record)

    sync(all_parts())


async def _make(store: Any, part: RowsToWrite) -> None:
    """Make an array of which only some rows are there."""
    from zarr.api.asynchronous import create_array

    values, dims = part.values, part.dims
    text = values.dtype.kind in "UT"
    kind = np.dtypes.StringDType() if text else values.dtype
    fill: Any = "" if text else np.nan if values.dtype.kind == "f" else -1 if values.dtype.kind == "i" else 0
    along = [part.count if dim == "paragraph" else size for dim, size in zip(dims, values.shape, strict=True)]
    array = await create_array(
        store, name=part.name, shape=tuple(along), dtype=kind, chunks=_chunks(dims, values, part.block, text), fill_value=fill,
        dimension_names=list(dims), attributes=dict(part.attrs),
    )  # fmt: skip
    await array.setitem(part.rows, values.astype(kind, copy=False))


def _chunks(dims: tuple[str, ...], values: np.ndarray, block: int, text: bool) -> tuple[int, ...]:
    """Whole rows, as many of a unit's as fit; a unit's rows end where a chunk ends."""
    sizes = [max(1, size) for size in values.shape]
    if "paragraph" in dims:
        row = (2**9 if text else values.itemsize) * int(np.prod(sizes)) / max(1, values.shape[dims.index("paragraph")])
        parts = next((p for p in range(1, block + 1) if block % p == 0 and block / p * row <= CHUNK_BYTES), block)
        sizes[dims.index("paragraph")] = max(1, block // parts)
    return tuple(sizes)


@contextmanager
def writing(path: str | Path) -> Iterator[SweepStore]:
    """The store, made where it is not there, with nobody else writing to it.

    On a file system a lock that the operating system drops with the process; on an object store a lease that is renewed while
    the process lives and counts as left behind after two minutes.

    Raises:
        LocalizeError: If another process writes to it, the disk is full, or what is there is no sweep of this version.
    """
    place = str(path)
    if is_remote(place):
        with Lease(place) as lease:
            yield SweepStore(place, make=True, lease=lease)
        return
    with only_writer(Path(place), "sweep"), told_of_full_disk("sweep", place):
        if Path(place).is_dir():
            for left in Path(place).rglob("*.partial"):
                left.unlink()  # by a killed process
        yield SweepStore(place, make=True)


def read_node(store: SweepStore, path: str, chunks: Any) -> "xr.Dataset":
    """One group as a dataset that reads its values when they are asked for."""
    import xarray as xr

    with _unfinished_is_no_news():
        return xr.open_zarr(store.root.store, group=path, consolidated=False, chunks=chunks)


@contextmanager
def _unfinished_is_no_news() -> Iterator[None]:
    """A file that is being written beside its place, or a group that is not recorded yet, is no part of the hierarchy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component of a Zarr hierarchy")
        yield
