"""Figures: each takes a `MemorizationSignature` and gives a plotly `Figure` that the user can edit."""

from localize.plots.ablation import ablation
from localize.plots.contrast import contrast
from localize.plots.gradients import gradients
from localize.plots.heads import heads
from localize.plots.perturbation import perturbation
from localize.plots.signature import signature

__all__ = ["ablation", "contrast", "gradients", "heads", "perturbation", "signature"]
