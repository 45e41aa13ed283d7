"""Paragraphs to forget and to keep, and the plain way of editing, for small models."""

import pytest
import torch

from localize.axes import COMPONENTS
from localize.models.parameters import weight_view


@pytest.fixture
def rows(make_rows):
    """Twelve unlike paragraphs of 24 + 16 random tokens."""
    return make_rows(12)


@pytest.fixture
def sets(rows):
    """A forget set of three and a keep set of four of them."""
    return rows[:3], rows[3:7]


@pytest.fixture
def all_weights():
    """`all_weights(model)`: every component's matrix, copied."""

    def copied(model):
        return {
            (layer, name): model.weight(layer, name).clone() for layer in range(model.n_layers) for name in COMPONENTS
        }

    return copied


@pytest.fixture
def by_hand():
    """`by_hand(model, objective, mask, steps, learning_rate)`: AdamW written out on whole matrices, of which a mask's entries move."""

    def go(model, objective, mask, steps, learning_rate, weight_decay=0.0):
        moved = model.copied()
        cells = [cell for cell in mask.shapes]
        chosen = {cell: mask.matrix(*cell) for cell in cells}
        first, second = ({cell: 0.0 for cell in cells} for _ in range(2))
        for step in range(1, steps + 1):
            moved.hf.zero_grad()
            objective(moved).backward()
            for layer, name in cells:
                gradient = weight_view(moved, layer, name, grad=True)
                first[layer, name] = 0.9 * first[layer, name] + 0.1 * gradient
                second[layer, name] = 0.999 * second[layer, name] + 0.001 * gradient**2
                mean, square = first[layer, name] / (1 - 0.9**step), second[layer, name] / (1 - 0.999**step)
                weight = moved.weight(layer, name)
                new = weight * (1 - learning_rate * weight_decay) - learning_rate * mean / (square.sqrt() + 1e-8)
                weight.copy_(torch.where(chosen[layer, name], new, weight))
        moved.hf.zero_grad()
        return moved

    return go
