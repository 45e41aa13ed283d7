"""Edges: what nodes pull sums to the gradient of the stream, and edges are the slopes of messages that are passed by hand."""

import pytest
import torch

from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.edge_effects import edge_effects, node_pulls
from tests.conftest import LENGTH, PREFIX


@pytest.fixture
def corrupt(make_rows):
    """As many texts as long."""
    return make_rows(7, seed=6).tokens


def test_what_the_heads_of_a_layer_pull_sums_to_what_its_attention_does(model, rows):
    scored, pulled = continuation_mask(rows.tokens, PREFIX), {}

    def keep(value, name):
        value.register_hook(lambda g: pulled.update({name: g}))

    sites = ("hook_resid_pre", "hook_resid_mid")
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
    backward_pass(model, rows.tokens, scored, hooks=dict.fromkeys(names, keep))
    pulls = node_pulls(model, rows.tokens, scored)
    for layer in range(model.n_layers):
        expected = pulled[f"blocks.{layer}.hook_resid_pre"] - pulled[f"blocks.{layer}.hook_resid_mid"]
        assert torch.allclose(pulls.heads[layer].sum(2), expected, rtol=0, atol=1e-12)
        assert float(pulls.heads[layer].std(2).mean()) > 0.1 * float(expected.std())


def test_a_heads_pull_is_the_slope_by_its_queries_keys_and_values_alone(model, rows):
    layer, head, step = 1, 2, 1e-6
    way = torch.randn(LENGTH - 1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = (node_pulls(model, rows.tokens, continuation_mask(rows.tokens, PREFIX)).heads[layer][:, :, head] * way).sum(
        (1, 2)
    )
    stream = model.run_with_cache(rows.tokens[:, :-1], [f"blocks.{layer}.hook_resid_pre"])[1][
        f"blocks.{layer}.hook_resid_pre"
    ]
    ends = []
    for sign in (step, -step):
        sites = [f"blocks.{layer}.attn.hook_{site}" for site in "qkv"]
        moved = {}
        model.resume((stream + sign * way).detach(), at=f"blocks.{layer}.hook_resid_pre", to=f"blocks.{layer}.hook_resid_mid",
                     hooks={name: lambda value, name, moved=moved: moved.update({name: value}) for name in sites})  # fmt: skip

        def put(value, name, moved=moved):
            value = value.clone()
            value[:, :, head] = moved[name][:, :, head]
            return value

        hooks = dict.fromkeys(sites, put)
        logits = model.forward(rows.tokens[:, :-1], hooks=hooks)[:, PREFIX - 1 :]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.continuations, reduction="none")
        ends.append(losses.mean(1).detach())
    assert found.numpy() == pytest.approx(((ends[0] - ends[1]) / (2 * step)).numpy(), rel=1e-5, abs=1e-9)


def test_the_sum_of_a_units_edges_is_its_change_times_its_own_gradient_along_the_way(model, rows, corrupt):
    steps = 3
    found = edge_effects(model, rows, corrupt, steps=steps, combine=torch.add, batch_size=2)
    sites = ("mlp.hook_post", "attn.hook_z")
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
    clean, other = (model.run_with_cache(part[:, :-1], names)[1] for part in (rows.tokens, corrupt))
    embed = model.hf.transformer.wte
    total = dict.fromkeys(names, 0.0)
    for step in range(steps):
        share, seen = (step + 0.5) / steps, {}

        def blend(value, _, share=share):
            return (1 - share) * value + share * embed(corrupt[:, :-1])

        def keep(value, name, seen=seen):
            value.retain_grad()
            seen[name] = value

        logits = model.forward(rows.tokens[:, :-1], hooks={"hook_embed": blend} | dict.fromkeys(names, keep))[
            :, PREFIX - 1 :
        ]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.continuations, reduction="none")
        losses.mean(1).sum().backward()
        for name in names:
            total[name] = total[name] + seen[name].grad / steps
    for layer in range(model.n_layers):
        mlp, z = ((other[name] - clean[name]) * total[name] for name in (f"blocks.{layer}.{site}" for site in sites))
        assert torch.allclose(found.mlp[:, layer], mlp.sum(1), rtol=1e-8, atol=1e-12)
        assert torch.allclose(found.heads[:, layer], z.sum((1, 3)), rtol=1e-8, atol=1e-12)


def test_the_largest_edge_is_no_less_than_any_and_the_only_one_of_the_last_mlp(model, rows, corrupt):
    largest, least, whole = (
        edge_effects(model, rows, corrupt, steps=2, combine=combine)
        for combine in (torch.maximum, torch.minimum, torch.add)
    )
    for high, low in zip(largest, least, strict=True):
        assert bool((high >= low).all())
    last = [found.mlp[:, -1] for found in (largest, least, whole)]
    assert torch.equal(last[0], last[1])
    assert torch.equal(last[0], last[2])
    # of the last layer's heads: one to its MLP, one to the unembedding
    assert torch.allclose((largest.heads + least.heads)[:, -1], whole.heads[:, -1], rtol=0, atol=1e-12)
    assert not torch.allclose((largest.heads + least.heads)[:, 0], whole.heads[:, 0], rtol=0, atol=1e-6)
