"""From a recipe to checkpoint folders: model, tokenizer, paragraphs, token counts, what was watched, and what made them."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from localize.axes import NEVER_TRAINED, TRAINED
from localize.claims import Command, asked_of
from localize.errors import InputError, public
from localize.measure.sinks import sinks_or_none
from localize.measurements import measurement_named
from localize.models.gates import GATES_FILE, SINKS_FILE, give_sinks, take_sinks
from localize.models.hooks import HookedModel
from localize.models.load import TOKENIZER_FILES, UNIGRAM_FILE, load_model
from localize.models.saving import save_checkpoint
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature, load_signature
from localize.signature.stacking import nested, stacked
from localize.storage import replacing
from localize.train.live import LiveLine
from localize.train.loop import Trainer, build_model
from localize.train.loss_change import LossChange
from localize.train.planting import TrainingData, training_data
from localize.train.recipe import ARM_NAME, CHAIN, WATCHED_FILE, Recipe
from localize.train.selection import FactSelection, set_facts
from localize.train.sinks import RowGating
from localize.train.traits import novelty, rarity
from localize.train.watch import Watch

PARAGRAPHS_FILE = "paragraphs.jsonl"
RECIPE_FILE = "recipe.toml"
LOG_FILE = "training.json"
LINES_FILE = "log.jsonl"
STATE_FILE, STATE_WATCHED_FILE = "state.safetensors", "state.zarr.zip"
PARTIAL = ".partial"
LOG_EVERY = 20
LOSS_CHANGE_STATE = "loss_change."
"""Before the names of what the loss change goes on from."""
STATE_SECONDS = 20.0
"""A killed training loses at most so many seconds of work, and what it took to lay out the rows."""
FILES = (
    "config.json", "generation_config.json", "model*.safetensors*", *TOKENIZER_FILES, "merges.txt", "special_tokens_map.json",
    UNIGRAM_FILE, PARAGRAPHS_FILE, RECIPE_FILE, LOG_FILE, LINES_FILE, WATCHED_FILE, STATE_FILE, STATE_WATCHED_FILE, "seed-*",
    "step-*", GATES_FILE, SINKS_FILE,
)  # fmt: skip
"""What a training leaves in its folder."""

Log = Callable[[Mapping[str, Any]], None]
Progress = Callable[[str, int, float], None]


@public
def train_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "lz.train_recipe(...)",
    on_progress: Progress | None = None,
    on_log: Log | None = None,
) -> HookedModel:
    """Train the models of a recipe into a folder; what is there already is not trained again, what was stopped goes on.

    A recipe of one seed and one run leaves its checkpoint in the folder itself; one of several leaves each in a folder of its own
    there, `seed-0-planted`, and beside them what was watched in all of them as one signature. One with arms leaves a folder for each
    arm, as if that had been trained alone, and what was watched in all of them beside.

    Args:
        recipe: What to train on, and how.
        out: The folder to make: `config.json`, `model.safetensors`, the tokenizer's files, `paragraphs.jsonl` (planted paragraphs
            and never-seen matches), `unigram_counts.npy`, `recipe.toml` (with the data's hash), `training.json` (losses, versions),
            `log.jsonl` (a line every 20 steps, and for each time that paragraphs were measured) and, if the recipe watches,
            `training.zarr.zip`, a signature over `training_step`; with sinks `gates.json` and `sinks.safetensors`, the checkpoint being
            the model without them; with `[watch] checkpoints` also a checkpoint each in `step-100`, ....
        device: Where to train. The same bits come out for the same seed, batch and threads on a CPU, stopped and gone on or not.
        overwrite: Whether another training's results in `out` are replaced.
        command: What was typed or called, for the record.
        on_progress: Called with stage ("tokenizer", "rows", "steps"), count and, for steps, the loss, instead of a progress bar.
        on_log: Called with each line of the log, as a tracker takes it: `wandb.log`.

    Returns:
        The trained model; of several the first.

    Raises:
        InputError: If the recipe's sources cannot be used, or `out` cannot be written to.
        LocalizeError: If `out` holds anything but the results of this recipe.
    """
    out = Path(out)
    if on_progress is not None:
        return _trained(recipe, out, overwrite, device=device, command=command, on_progress=on_progress, on_log=on_log)
    with LiveLine(recipe) as live:

        def log(line: Mapping[str, Any]) -> None:
            live.on_log(line)
            if on_log is not None:
                on_log(line)

        return _trained(
            recipe, out, overwrite, device=device, command=command, on_progress=live.on_progress, on_log=log
        )


def _trained(recipe: Recipe, out: Path, overwrite: bool, *, device: str, command: str, **heard: Any) -> HookedModel:
    """All trainings of a recipe; of its arms each as a recipe of its own."""
    how = {"device": device, "command": command, **heard}
    if recipe.trained_models == 1 and not recipe.arms:
        return _train(recipe, out, recipe.training.seed, recipe.runs[0], overwrite=overwrite, **how)
    mine = Command("train", out, command, _files(recipe, out), overwrite)
    asked = recipe.asked() | {"device": device}
    mine.check(asked, whole=True)
    with mine.claimed(asked):
        if recipe.arms:
            models = [_trained(arm, out / name, False, **how) for name, arm in recipe.arms.items()]
        else:
            models = [
                _train(recipe, out / f"seed-{seed}-{run}", seed, run, overwrite=False, **how)
                for seed in recipe.training_seeds
                for run in recipe.runs
            ]
        if recipe.watch.every:
            _joined(recipe, out).save(out / WATCHED_FILE)
        (out / RECIPE_FILE).write_text(recipe.to_toml(), encoding="utf-8")
    return models[0]


def _files(recipe: Recipe, out: Path) -> tuple[str, ...]:
    """What a training may replace in its folder: also the folders of arms, its own and those that it had, where they are trainings."""
    before = (key.partition("arms.")[2] for key in asked_of(out, "train") or {})
    named = sorted({*recipe.arms, *filter(ARM_NAME.fullmatch, before)})
    return (*FILES, *(name for name in named if asked_of(out / name, "train") is not None))


def _joined(recipe: Recipe, out: Path) -> MemorizationSignature:
    """What was watched in all trainings of a recipe."""
    if recipe.arms:
        return joined_arms(recipe, {name: load_signature(out / name / WATCHED_FILE) for name in recipe.arms})
    watched = {
        (run, seed): load_signature(out / f"seed-{seed}-{run}" / WATCHED_FILE)
        for run in recipe.runs
        for seed in recipe.training_seeds
    }
    return nested(("training_run", "training_seed"), watched)


def joined_arms(recipe: Recipe, watched: Mapping[str, MemorizationSignature]) -> MemorizationSignature:
    """What was watched in several variants of a recipe as one signature, which tells of each how it was trained."""
    joined = stacked("training_arm", watched).dataset
    told = {
        name: signature.dataset.attrs["training"] | {"varied": recipe.varied(name)}
        for name, signature in watched.items()
    }
    joined.attrs["training"] = {"steps": recipe.steps, "batch": recipe.training.batch, "arms": told}
    return MemorizationSignature(joined)


def _train(
    recipe: Recipe,
    out: Path,
    seed: int,
    run: str,
    *,
    device: str,
    overwrite: bool,
    command: str,
    on_progress: Progress,
    on_log: Log | None,
) -> HookedModel:
    """One training of a recipe, in a folder of its own."""
    mine = Command("train", out, command, _files(recipe, out), overwrite)
    asked = recipe.asked() | {"device": device, "seeds": 1, "training.seed": seed, "data.seed": recipe.training.seed}
    asked |= {"run": run}
    mine.check(asked)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.training.threads)
    try:
        model = None if recipe.model.start is None else _started(recipe)
        data = training_data(
            recipe, seed=seed, run=run, tokenizer=None if model is None else model.tokenizer,
            on_progress=lambda stage, count: on_progress(stage, count, float("nan")),
        )  # fmt: skip
        asked |= {"data_hash": data.hash, "start_hash": None if model is None else model.weights_hash()}
        mine.check(asked, whole=True)
        if mine.holds(asked):
            on_progress("steps", recipe.steps, float("nan"))
            return load_model(out, device=device)
        model = model or build_model(recipe.model, len(data.tokenizer), seed)
        model.hf.to(device=device, dtype=getattr(torch, recipe.training.dtype))
        model.tokenizer, model.unigram_counts, model.name = data.tokenizer, data.unigram_counts, str(out)
        with mine.claimed(asked) as claim:
            _remove_partial(out)
            training = _Running(recipe, data, model, seed, out, claim.kept, on_progress, on_log)
            training.finish()
            if training.gating is not None:
                take_sinks(model, training.gating.gates)
            with tempfile.TemporaryDirectory(dir=out, prefix=".", suffix=PARTIAL) as name:
                _write(Path(name), recipe, data, model, training, seed, run)
                for path in Path(name).iterdir():
                    path.chmod(0o644)
                    os.replace(path, out / path.name)
            for file in (STATE_FILE, STATE_WATCHED_FILE):
                (out / file).unlink(missing_ok=True)
    finally:
        torch.set_num_threads(threads)
    return model


def _started(recipe: Recipe) -> HookedModel:
    """The model that is trained on."""
    model = load_model(recipe.model.start)
    model.sinks = None  # it is trained on without them
    if model.tokenizer is None:
        raise InputError(f"recipe: start {recipe.model.start}: has no tokenizer, which text to train on needs.")
    if any(corpus.source == CHAIN and corpus.vocab != len(model.tokenizer) for corpus in recipe.corpora):
        raise InputError(
            f"recipe: start {recipe.model.start}: its words are not those of the chain ({recipe.corpus.vocab})."
        )
    return model


class _Running:
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
        self.trainer = Trainer(model, data.rows, recipe.trainings, recipe.fresh_at, given, self.gating)
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
        _write_lines(self._out / LINES_FILE, self.lines)
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


def _remove_partial(out: Path) -> None:
    """Remove what a killed process had begun to write, beside its place, in a folder that nobody else writes to."""
    for path in out.glob(".????????.*"):
        if path.name.endswith((STATE_FILE, STATE_WATCHED_FILE, LINES_FILE)):
            path.unlink()
        elif path.name.endswith(PARTIAL):
            shutil.rmtree(path)


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _write(
    folder: Path, recipe: Recipe, data: TrainingData, model: HookedModel, training: _Running, seed: int, run: str
) -> None:
    """All that a finished training leaves."""
    losses = training.trainer.losses
    save_checkpoint(model, folder)
    data.paragraphs.save(folder / PARAGRAPHS_FILE)
    first = seed == recipe.training.seed and run == recipe.runs[0]  # whose data the recipe's hash is of
    told = replace(recipe, data_hash=data.hash) if first else recipe
    (folder / RECIPE_FILE).write_text(told.to_toml(), encoding="utf-8")
    _write_lines(folder / LINES_FILE, training.lines)
    if (signature := training.signature()) is not None:
        signature.save(folder / WATCHED_FILE)
    log = {
        "parameters": sum(p.numel() for p in model.hf.parameters()),
        "weights_hash": model.weights_hash(),
        "data_hash": data.hash,
        "rows": len(data.rows),
        "planted_share_of_rows": float((data.row_paragraph >= 0).mean()),
        "replayed_share_of_rows": data.replayed,
        "background_passes": data.background_passes,
        "final_loss_nats_per_token": float(np.mean(losses[-100:])),
        "loss_every": LOG_EVERY,
        "loss_nats_per_token": [round(float(loss), 4) for loss in losses[::LOG_EVERY]],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": platform.machine(),
    }
    (folder / LOG_FILE).write_text(json.dumps(log, indent=1, allow_nan=False) + "\n", encoding="utf-8")
