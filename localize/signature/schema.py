"""The schema that a signature's dataset is held to: what `localize.measurements` declares of every variable and axis."""

from typing import TYPE_CHECKING

import numpy as np

from localize.axes import TRAINING_AXES
from localize.errors import SignatureError
from localize.measurements import AXES, REGISTRY
from localize.statistics import UNBOUNDED, Range
from localize.storage import is_unicode

if TYPE_CHECKING:
    import xarray as xr

SLACK = 1e-5
"""By so much rounding may take a value beyond what is possible."""


def range_of(dataset: "xr.Dataset", name: str) -> Range:
    """Where a variable of a signature's dataset can lie; of its mean over anything likewise."""
    about = dataset.attrs["paragraphs"]
    lengths = [about.get(f"{part}_length", np.inf) for part in ("prefix", "continuation")]
    return Range(*REGISTRY[name].bounds(*lengths)) if name in REGISTRY else UNBOUNDED


def training_axes(dataset: "xr.Dataset") -> tuple[str, ...]:
    """The axes over which a model was measured while it was trained: none for one model as it is."""
    return tuple(axis for axis in TRAINING_AXES if axis in dataset.dims)


def is_lazy(array: "xr.DataArray | xr.Variable") -> bool:
    """Whether its values are read when they are asked for: those of a sweep, where dask is installed."""
    return array.chunks is not None


def check(dataset: "xr.Dataset") -> None:
    """Raise a `SignatureError` unless every variable, coordinate and attribute is as the schema has it."""
    for name in ("paragraph", "group", "cluster"):
        if name not in dataset.coords or dataset.coords[name].dims != ("paragraph",):
            raise SignatureError(f"signature: no coordinate {name!r} along the paragraphs.")
    for name in ("model", "paragraphs", "calls"):
        if name not in dataset.attrs:
            raise SignatureError(f"signature: no attribute {name!r}; it says what was measured.")
    over = training_axes(dataset)
    if over and ("weights_hash" not in dataset.coords or dataset.coords["weights_hash"].dims != over):
        raise SignatureError(
            f"signature: no coordinate 'weights_hash' along {over}; it says which weights were measured."
        )
    for name, array in dataset.data_vars.items():
        schema = REGISTRY.get(str(name))
        if schema is None:
            raise SignatureError(
                f"signature: unknown variable {name!r}; register it first. Known: {', '.join(REGISTRY)}."
            )
        if array.dims != (*over, *schema.dims):
            raise SignatureError(f"signature: {name} has axes {array.dims}; {(*over, *schema.dims)} are due.")
        if array.dtype.kind not in ("f" if schema.kind == "float" else "iu"):
            raise SignatureError(f"signature: {name} is {array.dtype}; {schema.kind} values are due.")
        if is_lazy(array):
            continue  # read when it is asked for; its values were checked when they were measured
        finite = array.values[np.isfinite(array.values)]
        possible = range_of(dataset, str(name))
        if (finite < possible.low - SLACK).any():
            raise SignatureError(
                f"signature: {name} has the value {finite.min()}; at least {possible.low:g} is allowed."
            )
        if (finite > possible.high + SLACK).any():
            raise SignatureError(
                f"signature: {name} has the value {finite.max()}; at most {possible.high:g} is allowed."
            )
    for name, array in dataset.variables.items():
        if array.dtype.kind == "U" and not is_unicode("".join(array.values.flat)):
            raise SignatureError(f"signature: a text of {name} holds half a surrogate pair; valid Unicode is needed.")
    if unknown := {str(d) for d in dataset.dims} - set(AXES):
        raise SignatureError(f"signature: unknown axis {min(unknown)!r}; there are {', '.join(AXES)}.")
