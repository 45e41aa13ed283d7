# ruff: noqa: F401  # names that only editors read
"""Figures: each takes a `MemorizationSignature` and gives a plotly `Figure` that the user can edit; `tokens` gives HTML.

The figures of what was measured are those that `localize.plots.catalogue` lists, and those that a `FigureKind` of one's own registered.
Each goes by the name of its measurement too: `plots.rare_token_heads` is `plots.heads`.
"""

from typing import TYPE_CHECKING, Any

from localize.plots.column import column
from localize.plots.export import save

if TYPE_CHECKING:  # for editors; what is not here is found all the same
    from localize.plots.figures.ablation import ablation
    from localize.plots.figures.arms import arms
    from localize.plots.figures.attention import attention
    from localize.plots.figures.bench import bench
    from localize.plots.figures.capacity import capacity
    from localize.plots.figures.capacity_by_size import capacity_by_size
    from localize.plots.figures.comparison import comparison
    from localize.plots.figures.contrast import contrast
    from localize.plots.figures.corruption import corruption
    from localize.plots.figures.counterfactual import counterfactual
    from localize.plots.figures.default import default
    from localize.plots.figures.distinguish import distinguish
    from localize.plots.figures.dose import dose
    from localize.plots.figures.early_signs import early_signs
    from localize.plots.figures.editing import editing
    from localize.plots.figures.facts import facts
    from localize.plots.figures.forgetting import forgetting
    from localize.plots.figures.gradients import gradients
    from localize.plots.figures.heads import heads
    from localize.plots.figures.locality import locality
    from localize.plots.figures.loss_change import loss_change
    from localize.plots.figures.loss_change_over_training import loss_change_over_training
    from localize.plots.figures.massive_activations import massive_activations
    from localize.plots.figures.membership import membership
    from localize.plots.figures.memorized_prior import memorized_prior
    from localize.plots.figures.memory import memory
    from localize.plots.figures.named_layers import named_layers
    from localize.plots.figures.noise import noise
    from localize.plots.figures.patch_map import patch_map
    from localize.plots.figures.patching import patching
    from localize.plots.figures.perturbation import perturb_prefix_paragraph, perturbation
    from localize.plots.figures.priming import priming
    from localize.plots.figures.recall import recall
    from localize.plots.figures.relearning import relearning
    from localize.plots.figures.resurfacing import resurfacing
    from localize.plots.figures.rules_and_facts import rules_and_facts
    from localize.plots.figures.signature import signature
    from localize.plots.figures.sinks import sinks
    from localize.plots.figures.stored_units import stored_units
    from localize.plots.figures.sweep import sweep
    from localize.plots.figures.tokens import TokenView, tokens
    from localize.plots.figures.training import training
    from localize.plots.figures.unit_dynamics import unit_dynamics
    from localize.plots.kinds import FigureKind


def _others() -> dict[str, Any]:
    """What draws something else than all that was measured, or is no figure."""
    from localize.plots.figures.bench import bench
    from localize.plots.figures.comparison import comparison
    from localize.plots.figures.default import default
    from localize.plots.figures.distinguish import distinguish
    from localize.plots.figures.memorized_prior import memorized_prior
    from localize.plots.figures.named_layers import named_layers
    from localize.plots.figures.rules_and_facts import rules_and_facts
    from localize.plots.figures.sweep import sweep
    from localize.plots.figures.tokens import TokenView, tokens
    from localize.plots.kinds import FigureKind

    theory = (memorized_prior, rules_and_facts)
    others = (FigureKind, TokenView, bench, column, comparison, default, distinguish, named_layers, save, sweep, tokens)
    return {other.__name__: other for other in (*theory, *others)}


def _public() -> dict[str, Any]:
    """Every public name: the functions of the figures by their own name and by the measurement's, and the others."""
    from localize.plots.catalogue import EDIT_KINDS, TRAINING_KINDS, kinds

    drawing = (*kinds(), *EDIT_KINDS, *TRAINING_KINDS)
    own = {kind.function.__name__: kind.function for kind in drawing}
    return _others() | own | {kind.name: kind.function for kind in drawing}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name.startswith("_") or name not in (public := _public()):
        raise AttributeError(f"module 'localize.plots' has no attribute {name!r}")
    return public[name]


def __dir__() -> list[str]:
    return sorted(_public())
