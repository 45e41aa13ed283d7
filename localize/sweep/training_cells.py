"""Trainings as cells of a sweep: each seed and run, at each place of a grid, is one."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.code import code_of
from localize.errors import InputError
from localize.measurements import measurement_named
from localize.sweep.grid import key_of
from localize.sweep.trainings import TRAINING, TrainingAsked
from localize.train.recipe import Recipe

if TYPE_CHECKING:
    import xarray as xr

PLANTED = "planted"
"""What a training's cell has in the place of a paragraph set."""


@dataclass(frozen=True)
class TrainingUnit:
    """One training, as it is sent to whoever makes it.

    Attributes:
        asked: Of which entry.
        arm: At which place.
        seed: Of which of its seeds.
        run: Which of a seed's runs.
        hash: Of everything that the result depends on.
        code: That the training's code must have.
    """

    asked: TrainingAsked
    arm: str
    seed: int
    run: str
    hash: str
    code: str

    @property
    def count(self) -> int:
        """Paragraphs that are watched."""
        return self.asked.of(self.arm).watched_paragraphs

    @property
    def rows(self) -> tuple[int, int]:
        """All of them."""
        return 0, self.count

    @property
    def words(self) -> str:
        """What it is, for people."""
        return f"{self.asked.name} / {_measure(self)}"

    def measured(self, *, show: bool = False) -> "xr.Dataset":
        """Train, and give what was watched; what else a training leaves is not kept.

        Args:
            show: Whether a line tells where it stands.
        """
        from localize.signature.signature import load_signature
        from localize.train.live import LiveLine
        from localize.train.recipe import WATCHED_FILE
        from localize.train.run import train_one

        asked = self.asked.of(self.arm)
        recipe = replace(asked, seeds=1, watch=replace(asked.watch, checkpoints=0))
        with tempfile.TemporaryDirectory(prefix="localize-") as folder, ExitStack() as stack:
            live = stack.enter_context(LiveLine(recipe, of_one=True)) if show else None
            train_one(
                recipe, Path(folder), self.seed, self.run, device=self.asked.device, command="lz.run_sweep(...)",
                on_progress=(lambda *_: None) if live is None else live.on_progress, on_log=None if live is None else live.on_log,
            )  # fmt: skip
            return load_signature(Path(folder) / WATCHED_FILE).dataset


@dataclass(frozen=True, eq=False)
class TrainingCell:
    """One training of a grid, as the store keeps it: a group of its own, with all labels in it."""

    asked: TrainingAsked
    arm: str
    seed: int
    run: str
    contents: str = ""

    @property
    def recipe(self) -> Recipe:
        """That it is trained by."""
        return self.asked.of(self.arm)

    @property
    def code(self) -> str:
        """Hash of the code that its numbers depend on."""
        return training_code(self.recipe)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the recipe, of what lies in the files that it names, of seed, run, device and code."""
        told = _anywhere({**self.recipe.asked(), "seeds": 1}, self.recipe.files)
        about = [told, self.contents, self.seed, self.run, self.asked.device, self.code]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> str:
        """Its group in the store."""
        return f"{key_of(self.asked.name, hashlib.sha256(self.asked.name.encode()).hexdigest())}/{key_of(_measure(self), self.hash)}"

    @property
    def words(self) -> str:
        """What it is, for people."""
        return f"{self.asked.name} / {_measure(self)}"

    @property
    def block(self) -> int:
        """Paragraphs a unit of work: all."""
        return self.recipe.watched_paragraphs

    def units(self) -> Iterator[TrainingUnit]:
        """Its one unit of work."""
        yield TrainingUnit(self.asked, self.arm, self.seed, self.run, self.hash, self.code)

    def own(self, dataset: "xr.Dataset") -> list[str]:
        """The names of all that the store keeps of it."""
        return [str(name) for name in dataset.variables]

    def attrs(self, dataset: "xr.Dataset") -> dict[str, Any]:
        """What its group tells beside its numbers."""
        return {key: dataset.attrs[key] for key in ("model", "paragraphs", "training")}

    def about(self) -> dict[str, Any]:
        """What the store tells of it."""
        axes = dict(self.asked.places[self.arm]) | {"training_seed": self.seed}
        axes |= {"training_run": self.run} if len(self.recipe.runs) > 1 else {}
        return {
            "model": self.asked.name, "paragraphs": PLANTED, "measure": _measure(self), "measurement": TRAINING, "options": axes,
            "axes": {"model": {}, "paragraphs": {}, "measure": axes}, "hash": self.hash, "path": self.path,
            "training": {
                "arm": self.arm, "run": self.run, "seed": self.seed, "steps": self.recipe.steps, "batch": self.recipe.training.batch,
                "varied": self.asked.recipe.varied(self.arm) if self.arm else {},
            },
        }  # fmt: skip


def _anywhere(told: Any, files: Sequence[str]) -> Any:
    """What a recipe says, wherever its files lie: what is in them is told apart."""
    if isinstance(told, Mapping):
        return {str(key): _anywhere(value, files) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_anywhere(value, files) for value in told]
    return Path(told).name if told in files else told


def _measure(one: TrainingUnit | TrainingCell) -> str:
    """ "d_model=16,rows=40, seed 0": what stands for the measurement in tables."""
    recipe = one.asked.of(one.arm)
    run = [one.run] if len(recipe.runs) > 1 else []
    return ", ".join([*([one.arm] if one.arm else []), f"seed {one.seed}", *run])


def training_code(recipe: Recipe) -> str:
    """Hash of the code that a recipe's trainings depend on: what trains, and each measurement that is watched."""
    from localize.train.run import train_one

    watched = [one.call() for name in recipe.watch.measures if (one := measurement_named(name)) is not None]
    return hashlib.sha256("".join(map(code_of, [train_one, *watched])).encode()).hexdigest()


def training_cells(asked: TrainingAsked) -> list[TrainingCell]:
    """Every training that an entry asks for: places, seeds and runs."""
    contents: dict[tuple[str, ...], str] = {}
    cells = []
    for arm in asked.places:
        recipe = asked.of(arm)
        files = tuple(sorted(recipe.files))
        if files not in contents:
            contents[files] = _contents(files)
        cells += [
            TrainingCell(asked, arm, seed, run, contents[files])
            for seed in recipe.training_seeds
            for run in recipe.runs
        ]
    return cells


def _contents(sources: Sequence[str]) -> str:
    """SHA-256 of all that lies in files and folders."""
    from localize.scan.content import file_hashes

    files: dict[str, Path] = {}
    for source in sources:
        place = Path(source)
        if not place.exists():
            raise InputError(f"recipe: {source}: no such file or folder.")
        files |= {
            str(path): path for path in ([place] if place.is_file() else sorted(place.rglob("*"))) if path.is_file()
        }
    return hashlib.sha256(json.dumps(list(file_hashes(files).values())).encode()).hexdigest() if files else ""
