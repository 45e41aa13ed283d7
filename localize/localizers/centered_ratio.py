"""The ratio of what the NLL would gain if a unit gave its mean, to first order."""

from localize.localizers.localizer import localizer
from localize.localizers.mean_ablation import means_of
from localize.localizers.ratio import ratio_of, texts_each
from localize.localizers.scores import Scores
from localize.measure.unit_effects import unit_effects
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "as ratio, with each activation less its mean over the others: "
    "the estimate of a mean ablation, where ratio has one of a zero ablation",
    "ours",
    needs_others=True,
)
def centered_ratio(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    assert others is not None
    means = means_of(model, others)
    found, texts = ratio_of(lambda part: unit_effects(model, part, instead=means), paragraphs, others)
    cost = 3.0 * texts + texts_each(paragraphs, others) - 1
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=cost)
