"""`MemorizationSignature`: one labelled dataset that every measurement emits and every figure draws."""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.axes import ordered_groups
from localize.errors import SignatureError
from localize.measurements import REGISTRY
from localize.signature.schema import check, is_lazy, training_axes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


SCHEMA_VERSION = 3
ROUNDING = {"bfloat16": 6e-2, "float16": 1e-2}
"""Relative difference up to which two measurements of one variable agree, in other batch sizes, kernels or on other devices."""
ROUNDING_OF_FLOATS = 1e-3


class Delegate:
    """A method whose function lives in a room above: imported, by name, when it is asked for.

    Args:
        home: The function's module.
        function: Its name there; that of the method if left out.
        over_training: Whether it takes measurements over training, too; else one model of these has to be chosen.
    """

    def __init__(self, home: str, function: str | None = None, *, over_training: bool = False):
        self.home, self.function, self.over_training = home, function, over_training

    def __set_name__(self, owner: type, name: str) -> None:
        self.function = self.function or name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        found = getattr(import_module(self.home), str(self.function))
        if instance is None:
            return found
        if instance.over_training and not self.over_training:
            instance.one_model(str(self.function))
        return MethodType(found, instance)


class MemorizationSignature:
    """What was measured on some paragraphs of one model, labelled, with what made it. Frozen.

    Args:
        dataset: Variables as in the registry, with coordinates `paragraph` (ids), `group` and `cluster`; attributes `model`,
            `paragraphs` and `calls` say what made it.

    Raises:
        SignatureError: If a variable is unknown or does not fit its schema, or a coordinate or attribute is missing.
    """

    __slots__ = ("_dataset",)
    _dataset: "xr.Dataset"

    if TYPE_CHECKING:
        from localize.analysis.beyond_loss import beyond_loss as beyond_loss
        from localize.analysis.causal import causal_check as causal_check
        from localize.analysis.compare import compare as compare
        from localize.analysis.concentration import concentration as concentration
        from localize.analysis.contrast import contrast as contrast
        from localize.analysis.controls import corruption_table as corruption_table
        from localize.analysis.controls import noise_table as noise_table
        from localize.analysis.distinguish import distinguish as distinguish
        from localize.analysis.head_agreement import head_agreement as head_agreement
        from localize.analysis.html import signature_html as _repr_html_
        from localize.analysis.locality import locality_table as locality_table
        from localize.analysis.matched_contrast import matched_contrast as matched_contrast
        from localize.analysis.matching import matched_drop as matched_drop
        from localize.analysis.patch_agreement import patch_agreement as patch_agreement
        from localize.analysis.patch_grid import patching as patching
        from localize.analysis.patching import patch_table as patch_table
        from localize.analysis.stored_units import stored_units_table as stored_units_table
        from localize.analysis.summary import summary as summary
    else:
        beyond_loss = Delegate("localize.analysis.beyond_loss")
        causal_check = Delegate("localize.analysis.causal")
        compare = Delegate("localize.analysis.compare")
        concentration = Delegate("localize.analysis.concentration")
        contrast = Delegate("localize.analysis.contrast")
        corruption_table = Delegate("localize.analysis.controls")
        distinguish = Delegate("localize.analysis.distinguish")
        head_agreement = Delegate("localize.analysis.head_agreement")
        _repr_html_ = Delegate("localize.analysis.html", "signature_html", over_training=True)
        locality_table = Delegate("localize.analysis.locality")
        matched_contrast = Delegate("localize.analysis.matched_contrast")
        matched_drop = Delegate("localize.analysis.matching")
        noise_table = Delegate("localize.analysis.controls")
        patch_agreement = Delegate("localize.analysis.patch_agreement")
        patching = Delegate("localize.analysis.patch_grid")
        patch_table = Delegate("localize.analysis.patching")
        stored_units_table = Delegate("localize.analysis.stored_units")
        summary = Delegate("localize.analysis.summary")

    def __init__(self, dataset: "xr.Dataset"):
        check(dataset)
        # A copy, so that what the caller does to his dataset afterwards does not reach it; in the registry's order.
        own = dataset.copy(deep=True)
        own = own.drop_vars(list(own.data_vars)).assign({name: own[name] for name in REGISTRY if name in own})
        for variable in own.variables.values():
            if not is_lazy(variable):
                variable.values.flags.writeable = False
        object.__setattr__(self, "_dataset", own)

    def __reduce__(self) -> tuple[type["MemorizationSignature"], tuple["xr.Dataset"]]:
        return MemorizationSignature, (self.dataset,)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a signature is frozen; {name!r} cannot be set.")

    @property
    def dataset(self) -> "xr.Dataset":
        """The labelled arrays, read-only, in a dataset of their own."""
        copied = self._dataset.copy(deep=False)
        copied.attrs = copy.deepcopy(self._dataset.attrs)
        return copied

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, those of recall first and from most to least memorized."""
        return ordered_groups(str(g) for g in self._dataset["group"].values)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what it holds."""
        return tuple(str(name) for name in self._dataset.data_vars)

    def __getitem__(self, name: str) -> "xr.DataArray":
        if name not in self._dataset:
            raise SignatureError(f"signature: no {name!r}; it holds {', '.join(self.variables)}.")
        return self._dataset[name].copy(deep=False)

    def __contains__(self, name: object) -> bool:
        return name in self._dataset

    def __len__(self) -> int:
        """Number of paragraphs."""
        return self._dataset.sizes["paragraph"]

    def __or__(self, other: "MemorizationSignature") -> "MemorizationSignature":
        """Both signatures' variables in one; a variable in both must agree up to rounding, and the left one's is kept.

        Of a sweep over heads done in parts, each fills what the other was not asked for.

        Raises:
            SignatureError: If model, paragraphs or a shared variable differ.
            TypeError: If the other is no signature.
        """
        if not isinstance(other, MemorizationSignature):
            raise TypeError(f"join: a signature joins with a signature, not with {type(other).__name__}.")
        return _joined(self, other)

    def where(self, *, group: str) -> "MemorizationSignature":
        """The paragraphs of one group, and what was measured of it as a set."""
        chosen = np.flatnonzero(self._dataset["group"].values == self.known_group(group))
        part = self._dataset.isel(paragraph=chosen)
        for axis in ("set", "other_set"):
            if axis in part.dims:
                part = part.isel({axis: np.flatnonzero(part[axis].values == group)})
        return MemorizationSignature(part)

    @property
    def over_training(self) -> tuple[str, ...]:
        """Axes over which the model was measured while it was trained, in order; none of one model as it is."""
        return training_axes(self._dataset)

    @property
    def arms(self) -> "dict[str, MemorizationSignature]":
        """Of measurements over several arms of a training those of each, by name; none where there is no such axis."""
        labels = self._dataset["training_arm"].values.tolist() if "training_arm" in self._dataset.dims else []
        return {label: self.at(training_arm=label) for label in labels}

    def at(
        self,
        *,
        training_arm: str | None = None,
        training_run: str | None = None,
        training_seed: int | None = None,
        training_step: int | None = None,
    ) -> "MemorizationSignature":
        """Of measurements over training those of one arm, run, seed or step.

        Args:
            training_arm: A variant's name.
            training_run: A run's name.
            training_seed: A seed.
            training_step: Steps of training before it was measured; -1 for the last.

        Returns:
            The same without these axes; what is chosen on all of them is a signature of one model, which every analysis takes.

        Raises:
            SignatureError: If there is no such axis, or no such label along it.
        """
        chosen = {
            "training_arm": training_arm, "training_run": training_run, "training_seed": training_seed,
            "training_step": training_step,
        }  # fmt: skip
        part = self._dataset
        for axis, label in chosen.items():
            if label is None:
                continue
            if axis not in part.dims:
                raise SignatureError(f"signature: no axis {axis!r}; it has {', '.join(map(str, part.dims))}.")
            labels = part[axis].values.tolist()
            label = labels[-1] if axis == "training_step" and label == -1 else label
            if label not in labels:
                raise SignatureError(f"signature: no {axis}={label!r}; there are {_listed(labels)}.")
            part = part.isel({axis: labels.index(label)}).drop_vars(axis)
            if axis == "training_arm" and "training" in part.attrs:
                part.attrs = {**part.attrs, "training": part.attrs["training"]["arms"][label]}
        if part is not self._dataset and not training_axes(part):
            weights = str(part["weights_hash"].values)
            part = part.drop_vars("weights_hash")
            part.attrs = {**part.attrs, "model": {**part.attrs["model"], "weights_hash": weights}}
        return MemorizationSignature(part)

    def one_model(self, asks: str) -> None:
        """Raise a `SignatureError` unless it is of one model as it is; `asks` is what needs that."""
        if self.over_training:
            told = ", ".join(f"{axis}={self._dataset[axis].values[-1].item()!r}" for axis in self.over_training)
            raise SignatureError(
                f"{asks}: the signature is over {', '.join(self.over_training)}; choose one model: .at({told})."
            )

    def known_group(self, group: str) -> str:
        """The name of a group; raises a `SignatureError` where there is no such."""
        if group not in self.groups:
            raise SignatureError(f"signature: no group {group!r}; it has {', '.join(self.groups)}.")
        return group

    def to_dataframe(self, variable: str | None = None) -> "pd.DataFrame":
        """One variable as a long table, or, without a name, one row per paragraph and model with all that is one number for it."""
        if variable is not None:
            return self[variable].to_dataframe().reset_index()
        names = [n for n in self.variables if self._dataset[n].dims == (*self.over_training, "paragraph")]
        coords = [str(n) for n, c in self._dataset.coords.items() if c.dims == ("paragraph",) and n != "paragraph"]
        told = self._dataset[names].reset_coords(coords)[[*coords, *names]]
        return told.to_dataframe([axis for axis in (*self.over_training, "paragraph") if axis in told.dims])

    def save(self, path: str | Path) -> None:
        """Write one zipped Zarr file; a killed save leaves the old file or the new one."""
        from localize.signature.storage import save

        save(self._dataset, Path(path))

    def __repr__(self) -> str:
        model, counts = self._dataset.attrs["model"], self._group_counts()
        groups = ", ".join(f"{count} {group}" for group, count in counts.items())
        return f"MemorizationSignature({model['name']}; {len(self)} paragraphs: {groups}; {', '.join(self.variables)})"

    def _group_counts(self) -> dict[str, int]:
        values = self._dataset["group"].values
        return {group: int((values == group).sum()) for group in self.groups}


