"""What a sweep is asked for, from a TOML file or a mapping: models x checkpoints x paragraph sets x measurements x options; trainings."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from localize.axes import RAW
from localize.errors import InputError
from localize.measurements import Measurement, asked_names, measurement_named
from localize.measurements.declaration import check_keys, unknown_key
from localize.resources import EMBEDDED, path_words
from localize.storage import read_toml
from localize.sweep.checkpoints import checkpoints_in
from localize.sweep.trainings import TrainingAsked, trainings_asked, value_words

SECTIONS = ("model", "paragraphs", "measure", "train")
TRAINING_LABELS = ("training_arm", "training_run", "training_seed")
MODEL_KEYS = ("source", "name", "checkpoints", "tokenizer", "device", "dtype", "weights", *TRAINING_LABELS, "over")
SET_KEYS = ("source", "name", "prefix", "continuation", "limit", "sample", "em_bins", "groups", "over")
ALL = "all"
"""Of checkpoints: each that a folder holds."""
COPIES = "copies"
"""Groups of paragraphs by whether they were planted, which are the same at all checkpoints."""
MEASURE_KEYS = ("measurement", "name", "block", "options", "over")


@dataclass(frozen=True)
class ModelAsked:
    """A model as `load_model` takes it, `revision` a hub's or None.

    Attributes:
        name: As results call it, unique in the grid.
        axes: What distinguishes it from others of one entry: `checkpoint`, `dtype`, ...; and which training's checkpoint it is.
    """

    name: str
    source: str | None
    revision: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    dtype: str = "float32"
    weights: str = RAW
    axes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SetAsked:
    """Paragraphs as `load_paragraphs` takes them."""

    name: str
    source: str | None
    prefix: int = 50
    continuation: int = 50
    limit: int | None = None
    sample: int | None = None
    em_bins: tuple[tuple[int, int], ...] | None = None
    groups: str | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureAsked:
    """A measurement with all of its options.

    Attributes:
        name: As results call it, unique in the grid.
        options: Every option of the function, given or default.
        block: Paragraphs a unit of work; None measures the whole set at once.
        axes: The options that distinguish it from others of one entry.
    """

    name: str
    measurement: Measurement
    options: Mapping[str, Any]
    block: int | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Everything that a sweep does: each measurement of each model on each paragraph set; and each training."""

    models: tuple[ModelAsked, ...]
    sets: tuple[SetAsked, ...]
    measures: tuple[MeasureAsked, ...]
    document: Mapping[str, Any] = field(default_factory=dict)
    trainings: tuple[TrainingAsked, ...] = ()


def read_grid(source: str | Path | Mapping[str, Any]) -> Grid:
    """Read a grid.

    ```toml
    [[model]]                       # left out: the embedded one
    source = "EleutherAI/gpt-neo-125M"
    checkpoints = ["step1000", "step2000"]   # revisions of a hub name, sub-folders of a folder; of a folder also "all"
    training_seed = 1                        # and training_run, training_arm: whose checkpoints; known of what `localize train` left
    over = { dtype = ["float32", "float64"] }

    [[paragraphs]]                  # left out: the embedded ones
    source = "pile.csv"
    groups = "copies"               # planted or never trained, as duplicates say: the same at all checkpoints; left out: by recall

    [[measure]]
    measurement = "ablation"
    options = { to = "zero" }
    over = { layers = [0, 1, 2] }   # one cell for each

    [[train]]                       # or beside it: trainings, whose watched signature is kept
    recipe = "capacity.toml"        # or the recipe itself, [train.recipe.model], ...
    arms = []                       # of the recipe's arms these; left out: all of them
    over.model.d_model = [8, 16]    # one training for each value, seed and run
    over.corpus.rows = [40, 160]
    ```

    Args:
        source: A TOML file, whose relative paths are taken from its folder; or the same as a mapping, whose paths are taken from
            where the process runs.

    Raises:
        InputError: If the file is missing or is no TOML, the grid is empty, or a key or measurement is unknown (it names the
            nearest), or two entries have one name.
    """
    if isinstance(source, Mapping):
        where, folder, document = "grid", None, source
    else:
        path = Path(source)
        where, folder, document = f"grid {path}", path.resolve().parent, read_toml(path, "grid")
    check_keys(document, dict.fromkeys(SECTIONS), where)
    trains = bool(document.get("train"))
    unmeasured = next((section for section in SECTIONS[:2] if section in document), None)
    if not document.get("measure") and (unmeasured or not trains):
        if trains:
            raise InputError(f"{where}: [[{unmeasured}]] without [[measure]]: nothing is asked of it.")
        raise InputError(f"{where}: empty; at least one [[measure]] is needed, of {', '.join(asked_names())}.")
    trainings = _unique(_read(trainings_asked, document, "train", where, folder), where) if trains else ()
    if not document.get("measure"):
        return Grid((), (), (), dict(document), trainings)
    models = _unique(_read(_models, document, "model", where, folder), where)
    sets = _unique(_read(_sets, document, "paragraphs", where, folder), where)
    measures = _unique(_read(_measures, document, "measure", where, folder), where)
    if twice := next((one.name for one in trainings if one.name in {model.name for model in models}), None):
        raise InputError(f"{where}: two entries are called {twice!r}; give one of them another `name`.")
    return Grid(models, sets, measures, dict(document), trainings)


