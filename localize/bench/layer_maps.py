"""What maps of weight gradients say of texts whose layer is known: which layer they name, and how they differ from held-out text."""

from dataclasses import dataclass

import numpy as np

from localize.bench.ranking import named_right
from localize.measure.gradients import gradients
from localize.truths.truth import Truth

COMPONENTS = ("W_in", "W_out")
SHARE, NORM, MAX = STATISTICS = ("gradient_share", "gradient_norm", "gradient_max")


@dataclass(frozen=True)
class LayerMap:
    """The gradient map of one text over layers: MLP weights, true continuation.

    Attributes:
        text: Its name.
        layer: Where it is kept; None of held-out text.
        shares: Each layer's part of the squared norm.
        named: The layer with the highest value, by statistic.
        right: Whether that is the text's, by statistic; nan of held-out text.
    """

    text: str
    layer: int | None
    shares: tuple[float, ...]
    named: dict[str, int]
    right: dict[str, float]


def layer_maps(truth: Truth) -> list[LayerMap]:
    """Maps of a truth's texts and of its held-out text, in the planted model, by the suite's own measurement `gradients`."""
    maps: list[LayerMap] = []
    for model, held in truth.models():
        for texts, layers in (
            (truth.paragraphs[held], truth.nominal[held].any(2).argmax(1).tolist()),
            (truth.others, [None] * len(truth.others)),
        ):
            of_layer = _by_layer(gradients(model, texts, sets=False).dataset)
            for row, (name, layer) in enumerate(zip(texts.ids, layers, strict=True)):
                each = {statistic: values[row] for statistic, values in of_layer.items()}
                right = {s: float("nan") if layer is None else named_right(v, layer) for s, v in each.items()}
                named = {s: int(v.argmax()) for s, v in each.items()}
                maps.append(LayerMap(name, layer, tuple(each[SHARE].tolist()), named, right))
    return maps


def _by_layer(dataset) -> dict[str, np.ndarray]:
    """(paragraph, layer) of each statistic: the sum of shares, the norm of all weights, the largest of all."""
    values = {
        name: dataset[name].sel(component=list(COMPONENTS)).transpose("paragraph", "layer", "component").values
        for name in STATISTICS
    }
    return {
        SHARE: values[SHARE].sum(2),
        NORM: np.sqrt((values[NORM] ** 2).sum(2)),
        MAX: values[MAX].max(2),
    }
