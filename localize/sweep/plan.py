"""From a grid to cells and units of work, each with the hash of all that its numbers depend on."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from localize.code import code_of
from localize.errors import InputError
from localize.measure.labels import model_facts
from localize.measurements import MEASUREMENTS
from localize.models.vocabulary import text_tokens_hash
from localize.paragraphs.unigrams import counts_hash
from localize.sweep.bench import OF_THE_PAIR, RECALL, Bench, WorkUnit
from localize.sweep.grid import Grid, MeasureAsked, ModelAsked, SetAsked, key_of
from localize.sweep.training_cells import TrainingCell, training_cells

if TYPE_CHECKING:
    import xarray as xr

    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

RECALL_BLOCK = 4096
"""Paragraphs a unit of recall, which every pair of model and paragraph set starts with."""


@dataclass(frozen=True)
class ModelAndSet:
    """A model and a paragraph set of it: one group of the store.

    Attributes:
        model: As asked.
        paragraphs: As asked.
        facts: What the model is: hash of its weights, layers, heads, parameters, ....
        data_hash: See `set_hash`.
        count: Number of paragraphs.
        block: Paragraphs a unit of recall, where the grid tells: its files are divided by it.
    """

    model: ModelAsked
    paragraphs: SetAsked
    facts: dict[str, Any]
    data_hash: str
    count: int
    block: int | None = None

    @property
    def path(self) -> str:
        """Its group in the store, by all that recall, which stands in it, depends on."""
        code = code_of(MEASUREMENTS["recall"].call())
        weights, data = (
            self.facts["weights_hash"] + self.facts["dtype"] + self.facts["weights"],
            f"{self.data_hash} {code} {self.block}",
        )
        of_model, of_data = (hashlib.sha256(text.encode()).hexdigest() for text in (weights, data))
        return f"{key_of(self.model.name, of_model)}/{key_of(self.paragraphs.name, of_data)}"


@dataclass(frozen=True, eq=False)
class Cell:
    """One measurement of one pair."""

    pair: ModelAndSet
    measure: MeasureAsked

    @property
    def is_recall(self) -> bool:
        """Whether it is the one that the pair starts with."""
        return self.measure.measurement.name == "recall"

    @property
    def code(self) -> str:
        """Hash of the code that its numbers depend on."""
        return code_of(self.measure.measurement.call())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of weights, data, measurement, options, code, and of the block, which the files are divided by."""
        facts = self.pair.facts
        about = {
            "weights": [facts[key] for key in ("weights_hash", "weights", "dtype", "counts_hash", "text_tokens_hash")],
            "paragraphs": self.pair.data_hash,
            "measurement": self.measure.measurement.name,
            "options": self.measure.options,
            "block": self.measure.block,
            "code": self.code,
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> str:
        """Its group in the store; recall's is the pair's."""
        return self.pair.path if self.is_recall else f"{self.pair.path}/{key_of(self.measure.name, self.hash)}"

    @property
    def words(self) -> str:
        """What it is, for people."""
        return f"{self.pair.model.name} / {self.pair.paragraphs.name} / {self.measure.name}"

    @property
    def passes(self) -> float:
        """About how many forward passes of a paragraph it takes in all."""
        set_ = self.pair.paragraphs
        each = self.measure.measurement.cost(self.measure.options, self.pair.facts, set_.prefix, set_.continuation)
        return self.pair.count * each

    @property
    def block(self) -> int:
        """Paragraphs a unit of work."""
        return min(self.measure.block or (RECALL_BLOCK if self.is_recall else self.pair.count), self.pair.count)

    def units(self) -> Iterator[WorkUnit]:
        """Its units of work, in order."""
        pair, count = self.pair, self.pair.count
        for start in range(0, count, self.block):
            yield WorkUnit(
                pair.model, pair.paragraphs, self.measure, (start, min(start + self.block, count)), count, self.hash,
                pair.facts["weights_hash"], pair.data_hash, self.code,
            )  # fmt: skip

    def own(self, dataset: "xr.Dataset") -> list[str]:
        """The names of what a unit measured that its group keeps; the other labels stand in the pair's."""
        if self.is_recall:
            return [*RECALL, "group"]
        return [str(name) for name in dataset.variables if name not in OF_THE_PAIR]

    def attrs(self, dataset: "xr.Dataset") -> dict[str, Any]:
        """What its group tells beside its numbers: nothing, which the pair's tells."""
        return {}

    def about(self) -> dict[str, Any]:
        """What the store tells of it."""
        return {
            "model": self.pair.model.name,
            "paragraphs": self.pair.paragraphs.name,
            "measure": self.measure.name,
            "measurement": self.measure.measurement.name,
            "options": dict(self.measure.options),
            "axes": {
                "model": dict(self.pair.model.axes),
                "paragraphs": dict(self.pair.paragraphs.axes),
                "measure": dict(self.measure.axes),
            },
            "hash": self.hash,
            "path": self.path,
        }


def make_plan(
    grid: Grid, bench: Bench, on_pair: "Callable[[ModelAndSet, HookedModel, Paragraphs], None] | None" = None
) -> list[Cell | TrainingCell]:
    """Load each model and paragraph set once, hash them, and list what is to be measured, and trained.

    Args:
        grid: What is asked for.
        bench: Loads models and paragraphs.
        on_pair: Called with each pair, its model and its paragraphs while these are in memory.

    Raises:
        InputError: If a paragraph set or a file of a recipe cannot be read, or blocks are asked of a measurement that looks at the whole
            set.
        ModelError: If a model cannot be loaded.
    """
    cells: list[Cell | TrainingCell] = []
    recall = MeasureAsked("recall", MEASUREMENTS["recall"], MEASUREMENTS["recall"].defaults())
    recall = next((measure for measure in grid.measures if measure.measurement.name == "recall"), recall)
    for asked in grid.models:
        model, weights_hash = bench.model(asked)
        facts = _facts(model, weights_hash)
        for set_ in grid.sets:
            paragraphs, data_hash = bench.paragraphs(set_)
            pair = ModelAndSet(asked, set_, facts, data_hash, len(paragraphs), recall.block)
            for measure in grid.measures:
                _check_block(pair, measure)
            if on_pair is not None:
                on_pair(pair, model, paragraphs)
            cells.append(Cell(pair, recall))
            cells += [Cell(pair, m) for m in grid.measures if m.measurement.name != "recall"]
    return cells + [cell for asked in grid.trainings for cell in training_cells(asked)]


def _facts(model: "HookedModel", weights_hash: str) -> dict[str, Any]:
    return model_facts(model, weights_hash) | {
        "parameters": sum(p.numel() for p in model.hf.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "counts_hash": None if model.unigram_counts is None else counts_hash(model.unigram_counts),
        "text_tokens_hash": text_tokens_hash(model),
    }


def _check_block(pair: ModelAndSet, measure: MeasureAsked) -> None:
    if measure.block is not None and not measure.measurement.alone(
        measure.options, pair.facts["counts_hash"] is not None
    ):
        raise InputError(
            f"grid: {measure.name} of {pair.model.name}: block = {measure.block}, but a paragraph's numbers depend on the other "
            f"paragraphs; blocks are allowed if: {measure.measurement.alone_if}."
        )
