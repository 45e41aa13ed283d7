"""The estimated rise of a paragraph's NLL without a unit, against small steps and against the gradients of the weights."""

import numpy as np
import pytest

import localize as lz
from localize.measure.set_gradients import set_gradients
from localize.measure.unit_effects import unit_effects


def test_a_units_effect_is_the_slope_of_each_paragraphs_loss_as_it_fades(model, rows):
    effects, step = unit_effects(model, rows).mlp, 1e-5
    for layer, unit in ((0, 5), (2, 100), (1, 0)):
        moved = model.copied()
        moved.weight(layer, "W_out")[unit] *= 1 - step
        rise = lz.recall(moved, rows)["nll"].values - lz.recall(model, rows)["nll"].values
        assert effects[:, layer, unit].numpy() == pytest.approx(rise / step, rel=1e-3, abs=1e-7)


def test_a_heads_effect_is_the_slope_of_each_paragraphs_loss_as_it_fades(model, rows):
    effects, step = unit_effects(model, rows).heads, 1e-5
    for layer, head in ((0, 1), (2, 0)):
        moved = model.copied()
        moved.weight(layer, "W_O", head)[:] *= 1 - step
        rise = lz.recall(moved, rows)["nll"].values - lz.recall(model, rows)["nll"].values
        assert effects[:, layer, head].numpy() == pytest.approx(rise / step, rel=1e-3, abs=1e-7)


def test_the_mean_over_paragraphs_is_minus_what_a_unit_writes_with_times_its_gradient(model, rows):
    cells = [(layer, "W_out") for layer in range(model.n_layers)]
    gradients = set_gradients(model, rows, np.zeros(len(rows), int), cells=cells, show=False).by_set[0]
    mean = unit_effects(model, rows).mlp.mean(0)
    for layer, cell in enumerate(cells):
        expected = -(gradients[cell] * model.weight(*cell)).sum(1)
        assert float((mean[layer] - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_it_is_the_same_whatever_the_batch(model, rows):
    whole = unit_effects(model, rows)
    for size in (1, 3):
        for part, of_whole in zip(unit_effects(model, rows, batch_size=size), whole, strict=True):
            assert float((part - of_whole).abs().max()) < 1e-12 * float(of_whole.abs().max())