def _read(reader: Any, document: Mapping[str, Any], section: str, where: str, folder: Path | None) -> list[Any]:
    """All that the entries of a section ask for; one empty entry where there is none."""
    entries = document.get(section, [{}])
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, Sequence) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError(f"{where}: {section} must be one or several tables, [[{section}]].")
    return [
        asked
        for number, entry in enumerate(entries, start=1)
        for asked in reader(entry, f"{where}: [[{section}]] {number}", folder)
    ]


def _models(entry: Mapping[str, Any], where: str, folder: Path | None) -> Iterator[ModelAsked]:
    check_keys(entry, dict.fromkeys(MODEL_KEYS), where)
    fixed = {key: entry[key] for key in ("tokenizer", "device", "dtype", "weights") if key in entry}
    if "tokenizer" in fixed:
        fixed["tokenizer"] = _path(fixed["tokenizer"], folder)
    source = _source(entry, where, folder)
    base = entry.get("name") or _short(source)
    told = _training_labels(entry, where)
    for axes in _crossed(entry, ("tokenizer", "device", "dtype", "weights"), where):
        for at, revision, labels in _checkpoints(entry, source, where):
            named = told | labels | axes
            yield ModelAsked(_named(base, named), at, revision, **(fixed | axes), axes=named)


def _training_labels(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Whose checkpoints an entry's are, as far as it says."""
    told = {key: entry[key] for key in TRAINING_LABELS if key in entry}
    for key, value in told.items():
        kind, words = (int, "a whole number") if key == "training_seed" else (str, "a name")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{where}: {key} = {value!r} must be {words}.")
    return told


def _checkpoints(
    entry: Mapping[str, Any], source: str | None, where: str
) -> Iterator[tuple[str | None, str | None, dict[str, Any]]]:
    """What to load, at which revision, and its labels, for each checkpoint of an entry; for its model where it names none."""
    asked = entry.get("checkpoints")
    of_folder = source is not None and Path(source).is_dir()
    if asked == ALL:
        if source is None or not of_folder:
            raise InputError(f'{where}: checkpoints = "all" is for a folder; of {source or EMBEDDED} name them.')
        for kept in checkpoints_in(Path(source), where):
            yield str(kept.folder), None, {**kept.labels, "checkpoint": kept.folder.name}
        return
    names = _list_of(asked, "checkpoints", where)
    if not names:
        yield source, None, {}
    for name in names:
        if source is not None and of_folder:
            yield str(Path(source) / str(name)), None, {"checkpoint": name}
        else:
            yield source, str(name), {"checkpoint": name}


def _sets(entry: Mapping[str, Any], where: str, folder: Path | None) -> Iterator[SetAsked]:
    check_keys(entry, dict.fromkeys(SET_KEYS), where)
    plain = ("prefix", "continuation", "limit", "sample")
    fixed = {key: entry[key] for key in plain if key in entry}
    if "em_bins" in entry:
        try:
            fixed["em_bins"] = tuple((int(low), int(high)) for low, high in entry["em_bins"])
        except (TypeError, ValueError):
            raise InputError(
                f"{where}: em_bins = {entry['em_bins']!r} must be pairs of whole numbers, [[0, 10], [11, 50]]."
            ) from None
    source = _source(entry, where, folder)
    base = entry.get("name") or _short(source)
    if "groups" in entry:
        if entry["groups"] != COPIES:
            raise InputError(f'{where}: groups = {entry["groups"]!r} must be "{COPIES}", or be left out: by recall.')
        fixed["groups"] = COPIES
    for axes in _crossed(entry, plain, where):
        for key, value in (fixed | axes).items():
            if key in plain and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"{where}: {key} = {value!r} must be a whole number of at least 1.")
        yield SetAsked(_named(base, axes), source, **(fixed | axes), axes=axes)


