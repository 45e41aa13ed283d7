"""The errors that a user of the suite can cause, each told in one line that begins with the function that was called."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

DISTRIBUTION = "localize-memorization"
"""What the package index calls this package: there "localize" is another one."""


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


def public(function: Callable[P, R]) -> Callable[P, R]:
    """A function that users call: an error that is raised below it, however deep, names it as the `caller`."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if _CALLED.get():  # by another public function, which is the one that the user knows
            return function(*args, **kwargs)
        before = _CALLED.set(function.__name__)
        try:
            return function(*args, **kwargs)
        finally:
            _CALLED.reset(before)

    return called


def caller() -> str:
    """The public function that the user called, for the beginning of a message."""
    return _CALLED.get() or "localize"


def first_line(error: BaseException) -> str:
    """What a library's error says in its first line, or its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def how_to_install(extra: str) -> str:
    """The command that installs an extra of this package."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'
