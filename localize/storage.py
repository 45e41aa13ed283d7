"""Files: written so that a reader finds the old one or the new one, never a half; by one process at a time; read with one-line errors."""

import errno
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localize.errors import InputError, LocalizeError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; moved into its place on success, removed on failure.

    The name beside keeps the suffixes, by which some writers choose a format.

    Raises:
        InputError: If the path is a URL.
    """
    check_no_url(path, f"write {path}")
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


def check_no_url(path: Path, told: str) -> None:
    """Raise an `InputError` for "s3://bucket/run", which as a path would be a local folder called "s3:"."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        as_given = str(path).replace(":/", "://", 1)  # which a path has made one
        raise InputError(
            f"{told.replace(str(path), as_given)}: is a URL; a path of this machine is needed (only a sweep's store can be a URL)."
        )


def check_writable(folder: Path, told: str) -> None:
    """Raise an `InputError` unless a folder is, or can be made, where files can be written; leaves nothing.

    Args:
        folder: Where results are to go.
        told: The option and its value, for the error.
    """
    check_no_url(folder, told)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        blocking = "" if told.endswith(f" {nearest}") else f"{nearest} "
        raise InputError(f"{told}: {blocking}is a file; a folder is needed.")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise InputError(f"{told}: cannot be written to ({error.strerror} in {nearest}); choose another.") from None


def is_free(folder: Path) -> bool:
    """Whether nothing is there: no such folder, or an empty one."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write to; moved into its place on success, removed on failure.

    Raises:
        OSError: If `folder` holds something by then.
    """
    check_no_url(folder, f"write {folder}")
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield beside
        beside.chmod(0o755)
        for file in beside.iterdir():
            file.chmod(0o755 if file.is_dir() else 0o644)
        os.replace(beside, folder)  # onto an empty folder too
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
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
        with suppress(OSError):
            os.unlink(lock.lock_file)  # while it is still held: who opens it anew makes another
        lock.release()


@contextmanager
def told_of_full_disk(what: str, path: Any) -> Iterator[None]:
    """A full disk is told in one line; what is finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small file of facts; a killed write leaves the old one or the new one."""
    with replacing(path) as beside:
        told = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        beside.write_text(told + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A small file of facts.

    Raises:
        InputError: If it cannot be read, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; an object is needed.")
    return content


def is_unicode(text: str) -> bool:
    """Whether a file can hold the text: half a surrogate pair has no encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
