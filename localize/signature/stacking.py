"""Signatures of one model at several times of its training, or of several trainings, as one."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.axes import TRAINING_AXES
from localize.errors import SignatureError, caller
from localize.signature.signature import MemorizationSignature, unique_calls

if TYPE_CHECKING:
    import xarray as xr


TRAITS = ("rarity", "novelty")
FREE = {
    "training_arm": ("duplicates", "window_start", "window_end", "text_kind", *TRAITS), "training_run": TRAITS, "training_seed": TRAITS,
}  # fmt: skip
"""Labels of paragraphs that may differ along an axis: how they were planted, and what they are like beside the other rows."""


def stacked(axis: str, parts: Mapping[Any, MemorizationSignature]) -> MemorizationSignature:
    """One signature with an axis in front for what these were measured at.

    Args:
        axis: One of `TRAINING_AXES`, which the parts do not have; those that stand behind it there, they may.
        parts: Signatures of the same paragraphs in the same groups, with the same variables and axes, by their labels in order.

    Returns:
        The same variables along the new axis. `weights_hash` is a coordinate of which weights were measured; the model's own in
        `attrs` is a digest of them all. Copies, windows and kinds of the paragraphs may differ between arms, their rarity and novelty
        between all trainings, and have the axis, too, then.

    Raises:
        SignatureError: If there are none, or they differ in more than weights.
    """
    import xarray as xr

    if axis not in TRAINING_AXES:
        raise SignatureError(f"{caller()}: {axis!r} is not one of {', '.join(TRAINING_AXES)}.")
    if not parts:
        raise SignatureError(f"{caller()}: no signatures to join along {axis}.")
    for label, signature in parts.items():
        if early := [
            over for over in signature.over_training if TRAINING_AXES.index(over) <= TRAINING_AXES.index(axis)
        ]:
            raise SignatureError(f"{caller()}: {axis}={label!r} is over {early[0]}, which cannot stand behind {axis}.")
    datasets = {label: _with_hash(signature) for label, signature in parts.items()}
    first_label, first = next(iter(datasets.items()))
    free = [name for name in FREE.get(axis, ()) if name in first.coords]
    for label, dataset in datasets.items():
        if problem := difference(first, dataset, free):
            raise SignatureError(f"{caller()}: {axis}={label!r} differs from {axis}={first_label!r} in {problem}.")
    varied = [name for name in free if any(not _same(first[name], dataset[name]) for dataset in datasets.values())]
    joined = xr.concat(
        list(datasets.values()), axis, data_vars="all", coords=["weights_hash", *varied], compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    joined = joined.assign_coords({axis: np.array(list(parts))})
    calls = [call for dataset in datasets.values() for call in dataset.attrs["calls"]]
    digest = hashlib.sha256("".join(joined["weights_hash"].values.flat).encode()).hexdigest()
    joined.attrs = {
        **first.attrs,
        "model": {**first.attrs["model"], "weights_hash": digest},
        "calls": unique_calls(calls),
    }
    return MemorizationSignature(joined)


def nested(axes: Sequence[str], parts: Mapping[tuple[Any, ...], MemorizationSignature]) -> MemorizationSignature:
    """Signatures by their labels on several axes as one, with those of the axes along which they differ, and with steps.

    Args:
        axes: Of `TRAINING_AXES`, in their order.
        parts: By a label on each axis; every combination of labels that there are.

    Raises:
        SignatureError: If they differ in more than weights.
    """
    if not axes:
        return next(iter(parts.values()))
    axis, *others = axes
    labels = list(dict.fromkeys(place[0] for place in parts))
    inner = {
        label: nested(others, {place[1:]: part for place, part in parts.items() if place[0] == label})
        for label in labels
    }
    return stacked(axis, inner) if len(labels) > 1 or axis == "training_step" else inner[labels[0]]


def joined_arms(
    watched: Mapping[str, MemorizationSignature], varied: Mapping[str, Mapping[str, Any]]
) -> MemorizationSignature:
    """What was watched in several variants of a recipe as one signature, which tells of each how it was trained.

    Args:
        watched: Of each arm, with what its training tells in `attrs`.
        varied: What each has otherwise than the recipe, by names such as "training.batch".

    Raises:
        SignatureError: If they differ in more than weights and how paragraphs were planted.
    """
    joined = stacked("training_arm", watched).dataset
    told = {name: signature.dataset.attrs["training"] for name, signature in watched.items()}
    first = next(iter(told.values()))
    arms = {name: one | {"varied": dict(varied[name])} for name, one in told.items()}
    joined.attrs["training"] = {"steps": first["steps"], "batch": first["batch"], "arms": arms}
    return MemorizationSignature(joined)


def _with_hash(signature: MemorizationSignature) -> "xr.Dataset":
    dataset = signature.dataset
    if signature.over_training:
        return dataset
    return dataset.assign_coords(weights_hash=dataset.attrs["model"]["weights_hash"])


def difference(first: "xr.Dataset", other: "xr.Dataset", free: Collection[str] = ()) -> str | None:
    """In what two datasets that are to stand along one axis differ, beside the weights and the labels `free`; None if in nothing."""
    if first.attrs["paragraphs"]["data_hash"] != other.attrs["paragraphs"]["data_hash"]:
        return "its paragraphs"
    if first.attrs["model"].get("weights") != other.attrs["model"].get("weights"):
        return f"its weight processing: {other.attrs['model'].get('weights')}"
    if list(first.data_vars) != list(other.data_vars):
        return f"what was measured: {', '.join(map(str, other.data_vars))}"
    labels, others = ({str(name) for name in dataset.coords} for dataset in (first, other))
    if labels != others:
        return f"its labels: {', '.join(sorted(labels ^ others))}"
    for name, coordinate in first.coords.items():
        if not (coordinate.dims == other[name].dims if name == "weights_hash" else _same(coordinate, other[name])):
            if name in free:
                continue
            return f"{name!r}"
    for name, array in first.data_vars.items():
        if list(array.sizes.items()) != list(other[name].sizes.items()):  # in this order
            return f"the axes of {name}: {', '.join(f'{axis} {size}' for axis, size in other[name].sizes.items())}"
        if any(array.attrs.get(key) != other[name].attrs.get(key) for key in ("continuation", "options")):
            return f"the options of {name}"
    return None


def _same(one: "xr.DataArray", other: "xr.DataArray") -> bool:
    return one.dims == other.dims and np.array_equal(one.values, other.values, equal_nan=one.dtype.kind == "f")
