"""Whether some activations dwarf all others, and how sparse activations are, layer by layer, beside a model with random weights."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.massive_activations import TIMES, measured
from localize.errors import public
from localize.plots.groups import groups_of
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.over_training import null_band
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import axis_words
from localize.signature.schema import range_of
from localize.statistics import cluster_bootstrap

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

TWIN = "random weights"
LEFT, STEP, WIDE, HEIGHT, UNDER = 44, 236, 176, 170, 40
TITLES = {
    "activation_ratio": ("Largest activation of the stream", "over the median one; dotted: called massive", "largest over median"),
    "stream_sparsity": ("Sparsity of the stream", "0: all alike, 1: all but one are 0", "Hoyer sparsity"),
    "mlp_sparsity": ("Sparsity of the MLP", "0: all alike, 1: all but one are 0", "Hoyer sparsity"),
}  # fmt: skip
"""Of each variable the panel's title, its note and its axis."""


@public("plots.massive_activations")
def massive_activations(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """The largest activation of each layer's stream over the median one, and how sparse stream and MLP are.

    An activation above the dotted line, 1,000 medians, is called massive where it is above 100, too. Grey and dashed: a model of the same
    shape with random weights, on the same texts. 95 % bands by bootstrap over clusters.

    Args:
        signature: Holds `localize.massive_activations`, of one model.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: If the signature lacks the measurement.
    """
    measured(signature)
    sheet = Sheet()
    boxes = [Box(LEFT + STEP * column, TITLE + NOTE, WIDE, HEIGHT) for column in range(len(TITLES))]
    for box, name in zip(boxes, TITLES, strict=True):
        _by_layer(sheet, box, signature, name, seed)
    return sheet.finish(boxes[0].bottom + UNDER)


def _by_layer(sheet: Sheet, box: Box, signature: "MemorizationSignature", name: str, seed: int) -> None:
    """One variable in every layer: the twin's, then each group's."""
    dataset, possible = signature.dataset, range_of(signature.dataset, name)
    layers, (title, note, words) = dataset["layer"].values, TITLES[name]
    x = {"title": {"text": axis_words("layer")}, "tickvals": layers[:: max(1, len(layers) // 6)]}
    ratio = name == "activation_ratio"
    y = {"type": "log", "dtick": 1} if ratio else {"nticks": 6}
    panel = sheet.panel(box, title, note, x=x, y={"title": {"text": words}} | y)
    if ratio:
        _massive(panel, layers)
    if (twin := f"{name}_untrained") in dataset:
        null = cluster_bootstrap(dataset[twin].values.astype(float), dataset["cluster"].values, seed=seed)
        null_band(panel, layers, null.within(possible), TWIN)
    for group in groups_of(signature):
        panel.curve(layers, group.interval(dataset[name].values, seed, possible), group, markers=True)


def _massive(panel: Panel, layers: np.ndarray) -> None:
    """A landmark: from where on an activation is called massive."""
    import plotly.graph_objects as go

    ends = np.array([layers[0] - 0.3, layers[-1] + 0.3])
    style = {"color": "#777777", "width": 1, "dash": "dot"}
    line = go.Scatter(x=ends, y=np.full(2, TIMES), mode="lines", line=style, showlegend=False, hoverinfo="name")
    panel.add(line.update(name="1,000 medians"), "landmark")


KIND = FigureKind(
    "massive_activations",
    needs=(("activation_ratio",), ("stream_sparsity",), ("mlp_sparsity",)),
    title="Massive activations and sparsity",
    caption="The largest absolute activation of the residual stream that leaves a layer over the median one there, mean over paragraphs; "
    "above the dotted line, 1,000 medians, it is called massive. Then the Hoyer sparsity of that stream and of the MLP's activations where "
    f"the continuation is predicted. Grey: a model of the same shape with random weights. {BANDS}",
    function=massive_activations,
)
