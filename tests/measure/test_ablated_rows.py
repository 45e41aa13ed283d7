"""Rows whose units are ablated together, against models whose weights say so."""

import pytest
import torch

import localize as lz
from localize.measure.ablated_rows import ablated_rows
from localize.measure.unit_means import UnitMeans, unit_means
from tests.conftest import PREFIX


def masks(model, rows, seed=0):
    """Of each row a third of the units of every layer, and of the heads."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.rand(len(rows), model.n_layers, size, generator=rng) < 0.3 for size in (model.d_mlp, model.n_heads)]


def edited(model, units, heads, means):
    """The model with some units and heads constant: what they write with to 0, and what their values write to the bias."""
    found = model.copied()
    for layer, block in enumerate(found.blocks):
        w_out = found.weight(layer, "W_out")
        block.mlp.c_proj.bias.data += means.mlp[layer, units[layer]] @ w_out[units[layer]]
        w_out[units[layer]] = 0.0
        bias = (block.attn.attention.out_proj if model.family == "gpt-neo" else block.attn.c_proj).bias
        for head in heads[layer].nonzero().flatten().tolist():
            w_o = found.weight(layer, "W_O", head)
            bias.data += means.heads[layer, head] @ w_o
            w_o[:] = 0.0
    return found


@pytest.mark.parametrize("which", ["mlp", "heads", "both"])
@pytest.mark.parametrize("instead", ["zero", "means"])
def test_each_row_is_scored_by_a_model_whose_weights_ablate_its_own_units(model, rows, which, instead):
    of_mlp, of_heads = masks(model, rows)
    asked = {"mlp": of_mlp, "heads": of_heads}
    asked = asked if which == "both" else {which: asked[which]}
    usual = unit_means(model, rows.tokens[:2])
    means = usual if instead == "means" else UnitMeans(*(torch.zeros_like(part) for part in usual))
    exact, nll = ablated_rows(model, rows.tokens, PREFIX, **asked, means=usual if instead == "means" else None)
    before = lz.recall(model, rows)["token_nll"].values
    for row in range(len(rows)):
        units, heads = (
            asked.get(name, torch.zeros_like(of))[row] for name, of in (("mlp", of_mlp), ("heads", of_heads))
        )
        expected = lz.recall(edited(model, units, heads, means), rows[[row]])
        assert nll[row].numpy() == pytest.approx(expected["token_nll"].values[0], rel=1e-9, abs=1e-9)
        assert int(exact[row]) == expected["exact_match"].values[0]
        assert abs(nll[row].numpy() - before[row]).max() > 1e-2


def test_without_units_to_ablate_rows_score_as_they_are(model, rows):
    none = torch.zeros(len(rows), model.n_layers, model.d_mlp, dtype=torch.bool)
    for asked in ({}, {"mlp": none}):
        nll = ablated_rows(model, rows.tokens, PREFIX, **asked)[1]
        assert nll.numpy() == pytest.approx(lz.recall(model, rows)["token_nll"].values, rel=1e-12)
