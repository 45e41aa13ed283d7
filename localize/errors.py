"""The errors that a user of the suite can cause, each told in one line that begins with the function that was called."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

DISTRIBUTION = "localize-memorization"
"""What the package index calls this package: there "localize" is another one."""

HOUSE = str(Path(__file__).parent) + os.sep
"""Where the files of this package are."""


class LocalizeError(ValueError):
    """Something given to the suite cannot be used; the message says what, where and what is allowed."""


class InputError(LocalizeError):
    """A file or table of paragraphs, tokens or counts cannot be read as one."""


class ModelError(LocalizeError):
    """A model cannot be loaded, or has no such layer, head or component."""


class SignatureError(LocalizeError):
    """A signature is damaged, does not fit its schema, or does not join with another."""


P = ParamSpec("P")
R = TypeVar("R")

_CALLED: ContextVar[str] = ContextVar("_CALLED", default="")


@overload
def public(named: Callable[P, R]) -> Callable[P, R]: ...


@overload
def public(named: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def public(named: Any) -> Any:
    """A function that users call: an error that is raised below it, however deep, names it as the `caller`.

    `@public` tells the function's own name, `@public("plots.heads")` another: what a user writes who takes it from its room.
    """
    if isinstance(named, str):
        return lambda function: _public(function, named)
    return _public(named, named.__name__)


def _public(function: Callable[P, R], name: str) -> Callable[P, R]:
    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if _CALLED.get():  # by another public function, which is the one that the user knows
            return function(*args, **kwargs)
        before = _CALLED.set(name)
        try:
            return function(*args, **kwargs)
        finally:
            _CALLED.reset(before)

    return called


@contextmanager
def called_as(name: str) -> Iterator[None]:
    """Inside, errors name this: an option, or one of several things that were given to the public function."""
    before = _CALLED.set(name)
    try:
        yield
    finally:
        _CALLED.reset(before)


def caller() -> str:
    """The public function that the user called, for the beginning of a message."""
    return _CALLED.get() or "localize"


def warn(message: str) -> None:
    """Warn at the line that called into this package, however many of its functions and decorators lie between."""
    frame, depth, within = sys._getframe(), 1, 1
    while frame is not None:
        within = depth if frame.f_code.co_filename.startswith(HOUSE) else within
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=within + 1)


def first_line(error: BaseException) -> str:
    """What a library's error says in its first line, or its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def how_to_install(extra: str) -> str:
    """The command that installs an extra of this package."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'
