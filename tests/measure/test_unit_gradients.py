"""Gradients by a unit's weights and what units write, against loops over paragraphs and plain autograd."""

import pytest
import torch

from localize.axes import ATTENTION_COMPONENTS
from localize.measure.unit_gradients import line_squares, unit_gradient_norms
from localize.measure.written_sizes import writing_norms, written_sizes
from localize.models.parameters import weight_view
from tests.conftest import PREFIX


def test_a_units_norm_is_that_of_its_weights_gradient_a_paragraph_at_a_time(model, rows):
    found = unit_gradient_norms(model, rows, batch_size=2)
    for row in (0, 4):
        model.hf.zero_grad()
        logits = model(rows.tokens[[row]])[:, PREFIX - 1 : -1]
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.continuations[[row]]).backward()
        for layer in range(model.n_layers):
            w_in, w_out = (weight_view(model, layer, name, grad=True) for name in ("W_in", "W_out"))
            expected = (w_in.square().sum(0) + w_out.square().sum(1)).sqrt()
            assert torch.allclose(found.mlp[row, layer], expected, rtol=1e-8, atol=1e-12)
            for head in range(model.n_heads):
                parts = [weight_view(model, layer, name, head, grad=True) for name in ATTENTION_COMPONENTS]
                norm = sum(part.square().sum() for part in parts).sqrt()
                assert float(found.heads[row, layer, head]) == pytest.approx(float(norm), rel=1e-8)


@pytest.mark.parametrize("positions", [7, 50])
def test_a_line_has_one_norm_whichever_way_is_less_work(positions):
    generator = torch.Generator().manual_seed(0)
    unit, stream = (torch.randn(2, positions, size, dtype=torch.float64, generator=generator) for size in (9, 20))
    expected = torch.einsum("ptu,ptd->pud", unit, stream).square().sum(2)
    assert torch.allclose(line_squares(unit, stream), expected, rtol=1e-10)


@pytest.mark.parametrize("first", [0, PREFIX - 1])
def test_what_a_unit_writes_is_its_part_of_the_blocks_output(model, rows, first):
    found = written_sizes(model, rows.tokens, first=first, batch_size=2)
    sites = ("mlp.hook_post", "attn.hook_z")
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
    seen = model.run_with_cache(rows.tokens[:, :-1], names)[1]
    for layer, unit, head in ((0, 3, 1), (2, 100, 0)):
        a, z = (seen[f"blocks.{layer}.{site}"][:, first:] for site in sites)
        wrote = a[:, :, [unit]] * model.weight(layer, "W_out")[unit]
        assert torch.allclose(found.mlp[:, layer, unit], wrote.norm(dim=2).mean(1), rtol=1e-10)
        wrote = z[:, :, head] @ model.weight(layer, "W_O", head)
        assert torch.allclose(found.heads[:, layer, head], wrote.norm(dim=2).mean(1), rtol=1e-10)


def test_what_a_unit_writes_with_has_the_norm_of_its_row_or_its_part_of_w_o(model):
    norms = writing_norms(model)
    assert norms.mlp.shape == (model.n_layers, model.d_mlp) and norms.heads.shape == (model.n_layers, model.n_heads)
    for layer, unit, head in ((0, 3, 1), (2, 100, 0)):
        row, part = model.weight(layer, "W_out")[unit], model.weight(layer, "W_O", head)
        assert float(norms.mlp[layer, unit]) == pytest.approx(float(row.square().sum().sqrt()), rel=1e-12)
        assert float(norms.heads[layer, head]) == pytest.approx(float(part.square().sum().sqrt()), rel=1e-12)
