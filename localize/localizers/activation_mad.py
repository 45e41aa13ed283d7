"""How much more a unit writes where the continuation is predicted than it does in other texts, in units of their spread (MAD)."""

from localize.localizers.continuation_activation import predicting_sizes_apart
from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_deviation import robust_deviation
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "continuation_activation less its median over the others, over their median absolute deviation from that",
    "ours",
    needs_others=True,
)
def activation_mad(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    assert others is not None
    return predicting_sizes_apart(model, paragraphs, others, robust_deviation)
