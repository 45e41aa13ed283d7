"""From a recipe to a checkpoint folder: model, tokenizer, paragraphs, token counts, and what made them."""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from localize.errors import InputError
from localize.models.hooks import HookedModel
from localize.models.saving import is_free, new_folder, save_checkpoint
from localize.train.loop import build_model, train
from localize.train.planting import training_data
from localize.train.recipe import Recipe

PARAGRAPHS_FILE = "paragraphs.jsonl"
RECIPE_FILE = "recipe.toml"
LOG_FILE = "training.json"
LOG_EVERY = 20


def train_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "cpu",
    on_progress: Callable[[str, int, float], None] | None = None,
) -> HookedModel:
    """Train a model by a recipe and write it to a new folder, all of it or nothing.

    Args:
        recipe: What to train on, and how.
        out: The folder to make: `config.json`, `model.safetensors`, the tokenizer's files, `paragraphs.jsonl` (planted paragraphs
            and never-seen matches), `unigram_counts.npy`, `recipe.toml` (with the data's hash) and `training.json` (losses, versions).
        device: Where to train. The same bits come out for the same seed, batch and threads on a CPU.
        on_progress: Called with stage ("tokenizer", "rows", "steps"), count and, for steps, the loss.

    Returns:
        The trained model.

    Raises:
        InputError: If `out` exists and is not empty, or the recipe's sources cannot be used.
    """
    out = Path(out)
    if not is_free(out):
        raise InputError(
            f"train: --out {out} exists and is not an empty folder; a trained model is written to a new one."
        )
    tell = on_progress or (lambda stage, count, loss: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.training.threads)
    try:
        data = training_data(recipe, on_progress=lambda stage, count: tell(stage, count, float("nan")))
        model = build_model(recipe.model, len(data.tokenizer), recipe.training.seed)
        model.hf.to(device)
        losses = train(model, data.rows, recipe.training, on_step=lambda step, loss: tell("steps", step + 1, loss))
    finally:
        torch.set_num_threads(threads)
    model.tokenizer, model.unigram_counts, model.name = data.tokenizer, data.unigram_counts, str(out)

    with new_folder(out) as beside:
        save_checkpoint(model, beside)
        data.paragraphs.save(beside / PARAGRAPHS_FILE)
        (beside / RECIPE_FILE).write_text(replace(recipe, data_hash=data.hash).to_toml(), encoding="utf-8")
        log = {
            "parameters": sum(p.numel() for p in model.hf.parameters()),
            "weights_hash": model.weights_hash(),
            "data_hash": data.hash,
            "rows": len(data.rows),
            "planted_share_of_rows": sum(data.paragraphs.duplicates or ()) / len(data.rows),
            "background_passes": data.background_passes,
            "final_loss_nats_per_token": float(np.mean(losses[-100:])),
            "loss_every": LOG_EVERY,
            "loss_nats_per_token": [round(float(loss), 4) for loss in losses[::LOG_EVERY]],
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "machine": platform.machine(),
        }
        (beside / LOG_FILE).write_text(json.dumps(log, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return model
