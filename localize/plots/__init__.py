"""Figures: each takes a `MemorizationSignature` and gives a plotly `Figure` that the user can edit; `tokens` gives HTML."""

from localize.plots.column import column
from localize.plots.export import save
from localize.plots.figures.ablation import ablation
from localize.plots.figures.attention import attention
from localize.plots.figures.comparison import comparison
from localize.plots.figures.contrast import contrast
from localize.plots.figures.corruption import corruption
from localize.plots.figures.distinguish import distinguish
from localize.plots.figures.editing import editing
from localize.plots.figures.gradients import gradients
from localize.plots.figures.heads import heads
from localize.plots.figures.noise import noise
from localize.plots.figures.patch_map import patch_map
from localize.plots.figures.patching import patching
from localize.plots.figures.perturbation import perturbation
from localize.plots.figures.recall import recall
from localize.plots.figures.relearning import relearning
from localize.plots.figures.signature import signature
from localize.plots.figures.sweep import sweep
from localize.plots.figures.tokens import TokenView, tokens

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
