"""Steps down an objective on chosen weights alone; the model has its own weights again at the end, whatever happens."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm.auto import tqdm

from localize.edit.masks import WeightMask
from localize.edit.objectives import Rows, Term
from localize.edit.weight_edit import WeightEdit
from localize.errors import LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import SHOW_AFTER
from localize.measure.set_gradients import set_gradients
from localize.measurements.declaration import plain_value
from localize.models.hooks import HookedModel

Cell = tuple[int, str]


class Steps(NamedTuple):
    """How to go down an objective.

    Attributes:
        steps: Of AdamW, at most.
        learning_rate: Of each.
        weight_decay: Decoupled from the gradient, of the chosen weights alone.
        batch_size: Paragraphs a backward pass; it does not change the result beyond rounding.
        per_step: Paragraphs of each set that one step sees, drawn anew at each; None for all of them.
        seed: Of these draws.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    batch_size: int = 16
    per_step: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise a `LocalizeError` if an option is out of range."""
        for name, value, low in (("steps", self.steps, 1), ("per_step", self.per_step, 1)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low
            ):
                raise LocalizeError(f"{caller()}: {name}={value} must be a whole number of at least {low}.")
        if not 0 < self.learning_rate < math.inf:
            raise LocalizeError(f"{caller()}: learning_rate={self.learning_rate} must be finite and above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise LocalizeError(f"{caller()}: weight_decay={self.weight_decay} must be finite and at least 0.")


class Value(NamedTuple):
    """A term before one of the steps: mean loss (nats per token) and mean exact match (tokens) of the paragraphs seen."""

    loss: float
    exact_match: float


OnStep = Callable[[int, Mapping[str, Value]], bool]
"""Called before each step, and once after the last, with the steps taken and each term's value; True stops."""


