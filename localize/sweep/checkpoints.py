"""Checkpoints of trainings: which folders they are, of which training, and after how many steps each was written."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localize.errors import InputError

TRAINING = re.compile(r"seed-(\d+)-(.+)")
"""The folder of one of several trainings, as `localize train` names it: its seed and its run."""

NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Kept:
    """A checkpoint that a training left.

    Attributes:
        folder: Where it lies.
        labels: Which training's it is, as far as the folders tell: `training_arm`, `training_run`, `training_seed`.
    """

    folder: Path
    labels: Mapping[str, Any] = field(default_factory=dict)


def step_of(name: str) -> int | None:
    """The steps of training that a checkpoint's name tells, its last number; None where it has none.

    >>> step_of("step-1500"), step_of("checkpoint-500"), step_of("step0"), step_of("main")
    (1500, 500, 0, None)
    """
    numbers = NUMBER.findall(name)
    return int(numbers[-1]) if numbers else None


def checkpoints_in(folder: Path, where: str) -> list[Kept]:
    """All checkpoints of the trainings in a folder, training by training, in the order of their steps.

    A training's checkpoints are the sub-folders with a `config.json` and a number in their name. A folder that has none is one of several
    trainings, of seeds and runs or of arms, as `localize train` leaves it.

    Raises:
        InputError: If there is none.
    """
    found = list(_walk(folder, {}))
    if not found:
        raise InputError(
            f'{where}: checkpoints = "all": no checkpoint in {folder}; sub-folders with a config.json and a number of steps in their '
            "name (step-100), or such of several trainings (seed-0-planted), are needed."
        )
    return found


def _walk(folder: Path, labels: Mapping[str, Any]) -> Iterator[Kept]:
    parts = sorted(path for path in folder.iterdir() if path.is_dir())
    own = [path for path in parts if step_of(path.name) is not None and (path / "config.json").is_file()]
    own = [path for path in own if TRAINING.fullmatch(path.name) is None]  # that is a training whose end is kept alone
    if own:
        yield from (Kept(path, labels) for path in sorted(own, key=lambda path: step_of(path.name) or 0))
        return
    for path in parts:
        if (one := TRAINING.fullmatch(path.name)) is not None:
            yield from _walk(path, {**labels, "training_run": one[2], "training_seed": int(one[1])})
        elif (path / "recipe.toml").is_file() and "training_arm" not in labels:
            yield from _walk(path, {**labels, "training_arm": path.name})
