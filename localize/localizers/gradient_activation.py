"""What each unit's activation times its gradient says of the NLL without it."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_effects import unit_effects
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "estimated rise of the NLL without each MLP unit and each head, in nats per token: "
    "minus the sum over positions of its activation times the gradient there; the others play no part",
    "gradient x activation: Shrikumar et al. 2016 (arXiv 1605.01713); signed so that a unit that the recital needs is above 0",
)
def gradient_activation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = unit_effects(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0)
