"""Where a unit of work is measured: one model kept loaded, with the paragraph sets that were read for it."""

import hashlib
import json
import os
import socket
import traceback
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from localize.code import code_of
from localize.errors import LocalizeError, first_line
from localize.measurements import register
from localize.sweep.training_cells import TrainingUnit, training_code

if TYPE_CHECKING:
    import xarray as xr

    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.sweep.grid import MeasureAsked, ModelAsked, SetAsked

RECALL = ("exact_match", "nll", "token_nll")
"""Variables that every measurement attaches; a sweep keeps them once for a model and paragraph set."""

OF_THE_PAIR = (
    "paragraph", "group", "cluster", "tokens", "text", "duplicates", "position", "continuation_position", "layer", "head", "window",
    "component", "attention_component", "prefix_position",
)  # fmt: skip
"""Coordinates that the cells of a model and paragraph set have in common; they stand in its group."""


@dataclass(frozen=True)
class WorkUnit:
    """One piece of work, small enough to be sent; whoever does it loads model and paragraphs from where they lie.

    Attributes:
        model: What to load.
        paragraphs: On what.
        measure: What to measure, and how.
        rows: First paragraph, and the one after the last.
        count: Paragraphs of the whole set.
        hash: Of everything that the result depends on.
        weights_hash: That the model must have.
        data_hash: That the whole set must have.
        code: That the measurement's code must have; see `code_of`.
    """

    model: "ModelAsked"
    paragraphs: "SetAsked"
    measure: "MeasureAsked"
    rows: tuple[int, int]
    count: int
    hash: str
    weights_hash: str
    data_hash: str
    code: str

    @property
    def words(self) -> str:
        """What it is, for people."""
        part = "" if self.rows == (0, self.count) else f", paragraphs {self.rows[0]}..{self.rows[1] - 1}"
        return f"{self.model.name} / {self.paragraphs.name} / {self.measure.name}{part}"


@dataclass(frozen=True)
class Outcome:
    """What came of a unit: a dataset, or an error in one line with where it was raised."""

    unit: "WorkUnit | TrainingUnit"
    dataset: "xr.Dataset | None"
    seconds: float
    where: str
    error: str = ""
    trace: str = ""


class Bench:
    """Keeps the last model and its paragraph sets, so that units in the grid's order load each once."""

    def __init__(self, *, shows: bool = True) -> None:
        self._shows = shows  # whether somebody looks at what it does
        self._asked: ModelAsked | None = None
        self._model: HookedModel | None = None
        self._weights_hash = ""
        self._sets: dict[str, tuple[Paragraphs, str]] = {}
        self._own: tuple[str, Paragraphs] | None = None

    def model(self, asked: "ModelAsked") -> "tuple[HookedModel, str]":
        """The model and the hash of its weights."""
        from localize.models.load import load_model

        if self._model is None or self._asked != asked:
            self._model, self._sets, self._own = None, {}, None  # room for the next one
            self._model = load_model(
                asked.source, tokenizer=asked.tokenizer, device=asked.device, dtype=asked.dtype, revision=asked.revision,
                weights=asked.weights,
            )  # fmt: skip
            self._asked, self._weights_hash = asked, self._model.weights_hash()
        return self._model, self._weights_hash

    def paragraphs(self, asked: "SetAsked") -> "tuple[Paragraphs, str]":
        """The paragraphs, read with the tokenizer of the model that is loaded, and their hash; see `set_hash`."""
        from localize.paragraphs.readers import load_paragraphs
        from localize.train.watch import in_fixed_groups

        if (key := repr(asked)) not in self._sets:
            assert self._model is not None
            read = load_paragraphs(
                asked.source, self._model, prefix_length=asked.prefix, continuation_length=asked.continuation, limit=asked.limit
            )  # fmt: skip
            if asked.sample is not None and asked.sample < len(read):
                read = read.spaced(asked.sample)
            read.check_fits(self._model)
            read = read.with_em_bins(asked.em_bins) if asked.em_bins else read
            read = in_fixed_groups(read) if asked.groups else read
            self._sets[key] = read, set_hash(read)
        return self._sets[key]

    def measure(self, unit: "WorkUnit | TrainingUnit") -> "xr.Dataset":
        """Do a unit: the variables that it adds, labelled; of a training all that was watched.

        Raises:
            LocalizeError: If weights, paragraphs or code here are not those that the unit was planned for.
        """
        if isinstance(unit, TrainingUnit):
            self._check("code", training_code(unit.asked.of(unit.arm)), unit.code)
            return unit.measured(show=self._shows)
        self._check("code", code_of(unit.measure.measurement.call()), unit.code)
        if self._stale(unit):
            self._asked = None  # a worker that outlives a sweep meets files that have changed since
        register(unit.measure.measurement)  # a user's own is not known yet in a worker's process
        model, weights_hash = self.model(unit.model)
        self._check("weights", weights_hash, unit.weights_hash)
        paragraphs, data_hash = self.paragraphs(unit.paragraphs)
        self._check("paragraphs", data_hash, unit.data_hash)
        if unit.rows != (0, unit.count):
            paragraphs = paragraphs[slice(*unit.rows)]
        elif unit.measure.measurement.of_own(unit.measure.options):
            paragraphs = self._continued(unit.paragraphs, paragraphs)
        signature = unit.measure.measurement.call()(model, paragraphs, **unit.measure.options)
        dataset = signature.dataset
        return dataset if unit.measure.measurement.name == "recall" else dataset.drop_vars(list(RECALL))

    def _stale(self, unit: WorkUnit) -> bool:
        """Whether what is loaded for a unit is not what it was planned for."""
        if self._asked != unit.model:
            return False
        known = self._sets.get(repr(unit.paragraphs))
        return self._weights_hash != unit.weights_hash or (known is not None and known[1] != unit.data_hash)

    def _continued(self, asked: "SetAsked", paragraphs: "Paragraphs") -> "Paragraphs":
        """With the model's own continuations, decoded once for all measurements that ask for them."""
        if self._own is None or self._own[0] != repr(asked):
            assert self._model is not None
            self._own = repr(asked), paragraphs.with_own_continuation(self._model)
        return self._own[1]

    @staticmethod
    def _check(what: str, here: str, planned: str) -> None:
        if here != planned:
            raise LocalizeError(
                f"the {what} here have hash {here[:12]}, and {planned[:12]} was planned; every worker needs the same files and package."
            )

    def outcome(self, unit: "WorkUnit | TrainingUnit") -> Outcome:
        """Do a unit; what it raises is told, not raised."""
        started = perf_counter()
        try:
            dataset, error, trace = self.measure(unit), "", ""
        except Exception as raised:  # whatever one cell raises must not stop the others; it is recorded and shown
            dataset, error, trace = None, f"{type(raised).__name__}: {first_line(raised)}", traceback.format_exc()
        where = f"{socket.gethostname()}, process {os.getpid()}"
        return Outcome(unit, dataset, perf_counter() - started, where, error, trace)


def set_hash(paragraphs: "Paragraphs") -> str:
    """A digest of all that is stored of a paragraph set: tokens, split, ids, texts, labels, duplicates, clusters."""
    about: Any = [
        paragraphs.data_hash,
        paragraphs.continuation,
        paragraphs.ids,
        paragraphs.texts,
        paragraphs.groups,
        paragraphs.em_bins,
        paragraphs.duplicates,
        paragraphs.clusters.tolist(),  # of a part of a set they follow from the whole of it
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
