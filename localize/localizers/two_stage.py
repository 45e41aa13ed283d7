"""The ratio, with what the best units do measured in place of estimated."""

import torch

from localize.localizers.localizer import localizer
from localize.localizers.mean_ablation import means_of
from localize.localizers.ratio import texts_each
from localize.localizers.scores import Scores
from localize.measure.unit_ablation import ChosenUnits, ablation_cost, unit_rises
from localize.measure.unit_effects import UnitScores, unit_effects
from localize.measure.unit_ratio import effect_ratio
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.statistics.ranking import ranks

BEST = 128
"""MLP units of each paragraph, and heads, that are ablated: those of the highest ratios."""


@localizer(
    f"as ratio, for the {BEST} MLP units and {BEST} heads of the highest ratios "
    "with the rise of the NLL when each is set to its mean over the others in place of the estimate",
    "ours",
    needs_others=True,
)
def two_stage(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    assert others is not None
    own, of_others = (unit_effects(model, texts) for texts in (paragraphs, others))
    places = (ranks(effect_ratio(*pair).numpy()) for pair in zip(own, of_others, strict=True))
    chosen = ChosenUnits(*(torch.from_numpy(place < BEST) for place in places))
    rises = unit_rises(model, paragraphs, means=means_of(model, others), chosen=chosen)
    kinds = zip(chosen, rises, own, of_others, strict=True)
    found = UnitScores(*(effect_ratio(torch.where(best, rise, part), usual) for best, rise, part, usual in kinds))
    cost = (
        3.0 * texts_each(paragraphs, others) + len(others) / len(paragraphs) + ablation_cost(model, paragraphs, chosen)
    )
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=cost)
