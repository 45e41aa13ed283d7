"""Gradient x activation is what the measurement gives, of the paragraphs alone."""

import numpy as np

import localize as lz
from localize.measure.unit_effects import unit_effects


def test_it_gives_the_effects_of_units_and_heads_and_leaves_others_alone(model, rows):
    found = lz.localizers.get("gradient_activation")(model, rows[:4], rows[4:])
    expected = unit_effects(model, rows[:4])
    assert found.cost == 3.0
    assert np.array_equal(found.mlp, expected.mlp.numpy())
    assert np.array_equal(found.heads, expected.heads.numpy())
    assert all(p.grad is None for p in model.hf.parameters())