class ChosenWeights:
    """A mask's weights inside a model, read and written together as one array; no other weight is touched.

    Attributes:
        before: Their values when this was made, in the model's dtype, one array for each (layer, component).
    """

    def __init__(self, model: HookedModel, mask: WeightMask):
        self._places: dict[Cell, tuple[Tensor, tuple[Tensor, Tensor] | None]] = {}
        self._indices: dict[Cell, Tensor] = {}
        for cell, chosen in mask.indices.items():
            weight, index = model.weight(*cell), chosen.to(model.device)
            rows_and_columns = (index // weight.shape[1], index % weight.shape[1])
            self._places[cell] = weight, None if len(index) == weight.numel() else rows_and_columns
            self._indices[cell] = index
        self.before = self.by_cell()

    def by_cell(self) -> dict[Cell, Shaped[Tensor, " chosen"]]:
        """The values now, in the model's dtype."""
        return {
            cell: (weight.flatten() if at is None else weight[at]).clone()
            for cell, (weight, at) in self._places.items()
        }

    def read(self) -> Float[Tensor, " chosen"]:
        """The values now, one matrix after the other, in at least float32."""
        flat = torch.cat(list(self.by_cell().values()))
        return flat.to(torch.promote_types(flat.dtype, torch.float32))

    def of(self, matrices: Mapping[Cell, Float[Tensor, "input output"]]) -> Float[Tensor, " chosen"]:
        """The same places of other matrices, in the order of `read`."""
        return torch.cat([matrices[cell].reshape(-1).index_select(0, self._indices[cell]) for cell in self.cells])

    def write(self, values: Shaped[Tensor, " chosen"]) -> None:
        """Put values there, in the order of `read`."""
        self._put(values.split([len(index) for index in self._indices.values()]))

    def restore(self) -> None:
        """Put the values back that were there when this was made, one matrix after the other: nothing large is allocated."""
        self._put(self.before.values())

    def _put(self, parts: Iterable[Shaped[Tensor, " _"]]) -> None:
        """Each matrix's values."""
        for (weight, at), part in zip(self._places.values(), parts, strict=True):
            if at is None:
                weight.copy_(part.view(weight.shape))
            else:
                weight[at] = part.to(weight.dtype)

    @property
    def cells(self) -> Sequence[Cell]:
        """The matrices that have chosen weights."""
        return tuple(cell for cell, index in self._indices.items() if len(index))


@contextmanager
def weights_put_back(model: HookedModel, mask: WeightMask) -> Iterator[ChosenWeights]:
    """Inside, the mask's weights may be changed; afterwards they are what they were, to the bit."""
    chosen = ChosenWeights(model, mask)
    try:
        yield chosen
    finally:
        chosen.restore()


def edited(
    model: HookedModel,
    mask: WeightMask,
    terms: Sequence[Term],
    how: Steps,
    *,
    call: Mapping[str, Any],
    stop: OnStep = lambda step, values: False,
) -> WeightEdit:
    """Go down the sum of the terms on the mask's weights, and give what changed as an edit; the model stays as it was.

    Raises:
        LocalizeError: If the mask is empty or of another model, a loss is not finite, or no weight changed.
    """
    call = {name: plain_value(value) for name, value in call.items()}
    how.check()
    mask.check(model)
    log: list[dict[str, int | float]] = []

    def on_step(step: int, values: Mapping[str, Value]) -> bool:
        log.append(logged(step, values))
        return stop(step, values)

    with weights_put_back(model, mask) as chosen:
        descend(model, chosen, terms, how, on_step=on_step)
        after = chosen.by_cell()
    edit = WeightEdit.of(mask, chosen.before, after, call | {"log": log})
    if model.weights_hash() != mask.weights_hash:
        raise LocalizeError(
            f"{caller()}: a weight outside the mask changed meanwhile; somebody else trains {model.name}?"
        )
    return edit


def descend(model: HookedModel, chosen: ChosenWeights, terms: Sequence[Term], how: Steps, *, on_step: OnStep) -> None:
    """Take the steps; the chosen weights are left where they lead."""
    values = chosen.read().requires_grad_()
    optimizer = torch.optim.AdamW([values], lr=how.learning_rate, weight_decay=how.weight_decay)
    with tqdm(total=how.steps, desc=caller(), unit="step", delay=SHOW_AFTER, leave=False) as bar:
        for step in range(how.steps + 1):
            values.grad, told = gradient(model, chosen, terms, how, step)
            check_losses(told, how, step)
            if on_step(step, told) or step == how.steps:
                return
            optimizer.step()
            with torch.no_grad():
                chosen.write(values)
            bar.update()


def logged(step: int, values: Mapping[str, Value]) -> dict[str, int | float]:
    """A line of an edit's log."""
    told = {f"{name}_{what}": number for name, value in values.items() for what, number in value._asdict().items()}
    return {"step": step, **told}


def check_losses(told: Mapping[str, Value], how: Steps, step: int) -> None:
    """Raise a `LocalizeError` if a term has no finite value after so many steps."""
    wrong = [name for name, value in told.items() if not math.isfinite(value.loss)]
    if not wrong:
        return
    lost = f"{caller()}: the loss of the {wrong[0]} set is {told[wrong[0]].loss}"
    if step == 0:
        raise LocalizeError(f"{lost} before the first step (damaged weights, or a dtype too narrow?).")
    raise LocalizeError(
        f"{lost} after step {step} of {how.steps}; the model is as it was before. A learning_rate below "
        f"{how.learning_rate:g} is needed."
    )


def gradient(
    model: HookedModel, chosen: ChosenWeights, terms: Sequence[Term], how: Steps, step: int
) -> tuple[Float[Tensor, " chosen"], dict[str, Value]]:
    """The objective's gradient by the chosen weights, and each term's value, at the weights as they are."""
    total, told = None, {}
    for term in terms:
        rows = drawn_rows(len(term.paragraphs), how, term.name, step)
        found = set_gradients(
            model,
            term.paragraphs if len(rows) == len(term.paragraphs) else term.paragraphs[rows],
            np.zeros(len(rows), int),
            batch_size=how.batch_size,
            show=False,
            loss=lambda part, term=term, rows=rows: term.loss(rows[part]),
            cells=chosen.cells,
        )
        part = chosen.of(found.by_set[0]).mul_(term.weight)
        total = part if total is None else total.add_(part)
        told[term.name] = Value(float(found.loss.mean()), float(found.exact_match.mean()))
    assert total is not None, "an objective has at least one term"
    return total, told


def drawn_rows(count: int, how: Steps, name: str, step: int) -> Rows:
    """The rows of a set that a step sees."""
    if how.per_step is None or how.per_step >= count:
        return np.arange(count)
    generator = np.random.default_rng(keyed_integer(2**32, "rows of a step", how.seed, name, step))
    return np.sort(generator.choice(count, how.per_step, replace=False))
