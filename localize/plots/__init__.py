"""Figures: each takes a `MemorizationSignature` and gives a plotly `Figure` that the user can edit; `tokens` gives HTML."""

from localize.plots.ablation import ablation
from localize.plots.attention import attention
from localize.plots.column import column
from localize.plots.comparison import comparison
from localize.plots.contrast import contrast
from localize.plots.corruption import corruption
from localize.plots.distinguish import distinguish
from localize.plots.editing import editing
from localize.plots.export import save
from localize.plots.gradients import gradients
from localize.plots.heads import heads
from localize.plots.noise import noise
from localize.plots.patch_map import patch_map
from localize.plots.patching import patching
from localize.plots.perturbation import perturbation
from localize.plots.recall import recall
from localize.plots.relearning import relearning
from localize.plots.signature import signature
from localize.plots.sweep import sweep
from localize.plots.tokens import TokenView, tokens

__all__ = [
    "TokenView",
    "ablation",
    "attention",
    "column",
    "comparison",
    "contrast",
    "corruption",
    "distinguish",
    "editing",
    "gradients",
    "heads",
    "noise",
    "patch_map",
    "patching",
    "perturbation",
    "recall",
    "relearning",
    "save",
    "signature",
    "sweep",
    "tokens",
]
