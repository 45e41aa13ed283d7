"""How low a unit's bias is, whatever the paragraph: what new units of a truth may differ in from those of the base."""

import torch

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.models.blocks import wiring
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer("minus the bias of each MLP unit, the same for every paragraph", "a control")
def bias(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units."""
    biases = torch.stack([wiring(model, layer).c_fc.bias.detach() for layer in range(model.n_layers)])
    return Scores.of(model, paragraphs, mlp=-biases.expand(len(paragraphs), -1, -1), cost=0.0)
