"""The size of a unit's activation times its gradient, whichever way the NLL would go."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_effects import unit_effects
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "size of the estimated change of the NLL without each MLP unit and each head, in nats per token: gradient_activation without its sign",
    "gradient x activation: Shrikumar et al. 2016 (arXiv 1605.01713)",
)
def absolute_gradient_activation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = unit_effects(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp.abs(), heads=found.heads.abs(), cost=3.0)
