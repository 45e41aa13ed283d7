"""What `localize run`, `localize edit` and `localize train` leave in a folder, read in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localize.analysis.change import Change
from localize.claims import COMMAND_FILE, FAILED, FINISHED, INTERRUPTED
from localize.errors import InputError
from localize.models.load import load_tokenizer
from localize.signature.signature import MemorizationSignature, load_signature
from localize.storage import read_json
from localize.train.recipe import WATCHED_FILE

SIGNATURE_FILE = "signature.zarr.zip"
EDITS_FILE = "edits.json"
REPORT_FILE = "report.html"
TOKENIZER_FOLDER = "tokenizer"
SIDES = ("before", "after")
"""Signatures of an edit, and what their files end with."""


@dataclass(frozen=True, eq=False)
class CommandResults:
    """What one command left.

    Attributes:
        path: The folder, or the file, that was read.
        signature: Of a run; None of edits.
        changes: Of edits: what each changed by its name, a repeat after the other.
        controls: Names of the edits that others are held against.
        relearned: Of edits: how fast what they forgot came back, by name.
        tokenizer: Of the model, None where there was none.
        command: What was typed, "" where it was not kept.
        unfinished: Why more was asked for than is there, "" where nothing is known to be missing.
        attacked: Of edits: what attacks brought back, by name, a repeat after the other.
        training: Of a training: what was watched.
    """

    path: Path
    signature: MemorizationSignature | None = None
    changes: Mapping[str, list[Change]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    relearned: Mapping[str, MemorizationSignature] = field(default_factory=dict)
    tokenizer: Any = None
    command: str = ""
    unfinished: str = ""
    attacked: Mapping[str, list[MemorizationSignature]] = field(default_factory=dict)
    training: MemorizationSignature | None = None

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.path.resolve().name.removesuffix(".zarr.zip")


def read_results(path: str | Path) -> CommandResults:
    """Read a folder of `localize run`, `localize edit` or `localize train`, or a signature's file.

    Raises:
        InputError: If there is no such folder, it holds no results, or what it says of them is damaged.
        SignatureError: If a signature is damaged.
    """
    path = Path(path)
    if path.is_file():
        signature = load_signature(path)
        told = signature.dataset.attrs.get("run", {})
        if signature.over_training:
            return CommandResults(path, training=signature, command=told.get("command", ""))
        return CommandResults(path, signature, command=told.get("command", ""), unfinished=unfinished_words(told))
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; one that `localize run` or `localize edit` wrote is needed.")
    has_signature, has_edits = (path / SIGNATURE_FILE).is_file(), (path / EDITS_FILE).is_file()
    has_training = (path / WATCHED_FILE).is_file()
    if not (has_signature or has_edits or has_training):
        raise InputError(
            f"{path}: holds neither {SIGNATURE_FILE} nor {EDITS_FILE} nor {WATCHED_FILE}; a folder that `localize run`, `localize edit` or "
            "`localize train` wrote is needed."
        )
    edits = read_json(path / EDITS_FILE) if has_edits else {"edits": [], "relearned": []}
    try:
        changes: dict[str, list[Change]] = {}
        for edit in edits["edits"]:
            changes.setdefault(edit["label"], []).append(Change(*(load_signature(path / edit[s]) for s in SIDES)))
        attacked: dict[str, list[MemorizationSignature]] = {}
        for run in edits.get("attacked", ()):  # folders of earlier versions have none
            attacked.setdefault(run["label"], []).append(load_signature(path / run["file"]))
        relearned = {run["label"]: load_signature(path / run["file"]) for run in edits["relearned"]}
        controls = tuple(dict.fromkeys(edit["label"] for edit in edits["edits"] if edit["control"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / EDITS_FILE}: not what `localize edit` writes ({error}); edit again.") from None
    tokenizer, told = path / TOKENIZER_FOLDER, read_json(record) if (record := path / COMMAND_FILE).is_file() else {}
    return CommandResults(
        path,
        load_signature(path / SIGNATURE_FILE) if has_signature else None,
        changes,
        controls,
        relearned,
        load_tokenizer(tokenizer) if tokenizer.is_dir() else None,
        "; ".join(told.get("commands") or [str(told.get("command", ""))]),
        unfinished_words(told),
        attacked,
        load_signature(path / WATCHED_FILE) if has_training else None,
    )


def read_signature(path: Path) -> MemorizationSignature:
    """The signature in a folder of a run, or what was watched in one of a training; or the one in a file.

    Raises:
        SignatureError: If there is none.
    """
    if not path.is_dir():
        return load_signature(path)
    watched = (path / WATCHED_FILE).is_file() and not (path / SIGNATURE_FILE).is_file()
    return load_signature(path / (WATCHED_FILE if watched else SIGNATURE_FILE))


def report_file(results: Path) -> Path:
    """Where the report of results goes that is given no other place: into their folder."""
    return (results if results.is_dir() else results.parent) / REPORT_FILE


def unfinished_words(told: Mapping[str, Any]) -> str:
    """What a command's record says of its end, "" where it came to one, or does not say."""
    status = told.get("status", FINISHED)
    if status == FINISHED:
        return ""
    why = {INTERRUPTED: "was interrupted", FAILED: f"failed ({told.get('error', '')})"}
    return f"The command {why.get(status, 'is still running, or was killed')}: not all that was asked for is here."
