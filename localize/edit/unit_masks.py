"""Masks of whole MLP units and attention heads: those that a localizer's scores name."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from localize.axes import HEADS_PART, MLP_COMPONENTS, MLP_PART
from localize.edit.masks import WeightMask, check_fraction, choose_weights, largest_weights
from localize.errors import LocalizeError, caller
from localize.keyed import keyed_integer
from localize.localizers.scores import Scores, WeightScores
from localize.measure.inputs import reads_inputs
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count


@reads_inputs()
def unit_mask(
    model: HookedModel,
    scores: Scores,
    fraction: float | None = None,
    *,
    count: int | None = None,
    per_text: int | Sequence[int] | Int[np.ndarray, " paragraph"] | None = None,
    rows: Sequence[int] | Int[np.ndarray, " row"] | None = None,
) -> WeightMask:
    """The weights of the MLP units and heads with the largest mean scores per weight, in one ranking over all that were scored.

    A head has many times the weights of an MLP unit, and by its score alone would come before all of them: what is chosen is what
    stores most in as many weights.
    An MLP unit's weights are its column of W_in and its row of W_out, a head's its parts of W_Q, W_K, W_V and W_O. Biases are in no
    mask: they stay.

    Args:
        model: The model that was scored.
        scores: Of its units, from a localizer: `lz.localizers.get(name)(model, paragraphs, others)`.
        fraction: Of the blocks' weights, in (0, 1]: the units at the top of the ranking that fit together, at least one.
        count: So many units and heads instead.
        per_text: Instead, of each paragraph the so many MLP units with its own highest scores, joined: a number for all, or one each,
            as `units_holding` tells them.
        rows: The paragraphs whose mean score counts; None for all.

    Returns:
        Chosen from all of the blocks' weights; of those equal per weight those of lower layers come first, and in a layer MLP units before
        heads.

    Raises:
        LocalizeError: If the scores are of single weights, or of another model; if not exactly one of `fraction`, `count` and
            `per_text` is given, it is out of range, or a row is.
    """
    if not isinstance(scores, Scores):
        raise LocalizeError(
            f"{caller()}: scores are {type(scores).__name__}; Scores of units are needed (largest_weights takes scores of weights)."
        )
    scores.check(model)
    if sum(given is not None for given in (fraction, count, per_text)) != 1:
        raise LocalizeError(
            f"{caller()}: fraction={fraction}, count={count}, per_text={per_text}: exactly one of them is needed."
        )
    if per_text is not None:
        return mask_of_units(model, sorted(_best_of_each(scores, per_text, rows)))
    mean = scores.mean(rows)
    units = {MLP_PART: 2 * model.d_model, HEADS_PART: 4 * model.d_model * model.d_head}  # weights of one of each kind
    ranked = np.concatenate([values / units[kind] for kind, values in mean.items()], axis=1)  # (layer, unit)
    sizes = np.concatenate([np.full(values.shape, units[kind]) for kind, values in mean.items()], axis=1).flatten()
    order = np.argsort(-ranked.flatten(), kind="stable")
    if fraction is not None:
        check_fraction(fraction)
        count = max(1, int((sizes[order].cumsum() <= fraction * block_weight_count(model)).sum()))
    elif count not in range(1, len(order) + 1):
        raise LocalizeError(f"{caller()}: count={count} must be a whole number in 1..{len(order)}, the units scored.")
    chosen = [divmod(place, ranked.shape[1]) for place in order[:count].tolist()]
    of_mlp = mean[MLP_PART].shape[1] if MLP_PART in mean else 0
    return mask_of_units(
        model,
        [(layer, unit) for layer, unit in chosen if unit < of_mlp],
        [(layer, unit - of_mlp) for layer, unit in chosen if unit >= of_mlp],
    )


def _best_of_each(scores: Scores, per_text: Any, rows: Any) -> set[tuple[int, int]]:
    """(layer, unit) of the best MLP units of each paragraph, all together."""
    if scores.mlp is None:
        raise LocalizeError(
            f"{caller()}: per_text={per_text}: scores are of no MLP units, of which alone so many a text are taken."
        )
    chosen = scores.rows(rows)
    each = np.broadcast_to(np.asarray(per_text), len(chosen)) if np.ndim(per_text) == 0 else np.asarray(per_text)
    layers, width = scores.mlp.shape[1:]
    if (
        each.shape != (len(chosen),)
        or each.dtype.kind not in "iu"
        or not ((each >= 1) & (each <= layers * width)).all()
    ):
        raise LocalizeError(
            f"{caller()}: per_text={per_text} must be a whole number in 1..{layers * width}, or one for each of {len(chosen)} paragraphs."
        )
    found: set[tuple[int, int]] = set()
    for row, many in zip(chosen, each.tolist(), strict=True):
        order = np.argsort(-scores.mlp[row].flatten(), kind="stable")[:many]
        found |= {divmod(place, width) for place in order.tolist()}
    return found


def localized_mask(model: HookedModel, scores: Scores | WeightScores, fraction: float) -> WeightMask:
    """The units, or the single weights, with the largest scores: as many as that share of the blocks' weights holds."""
    if isinstance(scores, WeightScores):
        return largest_weights(model, scores.matrices, fraction)
    return unit_mask(model, scores, fraction)


def mask_of_units(
    model: HookedModel,
    units: Collection[tuple[int, int]],
    heads: Collection[tuple[int, int]] = (),
    *,
    components: Sequence[str] = MLP_COMPONENTS,
) -> WeightMask:
    """The weights of some MLP units and heads, chosen from all of the blocks' weights.

    Args:
        model: A hooked model.
        units: (layer, unit) of the MLP units.
        heads: (layer, head) of the heads.
        components: Of the MLP units: W_in, what they read with, W_out, what they write with, or both.
    """
    shapes = choose_weights(model).shapes
    indices = {cell: torch.zeros(0, dtype=torch.int64) for cell in shapes}
    if heads:
        indices |= choose_weights(model, heads=heads).indices
    for layer in sorted({layer for layer, _ in units}):
        mine = torch.tensor(sorted(unit for at, unit in units if at == layer))
        for component in components:
            mark = torch.zeros(shapes[layer, component], dtype=torch.bool)
            (mark.T if component == "W_in" else mark)[mine] = True  # (unit, d_model)
            indices[layer, component] = mark.flatten().nonzero()[:, 0]
    return WeightMask(indices, shapes, model.weights_hash())


def other_units(model: HookedModel, mask: WeightMask, seed: int) -> WeightMask | None:
    """As many other MLP units of each layer as a mask has, at random: the control of a mask of whole units.

    None if the mask has units of no layer, or of one more than half, so that there are not as many others.
    """
    chosen = units_in(model, mask)
    drawn: list[tuple[int, int]] = []
    for layer, mine in enumerate(chosen):
        others = np.setdiff1d(np.arange(model.d_mlp), mine)
        if len(others) < len(mine):
            return None
        generator = np.random.default_rng(keyed_integer(2**32, "other units", seed, layer))
        drawn += [(layer, int(unit)) for unit in generator.choice(others, len(mine), replace=False)]
    return mask_of_units(model, drawn) if drawn else None


def units_in(model: HookedModel, mask: WeightMask) -> list[Int[np.ndarray, " unit"]]:
    """The MLP units of each layer whose W_out rows are in a mask whole."""
    return [np.flatnonzero(mask.matrix(layer, "W_out").numpy().all(1)) for layer in range(model.n_layers)]
