"""Facts that a stage of a training keeps because the model finds them least surprising when it begins."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.train.recipe import FACTS, Recipe
from localize.train.repeated import ambiguous_bits, shown_in
from localize.train.undisturbed import left_as_it_is

STATE = "selected."
"""Before the names of what was selected, in a training's state."""


class FactSelection:
    """What the stages show that keep facts by the model's loss; of a training without such stages nothing is ever due.

    Attributes:
        begins: The step before which each such stage selects.
    """

    def __init__(self, recipe: Recipe, paragraphs: Paragraphs, seed: int):
        self._recipe, self._paragraphs, self._seed = recipe, paragraphs, seed
        before = np.cumsum([0, *(stage.steps for stage in recipe.stage)]).tolist()
        self.begins: dict[int, int] = {
            at: before[at] for at, stage in enumerate(recipe.stage) if stage.select == "loss"
        }
        self._chosen: dict[int, np.ndarray] = {}

    def due(self, step: int) -> int | None:
        """The stage that begins at this step and has not selected yet; None if there is none."""
        return next((at for at, begun in self.begins.items() if begun == step and at not in self._chosen), None)

    def made(self, stage: int, model: HookedModel) -> Int[np.ndarray, " shown"]:
        """Select by the loss of the model as it is: which facts the rows of the stage are."""
        facts = self._paragraphs[np.arange(self._recipe.corpus.rows)]
        with left_as_it_is(model) as hooked, torch.no_grad():
            loss = recall_of(hooked, facts, show=False).token_nll.astype(np.float64).mean(1)
        self._chosen[stage] = least(loss, self._recipe.stage[stage].keep)
        return shown_in(self._recipe, stage, self._seed, self._chosen[stage])

    def state(self) -> dict[str, torch.Tensor]:
        """What was selected, by name."""
        return {f"{STATE}{stage}": torch.from_numpy(chosen) for stage, chosen in self._chosen.items()}

    def resume(self, state: Mapping[str, torch.Tensor]) -> Iterator[tuple[int, Int[np.ndarray, " shown"]]]:
        """Go on from a state that `state` gave: each stage that has selected, and which facts its rows are."""
        for stage in self.begins:
            if (chosen := state.get(f"{STATE}{stage}")) is not None:
                self._chosen[stage] = chosen.numpy()
                yield stage, shown_in(self._recipe, stage, self._seed, self._chosen[stage])


def least(loss: Float[np.ndarray, " row"], keep: int) -> Int[np.ndarray, " kept"]:
    """The rows of the lowest loss, in their order; of equal ones the first.

    >>> least(np.array([3.0, 1.0, 2.0, 1.0]), 2)
    array([1, 3])
    """
    return np.sort(np.argsort(loss, kind="stable")[:keep])


def set_facts(recipe: Recipe, model: HookedModel) -> dict[str, Any]:
    """What a signature tells of the set that its training showed, and of the model that was to hold it."""
    corpus = recipe.corpus
    told = {
        "source": corpus.source, "rows": corpus.rows, "vocab": corpus.vocab, "row_tokens": recipe.training.row_tokens,
        "predicted_tokens": recipe.training.row_tokens - recipe.prefix, "ambiguous_bits": ambiguous_bits(recipe),
    }  # fmt: skip
    if corpus.source == FACTS:
        kept = [{"select": stage.select, "keep": stage.keep} for stage in recipe.stage]
        told |= {"exponent": corpus.exponent, "evenly": [of.evenly for of in recipe.corpora], "kept": kept}
    parameters = sum(p.numel() for p in model.hf.parameters())
    return {"set": told, "parameters": parameters, "dtype": recipe.training.dtype}
