"""Where does a language model keep the paragraphs it can recite, and how sure are we?"""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from localize.threads import settle_threads

if TYPE_CHECKING:
    from localize import bench, localizers, plots, theory
    from localize.analysis.aim import edit_aim
    from localize.analysis.arms import arm_table
    from localize.analysis.capacity import capacity_table
    from localize.analysis.change import Change, edit_table
    from localize.analysis.counterfactual import counterfactual, counterfactual_table
    from localize.analysis.dose import dose_table
    from localize.analysis.early_signs import early_signs
    from localize.analysis.edit_differences import edit_differences
    from localize.analysis.facts import facts_table
    from localize.analysis.forgetting import forgetting_table
    from localize.analysis.in_context import in_context_table
    from localize.analysis.lookup import LookupTest, lookup_test
    from localize.analysis.loss_change import loss_change_table
    from localize.analysis.massive_activations import massive_activation_table
    from localize.analysis.membership import membership_table
    from localize.analysis.memory import memory_agreement, memory_table
    from localize.analysis.ngram_nll import ngram_table
    from localize.analysis.paired import compare_paired
    from localize.analysis.priming import priming_table
    from localize.analysis.recital import first_recital, recital_table
    from localize.analysis.resurfacing import resurfacing_table
    from localize.analysis.runs import compare_runs
    from localize.analysis.sinks import sink_table
    from localize.analysis.summary import SummaryRow
    from localize.analysis.unit_dynamics import unit_dynamics_table
    from localize.edit.budget import units_holding
    from localize.edit.curvature import curvature_edit
    from localize.edit.evaluation import evaluate_edit
    from localize.edit.masks import WeightMask, choose_weights, largest_weights, mask_controls, top_weights
    from localize.edit.noise import noise
    from localize.edit.priming import priming
    from localize.edit.relearning import relearn
    from localize.edit.resurfacing import resurface
    from localize.edit.sets import edit_sets
    from localize.edit.subnet import balanced_subnet
    from localize.edit.unit_masks import unit_mask
    from localize.edit.units import zero_units
    from localize.edit.unlearn import rewrite, unlearn
    from localize.edit.weight_edit import WeightEdit, load_edit
    from localize.errors import InputError, LocalizeError, ModelError, SignatureError
    from localize.measure.ablate import ablate, ablation_hooks, head_means
    from localize.measure.activation_gradients import activation_gradients
    from localize.measure.contrastive_gradients import contrastive_gradients
    from localize.measure.copy_similarity import copy_similarity
    from localize.measure.corrupt_prefix import corrupt_prefix
    from localize.measure.gradients import gradients
    from localize.measure.in_context import in_context
    from localize.measure.labels import measured_signature
    from localize.measure.locality import locality
    from localize.measure.massive_activations import massive_activations
    from localize.measure.memory import memory
    from localize.measure.ngram_nll import ngram_nll
    from localize.measure.patch import patch, patch_hooks
    from localize.measure.perturb_prefix import perturb_prefix
    from localize.measure.prefix_attention import prefix_attention
    from localize.measure.rare_token_heads import rare_token_heads
    from localize.measure.recall import recall
    from localize.measure.replace_rarest import replace_rarest
    from localize.measure.set_similarity import set_similarity
    from localize.measure.sinks import sinks
    from localize.measure.stored_units import stored_units
    from localize.measurements import Axis, Measurement, Variable, register
    from localize.models.hooks import HookedModel
    from localize.models.load import load_model
    from localize.models.untrained import untrained
    from localize.paragraphs.copies import copies_of
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.paragraphs.readers import load_paragraphs
    from localize.paragraphs.unigrams import unigram_counts
    from localize.paragraphs.unseen import unseen_paragraphs
    from localize.report.page import report
    from localize.scan.scan import scan_corpus
    from localize.signature.signature import MemorizationSignature, load_signature
    from localize.sweep.over_training import over_training
    from localize.sweep.results import open_sweep
    from localize.sweep.run import run_sweep
    from localize.train.exposures import exposures
    from localize.train.loss_change import LossChange, loss_change
    from localize.train.reading import read_recipe
    from localize.train.recipe import Recipe
    from localize.train.run import train_recipe
    from localize.train.watch import Watch
    from localize.truths.loading import load_truth
    from localize.truths.plant import plant
    from localize.truths.slices import sink_truth, sink_truths
    from localize.truths.truth import Gate, Truth

__version__ = "0.1.0"

settle_threads()  # before anything loads torch

