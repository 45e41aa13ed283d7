"""A truth as a folder: a checkpoint, the paragraphs, and `truth.json`."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS
from localize.models.hooks import HookedModel
from localize.models.saving import check_new, save_checkpoint
from localize.storage import write_json
from localize.truths.kinds import HEADS, LAYER, RECORD, ROUTE

if TYPE_CHECKING:
    from localize.truths.truth import Truth

TENSORS = "planted.safetensors"
TEXTS, OTHERS = "planted.jsonl", "others.jsonl"
ORDINARY = (ROUTE, LAYER)
"""Kinds whose folders are checkpoints of the planted model; those of the others are of the base."""
VERSION = 1


def save_truth(truth: "Truth", folder: Path) -> None:
    """Write it; the record comes last, so that a folder with one is whole."""
    from safetensors.torch import save_file

    kept = truth.model if truth.base is None or truth.kind in ORDINARY else truth.base
    assert kept is not None  # a truth that was loaded without its base is an ordinary checkpoint
    check_new(folder, kept)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(kept, folder)
    if truth.injected is not None:
        save_file({"places": truth.injected.places, "rows": truth.injected.rows.contiguous()}, folder / TENSORS)
    elif truth.kind == HEADS and truth.model is not None:
        save_file(_head_tensors(truth.model, truth.reserved), folder / TENSORS)
    truth.paragraphs.save(folder / TEXTS)
    truth.others.save(folder / OTHERS)
    record = {
        "version": VERSION,
        "settings": dict(truth.settings),
        "prefix_length": truth.paragraphs.prefix_length,
        "continuation_length": truth.paragraphs.continuation_length,
        "planted_hash": None if truth.model is None else truth.model.weights_hash(),
        "paragraphs": truth.paragraphs.data_hash,
        "excluded": list(truth.excluded),
        "gates": [asdict(gate) | {"value": None if isnan(gate.value) else gate.value} for gate in truth.gates],
        "units": list(truth.nominal.shape[1:]),
        "nominal": places_of(truth.nominal),
        "live": places_of(truth.live),
        "reserved": np.argwhere(truth.reserved).tolist(),
    }
    write_json(folder / RECORD, record)


def places_of(units: Bool[np.ndarray, "paragraph layer unit"]) -> list[list[list[int]]]:
    """(layer, unit) of each paragraph's."""
    return [np.argwhere(of).tolist() for of in units]


def _head_tensors(model: HookedModel, reserved: Bool[np.ndarray, "layer head"]) -> dict[str, Tensor]:
    """The planted heads' matrices, by layer and component, in the order of their places."""
    return {
        f"{layer}.{component}": torch.stack([model.weight(layer, component, head).contiguous().cpu() for head in heads])
        for layer, heads in enumerate(np.flatnonzero(of).tolist() for of in reserved)
        for component in ATTENTION_COMPONENTS
    }
