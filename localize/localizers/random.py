"""Chance: what a localizer scores that knows nothing."""

import numpy as np

from localize.keyed import keyed_integer
from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer("random numbers, drawn for each paragraph by itself", "a control")
def random(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    draws = [np.random.default_rng(keyed_integer(2**63, "random scores", key)) for key in paragraphs.hashes]
    mlp, heads = (
        np.stack([draw.random((model.n_layers, size)) for draw in draws]) for size in (model.d_mlp, model.n_heads)
    )
    return Scores.of(model, paragraphs, mlp=mlp, heads=heads, cost=0.0)