_HOME = {
    "Axis": "localize.measurements",
    "Change": "localize.analysis.change",
    "Gate": "localize.truths.truth",
    "HookedModel": "localize.models.hooks",
    "InputError": "localize.errors",
    "LocalizeError": "localize.errors",
    "LookupTest": "localize.analysis.lookup",
    "LossChange": "localize.train.loss_change",
    "Measurement": "localize.measurements",
    "MemorizationSignature": "localize.signature.signature",
    "ModelError": "localize.errors",
    "Paragraphs": "localize.paragraphs.paragraphs",
    "Recipe": "localize.train.recipe",
    "SignatureError": "localize.errors",
    "SummaryRow": "localize.analysis.summary",
    "Truth": "localize.truths.truth",
    "Variable": "localize.measurements",
    "Watch": "localize.train.watch",
    "WeightEdit": "localize.edit.weight_edit",
    "WeightMask": "localize.edit.masks",
    "ablation_hooks": "localize.measure.ablate",
    "arm_table": "localize.analysis.arms",
    "capacity_table": "localize.analysis.capacity",
    "balanced_subnet": "localize.edit.subnet",
    "bench": "localize",
    "choose_weights": "localize.edit.masks",
    "compare_paired": "localize.analysis.paired",
    "compare_runs": "localize.analysis.runs",
    "copies_of": "localize.paragraphs.copies",
    "counterfactual": "localize.analysis.counterfactual",
    "counterfactual_table": "localize.analysis.counterfactual",
    "curvature_edit": "localize.edit.curvature",
    "dose_table": "localize.analysis.dose",
    "early_signs": "localize.analysis.early_signs",
    "facts_table": "localize.analysis.facts",
    "edit_aim": "localize.analysis.aim",
    "edit_differences": "localize.analysis.edit_differences",
    "edit_sets": "localize.edit.sets",
    "edit_table": "localize.analysis.change",
    "evaluate_edit": "localize.edit.evaluation",
    "exposures": "localize.train.exposures",
    "first_recital": "localize.analysis.recital",
    "forgetting_table": "localize.analysis.forgetting",
    "head_means": "localize.measure.ablate",
    "in_context_table": "localize.analysis.in_context",
    "largest_weights": "localize.edit.masks",
    "load_edit": "localize.edit.weight_edit",
    "load_model": "localize.models.load",
    "load_paragraphs": "localize.paragraphs.readers",
    "load_signature": "localize.signature.signature",
    "load_truth": "localize.truths.loading",
    "localizers": "localize",
    "lookup_test": "localize.analysis.lookup",
    "loss_change": "localize.train.loss_change",
    "loss_change_table": "localize.analysis.loss_change",
    "mask_controls": "localize.edit.masks",
    "massive_activation_table": "localize.analysis.massive_activations",
    "measured_signature": "localize.measure.labels",
    "membership_table": "localize.analysis.membership",
    "memory_agreement": "localize.analysis.memory",
    "memory_table": "localize.analysis.memory",
    "ngram_table": "localize.analysis.ngram_nll",
    "noise": "localize.edit.noise",
    "open_sweep": "localize.sweep.results",
    "over_training": "localize.sweep.over_training",
    "patch_hooks": "localize.measure.patch",
    "plant": "localize.truths.plant",
    "plots": "localize",
    "priming": "localize.edit.priming",
    "priming_table": "localize.analysis.priming",
    "read_recipe": "localize.train.reading",
    "recital_table": "localize.analysis.recital",
    "register": "localize.measurements",
    "relearn": "localize.edit.relearning",
    "report": "localize",
    "resurface": "localize.edit.resurfacing",
    "resurfacing_table": "localize.analysis.resurfacing",
    "rewrite": "localize.edit.unlearn",
    "run_sweep": "localize.sweep.run",
    "scan_corpus": "localize.scan.scan",
    "sink_table": "localize.analysis.sinks",
    "sink_truth": "localize.truths.slices",
    "sink_truths": "localize.truths.slices",
    "theory": "localize",
    "top_weights": "localize.edit.masks",
    "train_recipe": "localize.train.run",
    "unigram_counts": "localize.paragraphs.unigrams",
    "unit_dynamics_table": "localize.analysis.unit_dynamics",
    "unit_mask": "localize.edit.unit_masks",
    "units_holding": "localize.edit.budget",
    "unlearn": "localize.edit.unlearn",
    "unseen_paragraphs": "localize.paragraphs.unseen",
    "untrained": "localize.models.untrained",
    "zero_units": "localize.edit.units",
}
"""Where each public name lives, but for the measurements, which live in a file of their name; it is imported on first use, because
torch takes seconds."""


def home_of(name: str) -> str | None:
    """The module that a public name lives in; "localize" for a room; None where there is no such name."""
    return _HOME.get(name, f"{__name__}.measure.{name}" if name in _declared() else None)


@cache
def _declared() -> frozenset[str]:
    """Names of the measurements: each has a file that declares it, and one that measures."""
    return frozenset(file.name for file in iter_modules([str(Path(__file__).parent / "measurements" / "declared")]))


__all__ = sorted({*_HOME, *_declared()})  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = home_of(name)
    if home is None:
        raise AttributeError(f"module 'localize' has no attribute {name!r}")
    value = import_module(f"{__name__}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
