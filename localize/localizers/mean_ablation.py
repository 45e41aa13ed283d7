"""What the NLL gains where a unit gives its mean, measured."""

from localize.localizers.localizer import localizer
from localize.localizers.ratio import texts_each
from localize.localizers.scores import Scores
from localize.measure.reference_text import ReferenceText
from localize.measure.unit_ablation import ablation_cost, unit_rises
from localize.measure.unit_means import UnitMeans, unit_means
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "rise of the NLL with each MLP unit and each head set to its mean over the others at every position, "
    "one at a time, in nats per token: a pass for each, from its layer on",
    "mean ablation: Wang et al. 2022 (arXiv 2211.00593)",
    needs_others=True,
)
def mean_ablation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    assert others is not None
    found = unit_rises(model, paragraphs, means=means_of(model, others))
    cost = ablation_cost(model, paragraphs) + texts_each(paragraphs, others) - 1
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=cost)


def means_of(model: HookedModel, others: Paragraphs) -> UnitMeans:
    """What units give on average over the others, clusters of near-duplicates alike; a forward pass of each."""
    text = ReferenceText.of_paragraphs(others, others.tokens, others.source)
    return unit_means(model, text.tokens, weights=text.weights)
