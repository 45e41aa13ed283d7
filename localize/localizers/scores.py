"""What a localizer gives: a score for each paragraph and unit of a model, or one for each weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from localize.axes import HEADS_PART, MLP_PART
from localize.errors import LocalizeError, caller

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

AXES = {MLP_PART: "d_mlp", HEADS_PART: "head"}
"""The kinds of units, each with the axis that its scores have after paragraph and layer."""


@dataclass(frozen=True, eq=False)
class Scores:
    """How strongly each unit of a model stores each paragraph. Scores are signed: the higher, the more it stores. `of` makes them.

    Attributes:
        mlp: Of hidden MLP units; None if these were not scored.
        heads: Of attention heads; None if these were not scored.
        ids: The paragraphs' names, in order.
        data_hash: Of the paragraphs.
        weights_hash: Of the model.
        cost: Forward passes that they took for each paragraph, a backward pass counted as two; None if nobody counted.
        name: Of the localizer, which fills it in.
    """

    mlp: Float[np.ndarray, "paragraph layer d_mlp"] | None
    heads: Float[np.ndarray, "paragraph layer head"] | None
    ids: tuple[str, ...]
    data_hash: str
    weights_hash: str
    cost: float | None = None
    name: str = ""

    @classmethod
    def of(
        cls,
        model: "HookedModel",
        paragraphs: "Paragraphs",
        *,
        mlp: Any = None,
        heads: Any = None,
        cost: float | None = None,
    ) -> "Scores":
        """The scores of these paragraphs in this model.

        Args:
            model: The model.
            paragraphs: The paragraphs.
            mlp: `(paragraph, layer, d_mlp)`, an array or a tensor on any device.
            heads: `(paragraph, layer, head)`, likewise.
            cost: See `Scores`.

        Raises:
            LocalizeError: If there is neither, a shape is not the model's, or a score is no finite floating-point number.
        """
        given = {MLP_PART: mlp, HEADS_PART: heads}
        if mlp is None and heads is None:
            raise LocalizeError(
                f"{caller()}: there are scores of neither MLP units nor heads; mlp or heads are needed."
            )
        for kind, values in given.items():
            if values is not None:
                given[kind] = as_array(values)
                check_values(kind, given[kind], paragraphs.ids)
        found = cls(
            given[MLP_PART], given[HEADS_PART], paragraphs.ids, paragraphs.data_hash, model.weights_hash(), cost
        )
        found._check_shapes(model)
        return found

    @property
    def kinds(self) -> dict[str, Float[np.ndarray, "paragraph layer _"]]:
        """The scores that there are, by the kind of unit: "mlp" before "heads"."""
        return {kind: values for kind in AXES if (values := getattr(self, kind)) is not None}

    def __repr__(self) -> str:
        units = ", ".join(f"{kind} {values.shape[1]} x {values.shape[2]}" for kind, values in self.kinds.items())
        return f"Scores({self.name or 'made by hand'}: {len(self.ids)} paragraphs, {units})"

    def mean(
        self, rows: Sequence[int] | Int[np.ndarray, " row"] | None = None
    ) -> dict[str, Float[np.ndarray, "layer _"]]:
        """Mean scores over all paragraphs or some, by the kind of unit.

        Raises:
            LocalizeError: If there is no such row, or none is given.
        """
        chosen = self.rows(rows)
        return {kind: values[chosen].mean(0) for kind, values in self.kinds.items()}

    def rows(self, given: Sequence[int] | Int[np.ndarray, " row"] | None) -> list[int]:
        """The rows of some paragraphs; of all if none are given.

        Raises:
            LocalizeError: If there is no such row, or none is given.
        """
        chosen = range(len(self.ids)) if given is None else given
        if not len(chosen) or set(chosen) - set(range(len(self.ids))):
            raise LocalizeError(
                f"{caller()}: rows={list(chosen)} must be some of 0..{len(self.ids) - 1}, the paragraphs that were scored."
            )
        return [int(row) for row in chosen]

    def layers(self) -> Float[np.ndarray, "paragraph layer"]:
        """Each layer's score: the sum over its units, of all kinds that were scored."""
        return np.sum([values.sum(2) for values in self.kinds.values()], axis=0)

    def check(self, model: "HookedModel") -> None:
        """Raise a `LocalizeError` unless the scores are of this model's units, and it is unedited since."""
        self._check_shapes(model)
        check_weights(self.weights_hash, model)

    def _check_shapes(self, model: "HookedModel") -> None:
        units = {MLP_PART: model.d_mlp, HEADS_PART: model.n_heads}
        for kind, values in self.kinds.items():
            if values.shape[1:] != (model.n_layers, units[kind]):
                raise LocalizeError(
                    f"{caller()}: {kind} scores are {values.shape}; in {model.name} those of {len(self.ids)} paragraphs are "
                    f"{(len(self.ids), model.n_layers, units[kind])}, (paragraph, layer, {AXES[kind]})."
                )


