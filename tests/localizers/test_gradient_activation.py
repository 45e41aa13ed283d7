"""The estimated rise of a paragraph's NLL without a unit, against small steps and against the gradients of the weights."""

import numpy as np
import pytest

import localize as lz
from localize.localizers.gradient_activation import unit_effects
from localize.measure.set_gradients import set_gradients


def test_a_units_effect_is_the_slope_of_each_paragraphs_loss_as_it_fades(model, rows):
    effects, step = unit_effects(model, rows), 1e-5
    for layer, unit in ((0, 5), (2, 100), (1, 0)):
        moved = model.copied()
        moved.weight(layer, "W_out")[unit] *= 1 - step
        rise = lz.recall(moved, rows)["nll"].values - lz.recall(model, rows)["nll"].values
        assert effects[:, layer, unit].numpy() == pytest.approx(rise / step, rel=1e-3, abs=1e-7)


def test_the_mean_over_paragraphs_is_minus_what_a_unit_writes_with_times_its_gradient(model, rows):
    cells = [(layer, "W_out") for layer in range(model.n_layers)]
    gradients = set_gradients(model, rows, np.zeros(len(rows), int), cells=cells, show=False).by_set[0]
    mean = unit_effects(model, rows).mean(0)
    for layer, cell in enumerate(cells):
        expected = -(gradients[cell] * model.weight(*cell)).sum(1)
        assert float((mean[layer] - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_it_is_the_same_whatever_the_batch(model, rows):
    whole = unit_effects(model, rows)
    for size in (1, 3):
        assert float((unit_effects(model, rows, size) - whole).abs().max()) < 1e-12 * float(whole.abs().max())


def test_the_localizer_gives_these_of_mlp_units_and_leaves_others_alone(model, rows):
    found = lz.localizers.get("gradient_activation")(model, rows[:4], rows[4:])
    assert found.heads is None
    assert found.cost == 3.0
    assert np.array_equal(found.mlp, unit_effects(model, rows[:4]).numpy())
    assert all(p.grad is None for p in model.hf.parameters())
