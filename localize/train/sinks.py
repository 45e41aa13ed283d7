"""Which sinks are on while a model is trained, for each row that it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from localize.errors import InputError
from localize.keyed import keyed_integer
from localize.models.activations import Hook
from localize.models.gates import SLICES, SinkGates, digest_of, gating_hooks
from localize.models.hooks import HookedModel
from localize.models.parameters import bounded
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

    @cached_property
    def alike(self) -> list[dict[str, Int[Tensor, " sink"]]]:
        """For each layer and component a general unit for each sink, drawn by key, whose norms bound the sink's."""
        gates = self.gates
        return [
            {
                name: torch.tensor(
                    [keyed_integer(gates.general, gates.key, name, layer, at) for at in range(gates.sinks)]
                )
                for name in ("W_in", "W_out")
            }
            for layer in range(self.model.n_layers)
        ]

    @torch.no_grad()
    def bound(self) -> None:
        """Scale what each sink reads and writes with down to at most the norms of those of a general unit."""
        for layer, of in enumerate(self.alike):
            for name, like in of.items():
                rows = self.model.weight(layer, name)  # (d_model, unit), or of W_out (unit, d_model)
                rows = rows.T if name == "W_in" else rows
                bounded(rows[self.gates.general :], rows[like.to(rows.device)].norm(dim=1))
