"""What the NLL gains where a unit gives its mean, beside what that does to other texts."""

from localize.localizers.localizer import localizer
from localize.localizers.mean_ablation import means_of
from localize.localizers.scores import Scores
from localize.measure.unit_ablation import ablation_cost, unit_rises
from localize.measure.unit_deviation import robust_deviation
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "mean_ablation less its median over the others, over their median absolute deviation from that: dimensionless",
    "ours; mean ablation: Wang et al. 2022 (arXiv 2211.00593)",
    needs_others=True,
)
def mean_ablation_mad(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    assert others is not None
    means = means_of(model, others)
    own, of_others = (unit_rises(model, texts, means=means) for texts in (paragraphs, others))
    mlp, heads = (robust_deviation(*pair) for pair in zip(own, of_others, strict=True))
    read_again = len(others) / len(paragraphs)
    cost = ablation_cost(model, paragraphs) + read_again * (1 + ablation_cost(model, others))
    return Scores.of(model, paragraphs, mlp=mlp, heads=heads, cost=cost)
