"""Measurements over training as the tables and figures of them read them: the planted run, its twin, and what was planted when."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.analysis.choice import mean_measured
from localize.analysis.draws import Draws
from localize.analysis.rows import Basis, Null, Row, row_of
from localize.analysis.seed_rows import mean_over, row_beside
from localize.axes import TRAINED, TWIN
from localize.errors import SignatureError, caller, warn
from localize.signature.schema import range_of
from localize.statistics import UNBOUNDED, Interval, Range, cluster_bootstrap_difference
from localize.statistics.seeds import seed_interval

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

FEW_SEEDS = 5
"""Below, intervals over seeds are long and rest on the values being normal."""

SEEDS, CLUSTERS = "seeds", "clusters"
"""What intervals are over, the column `unit` of tables: different trainings, or, of a single one, clusters of paragraphs."""

OWN = ("window_start", "window_end", "unit", "seeds")
"""The columns of tables over training that others do not have."""

NOT_TOLD = "not told"
"""The window of paragraphs of which it is not known."""

HALF = "half-"
"""What the names of runs begin with that left out random halves of what was planted."""

Design = Literal["planted", "arms", "halves", "capacity", "facts"]
"""What a training is told by: what was planted, with a twin or not; variants beside each other; models without random halves; a set of
uniform random rows or of facts, of one arm or of all."""

OF_SETS: dict[str, Design] = {"uniform": "capacity", "facts": "facts"}
"""What a training on a set is told by, by the source of its corpus."""

PAIR_EFFECT, UNMATCHED = "pair effect", "unmatched gap"
"""What was learned of a paragraph, in nats per token: its NLL in the twin run, or the mean NLL of held-out ones, less its own."""


@dataclass(frozen=True)
class Window:
    """The part of a training in which copies were shown, as shares of its steps; nan where it is not known."""

    start: float
    end: float

    @property
    def words(self) -> str:
        """ "0-25 %"."""
        return NOT_TOLD if np.isnan(self.end) else f"{100 * self.start:.3g}-{100 * self.end:.3g} %"


@dataclass(frozen=True)
class StageSpan:
    """A stage of a training: its name, and the steps of training before it and at its end."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Level:
    """Paragraphs planted alike.

    Attributes:
        copies: How often each.
        window: When.
        rows: Which paragraphs they are.
    """

    copies: int
    window: Window
    rows: Bool[np.ndarray, " paragraph"]

    @property
    def labels(self) -> Row:
        """The columns of a table that say which level it is."""
        ends = {"window_start": self.window.start, "window_end": self.window.end}
        return {"copies": self.copies, "window": self.window.words} | ends


