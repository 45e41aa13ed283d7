"""A change of single weights that can be made, taken back to the bit, saved, and written out as a checkpoint."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import COMPONENTS, FOLDED
from localize.edit.masks import WeightMask, wrong_places
from localize.errors import InputError, LocalizeError, caller, first_line, public
from localize.models.hooks import HookedModel
from localize.models.saving import check_new, save_checkpoint
from localize.storage import new_folder, replacing

Places = Mapping[tuple[int, str], Int[Tensor, "_"]]
Values = Mapping[tuple[int, str], Float[Tensor, "_"]]

FORMAT = 1
HEADER = "localize_edit"
"""The one entry of the file's metadata: several would be written in any order, and no two files would be alike."""

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers as wide as a weight, in which 0.0 is not -0.0 and nan is itself."""


@dataclass(frozen=True, eq=False)
class WeightEdit:
    """Single weights of a model's blocks, before and after.

    Attributes:
        indices: For each (layer, component) the weights that change, ascending, as places in the flattened `(input, output)`
            matrix that `model.weight(layer, component)` shows.
        before: Their values in the unedited model, in its dtype, on the CPU; the same keys.
        after: Their values in the edited model. No weight has the same bits before and after.
        shapes: The matrices' shapes, for every (layer, component) that could have changed.
        weights_hash: Of the unedited model.
        call: What made the edit, as JSON: `measurement` is its name; options, paragraphs, a log of its steps.
    """

    indices: Places
    before: Values
    after: Values
    shapes: Mapping[tuple[int, str], tuple[int, int]]
    weights_hash: str
    call: Mapping[str, Any]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "call", json.loads(json.dumps(dict(self.call))))  # as it will be loaded
        except (TypeError, ValueError) as error:
            raise LocalizeError(f"edit: call cannot be written as JSON ({first_line(error)}).") from None
        if not isinstance(self.call.get("measurement"), str):
            raise LocalizeError("edit: call['measurement'] must be the name of what made the edit.")
        if not self.indices.keys() == self.before.keys() == self.after.keys():
            raise LocalizeError("edit: indices, before and after must be of the same layers and components.")
        if len(self) == 0:
            raise LocalizeError("edit: no weight changes; at least one must.")
        if unknown := sorted({component for _, component in self.shapes} - set(COMPONENTS)):
            raise LocalizeError(f"edit: component={unknown[0]!r} is not one of {', '.join(COMPONENTS)}.")
        if fault := wrong_places(self.indices, self.shapes):
            raise LocalizeError(f"edit: {fault}")
        dtypes = sorted({str(values.dtype) for side in (self.before, self.after) for values in side.values()})
        if len(dtypes) > 1:
            raise LocalizeError(f"edit: values are {' and '.join(dtypes)}; those of one model have one dtype.")
        for (layer, component), places in self.indices.items():
            before, after = self.before[layer, component], self.after[layer, component]
            if not len(places) == len(before) == len(after):
                raise LocalizeError(
                    f"edit: layer {layer} {component} has {len(places)} places, {len(before)} values before and {len(after)} after; "
                    "one each is needed."
                )
            if not bool((alike := ~different_bits(before, after)).any()):
                continue
            where = self._position(layer, component, int(alike.nonzero()[0]))
            raise LocalizeError(
                f"edit: layer {layer} {component} {where} is the same before and after; it must change."
            )

    @classmethod
    def of(cls, mask: WeightMask, before: Values, after: Values, call: Mapping[str, Any]) -> "WeightEdit":
        """The edit that changed some of a mask's weights.

        Args:
            mask: The weights that could change.
            before: For each (layer, component) of the mask its weights' values before, in the order of `mask.indices`.
            after: And after.
            call: What made it; see `WeightEdit`.

        Returns:
            Only what changed, to the bit: a weight that went from 0.0 to -0.0 is among it, one that stayed nan is not.

        Raises:
            LocalizeError: If nothing changed, or the values are not one for each of the mask's weights.
        """
        for cell, places in mask.indices.items():
            sides = [side[cell] for side in (before, after) if cell in side]
            if [len(places)] * 2 != [len(side) for side in sides] or sides[0].dtype != sides[1].dtype:
                raise LocalizeError(
                    f"edit: layer {cell[0]} {cell[1]}: a value before and one after, of one dtype, are needed for each of {len(places)} "
                    "weights."
                )
        indices, old, new = {}, {}, {}
        for cell, places in mask.indices.items():
            one, other = before[cell].detach().cpu(), after[cell].detach().cpu()
            changed = different_bits(one, other)
            if bool(changed.any()):
                indices[cell], old[cell], new[cell] = places.cpu()[changed], one[changed], other[changed]
        if not indices:
            raise LocalizeError(f"{call['measurement']}: none of the {len(mask):,} weights changed; there is no edit.")
        return cls(indices, old, new, mask.shapes, mask.weights_hash, call)

    def __len__(self) -> int:
        """How many weights change."""
        return sum(len(places) for places in self.indices.values())

    @property
    def total(self) -> int:
        """How many weights there are in the matrices that could have changed."""
        return sum(rows * columns for rows, columns in self.shapes.values())

    @property
    def mask(self) -> WeightMask:
        """The weights that change, as a mask of the unedited model."""
        return WeightMask(self.indices, self.shapes, self.weights_hash)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return next(iter(self.before.values())).dtype

    def __repr__(self) -> str:
        return (
            f"WeightEdit({self.call['measurement']}: {len(self):,} of {self.total:,} weights, {len(self) / self.total:.3%}, "
            f"in {sum(len(places) > 0 for places in self.indices.values())} of {len(self.shapes)} matrices)"
        )

    @public
    def apply(self, model: HookedModel) -> None:
        """Write the values after into the model that the edit was made of.

        Raises:
            LocalizeError: If the model has other matrices or another dtype, the edit is applied already, or some weight, edited or
                not, is not what it was; then nothing is written.
        """
        self._check_shapes(model)
        if self._difference(model, self.after) is None:
            raise LocalizeError(f"{caller()}: the edit is applied to {model.name} already.")
        if found := self._difference(model, self.before):
            raise LocalizeError(
                f"{caller()}: {found} before the edit; it was made of other weights than those of {model.name}."
            )
        if model.weights_hash() != self.weights_hash:
            raise LocalizeError(
                f"{caller()}: {model.name} has the edited weights as they were before, but other weights, its settings or the hooks on it "
                "differ from the model that the edit was made of; it applies to that one alone."
            )
        self._write(model, self.after, self.before)

    @public
    def undo(self, model: HookedModel) -> None:
        """Write the values before back, to the bit.

        Raises:
            LocalizeError: If the edit is not applied, or another one has changed its weights since; then nothing is written.
        """
        self._check_shapes(model)
        if self._difference(model, self.before) is None:
            raise LocalizeError(f"{caller()}: the edit is not applied to {model.name}.")
        if found := self._difference(model, self.after):
            raise LocalizeError(
                f"{caller()}: {found} after the edit; edits that lie on it must be undone first, the last one first."
            )
        self._write(model, self.before, self.after)

    @contextmanager
    def applied(self, model: HookedModel) -> Iterator[HookedModel]:
        """Inside, the model is edited; errors as in `apply` and, where the body leaves other values there, `undo`."""
        self.apply(model)
        try:
            yield model
        finally:
            self.undo(model)

    @public
    def save(self, path: str | Path) -> None:
        """Write one .safetensors file, which `load_edit` reads; beside `path` and moved into place.

        Raises:
            LocalizeError: If the name does not end in .safetensors.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise LocalizeError(f"{caller()}: {path} must end in .safetensors.")
        from safetensors.torch import save_file

        sides = {"indices": self.indices, "before": self.before, "after": self.after}
        tensors = {
            f"{name}.{layer}.{component}": (values.int() if name == "indices" else values).contiguous()
            for name, side in sides.items()
            for (layer, component), values in side.items()
        }
        about = {
            "format": FORMAT,
            "weights_hash": self.weights_hash,
            "shapes": [[int(layer), component, *map(int, shape)] for (layer, component), shape in self.shapes.items()],
            "call": self.call,
        }
        header = json.dumps(about | {"digest": _digest(about, tensors)})
        with replacing(path) as beside:
            save_file(tensors, beside, metadata={HEADER: header})

    @public
    def export(self, model: HookedModel, folder: str | Path) -> None:
        """Write the edited model to a new folder as a Hugging Face checkpoint, all of it or nothing.

        Args:
            model: The model that the edit was made of, unedited or edited; it stays as it is.
            folder: Does not exist or is empty. It gets the weights in the model's dtype, its tokenizer and its token counts;
                `load_model(folder, dtype=...)` with that dtype computes the same to the bit.

        Raises:
            LocalizeError: If the folder holds something or belongs to the model's own, the weights are folded, which a checkpoint
                cannot hold, or the edit does not apply; then nothing is written.
        """
        folder = Path(folder)
        if model.weights == FOLDED:
            raise LocalizeError(
                f"{caller()}: {model.name} has folded weights, and a checkpoint has no place for their biases; edit the raw model."
            )
        check_new(folder, model)
        self._check_shapes(model)
        edited = self._difference(model, self.after) is None
        if edited:
            self.undo(model)
        try:
            with self.applied(model), new_folder(folder) as beside:
                save_checkpoint(model, beside)
        finally:
            if edited:
                self._write(model, self.after, self.before)

    def _position(self, layer: int, component: str, nth: int) -> tuple[int, int]:
        """Row and column of the nth weight of a matrix that changes."""
        return divmod(int(self.indices[layer, component][nth]), self.shapes[layer, component][1])

    def _rows_and_columns(self, layer: int, component: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """The weights' places in the matrix itself, which lies in memory in one order or the other."""
        places = self.indices[layer, component].to(device).long()
        columns = self.shapes[layer, component][1]
        return places // columns, places % columns

    def _check_shapes(self, model: HookedModel) -> None:
        """Raise a `LocalizeError` if the model has other matrices than the edit, or another dtype."""
        for (layer, component), shape in self.shapes.items():
            if layer >= model.n_layers:
                raise LocalizeError(
                    f"{caller()}: the edit is of a model with a layer {layer}; {model.name} has {model.n_layers}."
                )
            matrix = model.weight(layer, component)
            if tuple(matrix.shape) != tuple(shape):
                raise LocalizeError(
                    f"{caller()}: the edit is of a model whose layer {layer} {component} is {tuple(shape)}; that of {model.name} is "
                    f"{tuple(matrix.shape)}."
                )
            if matrix.dtype != self.dtype:
                raise LocalizeError(
                    f"{caller()}: the edit is of {self.dtype} weights; those of {model.name} are {matrix.dtype}."
                )

    def _difference(self, model: HookedModel, values: Values) -> str | None:
        """The first weight of the edit that does not hold its value to the bit, in words; None if all do."""
        for (layer, component), expected in values.items():
            matrix = model.weight(layer, component)
            found = matrix[self._rows_and_columns(layer, component, matrix.device)].cpu()
            different = different_bits(found, expected)
            if bool(different.any()):
                nth = int(different.nonzero()[0])
                return (
                    f"layer {layer} {component} {self._position(layer, component, nth)} is {float(found[nth])}, not "
                    f"{float(expected[nth])} as"
                )
        return None

    def _write(self, model: HookedModel, values: Values, old: Values) -> None:
        """Write all values, or none if it is broken off."""
        try:
            self._put(model, values)
        except BaseException:
            self._put(model, old)
            raise

    def _put(self, model: HookedModel, values: Values) -> None:
        for (layer, component), new in values.items():
            matrix = model.weight(layer, component)
            matrix[self._rows_and_columns(layer, component, matrix.device)] = new.to(matrix.device)


@public
def load_edit(path: str | Path) -> WeightEdit:
    """Read an edit that `WeightEdit.save` wrote.

    Raises:
        InputError: If there is no such file, it is no edit, is damaged, or was written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"edit {path}: no such file.")
    about, tensors = _read(path)
    if about.pop("digest", None) != _digest(about, tensors):
        raise InputError(f"edit {path}: damaged; its digest is another.")
    sides: dict[str, dict] = {"indices": {}, "before": {}, "after": {}}
    try:
        for layer, component, *_ in about["shapes"]:
            for name, side in sides.items():
                if (tensor := tensors.get(f"{name}.{layer}.{component}")) is not None:
                    side[layer, component] = tensor.long() if name == "indices" else tensor
        shapes = {(layer, component): (rows, columns) for layer, component, rows, columns in about["shapes"]}
        return WeightEdit(**sides, shapes=shapes, weights_hash=about["weights_hash"], call=about["call"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"edit {path}: damaged ({first_line(error)}).") from error


def different_bits(one: Float[Tensor, "value"], other: Float[Tensor, "value"]) -> Bool[Tensor, "value"]:
    """Where two values of one dtype have different bits."""
    bits = BITS[one.dtype.itemsize]
    return one.view(bits) != other.view(bits)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What an edit's file says of itself, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(HEADER, "null"))
            if not isinstance(about, dict) or not isinstance(about.get("format"), int):
                raise InputError(f"edit {path}: a .safetensors file, but none that an edit was saved to.")
            if about["format"] > FORMAT:
                raise InputError(
                    f"edit {path}: written in format {about['format']} by a newer version; this one reads {FORMAT}."
                )
            # Copied, because the file may be replaced while they are in use.
            return about, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"edit {path}: not a readable .safetensors file ({first_line(error)}).") from error


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a file holds."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
