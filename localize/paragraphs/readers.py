"""From files, lists, arrays and datasets to `Paragraphs`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import TRUE
from localize.errors import InputError, first_line, public, warn
from localize.paragraphs.records import (
    PACKED,
    RECORD_FILES,
    TEXT_FIELDS,
    field_of,
    is_missing,
    kind_of,
    records,
    rows_of,
    token_list,
)
from localize.paragraphs.tokenization import Tokenization
from localize.resources import EMBEDDED, embedded, path_words
from localize.storage import is_unicode

if TYPE_CHECKING:
    from localize.paragraphs.paragraphs import Paragraphs

GROUP_FIELDS = ("group", "label")
DUPLICATE_FIELDS = ("duplicates", "count", "copies")
TOKEN_FILES = (".npy", ".pt")
FORMATS = (*RECORD_FILES, *TOKEN_FILES)


@public
def load_paragraphs(
    source: Any = None,
    tokenizer: Any = None,
    *,
    prefix_length: int = 50,
    continuation_length: int = 50,
    continuation: str = TRUE,
    limit: int | None = None,
) -> "Paragraphs":
    """Read paragraphs, each cut to `prefix_length + continuation_length` tokens.

    Args:
        source: None or "embedded" for the embedded ones; a `.csv`, `.jsonl` (both also as `.gz` or `.zst`) or `.parquet` file, a
            `datasets.Dataset`, a pandas DataFrame, a dict of columns or an iterable of mappings (fields `text`, `paragraph` or
            `content`, or `tokens`; on the side `id`, `group` or `label`, and `duplicates`, `count` or `copies`, each of which a row
            may lack); a `.npy` or `.pt` file, an array or a tensor of token rows; an iterable of strings; or `Paragraphs`.
        tokenizer: What turns texts into tokens: a tokenizer, or a model loaded with one. No BOS is added.
        prefix_length: Tokens that are given.
        continuation_length: Tokens that are asked for.
        continuation: "own" if the rows hold the model's own greedy continuation instead of the true one.
        limit: Take at most so many paragraphs, the first ones.

    Returns:
        The paragraphs. Texts of too few tokens are left out, and told in `skipped`. A row's tokens count, if they decode to its
        text; else, as where they are another tokenizer's, its text is tokenized, which `notes` and a warning tell. Of a very long
        text the beginning is kept, with all that the tokens say.

    Raises:
        InputError: If the source is missing, empty, or not of these forms; the message names file, row and fields.
    """
    import numpy as np
    import torch

    from localize.paragraphs.paragraphs import Paragraphs

    if prefix_length < 1 or continuation_length < 1:
        raise InputError(
            f"prefix_length={prefix_length} and continuation_length={continuation_length} must both be at least 1."
        )
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1.")
    if isinstance(source, Paragraphs):
        return source if limit is None else source[:limit]
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    length = prefix_length + continuation_length
    if source is None or isinstance(source, str | Path):
        given = None if source is None or source == EMBEDDED else Path(source)
        path, name = (embedded("paragraphs.jsonl"), EMBEDDED) if given is None else (given, path_words(given))
        kind = checked_kind(path)
        source = _token_file(path, kind) if kind in TOKEN_FILES else _FileRows(path)
    else:
        name = type(source).__name__
        source = rows_of(source, "paragraphs")
    if isinstance(source, torch.Tensor | np.ndarray):
        tokens = _token_matrix(source, length, name)[:limit]
        return Paragraphs(tokens=tokens, prefix_length=prefix_length, continuation=continuation, source=name)
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise InputError(
            f"paragraphs: a {name} cannot be read; a file, texts, token rows or objects with a field 'text' are."
        )
    columns = _Columns(length, tokenizer, name)
    for number, row in enumerate(source):
        if limit is not None and len(columns.tokens) >= limit:
            break
        columns.add(number, row)
    if not columns.tokens:
        told = f" ({len(columns.skipped)} rows skipped: {columns.skipped[0]})" if columns.skipped else ""
        raise InputError(f"paragraphs {name}: no paragraphs{told}; at least one of {length} tokens is needed.")
    for note in columns.notes():
        warn(f"paragraphs {name}: {note}.")
    return Paragraphs(
        tokens=torch.tensor(columns.tokens, dtype=torch.int64),
        prefix_length=prefix_length,
        continuation=continuation,
        skipped=tuple(columns.skipped),
        source=name,
        notes=columns.notes(),
        **columns.optional(),
    )


class _Columns:
    """Rows taken apart, one after another, into the columns of `Paragraphs`."""

    def __init__(self, length: int, tokenizer: Any, name: str):
        self.length, self.name = length, name
        self.tokenization = Tokenization(tokenizer)
        self.tokens: list[list[int]] = []
        self.skipped: list[str] = []
        self.again: list[int] = []
        self.columns: dict[str, list] = {"ids": [], "texts": [], "groups": [], "duplicates": []}

    def add(self, number: int, row: Any) -> None:
        where = f"paragraphs {self.name}: row {number}"
        if isinstance(row, str):
            row = {"text": row}
        elif isinstance(row, list | tuple) or hasattr(row, "tolist"):
            row = {"tokens": row}
        elif not isinstance(row, Mapping):
            raise InputError(
                f"{where} is a {type(row).__name__}; a text, token ids, or an object with a field 'text' or 'tokens' is needed."
            )
        text = field_of(row, TEXT_FIELDS)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: its text is a {type(text).__name__}, not a string.")
        duplicates = _count(where, row)
        tokens = self._given_tokens(where, row, text)
        if tokens is None:
            if text is None:
                self._without_text(where, number, row)
                return
            tokens = self._tokens(where, text)
            if len(tokens) < self.length:
                self.skipped.append(f"row {number}: {len(tokens)} tokens, {self.length} are needed")
                return
            if not is_missing(row.get("tokens")):
                self.again.append(number)
        self.tokens.append(tokens)
        if text is not None:
            text = self.tokenization.kept(text, tokens)
        identifier, group = row.get("id"), field_of(row, GROUP_FIELDS)
        self.columns["texts"].append(text)
        self.columns["ids"].append((number, None if is_missing(identifier) else str(identifier)))
        self.columns["groups"].append(None if group is None else str(group))
        self.columns["duplicates"].append(duplicates)

    def _given_tokens(self, where: str, row: Mapping, text: str | None) -> list[int] | None:
        """The first tokens that a row brings; None if it brings none, or such as do not decode to its text."""
        if is_missing(row.get("tokens")):
            return None
        tokens = token_list(row["tokens"])
        if tokens is None:
            raise InputError(f"{where}: 'tokens' must be a list of integers.")
        if huge := next((t for t in tokens if abs(t) >= 2**63), None):
            raise InputError(
                f"{where} has the token id {huge}, more than 64 bits; ids lie inside a model's vocabulary."
            )
        first = tokens[: self.length]
        if text and not self.tokenization.are_of(first, text):  # an empty text is none to compare with
            return None
        if len(tokens) < self.length:
            raise InputError(f"{where} has {len(tokens)} tokens; {self.length} are needed (prefix + continuation).")
        return first

    def _without_text(self, where: str, number: int, row: Mapping) -> None:
        """A row with nothing in its fields is left out; one without such fields is an error."""
        if not any(field in row for field in (*TEXT_FIELDS, "tokens")):
            has = ", ".join(str(field) for field in row) or "none"
            raise InputError(f"{where} has no field 'tokens' or {', '.join(map(repr, TEXT_FIELDS))}; it has {has}.")
        self.skipped.append(f"row {number}: no text")

    def _tokens(self, where: str, text: str) -> list[int]:
        """A text's tokens, as many as are needed."""
        if self.tokenization.tokenizer is None:
            raise InputError(
                f"paragraphs {self.name} are text; pass the model or its tokenizer: load_paragraphs(..., model)."
            )
        if not is_unicode(text):
            raise InputError(f"{where}: its text holds half a surrogate pair; valid Unicode is needed.")
        return self.tokenization.first_tokens(text, self.length)

    def optional(self) -> dict[str, Any]:
        """The columns that any row has; what a row lacks is None in it, and its name the row's number."""
        ids = self.columns.pop("ids")
        named = any(given is not None for _, given in ids)
        unnamed = "row {}" if named else "{}"  # a number alone may be another row's name
        columns = {name: tuple(values) for name, values in self.columns.items() if any(v is not None for v in values)}
        return columns | {"ids": tuple(unnamed.format(number) if given is None else given for number, given in ids)}

    def notes(self) -> tuple[str, ...]:
        """What was read otherwise than it stands there."""
        if not self.again:
            return ()
        return (
            f"{len(self.again)} {'row' if len(self.again) == 1 else 'rows'} tokenized again from the text, to which the tokens given "
            f"do not decode (first: row {self.again[0]})",
        )


