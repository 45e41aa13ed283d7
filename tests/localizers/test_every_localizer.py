"""What every localizer of the package keeps to: shapes, what it costs, that a paragraph's scores are its own; and a model with a known answer."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.localizers import Scores
from localize.localizers import hard_concrete as _
from localize.localizers.localizer import Localizer

ONE_GRADIENT = ("gradient_activation", "absolute_gradient_activation", "row_gradient")
WITH_OTHERS = (
    "activation_mad",
    "activation_z",
    "centered_ratio",
    "edge_attribution",
    "mean_ablation",
    "mean_ablation_mad",
    "two_stage",
)
ALONE = (
    *ONE_GRADIENT,
    "activation",
    "continuation_activation",
    "hard_concrete",
    "integrated_gradients",
    "norm",
    "random",
    "slimming",
    "zero_out",
)
EITHER = ("ratio", "integrated_gradients_ratio")
EXACT = ("zero_out", "mean_ablation", "mean_ablation_mad", "two_stage")
BLIND = ("norm", "random", "weight_gradient")
"""Those that know nothing of a paragraph, or score no units."""
