"""A sweep over the checkpoints of trainings as one signature over training, for every figure and table of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.axes import NEVER_TRAINED, RECALL_GROUPS, TRAINED, TRAINING_AXES, UNLABELLED, WATCHED
from localize.errors import LocalizeError, SignatureError, caller, public, warn
from localize.signature.schema import is_lazy
from localize.signature.signature import SCHEMA_VERSION, MemorizationSignature, unique_calls
from localize.signature.stacking import nested
from localize.signature.storage import fixed_width
from localize.sweep.checkpoints import step_of
from localize.sweep.results import FINISHED, Sweep

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Checkpoint:
    """A model of a sweep as a moment of a training.

    Attributes:
        model: Its name in the sweep.
        place: Its label on each axis of training, in their order; "" or 0 where the grid does not tell.
    """

    model: str
    place: tuple[Any, ...]


@public
def over_training(
    sweep: Sweep,
    paragraphs: str | None = None,
    measures: str | Sequence[str] | None = None,
    *,
    models: Sequence[str] | None = None,
    steps: Mapping[str, int] | None = None,
) -> MemorizationSignature:
    """What a sweep measured at the checkpoints of a training, or of several, with the axis `training_step` in front.

    Every measurement of the suite, of public checkpoints (`checkpoints = ["step1000", ...]`, revisions of a hub name) or of a folder's
    (`checkpoints = "all"`). Of several trainings, which the grid tells apart by `training_seed`, `training_run` and `training_arm` (of the
    folders that `localize train` left they are known), each of these is an axis, too. Values are read when they are asked for, where
    dask is installed; else at once, so that `measures` bounds the memory.

    Args:
        sweep: With models that have checkpoints; it may be unfinished.
        paragraphs: The name of a paragraph set, or None where there is one only.
        measures: Names of what was measured, as the sweep has them; None takes all that it asks for. Parts of one measurement join.
        models: Names of the models that are taken; None for all that have a checkpoint.
        steps: After how many steps a checkpoint was written, by its name; one that is not named here tells it by the last number in its
            name ("step1000", "checkpoint-500").

    Returns:
        The signature that a watch would have given, at the steps that are finished in all trainings; a warning tells what is left out.
        Groups that follow from recall change from checkpoint to checkpoint: then paragraphs are "planted" or "never_trained", as
        `duplicates` tell, or "watched".

    Raises:
        LocalizeError: If the sweep has no checkpoints, a name tells no step, two models stand for the same step of the same training, or
            no step is finished in all trainings.
        SignatureError: If what was measured differs between them in more than values, as what was measured of sets does whose groups
            follow from recall: `groups = "copies"` in the grid's paragraphs keeps them the same.
    """
    chosen = _checkpoints(sweep, models, steps or {})
    name = paragraphs if paragraphs is not None else _only_set(sweep)
    wanted = [measures] if isinstance(measures, str) else list(measures or sweep.measures)
    wanted = list(dict.fromkeys(["recall", *wanted]))
    for measure in wanted:
        if measure not in sweep.measures:
            raise LocalizeError(f"{caller()}: measures: no {measure!r}; the sweep has {', '.join(sweep.measures)}.")
    taken = _finished_everywhere(sweep, chosen, name, wanted)
    parts = {one.place: _signature(sweep, one.model, name, wanted) for one in taken}
    joined = nested(TRAINING_AXES, in_fixed_groups(parts)).dataset
    joined.attrs["model"]["name"] = taken[0].model.split(", ")[0]
    return MemorizationSignature(joined)


def _only_set(sweep: Sweep) -> str:
    if len(sweep.paragraph_sets) != 1:
        raise LocalizeError(f"{caller()}: paragraphs: one of {', '.join(sweep.paragraph_sets)} is needed.")
    return sweep.paragraph_sets[0]


def _checkpoints(sweep: Sweep, models: Sequence[str] | None, steps: Mapping[str, int]) -> list[Checkpoint]:
    """The models that are moments of a training, in the order of their places."""
    axes = sweep.model_axes
    for model in models or ():
        if model not in axes:
            raise LocalizeError(f"{caller()}: models: no {model!r}; the sweep has {', '.join(axes)}.")
    found: dict[tuple[Any, ...], str] = {}
    for model, told in axes.items():
        if "checkpoint" not in told or (models is not None and model not in models):
            continue
        step = steps.get(str(told["checkpoint"]), step_of(str(told["checkpoint"])))
        if step is None:
            raise LocalizeError(
                f"{caller()}: the checkpoint {told['checkpoint']!r} tells no step; steps={{{told['checkpoint']!r}: ...}} does."
            )
        arm, run, seed = (told.get(axis, "") for axis in TRAINING_AXES[:3])
        place = (arm, run, seed, step)
        if place in found:
            raise LocalizeError(
                f"{caller()}: {found[place]!r} and {model!r} are both of step {step} of one training; choose with models=, or give "
                "training_seed, training_run or training_arm in the grid."
            )
        found[place] = model
    if not found:
        raise LocalizeError(
            f"{caller()}: no model of {sweep.path} has checkpoints; `checkpoints` in the grid's [[model]] asks for them."
        )
    return [Checkpoint(model, place) for place, model in found.items()]


def _finished_everywhere(
    sweep: Sweep, checkpoints: list[Checkpoint], paragraphs: str, wanted: list[str]
) -> list[Checkpoint]:
    """The checkpoints at the steps at which every training has all that is wanted, in the order of their steps."""
    if paragraphs not in sweep.paragraph_sets:
        raise LocalizeError(f"{caller()}: paragraphs={paragraphs!r} is not one of {', '.join(sweep.paragraph_sets)}.")
    cells = sweep.cells().to_dict("records")
    finished = {
        (cell["model"], cell["measure"])
        for cell in cells
        if cell["paragraphs"] == paragraphs and cell["status"] == FINISHED
    }
    done = {one.model for one in checkpoints if all((one.model, measure) in finished for measure in wanted)}
    trainings = list(dict.fromkeys(one.place[:-1] for one in checkpoints))
    there = {one.place for one in checkpoints if one.model in done}
    steps = sorted({one.place[-1] for one in checkpoints})
    kept = [step for step in steps if all((*training, step) in there for training in trainings)]
    if not kept:
        first = next((one.model for one in checkpoints if one.model not in done), checkpoints[0].model)
        raise LocalizeError(
            f"{caller()}: no step is finished in all {len(trainings)} trainings; {first} lacks some of {', '.join(wanted)}. See "
            "sweep.cells(); measures= and models= choose."
        )
    if left := [step for step in steps if step not in kept]:
        some = f"{left[0]}" if len(left) == 1 else f"{left[0]}, ..., {left[-1]}"
        warn(
            f"{caller()}: {len(left)} of {len(steps)} steps left out ({some}): not finished, or not there, in all "
            f"{len(trainings)} trainings."
        )
    return sorted((one for one in checkpoints if one.place[-1] in kept), key=lambda one: steps.index(one.place[-1]))


def _signature(sweep: Sweep, model: str, paragraphs: str, wanted: list[str]) -> MemorizationSignature:
    """One model's measurements, lazy where that goes: parts of one measurement have to be read to be joined."""
    parts = [sweep.dataset(model, paragraphs, measure) for measure in wanted]
    joined, *others = parts
    own = set(joined.data_vars)
    for part in others:
        names = [name for name in part.data_vars if name not in own]
        axes = {dim for name in names for dim in part[name].dims} & set(joined.indexes)
        held = [name for name in names if name in joined]
        if held or any(not part.indexes[dim].equals(joined.indexes[dim]) for dim in axes):
            return sweep.signature(model, paragraphs, wanted)
        joined = joined.assign_coords(part.coords).assign({name: part[name].variable for name in names})
    joined = fixed_width(joined, [name for name in joined.coords if joined[name].dtype.kind == "T"])
    joined = joined.assign_coords({name: joined[name].compute() for name in joined.coords if is_lazy(joined[name])})
    calls = [call for part in parts for call in part.attrs["calls"]]
    joined.attrs |= {"schema": SCHEMA_VERSION, "calls": unique_calls(calls)}
    return MemorizationSignature(joined.drop_encoding())


def in_fixed_groups(parts: "dict[Any, MemorizationSignature]") -> "dict[Any, MemorizationSignature]":
    """The signatures with groups that are the same at all checkpoints, where they follow from recall and are not."""
    groups = [part.dataset["group"].values for part in parts.values()]
    by_recall = all(set(of) <= set(RECALL_GROUPS) for of in groups)
    if not by_recall or all(np.array_equal(of, groups[0]) for of in groups):
        return parts
    return {place: MemorizationSignature(_by_copies(part.dataset)) for place, part in parts.items()}


def _by_copies(dataset: "xr.Dataset") -> "xr.Dataset":
    if "set" in dataset.dims:
        raise SignatureError(
            f"{caller()}: groups follow from recall and change from checkpoint to checkpoint, and with them what was measured of sets; "
            'groups = "copies" in the grid keeps them, or choose other measures.'
        )
    if "duplicates" not in dataset.coords:
        return dataset.assign_coords(group=("paragraph", np.full(dataset.sizes["paragraph"], WATCHED)))
    copies = dataset["duplicates"].values.astype(float)
    named = np.where(np.isnan(copies), UNLABELLED, np.where(copies > 0, TRAINED, NEVER_TRAINED))
    return dataset.assign_coords(group=("paragraph", named))
