"""One training as it runs: written down as it goes, measured where the recipe says so, and taken up where it stood."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from localize.axes import NEVER_TRAINED, TRAINED
from localize.measure.sinks import sinks_or_none
from localize.measurements import measurement_named
from localize.models.gates import give_sinks, take_sinks
from localize.models.hooks import HookedModel
from localize.models.saving import save_checkpoint
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature, load_signature
from localize.storage import replacing
from localize.train.loop import Trainer
from localize.train.loss_change import LossChange
from localize.train.planting import TrainingData
from localize.train.recipe import Recipe
from localize.train.selection import FactSelection, set_facts
from localize.train.sinks import RowGating
from localize.train.traits import novelty, rarity
from localize.train.watch import Watch

LINES_FILE = "log.jsonl"
STATE_FILE, STATE_WATCHED_FILE = "state.safetensors", "state.zarr.zip"
PARTIAL = ".partial"
LOG_EVERY = 20
LOSS_CHANGE_STATE = "loss_change."
"""Before the names of what the loss change goes on from."""
STATE_SECONDS = 20.0
"""A killed training loses at most so many seconds of work, and what it took to lay out the rows."""

Log = Callable[[Mapping[str, Any]], None]
Progress = Callable[[str, int, float], None]


class RunningTraining:
    """A training that is written down as it goes, and goes on from what is written."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        model: HookedModel,
        seed: int,
        out: Path,
        kept: bool,
        tell: Progress,
        on_log: Log | None,
    ):
        given = recipe.prefix if recipe.repeated else 1
        self.gating = RowGating.of(recipe, data, model, seed)
        bound = None if self.gating is None or not recipe.sinks.bounded else self.gating.bound
        self.trainer = Trainer(model, data.rows, recipe.trainings, recipe.fresh_at, given, self.gating, bound)
        self._selection = FactSelection(recipe, data.paragraphs, seed)
        self._model, self._out, self._tell, self._on_log = model, out, tell, on_log
        self._recipe, self._data = recipe, data
        self.lines: list[dict[str, Any]] = []
        every, steps, batch = recipe.watch.every, recipe.steps, recipe.training.batch
        self.watch: Watch | None = None
        self.loss_change: LossChange | None = None
        if every:
            paragraphs, measures = _in_groups(data), _measures(recipe, data)
            if recipe.watch.loss_change:
                self.loss_change = LossChange(
                    paragraphs, data.row_paragraph, batch, held_out=_held_out(data), batch_size=batch
                )
                measures.append(self.loss_change.measured)
            at = sorted({*range(0, steps + 1, every), steps})
            self.watch = Watch(paragraphs, at, measures, data.row_paragraph, batch)
            self.watch.check(model)
        if kept and (out / STATE_FILE).is_file():
            self._go_on()
        self._saved = monotonic()

    def finish(self) -> None:
        """Make the steps that are left."""
        trainer = self.trainer
        self._look()
        while trainer.done < trainer.steps:
            if (stage := self._selection.due(trainer.done)) is not None:
                self._show(stage, self._selection.made(stage, self._model))
            rate = trainer.rate
            loss = trainer.step()
            self._tell("steps", trainer.done, loss)
            if (trainer.done - 1) % LOG_EVERY == 0:
                self._say({"step": trainer.done, "loss": loss, "learning_rate": rate})
            self._look()
            if monotonic() - self._saved > STATE_SECONDS:
                self._keep()

    def _show(self, stage: int, order: np.ndarray) -> None:
        """Train in a stage on these rows of the set."""
        begun = self._selection.begins[stage]
        self.trainer.show(begun, self._data.paragraphs.tokens[order])
        if self.watch is not None:
            self.watch.shows(begun, order)

    def _checkpoint(self) -> None:
        """Keep the model as it is now, if the recipe asks for it; one that is there is of the same training, and the same."""
        every, step = self._recipe.watch.checkpoints, self.trainer.done
        place = self._out / f"step-{step}"
        if not every or (step % every and step < self.trainer.steps) or place.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=self._out, prefix=".", suffix=PARTIAL) as name:
            beside = Path(name) / place.name
            beside.mkdir()
            with self._without_sinks():
                save_checkpoint(self._model, beside)
            os.replace(beside, place)

    def signature(self) -> MemorizationSignature | None:
        """What was watched, with what the recipe says of each paragraph; None if nothing was."""
        if self.watch is None:
            return None
        dataset, recipe, data = self.watch.signature().dataset, self._recipe, self._data
        dataset = dataset.assign_coords(
            window_start=("paragraph", data.windows[:, 0]), window_end=("paragraph", data.windows[:, 1]),
            training_stage=("paragraph", data.paragraph_stage), text_kind=("paragraph", data.kinds),
            rarity=("paragraph", rarity(data.paragraphs.tokens.numpy(), data.unigram_counts, data.paragraphs.prefix_length)),
            novelty=("paragraph", novelty(
                data.paragraphs.tokens.numpy(), data.rows.numpy()[data.row_paragraph < 0], data.paragraphs.prefix_length
            )),
        )  # fmt: skip
        stages = [
            {
                "name": (recipe.stage[at].name if recipe.stage else "") or f"stage {at}", "steps": training.steps,
                "schedule": training.schedule, "learning_rate": training.learning_rate,
                "replay": recipe.stage[at].replay if recipe.stage else 0.0,
            }
            for at, training in enumerate(recipe.trainings)
        ]  # fmt: skip
        dataset.attrs["training"] = {"steps": recipe.steps, "batch": recipe.training.batch, "stages": stages}
        if recipe.model.start is not None:
            dataset.attrs["training"]["start"] = Path(recipe.model.start).name
        if recipe.repeated:
            dataset.attrs["training"] |= set_facts(recipe, self._model)
        if recipe.sinks.kind:
            dataset.attrs["training"]["sinks"] = asdict(recipe.sinks)
        return MemorizationSignature(dataset)

    def _look(self) -> None:
        """Keep a checkpoint and measure the paragraphs where it is time to, and log what they say."""
        self._checkpoint()
        watch, step = self.watch, self.trainer.done
        if self.loss_change is not None:
            self.loss_change(self._model, step)
        if watch is None or step in watch.steps:
            return
        with self._without_sinks():
            watch(self._model, step)
        if step in watch.steps:
            self._say({"step": step, **_in_short(watch.measured(step)), **self._of_loss_change()})

    @contextmanager
    def _without_sinks(self) -> Iterator[None]:
        """Inside, the model does without its sinks, where it has any: as it will be left."""
        if self.gating is None:
            yield
            return
        take_sinks(self._model, self.gating.gates)
        try:
            yield
        finally:
            give_sinks(self._model)

    def _of_loss_change(self) -> dict[str, int | float]:
        """Before the first step what following the loss change costs; after it which share of the change the parts miss."""
        change = self.loss_change
        if change is None:
            return {}
        if not self.trainer.done:
            return {"loss_change_rows_a_step": change.cost.rows, "loss_change_of_a_step": change.cost.of_a_step}
        return {f"loss_change_error_{name}": error for name, error in change.error.items() if np.isfinite(error)}

    def _say(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        if self._on_log is not None:
            self._on_log(line)

    def _keep(self) -> None:
        """Write down where the training stands; what was watched and the log first, which are cut to the steps of the state."""
        if self.watch is not None and self.watch.steps:
            self.watch.signature().save(self._out / STATE_WATCHED_FILE)
        write_lines(self._out / LINES_FILE, self.lines)
        with replacing(self._out / STATE_FILE) as beside:
            save_file(self.trainer.state() | self._summed() | self._selection.state(), beside)
        self._saved = monotonic()

    def _summed(self) -> dict[str, torch.Tensor]:
        """What the loss change goes on from, by names that the trainer's state has not."""
        state = {} if self.loss_change is None else self.loss_change.state()
        return {LOSS_CHANGE_STATE + name: value for name, value in state.items()}

    def _go_on(self) -> None:
        """Take up where the training stood."""
        state = load_file(self._out / STATE_FILE)
        self.trainer.resume(state)
        for stage, order in self._selection.resume(state):
            self._show(stage, order)
        if self.loss_change is not None:
            summed = {
                name.removeprefix(LOSS_CHANGE_STATE): v
                for name, v in state.items()
                if name.startswith(LOSS_CHANGE_STATE)
            }
            if summed:
                self.loss_change.resume(summed)
        done = self.trainer.done
        read = (self._out / LINES_FILE).read_text(encoding="utf-8").splitlines()
        self.lines = [line for line in map(json.loads, read) if line["step"] <= done]
        if self.watch is not None and (self._out / STATE_WATCHED_FILE).is_file():
            watched = load_signature(self._out / STATE_WATCHED_FILE)
            steps = watched.dataset["training_step"].values <= done
            self.watch.adopt(MemorizationSignature(watched.dataset.isel(training_step=np.flatnonzero(steps))))
        self._tell("steps", done, float("nan"))


def _measures(recipe: Recipe, data: TrainingData) -> list[Any]:
    """What the recipe watches; a measurement that looks texts up in the rows of a training is given these."""
    found: list[Any] = []
    for name in recipe.watch.measures:
        one = measurement_named(name)
        if one is not None and "rows" in one.parameters():
            found.append(partial(one.call(), rows=data.rows))
        else:
            found.append(sinks_or_none if name == "sinks" else name)
    return found


def _in_groups(data: TrainingData) -> Paragraphs:
    """The paragraphs; where they are of several stages' text, in groups that say so."""
    stages = data.paragraph_stage
    if len(np.unique(stages)) == 1:
        return data.paragraphs
    copies = data.paragraphs.duplicates or ()
    return data.paragraphs.with_groups(
        [TRAINED if count else f"{NEVER_TRAINED}_stage_{stage}" for count, stage in zip(copies, stages, strict=True)]
    )


def _held_out(data: TrainingData) -> str | None:
    """The group of held-out paragraphs of the text among which the others are planted; None where all are of one."""
    stages, copies = data.paragraph_stage, np.array(data.paragraphs.duplicates or ())
    if len(np.unique(stages)) == 1 or not (copies > 0).any():
        return None
    return f"{NEVER_TRAINED}_stage_{stages[copies > 0][0]}"


def _in_short(signature: MemorizationSignature) -> dict[str, float]:
    """Mean NLL and exact match of each group."""
    now = signature.dataset
    told: dict[str, float] = {}
    for group in signature.groups:
        chosen = now["group"].values == group
        told[f"nll_{group}"] = float(now["nll"].values[chosen].mean())
        told[f"exact_match_{group}"] = float(now["exact_match"].values[chosen].mean())
    return told


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a log, a line of JSON each, in the place of what was there."""
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
