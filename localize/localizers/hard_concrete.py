"""Hard Concrete gates: which units stay where each that is not shut costs something, learned through gates drawn at random."""

import math

import torch
from torch import Tensor

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_gates import Gating, fit_gates
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

STEPS = 500
"""Of Adam, a forward and a backward pass each."""

LEARNING_RATE = 0.1
"""Chosen, as the penalty, before any truth was looked at: not tuned."""

PENALTY = 1e-3
"""What the probability that a gate is not shut adds to the NLL, in nats per token."""

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""As published: a gate is a concrete variable of that temperature, stretched to LOW .. HIGH and cut at 0 and 1."""

START = 2.0
"""Log-odds of a gate before it is stretched: nearly all are open at first."""


@localizer(
    f"log-odds of a random gate on each MLP unit and each head after {STEPS} steps "
    f"that lower the paragraph's NLL plus {PENALTY:g} times the expected number of gates that are not shut",
    "Louizos et al. 2018 (arXiv 1712.01312), as a localizer Chang et al. 2024 (arXiv 2311.09060)",
)
def hard_concrete(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = fit_gates(
        model, paragraphs, **gating(PENALTY), steps=STEPS, learning_rate=LEARNING_RATE, what="hard concrete"
    )
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0 * STEPS)


def gating(penalty: float) -> Gating:
    """Gates that are drawn, each that may be open at a price."""
    return {"start": START, "gates": drawn_gates, "penalty": lambda log_odds: penalty * chance_open(log_odds)}


def drawn_gates(log_odds: Tensor, drawn: Tensor) -> Tensor:
    """Gates in [0, 1], of log-odds and numbers drawn evenly from (0, 1)."""
    u = drawn.clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((u.log() - (1 - u).log() + log_odds) / TEMPERATURE)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def chance_open(log_odds: Tensor) -> Tensor:
    """The probability that a gate is not 0."""
    return torch.sigmoid(log_odds - TEMPERATURE * math.log(-LOW / HIGH))
