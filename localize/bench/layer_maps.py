"""What maps of weight gradients say of texts whose layer is known: which layer they name, and how they differ from held-out text."""

from dataclasses import dataclass

import numpy as np

from localize.bench.ranking import named_right
from localize.measure.gradients import gradients
from localize.truths.truth import Truth

COMPONENTS = ("W_in", "W_out")
SHARE, NORM, MAX, OVER_HELD_OUT = "gradient_share", "gradient_norm", "gradient_max", "share_over_held_out"
STATISTICS = {
    SHARE: "largest share of the squared gradient",
    NORM: "largest gradient norm",
    MAX: "largest single gradient",
    OVER_HELD_OUT: "largest share over that of held-out text",
}
"""How a map can be read, in words: which layer has the most of what."""


@dataclass(frozen=True)
class LayerMap:
    """The gradient map of one text over layers: MLP weights, true continuation.

    Attributes:
        text: Its name.
        layer: Where it is kept; None of held-out text.
        shares: Each layer's part of the squared norm; they sum to 1.
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
        texts, others = truth.paragraphs[held], truth.others
        own, held_out = (_by_layer(gradients(model, some, sets=False).dataset) for some in (texts, others))
        usual = held_out[SHARE].mean(0)
        for some, layers, of_layer in (
            (texts, truth.nominal[held].any(2).argmax(1).tolist(), own),
            (others, [None] * len(others), held_out),
        ):
            of_layer[OVER_HELD_OUT] = of_layer[SHARE] / usual
            for row, (name, layer) in enumerate(zip(some.ids, layers, strict=True)):
                each = {statistic: values[row] for statistic, values in of_layer.items()}
                right = {s: float("nan") if layer is None else named_right(v, layer) for s, v in each.items()}
                named = {s: int(v.argmax()) for s, v in each.items()}
                maps.append(LayerMap(name, layer, tuple(each[SHARE].tolist()), named, right))
    return maps


def _by_layer(dataset) -> dict[str, np.ndarray]:
    """(paragraph, layer) of each statistic: the part of the squared norm, the norm of all weights, the largest of all."""
    values = {
        name: dataset[name].sel(component=list(COMPONENTS)).transpose("paragraph", "layer", "component").values
        for name in (NORM, MAX)
    }
    squares = (values[NORM].astype(float) ** 2).sum(2)
    return {SHARE: squares / squares.sum(1, keepdims=True), NORM: np.sqrt(squares), MAX: values[MAX].max(2)}
