"""Where a text's best units appear, move and vanish while a model is trained.

Of each paragraph the units with the highest scores in `stored_units`, at every step that was measured:

- *Kept*: the share that are among its best when it was last shown. Before that, those that have appeared; after it, those that have not
  vanished.
- *Stayed*: the share that were among its best at the measurement before.
- *Alike*: the share that are among its best in the twin run at the same step: what it has in common with a model that never saw it. Null:
  held-out paragraphs, which neither run was shown.
- *Share of the scores above 0 in the best units*, and *share of the best units in the lower half of the layers* and in each layer, as
  `stored_units_table` has them.

Beside each stands the same paragraph in the twin run, which begins with the same weights and is never shown it: how any text's units settle
as the model learns the language. That is not enough: being shown some texts again and again moves the units of all texts, held-out ones
too. So each is also told *less the twin run's*, beside the same difference of held-out paragraphs: what is left is the text's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.draws import Draws
from localize.analysis.rows import DIFFERENCE, Row
from localize.analysis.seed_rows import correct_by_quantity, row_beside, row_in_twin
from localize.analysis.stored_units import HELD, IN_LAYER, LOW_HALF, best, told_units
from localize.analysis.trainings import OWN, Level, Trainings, Window, in_run
from localize.axes import TRAINED, TWIN
from localize.errors import SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, Range, pair_differences

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

Values = Float[np.ndarray, "seed step paragraph"]
Best = Int[np.ndarray, "seed step paragraph rank"]

KEPT = "share of the best {} units that are so when last shown"
STAYED = "share of the best {} units that were so at the measurement before"
ALIKE = "share of the best {} units that are so in the twin run"
LESS_TWIN = ", less the twin run's"

ROUNDING = 1e-9
"""Of a step that a share of the training comes to."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """One share of each paragraph at each step.

    Attributes:
        name: As tables call it.
        layer: The layer that it is of, -1 of none.
        values: In the planted run, or of both.
        twin: The same in the twin run; None where there is none, or it is of both.
    """

    name: str
    layer: int
    values: Values
    twin: Values | None


@dataclass(frozen=True, eq=False)
class UnitDynamics:
    """The best units of each paragraph over training.

    Attributes:
        trainings: The trainings.
        units: How many of each paragraph's best units are looked at.
        step: The step against which what is kept is told, for all paragraphs; None for when each was last shown.
        best: In the planted run, which they are among all units, -1 where there is no score.
        twin: In the twin run, None where there is none.
        held: The share of the scores above 0 that they hold, in the planted run.
        twin_held: In the twin run.
        layers: How many there are.
        width: MLP units of a layer.
    """

    trainings: Trainings
    units: int
    step: int | None
    best: Best
    twin: Best | None
    held: Values
    twin_held: Values | None
    layers: int
    width: int

    @classmethod
    def of(
        cls, signature: "MemorizationSignature", units: int | None = None, step: int | None = None
    ) -> "UnitDynamics":
        """From a signature over training; `step` stands in the place of when each paragraph was last shown.

        Raises:
            SignatureError: If stored units were not measured over training, `units` is out of range, or the step was not measured.
        """
        trainings = Trainings.of(signature)
        if "unit_score" not in signature:
            raise SignatureError(
                f"{caller()}: the signature has no 'unit_score'; measure localize.stored_units at each step, by a watch or by a sweep over "
                "checkpoints."
            )
        sizes = trainings.dataset.sizes
        most = sizes["layer"] * sizes["unit"]
        units = told_units(trainings.dataset) if units is None else units
        if not 1 <= units <= most:
            raise SignatureError(f"{caller()}: units={units!r} must lie in 1..{most}.")
        if step is not None:
            trainings.at(step)  # an unknown one is told
        own, held = _best_of(trainings, TRAINED, units)
        twin, twin_held = (None, None) if trainings.twin_nll is None else _best_of(trainings, TWIN, units)
        return cls(trainings, units, step, own, twin, held, twin_held, sizes["layer"], sizes["unit"])

    def last_shown(self, window: Window) -> int:
        """The place of the last measurement by the end of a window, or of the step that was asked for."""
        trainings = self.trainings
        if self.step is not None:
            return trainings.at(self.step)
        end = 1.0 if np.isnan(window.end) else window.end
        return max(0, int(np.searchsorted(trainings.steps, end * trainings.total_steps + ROUNDING, side="right")) - 1)

    def kept(self, window: Window) -> Quantity:
        """See the module; of all paragraphs, by when those of the window were last shown."""
        place = self.last_shown(window)

        def of_last(of: Best) -> Values:
            return overlap(of, np.broadcast_to(of[:, place : place + 1], of.shape))

        return Quantity(KEPT.format(self.units), -1, *self._of_both(of_last))

    def stayed(self) -> Quantity:
        """See the module."""
        return Quantity(STAYED.format(self.units), -1, *self._of_both(_stayed))

    def alike(self) -> Quantity | None:
        """See the module; None without a twin run."""
        return (
            None if self.twin is None else Quantity(ALIKE.format(self.units), -1, overlap(self.best, self.twin), None)
        )

    def concentration(self) -> Quantity:
        """How much of the scores the best units hold."""
        return Quantity(HELD.format(self.units), -1, self.held, self.twin_held)

    def low_half(self) -> Quantity:
        """How many of them lie in the lower half of the layers."""
        return Quantity(
            LOW_HALF.format(self.units), -1, *self._of_both(lambda of: self._in_layers(of, 0, self.layers // 2))
        )

    def by_layer(self) -> Iterator[Quantity]:
        """How many of them lie in each layer."""
        for layer in range(self.layers):
            both = self._of_both(lambda of, layer=layer: self._in_layers(of, layer, layer + 1))
            yield Quantity(IN_LAYER.format(self.units, layer), layer, *both)

    def quantities(self) -> list[Quantity]:
        """All that hang on no window."""
        alike = self.alike()
        told = [self.stayed(), *([] if alike is None else [alike]), self.concentration(), self.low_half()]
        return told + list(self.by_layer())

    def rows(self, quantity: Quantity, at: int, rows: Bool[np.ndarray, " paragraph"], draws: Draws) -> list[Row]:
        """A quantity of some paragraphs at a measured step, beside its null; and less the twin's, beside that of held-out ones."""
        trainings, values, named = self.trainings, quantity.values[:, at], {"quantity": quantity.name}
        if np.isnan(values[:, rows]).all():
            return []
        if quantity.twin is None:
            return [named | self._beside_held_out(values, rows, draws, ZERO_TO_ONE)]
        twin = quantity.twin[:, at]
        own = row_in_twin(values, twin, rows, trainings.clusters, draws, ZERO_TO_ONE)
        apart = self._beside_held_out(pair_differences(values, twin), rows, draws, MINUS_ONE_TO_ONE)
        return [named | own, {"quantity": quantity.name + LESS_TWIN} | apart]

    def _beside_held_out(
        self,
        values: Float[np.ndarray, "seed paragraph"],
        rows: Bool[np.ndarray, " paragraph"],
        draws: Draws,
        possible: Range,
    ) -> Row:
        null_rows = self.trainings.held_out & ~rows  # held-out paragraphs themselves have none
        beside = row_beside(values, rows, null_rows, self.trainings.clusters, draws, possible)
        return dict.fromkeys(DIFFERENCE, np.nan) | beside

    def levels(self) -> list[Level]:
        """Paragraphs planted alike, and those held out."""
        held_out = self.trainings.held_out
        none = [Level(0, Window(np.nan, np.nan), held_out)] if held_out.any() else []
        return none + list(self.trainings.levels())

    def _of_both(self, of: "_OfBest") -> tuple[Values, Values | None]:
        return of(self.best), None if self.twin is None else of(self.twin)

    def _in_layers(self, of: Best, first: int, after: int) -> Values:
        layer = of // self.width
        return np.where((of < 0).any(-1), np.nan, ((layer >= first) & (layer < after)).mean(-1))


