"""How `localize edit` edits: its options, what they may be together, and the edits and controls that follow from them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from localize.axes import MLP_PART
from localize.cli.words import say
from localize.errors import InputError, called_as
from localize.localizers.registry import DEFAULT, get, names
from localize.localizers.scores import Scores

if TYPE_CHECKING:
    from localize.edit.masks import WeightMask
    from localize.edit.weight_edit import WeightEdit
    from localize.localizers.localizer import Localizer
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

UNLEARN, REWRITE, ZERO, SUBNET, CURVATURE = "unlearn", "rewrite", "zero", "subnet", "curvature"
ACTIONS = (UNLEARN, REWRITE, ZERO, SUBNET, CURVATURE)
WEIGHT_GRADIENT, ORACLE, ALL, RANDOM = "weight_gradient", "oracle", "all", "random"
OTHER_LAYERS = "other layers"
FRACTION, RHO = 0.01, 0.97
"""The share of the blocks' weights that is zeroed or of which single ones are chosen, and that of the curvature that is kept, if none is
asked for; of units as many are chosen as hold the texts, see `units_holding`."""
NAMED = {WEIGHT_GRADIENT: "top", RANDOM: "random units", ORACLE: "true units"}
"""What masks are called by another name than their localizer's."""
MEANINGLESS = {
    UNLEARN: ("rho",),
    REWRITE: ("method", "first", "beta", "stop_nll", "rho"),
    ZERO: ("method", "first", "beta", "c", "stop_at", "stop_nll", "steps", "learning_rate", "per_step", "rho"),
    SUBNET: ("method", "first", "beta", "stop_at", "stop_nll", "localizer", "rho"),
    CURVATURE: (
        "method", "first", "beta", "c", "stop_at", "stop_nll", "steps", "learning_rate", "per_step", "localizer", "fraction",
    ),
}  # fmt: skip
"""Options that an action does not know."""


