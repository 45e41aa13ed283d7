"""Recipes as they are written: TOML files, variants of other files, and variants in one file."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from localize.errors import InputError, public
from localize.storage import read_toml
from localize.train.recipe import GENERATED, SECTIONS, SYNTHETIC, Recipe, Stage, TrainingCorpus


@public
def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; relative paths in it are taken from the file's folder.

    `base` names another recipe's file, of which it is a variant: what it gives stands instead of that one's, key by key.

    Raises:
        InputError: If the file is missing, is not TOML, or holds a section, key or type that a recipe has not.
    """
    path = Path(path)
    document = read_document(path)
    arms = document.pop("arms", {})
    recipe = recipe_of(path, document)
    found = {}
    for name, varied in arms.items():
        try:
            found[name] = recipe_of(path, with_values(document, varied))
        except InputError as error:
            raise InputError(f"{error} (arm {name!r})") from None
    return replace(recipe, arms=found)


def read_document(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's keys and its base's, with the paths in them from the files' folders.

    Raises:
        InputError: If a file is missing, is not TOML, or is the base of itself.
    """
    if path.resolve() in seen:
        raise InputError(f"recipe {path}: base: is the base of itself.")
    return document_of(path, read_toml(path, "recipe"), path.parent, (*seen, path.resolve()))


def document_of(
    path: str | Path, written: Mapping[str, Any], folder: Path, seen: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """What is written of a recipe, and its base's keys, with the paths in it taken from a folder; `path` is what an error calls it."""
    document = _placed(written, folder)
    base = document.pop("base", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise InputError(f"recipe {path}: base = {base!r}: a recipe's file is needed.")
    return with_values(read_document(folder / base, seen), document)


def _placed(values: Any, folder: Path) -> Any:
    """A table with the paths in it, and in the tables in it, taken from a folder."""
    if isinstance(values, list):
        return [_placed(value, folder) for value in values]
    if not isinstance(values, Mapping):
        return values
    told = {key: _placed(value, folder) for key, value in values.items()}
    if told.get("source", SYNTHETIC) not in GENERATED:
        source = told["source"]
        told["source"] = [str(folder / s) for s in source] if isinstance(source, list) else str(folder / source)
    if "start" in told:
        told["start"] = str(folder / told["start"])
    return told


def with_values(document: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """A document with other values of some keys, section by section; a stage is named by its number."""
    changed = {**document, **{key: value for key, value in varied.items() if not isinstance(value, Mapping)}}
    stages = [dict(stage) for stage in document.get("stage", [])]
    for name, values in varied.items():
        if name == "stage" and isinstance(values, Mapping):
            for at, of_stage in values.items():
                if at not in map(str, range(len(stages))):
                    raise InputError(f"recipe: no stage {at}; there are {len(stages)}, counted from 0.")
                stages[int(at)] |= of_stage
            changed["stage"] = stages
        elif isinstance(values, Mapping):
            changed[name] = {**document.get(name, {}), **values}
    return changed


def recipe_of(path: str | Path, document: Mapping[str, Any]) -> Recipe:
    """The recipe of a document without arms; `path` is what an error calls it.

    Raises:
        InputError: If a section, key or type is none that a recipe has, or its values are none that can be trained.
    """
    allowed = (*SECTIONS, "stage", "arms", "seeds", "data_hash", "base")
    if unknown := document.keys() - set(allowed):
        raise InputError(f"recipe {path}: no section {min(unknown)!r}; there are {', '.join(allowed[:-1])} and base.")
    parts: dict[str, Any] = {name: document[name] for name in ("data_hash", "seeds") if name in document}
    for name, kind in SECTIONS.items():
        parts[name] = _read(path, f"[{name}]", kind, document.get(name, {}))
    stages = []
    for index, values in enumerate(document.get("stage", [])):
        if "corpus" in values:
            corpus = _read(path, f"[[stage]] {index} corpus", TrainingCorpus, values["corpus"])
            values = {**values, "corpus": {key: getattr(corpus, key) for key in values["corpus"]}}
        if "steps" not in values:
            raise InputError(f"recipe {path}: [[stage]] {index} has no steps.")
        stages.append(_read(path, f"[[stage]] {index}", Stage, values))
    return Recipe(**parts, stage=tuple(stages))


def _read(path: str | Path, where: str, kind: type, given: Mapping[str, Any]) -> Any:
    """A section's values, their lists as tuples."""
    values = dict(given)
    allowed = {f.name for f in fields(kind)}
    if unknown := values.keys() - allowed:
        raise InputError(f"recipe {path}: {where} has no {min(unknown)!r}; it has {', '.join(sorted(allowed))}.")
    if "windows" in values:
        values["windows"] = _windows(path, values["windows"])
    if "copies" in values:
        values["copies"] = {int(copies): int(count) for copies, count in values["copies"].items()}
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _windows(path: str | Path, given: Any) -> tuple[tuple[float, ...], ...]:
    try:
        return tuple(tuple(float(end) for end in window) for window in given)
    except (TypeError, ValueError):
        raise InputError(
            f"recipe {path}: [planted] windows = {given!r}: pairs of shares are needed, [[0, 0.25], [0, 1]]."
        ) from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
