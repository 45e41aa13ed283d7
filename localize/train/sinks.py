"""Which sinks are on while a model is trained, for each row that it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from localize.errors import InputError
from localize.models.activations import Hook
from localize.models.gates import SLICES, SinkGates, digest_of, gating_hooks
from localize.models.hooks import HookedModel
from localize.train.planting import TrainingData
from localize.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class RowGating:
    """The gates of a training, called with the rows of a step.

    Attributes:
        gates: Of the model.
        model: What is trained, with its sinks in it.
        row_text: Which planted text each row is, by its place among these; -1 for others.
    """

    gates: SinkGates
    model: HookedModel
    row_text: Int[np.ndarray, " row"]

    @classmethod
    def of(cls, recipe: Recipe, data: TrainingData, model: HookedModel, seed: int) -> "RowGating | None":
        """Those of one training of a recipe; None where it has no sinks.

        Raises:
            InputError: If they do not fit the model.
        """
        if not recipe.sinks.kind:
            return None
        planted = np.flatnonzero(np.array(data.paragraphs.duplicates or ()) > 0)
        texts = [digest_of(row) for row in data.paragraphs.tokens.numpy()[planted]]
        gates = recipe.gates(model.d_mlp, seed, texts)
        if (problem := gates.problem()) is not None:
            raise InputError(f"recipe: sinks: {problem}.")
        place = np.full(len(data.paragraphs) + 1, -1)  # the last one is that of other text, -1
        place[planted] = np.arange(len(planted))
        return cls(gates, model, place[data.row_paragraph])

    def on(self, tokens: Int[Tensor, "row position"], first: int) -> Bool[Tensor, "row sink"]:
        """The sinks that are on for some rows, the first of which has that number."""
        gates, text = self.gates, self.row_text[first : first + len(tokens)]
        if gates.kind == SLICES:
            on = gates.slices(text)
            shown = np.flatnonzero(text >= 0)
            if not gates.tied and len(shown):
                on[shown] = gates.drawn((first + shown).tolist())
            return on
        return gates.own(tokens) if gates.tied else gates.drawn(range(first, first + len(tokens)))

    def __call__(self, tokens: Int[Tensor, "row position"], first: int) -> Mapping[str, Hook]:
        """The hooks of the forward pass of these rows."""
        like = self.model.hf.transformer.wte.weight
        return gating_hooks(self.gates, self.on(tokens, first), like, self.model.n_layers)