class Way(NamedTuple):
    """How edits are made, as the options say; None or nothing where one was left out."""

    action: str
    localizer: tuple[str, ...]
    method: tuple[str, ...]
    fraction: tuple[float, ...]
    rho: tuple[float, ...]
    first: int | None
    steps: int | None
    learning_rate: float | None
    per_step: int | None
    c: float | None
    beta: float | None
    stop_at: float | None
    stop_nll: float | None
    controls: bool

    def check(self, planted: bool) -> None:
        """Raise an error for what can be told before a model is loaded, and what needs no torch before that.

        Args:
            planted: Whether the model is a planted truth, which knows the true units.
        """
        if self.action not in ACTIONS:
            raise InputError(f"--action {self.action}: not one of {', '.join(ACTIONS)}.")
        allowed = (*names(), ALL, *((ORACLE,) if planted else ()))
        for name in self.localizer:
            if name == ORACLE and not planted:
                raise InputError(
                    f"--localizer {name}: the model is no planted truth, of which alone true units are known."
                )
            if name not in allowed:
                raise InputError(f"--localizer {name}: not one of {', '.join(allowed)}.")
        from localize.edit.masks import check_fraction
        from localize.edit.unlearn import METHODS

        for name in self.method:
            if name not in METHODS:
                raise InputError(f"--method {name}: not one of {', '.join(METHODS)}.")
        for option in MEANINGLESS[self.action]:
            if getattr(self, option) not in (None, ()):
                raise InputError(
                    f"--{option.replace('_', '-')}: means nothing to --action {self.action}; leave it out."
                )
        for name in self.localizer if self.action == ZERO else ():
            if name in (WEIGHT_GRADIENT, ALL):
                raise InputError(f"--localizer {name}: scores no units; --action zero takes one that does.")
        with called_as("--fraction"):
            for fraction in self.fraction:
                check_fraction(fraction)
        for option in ("learning_rate", "c", "beta", "stop_at", "stop_nll"):
            if (value := getattr(self, option)) is not None and not math.isfinite(value):
                raise InputError(f"--{option.replace('_', '-')} {value}: must be a finite number.")
        for rho in self.rho:
            if not 0 < rho < 1:
                raise InputError(f"--rho {rho}: must lie between 0 and 1; at 1 nothing is dropped.")

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The localizers of the masks, or of the units to zero."""
        if self.action in (SUBNET, CURVATURE):
            return ()
        return self.localizer or (DEFAULT,)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the blocks' weights that are zeroed, or of single weights that a mask holds."""
        return self.fraction or (FRACTION,)

    def fractions(self, what: str) -> tuple[float | None, ...]:
        """Of the blocks' weights that a localizer's mask holds; None for those of the units that hold the texts, or as many weights."""
        alone = what == WEIGHT_GRADIENT and self.chosen_by[0] in (WEIGHT_GRADIENT, ALL)
        by_curve = self.action in (UNLEARN, REWRITE) and not self.fraction and not alone
        return (None,) if by_curve else self.shares

    def name(self, what: str, fraction: float | None, method: str | None = None) -> str:
        """Of an edit that is not a control."""
        label = ALL if what == ALL else sized(NAMED.get(what, what), fraction)
        if self.action == ZERO:
            label = f"zeroed {label}"
        return self.by_method(method) + label

    def by_method(self, method: str | None) -> str:
        """What the name of an edit begins with where several methods are compared."""
        return f"{method}, " if method is not None and len(self.method) > 1 else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all edits that are not controls."""
        if self.action == CURVATURE:
            return tuple(f"rho {rho:g}" for rho in self.rho or (RHO,))
        what = self.chosen_by or ("subnet",)
        made = (
            self.name(one, x, method) for method in self.method or (None,) for one in what for x in self.fractions(one)
        )
        return tuple(dict.fromkeys(made))

    @property
    def options(self) -> dict[str, Any]:
        """Of steps: those that were given."""
        given = ("first", "steps", "learning_rate", "per_step", "c", "beta", "stop_at", "stop_nll")
        return {name: value for name in given if (value := getattr(self, name)) is not None}


def sized(label: str, fraction: float | None) -> str:
    """The name of a mask with its size, where that was asked for."""
    return label if fraction is None else f"{label} {100 * fraction:g} %"


class Task(NamedTuple):
    """What the edits of one repeat are made of.

    Attributes:
        model: To be edited.
        forget: Set.
        keep: Set.
        seed: Of the repeat.
        known: Localizers that are not registered, by name.
        fitted: General text that curvature is measured on; None if none was set aside.
    """

    model: "HookedModel"
    forget: "Paragraphs"
    keep: "Paragraphs"
    seed: int
    known: "Mapping[str, Localizer]"
    fitted: "Paragraphs | None"

    def scores(self, name: str) -> Any:
        """Of a localizer: how much of the forget set each unit holds."""
        localizer = self.known[name] if name in self.known else get(name)
        return localizer(self.model, self.forget, self.keep)


Jobs = dict[str, Callable[[], "WeightEdit"]]
"""Edits still to be made, by their names."""


def jobs(task: Task, way: Way) -> Jobs:
    """The edits asked for by their names, and their controls by theirs."""
    from localize import balanced_subnet, rewrite, unlearn, zero_units

    model, forget, keep, seed, _, _ = task
    if way.action == CURVATURE:
        return _curvature_jobs(task, way)
    if way.action == SUBNET:
        how = {**way.options, "seed": seed}
        return {way.name("subnet", x): partial(balanced_subnet, model, forget, keep, x, **how) for x in way.shares}
    if way.action == ZERO:
        found = {name: task.scores(name) for name in way.chosen_by}
        return {
            way.name(name, x): partial(zero_units, model, forget, keep, x, scores=scores)
            for name, scores in found.items()
            for x in way.shares
        }
    masks = _masks(task, way)
    if way.action == REWRITE:
        pairs = _pairs(model, forget, seed)
        how = {**way.options, "seed": seed}
        return {label: partial(rewrite, model, pairs, keep, mask, **how) for label, mask in masks.items()}
    made: Jobs = {}
    for method in way.method or (None,):
        how = {**way.options, "seed": seed} | ({} if method is None else {"method": method})
        made |= {
            way.by_method(method) + label: partial(unlearn, model, forget, keep, mask, **how)
            for label, mask in masks.items()
        }
    return made


def _curvature_jobs(task: Task, way: Way) -> Jobs:
    from localize import curvature_edit

    assert task.fitted is not None, "curvature is measured on general text"
    made: Jobs = {}
    for label, rho in zip(way.names, way.rho or (RHO,), strict=True):
        made[label] = partial(curvature_edit, task.model, task.fitted, rho, seed=task.seed)
        if way.controls:
            made[f"random parts, {label}"] = partial(
                curvature_edit, task.model, task.fitted, rho, random=True, seed=task.seed
            )
    return made


def _masks(task: Task, way: Way) -> "dict[str, WeightMask]":
    """A mask for each localizer and fraction and, if asked for, what the first that is not of all weights is held against."""
    from localize import choose_weights, largest_weights, unit_mask
    from localize.edit.unit_masks import localized_mask

    model = task.model
    masks: dict[str, WeightMask] = {}
    held = next((name for name in way.chosen_by if name != ALL), None)
    for name in way.chosen_by:
        if name == ALL:
            masks[ALL] = choose_weights(model)
            continue
        scores = task.scores(name)
        for fraction in way.fractions(name):
            if fraction is not None:
                mask = localized_mask(model, scores, fraction)
            elif name == ORACLE:
                mask = unit_mask(model, scores, per_text=(scores.kinds[MLP_PART] > 0).sum((1, 2)))
            elif isinstance(scores, Scores):
                mask = _holding(task, scores)
            else:  # as many weights as the first mask has
                mask = largest_weights(model, scores.matrices, len(first := next(iter(masks.values()))) / first.total)
            masks[way.name(name, fraction)] = mask
            if way.controls and name == held:
                for label, control in _controls(task, mask, of_units=isinstance(scores, Scores)).items():
                    masks.setdefault(ALL if label == ALL else sized(label, fraction), control)  # unless it is asked for
    return masks


def _controls(task: Task, mask: "WeightMask", *, of_units: bool) -> "dict[str, WeightMask]":
    """What a mask is held against; those that it leaves no room for are told."""
    from localize import mask_controls
    from localize.edit.unit_masks import other_units

    controls = mask_controls(task.model, task.forget, mask, seed=task.seed)
    expected = [RANDOM, OTHER_LAYERS]
    if of_units:
        expected.append(NAMED[RANDOM])
        if (units := other_units(task.model, mask, task.seed)) is not None:
            controls[NAMED[RANDOM]] = units
    if missing := [label for label in expected if label not in controls]:
        say(f"  no control by {', '.join(missing)}: {len(mask) / mask.total:.0%} of the weights leave no room for one")
    return controls


def _holding(task: Task, scores: Scores) -> "WeightMask":
    """Of each text as many of its best units as hold half of it."""
    from localize import unit_mask, units_holding

    needed = units_holding(task.model, task.forget, task.keep, scores)
    say(f"  {scores.name}: half of a text is held by its best {' '.join(map(str, needed))} units")
    return unit_mask(task.model, scores, per_text=needed)


def _pairs(model: "HookedModel", forget: "Paragraphs", seed: int) -> "tuple[Paragraphs, Paragraphs]":
    """The paragraphs and what the model says with one prefix token replaced; those that it says all the same are left out."""
    import torch

    from localize import perturb_prefix

    copies = torch.from_numpy(
        perturb_prefix(model, forget, draws=1, seed=seed)["copy_tokens"].values[:, 0].copy()
    ).long()
    other = (copies[:, forget.prefix_length :] != forget.continuations).any(1).numpy()
    for row in np.flatnonzero(~other):
        say(f"  {forget.ids[row]!r} is said with any prefix token replaced: it has no other text to be taught")
    if not other.any():
        raise InputError(
            "--action rewrite: no paragraph changes when one of its prefix tokens does; there is nothing to teach."
        )
    said = replace(forget, tokens=copies, true_tokens=None, texts=None)
    return forget[other], said[other]