def _listed(labels: Sequence[Any]) -> str:
    """Labels in words; of many the first and the last."""
    words = [str(label) for label in labels]
    return ", ".join(words if len(words) <= 12 else [*words[:6], "...", *words[-3:]])


def load_signature(path: str | Path) -> MemorizationSignature:
    """Read a saved signature.

    Raises:
        SignatureError: If the file is missing, damaged or does not fit the schema.
    """
    from localize.signature.storage import load

    dataset = load(Path(path))
    try:
        return MemorizationSignature(dataset)
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from None


def _joined(left: MemorizationSignature, right: MemorizationSignature) -> MemorizationSignature:
    a, b = left._dataset, right._dataset
    for what, key in (("weight processing", "weights"), ("models", "weights_hash")):
        if a.attrs["model"].get(key) != b.attrs["model"].get(key):
            one, other = (f"{d.attrs['model']['name']} ({key} {str(d.attrs['model'].get(key))[:12]})" for d in (a, b))
            raise SignatureError(f"join: the {what} differ: {one} and {other}; only measurements of one model join.")
    if a.attrs["paragraphs"]["data_hash"] != b.attrs["paragraphs"]["data_hash"]:
        raise SignatureError(
            f"join: the paragraphs differ: {_described(a)} and {_described(b)}; the same ones, in the same order, are needed."
        )
    coords = [str(n) for n in b.coords if n in a.coords]
    for name in coords:
        if not _same(a[name].values, b[name].values) and not (name == "group" and _moved_by_a_tie(a, b)):
            raise SignatureError(
                f"join: {name!r} differs between the two signatures; measure both with the same labels and layers."
            )
    shared = [str(n) for n in b.data_vars if n in a.data_vars]
    dtypes = [call.get("dtype") for dataset in (a, b) for call in dataset.attrs["calls"]]
    rounding = max((ROUNDING.get(dtype, ROUNDING_OF_FLOATS) for dtype in dtypes), default=ROUNDING_OF_FLOATS)
    for name in shared:
        _check_agreement(name, a[name], b[name], rounding)
    merged = a.assign({name: b[name] for name in b.data_vars if name not in shared})
    pieces = [name for name in shared if REGISTRY[name].pieces]
    merged = merged.assign({name: a[name].fillna(b[name]).assign_attrs(a[name].attrs) for name in pieces})
    merged = merged.assign_coords({name: b[name] for name in b.coords if name not in coords})
    merged.attrs = {**a.attrs, "calls": unique_calls([*a.attrs["calls"], *b.attrs["calls"]])}
    return MemorizationSignature(merged)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether labels are equal; what is not known on either side is."""
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def _ties(differs: np.ndarray) -> bool:
    """Whether so few differ that it can be rounding: a tie of two logits may fall either way in another batch or kernel."""
    return bool(differs.sum() <= max(1, 0.01 * differs.size))


def _ties_of_tokens(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether whole numbers of tokens, nan at the same places, differ so seldom that it can be ties."""
    missing = np.isnan(one)
    whole = all((values[~missing] % 1 == 0).all() for values in (one, other))
    return whole and np.array_equal(missing, np.isnan(other)) and _ties((one != other) & ~missing)