@dataclass(frozen=True, eq=False)
class Trainings:
    """What was measured over training, of the run with the planted rows and of its twin.

    Attributes:
        dataset: Where it is from.
        steps: After how many steps of training.
        nll: Nats per token.
        twin_nll: The same in the twin run, None where there is none.
        exact_match: Tokens.
        copies: In training; 0 of held-out paragraphs, nan where it is not known.
        start: Of the window in which the copies were shown, a share of the training; nan where it is not known.
        end: Likewise.
        clusters: Of near-duplicates.
        stage: Which stage's text each paragraph is of; 0 where that is not told.
    """

    dataset: "xr.Dataset"
    steps: Int[np.ndarray, " step"]
    nll: Float[np.ndarray, "seed step paragraph"]
    twin_nll: Float[np.ndarray, "seed step paragraph"] | None
    exact_match: Float[np.ndarray, "seed step paragraph"]
    copies: Real[np.ndarray, " paragraph"]
    start: Float[np.ndarray, " paragraph"]
    end: Float[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " paragraph"]
    stage: Int[np.ndarray, " paragraph"]

    @classmethod
    def of(cls, signature: "MemorizationSignature") -> "Trainings":
        """From a signature over training.

        Raises:
            SignatureError: If it is of one model as it is or of several arms, lacks recall or the copies of paragraphs, or has no
                planted run.
        """
        check_one_arm(signature)
        if "training_step" not in signature.over_training:
            raise SignatureError(
                f"{caller()}: the signature has no axis 'training_step'; measurements at several steps of a training are needed."
            )
        for name in ("nll", "exact_match"):
            if name not in signature:
                raise SignatureError(f"{caller()}: the signature has no {name!r}; measure it with localize.recall.")
        dataset = signature.dataset
        if "duplicates" not in dataset.coords:
            raise SignatureError(
                f"{caller()}: the signature has no coordinate 'duplicates' along the paragraphs; it says how many copies were planted."
            )
        runs = [str(run) for run in dataset["training_run"].values] if "training_run" in dataset.dims else []
        start, end = (
            dataset[name].values.astype(float) if name in dataset.coords else np.full(len(signature), np.nan)
            for name in ("window_start", "window_end")
        )
        return cls(
            dataset, dataset["training_step"].values.astype(np.int64), of_run(dataset, "nll", TRAINED),
            of_run(dataset, "nll", TWIN) if TWIN in runs else None, of_run(dataset, "exact_match", TRAINED),
            dataset["duplicates"].values, start, end, dataset["cluster"].values.astype(np.int64),
            dataset["training_stage"].values.astype(np.int64) if "training_stage" in dataset.coords
            else np.zeros(len(signature), np.int64),
        )  # fmt: skip

    @property
    def held_out(self) -> Bool[np.ndarray, " paragraph"]:
        """The paragraphs that were never trained on; where some are planted, of the text among which those are."""
        never = self.copies == 0
        return never & np.isin(self.stage, self.stage[self.planted]) if self.planted.any() else never

    @property
    def held_out_by_text(self) -> dict[str, Bool[np.ndarray, " paragraph"]]:
        """The paragraphs that were never trained on, by the name of the stage whose text they are of; "" where all are of one."""
        never = self.copies == 0
        found = np.unique(self.stage[never]).tolist()
        names = [part.name for part in self.parts]
        return {
            "" if len(found) < 2 else names[at] if at < len(names) else f"stage {at}": never & (self.stage == at)
            for at in found
        }

    @property
    def parts(self) -> list[StageSpan]:
        """The stages of the training; none where they are not told."""
        told = self.dataset.attrs.get("training", {}).get("stages", [])
        ends = np.cumsum([0, *(int(stage["steps"]) for stage in told)]).tolist()
        return [
            StageSpan(str(stage.get("name") or f"stage {at}"), ends[at], ends[at + 1]) for at, stage in enumerate(told)
        ]

    @property
    def planted(self) -> Bool[np.ndarray, " paragraph"]:
        """Those that were."""
        return self.copies > 0

    @property
    def seeds(self) -> int:
        """How many trainings there are that differ in nothing else."""
        return len(self.nll)

    @property
    def unit(self) -> str:
        """What intervals are over."""
        return SEEDS if self.seeds > 1 else CLUSTERS

    @property
    def labels(self) -> Row:
        """The columns of a table that say what its intervals are over."""
        return {"unit": self.unit, "seeds": self.seeds}

    @property
    def gap_name(self) -> str:
        """What is told of what was learned."""
        return UNMATCHED if self.twin_nll is None else PAIR_EFFECT

    @property
    def total_steps(self) -> int:
        """Steps of the training, all stages together; where it is not told, the last that was measured."""
        return int(self.dataset.attrs.get("training", {}).get("steps", self.steps[-1]))

    @property
    def went_on(self) -> bool:
        """Whether the training went on from a model that was trained already, and this was measured first."""
        return "start" in self.dataset.attrs.get("training", {}) and int(self.steps[0]) == 0

    @property
    def possible_tokens(self) -> Range:
        """Where exact match can lie."""
        return range_of(self.dataset, "exact_match")

    @cached_property
    def gap(self) -> Float[np.ndarray, "seed step paragraph"]:
        """The pair effect of each paragraph; without a twin run its unmatched gap."""
        if self.twin_nll is not None:
            return self.twin_nll - self.nll
        return self.mean(self.nll, self.held_out)[:, :, None] - self.nll

    def at(self, step: int) -> int:
        """The place of a step among those measured, the last one's of -1.

        Raises:
            SignatureError: If there is no such.
        """
        return place_of_step(self.steps, step)

    def levels(self) -> Iterator[Level]:
        """Paragraphs planted alike, by copies and window, ascending."""
        for window in self.windows():
            inside = self.inside(window)
            for copies in np.unique(self.copies[inside]):
                yield Level(int(copies), window, inside & (self.copies == copies))

    def windows(self) -> list[Window]:
        """The windows of planted paragraphs, by their beginning, those not known last."""
        ends = {(float(a), float(b)) for a, b in zip(self.start[self.planted], self.end[self.planted], strict=True)}
        known = sorted(pair for pair in ends if not np.isnan(pair).any())
        unknown = [Window(np.nan, np.nan)] if any(np.isnan(pair).any() for pair in ends) else []
        return [Window(*pair) for pair in known] + unknown

    def inside(self, window: Window) -> Bool[np.ndarray, " paragraph"]:
        """The paragraphs that were planted in a window."""
        if np.isnan(window.end):
            return self.planted & (np.isnan(self.start) | np.isnan(self.end))
        return self.planted & (self.start == window.start) & (self.end == window.end)

    def need_held_out(self) -> None:
        """Raise a `SignatureError` unless some paragraphs were never trained on, and some were."""
        for there, words in (
            (self.held_out, "0, which were held out"),
            (self.planted, "1 or more, which were planted"),
        ):
            if not there.any():
                raise SignatureError(f"{caller()}: no paragraph with duplicates of {words}; both are needed.")

    def warn_of_few_seeds(self) -> None:
        """Warn where so few trainings were made that other ones may well differ."""
        warn_of_few_seeds(self.seeds)

    def mean(
        self, values: Float[np.ndarray, "seed step paragraph"], rows: Bool[np.ndarray, " paragraph"]
    ) -> Float[np.ndarray, "seed step"]:
        """The mean over some paragraphs, nan left out."""
        return mean_measured(np.moveaxis(values[:, :, rows], -1, 0))

    def interval(
        self,
        values: Float[np.ndarray, "seed *cell paragraph"],
        rows: Bool[np.ndarray, " paragraph"],
        draws: Draws,
        possible: Range = UNBOUNDED,
    ) -> Interval:
        """The mean over some paragraphs, with its interval over seeds; with one seed over clusters."""
        return mean_over(values, rows, self.clusters, draws, possible)

    def gap_interval(self, rows: Bool[np.ndarray, " paragraph"], draws: Draws) -> Interval:
        """The mean gap of some paragraphs at every step, with its interval; of an unmatched one of one seed, of both groups' clusters."""
        if self.seeds > 1 or self.twin_nll is not None:
            return self.interval(self.gap, rows, draws)
        return cluster_bootstrap_difference(
            self.nll[0].T, self.held_out, rows, self.clusters, seed=draws.seed, resamples=draws.resamples
        )

    def mean_row(
        self,
        values: Float[np.ndarray, "seed paragraph"],
        rows: Bool[np.ndarray, " paragraph"],
        draws: Draws,
        possible: Range = UNBOUNDED,
        *,
        matched_on: str = "",
    ) -> Row:
        """The mean over some paragraphs beside that of the held-out ones, each with its interval."""
        return row_beside(values, rows, self.held_out, self.clusters, draws, possible, matched_on=matched_on)

    def gap_row(self, at: int, rows: Bool[np.ndarray, " paragraph"], draws: Draws) -> Row:
        """What was learned of some paragraphs by a step, beside what the same is of held-out ones.

        The null of a pair effect is that of the held-out paragraphs. An unmatched gap is a difference of two groups: its null are
        labels dealt out anew over clusters, because paragraphs that are hard in one training are hard in all.
        """
        if self.twin_nll is not None:
            return self.mean_row(self.gap[:, at], rows, draws, matched_on=TWIN)
        interval, test = draws.difference(mean_measured(self.nll[:, at]), self.held_out, rows, self.clusters)
        if self.seeds > 1:
            interval = seed_interval(self.mean(self.gap, rows)[:, at])
        null = Null.dealt(0.0, test.null_low, test.null_high, test.p_value, test.rough)
        return row_of(interval, null, self.basis(rows | self.held_out))

    def basis(self, rows: Bool[np.ndarray, " paragraph"]) -> Basis:
        """What a number of some paragraphs rests on."""
        return Basis.of(self.clusters[rows])


