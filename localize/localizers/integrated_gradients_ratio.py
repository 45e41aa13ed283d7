"""The ratio, of integrated gradients in place of one gradient."""

from localize.localizers.integrated_gradients import STEPS, path_effects
from localize.localizers.localizer import localizer
from localize.localizers.ratio import ratio_of
from localize.localizers.scores import Scores
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "integrated_gradients over their mean size on other texts plus a floor, as in ratio: dimensionless",
    "ours; integrated gradients: Sundararajan et al. 2017 (arXiv 1703.01365)",
)
def integrated_gradients_ratio(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found, cost = ratio_of(lambda texts: path_effects(model, texts), paragraphs, others)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0 * STEPS * cost)
