"""Files: written so that a reader finds the old one or the new one, never a half; by one process at a time; read with one-line errors."""

import errno
import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localize.errors import InputError, LocalizeError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; moved into its place on success, removed on failure.

    The name beside keeps the suffixes, by which some writers choose a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    os.close(handle)
    beside = Path(name)
    beside.chmod(0o644)
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            beside.unlink()
        raise


@contextmanager
def only_writer(path: Path, what: str) -> Iterator[None]:
    """Nobody else writes to `path` meanwhile: a lock beside it, which the operating system drops with the process.

    Args:
        path: A file or folder.
        what: What it is, for the error.

    Raises:
        LocalizeError: If another process holds the lock.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LocalizeError(
            f"{what} {path}: another process is writing to it; wait for it, or choose another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def told_of_full_disk(what: str, path: Any) -> Iterator[None]:
    """A full disk is told in one line; what is finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise LocalizeError(
            f"{what} {path}: no space left on the device; what is finished is kept. Make room and run the same command again."
        ) from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A TOML document.

    Args:
        path: Its file.
        what: What it is, for the error.

    Raises:
        InputError: If the file is missing or is no TOML.
    """
    if not path.is_file():
        raise InputError(f"{what} {path}: no such file.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path}: not TOML ({error}).") from None


def is_unicode(text: str) -> bool:
    """Whether a file can hold the text: half a surrogate pair has no encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
