"""The rise of a paragraph's NLL without a unit, against whole forward passes with weights or activations put in by hand."""

import pytest
import torch

from localize.measure.ablate import ablation_hooks
from localize.measure.unit_ablation import ChosenUnits, ablation_cost, share_above, unit_rises
from localize.measure.unit_means import unit_means
from tests.conftest import PREFIX


@pytest.fixture
def rows(make_rows):
    """Five unlike paragraphs of 24 + 16 random tokens."""
    return make_rows(5)


PLACES = ((0, 5), (1, 100), (2, 17))
HEADS = ((0, 1), (1, 3), (2, 0))


def nll(model, rows, hooks=None):
    """Each paragraph's mean NLL, in a whole pass."""
    logits = model.forward(rows.tokens, hooks=hooks)[:, PREFIX - 1 : -1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.continuations, reduction="none")
    return losses.mean(1).detach()


def test_zeroed_units_and_heads_are_those_whose_writing_weights_are_zeroed(model, rows):
    rises, before = unit_rises(model, rows), nll(model, rows)
    for layer, unit in (*PLACES, (model.n_layers - 1, 3)):
        moved = model.copied()
        moved.weight(layer, "W_out")[unit] = 0
        assert torch.allclose(rises.mlp[:, layer, unit], nll(moved, rows) - before, rtol=0, atol=1e-11)
    for layer, head in (*HEADS, (model.n_layers - 1, 2)):
        moved = model.copied()
        moved.weight(layer, "W_O", head)[:] = 0
        assert torch.allclose(rises.heads[:, layer, head], nll(moved, rows) - before, rtol=0, atol=1e-11)
    assert float(rises.mlp.abs().mean()) > 1e-6


def test_units_set_to_their_means_are_those_that_give_them_everywhere(model, rows):
    means = unit_means(model, rows.tokens[:2])
    rises, before = unit_rises(model, rows, means=means), nll(model, rows)
    for layer, unit in (*PLACES, (model.n_layers - 1, 3)):

        def put(value, _, layer=layer, unit=unit):
            value = value.clone()
            value[:, :, unit] = means.mlp[layer, unit]
            return value

        expected = nll(model, rows, {f"blocks.{layer}.mlp.hook_post": put}) - before
        assert torch.allclose(rises.mlp[:, layer, unit], expected, rtol=0, atol=1e-11)
    for layer, head in HEADS:
        expected = nll(model, rows, ablation_hooks(model, [(layer, head)], means.heads)) - before
        assert torch.allclose(rises.heads[:, layer, head], expected, rtol=0, atol=1e-11)


def test_only_chosen_units_of_each_paragraph_are_ablated_whatever_the_batch(model, rows):
    whole, generator = unit_rises(model, rows), torch.Generator().manual_seed(0)
    chosen = ChosenUnits(*(torch.rand(part.shape, generator=generator) < 0.1 for part in whole))
    for size in (1, 3, 8):
        found = unit_rises(model, rows, chosen=chosen, batch_size=size)
        for some, every, wanted in zip(found, whole, chosen, strict=True):
            assert torch.equal(some.isnan(), ~wanted)
            assert torch.allclose(some[wanted], every[wanted], rtol=0, atol=1e-11)


def test_means_are_those_of_all_positions_each_row_as_often_as_it_weighs(model, rows):
    found = unit_means(model, rows.tokens[:3], weights=torch.tensor([2.0, 1.0, 0.0]), batch_size=2)
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in ("mlp.hook_post", "attn.hook_z")]
    seen = model.run_with_cache(rows.tokens[[0, 0, 1]], names)[1]
    for layer in range(model.n_layers):
        assert torch.allclose(found.mlp[layer], seen[f"blocks.{layer}.mlp.hook_post"].mean((0, 1)), rtol=0, atol=1e-12)
        assert torch.allclose(found.heads[layer], seen[f"blocks.{layer}.attn.hook_z"].mean((0, 1)), rtol=0, atol=1e-12)


def test_a_pass_costs_the_share_of_products_with_weights_above_where_it_begins(neo, rows):
    # a layer: 4 * 32^2 in attention, 2 * 32 * 128 in the MLP; the unembedding 97 * 32 at 16 of the 39 positions read
    attention, mlp, unembedding = 4096, 8192, 97 * 32 * 16 / 39
    whole = 4 * (attention + mlp) + unembedding
    assert share_above(neo, rows, 0) == pytest.approx(1)
    assert share_above(neo, rows, 3) == pytest.approx((2 * attention + 3 * mlp + unembedding) / whole)
    assert share_above(neo, rows, 8) == pytest.approx(unembedding / whole)
    one = ChosenUnits(*(torch.zeros_like(part) for part in ChosenUnits.all_of(neo, 5)))
    one.mlp[:, 1, 5], one.heads[0, 1, :] = True, True
    passes = share_above(neo, rows, 4) + 4 / 5 * share_above(neo, rows, 3)
    assert ablation_cost(neo, rows, one) == pytest.approx(1 + passes)
