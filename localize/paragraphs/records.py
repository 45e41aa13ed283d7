"""One reader for paragraphs, scans, token counts and training: a file's lines, and the records of a file or of a table in memory."""

import csv
import io
import json
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from operator import index
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from localize.errors import InputError, first_line
from localize.storage import is_unicode

TEXT_FIELDS = ("text", "paragraph", "content")
TEXT_FILES = (".txt", ".md")
RECORD_FILES = (".csv", ".jsonl", ".parquet")
CORPUS_FILES = (*TEXT_FILES, *RECORD_FILES, ".npy")
"""Kinds of files that a corpus is made of; see `kind_of`, which looks through the suffix of a compressed one."""

PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Suffixes of compressed files, each with its codec's name."""

UNPACKED = (*TEXT_FILES, ".csv", ".jsonl")
"""What may be compressed: a Parquet file compresses itself."""

ROWS_AT_ONCE = 256
"""Rows of a Parquet file that are in memory together."""

SEPARATORS = {"\t": "tabs", ";": "';'", "|": "'|'"}
HALF = "half a surrogate pair; valid Unicode is needed"


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        number: Which one, from 0; blank lines are none.
        line: On which line of the file it ends, from 1; None in a file without lines.
        value: What it holds: None where it was passed over, or cannot be read.
        problem: Why it cannot be read, "" if it can. The one record of a table that has none of the columns needed says so.
    """

    number: int
    line: int | None
    value: Any
    problem: str = ""

    @property
    def told(self) -> str:
        """Its problem and where it is in the file."""
        return self.problem if self.line is None else f"line {self.line} is {self.problem}"


def kind_of(path: Path) -> str:
    """What a file holds by its name, in small letters: ".jsonl" of "A.JSONL" and "a.jsonl.gz"."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix in PACKED and inner in UNPACKED else suffix


def readable_files(folder: Path, kinds: Sequence[str], *, deep: bool = True) -> list[Path]:
    """Files of these kinds in a folder, by name; what is hidden, or in a hidden folder, is somebody's tool's and no part of it."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if kind_of(path) in kinds
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def unicode_name(path: Path, folder: Path | None = None) -> str:
    """A file's name, with its folders below the one given, as any file can hold it."""
    name = path.name if folder is None else path.relative_to(folder).as_posix()
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked as they are read.

    Raises:
        InputError: If it cannot be opened, or is damaged.
    """
    codec = PACKED.get(path.suffix.lower())
    try:
        if codec is None:
            with path.open("rb") as file:
                yield file
        else:
            from pyarrow import input_stream

            with io.BufferedReader(input_stream(str(path), compression=codec)) as file:  # type: ignore[type-var]
                yield file
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read ({error.strerror or first_line(error)}).") from None


def lines(path: Path, what: str, *, newline: str | None = None) -> Iterator[str]:
    """A file's lines without a byte order mark; bytes that are no UTF-8 are in them as half surrogates: see `not_utf8`.

    Args:
        path: The file.
        what: What it is, for errors.
        newline: As `open` takes it: None turns every line end into a newline, "" keeps each.
    """
    with (
        opened(path, what) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as text,
    ):
        yield from text


def not_utf8(line: str) -> str:
    """Why a line is no UTF-8, "" if it is."""
    if is_unicode(line):
        return ""
    try:
        line.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 ({error.reason} at byte {error.start})"
    return ""


def records(path: Path, what: str, fields: Sequence[str] = TEXT_FIELDS, start: int = 0) -> Iterator[Record]:
    """The records of a `.csv`, `.jsonl` or `.parquet` file, one after another: memory does not grow with the file.

    Args:
        path: The file.
        what: What it is, for errors.
        fields: Of which a table must have one; `tokens` will do, but in a `.csv`.
        start: Records before this one are passed over: given without a value.

    Raises:
        InputError: If the file is damaged, or a table's cells or columns cannot be told apart.
    """
    read = {".csv": _csv_records, ".jsonl": _jsonl_records, ".parquet": _parquet_records}[kind_of(path)]
    return read(path, what, fields, start)


def _jsonl_records(path: Path, what: str, fields: Sequence[str], start: int) -> Iterator[Record]:
    number = -1
    for at, line in enumerate(lines(path, what), start=1):
        if not line.strip():
            continue
        number += 1
        value, problem = None, ""
        if number >= start and not (problem := not_utf8(line)):
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                problem = f"not JSON ({error.msg} at column {error.colno})"
            except (RecursionError, ValueError) as error:
                problem = f"not JSON ({first_line(error)})"
        yield Record(number, at, value, problem)


def _csv_records(path: Path, what: str, fields: Sequence[str], start: int) -> Iterator[Record]:
    """Rows as mappings; an empty cell is None. What strict CSV does not allow ends it: which rows are meant cannot be known."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # paragraphs can exceed the 128 KiB that is the default
    with closing(_utf8_lines(path, what)) as read:
        rows = csv.reader(read, strict=True)
        names = _header(rows)
        if not any(field in names for field in fields):
            first = next(_utf8_lines(path, what), "").rstrip("\r\n")
            yield Record(0, None, None, _other_separator(first, fields) or _no_column(fields, names))
            return
        check_names(names, f"{what} {path}")
        for number, cells in enumerate(_csv_cells(rows, len(names), f"{what} {path}")):
            filled = {name: cell or None for name, cell in zip(names, cells, strict=True)}
            yield Record(number, rows.line_num, filled if number >= start else None)


