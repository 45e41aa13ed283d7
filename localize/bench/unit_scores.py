"""Scores of units from whatever a localizer gives: those of single weights are summed over a unit's."""

from time import perf_counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from localize.axes import ATTENTION_COMPONENTS, HEADS_PART, MLP_PART
from localize.localizers import Localizer, WeightScores
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


class LocatedUnits(NamedTuple):
    """What a localizer made of some texts.

    Attributes:
        units: Of one part of the model; None if the localizer scores none of it.
        layers: Sums over a layer's units, of all parts that were scored.
        cost: Forward passes a text; None if nobody counted.
        seconds: Of wall time a text.
    """

    units: Float[np.ndarray, "text layer unit"] | None
    layers: Float[np.ndarray, "text layer"]
    cost: float | None
    seconds: float


def unit_scores(
    localizer: Localizer, model: HookedModel, texts: Paragraphs, others: Paragraphs | None, part: str
) -> LocatedUnits:
    """Run a localizer.

    One that scores single weights scores several texts together, so that it is run on each text alone; a unit's score is the L2 norm
    of those of its weights: a column of W_in and a row of W_out, or a head's parts of W_Q, W_K, W_V and W_O.

    Args:
        localizer: To run.
        model: A hooked model.
        texts: To locate.
        others: That they are told apart from.
        part: "mlp" or "heads".
    """
    began = perf_counter()
    found = localizer(model, texts, others)
    if isinstance(found, WeightScores):
        if len(texts) > 1:
            began = perf_counter()  # what was scored together is of no use here
            alone = [localizer(model, texts[[row]], others) for row in range(len(texts))]
        else:
            alone = [found]
        summed = [summed_over_units(one, model) for one in alone if isinstance(one, WeightScores)]
        kinds = {name: np.stack([one[name] for one in summed]) for name in (MLP_PART, HEADS_PART)}
        layers = np.sum([values.sum(2) for values in kinds.values()], axis=0)
    else:
        kinds, layers = found.kinds, found.layers()
    return LocatedUnits(kinds.get(part), layers, found.cost, (perf_counter() - began) / len(texts))


def summed_over_units(found: WeightScores, model: HookedModel) -> dict[str, Float[np.ndarray, "layer unit"]]:
    """The norm of the scores of each unit's weights, by part."""
    squares = {
        MLP_PART: np.zeros((model.n_layers, model.d_mlp)),
        HEADS_PART: np.zeros((model.n_layers, model.n_heads)),
    }
    for (layer, component), values in found.matrices.items():
        by_input = component in (
            "W_out",
            "W_O",
        )  # a unit's weights are a row of what reads it, a column of what makes it
        of_line = np.square(values, dtype=np.float64).sum(1 if by_input else 0)
        if component in ATTENTION_COMPONENTS:
            squares[HEADS_PART][layer] += of_line.reshape(model.n_heads, -1).sum(1)
        else:
            squares[MLP_PART][layer] += of_line
    return {part: np.sqrt(values) for part, values in squares.items()}
