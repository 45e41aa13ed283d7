"""A corpus of any kind as a stream of pieces of tokens, which can be entered again in its middle."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from localize.errors import InputError, first_line
from localize.paragraphs.readers import TEXT_FIELDS
from localize.scan.content import Rows, array_hash, chosen, file_hashes, known_of, rows_hash

TEXT_PIECE = 2**18
"""Bytes of running text that are turned into tokens together, at least."""

TOKEN_PIECE = 2**18
"""Tokens of a long array that are read together."""

WHITESPACE = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace() and not "\x1c" <= sign <= "\x1f")
"""What the tokenizers take for whitespace: Unicode's property, which Python's `isspace` widens by four separators."""

SUFFIXES = (".txt", ".md", ".jsonl", ".npy")
NOTHING = np.zeros(0, np.int64)


class Place(NamedTuple):
    """Where a piece is: which document of the corpus, and which part of it, both from 0."""

    document: int
    part: int


START = Place(0, 0)


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive tokens of one document.

    Attributes:
        place: Where it is.
        tokens: int64; none where it could not be read.
        source: Where the document is from: its field `source`, or the file.
        ends: Whether the document ends with it.
        skipped: Why something of it was left out, a line each.
    """

    place: Place
    tokens: Int[np.ndarray, " token"]
    source: str
    ends: bool = True
    skipped: tuple[str, ...] = ()