def _moved_by_a_tie(a: "xr.Dataset", b: "xr.Dataset") -> bool:
    """Whether groups differ in few paragraphs, and only where exact match does, which they follow; the left ones are kept."""
    differs = a["group"].values != b["group"].values
    return _ties(differs) and not bool((differs & (a["exact_match"].values == b["exact_match"].values)).any())


def _check_agreement(name: str, a: "xr.DataArray", b: "xr.DataArray", rounding: float) -> None:
    ways = [array.attrs.get("continuation") for array in (a, b)]
    if ways[0] != ways[1]:
        raise SignatureError(
            f"join: {name} is of the {ways[0]} continuation on the left and of the {ways[1]} one on the right."
        )
    options = [json.loads(array.attrs.get("options", "{}")) for array in (a, b)]
    if differing := [key for key in options[0] if options[0][key] != options[1].get(key, options[0][key])]:
        one, other = (f"{differing[0]}={told[differing[0]]!r}" for told in options)
        raise SignatureError(
            f"join: {name} is of {one} on the left and of {other} on the right; only parts of one measurement join."
        )
    if a.dtype.kind in "iu":
        agree = a.shape == b.shape and _ties(a.values != b.values)
    else:
        # What is near 0 beside the variable's other values has no digits to compare.
        one, other = a.values, b.values
        if REGISTRY[name].pieces and a.shape == b.shape:
            both = ~np.isnan(one) & ~np.isnan(other)
            one, other = one[both], other[both]
        scale = min(1.0, float(np.nanmax(np.abs(one), initial=0.0)))
        agree = a.shape == b.shape and (
            np.allclose(one, other, rtol=rounding, atol=0.1 * rounding * scale, equal_nan=True)
            or (REGISTRY[name].unit == "tokens" and _ties_of_tokens(one, other))
        )
    if not agree:
        raise SignatureError(
            f"join: {name} is in both signatures with different values; measure both with the same options."
        )


def _described(dataset: "xr.Dataset") -> str:
    about = dataset.attrs["paragraphs"]
    return f"{dataset.sizes['paragraph']} of {about['source']} (data_hash {about['data_hash'][:12]})"


def unique_calls(calls: Iterable[Mapping]) -> list:
    """Calls of measurements, each once, in their order."""
    kept: list = []
    for call in calls:
        if call not in kept:
            kept.append(call)
    return kept
