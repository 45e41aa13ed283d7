"""Gates: their gradients against small steps, and the steps of Adam against those taken by hand."""

import pytest
import torch

import localize as lz
from localize.localizers.hard_concrete import HIGH, LOW, TEMPERATURE, chance_open, drawn_gates
from localize.measure.backward import continuation_mask
from localize.measure.unit_gates import fit_gates, gate_gradients
from tests.conftest import PREFIX


def gated_nll(model, rows, gates):
    """Each row's mean NLL where what a unit writes with is multiplied by its gate: the same gates for all rows."""
    moved = model.copied()
    for layer in range(model.n_layers):
        moved.weight(layer, "W_out")[:] *= gates[layer, : model.d_mlp, None]
        for head in range(model.n_heads):
            moved.weight(layer, "W_O", head)[:] *= gates[layer, model.d_mlp + head]
    return torch.tensor(lz.recall(moved, rows)["nll"].values)


def test_a_gate_multiplies_what_its_unit_writes_and_its_gradient_is_the_slope(model, rows):
    width = model.d_mlp + model.n_heads
    gates = 0.5 + torch.rand(model.n_layers, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scored = continuation_mask(rows.tokens, PREFIX)
    loss, found = gate_gradients(model, rows.tokens, scored, gates.expand(len(rows), -1, -1))
    assert torch.allclose(loss, gated_nll(model, rows, gates), rtol=0, atol=1e-11)
    for layer, gate in ((0, 5), (1, 127), (2, model.d_mlp), (1, width - 1)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = gates.clone()
            moved[layer, gate] += step
            ends.append(gated_nll(model, rows, moved))
        slope = (ends[0] - ends[1]) / 2e-5
        assert found[:, layer, gate].numpy() == pytest.approx(slope.numpy(), rel=1e-5, abs=1e-9)


def test_gates_are_learned_by_adam_on_the_nll_plus_the_penalty_of_each(neo, rows):
    width, price, rate = neo.d_mlp + neo.n_heads, 0.02, 0.05
    found = fit_gates(
        neo, rows, start=1.0, gates=lambda learned, _: learned, penalty=lambda learned: price * learned.abs(),
        steps=3, learning_rate=rate,
    )  # fmt: skip
    gates, first, second = torch.ones(len(rows), 4, width, dtype=torch.float64), 0.0, 0.0
    for step in range(1, 4):
        pull = gate_gradients(neo, rows.tokens, continuation_mask(rows.tokens, PREFIX), gates)[1] + price * gates.sign()
        first, second = 0.9 * first + 0.1 * pull, 0.999 * second + 0.001 * pull**2
        gates = gates - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    assert torch.allclose(torch.cat(found, dim=2), gates, rtol=0, atol=1e-9)


def test_hard_concrete_gates_are_stretched_cut_and_as_often_open_as_their_chance_says():
    log_odds = torch.tensor([-3.0, -0.5, 0.0, 1.0, 4.0], dtype=torch.float64)
    drawn = torch.rand(200_000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gates = drawn_gates(log_odds, drawn)
    u = float(drawn[7, 3])
    soft = 1 / (1 + (u / (1 - u) * 2.718281828459045) ** (-1 / TEMPERATURE))
    assert float(gates[7, 3]) == pytest.approx(min(1.0, max(0.0, soft * (HIGH - LOW) + LOW)))
    assert (float(gates.min()), float(gates.max())) == (0.0, 1.0)
    assert (gates > 0).double().mean(0).numpy() == pytest.approx(chance_open(log_odds).numpy(), abs=5e-3)
