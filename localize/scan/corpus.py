"""A corpus of any kind as a stream of pieces of tokens, which can be entered again in its middle."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from localize.errors import InputError, first_line, warn
from localize.paragraphs.records import (
    CORPUS_FILES,
    HALF,
    PACKED,
    RECORD_FILES,
    TEXT_FIELDS,
    TEXT_FILES,
    Record,
    field_of,
    is_missing,
    kind_of,
    opened,
    readable_files,
    records,
    rows_of,
    token_list,
    unicode_name,
)
from localize.paragraphs.tokenization import Tokenization
from localize.scan.content import HashedRows, array_hash, file_hashes, known_of, rows_hash
from localize.storage import is_unicode

TEXT_PIECE = 2**18
"""Bytes of running text that are turned into tokens together, at least."""

TOKEN_PIECE = 2**18
"""Tokens of a long array that are read together."""

WHITESPACE = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace() and not "\x1c" <= sign <= "\x1f")
"""What the tokenizers take for whitespace: Unicode's property, which Python's `isspace` widens by four separators."""

CHECKED = 256
"""Of the tokens that a record brings with its text, so many are decoded to see whether they are the text's."""

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
        source: A `.txt`, `.md`, `.jsonl`, `.csv` (these also as `.gz` or `.zst`), `.parquet` or `.npy` file, a folder of them (taken in
            the order of their names; what is hidden is no part of it), or an iterable that can be started again: of texts, of mappings
            with a text field or `tokens`, or of token sequences, such as a streamed `datasets.Dataset` or a pandas DataFrame. A text
            file is one document; so are a line of JSON, a row of a table or of a 2-d array, and a 1-d array.
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
        self._told_again = False
        name, source = type(source).__name__, rows_of(source, "corpus")
        if isinstance(source, str | Path):
            self._files, self.name = _files(Path(source)), str(source)
            self._root = Path(source) if Path(source).is_dir() else Path(source).parent
        elif isinstance(source, Iterable) and not isinstance(source, Iterator | Mapping):
            self._rows, self.name = source if hasattr(source, "ndim") else HashedRows(source, self.fields, name), name
        else:
            raise InputError(
                f"corpus: a {name} cannot be scanned; a file, a folder, or an iterable that can be started again "
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

    def _name(self, path: Path) -> str:
        """What a file is called as a source: two of one name in different folders are two."""
        return unicode_name(path, self._root)

    def _stats(self) -> list[tuple[int, int]]:
        return [(found.st_size, found.st_mtime_ns) for found in (path.stat() for path in self._files)]

    @property
    def reading(self) -> HashedRows | None:
        """The rows that are hashed as they are read; None of files and arrays."""
        return self._rows if isinstance(self._rows, HashedRows) else None

    @property
    def is_stream(self) -> bool:
        """Whether it is hashed only as it is read."""
        return self.reading is not None and not hasattr(self.reading.rows, "__len__")

    def pieces(self, start: Place = START) -> Iterator[Piece]:
        """The pieces from a place on; what lies before it is passed over without being turned into tokens."""
        document = 0
        for path in self._files:
            kind, name = kind_of(path), self._name(path)
            if kind in TEXT_FILES:
                if document >= start.document:
                    first = start.part if document == start.document else 0
                    yield from self._text(path, document, first)
                document += 1
            elif kind in RECORD_FILES:
                following = document
                for record in records(path, "corpus", self.fields, start.document - document):
                    at = document + record.number
                    if at >= start.document:
                        yield from self._record(record, at, start.part if at == start.document else 0, name)
                    following = at + 1
                document = following
            else:
                array = _array(path)
                rows = array[None] if array.ndim == 1 else array
                for row in range(max(0, start.document - document), len(rows)):
                    at = document + row
                    first = start.part if at == start.document else 0
                    yield from _long(rows[row], at, first, name)
                document += len(rows)
        if not self._files:
            rows = [self._rows] if getattr(self._rows, "ndim", 2) == 1 else self._rows
            for document, row in enumerate(rows):
                if document >= start.document:
                    first = start.part if document == start.document else 0
                    yield from self._record(Record(document, None, row), document, first)

    def _text(self, path: Path, document: int, first: int) -> Iterator[Piece]:
        """A text file, some lines at a time. Whitespace at a piece's end goes to the next piece, so that tokens are the whole file's.

        GPT-2's tokenizer begins a word where whitespace begins, but divides whitespace by what comes after it.
        """
        part, text, skipped, name = 0, "", list[str](), self._name(path)
        with opened(path, "corpus") as file:
            for lines in _bundles(file):
                for number, line in lines:
                    try:
                        text += line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as error:
                        skipped.append(f"{name}, line {number}: not UTF-8 ({error.reason} at byte {error.start})")
                end = len(text.rstrip(WHITESPACE))
                if part >= first:
                    tokens = self._tokens(text[:end], name)
                    yield Piece(Place(document, part), tokens, name, False, tuple(skipped))
                part, text, skipped = part + 1, text[end:], []
        if part >= first:
            yield Piece(Place(document, part), self._tokens(text, name), name)

    def _record(self, record: Record, document: int, first: int, file: str = "") -> Iterator[Piece]:
        """A record of a file or an iterable; one that cannot be read is left out, and told."""
        source = file or self.name
        found = record.problem or self._row(record.value)
        if isinstance(record.value, Mapping) and not isinstance(found, str):
            told = field_of(record.value, ("source",))
            source = str(told) if told else source
            found = found if is_unicode(source) else f"its source holds {HALF}"
        if isinstance(found, str):
            where = f"{file}, document {document}" if file else f"document {document}"
            yield Piece(Place(document, 0), NOTHING, file or self.name, skipped=(f"{where}: {found}",))
            return
        yield from _long(found, document, first, source)

    def _row(self, row: Any) -> np.ndarray | str:
        """A record's tokens, or why it has none."""
        if isinstance(row, Mapping):
            is_empty = any(field in row for field in self.fields)
            row = self._given(row)
            if row is None:
                return "no text" if is_empty else f"no field {', '.join(map(repr, self.fields))} or 'tokens'"
        if isinstance(row, str):
            return self._tokens(row, self.name) if is_unicode(row) else f"its text holds {HALF}"
        try:
            array = np.asarray(row)
        except ValueError as error:  # lists of several lengths
            return f"no token ids ({first_line(error)})"
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            return f"{array.dtype} of {array.ndim} dimensions; a text or token ids are needed"
        return array.astype(np.int64)

    def _given(self, row: Mapping[str, Any]) -> Any:
        """The tokens that a record brings, or its text where it has none, or such as do not decode to it; None without either."""
        text, tokens = field_of(row, self.fields), row.get("tokens")
        if is_missing(tokens):
            return text
        listed = token_list(tokens)
        if listed is None:
            return (tokens,)  # no tokens: told by its dtype
        if text and isinstance(text, str) and not Tokenization(self.tokenizer).are_of(listed[:CHECKED], text):
            if not self._told_again:
                warn(
                    f"corpus {self.name}: records hold tokens that do not decode to their text; the text is tokenized again."
                )
            self._told_again = True
            return text
        return listed

    def _tokens(self, text: str, name: str) -> np.ndarray:
        if self.tokenizer is None:
            raise InputError(f"corpus {name} is text; the model has no tokenizer: give one.")
        return np.array(Tokenization(self.tokenizer).tokens(text), dtype=np.int64)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = readable_files(path, CORPUS_FILES)
        if not found:
            raise InputError(f"corpus {path}: no file of {', '.join(CORPUS_FILES)} in this folder.")
        return found
    if not path.is_file():
        raise InputError(f"corpus {path}: no such file or folder.")
    if kind_of(path) not in CORPUS_FILES:
        raise InputError(
            f"corpus {path}: {kind_of(path) or 'no suffix'} is not a format scanned here; {', '.join(CORPUS_FILES)} are (text, .csv and "
            f".jsonl also as {' or '.join(PACKED)})."
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
