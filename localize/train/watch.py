"""What is measured of paragraphs while a model is trained, in anybody's loop, which is the same bit for bit as without it."""

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.axes import NEVER_TRAINED, TRAINED, WATCHED
from localize.errors import InputError, LocalizeError, SignatureError, caller, public
from localize.measure.labels import labelled
from localize.measure.recall import recall
from localize.measure.scoring import recall_of
from localize.measurements import MEASUREMENTS, Measurement, asked_names, measurement_named
from localize.measurements.declaration import unknown_key
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature
from localize.signature.stacking import difference, stacked
from localize.train.exposures import exposures
from localize.train.undisturbed import left_as_it_is

if TYPE_CHECKING:
    import xarray as xr
    from transformers.trainer_callback import TrainerCallback

AXIS = "training_step"


class Watch:
    """Measures paragraphs at some steps of a training, and leaves model, gradients and random numbers as they are.

    In a loop of your own, and `trainer_callback()` in a `transformers.Trainer`:

        watch = lz.Watch(paragraphs, at=100)
        for step, batch in enumerate(batches):
            watch(model, step)  # the number of optimizer steps done so far
            model(batch, labels=batch).loss.backward()
            optimizer.step(), optimizer.zero_grad()
        watch(model, len(batches))
        watch.signature()  # exact_match, nll, ... (training_step, paragraph)

    Groups must be the same at every step. Where the paragraphs have none of the user's, those of which `duplicates` tells are
    "planted", or "never_trained" where it is 0; without `duplicates` all are "watched".

    Args:
        paragraphs: What is measured.
        at: After how many steps: some whole numbers; or one, n: every n steps, and before the first. That is all that is measured:
            not the last step, unless it is among them.
        measures: One or several: names of measurements, with their default options; or functions of a `HookedModel` and the
            paragraphs, in groups, that give a signature: `lambda model, paragraphs: lz.gradients(model, paragraphs, ...)`. Recall comes
            with them.
        row_paragraph: Which of the paragraphs each row of the training is, in order; -1 for other text. With it the signature has
            `exposures` and `steps_since_exposure`, too.
        batch: Rows a step.

    Raises:
        InputError: If there is no such measurement, it cannot measure these paragraphs, or their groups hang on exact match.
        LocalizeError: If a step is none, or `row_paragraph` and `batch` do not go with each other or with the paragraphs.
    """

    @public("Watch")
    def __init__(
        self,
        paragraphs: Paragraphs,
        at: Any,
        measures: Any = ("recall",),
        row_paragraph: Any = None,
        batch: Any = None,
    ):
        self.paragraphs = in_fixed_groups(paragraphs)
        self._every, self._at = _steps(at)
        asked = [measures] if isinstance(measures, str) or callable(measures) else list(measures)
        self._measures = [one for one in map(_known, asked) if one != MEASUREMENTS["recall"]]  # which always comes
        for one in self._measures:
            if isinstance(one, Measurement) and (check := getattr(one.call(), "check", None)) is not None:
                check(self.paragraphs)
        self._rows, self._batch = training_rows(row_paragraph, batch)
        if self._rows is not None and self._batch is not None:
            exposures(self._rows, self._batch, sorted(self._at), len(self.paragraphs))
        self._parts: dict[int, xr.Dataset] = {}
        self._adopted: set[int] = set()
        self._checked = False

    def __repr__(self) -> str:
        when = f"every {self._every} steps" if self._every else f"{len(self._at)} steps asked for"
        return f"Watch({len(self.paragraphs)} paragraphs; {when}; measured at {', '.join(map(str, self.steps)) or 'none yet'})"

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps that were measured, or adopted, in order."""
        return tuple(sorted(self._parts))

    @public("Watch")
    def __call__(self, model: Any, step: Any) -> None:
        """Measure the model if this step is one of those asked for; a step that was measured already is not measured again.

        Args:
            model: A `HookedModel`, or a transformers GPT-2 or GPT-Neo model.
            step: Optimizer steps done so far.

        Raises:
            InputError: If the paragraphs do not fit the model.
            LocalizeError: If the step is no whole number of at least 0, lies beyond the rows, or was measured with other weights; or
                an NLL is not a finite number.
            SignatureError: If what is measured is not the same as at the steps before, but for its values.
        """
        step = whole_step(step, "step")
        if not self._checked:
            self._check(model)
        if step in self._adopted or not (step % self._every == 0 if self._every else step in self._at):
            return
        with left_as_it_is(model) as hooked, hooked.unchanged():
            if step not in self._parts:
                self._keep(step, self._measured(hooked, step).dataset)
            elif self._parts[step].attrs["model"]["weights_hash"] != hooked.weights_hash():
                raise LocalizeError(
                    f"{caller()}: step {step} was measured already, with other weights; another training needs a Watch of its own."
                )

    @public("Watch.check")
    def check(self, model: Any) -> None:
        """Raise an `InputError` if the paragraphs exceed the model's context or vocabulary; the first call of a watch does, too."""
        self._check(model)

    def shows(self, step: int, row_paragraph: Any) -> None:
        """Say which of the paragraphs the rows from a step on are, where that was not known before; of none that was measured.

        Args:
            step: Optimizer steps done before the first of these rows.
            row_paragraph: As the watch takes it.
        """
        if self._rows is not None and self._batch is not None:
            first, rows = step * self._batch, np.asarray(row_paragraph)
            self._rows = np.concatenate([self._rows[:first], rows, self._rows[first + len(rows) :]])

    def measured(self, step: int) -> MemorizationSignature:
        """What was measured at one of the `steps`: a signature of the model as it was."""
        return MemorizationSignature(self._parts[step])

    @public("Watch.signature")
    def signature(self) -> MemorizationSignature:
        """What was measured so far, every variable with the axis `training_step` in front.

        Raises:
            SignatureError: If nothing was measured.
        """
        if not self._parts:
            raise SignatureError(f"{caller()}: nothing was measured yet; call watch(model, step) at a step asked for.")
        return stacked(AXIS, {step: self.measured(step) for step in self.steps})

    @public("Watch.adopt")
    def adopt(self, signature: MemorizationSignature) -> None:
        """Take what an earlier, interrupted run of the same training measured; its steps are not measured again.

        Args:
            signature: Of an earlier watch of the same paragraphs and measurements.

        Raises:
            SignatureError: If it is of other paragraphs, groups or measurements, not over steps alone, or of a step that was measured
                already.
        """
        over = signature.over_training
        if over != (AXIS,):
            raise SignatureError(
                f"{caller()}: the signature is over {', '.join(over) or 'no steps'}; one over {AXIS} alone is needed."
            )
        dataset = signature.dataset
        about, ours = dataset.attrs["paragraphs"], self.paragraphs
        if about["data_hash"] != ours.data_hash or dataset["paragraph"].values.tolist() != list(ours.ids):
            raise SignatureError(
                f"{caller()}: the signature is of {len(signature)} of {about['source']} (data_hash {about['data_hash'][:12]}), the "
                f"paragraphs are {len(ours)} of {ours.source} (data_hash {ours.data_hash[:12]}); the same ones, in the same order, "
                "are needed."
            )
        if dataset["group"].values.tolist() != list(ours.labels or ()):
            raise SignatureError(
                f"{caller()}: the signature has other groups than the paragraphs watched; the same are needed."
            )
        asked = ["recall", *(one.name for one in self._measures if isinstance(one, Measurement))]
        asked += [] if self._rows is None else ["exposures"]
        held = {call["measurement"] for call in dataset.attrs["calls"]}
        if missing := [name for name in asked if name not in held]:
            raise SignatureError(
                f"{caller()}: the signature has no {missing[0]}, which is watched; it has {', '.join(sorted(held))}."
            )
        steps = dataset[AXIS].values.tolist()
        if twice := sorted(set(steps) & set(self._parts)):
            raise SignatureError(
                f"{caller()}: step {twice[0]} was measured already; adopt what is earlier before that."
            )
        for step in steps:
            self._keep(step, signature.at(training_step=step).dataset)
        self._adopted.update(steps)

    def trainer_callback(self) -> "TrainerCallback":
        """A callback for `transformers.Trainer(..., callbacks=[...])` that calls it as training begins and after every step."""
        return callback_calling(self)

    def _check(self, model: Any) -> None:
        with left_as_it_is(model) as hooked:
            self.paragraphs.check_fits(hooked)
        self._checked = True

    def _measured(self, model: HookedModel, step: int) -> MemorizationSignature:
        """Recall, all that is asked for, and exposures, of the model as it is."""
        paragraphs = self.paragraphs
        found = recall(model, paragraphs)
        for one in self._measures:
            part = (one.call() if isinstance(one, Measurement) else one)(model, paragraphs)
            if not isinstance(part, MemorizationSignature):
                raise SignatureError(
                    f"{caller()}: a measure gave a {type(part).__name__}; a MemorizationSignature is needed."
                )
            found = found | part
        if self._rows is None or self._batch is None:
            return found
        seen = exposures(self._rows, self._batch, [step], len(paragraphs))
        arrays = {name: values[0] for name, values in seen._asdict().items()}
        call = {"measurement": "exposures", "batch": self._batch}
        return found | labelled(model, paragraphs, recall_of(model, paragraphs), arrays, call=call)

    def _keep(self, step: int, found: "xr.Dataset") -> None:
        """Hold what was measured at a step; labels, which are the same at all of them, once."""
        if self._parts:
            first = min(self._parts)
            if problem := difference(self._parts[first], found):
                raise SignatureError(f"{caller()}: step {step} differs from step {first} in {problem}.")
            found = found.assign_coords(self._parts[first].coords)
        self._parts[step] = found


