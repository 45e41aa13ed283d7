"""Zeroing the MLP units that matter most to chosen paragraphs: a baseline without a step of training."""

import numpy as np
import torch
from jaxtyping import Float

from localize.edit.descent import ChosenWeights
from localize.edit.masks import check_fraction
from localize.edit.sets import check_apart
from localize.edit.unit_masks import mask_of_units
from localize.edit.weight_edit import WeightEdit
from localize.errors import LocalizeError, caller
from localize.localizers import DEFAULT, get
from localize.localizers.scores import Scores, WeightScores
from localize.measure.inputs import reads_inputs
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count
from localize.paragraphs.paragraphs import Paragraphs


@reads_inputs("forget", "keep")
def zero_units(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    fraction: float = 0.01,
    *,
    scores: Scores | WeightScores | None = None,
) -> WeightEdit:
    """Zero what the MLP units write that store the forget set, by a localizer's scores.

    The units with the highest mean scores over the forget set lose their rows of W_out. The default localizer divides the rise of the
    NLL that is to be expected without a unit by what that of the keep set's paragraphs is usually moved by: a unit that all text
    needs stays.

    Args:
        model: A hooked model; it stays as it is.
        forget: Paragraphs to forget; of their `tokens`.
        keep: Paragraphs to hold.
        fraction: Of the blocks' weights that may change, in (0, 1]: whole units are taken, as many as fit
            and score above 0, at least one.
        scores: Of a localizer, for the forget set's paragraphs; None for those of the default one, with the keep set as the others.

    Returns:
        What changed; `call["units"]` lists (layer, unit), the one with the highest score first.

    Raises:
        InputError: If the sets overlap, share near-duplicates, or do not fit the model.
        LocalizeError: If `fraction` is out of range, or the scores are of other paragraphs, another model or no MLP units.

    Source:
        Zeroing by attribution: Chang et al. 2024 (arXiv 2311.09060), there by other attributions.
    """
    check_fraction(fraction)
    check_apart(model, forget, keep)
    scores = get(DEFAULT)(model, forget, keep) if scores is None else scores
    mean = _means(model, forget, scores)
    count = min(int(fraction * block_weight_count(model) / model.d_model), int((mean > 0).sum()))
    order = np.argsort(-mean, kind="stable")[: max(1, count)]
    units = [divmod(int(place), model.d_mlp) for place in order]
    mask = mask_of_units(model, units, components=("W_out",))
    call = {
        "measurement": "zero_units",
        "fraction": fraction,
        "localizer": scores.name,
        "units": [list(unit) for unit in units],
        "masked": len(mask),
        "of": mask.total,
        "forget": [digest.hex() for digest in forget.hashes],
        "keep": [digest.hex() for digest in keep.hashes],
    }
    before = ChosenWeights(model, mask).before
    return WeightEdit.of(mask, before, {cell: torch.zeros_like(values) for cell, values in before.items()}, call)


def _means(model: HookedModel, forget: Paragraphs, scores: Scores | WeightScores) -> Float[np.ndarray, " unit"]:
    """Mean score of each MLP unit over the forget set, all layers in one row."""
    if not isinstance(scores, Scores) or scores.mlp is None:
        raise LocalizeError(f"{caller()}: scores are of no MLP units, which is what is zeroed.")
    scores.check(model)
    if scores.data_hash != forget.data_hash:
        raise LocalizeError(f"{caller()}: scores are of other paragraphs than the forget set.")
    return scores.mlp.mean(0).flatten()
