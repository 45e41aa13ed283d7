"""The line that tells where a training stands: which of several, steps, loss, and what is recited of what was planted."""

from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm

from localize.axes import TRAINED
from localize.train.recipe import Recipe


class LiveLine:
    """A progress bar over all steps of all trainings of a recipe, to be closed in the end.

    Args:
        recipe: What is trained.
        of_one: Whether it tells of one of its trainings alone, and goes when that is over.
    """

    def __init__(self, recipe: Recipe, *, of_one: bool = False):
        self._steps, self._several = recipe.steps, 1 if of_one else recipe.trained_models
        self._bar = tqdm(total=recipe.steps * self._several, unit="step", desc="tokenizer", leave=not of_one)
        self._begun, self._watched, self._told = -1, "", ""

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def on_progress(self, stage: str, count: int, loss: float) -> None:
        """As `train_recipe` tells it."""
        if stage == "tokenizer":
            self._begun, self._watched = self._begun + 1, ""
        which = f" {self._begun + 1} of {self._several}" if self._several > 1 else ""
        told = f"{'training' if stage == 'steps' else stage}{which}"
        self._bar.set_description(told, refresh=told != self._told)
        self._told = told
        if stage != "steps":
            return
        self._bar.set_postfix_str(f"loss {loss:.3f} nats{self._watched}", refresh=False)
        self._bar.update(self._begun * self._steps + count - self._bar.n)

    def on_log(self, line: Mapping[str, Any]) -> None:
        """Hold what was last measured of the planted paragraphs."""
        if f"nll_{TRAINED}" in line:
            self._watched = f", planted {line[f'nll_{TRAINED}']:.3f}, EM {line[f'exact_match_{TRAINED}']:.1f}"
