"""A dataset as one zipped Zarr file."""

import zipfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.errors import SignatureError, first_line
from localize.storage import replacing

if TYPE_CHECKING:
    import xarray as xr


def save(dataset: "xr.Dataset", path: Path) -> None:
    """Write beside `path` and move into place.

    Raises:
        SignatureError: If the name does not end in .zarr.zip.
    """
    if not path.name.endswith(".zarr.zip"):
        raise SignatureError(f"save: {path} must end in .zarr.zip.")
    import numpy as np
    from zarr.storage import MemoryStore

    # Fixed-width text has no Zarr specification; variable-width has.
    text = {n: {"dtype": np.dtypes.StringDType()} for n, v in dataset.variables.items() if v.dtype.kind == "U"}
    # By way of memory: written at once, every key stands in the archive a single time and without a date.
    written: dict[str, Any] = {}
    dataset.to_zarr(MemoryStore(written), mode="w", consolidated=False, zarr_format=3, encoding=text)
    with replacing(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for key, value in sorted(written.items()):
            archive.writestr(zipfile.ZipInfo(key), value.to_bytes())


def load(path: Path) -> "xr.Dataset":
    """Read the whole file into memory.

    Raises:
        SignatureError: If it is missing or damaged.
    """
    if not path.is_file():
        raise SignatureError(f"signature {path}: no such file.")
    import xarray as xr
    from zarr.storage import ZipStore

    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise SignatureError(f"signature {path}: damaged at {damaged}.")
        store = ZipStore(path, mode="r")
        try:
            dataset = xr.open_zarr(store, consolidated=False, chunks=None).load()
        finally:
            store.close()
        return fixed_width(dataset)
    except SignatureError:
        raise
    except Exception as error:  # a damaged store raises whatever its innermost reader does
        raise SignatureError(f"signature {path}: not a readable .zarr.zip ({first_line(error)}).") from error


def fixed_width(dataset: "xr.Dataset", names: Sequence[Hashable] | None = None) -> "xr.Dataset":
    """The dataset with its texts (those of some variables) as NumPy's plain strings, which everything takes; loads them."""
    import numpy as np

    for name in list(dataset.variables) if names is None else names:
        variable = dataset.variables[name]
        if variable.dtype.kind == "T":
            dataset[name] = (variable.dims, np.array(variable.values.tolist(), dtype=str), variable.attrs)
    return dataset
