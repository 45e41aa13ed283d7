"""What a corpus holds, as hashes: of files and of what is in memory at once, of a stream as it is read."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from localize.errors import InputError
from localize.measure.batches import SHOW_AFTER
from localize.paragraphs.records import field_of

READ_AT_ONCE = 2**20
"""Bytes of a file that are hashed together."""


def file_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file's bytes, all of them read."""
    found, total = {}, sum(path.stat().st_size for path in files.values())
    with tqdm(total=total, desc="hashing the corpus", unit="B", unit_scale=True, delay=SHOW_AFTER) as bar:
        for name, path in files.items():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(READ_AT_ONCE):
                    digest.update(chunk)
                    bar.update(len(chunk))
            found[name] = digest.hexdigest()
    return found


def array_hash(array: Any) -> str:
    """SHA-256 of an array's shape and numbers, whatever their integer type."""
    values = np.asarray(array)
    digest = hashlib.sha256(f"{values.shape}".encode())
    if values.dtype.kind not in "iu":
        digest.update(f"{values.dtype} {values.tolist()}".encode("utf-8", "surrogatepass"))
    elif values.size:
        values = np.atleast_1d(values)
        together = max(1, READ_AT_ONCE * len(values) // values.size)
        for start in range(0, len(values), together):
            digest.update(np.ascontiguousarray(values[start : start + together], dtype="<i8").data)
    return digest.hexdigest()


class Read(NamedTuple):
    """How far rows were read.

    Attributes:
        rows: How many.
        digest: Of all of them, in order.
    """

    rows: int
    digest: str


class HashedRows:
    """Rows that are hashed as they are read, and held to what was read of them before.

    Args:
        rows: An iterable that can be started again.
        fields: The fields of a record that hold its text.
        name: What they are called in an error.
    """

    def __init__(self, rows: Iterable[Any], fields: Sequence[str], name: str):
        self.rows, self.fields, self.name = rows, fields, name
        self.read = Read(0, "")
        self._before: Read | None = None
        self._all = False

    def hold_to(self, before: Read, *, all_of_them: bool) -> None:
        """From now on, reading ends with an `InputError` where the rows are not those that were read before.

        Args:
            before: How far they were read, and their digest.
            all_of_them: Whether no more may come.
        """
        self._before, self._all = before, all_of_them

    def check(self) -> None:
        """Read all rows, for what `hold_to` asks for."""
        for _ in self:
            pass

    def __iter__(self) -> Iterator[Any]:
        self.read = Read(0, "")
        for row in self.rows:
            digest = hashlib.sha256(self.read.digest.encode() + _content(row, self.fields)).hexdigest()
            self.read = Read(self.read.rows + 1, digest)
            self._compare()
            yield row
        if self._before is not None and self.read.rows < self._before.rows:
            raise self._other(f"it ends after {self.read.rows} of {self._before.rows} documents")

    def _compare(self) -> None:
        """Hold what has been read to what was read before."""
        if self._before is None:
            return
        if self._all and self.read.rows > self._before.rows:
            raise self._other(f"it goes on after {self._before.rows} documents")
        if self.read.rows == self._before.rows and self.read.digest != self._before.digest:
            raise self._other(f"its first {self.read.rows} documents are others")

    def _other(self, how: str) -> InputError:
        return InputError(
            f"corpus {self.name}: {how} than when it was read before; a corpus that stays the same, in order too, is needed "
            "(shuffle with a seed), or another --out."
        )


def rows_hash(rows: HashedRows) -> str:
    """SHA-256 of all rows, in order."""
    rows.check()
    return rows.read.digest


def known_of(rows: Any) -> dict[str, Any]:
    """What a stream says of itself without being read: what a `datasets.IterableDataset` knows of its origin."""
    info = getattr(rows, "info", None)
    names = ("builder_name", "dataset_name", "config_name", "version")
    about = {name: getattr(info, name, None) for name in names} | {"split": getattr(rows, "split", None)}
    return {name: str(value) for name, value in about.items() if value is not None}


def _content(row: Any, fields: Sequence[str]) -> bytes:
    """What of a row a finding depends on: source, tokens and text, each with its length before it."""
    of_row = isinstance(row, Mapping)
    parts = [row.get("source"), row.get("tokens"), field_of(row, fields)] if of_row else [None, row, None]
    return b"".join(b"%d:" % len(part) + part for part in map(_bytes, parts))


def _bytes(value: Any) -> bytes:
    """A text, or token ids, or what else stands in their place."""
    if value is None:
        return b"none"
    if isinstance(value, str):
        return b"text " + value.encode("utf-8", "surrogatepass")
    try:
        return b"tokens " + array_hash(value).encode()
    except ValueError:  # ragged: nothing that can be scanned
        return b"ragged"
