"""How large a unit's writing weights are, whatever the paragraph: what a truth must not leak."""

import torch

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.written_sizes import row_norms
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "L2 norm of each MLP unit's row of W_out and of each head's part of W_O, the same for every paragraph",
    "a control",
)
def norm(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    layers = range(model.n_layers)
    mlp = torch.stack([row_norms(model, layer) for layer in layers])
    w_o = torch.stack([split_heads(model.weight(layer, "W_O"), "W_O", model.n_heads) for layer in layers])
    heads = torch.linalg.vector_norm(w_o, dim=(2, 3), dtype=mlp.dtype)
    each = (part.expand(len(paragraphs), -1, -1) for part in (mlp, heads))
    return Scores.of(model, paragraphs, **dict(zip(("mlp", "heads"), each, strict=True)), cost=0.0)
