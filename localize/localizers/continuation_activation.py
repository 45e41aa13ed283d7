"""How much a unit writes where the continuation is predicted."""

from localize.localizers.localizer import localizer
from localize.localizers.ratio import texts_each
from localize.localizers.scores import Scores
from localize.measure.unit_deviation import Deviation
from localize.measure.unit_effects import UnitScores
from localize.measure.written_sizes import written_sizes
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "as activation, over the positions that predict the continuation",
    "activations: Chang et al. 2024 (arXiv 2311.09060), after Geva et al. 2022",
)
def continuation_activation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = predicting_sizes(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=1.0)


def predicting_sizes(model: HookedModel, paragraphs: Paragraphs) -> UnitScores:
    """What units write at the positions from the prefix's last token on."""
    return written_sizes(model, paragraphs.tokens, first=paragraphs.prefix_length - 1)


def predicting_sizes_apart(
    model: HookedModel, paragraphs: Paragraphs, others: Paragraphs, deviation: Deviation
) -> Scores:
    """How far what units write there lies from what they write in others: scores of MLP units and heads."""
    pairs = zip(predicting_sizes(model, paragraphs), predicting_sizes(model, others), strict=True)
    mlp, heads = (deviation(own, of_others) for own, of_others in pairs)
    return Scores.of(model, paragraphs, mlp=mlp, heads=heads, cost=texts_each(paragraphs, others))
