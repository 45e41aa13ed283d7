"""What the NLL gains without a unit, measured."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_ablation import ablation_cost, unit_rises
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "rise of the NLL with each MLP unit and each head set to 0 at every position, one at a time, in nats per token: "
    "a pass for each, from its layer on",
    "zero-out: Chang et al. 2024 (arXiv 2311.09060)",
)
def zero_out(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = unit_rises(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=ablation_cost(model, paragraphs))
