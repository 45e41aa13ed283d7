"""What a sweep's [[train]] asks for: a recipe over a grid of its values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from localize.errors import InputError
from localize.measurements.declaration import check_keys
from localize.train.reading import document_of, read_document, recipe_of, with_values
from localize.train.recipe import Recipe

KEYS = ("recipe", "name", "arms", "device", "over")
TRAINING = "training"
"""What a training's cell has in the place of a measurement."""
TRAINED_HERE = "trained"
"""What an entry is called whose recipe has no file."""


@dataclass(frozen=True)
class TrainingAsked:
    """A recipe over a grid.

    Attributes:
        name: As results call it, unique in the grid.
        recipe: With an arm for each place in the grid; without arms where there is one place only.
        places: Of each arm ("" without arms), what it has otherwise than the recipe, by names such as "model.d_model".
        device: Where to train.
    """

    name: str
    recipe: Recipe
    places: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device: str = "cpu"

    def of(self, arm: str) -> Recipe:
        """The recipe of one place."""
        return self.recipe.arms[arm] if arm else self.recipe


def trainings_asked(entry: Mapping[str, Any], where: str, folder: Path | None) -> Iterator[TrainingAsked]:
    """What a [[train]] asks for.

    Args:
        entry: `recipe`, a file or the same as a table; `over`, lists of values in tables as the recipe's; `arms`, those of the recipe's
            arms that are wanted, all if left out; `name`; `device`.
        where: What an error begins with.
        folder: Of the grid, from which paths are taken; None: where the process runs.

    Raises:
        InputError: If the recipe cannot be read, does not watch, or a place in the grid is none that it could be trained at.
    """
    check_keys(entry, dict.fromkeys(KEYS), where)
    source = entry.get("recipe")
    if isinstance(source, str):
        path = (folder or Path()) / source
        document, called, base = read_document(path), str(path), path.stem
    elif isinstance(source, Mapping):
        document, called, base = document_of(where, source, folder or Path()), where, TRAINED_HERE
    else:
        raise InputError(f"{where}: recipe = {source!r} must be a recipe's file, or a table as one.")
    arms = _chosen(document.pop("arms", {}), entry.get("arms"), where)
    recipe = recipe_of(called, document)
    if not recipe.watch.every:
        raise InputError(
            f"{where}: the recipe watches nothing, and a sweep keeps what was watched; [watch] every is needed."
        )
    made, places = {}, {}
    for arm, varied in (arms or {"": {}}).items():
        for values in _places(entry.get("over", {}), where):
            name = ",".join(
                [*([arm] if arm else []), *(f"{_short(key)}={value_words(value)}" for key, value in values.items())]
            )
            if not name:
                continue
            changed = with_values(with_values(document, varied), _as_tables(values))
            try:
                made[name] = recipe_of(called, changed)
            except InputError as error:
                raise InputError(f"{error} ({where}: {name})") from None
            places[name] = {**({"training_arm": arm} if arm else {}), **values}
    device = entry.get("device", "cpu")
    yield TrainingAsked(str(entry.get("name") or base), replace(recipe, arms=made), places or {"": {}}, str(device))


def _chosen(arms: Mapping[str, Any], wanted: Any, where: str) -> Mapping[str, Any]:
    """The arms that are wanted; all of them if that is left out."""
    if wanted is None:
        return arms
    if not isinstance(wanted, list) or not all(name in arms for name in wanted):
        there = ", ".join(arms) or "no arms"
        raise InputError(f"{where}: arms = {wanted!r} must be a list of the recipe's: {there}.")
    return {name: arms[name] for name in wanted}


def _places(over: Any, where: str) -> Iterator[dict[str, Any]]:
    """Every combination of the values in the tables of `over`."""
    if not isinstance(over, Mapping):
        raise InputError(f"{where}: over = {over!r} must be tables of lists, over.model.d_model = [16, 32].")
    lists = dict(_leaves(over))
    for key, values in lists.items():
        if not isinstance(values, list | tuple) or not values:
            raise InputError(f"{where}: over.{key} = {values!r} must be a list of at least one value.")
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _leaves(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield before + key, value


def _as_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.d_model": 16}` as `{"model": {"d_model": 16}}`."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        *within, last = key.split(".")
        table = tables
        for part in within:
            table = table.setdefault(part, {})
        table[last] = value
    return tables


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def value_words(value: Any) -> str:
    """A value as names of cells tell it: "0+1" of a list."""
    return "+".join(map(value_words, value)) if isinstance(value, list | tuple) else str(value)
