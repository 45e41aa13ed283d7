"""From a recipe to a checkpoint folder: model, tokenizer, paragraphs, token counts, and what made them."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from localize.claims import Command
from localize.models.hooks import HookedModel
from localize.models.load import TOKENIZER_FILES, UNIGRAM_FILE, load_model
from localize.models.saving import save_checkpoint
from localize.train.loop import build_model, train
from localize.train.planting import training_data
from localize.train.recipe import Recipe

PARAGRAPHS_FILE = "paragraphs.jsonl"
RECIPE_FILE = "recipe.toml"
LOG_FILE = "training.json"
LOG_EVERY = 20
FILES = (
    "config.json", "generation_config.json", "model*.safetensors*", *TOKENIZER_FILES, "merges.txt", "special_tokens_map.json",
    UNIGRAM_FILE, PARAGRAPHS_FILE, RECIPE_FILE, LOG_FILE,
)  # fmt: skip
"""What a training leaves in its folder."""


def train_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "localize.train.run.train_recipe(...)",
    on_progress: Callable[[str, int, float], None] | None = None,
) -> HookedModel:
    """Train a model by a recipe and write it to a new folder, all of it or nothing; one that is there already is given back.

    Args:
        recipe: What to train on, and how.
        out: The folder to make: `config.json`, `model.safetensors`, the tokenizer's files, `paragraphs.jsonl` (planted paragraphs
            and never-seen matches), `unigram_counts.npy`, `recipe.toml` (with the data's hash) and `training.json` (losses, versions).
        device: Where to train. The same bits come out for the same seed, batch and threads on a CPU.
        overwrite: Whether another training's results in `out` are replaced.
        command: What was typed or called, for the record.
        on_progress: Called with stage ("tokenizer", "rows", "steps"), count and, for steps, the loss.

    Returns:
        The trained model.

    Raises:
        InputError: If the recipe's sources cannot be used, or `out` cannot be written to.
        LocalizeError: If `out` holds anything but the results of this recipe.
    """
    mine = Command("train", Path(out), command, FILES, overwrite)
    mine.check(asked := _asked(recipe) | {"device": device})
    tell = on_progress or (lambda stage, count, loss: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.training.threads)
    try:
        data = training_data(recipe, on_progress=lambda stage, count: tell(stage, count, float("nan")))
        asked |= {"data_hash": data.hash}
        mine.check(asked)
        if mine.holds(asked):
            return load_model(out, device=device)
        model = build_model(recipe.model, len(data.tokenizer), recipe.training.seed)
        model.hf.to(device)
        losses = train(model, data.rows, recipe.training, on_step=lambda step, loss: tell("steps", step + 1, loss))
    finally:
        torch.set_num_threads(threads)
    model.tokenizer, model.unigram_counts, model.name = data.tokenizer, data.unigram_counts, str(out)

    with mine.made_whole(asked) as beside:
        save_checkpoint(model, beside)
        data.paragraphs.save(beside / PARAGRAPHS_FILE)
        (beside / RECIPE_FILE).write_text(replace(recipe, data_hash=data.hash).to_toml(), encoding="utf-8")
        log = {
            "parameters": sum(p.numel() for p in model.hf.parameters()),
            "weights_hash": model.weights_hash(),
            "data_hash": data.hash,
            "rows": len(data.rows),
            "planted_share_of_rows": sum(count or 0 for count in data.paragraphs.duplicates or ()) / len(data.rows),
            "background_passes": data.background_passes,
            "final_loss_nats_per_token": float(np.mean(losses[-100:])),
            "loss_every": LOG_EVERY,
            "loss_nats_per_token": [round(float(loss), 4) for loss in losses[::LOG_EVERY]],
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "machine": platform.machine(),
        }
        (beside / LOG_FILE).write_text(json.dumps(log, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return model


def _asked(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that the model depends on, by names such as "training.seed"."""
    sections = {name: values for name, values in asdict(recipe).items() if isinstance(values, dict)}
    return {f"{name}.{key}": value for name, values in sections.items() for key, value in values.items()}
