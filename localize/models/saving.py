"""A model as a checkpoint folder that `load_model` and transformers read."""

from pathlib import Path

import numpy as np

from localize.errors import LocalizeError, caller
from localize.models.gates import save_sinks
from localize.models.hooks import HookedModel
from localize.models.load import UNIGRAM_FILE
from localize.resources import EMBEDDED, embedded
from localize.storage import is_free


def check_new(folder: Path, model: HookedModel) -> None:
    """Raise a `LocalizeError` unless a checkpoint of this model may be written there as a new one."""
    own = (embedded("model") if model.name == EMBEDDED else Path(model.name)).resolve()
    if (own / "config.json").is_file() and folder.resolve().is_relative_to(own):
        raise LocalizeError(
            f"{caller()}: {folder} is in the folder of {model.name} itself, which stays as it is; give a new one."
        )
    if not is_free(folder):
        raise LocalizeError(
            f"{caller()}: {folder} exists and is not an empty folder; a checkpoint is written to a new one."
        )


def save_checkpoint(model: HookedModel, folder: Path) -> None:
    """Write weights and configuration into a folder, and the tokenizer, token counts and sinks where the model has them."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.hf.save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(folder)
    if model.sinks is not None:
        save_sinks(model.sinks, folder)
    if model.unigram_counts is not None:
        counts = model.unigram_counts.cpu().numpy()
        np.save(folder / UNIGRAM_FILE, counts.astype(np.int32 if counts.max() <= np.iinfo(np.int32).max else np.int64))
