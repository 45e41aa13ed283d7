"""Loss change allocation: which weights take a text in while a model is trained, and which let it go.

L, the loss of a set of paragraphs, is the mean over them of the mean NLL of their continuation, as recall has it. A step that moves the
weights from w to w' changes it by the integral of its gradient along the way; by the trapezoid that is (g + g')/2 . (w' - w), g and g' the
gradients before and after the step, a sum over weights that can be parted as one likes. The parts of all steps sum to L(end) - L(start)
up to an error, which is told.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from localize.axes import EXPOSURES, NEVER_TRAINED
from localize.errors import InputError, LocalizeError, SignatureError, caller, public
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature
from localize.train.exposures import exposures
from localize.train.undisturbed import left_as_it_is
from localize.train.watch import Watch, callback_calling, in_fixed_groups, training_rows, whole_step
from localize.train.weight_parts import arrays_of_parts, part_sums

if TYPE_CHECKING:
    from transformers.trainer_callback import TrainerCallback

Weights = dict[str, Tensor]


class StepCost(NamedTuple):
    """What looking at the gradients costs.

    Attributes:
        rows: Rows of a forward and backward pass after every step.
        of_a_step: The same in steps of the training, whose rows are taken to be as long; nan where its batch is not known.
    """

    rows: int
    of_a_step: float

    @property
    def words(self) -> str:
        """ "every step also takes a forward and backward pass of 70 rows, 2.2 of a step's"."""
        times = "" if np.isnan(self.of_a_step) else f", {self.of_a_step:.2g} of a step's"
        return f"every step also takes a forward and backward pass of {self.rows} rows{times}"


class LossChange:
    """Adds up, step by step, what each part of the weights changes in the loss of sets of paragraphs; else as `Watch`.

    The sets are the groups of the paragraphs. After every step it takes the gradient of each set's loss: a forward and backward pass of
    all paragraphs (`cost`), and memory for 1 + sets copies of the weights. In a loop of your own, and `trainer_callback()` in a
    `transformers.Trainer`:

        change = lz.LossChange(paragraphs, row_paragraph, batch, at=100)
        for step, batch in enumerate(batches):
            change(model, step)  # before the first step and after every one: the optimizer steps done so far
            model(batch, labels=batch).loss.backward()
            optimizer.step(), optimizer.zero_grad()
        change(model, len(batches))
        change.error  # by set: how much of the change of its loss the parts miss
        lz.loss_change_table(change.signature())

    The training is the same bit for bit as without it. Weights may be frozen: what does not move changes nothing.

    Args:
        paragraphs: In groups, or with `duplicates`, as `Watch` takes them.
        row_paragraph: Which of the paragraphs each row of the training is, in order; -1 for other text. With it steps that show some of
            a set stand apart from the others; without it all are among the others, and "shown" is nan.
        batch: Rows a step.
        at: After how many steps the sums so far are put down: some whole numbers; or one, n: every n steps, and before the first. None
            puts nothing down: `measured` tells the sums so far.
        held_out: The group that no step shows, whose change at the steps of another is that one's null: what was learned of all such
            text. None is "never_trained", where there is such a group.
        batch_size: Paragraphs a backward pass.

    Raises:
        InputError: If the groups of the paragraphs hang on exact match, or none is called `held_out`.
        LocalizeError: If `at` holds no step, `batch_size` is below 1, or `row_paragraph` and `batch` do not go with each other or with
            the paragraphs.

    Source:
        Lan et al. 2019, "LCA: Loss Change Allocation for Neural Network Training" (arXiv 1909.01440), there by Runge and Kutta's method.
    """

    @public("LossChange")
    def __init__(
        self,
        paragraphs: Paragraphs,
        row_paragraph: Any = None,
        batch: Any = None,
        at: Any = None,
        *,
        held_out: str | None = None,
        batch_size: int = 16,
    ):
        if batch_size < 1:
            raise LocalizeError(f"{caller()}: batch_size={batch_size} must be at least 1.")
        self.paragraphs = in_fixed_groups(paragraphs)
        labels = np.array(self.paragraphs.labels)
        self.sets: tuple[str, ...] = tuple(dict.fromkeys(str(name) for name in labels))
        self._rows_of = {name: np.flatnonzero(labels == name) for name in self.sets}
        if held_out is not None and held_out not in self.sets:
            raise InputError(f"{caller()}: held_out={held_out!r} is no group; there are {', '.join(self.sets)}.")
        self.held_out = held_out or (NEVER_TRAINED if NEVER_TRAINED in self.sets else None)
        rows, self._batch = training_rows(row_paragraph, batch)
        self._shown = None if rows is None or self._batch is None else self._steps_showing(rows, self._batch)
        self._batch_size = batch_size
        self._watch = None if at is None else Watch(self.paragraphs, at, [self.measured], row_paragraph, batch)
        self._since: int | None = None
        self._step: int | None = None
        self._weights: Weights | None = None
        self._gradients: list[Weights] = []
        self._begun = self._now = np.full(len(self.sets), np.nan)
        self._totals: Float[np.ndarray, "null set exposure part"] | None = None
        self._fits = False

    def __repr__(self) -> str:
        rows, of_a_step = self.cost
        times = "" if np.isnan(of_a_step) else f", {of_a_step:.2g} of a step of {self._batch}"
        seen = "no step seen yet" if self._step is None else f"seen up to step {self._step}"
        return (
            f"LossChange({len(self.paragraphs)} paragraphs in {len(self.sets)} sets; every step a forward and backward pass of {rows} "
            f"rows{times}; {seen})"
        )

    @property
    def cost(self) -> StepCost:
        """What it costs beside a step of the training; known before the first."""
        rows = len(self.paragraphs)
        return StepCost(rows, float("nan") if self._batch is None else rows / self._batch)

    @property
    def error(self) -> dict[str, float]:
        """By set |sum of all parts - (L(now) - L(start))| / |L(now) - L(start)|; nan before the first step."""
        changed, missing = self._now - self._begun, self._summed() - (self._now - self._begun)
        with np.errstate(divide="ignore", invalid="ignore"):
            return dict(zip(self.sets, np.abs(missing / changed).tolist(), strict=True))

    @public("LossChange")
    def __call__(self, model: Any, step: Any) -> None:
        """Add what the last step changed; at the first call take what it begins from.

        Args:
            model: A `HookedModel`, or a transformers GPT-2 or GPT-Neo model.
            step: Optimizer steps done so far: one more than at the call before.

        Raises:
            InputError: If the paragraphs do not fit the model.
            LocalizeError: If the step is no whole number of at least 0, does not follow the last one, lies beyond the rows, or was seen
                with other weights; or an NLL is not a finite number.
        """
        step = whole_step(step, "step")
        with left_as_it_is(model) as hooked:
            if not self._fits:
                self.paragraphs.check_fits(hooked)
                hooked.check_differentiable()
                self._fits = True
            if step == self._step and self._weights is not None:
                self._check_weights(hooked)
            else:
                self._advance(hooked, step)
        if self._watch is not None:
            self._watch(model, step)

    @public("LossChange.measured")
    def measured(self, model: Any, paragraphs: Paragraphs | None = None) -> MemorizationSignature:
        """The sums so far, with recall of the model as it is: what a `Watch(..., measures=[change.measured])` takes.

        Args:
            model: As at the last call.
            paragraphs: Those that it was made with, in the same groups; None takes them.

        Returns:
            `loss_change` (set, exposure, layer, component), `head_loss_change`, `outside_loss_change` and their nulls, and
            `set_nll_change`, all in nats per token, since the first call.

        Raises:
            SignatureError: If no step was seen yet, or these are other paragraphs or groups.
            LocalizeError: If the model has other weights than at the last call.
        """
        own = self.paragraphs
        if self._since is None or self._weights is None:
            raise SignatureError(f"{caller()}: no step was seen yet; call change(model, step) before.")
        if paragraphs is not None and (paragraphs.hashes, paragraphs.labels) != (own.hashes, own.labels):
            raise SignatureError(f"{caller()}: these are other paragraphs, or in other groups, than those followed.")
        with left_as_it_is(model) as hooked, hooked.unchanged():
            self._check_weights(hooked)
            call = {
                "measurement": "loss_change", "since": self._since, "batch": self._batch, "held_out": self.held_out,
                "batch_size": self._batch_size, "rows_per_step": self.cost.rows,
            }  # fmt: skip
            return labelled(
                hooked, own, recall_of(hooked, own), self._arrays(hooked), call=call, axes={"set": self.sets}
            )

    @public("LossChange.signature")
    def signature(self) -> MemorizationSignature:
        """What was put down so far, with the axis `training_step` in front.

        Raises:
            SignatureError: If nothing was.
        """
        if self._watch is None:
            raise SignatureError(f"{caller()}: at=None puts nothing down; measured(model) tells the sums so far.")
        return self._watch.signature()

    @public("LossChange.adopt")
    def adopt(self, signature: MemorizationSignature) -> None:
        """Take what an earlier, interrupted run of the same training put down, beside its `state`.

        Raises:
            SignatureError: As `Watch.adopt` raises it; or if `at` is None.
        """
        if self._watch is None:
            raise SignatureError(f"{caller()}: at=None puts nothing down.")
        self._watch.adopt(signature)

    def state(self) -> dict[str, Tensor]:
        """All that the sums go on from, beside the weights, by name; nothing before the first call."""
        if self._totals is None or self._since is None or self._step is None:
            return {}
        numbers = np.array([self._since, self._step])
        return {
            "steps": torch.from_numpy(numbers), "losses": torch.from_numpy(np.stack([self._begun, self._now])),
            "totals": torch.from_numpy(self._totals.copy()),
        }  # fmt: skip

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, with the model as it was then: the next call is of the same step."""
        self._since, self._step = (int(step) for step in state["steps"])
        self._begun, self._now = state["losses"].numpy().copy()
        self._totals, self._weights, self._gradients = state["totals"].numpy().copy(), None, []

    def trainer_callback(self) -> "TrainerCallback":
        """A callback for `transformers.Trainer(..., callbacks=[...])` that calls it as training begins and after every step."""
        return callback_calling(self)

    def _steps_showing(self, rows: Int[np.ndarray, " row"], batch: int) -> Bool[np.ndarray, "step set"]:
        """Which steps show some of each set."""
        exposures(rows, batch, [], len(self.paragraphs))  # which checks the rows
        padded = np.concatenate([rows, np.full(-len(rows) % batch, -1)]).reshape(-1, batch)
        return np.stack([np.isin(padded, own).any(1) for own in self._rows_of.values()], axis=1)

    def _check_weights(self, model: HookedModel) -> None:
        """Raise a `LocalizeError` unless the weights are those of the last call."""
        seen = self._weights or {}
        if any(not torch.equal(seen[name], weight) for name, weight in model.hf.named_parameters()):
            raise LocalizeError(
                f"{caller()}: step {self._step} was seen with other weights; another training needs a LossChange of its own."
            )

    def _advance(self, model: HookedModel, step: int) -> None:
        """Take the gradients at a step, and add what came of the step before it."""
        resumed = step == self._step
        if self._step is not None and not resumed and step != self._step + 1:
            raise LocalizeError(
                f"{caller()}: step={step} does not follow step {self._step}; it is called before the first step and after every one."
            )
        if self._shown is not None and step > len(self._shown):
            raise LocalizeError(f"{caller()}: step={step} must lie in 0..{len(self._shown)}, the steps of these rows.")
        weights = {name: weight.detach().clone() for name, weight in model.hf.named_parameters()}
        found = [self._gradient(model, rows) for rows in self._rows_of.values()]
        losses = np.array([loss for loss, _ in found])
        for name, loss in zip(self.sets, losses, strict=True):
            if not np.isfinite(loss):
                raise LocalizeError(
                    f"{caller()}: the NLL of {name!r} is {loss} at step {step}; a finite number is needed."
                )
        gradients = [gradient for _, gradient in found]
        if self._weights is not None and self._step is not None:
            self._add(model, self._step, weights, gradients)
        elif not resumed:
            self._since, self._begun = step, losses
        self._step, self._now, self._weights, self._gradients = step, losses, weights, gradients
        if self._totals is None:
            none = part_sums(model, {name: torch.zeros_like(weight) for name, weight in weights.items()})
            self._totals = np.tile(none, (2, len(self.sets), len(EXPOSURES), 1))

    def _add(self, model: HookedModel, made: int, weights: Weights, gradients: list[Weights]) -> None:
        """Add (g + g')/2 . (w' - w) of each set, by parts, under whether the step made showed some of the set."""
        before, totals = self._weights, self._totals
        assert before is not None and totals is not None
        moved = {name: weight - before[name] for name, weight in weights.items()}
        sums = [
            part_sums(model, {name: _wide(old[name] + new[name]).mul_(moved[name]) for name in moved}) / 2
            for old, new in zip(self._gradients, gradients, strict=True)
        ]
        null = np.full_like(sums[0], np.nan) if self.held_out is None else sums[self.sets.index(self.held_out)]
        for at, of_set in enumerate(sums):
            shown = self._shown is not None and bool(self._shown[made, at])
            exposure = EXPOSURES.index("shown" if shown else "other")
            totals[0, at, exposure] += of_set
            totals[1, at, exposure] += null

    def _gradient(self, model: HookedModel, rows: Int[np.ndarray, " member"]) -> tuple[float, Weights]:
        """A set's loss and its gradient by every weight."""
        own, first = self.paragraphs, self.paragraphs.prefix_length
        named = dict(model.hf.named_parameters())
        loss_of_set, gradient = 0.0, {name: torch.zeros_like(weight) for name, weight in named.items()}
        with torch.enable_grad():
            for weight in named.values():
                weight.requires_grad_()
            for chosen in _batches(rows, self._batch_size):
                tokens = own.recall_tokens[torch.from_numpy(chosen)].to(model.device)
                logits = model.forward(tokens[:, :-1], read=slice(first - 1, None))
                wanted = tokens[
                    :, first:
                ]  # as many for each paragraph, so that the mean over tokens is that over paragraphs
                nll = cross_entropy(_wide(logits).flatten(0, 1), wanted.flatten(), reduction="sum")
                loss = nll / (wanted.shape[1] * len(rows))
                # Not backward(), which would call hooks that others have on the accumulation of gradients.
                parts = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
                for total, part in zip(gradient.values(), parts, strict=True):
                    if part is not None:
                        total.add_(part)
                loss_of_set += loss.item()
        return loss_of_set, gradient

    def _arrays(self, model: HookedModel) -> dict[str, np.ndarray]:
        """The registered variables of the sums so far."""
        assert self._totals is not None
        totals = self._totals.copy()
        if self._shown is None:
            totals[:, :, EXPOSURES.index("shown")] = np.nan
        if self.held_out is None:
            totals[1] = np.nan
        else:
            totals[1, self.sets.index(self.held_out)] = np.nan
        arrays: dict[str, np.ndarray] = {"set_nll_change": self._now - self._begun}
        for ending, of in zip(("", "_null"), totals, strict=True):
            components, heads, outside = arrays_of_parts(of, model.n_layers, model.n_heads)
            arrays |= {f"loss_change{ending}": components, f"head_loss_change{ending}": heads}
            arrays |= {f"outside_loss_change{ending}": outside}
        return arrays

    def _summed(self) -> Float[np.ndarray, " set"]:
        """All parts of each set."""
        if self._totals is None:
            return np.full(len(self.sets), np.nan)
        return np.nansum(self._totals[0], axis=(1, 2))


