"""The default: what the NLL would gain without a unit, over what other texts' NLL would move by."""

from collections.abc import Callable

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_effects import UnitScores, unit_effects
from localize.measure.unit_ratio import FLOOR, effect_ratio, effect_ratio_among
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "estimated rise of the NLL without each MLP unit and each head "
    "(minus its activation times the gradient there, summed over positions), "
    f"over its mean size on other texts plus {FLOOR:g} times the mean of that over all units: dimensionless. "
    "The other texts are those given; without, the other paragraphs that are no near-duplicates",
    "ours",
)
def ratio(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found, cost = ratio_of(lambda texts: unit_effects(model, texts), paragraphs, others)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0 * cost)


def ratio_of(
    effects: Callable[[Paragraphs], UnitScores], paragraphs: Paragraphs, others: Paragraphs | None
) -> tuple[UnitScores, float]:
    """Effects on paragraphs over their usual size on others, or among themselves, and how many texts each paragraph's takes."""
    own = effects(paragraphs)
    if others is None:
        among = (effect_ratio_among(part, paragraphs.clusters) for part in own)
        return UnitScores(*among), 1.0
    beside = (effect_ratio(part, of_others) for part, of_others in zip(own, effects(others), strict=True))
    return UnitScores(*beside), texts_each(paragraphs, others)


def texts_each(paragraphs: Paragraphs, others: Paragraphs) -> float:
    """How many texts are read for each paragraph, where the others are read once for all of them."""
    return 1 + len(others) / len(paragraphs)