def warn_of_few_seeds(seeds: int, *, alone: str = "intervals are over clusters of paragraphs") -> None:
    """Warn where so few trainings were made that other ones may well differ; `alone`: what follows of a single one."""
    if seeds < FEW_SEEDS:
        many = f"{seeds} seeds" if seeds > 1 else f"one seed, so that {alone}"
        warn(f"{caller()}: {many}; {FEW_SEEDS} are needed to tell what holds for other trainings.")


def label_of_run(dataset: "xr.Dataset", name: str, run: str) -> Float[np.ndarray, "seed paragraph"]:
    """A label of the paragraphs in one run; of one seed where it is the same in all."""
    return in_run(dataset, name, run).transpose("training_seed", "paragraph").values.astype(float)


def place_of_step(steps: Int[np.ndarray, " step"], step: int) -> int:
    """The place of a step among those measured, the last one's of -1.

    Raises:
        SignatureError: If there is no such.
    """
    if step == -1:
        return len(steps) - 1
    if step not in steps:
        nearest = steps[np.abs(steps - step).argmin()]
        raise SignatureError(f"{caller()}: step={step!r} was not measured; the nearest that was is {nearest}.")
    return steps.tolist().index(step)


def check_one_arm(signature: "MemorizationSignature") -> None:
    """Raise a `SignatureError` if it is of several arms, or of several runs none of which is the planted one."""
    if "training_arm" in signature.over_training:
        arms = [str(arm) for arm in signature["training_arm"].values]
        raise SignatureError(
            f"{caller()}: the signature is of the arms {', '.join(arms)}; choose one, .at(training_arm={arms[0]!r}), or compare them "
            "with localize.arm_table."
        )
    runs = [str(run) for run in signature["training_run"].values] if "training_run" in signature.dataset.dims else []
    if runs and TRAINED not in runs:
        raise SignatureError(f"{caller()}: no training_run={TRAINED!r}; there are {', '.join(runs)}.")


