"""Whose results a folder holds: told before the work begins, so that nothing is overwritten unasked and nothing done twice.

One rule for every command that writes into a folder. It goes on in a folder that holds results of the same command asked for the
same; it refuses one that holds anything else, and names what differs; on request it replaces results of its own kind.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from localize.errors import LocalizeError, first_line
from localize.storage import (
    check_writable,
    is_free,
    new_folder,
    only_writer,
    read_json,
    told_of_full_disk,
    write_json,
)

COMMAND_FILE = "command.json"
RUNNING, INTERRUPTED, FAILED, FINISHED = "running", "interrupted", "failed", "finished"
OVERWRITE = "--overwrite replaces it"
TOLD = 60
"""Characters of a value that an error shows."""


@dataclass(frozen=True)
class Command:
    """What writes into a folder, and what of a folder is its own.

    Attributes:
        name: Of the command: "run" of `localize run`.
        folder: Where to.
        words: As it was typed, or called.
        files: Patterns of the files and folders that it writes there beside its record, all of which it may replace.
        overwrite: Whether results of its own kind, asked for otherwise, are replaced.
    """

    name: str
    folder: Path
    words: str
    files: Sequence[str]
    overwrite: bool = False

    @property
    def record(self) -> Path:
        """Where it is told what the folder holds."""
        return self.folder / COMMAND_FILE

    def check(self, asked: Mapping[str, Any], *, whole: bool = False) -> None:
        """Raise an error for what can be told before anything is loaded.

        Args:
            asked: What is asked for, as far as it is known.
            whole: Whether that is all.

        Raises:
            InputError: If the folder is a URL, a file, or cannot be written to.
            LocalizeError: If it holds something that is not this command's, or is asked for otherwise and nothing is to be replaced.
        """
        check_writable(self.folder, f"--out {self.folder}")
        if is_free(self.folder):
            return
        there = self._told()
        if there is None:
            name = min(path.name for path in self.folder.iterdir())
            raise LocalizeError(
                f"{self.name} {self.folder}: holds {name!r}, which is nothing of its own; a new folder, or one that localize {self.name} "
                "wrote, is needed."
            )
        if (other := _kind(there)) != self.name:
            raise LocalizeError(
                f"{self.name} {self.folder}: holds the results of localize {other}; localize {self.name} needs a folder of its own."
            )
        if not self.overwrite:
            self._check_same(there.get("asked"), _as_read(asked), whole)

    @contextmanager
    def claimed(self, asked: Mapping[str, Any]) -> Iterator["Claim"]:
        """The folder, with nobody else writing to it and with what is asked for written down; how it ends is written in the end.

        Args:
            asked: All that the results depend on, as JSON: hashes and options.

        Raises:
            LocalizeError: As `check`, or if another process writes to the folder, or the disk is full.
        """
        asked = _as_read(asked)
        with only_writer(self.folder, self.name), told_of_full_disk(self.name, self.folder):
            self.check(asked, whole=True)
            there = self._told() or {}
            kept = there.get("asked") == asked
            if not (kept or is_free(self.folder)):
                self._remove()
            commands = [*there.get("commands", []), self.words] if kept else [self.words]
            claim = Claim(self, asked, kept, tuple(dict.fromkeys(commands)))
            claim.tell(RUNNING)
            try:
                yield claim
            except BaseException as error:
                claim.leave(error)
                raise
            claim.tell(FINISHED)

    @contextmanager
    def made_whole(self, asked: Mapping[str, Any]) -> Iterator[Path]:
        """A folder beside, which takes the place of this one when the work is finished: for what is all there or not at all.

        Args:
            asked: As in `claimed`.

        Raises:
            LocalizeError: As in `claimed`.
        """
        asked = _as_read(asked)
        with only_writer(self.folder, self.name), told_of_full_disk(self.name, self.folder):
            self.check(asked, whole=True)
            claim = Claim(self, asked, False, (self.words,))
            with new_folder(self.folder) as beside:
                yield beside
                claim.tell(FINISHED, beside / COMMAND_FILE)
                self._remove()

    def holds(self, asked: Mapping[str, Any]) -> bool:
        """Whether the folder has finished results of just this."""
        there = self._told() or {}
        return there.get("status") == FINISHED and there.get("asked") == _as_read(asked)

    def _told(self) -> dict[str, Any] | None:
        return read_json(self.record) if self.record.is_file() else None

    def _check_same(self, there: Any, mine: Mapping[str, Any], whole: bool) -> None:
        """Raise an error for the first thing asked for that is not the same."""
        if not isinstance(there, Mapping):
            raise LocalizeError(
                f"{self.name} {self.folder}: holds results of localize {self.name} that do not say what was asked for, as earlier versions "
                f"left them; choose another --out, or {OVERWRITE}."
            )
        keys = {**mine, **there} if whole else mine
        if any(there.get(key) != mine.get(key) for key in keys):
            key, before, now = _difference({key: there.get(key) for key in keys}, {key: mine.get(key) for key in keys})
            raise LocalizeError(
                f"{self.name} {self.folder}: holds results of localize {self.name} with {key} = {_short(before)}, and {_short(now)} is "
                f"asked for; choose another --out, or {OVERWRITE}."
            )

    def _remove(self) -> None:
        """Take away what this command wrote; whatever else lies there stays."""
        for pattern in (*self.files, COMMAND_FILE):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass
class Claim:
    """A folder that one process writes to.

    Attributes:
        command: Whose it is.
        asked: What is asked for.
        kept: Whether results of the same are there already, to go on from.
        commands: Every command that made the results, the last one last.
    """

    command: Command
    asked: Mapping[str, Any]
    kept: bool
    commands: tuple[str, ...]
    _started: float = field(default_factory=perf_counter)
    _at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def about(self, status: str) -> dict[str, Any]:
        """Command, status and options, as a signature holds them."""
        return {"command": self.command.words, "status": status, "asked": dict(self.asked)}

    def tell(self, status: str, record: Path | None = None, *, error: str = "") -> None:
        """Write down where the work stands, in the folder or in another file."""
        from localize import __version__

        told = {"kind": self.command.name, **self.about(status), "localize": __version__, "started": self._at}
        told |= {"commands": self.commands}
        if status != RUNNING:
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            told |= {"ended": ended, "seconds": round(perf_counter() - self._started, 1)}
        write_json(record or self.command.record, told | ({"error": error} if error else {}))

    def leave(self, error: BaseException) -> None:
        """Write down why the work ends early; where nothing is finished, leave nothing."""
        folder, interrupted = self.command.folder, isinstance(error, KeyboardInterrupt)
        if [path.name for path in folder.iterdir()] == [COMMAND_FILE]:
            self.command.record.unlink()
            folder.rmdir()
            told = "nothing was finished yet"
        else:
            why = "" if interrupted else f"{type(error).__name__}: {first_line(error)}"
            self.tell(INTERRUPTED if interrupted else FAILED, error=why)
            told = kept_words(folder)
        if interrupted:
            error.add_note(told)


def asked_of(folder: Path, name: str) -> dict[str, Any] | None:
    """What the results of a command in a folder were asked for; None where it holds none of that command."""
    record = folder / COMMAND_FILE
    told = read_json(record) if record.is_file() else {}
    return dict(told.get("asked") or {}) if told and _kind(told) == name else None


def kept_words(place: str | Path) -> str:
    """What an interrupted command leaves, in words."""
    return f"what is finished is kept in {place}; the same command goes on"


def _as_read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read from the record: tuples as lists, keys as texts."""
    return json.loads(json.dumps(asked, allow_nan=False))


def _kind(told: Mapping[str, Any]) -> str:
    """Which command left a record; earlier versions' tell what was typed alone."""
    words = str(told.get("command", "")).split()
    return str(told.get("kind") or (words[1] if words[:1] == ["localize"] and len(words) > 1 else "something else"))


def _difference(there: Mapping[str, Any], mine: Mapping[str, Any], within: str = "") -> tuple[str, Any, Any]:
    """The first entry that differs, by its names from outside in, "corpus.files.a.txt", with both values."""
    key = next(key for key in [*mine, *there] if there.get(key) != mine.get(key) or (key in there) != (key in mine))
    before, now = there.get(key), mine.get(key)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return _difference(before, now, f"{within}{key}.")
    return f"{within}{key}", before, now


def _short(value: Any) -> str:
    """A value as an error shows it: a hash by its beginning."""
    told = json.dumps(value, ensure_ascii=False)
    return told if len(told) <= TOLD else f"{told[: TOLD - 3]}..."