def _count(where: str, row: Mapping) -> int | None:
    """How often a row says that it stands in the training data."""
    given = field_of(row, DUPLICATE_FIELDS)
    if given is None or given == "":
        return None
    try:
        count = None if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        count = None
    if count is None or not 0 <= count < 2**53 or count % 1:
        raise InputError(f"{where}: the number of duplicates is {given!r}; a whole number, at least 0, is needed.")
    return int(count)


def checked_kind(path: Path) -> str:
    """What is in a file that is there and can be read here."""
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have: a text given instead of a path
        there = False
    if not there:
        shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:60]!r}... ({len(str(path))} characters)"
        raise InputError(f"paragraphs {shown}: no such file.")
    kind = kind_of(path)
    if kind not in FORMATS:
        raise InputError(
            f"paragraphs {path}: {kind or 'no suffix'} is not a format read here; {', '.join(FORMATS)} are (.csv and .jsonl also as "
            f"{' or '.join(PACKED)})."
        )
    return kind


class _FileRows:
    """The rows of a file of records; one that cannot be read ends it. The file is open while there is a loop over them."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[Any]:
        for record in records(self.path, "paragraphs"):
            if record.problem:
                raise InputError(f"paragraphs {self.path}: {record.told}.")
            yield record.value


def _token_file(path: Path, kind: str) -> Any:
    import numpy as np
    import torch

    try:
        if kind == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        # Damaged files raise many kinds, one of them the unpickler's refusal of anything but tensors.
        raise InputError(f"paragraphs {path}: cannot be read as plain tensors ({first_line(error)}).") from None
    if isinstance(loaded, list) and loaded and all(isinstance(row, torch.Tensor) and row.ndim == 1 for row in loaded):
        lengths = sorted({len(row) for row in loaded})
        if len(lengths) > 1:
            raise InputError(
                f"paragraphs {path}: ragged rows, of {lengths[0]} to {lengths[-1]} tokens; rows of one length are needed."
            )
        return torch.stack(loaded)
    if not isinstance(loaded, torch.Tensor):
        raise InputError(f"paragraphs {path}: holds a {type(loaded).__name__}; a tensor of token rows is needed.")
    return loaded


def _token_matrix(given: Any, length: int, name: str) -> Any:
    """Token rows as an int64 tensor of their own, cut to `length`."""
    import numpy as np
    import torch

    array = given
    if isinstance(given, torch.Tensor):
        whole = given.layout is torch.strided and not (given.is_floating_point() or given.is_complex())
        array = given.cpu().numpy() if whole else np.empty(given.shape, np.float32)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"paragraphs {name}: {getattr(given, 'dtype', '?')} of shape {tuple(array.shape)}; "
            "integer token rows (paragraph, position) are needed."
        )
    if len(array) == 0:
        raise InputError(f"paragraphs {name}: no paragraphs; at least one of {length} tokens is needed.")
    if array.shape[1] < length:
        raise InputError(
            f"paragraphs {name}: rows of {array.shape[1]} tokens; {length} are needed (prefix + continuation)."
        )
    rows = array[:, :length]
    if rows.dtype.kind == "u" and rows.size and rows.max() > np.iinfo(np.int64).max:
        raise InputError(f"paragraphs {name}: a token id exceeds 64 bits; ids lie inside a model's vocabulary.")
    return torch.from_numpy(np.array(rows, dtype=np.int64))