@dataclass(frozen=True, eq=False)
class WeightScores:
    """How strongly each single weight stores some paragraphs together: the higher, the more it stores. `of` makes them.

    Attributes:
        matrices: For some (layer, component) each weight's score, `(input, output)` as `model.weight` shows it.
        data_hash: Of the paragraphs.
        weights_hash: Of the model.
        cost: Forward passes that they took for each paragraph, a backward pass counted as two; None if nobody counted.
        name: Of the localizer, which fills it in.
    """

    matrices: Mapping[tuple[int, str], Float[np.ndarray, "_ _"]]
    data_hash: str
    weights_hash: str
    cost: float | None = None
    name: str = ""

    @classmethod
    def of(
        cls,
        model: "HookedModel",
        paragraphs: "Paragraphs",
        matrices: Mapping[tuple[int, str], Any],
        *,
        cost: float | None = None,
    ) -> "WeightScores":
        """The scores of these paragraphs in this model.

        Args:
            model: The model.
            paragraphs: The paragraphs.
            matrices: Arrays, or tensors on any device.
            cost: See `WeightScores`.
        """
        arrays = {cell: as_array(values) for cell, values in matrices.items()}
        return cls(arrays, paragraphs.data_hash, model.weights_hash(), cost)

    def check(self, model: "HookedModel") -> None:
        """Raise a `LocalizeError` unless the scores are of this model's weights, and it is unedited since."""
        check_weights(self.weights_hash, model)
        for (layer, component), values in self.matrices.items():
            if values.shape != (shape := tuple(model.weight(layer, component).shape)):
                raise LocalizeError(
                    f"{caller()}: scores of layer {layer} {component} are {values.shape}; the weights of {model.name} there are {shape}."
                )


def check_values(kind: str, values: np.ndarray, ids: Sequence[str]) -> None:
    """Raise a `LocalizeError` unless these are finite numbers, by paragraph, layer and unit."""
    if values.dtype.kind != "f":
        raise LocalizeError(f"{caller()}: {kind} scores are {values.dtype}; floating-point numbers are needed.")
    if values.ndim != 3 or len(values) != len(ids):
        raise LocalizeError(
            f"{caller()}: {kind} scores are {values.shape}; (paragraph, layer, {AXES[kind]}) of {len(ids)} paragraphs is needed."
        )
    if (faulty := np.argwhere(~np.isfinite(values))).size:
        row, layer, unit = faulty[0].tolist()
        raise LocalizeError(
            f"{caller()}: the {kind} score of paragraph {ids[row]!r}, layer {layer}, unit {unit} is {values[row, layer, unit]}; "
            "a finite number is needed."
        )


def check_weights(weights_hash: str, model: "HookedModel") -> None:
    """Raise a `LocalizeError` unless scores of these weights are scores of the model."""
    if weights_hash != model.weights_hash():
        raise LocalizeError(
            f"{caller()}: the scores are of other weights than those of {model.name}; score this model, unedited."
        )


def as_array(values: Any) -> np.ndarray:
    """Scores as an array; those of a tensor that are shorter than float32 as that."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values
        return values.numpy()
    return np.asarray(values)