def callback_calling(watch: "Callable[[Any, int], None]") -> "TrainerCallback":
    """A callback for a Trainer of transformers that calls this with model and step as training begins and after every step."""
    from transformers.trainer_callback import TrainerCallback

    class WatchCallback(TrainerCallback):
        """Calls a watch; `state.global_step` counts on where a training is resumed."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            watch(given["model"], state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            watch(given["model"], state.global_step)

    return WatchCallback()


def in_fixed_groups(paragraphs: Paragraphs) -> Paragraphs:
    """The paragraphs in groups that do not hang on recall, which is another at every step."""
    if paragraphs.em_bins is not None:
        raise InputError(
            f"{caller()}: the groups of {paragraphs.source} are ranges of exact match, which changes while a model is trained; give "
            "them groups of their own: paragraphs.with_groups(...)."
        )
    if paragraphs.groups is not None:
        return paragraphs
    if paragraphs.duplicates is None:
        return paragraphs.with_groups([WATCHED] * len(paragraphs))
    return paragraphs.with_groups(
        [None if count is None else TRAINED if count else NEVER_TRAINED for count in paragraphs.duplicates]
    )


def _steps(at: Any) -> tuple[int | None, frozenset[int]]:
    """Every how many steps; or which steps."""
    if isinstance(at, Integral):
        every = whole_step(at, "at")
        if every == 0:
            raise LocalizeError(f"{caller()}: at=0; every how many steps, at least 1, or a list of steps is needed.")
        return every, frozenset()
    if isinstance(at, str) or not np.iterable(at):
        raise LocalizeError(f"{caller()}: at={at!r}; every how many steps, at least 1, or a list of steps is needed.")
    steps = frozenset(whole_step(step, "at") for step in at)
    if not steps:
        raise LocalizeError(f"{caller()}: at={at!r} has no steps; at least one is needed.")
    return None, steps


def whole_step(step: Any, name: str) -> int:
    """A number of steps; a `LocalizeError` where it is none."""
    if not isinstance(step, Integral) or isinstance(step, bool) or int(step) < 0:
        raise LocalizeError(f"{caller()}: {name}={step!r}; a step is a whole number of at least 0.")
    return int(step)


def _known(measure: Any) -> "Measurement | Callable[[HookedModel, Paragraphs], Any]":
    if callable(measure):
        return measure
    if not isinstance(measure, str):
        raise LocalizeError(
            f"{caller()}: a measure is a {type(measure).__name__}; the name of a measurement, or a function of a model and paragraphs, "
            "is needed."
        )
    found = measurement_named(measure)
    if found is None:
        raise unknown_key(measure, asked_names(), f"{caller()}: measures")
    return found


def training_rows(row_paragraph: Any, batch: Any) -> tuple[np.ndarray | None, int | None]:
    """Which paragraph each row is, and rows a step; both or neither."""
    if row_paragraph is None and batch is None:
        return None, None
    if row_paragraph is None or batch is None:
        given, lacking = ("batch", "row_paragraph") if row_paragraph is None else ("row_paragraph", "batch")
        raise LocalizeError(f"{caller()}: {given} without {lacking}; exposures are counted with both.")
    if not isinstance(batch, Integral) or isinstance(batch, bool) or int(batch) < 1:
        raise LocalizeError(f"{caller()}: batch={batch!r} must be a whole number of at least 1.")
    rows = np.asarray(row_paragraph)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise LocalizeError(
            f"{caller()}: row_paragraph is {rows.dtype} of shape {rows.shape}; one whole number a row is needed."
        )
    return rows.astype(np.int64), int(batch)