@public
def loss_change(
    before: HookedModel, after: HookedModel, paragraphs: Paragraphs, *, points: int = 16, batch_size: int = 16
) -> MemorizationSignature:
    """What each part of the weights changes in the loss of sets of paragraphs on the straight line from one model to another.

    As `LossChange` has it of a training's own path, which is another: of two checkpoints that alone are left of a training.

    Args:
        before: A model.
        after: One of the same shape.
        paragraphs: In groups, which are the sets.
        points: Into so many equal steps the line is divided; the error falls with their square.
        batch_size: Paragraphs a backward pass.

    Returns:
        Of `after`, all under "other": what `LossChange.measured` gives.

    Raises:
        LocalizeError: If `points` is below 1, or the models differ in shape.
        InputError: If the paragraphs do not fit the models.
    """
    if points < 1:
        raise LocalizeError(f"{caller()}: points={points} must be at least 1.")
    start, end = (dict(model.hf.named_parameters()) for model in (before, after))
    if {name: w.shape for name, w in start.items()} != {name: w.shape for name, w in end.items()}:
        raise LocalizeError(f"{caller()}: {before.name} and {after.name} differ in shape; two of one shape are needed.")
    change, between = LossChange(paragraphs, batch_size=batch_size), after.copied()
    moving = dict(between.hf.named_parameters())
    for point in range(points + 1):
        with torch.no_grad():
            for name, weight in moving.items():
                weight.copy_(torch.lerp(start[name].to(weight), end[name], point / points))
        change(between, point)
    return change.measured(between)


def _batches(rows: Int[np.ndarray, " member"], size: int) -> Iterator[Int[np.ndarray, " chosen"]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
