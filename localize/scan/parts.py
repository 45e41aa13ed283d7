"""Results of a long pass, a file for each part that is finished; what is there is not done again."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from localize.errors import InputError
from localize.storage import replacing

Arrays = dict[str, np.ndarray]


class Parts:
    """Numbered files in a folder, each with arrays and a few facts, written whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __len__(self) -> int:
        """How many are finished: the files are numbered from 0 without a gap."""
        count = 0
        while self._path(count).is_file():
            count += 1
        return count

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def read(self, number: int) -> tuple[Arrays, dict[str, Any]]:
        """One part's arrays and facts."""
        path = self._path(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return arrays, json.loads(arrays.pop("facts").tobytes())
        except (ValueError, OSError, KeyError) as error:
            raise InputError(
                f"{path}: not a part of a scan ({error}); remove it and what has a higher number."
            ) from None

    def write(self, number: int, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Finish a part."""
        buffer = io.BytesIO()
        whole: dict[str, Any] = {
            "facts": np.frombuffer(json.dumps(facts, allow_nan=False).encode(), np.uint8),
            **arrays,
        }
        np.savez_compressed(buffer, **whole)
        with replacing(self._path(number)) as beside:
            beside.write_bytes(buffer.getvalue())

    def __iter__(self) -> Iterator[tuple[Arrays, dict[str, Any]]]:
        return (self.read(number) for number in range(len(self)))
