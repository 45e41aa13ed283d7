"""Which MLP units and attention heads a paragraph's recital rests on more than other texts do."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.errors import LocalizeError, caller
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of
from localize.measure.unit_effects import UnitScores, unit_effects
from localize.measure.unit_ratio import FLOOR, effect_ratio_among
from localize.models.hooks import HookedModel
from localize.models.untrained import untrained as untrained_twin
from localize.paragraphs.paragraphs import Paragraphs
from localize.statistics.ranking import ranked

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

BEST = 64
"""Of the untrained twin so many units a paragraph are kept: its scores are a null for the best ones."""

DROPPED_BITS = 13
"""Of a score's 23 bits of mantissa: 10 are left, as in float16, which is finer than the gradients' own rounding lets scores agree."""


@reads_inputs("paragraphs")
def stored_units(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    floor: float = FLOOR,
    untrained: bool = True,
    seed: int = 0,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """How strongly each MLP unit and each attention head stores each paragraph: the localizer "ratio", as a measurement.

    A unit's effect is the rise of the paragraph's NLL that is to be expected without it, to first order: minus its activation times
    the gradient there, summed over positions. The score is that over the unit's usual size of effect: the mean of its absolute value
    over the paragraphs outside of the paragraph's own cluster of near-duplicates, plus `floor` times the mean of that over units.
    A unit that every text needs scores near 0 or 1 whatever it does; one that this text alone needs scores high. Scores rank the
    units of one text: their level falls with the text's own loss, as all of its gradients do, so that between texts, groups or
    models only shares compare.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs, of the continuation that they hold; each is scored against the others, so that a score depends
            on its company.
        floor: In mean usual sizes over all units of the same kind; above 0.
        untrained: Also score a model of the same shape with random weights: of any number of units the best score high.
        seed: Of the twin's weights.
        batch_size: Paragraphs a backward pass.

    Returns:
        `unit_score` and `head_score`, dimensionless, with the sign of the effect, rounded to 10 bits of mantissa; of the twin
        `head_score_untrained`, of its 64 best units a paragraph `unit_score_untrained` and `unit_layer_untrained`, and
        `unit_score_sum_untrained`, the sum of its scores above 0. All nan where fewer than two clusters have any effect: then
        there is nothing to compare with. Recall is attached.

    Raises:
        LocalizeError: If `floor` is not above 0.
        InputError: If the paragraphs do not fit the model.
    """
    if not floor > 0:
        raise LocalizeError(f"{caller()}: floor={floor} must be above 0.")
    recall = recall_of(model, paragraphs)
    found = ratio_scores(model, paragraphs, floor, batch_size)
    arrays = {"unit_score": found.mlp, "head_score": found.heads}
    if untrained:
        twin = ratio_scores(untrained_twin(model, seed), paragraphs, floor, batch_size)
        score, layer = best_units(twin.mlp.numpy(), BEST)
        total = twin.mlp.clamp(min=0).sum((1, 2))
        arrays |= {"unit_score_untrained": score, "unit_score_sum_untrained": total, "unit_layer_untrained": layer}
        arrays["head_score_untrained"] = twin.heads
    call = {
        "measurement": "stored_units",
        "floor": floor,
        "untrained": untrained,
        "seed": seed,
        "batch_size": batch_size,
    }
    ranks = range(1, 1 + min(BEST, model.n_layers * model.d_mlp))
    axes = {"unit": range(model.d_mlp)} | ({"unit_rank": ranks} if untrained else {})
    return labelled(model, paragraphs, recall, arrays, call=call, axes=axes)


def ratio_scores(model: HookedModel, paragraphs: Paragraphs, floor: float = FLOOR, batch_size: int = 16) -> UnitScores:
    """Effects over their usual size on the other clusters, float32, rounded; nan where there is no other that has an effect."""
    effects = unit_effects(model, paragraphs, batch_size=batch_size, what="stored units")
    return UnitScores(*(_scored(part, paragraphs.clusters, floor) for part in effects))


def _scored(
    effects: Float[Tensor, "paragraph layer unit"], clusters: Int[np.ndarray, " paragraph"], floor: float
) -> Float[Tensor, "paragraph layer unit"]:
    moved = effects.flatten(1).abs().sum(1).numpy() > 0
    if len(np.unique(clusters[moved])) < 2:
        return torch.full(effects.shape, torch.nan)
    return shortened(effect_ratio_among(effects, clusters, floor).float())


def shortened(values: Float[Tensor, "*cell"]) -> Float[Tensor, "*cell"]:
    """The nearest numbers of 10 bits of mantissa, ties away from 0: a file of them is two thirds as large."""
    half, mask = 1 << (DROPPED_BITS - 1), -(1 << DROPPED_BITS)
    return ((values.view(torch.int32) + half) & mask).view(torch.float32)


def best_units(
    scores: Float[np.ndarray, "paragraph layer unit"], count: int
) -> tuple[Float[np.ndarray, "paragraph rank"], Int[np.ndarray, "paragraph rank"]]:
    """The highest scores of each paragraph, from the best one down, and the layers of these units, -1 where there is no score."""
    flat = scores.reshape(len(scores), -1)
    order = ranked(flat)[:, :count]
    best = np.take_along_axis(flat, order, axis=1)
    return best, np.where(np.isnan(best), -1, order // scores.shape[2])
