"""Weights by the size of their gradients: the ranking of `top_weights`, under a name."""

import numpy as np
import torch

import localize as lz
from localize.axes import COMPONENTS
from localize.models.parameters import weight_view


def test_a_weights_score_is_the_size_of_its_gradient(model, rows):
    found = lz.localizers.get("weight_gradient")(model, rows)
    model.hf.zero_grad()
    logits = model(rows.tokens)[:, rows.prefix_length - 1 : -1]
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.continuations).backward()
    cells = [(layer, component) for layer in range(model.n_layers) for component in COMPONENTS]
    assert list(found.matrices) == cells
    for cell in cells:
        assert np.allclose(
            found.matrices[cell], weight_view(model, *cell, grad=True).abs().numpy(), rtol=1e-9, atol=1e-14
        )


def test_its_largest_are_the_top_weights(model, rows):
    scores = lz.localizers.get("weight_gradient")(model, rows)
    for fraction in (0.0005, 0.01, 0.3):
        named, plain = lz.largest_weights(model, scores.matrices, fraction), lz.top_weights(model, rows, fraction)
        assert named.shapes == plain.shapes
        assert named.indices.keys() == plain.indices.keys()
        assert all(torch.equal(named.indices[cell], plain.indices[cell]) for cell in plain.indices)
