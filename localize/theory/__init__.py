"""Models in which memorizing and generalizing are solved: truths for estimators, and pictures to hold experiments against."""

from localize.theory.lookup import lookup_null
from localize.theory.losses import HINGE, LOGISTIC, SQUARE, Loss
from localize.theory.memorized_plane import memorized_plane, modes_over_spread
from localize.theory.memorized_prior import Observation, memorized_curves, memorized_posterior, memorized_prior
from localize.theory.mixture import Mixture, sample_posterior
from localize.theory.rules_and_facts import rules_and_facts
from localize.theory.simulation import simulate
from localize.theory.thresholds import best_ridge, capacity, kernel_parts

__all__ = [
    "HINGE",
    "LOGISTIC",
    "SQUARE",
    "Loss",
    "Mixture",
    "Observation",
    "best_ridge",
    "capacity",
    "kernel_parts",
    "lookup_null",
    "memorized_curves",
    "memorized_plane",
    "memorized_posterior",
    "memorized_prior",
    "modes_over_spread",
    "rules_and_facts",
    "sample_posterior",
    "simulate",
]
