"""Signatures of one model at several times of its training, or of several trainings, as one."""

import hashlib
from collections.abc import Mapping

import numpy as np

from localize.axes import TRAINING_AXES
from localize.errors import SignatureError, caller
from localize.signature.signature import MemorizationSignature


def stacked(axis: str, parts: Mapping[str | int, MemorizationSignature]) -> MemorizationSignature:
    """One signature with an axis in front for what these were measured at.

    Args:
        axis: One of `TRAINING_AXES`, which the parts do not have; those that stand behind it there, they may.
        parts: Signatures of the same paragraphs in the same groups, with the same variables and axes, by their labels in order.

    Returns:
        The same variables along the new axis. `weights_hash` is a coordinate of which weights were measured; the model's own in
        `attrs` is a digest of them all.

    Raises:
        SignatureError: If there are none, or they differ in more than weights.
    """
    import xarray as xr

    if axis not in TRAINING_AXES:
        raise SignatureError(f"{caller()}: {axis!r} is not one of {', '.join(TRAINING_AXES)}.")
    if not parts:
        raise SignatureError(f"{caller()}: no signatures to join along {axis}.")
    datasets = {label: _with_hash(signature) for label, signature in parts.items()}
    first_label, first = next(iter(datasets.items()))
    for label, dataset in datasets.items():
        if problem := _differs(first, dataset):
            raise SignatureError(f"{caller()}: {axis}={label!r} differs from {axis}={first_label!r} in {problem}.")
    joined = xr.concat(
        list(datasets.values()), axis, data_vars="all", coords=["weights_hash"], compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    joined = joined.assign_coords({axis: np.array(list(parts))})
    calls = [call for dataset in datasets.values() for call in dataset.attrs["calls"]]
    kept = [call for at, call in enumerate(calls) if call not in calls[:at]]
    digest = hashlib.sha256("".join(joined["weights_hash"].values.flat).encode()).hexdigest()
    joined.attrs = {**first.attrs, "model": {**first.attrs["model"], "weights_hash": digest}, "calls": kept}
    return MemorizationSignature(joined)


def _with_hash(signature: MemorizationSignature):
    dataset = signature.dataset
    if signature.over_training:
        return dataset
    return dataset.assign_coords(weights_hash=dataset.attrs["model"]["weights_hash"])


def _differs(first, other) -> str | None:
    """In what two datasets that are to stand along one axis differ, beside the weights; None if in nothing."""
    if first.attrs["paragraphs"]["data_hash"] != other.attrs["paragraphs"]["data_hash"]:
        return "its paragraphs"
    if list(first.data_vars) != list(other.data_vars):
        return f"what was measured: {', '.join(map(str, other.data_vars))}"
    if set(first.coords) != set(other.coords):
        return f"its labels: {', '.join(map(str, sorted(set(first.coords) ^ set(other.coords))))}"
    for name, coordinate in first.coords.items():
        same = coordinate.dims == other[name].dims and (
            name == "weights_hash"
            or np.array_equal(coordinate.values, other[name].values, equal_nan=coordinate.dtype.kind == "f")
        )
        if not same:
            return f"{name!r}"
    for name, array in first.data_vars.items():
        if array.dims != other[name].dims:
            return f"the axes of {name}: {other[name].dims}"
    return None
