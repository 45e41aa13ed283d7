"""Network Slimming: which units keep their gates where every open gate costs something."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_gates import Gating, fit_gates
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

STEPS = 100
"""Of Adam, a forward and a backward pass each."""

LEARNING_RATE = 0.003
"""Chosen, as the steps and the penalty, for recall on planted truths of a seed of its own: `tests/benchmarks/tune_localizers.py`."""

PENALTY = 3e-3
"""What the size of each gate adds to the NLL, in nats per token."""


@localizer(
    f"value of a gate on each MLP unit and each head, 1 at first, after {STEPS} steps "
    f"that lower the paragraph's NLL plus {PENALTY:g} times the sum of the gates' sizes",
    "Network Slimming: Liu et al. 2017 (arXiv 1708.06519), as a localizer Chang et al. 2024 (arXiv 2311.09060)",
)
def slimming(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = fit_gates(model, paragraphs, **gating(PENALTY), steps=STEPS, learning_rate=LEARNING_RATE, what="slimming")
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0 * STEPS)


def gating(penalty: float) -> Gating:
    """Gates that are learned as they are, each at a price."""
    return {"start": 1.0, "gates": lambda learned, _: learned, "penalty": lambda learned: penalty * learned.abs()}