def _csv_cells(rows: Any, columns: int, where: str) -> Iterator[list[str]]:
    """The cells of each row but blank lines."""
    number, begins = 0, rows.line_num + 1
    try:
        for cells in rows:
            if cells:
                if len(cells) != columns:
                    raise InputError(
                        f"{where}: row {number} (line {rows.line_num}) has {len(cells)} columns, not {columns}."
                    )
                yield cells
                number += 1
            begins = rows.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{where}: row {number}, which begins on line {begins}, is no CSV up to line {rows.line_num} ({error}); is a quote left open, "
            'or not doubled ("") inside a cell?'
        ) from None


def _utf8_lines(path: Path, what: str) -> Generator[str, None, None]:
    for number, line in enumerate(lines(path, what, newline=""), start=1):
        if problem := not_utf8(line):
            raise InputError(f"{what} {path}: line {number} is {problem}.")
        yield line


def _header(rows: Iterator[list[str]]) -> list[str]:
    """The names of the columns; the index that pandas writes has none."""
    try:
        return [name.strip() for name in next(rows, [])]
    except csv.Error:  # as where quoted names are not separated by commas
        return []


def _other_separator(header: str, fields: Sequence[str]) -> str:
    """What else than a comma separates the columns, "" if nothing does."""
    for separator, words in SEPARATORS.items():
        if any(name.strip(' "') in fields for name in header.split(separator)):
            return f"its columns are separated by {words}; commas are needed"
    return ""


def _no_column(fields: Sequence[str], names: Sequence[str]) -> str:
    return f"no column {', '.join(map(repr, fields))}; it has {', '.join(name for name in names if name) or 'none'}"


def check_names(names: Sequence[Any], where: str) -> None:
    """Raise an `InputError` if two columns have one name."""
    seen: set[Any] = {""}
    if twice := [name for name in names if name and (name in seen or seen.add(name))]:
        raise InputError(f"{where}: the column {twice[0]!r} stands twice; names of columns must differ.")


def _parquet_records(path: Path, what: str, fields: Sequence[str], start: int) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            if not any(field in names for field in (*fields, "tokens")):
                yield Record(0, None, None, _no_column((*fields, "tokens"), names))
                return
            check_names(names, f"{what} {path}")
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if number + count <= start:
                    yield from (Record(number + row, None, None) for row in range(count))
                    number += count
                    continue
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                    for value in batch.to_pylist():
                        yield Record(number, None, value if number >= start else None)
                        number += 1
    except (ArrowException, OSError) as error:
        raise InputError(f"{what} {path}: not a readable Parquet file ({first_line(error)}).") from None


def rows_of(source: Any, what: str) -> Any:
    """A source in memory, where it is a table its rows: a pandas DataFrame or Series, whose index is no part of it, or a dict of columns.

    Raises:
        InputError: If a table has two columns of one name, or columns of several lengths, or it is several tables.
    """
    where = f"{what} {type(source).__name__}"
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        check_names(list(source.columns), where)
        whole = source.convert_dtypes()  # whole numbers beside missing ones are whole numbers
        return whole.astype(object).where(whole.notna(), None).to_dict("records")
    if pandas is not None and isinstance(source, pandas.Series):
        return [{"text": None} if is_missing(value) else value for value in source.tolist()]
    if isinstance(source, Mapping):
        if any(hasattr(values, "column_names") for values in source.values()):
            raise InputError(f"{where}: one of its splits is needed: {', '.join(map(str, source))}.")
        columns = {name: values for name, values in source.items() if hasattr(values, "__len__")}
        if len(columns) < len(source) or any(isinstance(values, str | Mapping) for values in columns.values()):
            raise InputError(
                f"{where}: one mapping is no set of rows; a list of them, or a dict of columns, is needed."
            )
        lengths = {str(name): len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise InputError(f"{where}: columns of one length are needed; there are {told}.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*map(_plain, columns.values()), strict=True)]
    return source


def _plain(values: Any) -> Iterable[Any]:
    """A column's values as Python's own, where it is an array or a Series."""
    return values.tolist() if hasattr(values, "tolist") else values


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, or a table's nan."""
    return value is None or (isinstance(value, float) and value != value)


def field_of(row: Mapping[str, Any], fields: Sequence[str]) -> Any:
    """The first of some fields that is not missing; None if all are."""
    return next((row[field] for field in fields if field in row and not is_missing(row[field])), None)


def token_list(given: Any) -> list[int] | None:
    """Token ids as a list, None if they are no whole numbers in a sequence."""
    if hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, list | tuple):
        return None
    if any(isinstance(token, bool) or not hasattr(token, "__index__") for token in given):
        return None
    return [index(token) for token in given]