class Corpus:
    """What is scanned.

    Args:
        source: A `.txt`, `.md`, `.jsonl` or `.npy` file, a folder of them (taken in the order of their names), or an iterable that can
            be started again: of texts, of mappings with a text field or `tokens`, or of token sequences, such as a streamed
            `datasets.Dataset`. A text file is one document; so are a line of JSON, a row of a 2-d array, and a 1-d array.
        tokenizer: Needed for text.
        text_field: The field that holds a record's text; None takes `text`, `paragraph` or `content`.

    Raises:
        InputError: If there is no such file, or its form is another one.
    """

    def __init__(self, source: Any, tokenizer: Any = None, *, text_field: str | None = None):
        self.tokenizer, self.fields = tokenizer, TEXT_FIELDS if text_field is None else (text_field,)
        self._files, self._root = list[Path](), Path()
        self._rows: Any = ()
        self._seen: list[tuple[int, int]] = []
        if isinstance(source, str | Path):
            self._files, self.name = _files(Path(source)), str(source)
            self._root = Path(source) if Path(source).is_dir() else Path(source).parent
        elif isinstance(source, Iterable) and not isinstance(source, Iterator | Mapping):
            self.name = type(source).__name__
            self._rows = source if hasattr(source, "ndim") else Rows(source, self.fields, self.name)
        else:
            raise InputError(
                f"corpus: a {type(source).__name__} cannot be scanned; a file, a folder, or an iterable that can be started again "
                "(a list, an array, a datasets.Dataset) can."
            )

    def fingerprint(self) -> dict[str, Any]:
        """What tells whether a corpus is still the same.

        Files (by their names in the folder), arrays and what has a length are read wholly, once, and hashed: that costs far less than
        the model's passes. Of a stream only what it knows of itself stands here; it is hashed as it is read, see `reading`.
        """
        if self._files:
            self._seen = self._stats()
            return {"files": file_hashes({path.relative_to(self._root).as_posix(): path for path in self._files})}
        about = {"type": self.name}
        if self.reading is None:
            return about | {"content": array_hash(self._rows)}
        return about | (known_of(self.reading.rows) if self.is_stream else {"content": rows_hash(self.reading)})

    def check_unchanged(self) -> None:
        """Raise an `InputError` if a file was changed since `fingerprint` read it."""
        for path, before, now in zip(self._files, self._seen, self._stats(), strict=True):
            if now != before:
                raise InputError(
                    f"corpus {self.name}: {path.name} was changed while it was scanned; scan it again with another --out."
                )

    def _stats(self) -> list[tuple[int, int]]:
        return [(found.st_size, found.st_mtime_ns) for found in (path.stat() for path in self._files)]

    @property
    def reading(self) -> Rows | None:
        """The rows that are hashed as they are read; None of files and arrays."""
        return self._rows if isinstance(self._rows, Rows) else None

    @property
    def is_stream(self) -> bool:
        """Whether it is hashed only as it is read."""
        return self.reading is not None and not hasattr(self.reading.rows, "__len__")

    def pieces(self, start: Place = START) -> Iterator[Piece]:
        """The pieces from a place on; what lies before it is passed over without being turned into tokens."""
        document = 0
        for path in self._files:
            if path.suffix in (".txt", ".md"):
                if document >= start.document:
                    first = start.part if document == start.document else 0
                    yield from self._text(path, document, first)
                document += 1
            elif path.suffix == ".jsonl":
                with path.open("rb") as file:
                    for line in file:
                        if line.strip():
                            if document >= start.document:
                                yield self._line(line, document, path)
                            document += 1
            else:
                array = _array(path)
                rows = array[None] if array.ndim == 1 else array
                for row in range(max(0, start.document - document), len(rows)):
                    at = document + row
                    first = start.part if at == start.document else 0
                    yield from _long(rows[row], at, first, path.name)
                document += len(rows)
        if not self._files:
            rows = [self._rows] if getattr(self._rows, "ndim", 2) == 1 else self._rows
            for document, row in enumerate(rows):
                if document >= start.document:
                    first = start.part if document == start.document else 0
                    yield from self._record(row, document, first)

    def _text(self, path: Path, document: int, first: int) -> Iterator[Piece]:
        """A text file, some lines at a time. Whitespace at a piece's end goes to the next piece, so that tokens are the whole file's.

        GPT-2's tokenizer begins a word where whitespace begins, but divides whitespace by what comes after it.
        """
        part, text, skipped = 0, "", list[str]()
        with path.open("rb") as file:
            for lines in _bundles(file):
                for number, line in lines:
                    try:
                        text += line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as error:
                        skipped.append(f"{path.name}, line {number}: not UTF-8 ({error.reason} at byte {error.start})")
                end = len(text.rstrip(WHITESPACE))
                if part >= first:
                    tokens = self._tokens(text[:end], path.name)
                    yield Piece(Place(document, part), tokens, path.name, False, tuple(skipped))
                part, text, skipped = part + 1, text[end:], []
        if part >= first:
            yield Piece(Place(document, part), self._tokens(text, path.name), path.name)

    def _line(self, line: bytes, document: int, path: Path) -> Piece:
        """A line of JSON; one that cannot be read is left out, and told."""
        place, where = Place(document, 0), f"{path.name}, document {document}"
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            return Piece(place, NOTHING, path.name, skipped=(f"{where}: not JSON in UTF-8 ({first_line(error)})",))
        found = self._row(row)
        if isinstance(found, str):
            return Piece(place, NOTHING, path.name, skipped=(f"{where}: {found}",))
        return Piece(place, found, str(row.get("source") or path.name) if isinstance(row, Mapping) else path.name)

    def _record(self, row: Any, document: int, first: int) -> Iterator[Piece]:
        """A record of an iterable."""
        found = self._row(row)
        if isinstance(found, str):
            yield Piece(Place(document, 0), NOTHING, self.name, skipped=(f"document {document}: {found}",))
            return
        source = str(row.get("source") or self.name) if isinstance(row, Mapping) else self.name
        yield from _long(found, document, first, source)

    def _row(self, row: Any) -> np.ndarray | str:
        """A record's tokens, or why it has none."""
        row = chosen(row, self.fields)
        if isinstance(row, str):
            return self._tokens(row, self.name)
        if row is None:
            return f"no field {', '.join(map(repr, self.fields))} or 'tokens'"
        array = np.asarray(row)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            return f"{array.dtype} of {array.ndim} dimensions; a text or token ids are needed"
        return array.astype(np.int64)

    def _tokens(self, text: str, name: str) -> np.ndarray:
        if self.tokenizer is None:
            raise InputError(f"corpus {name} is text; the model has no tokenizer: give one.")
        return np.array(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not found:
            raise InputError(f"corpus {path}: no file of {', '.join(SUFFIXES)} in this folder.")
        return found
    if not path.is_file():
        raise InputError(f"corpus {path}: no such file or folder.")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"corpus {path}: {path.suffix or 'no suffix'} is not a format scanned here; {', '.join(SUFFIXES)} are."
        )
    return [path]


def _bundles(file: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """A file's lines, numbered from 1, as many together as make a piece."""
    lines, size = list[tuple[int, bytes]](), 0
    for number, line in enumerate(file, start=1):
        lines.append((number, line))
        size += len(line)
        if size >= TEXT_PIECE:
            yield lines
            lines, size = [], 0
    yield lines


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"corpus {path}: not an array of token ids ({first_line(error)}).") from None
    if array.ndim not in (1, 2) or array.dtype.kind not in "iu":
        raise InputError(
            f"corpus {path}: {array.dtype} of shape {array.shape}; integer token ids, 1-d or rows, are needed."
        )
    return array


def _long(tokens: np.ndarray, document: int, first: int, source: str) -> Iterator[Piece]:
    """An array, some tokens at a time."""
    parts = max(1, -(-len(tokens) // TOKEN_PIECE))
    for part in range(first, parts):
        piece = np.array(tokens[part * TOKEN_PIECE : (part + 1) * TOKEN_PIECE], dtype=np.int64)
        yield Piece(Place(document, part), piece, source, part == parts - 1)
