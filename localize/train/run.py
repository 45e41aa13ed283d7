"""From a recipe to checkpoint folders: model, tokenizer, paragraphs, token counts, what was watched, and what made them."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from localize.claims import Command, asked_of
from localize.errors import InputError, public
from localize.models.gates import GATES_FILE, SINKS_FILE, take_sinks
from localize.models.hooks import HookedModel
from localize.models.load import TOKENIZER_FILES, UNIGRAM_FILE, load_model
from localize.models.saving import save_checkpoint
from localize.signature.signature import MemorizationSignature, load_signature
from localize.signature.stacking import joined_arms, nested
from localize.train.live import LiveLine
from localize.train.loop import build_model
from localize.train.planting import TrainingData, training_data
from localize.train.recipe import ARM_NAME, CHAIN, WATCHED_FILE, Recipe
from localize.train.running import (
    LINES_FILE,
    LOG_EVERY,
    PARTIAL,
    STATE_FILE,
    STATE_WATCHED_FILE,
    Log,
    Progress,
    RunningTraining,
    write_lines,
)

PARAGRAPHS_FILE = "paragraphs.jsonl"
RECIPE_FILE = "recipe.toml"
LOG_FILE = "training.json"
FILES = (
    "config.json", "generation_config.json", "model*.safetensors*", *TOKENIZER_FILES, "merges.txt", "special_tokens_map.json",
    UNIGRAM_FILE, PARAGRAPHS_FILE, RECIPE_FILE, LOG_FILE, LINES_FILE, WATCHED_FILE, STATE_FILE, STATE_WATCHED_FILE, "seed-*",
    "step-*", GATES_FILE, SINKS_FILE,
)  # fmt: skip
"""What a training leaves in its folder."""


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
        return train_one(recipe, out, recipe.training.seed, recipe.runs[0], overwrite=overwrite, **how)
    mine = Command("train", out, command, _files(recipe, out), overwrite)
    asked = recipe.asked() | {"device": device}
    mine.check(asked, whole=True)
    with mine.claimed(asked):
        if recipe.arms:
            models = [_trained(arm, out / name, False, **how) for name, arm in recipe.arms.items()]
        else:
            models = [
                train_one(recipe, out / f"seed-{seed}-{run}", seed, run, **how)
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
        watched = {name: load_signature(out / name / WATCHED_FILE) for name in recipe.arms}
        return joined_arms(watched, {name: recipe.varied(name) for name in recipe.arms})
    watched = {
        (run, seed): load_signature(out / f"seed-{seed}-{run}" / WATCHED_FILE)
        for run in recipe.runs
        for seed in recipe.training_seeds
    }
    return nested(("training_run", "training_seed"), watched)


def train_one(
    recipe: Recipe,
    out: Path,
    seed: int,
    run: str,
    *,
    device: str,
    command: str,
    on_progress: Progress,
    on_log: Log | None,
    overwrite: bool = False,
) -> HookedModel:
    """One training of a recipe, of one of its seeds and runs, in a folder of its own; see `train_recipe`."""
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
            training = RunningTraining(recipe, data, model, seed, out, claim.kept, on_progress, on_log)
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


def _remove_partial(out: Path) -> None:
    """Remove what a killed process had begun to write, beside its place, in a folder that nobody else writes to."""
    for path in out.glob(".????????.*"):
        if path.name.endswith((STATE_FILE, STATE_WATCHED_FILE, LINES_FILE)):
            path.unlink()
        elif path.name.endswith(PARTIAL):
            shutil.rmtree(path)


def _write(
    folder: Path, recipe: Recipe, data: TrainingData, model: HookedModel, training: RunningTraining, seed: int, run: str
) -> None:
    """All that a finished training leaves."""
    losses = training.trainer.losses
    save_checkpoint(model, folder)
    data.paragraphs.save(folder / PARAGRAPHS_FILE)
    first = seed == recipe.training.seed and run == recipe.runs[0]  # whose data the recipe's hash is of
    told = replace(recipe, data_hash=data.hash) if first else recipe
    (folder / RECIPE_FILE).write_text(told.to_toml(), encoding="utf-8")
    write_lines(folder / LINES_FILE, training.lines)
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
