"""A planted truth read from the folder that it was saved to."""

from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS
from localize.errors import InputError, caller, first_line, public
from localize.models.hooks import HookedModel
from localize.models.load import load_model
from localize.paragraphs.readers import load_paragraphs
from localize.storage import read_json
from localize.truths.extra_heads import widened
from localize.truths.injection import Injected
from localize.truths.kinds import HEADS, INJ, RECORD, SINKS
from localize.truths.storage import ORDINARY, OTHERS, TENSORS, TEXTS, VERSION
from localize.truths.truth import Gate, Truth

CONTINUATION = 50
"""Tokens, where a record does not say how many."""


@public
def load_truth(folder: str | Path, *, device: str | None = None) -> Truth:
    """The truth that `Truth.save` wrote.

    Args:
        folder: As it was saved to.
        device: Of the model; None for a GPU where there is one.

    Returns:
        The same truth; its `base` is None for "route" and "layer", of which the folder holds the planted model alone.

    Raises:
        InputError: If the folder holds no truth, or one of another checkpoint or other paragraphs than lie beside it.
        ModelError: If the checkpoint cannot be loaded.
    """
    folder = Path(folder)
    record = _record(folder)
    try:
        return _truth(folder, record, device)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{caller()}: {folder / RECORD}: not what Truth.save writes ({error!r}); plant it again."
        ) from None


def _truth(folder: Path, record: dict[str, Any], device: str | None) -> Truth:
    settings, shape = record["settings"], record["units"]
    kind, loaded = settings["kind"], load_model(folder, device=device)
    texts, others = (
        load_paragraphs(
            folder / name, loaded, prefix_length=record["prefix_length"],
            continuation_length=record.get("continuation_length", CONTINUATION),
        )
        for name in (TEXTS, OTHERS)
    )  # fmt: skip
    nominal, live = (_units_at(record[name], shape) for name in ("nominal", "live"))
    reserved = _units_at([record["reserved"]], shape)[0]
    base, model, injected = (None, loaded, None) if kind in ORDINARY else (loaded, None, None)
    if kind in (INJ, SINKS):
        injected = Injected(**_tensors(folder))
    elif kind == HEADS:
        model = _with_heads(loaded, _tensors(folder), reserved)
    for what, found, told in (
        ("checkpoint", (model or loaded).weights_hash(), record["planted_hash"] or settings["base"]),
        ("paragraphs", texts.data_hash, record["paragraphs"]),
    ):
        if found != told:
            raise InputError(f"{caller()}: {folder}: its {what} are others than {RECORD} tells of; plant it again.")
    return Truth(
        base=base, model=model, injected=injected, paragraphs=texts, excluded=tuple(record["excluded"]), others=others,
        nominal=nominal, live=live, reserved=reserved, gates=tuple(_gate(gate) for gate in record["gates"]), settings=settings,
    )  # fmt: skip


def _record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD).is_file():
        raise InputError(f"{caller()}: {folder}: no {RECORD}; a folder that Truth.save wrote is needed.")
    record = read_json(folder / RECORD)
    if record.get("version") != VERSION:
        raise InputError(
            f"{caller()}: {folder / RECORD}: version {record.get('version')!r}; this localize reads version {VERSION}."
        )
    return record


def _gate(told: dict[str, Any]) -> Gate:
    """A gate whose value is null was of nothing, such as the norms of no live units."""
    return Gate(**told) if told["value"] is not None else Gate(**{**told, "value": nan})


def _units_at(places: list[list[list[int]]], shape: list[int]) -> Bool[np.ndarray, "paragraph layer unit"]:
    units = np.zeros((len(places), *shape), bool)
    for of, mine in zip(units, places, strict=True):
        of[tuple(np.array(mine, int).reshape(-1, 2).T)] = True
    return units


def _tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{caller()}: {folder / TENSORS}: cannot be read: {first_line(error)}.") from error


def _with_heads(base: HookedModel, tensors: dict[str, Tensor], reserved: Bool[np.ndarray, "layer head"]) -> HookedModel:
    places = torch.stack([torch.from_numpy(np.flatnonzero(of)) for of in reserved])
    weights = [
        {component: tensors[f"{layer}.{component}"].to(base.device) for component in ATTENTION_COMPONENTS}
        for layer in range(base.n_layers)
    ]
    return widened(base, weights, places)
