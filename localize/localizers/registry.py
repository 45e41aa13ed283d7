"""The localizers that there are, by name: those that are files of this folder, and those that a user registered."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from localize.code import origin
from localize.errors import LocalizeError

if TYPE_CHECKING:
    from localize.localizers.localizer import Localizer

PROTOCOL = ("localizer", "registry", "scores")
"""Files that say what a localizer is; each of the others is one."""

ROOM = "localize.localizers"

DEFAULT = "ratio"
"""The localizer that is used where none is named: what is shown to be best on planted truths, of those that take one gradient."""

_OF_USERS: dict[str, "Localizer"] = {}


def names() -> tuple[str, ...]:
    """Of all localizers; none is imported to know it."""
    files = {module.name for module in iter_modules(import_module(ROOM).__path__) if not module.ispkg}
    return tuple(sorted(files.difference(PROTOCOL).union(_OF_USERS)))


def get(name: str) -> "Localizer":
    """The localizer of that name.

    Raises:
        LocalizeError: If there is none.
    """
    if name not in names():
        raise LocalizeError(f"localizer {name!r}: not one of {', '.join(names())}.")
    return _OF_USERS[name] if name in _OF_USERS else getattr(import_module(f"{ROOM}.{name}"), name)


def register(localizer: "Localizer") -> None:
    """Make a localizer known; see `Localizer.register`."""
    if localizer.name in names() and origin(get(localizer.name).function) != origin(localizer.function):
        raise LocalizeError(f"localizer {localizer.name!r}: there is another of that name; choose a new one.")
    _OF_USERS[localizer.name] = localizer
