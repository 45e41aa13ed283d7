"""What `localize run` and `localize edit` leave in a folder, written and read in one place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localize.errors import InputError
from localize.models.load import load_tokenizer
from localize.signature.change import Change
from localize.signature.signature import MemorizationSignature, load_signature
from localize.storage import replacing

SIGNATURE_FILE = "signature.zarr.zip"
COMMAND_FILE = "command.json"
EDITS_FILE = "edits.json"
TOKENIZER_FOLDER = "tokenizer"
SIDES = ("before", "after")
"""Signatures of an edit, and what their files end with."""


@dataclass(frozen=True, eq=False)
class Results:
    """What one command left.

    Attributes:
        path: The folder, or the file, that was read.
        signature: Of a run; None of edits.
        changes: Of edits: what each changed by its name, a repeat after the other.
        controls: Names of the edits that others are held against.
        relearned: Of edits: how fast what they forgot came back, by name.
        tokenizer: Of the model, None where there was none.
        command: What was typed, "" where it was not kept.
    """

    path: Path
    signature: MemorizationSignature | None = None
    changes: Mapping[str, list[Change]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    relearned: Mapping[str, MemorizationSignature] = field(default_factory=dict)
    tokenizer: Any = None
    command: str = ""

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.path.resolve().name.removesuffix(".zarr.zip")


def read_results(path: str | Path) -> Results:
    """Read a folder of `localize run` or `localize edit`, or a signature's file.

    Raises:
        InputError: If there is no such folder, it holds no results, or what it says of them is damaged.
        SignatureError: If a signature is damaged.
    """
    path = Path(path)
    if path.is_file():
        return Results(path, load_signature(path))
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; one that `localize run` or `localize edit` wrote is needed.")
    has_signature, has_edits = (path / SIGNATURE_FILE).is_file(), (path / EDITS_FILE).is_file()
    if not (has_signature or has_edits):
        raise InputError(
            f"{path}: holds neither {SIGNATURE_FILE} nor {EDITS_FILE}; a folder that `localize run` or `localize edit` wrote is needed."
        )
    edits = _read_json(path / EDITS_FILE) if has_edits else {"edits": [], "relearned": []}
    try:
        changes: dict[str, list[Change]] = {}
        for edit in edits["edits"]:
            changes.setdefault(edit["label"], []).append(Change(*(load_signature(path / edit[s]) for s in SIDES)))
        relearned = {run["label"]: load_signature(path / run["file"]) for run in edits["relearned"]}
        controls = tuple(dict.fromkeys(edit["label"] for edit in edits["edits"] if edit["control"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / EDITS_FILE}: not what `localize edit` writes ({error}); edit again.") from None
    tokenizer = path / TOKENIZER_FOLDER
    return Results(
        path,
        load_signature(path / SIGNATURE_FILE) if has_signature else None,
        changes,
        controls,
        relearned,
        load_tokenizer(tokenizer) if tokenizer.is_dir() else None,
        _command(path / COMMAND_FILE),
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small file of facts; a killed write leaves the old one or the new one."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; an object is needed.")
    return content


def _command(path: Path) -> str:
    """What was typed, as a shell takes it."""
    return str(_read_json(path).get("command", "")) if path.is_file() else ""
