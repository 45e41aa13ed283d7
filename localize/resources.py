"""Finds the data that the embedded default needs: beside the package in a wheel, beside the folder in a clone."""

from pathlib import Path

from localize.errors import LocalizeError

EMBEDDED = "embedded"
"""What the embedded model and paragraphs are called, wherever a name or a path may stand."""


def path_words(path: Path) -> str:
    """A path as results and messages tell it, and as it can be given again: never the name of what is embedded."""
    return f"./{path}" if str(path) == EMBEDDED else str(path)


def embedded(name: str) -> Path:
    """The path of an embedded folder or file, such as `model` or `paragraphs.jsonl`.

    Raises:
        LocalizeError: If the installation carries no such data.
    """
    package = Path(__file__).parent
    places = (package / "data" / name, package.parent / "data" / name)
    for place in places:
        if place.exists():
            return place
    raise LocalizeError(f"embedded data {name!r} is missing; looked in {' and '.join(str(p.parent) for p in places)}.")