def _measures(entry: Mapping[str, Any], where: str, folder: Path | None) -> Iterator[MeasureAsked]:
    check_keys(entry, dict.fromkeys(MEASURE_KEYS), where)
    name = entry.get("measurement")
    if name is None:
        raise InputError(f"{where} names no measurement; one of {', '.join(asked_names())} is needed.")
    measurement, options, block = measurement_named(str(name)), entry.get("options", {}), entry.get("block")
    if measurement is None:
        raise unknown_key(name, asked_names(), f"{where}: measurement")
    if not isinstance(options, Mapping):
        raise InputError(f"{where}: options = {options!r} must be a table.")
    if block is not None and (not isinstance(block, int) or isinstance(block, bool) or block < 1):
        raise InputError(f"{where}: block = {block!r} must be a whole number of at least 1.")
    for axes in _crossed(entry, tuple(measurement.defaults()), where):
        asked = measurement.checked({**options, **axes}, where)
        yield MeasureAsked(_named(entry.get("name") or measurement.name, axes), measurement, asked, block, axes)


def _source(entry: Mapping[str, Any], where: str, folder: Path | None) -> str | None:
    """What to load, None for what is embedded."""
    source = entry.get("source", EMBEDDED)
    if not isinstance(source, str) or not source:
        raise InputError(f"{where}: source = {source!r} must be a name or a path.")
    return None if source == EMBEDDED else _path(source, folder)


def _path(source: str, folder: Path | None) -> str:
    """A path taken from the grid's folder, if something is there; else what was written, such as a hub name."""
    beside = (folder or Path()) / source
    return path_words(beside) if beside.exists() and source != EMBEDDED else source


def _short(source: str | None) -> str:
    return EMBEDDED if source is None else Path(source).name.split(".")[0] or source


def _crossed(entry: Mapping[str, Any], allowed: Sequence[str], where: str) -> Iterator[dict[str, Any]]:
    """Every combination of the values in `over`."""
    over = entry.get("over", {})
    if not isinstance(over, Mapping):
        raise InputError(f"{where}: over = {over!r} must be a table of lists.")
    check_keys(over, dict.fromkeys(allowed), f"{where}: over")
    lists = [_list_of(values, f"over.{key}", where) for key, values in over.items()]
    if empty := next((key for key, values in zip(over, lists, strict=True) if not values), None):
        raise InputError(f"{where}: over.{empty} is empty; at least one value is needed.")
    for values in product(*lists):
        yield dict(zip(over, values, strict=True))


def _list_of(values: Any, key: str, where: str) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list | tuple):
        raise InputError(f"{where}: {key} = {values!r} must be a list.")
    return list(values)


def _named(base: str, axes: Mapping[str, Any]) -> str:
    """A name with what distinguishes it: "ablation, layers=0"."""
    return ", ".join([str(base), *(f"{key}={value_words(value)}" for key, value in axes.items())])


def _unique(entries: list[Any], where: str) -> tuple[Any, ...]:
    names = [entry.name for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{where}: two entries are called {twice!r}; give one of them another `name`.")
    return tuple(entries)


def key_of(name: str, digest: str) -> str:
    """What a group of the store is called: a name that every file system takes, and the first 12 digits of a hash."""
    return f"{re.sub(r'[^A-Za-z0-9=+.-]+', '_', name)[:80].strip('._') or 'x'}~{digest[:12]}"
