"""How large the gradient of the paragraphs' mean NLL is on each weight."""

from collections.abc import Sequence

import numpy as np

from localize.axes import COMPONENTS
from localize.localizers.localizer import localizer
from localize.localizers.scores import WeightScores
from localize.measure.set_gradients import Weights, set_gradients
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "size of the gradient of the paragraphs' mean NLL by each weight, in nats per weight unit; the others play no part",
    "Stoehr et al. 2024, section 4.2",
)
def weight_gradient(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> WeightScores:
    """The absolute gradient, of every weight of the blocks."""
    cells = [(layer, component) for layer in range(model.n_layers) for component in COMPONENTS]
    gradients = mean_gradients(model, paragraphs, cells, 16, "top weights")
    return WeightScores.of(model, paragraphs, {cell: gradients[cell].abs_() for cell in cells}, cost=3.0)


def mean_gradients(
    model: HookedModel, paragraphs: Paragraphs, cells: Sequence[tuple[int, str]], batch_size: int, what: str
) -> Weights:
    """The gradient of the paragraphs' mean NLL, nats per weight unit.

    Args:
        model: A hooked model.
        paragraphs: One set.
        cells: The matrices (layer, component) wanted.
        batch_size: Paragraphs a backward pass.
        what: Words for the progress bar.
    """
    labels = np.zeros(len(paragraphs), int)
    return set_gradients(model, paragraphs, labels, batch_size=batch_size, what=what, cells=cells).by_set[0]
