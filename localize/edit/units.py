"""Zeroing the MLP units that matter most to chosen paragraphs: a baseline without a step of training."""

import torch

from localize.edit.descent import ChosenWeights
from localize.edit.masks import check_fraction
from localize.edit.sets import check_apart
from localize.edit.unit_masks import mask_of_units
from localize.edit.weight_edit import WeightEdit
from localize.measure.inputs import reads_inputs
from localize.measure.unit_effects import unit_effects
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count
from localize.paragraphs.paragraphs import Paragraphs


@reads_inputs("forget", "keep")
def zero_units(
    model: HookedModel, forget: Paragraphs, keep: Paragraphs, fraction: float = 0.01, *, batch_size: int = 16
) -> WeightEdit:
    """Zero what the MLP units write that help the forget set more than the keep set.

    A unit's effect is estimated by its gradient: taking its output away changes the mean NLL by about minus the product of its row of
    W_out with that row's gradient. The units with the largest estimated rise for the forget set, less that for the keep set, lose
    their rows.

    Args:
        model: A hooked model; it stays as it is.
        forget: Paragraphs to forget; of their `tokens`.
        keep: Paragraphs to hold.
        fraction: Of the blocks' weights that may change, in (0, 1]: whole units are taken, as many as fit
            and are estimated to help, at least one.
        batch_size: Paragraphs a backward pass.

    Returns:
        What changed; `call["units"]` lists (layer, unit), the one with the largest estimate first.

    Raises:
        InputError: If the sets overlap, share near-duplicates, or do not fit the model.
        LocalizeError: If `fraction` is out of range.

    Source:
        Zeroing by attribution: Chang et al. 2024 (arXiv 2311.09060), there by other attributions.
    """
    check_fraction(fraction)
    check_apart(model, forget, keep)
    helps, holds = (unit_effects(model, part, batch_size=batch_size).mlp.mean(0) for part in (forget, keep))
    rise = helps - holds
    count = max(1, min(rise.numel(), int(fraction * block_weight_count(model) / model.d_model)))
    order = rise.flatten().argsort(descending=True, stable=True)[: min(count, max(1, int((rise > 0).sum())))]
    units = [(int(place) // model.d_mlp, int(place) % model.d_mlp) for place in order]
    mask = mask_of_units(model, units, components=("W_out",))
    call = {
        "measurement": "zero_units",
        "fraction": fraction,
        "batch_size": batch_size,
        "units": [list(unit) for unit in units],
        "masked": len(mask),
        "of": mask.total,
        "forget": [digest.hex() for digest in forget.hashes],
        "keep": [digest.hex() for digest in keep.hashes],
    }
    before = ChosenWeights(model, mask).before
    return WeightEdit.of(mask, before, {cell: torch.zeros_like(values) for cell, values in before.items()}, call)