if TYPE_CHECKING:
    from collections.abc import Callable

    _OfBest = Callable[[Best], Values]


@public
def unit_dynamics_table(
    signature: "MemorizationSignature",
    units: int | None = None,
    step: int | None = None,
    *,
    at: int | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Where the best units of texts appear, move and vanish while a model is trained, beside the twin that was never shown them.

    Args:
        signature: Over training, with `stored_units`: of a watch that measured it, or of a sweep over checkpoints
            (`localize.over_training`); `duplicates` say what was planted.
        units: How many of each paragraph's best units are looked at; None for 16.
        step: What is kept is told of the units that are best at this step, -1 for the last; None for the last measurement by the end of
            the window in which each paragraph was shown, the last of all where that is not known.
        at: Only the numbers at one step, -1 for the last; None for all.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity` (see `localize.analysis.unit_dynamics`), `layer` (-1 where it is of none), `step`, `copies` (0 of held-out
        paragraphs) and `window`, columns as in `dose_table` and `difference`, `difference_low`, `difference_high`. All are shares. Of a
        share (0 to 1) the null is the twin run's of the same paragraphs and the difference is to that; of one "less the twin run's" (-1
        to 1), and of what is alike in both runs, the null is that of held-out paragraphs at the same step, of what is kept by the same
        step. Of two or more seeds intervals are Student's t over these and p is the paired t-test's; of one seed they are over
        clusters. `q_value` corrects a quantity's p-values for all steps and levels. Means are over paragraphs that have scores: nothing
        is told of a step at which none has any.

    Raises:
        SignatureError: If the signature is not over training or lacks stored units, `units` is out of range, or a step was not measured.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    from localize.analysis.tables import table_of

    dynamics, draws = UnitDynamics.of(signature, units, step), Draws(seed, resamples)
    trainings = dynamics.trainings
    trainings.warn_of_few_seeds()
    places = range(len(trainings.steps)) if at is None else [trainings.at(at)]
    rows, always = [], dynamics.quantities()
    for level in dynamics.levels():
        about = level.labels | trainings.labels
        for quantity in (dynamics.kept(level.window), *always):
            for place in places:
                told = about | {"layer": quantity.layer, "step": int(trainings.steps[place])}
                rows += [told | row for row in dynamics.rows(quantity, place, level.rows, draws)]
    correct_by_quantity(rows)
    correct_by_quantity(rows)
    return table_of(rows, ("quantity", "layer", "step", "copies", "window"), (*DIFFERENCE, *OWN))


def overlap(
    one: Int[np.ndarray, "seed step paragraph rank"], other: Int[np.ndarray, "seed step paragraph rank"]
) -> Float[np.ndarray, "seed step paragraph"]:
    """The share of each paragraph's units that are among another choice's; nan where a choice is none (-1).

    >>> overlap(np.array([[[[3, 1, 7, 5]]]]), np.array([[[[1, 2, 3, 4]]]]))
    array([[[0.5]]])
    """
    found = (one[..., :, None] == other[..., None, :]).any(-1).mean(-1)
    return np.where((one < 0).any(-1) | (other < 0).any(-1), np.nan, found)


def _stayed(of: Best) -> Values:
    found = np.full(of.shape[:-1], np.nan)
    found[:, 1:] = overlap(of[:, 1:], of[:, :-1])
    return found


def _best_of(trainings: Trainings, run: str, units: int) -> tuple[Best, Values]:
    """Which units are each paragraph's best in a run, and what they hold of the scores; read a seed and step at a time."""
    scores = in_run(trainings.dataset, "unit_score", run)
    shape = (trainings.seeds, len(trainings.steps), len(trainings.copies))
    found, held = np.empty((*shape, units), np.int64), np.empty(shape)
    for seed in range(shape[0]):
        for step in range(shape[1]):
            part = scores.isel(training_seed=seed, training_step=step).compute().astype(float)
            score, order = best(part.to_dataset(name="unit_score"), units)
            found[seed, step] = np.where(np.isnan(score), -1, order)
            total = part.clip(min=0).sum(["layer", "unit"], skipna=False).values
            held[seed, step] = np.divide(score.clip(0).sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
    return found, held
