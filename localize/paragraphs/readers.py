"""From files, lists, arrays and datasets to `Paragraphs`."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import TRUE
from localize.errors import InputError, first_line
from localize.resources import EMBEDDED, embedded, path_words
from localize.storage import is_unicode

if TYPE_CHECKING:
    from localize.paragraphs.paragraphs import Paragraphs

TEXT_FIELDS = ("text", "paragraph", "content")
GROUP_FIELDS = ("group", "label")
DUPLICATE_FIELDS = ("duplicates", "count", "copies")
FORMATS = (".csv", ".jsonl", ".npy", ".pt")


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
        source: None or "embedded" for the embedded ones; a `.csv` or `.jsonl` file, a `datasets.Dataset` or an iterable of mappings
            (fields `text`, `paragraph` or `content`, or `tokens`; on the side `id`, `group` or `label`, and `duplicates`, `count` or
            `copies`); a `.npy` or `.pt` file, an array or a tensor of token rows; an iterable of strings; or `Paragraphs`.
        tokenizer: What turns texts into tokens: a tokenizer, or a model loaded with one. No BOS is added.
        prefix_length: Tokens that are given.
        continuation_length: Tokens that are asked for.
        continuation: "own" if the rows hold the model's own greedy continuation instead of the true one.
        limit: Take at most so many paragraphs, the first ones.

    Returns:
        The paragraphs. Texts of too few tokens are left out, and told in `skipped`.

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
        of_house = source is None or source == EMBEDDED
        path = embedded("paragraphs.jsonl") if of_house else Path(source)
        name = EMBEDDED if of_house else path_words(path)
        suffix = _checked_suffix(path)
        source = (
            _token_file(path)
            if suffix in (".npy", ".pt")
            else _csv_rows(path)
            if suffix == ".csv"
            else _jsonl_rows(path)
        )
    else:
        name = type(source).__name__
    if isinstance(source, torch.Tensor | np.ndarray):
        tokens = _token_matrix(source, length, name)[:limit]
        return Paragraphs(tokens=tokens, prefix_length=prefix_length, continuation=continuation, source=name)
    if not isinstance(source, Iterable):
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
    return Paragraphs(
        tokens=torch.tensor(columns.tokens, dtype=torch.int64),
        prefix_length=prefix_length,
        continuation=continuation,
        skipped=tuple(columns.skipped),
        source=name,
        **columns.optional(),
    )


class _Columns:
    """Rows taken apart, one after another, into the columns of `Paragraphs`."""

    def __init__(self, length: int, tokenizer: Any, name: str):
        self.length, self.tokenizer, self.name = length, tokenizer, name
        self.tokens: list[list[int]] = []
        self.skipped: list[str] = []
        self.columns: dict[str, list] = {"ids": [], "texts": [], "groups": [], "duplicates": []}

    def add(self, number: int, row: Any) -> None:
        where = f"paragraphs {self.name}: row {number}"
        if isinstance(row, str):
            row = {"text": row}
        elif isinstance(row, list | tuple):
            row = {"tokens": row}
        elif not isinstance(row, Mapping):
            raise InputError(
                f"{where} is a {type(row).__name__}; a text, token ids, or an object with a field 'text' or 'tokens' is needed."
            )
        text = next((row[field] for field in TEXT_FIELDS if field in row), None)
        if row.get("tokens") is not None:
            tokens = row["tokens"]
            if not isinstance(tokens, list | tuple) or not all(type(t) is int for t in tokens):
                raise InputError(f"{where}: 'tokens' must be a list of integers.")
            if huge := next((t for t in tokens if abs(t) >= 2**63), None):
                raise InputError(
                    f"{where} has the token id {huge}, more than 64 bits; ids lie inside a model's vocabulary."
                )
            if len(tokens) < self.length:
                raise InputError(f"{where} has {len(tokens)} tokens; {self.length} are needed (prefix + continuation).")
        elif isinstance(text, str):
            if self.tokenizer is None:
                raise InputError(
                    f"paragraphs {self.name} are text; pass the model or its tokenizer: load_paragraphs(..., model)."
                )
            if not is_unicode(text):
                raise InputError(f"{where}: its text holds half a surrogate pair; valid Unicode is needed.")
            tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            if len(tokens) < self.length:
                self.skipped.append(f"row {number}: {len(tokens)} tokens, {self.length} are needed")
                return
        elif text is None:
            has = ", ".join(str(field) for field in row) or "none"
            raise InputError(f"{where} has no field 'tokens' or {', '.join(map(repr, TEXT_FIELDS))}; it has {has}.")
        else:
            raise InputError(f"{where}: its text is a {type(text).__name__}, not a string.")
        self.tokens.append(list(tokens[: self.length]))
        self.columns["texts"].append(text)
        identifier = row.get("id")
        self.columns["ids"].append(str(number if identifier is None else identifier))
        self.columns["groups"].append(next((str(row[f]) for f in GROUP_FIELDS if row.get(f) is not None), None))
        self.columns["duplicates"].append(self._count(where, row))

    @staticmethod
    def _count(where: str, row: Mapping) -> int | None:
        given = next((row[f] for f in DUPLICATE_FIELDS if row.get(f) not in (None, "")), None)
        if given is None:
            return None
        try:
            return int(float(given))
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: the number of duplicates is {given!r}; an integer is needed.") from None

    def optional(self) -> dict[str, Any]:
        """The columns that every row has."""
        return {name: tuple(values) for name, values in self.columns.items() if all(v is not None for v in values)}


def _checked_suffix(path: Path) -> str:
    """The suffix of a file that is there and can be read here."""
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have: a text given instead of a path
        there = False
    if not there:
        shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:60]!r}... ({len(str(path))} characters)"
        raise InputError(f"paragraphs {shown}: no such file.")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"paragraphs {path}: {suffix or 'no suffix'} is not a format read here; {', '.join(FORMATS)} are."
        )
    return suffix


def _csv_rows(path: Path) -> Iterator[Mapping]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # paragraphs can exceed the 128 KiB that is the default
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            names = rows.fieldnames or []
            if not any(field in names for field in TEXT_FIELDS):
                has = ", ".join(names) or "none"
                raise InputError(f"paragraphs {path}: no column {', '.join(map(repr, TEXT_FIELDS))}; it has {has}.")
            for number, row in enumerate(rows):
                if None in row or None in row.values():
                    raise InputError(
                        f"paragraphs {path}: row {number} (line {rows.line_num}) has not {len(names)} columns."
                    )
                yield row
        except UnicodeDecodeError as error:
            raise InputError(f"paragraphs {path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _jsonl_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        try:
            for line in file:
                number += 1
                if line.strip():
                    yield json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"paragraphs {path}: line {number} is not JSON ({error.msg} at column {error.colno})."
            ) from None
        except UnicodeDecodeError as error:
            raise InputError(f"paragraphs {path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
        except (RecursionError, ValueError) as error:
            raise InputError(f"paragraphs {path}: line {number} is not JSON ({first_line(error)}).") from None


def _token_file(path: Path) -> Any:
    import numpy as np
    import torch

    try:
        if path.suffix == ".npy":
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
