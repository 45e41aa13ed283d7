"""What the NLL gains along the way from the model as it is to one without MLP units and heads, unit by unit."""

import torch

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_effects import UnitScores, unit_effects
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

STEPS = 20
"""Passes on the way, at the middle of equal parts of it. The scores of eight of the embedded model's texts then sum to the whole
rise within .6 %."""


@localizer(
    "integrated gradients of the NLL by gates on all MLP units and heads together, from 1 to 0, in nats per token: "
    f"summed over units they are what the NLL rises by without any. {STEPS} steps",
    "Sundararajan et al. 2017 (arXiv 1703.01365); on activations Dai et al. 2022 (arXiv 2104.08696), there a layer at a time",
)
def integrated_gradients(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = path_effects(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0 * STEPS)


def path_effects(model: HookedModel, paragraphs: Paragraphs) -> UnitScores:
    """The mean of `unit_effects` over the way."""
    each = [unit_effects(model, paragraphs, gate=(step + 0.5) / STEPS, what="path") for step in range(STEPS)]
    return UnitScores(*(torch.stack(parts).mean(0) for parts in zip(*each, strict=True)))
