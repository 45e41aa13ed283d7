"""A sweep opened for reading: its cells, labelled arrays over the grid, signatures, tables."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.errors import LocalizeError
from localize.signature.storage import fixed_width
from localize.sweep.bench import OF_THE_PAIR
from localize.sweep.joined import label, one_signature, over_grid
from localize.sweep.store import SweepStore, read_node

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

FINISHED, PARTLY, FAILED, MISSING = "finished", "partly", "failed", "missing"
COLUMNS = ["model", "paragraphs", "measure", "status", "done", "of", "seconds", "error"]


def open_sweep(path: str | Path) -> "Sweep":
    """Open a sweep's store, also while it is being written; values are read when they are asked for.

    Args:
        path: A folder or a URL that fsspec opens.

    Raises:
        LocalizeError: If no sweep is there, or one of another version.
    """
    return Sweep(SweepStore(path))


class Sweep:
    """What a sweep has measured so far.

    Attributes:
        path: The store.
    """

    def __init__(self, store: SweepStore):
        self.path, self._store = store.path, store
        self._cells: list[dict[str, Any]] = store.told("").get("cells", [])

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the grid's order."""
        return tuple(dict.fromkeys(cell["model"] for cell in self._measured))

    @property
    def trainings(self) -> tuple[str, ...]:
        """Names of what is trained, in the grid's order: of each [[train]]."""
        return tuple(dict.fromkeys(cell["model"] for cell in self._cells if "training" in cell))

    @property
    def _measured(self) -> list[dict[str, Any]]:
        """The cells that are measurements of a model."""
        return [cell for cell in self._cells if "training" not in cell]

    @property
    def paragraph_sets(self) -> tuple[str, ...]:
        """Names of the paragraph sets."""
        return tuple(dict.fromkeys(cell["paragraphs"] for cell in self._measured))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measurements, recall first."""
        return tuple(dict.fromkeys(cell["measure"] for cell in self._measured))

    @property
    def model_axes(self) -> dict[str, dict[str, Any]]:
        """What distinguishes each model from others of its entry in the grid: `checkpoint`, `training_seed`, `dtype`, ...."""
        return {cell["model"]: dict(cell["axes"]["model"]) for cell in self._measured}

    def cells(self) -> "pd.DataFrame":
        """One row per cell: model, paragraphs, measure, its options in the grid, `status`, paragraphs done and in all, seconds, error."""
        import pandas as pd

        rows = [self._row(cell) for cell in self._cells]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS)

    def _row(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        attrs = self._store.told(cell["path"])
        count = self._count(cell)
        done, failed = attrs.get("done", []), attrs.get("failed", [])
        rows = sum(last - first for first, last, *_ in done)
        status = FINISHED if count and rows == count else FAILED if failed else PARTLY if done else MISSING
        axes = {key: value for part in cell["axes"].values() for key, value in part.items()}
        told = {"model": cell["model"], "paragraphs": cell["paragraphs"], "measure": cell["measure"]}
        error = "; ".join(dict.fromkeys(failure["error"] for failure in failed))
        return told | axes | {
            "status": status, "done": rows, "of": count, "seconds": round(sum(unit[2] for unit in done), 2), "error": error,
        }  # fmt: skip

    def _count(self, cell: Mapping[str, Any]) -> int:
        import zarr

        pair = self._store.group(_pair_path(cell))
        array = None if pair is None else pair.get("paragraph")
        return int(array.shape[0]) if isinstance(array, zarr.Array) else 0

    def dataset(
        self, model: str | None = None, paragraphs: str | None = None, measure: str | None = None
    ) -> "xr.Dataset":
        """What one measurement has of one model and paragraph set so far, recall and labels beside it; lazy.

        Paragraphs whose unit is not finished hold nan.

        Args:
            model: A name, or None where there is one only.
            paragraphs: Likewise.
            measure: Likewise; "recall" alone where nothing else was measured.

        Raises:
            LocalizeError: If there is no such cell, several fit, or it has not begun.
        """
        model = self._one("model", model, self.models)
        paragraphs = self._one("paragraphs", paragraphs, self.paragraph_sets)
        others = tuple(name for name in self.measures if name != "recall") or ("recall",)
        measure = self._one("measure", measure, others if measure is None else self.measures)
        return self._open(self._cell(model, paragraphs, measure))

    def _open(self, cell: Mapping[str, Any]) -> "xr.Dataset":
        group = self._store.group(cell["path"])
        if group is None or not group.attrs.get("done"):
            raise LocalizeError(
                f"sweep {self.path}: {cell['model']} / {cell['paragraphs']} / {cell['measure']} has no finished unit yet; see cells()."
            )
        chunks = {} if find_spec("dask") else None
        pair = read_node(self._store, _pair_path(cell), chunks)
        pair = fixed_width(pair.set_coords([name for name in OF_THE_PAIR if name in pair]), ("paragraph", "group"))
        pair = _nan_where_unfinished(pair)
        found = pair.set_coords([name for name in pair.attrs.get("coords", ()) if name in pair])
        if cell["path"] != _pair_path(cell):
            own = read_node(self._store, cell["path"], chunks)
            own = own.set_coords([name for name in own.attrs["coords"] if name in own])
            own = _nan_where_unfinished(own)
            found = pair.assign({name: own[name] for name in own.data_vars}).assign_coords(own.coords)
        used = {"paragraph", "position"} | {dim for name in found.data_vars for dim in found[name].dims}
        found = found.drop_vars([name for name in found.coords if not set(found[name].dims) <= used])
        kept = ("model", "paragraphs", *(("training",) if "training" in cell else ()))
        found.attrs = {name: pair.attrs[name] for name in kept} | {"calls": group.attrs["calls"]}
        return found

    def training(self, name: str | None = None) -> "MemorizationSignature":
        """What was watched in the trainings of one [[train]], as `localize train` leaves it: the places of its grid are the arms.

        Args:
            name: Of the entry, or None where there is one only.

        Returns:
            A signature over training, in memory: for `localize.capacity_table`, `localize.arm_table` and every other of trainings.
            Places of which not all seeds and runs are finished are left out; a warning names them.

        Raises:
            LocalizeError: If there is no such entry, or no place of it is finished.
            SignatureError: If its places have not the paragraphs in common; `sweep["nll"]` has them nevertheless.
        """
        from localize.sweep.watched import watched_training

        name = self._one("training", name, self.trainings)
        return watched_training(
            f"sweep {self.path}: {name}",
            [
                (cell, self._open(cell).load() if self._row(cell)["status"] == FINISHED else None)
                for cell in self._cells
                if cell["model"] == name and "training" in cell
            ],
        )

    def signature(
        self, model: str | None = None, paragraphs: str | None = None, measures: Sequence[str] | None = None
    ) -> "MemorizationSignature":
        """The finished measurements of one model and paragraph set in one signature, in memory: for every figure, table and report.

        Args:
            model: A name, or None where there is one only.
            paragraphs: Likewise.
            measures: Names; None takes all that are finished, which must join: parts of one measurement, such as ablations of
                other layers, do; one measurement with other options does not.

        Raises:
            LocalizeError: If a cell is not finished, or two hold one variable with other options; it names `measures` that join.
        """
        from localize.signature.signature import SCHEMA_VERSION, MemorizationSignature

        model = self._one("model", model, self.models)
        paragraphs = self._one("paragraphs", paragraphs, self.paragraph_sets)
        states = {row["measure"]: row["status"] for row in map(self._row, self._of(model, paragraphs))}
        wanted = [name for name, status in states.items() if status == FINISHED] if measures is None else list(measures)
        wanted = list(dict.fromkeys(["recall", *wanted]))
        for name in wanted:
            if states.get(name) != FINISHED:
                raise LocalizeError(
                    f"sweep {self.path}: {name!r} of {model} / {paragraphs} is {states.get(name, 'not asked for')}; finished: "
                    f"{', '.join(n for n, s in states.items() if s == FINISHED) or 'none'}."
                )

        def parts() -> Iterator[tuple[str, MemorizationSignature]]:
            for name in wanted:
                dataset = fixed_width(self._open(self._cell(model, paragraphs, name)).load())
                dataset.attrs = {"schema": SCHEMA_VERSION, **dataset.attrs}
                yield name, MemorizationSignature(dataset)

        return one_signature(f"sweep {self.path}", parts())

    def __getitem__(self, variable: str) -> "xr.DataArray":
        """One variable over the grid; lazy where dask is installed.

        Axes: `model`, `paragraphs` and every option that the grid varies, each only if there are several, then the variable's own.
        An option that chooses labels of one of these (`layers`, `heads`, `kinds`, `metrics`, ...) has no axis beside it: cells that
        chose different labels fill it together; only where two chose the same, or one all of them, does each stand by itself. So
        `over = { layers = [0, 1, 2], to = ["mean", "zero"] }` gives `ablated_nll` over `to`, paragraph, layer and head. Models of
        fewer layers, and what is not measured, hold nan. Several entries of one measurement, alike in all that the grid varies,
        stand along `measure`.

        Raises:
            LocalizeError: If no cell holds the variable.
        """
        found, seen = [], set[str]()
        for cell in self._cells:
            if not self._store.told(cell["path"]).get("done"):
                continue
            names = self._store.names(cell["path"])
            seen |= names
            if variable in names:
                found.append(cell)
        if not found:
            near = get_close_matches(variable, sorted(seen), n=1, cutoff=0.0)
            raise LocalizeError(
                f"sweep {self.path}: no cell holds {variable!r}{f'; did you mean {near[0]!r}?' if near else '.'}"
            )
        places = _places(found)
        return over_grid([(place, self._open(cell)[variable]) for place, cell in zip(places, found, strict=True)])

    def to_parquet(self, folder: str | Path, variables: Sequence[str] | None = None, *, rows: int = 4096) -> list[Path]:
        """Write each variable as one long table, `rows` paragraphs at a time, with a column per axis, label and option of the grid.

        Args:
            folder: Where `VARIABLE.parquet` is written.
            variables: Names; None takes all that the finished cells hold.
            rows: Paragraphs in memory at once.

        Returns:
            The files.
        """
        from localize.sweep.tables import write_tables

        finished = [cell for cell in self._cells if self._row(cell)["status"] == FINISHED]
        held = [(cell, self._open(cell), self._store.names(cell["path"])) for cell in finished]
        return write_tables(f"sweep {self.path}", held, Path(folder), variables, rows)

    def _of(self, model: str, paragraphs: str) -> list[dict[str, Any]]:
        return [cell for cell in self._measured if (cell["model"], cell["paragraphs"]) == (model, paragraphs)]

    def _cell(self, model: str, paragraphs: str, measure: str) -> dict[str, Any]:
        return next(cell for cell in self._of(model, paragraphs) if cell["measure"] == measure)

    def _one(self, what: str, name: str | None, names: tuple[str, ...]) -> str:
        if name is None and len(names) == 1:
            return names[0]
        if name not in names:
            there = f"is not one of {', '.join(names)}" if names else "is not there: the sweep has none"
            raise LocalizeError(f"sweep {self.path}: {what}={name!r} {there}.")
        return name

    def __repr__(self) -> str:
        counts = self.cells()["status"].value_counts()
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        measured = (
            f"{len(self.models)} models x {len(self.paragraph_sets)} paragraph sets x {len(self.measures)} measurements"
        )
        trained = f"{len(self._cells) - len(self._measured)} trainings" if self.trainings else ""
        what = " and ".join([*([measured] if self._measured or not trained else []), *([trained] if trained else [])])
        return f"Sweep({self.path}: {what}; cells: {told})"

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(repr(self))}</p>{self.cells().to_html(index=False)}"


def _pair_path(cell: Mapping[str, Any]) -> str:
    """The group of a cell's model and paragraph set."""
    return "/".join(cell["path"].split("/")[:2])


def _nan_where_unfinished(dataset: "xr.Dataset") -> "xr.Dataset":
    """Integers of paragraphs whose unit is not finished, as nan: what stands in the store there must not be averaged."""
    import xarray as xr

    there = np.zeros(dataset.sizes.get("paragraph", 0), bool)
    for first, last, *_ in dataset.attrs.get("done", []):
        there[first:last] = True
    whole = [name for name, array in dataset.data_vars.items() if array.dtype.kind == "i" and "paragraph" in array.dims]
    if there.all() or not whole:
        return dataset
    return dataset.assign({name: dataset[name].where(xr.DataArray(there, dims="paragraph")) for name in whole})


def _places(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each cell is: model, paragraph set, all options that the grid varies anywhere, and its name where these are not enough."""
    options = dict.fromkeys(key for cell in cells for key in cell["axes"]["measure"])
    places = [
        {"model": cell["model"], "paragraphs": cell["paragraphs"]} | {key: cell["options"].get(key) for key in options}
        for cell in cells
    ]
    if len({tuple(map(label, place.values())) for place in places}) < len(places):
        places = [place | {"measure": cell["measure"]} for place, cell in zip(places, cells, strict=True)]
    return places