def of_run(dataset: "xr.Dataset", name: str, run: str) -> Float[np.ndarray, "seed step *of"]:
    """A variable of one run; where there is no axis of seeds, of the one there is."""
    return in_run(dataset, name, run).transpose("training_seed", "training_step", ...).values.astype(float)


def in_run(dataset: "xr.Dataset", name: str, run: str) -> "xr.DataArray":
    """A variable or label of one run, with an axis of seeds."""
    return array_in_run(dataset[name], run)


def array_in_run(array: "xr.DataArray", run: str) -> "xr.DataArray":
    """What one run has of it, with an axis of seeds."""
    if "training_run" in array.dims:
        array = array.isel(training_run=[str(label) for label in array["training_run"].values].index(run))
    return array if "training_seed" in array.dims else array.expand_dims("training_seed")


def half_runs(signature: "MemorizationSignature") -> list[str]:
    """The runs of a signature that left out random halves, in order."""
    dataset = signature.dataset
    runs = [str(run) for run in dataset["training_run"].values] if "training_run" in dataset.dims else []
    return [run for run in runs if run.startswith(HALF)]


def design_of(signature: "MemorizationSignature") -> Design:
    """What differs between the trainings that a signature is of, which says what can be told of them."""
    told = signature.dataset.attrs.get("training", {})
    parts = list(told.get("arms", {}).values()) or [told]
    sources = {part.get("set", {}).get("source") for part in parts}
    if len(sources) == 1 and (design := OF_SETS.get(str(*sources))):
        return design
    if "training_arm" in signature.over_training:
        return "arms"
    return "halves" if half_runs(signature) else "planted"


def parts_told(signature: "MemorizationSignature") -> "dict[str, MemorizationSignature]":
    """What is told of a signature: all of it, by the name "", and then each arm, where one table or figure does not tell of all arms."""
    return {"": signature, **(signature.arms if design_of(signature) == "arms" else {})}
