"""Per-paragraph gradients against a loop of plain backward passes through the Hugging Face model's own parameters."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.models.parameters import weight_view

PREFIX, CONTINUATION = 24, 36
NAMES = ("gradient_max", "gradient_norm", "head_gradient_max", "head_gradient_norm")


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION).with_groups("aabbbb")


def by_backward_pass(model, rows):
    """Statistics read from `.grad` after one backward pass of the rows' mean loss: the slow, obvious way."""
    model.hf.zero_grad()
    losses = []
    for row in rows:
        logits = model(row[None])[0]
        losses.append(cross_entropy(logits[PREFIX - 1 : -1], row[PREFIX:]))
    torch.stack(losses).mean().backward()
    found = {name: [] for name in NAMES}
    for layer in range(model.n_layers):
        whole = [weight_view(model, layer, c, grad=True) for c in COMPONENTS]
        heads = [
            [weight_view(model, layer, c, h, grad=True) for h in range(model.n_heads)] for c in ATTENTION_COMPONENTS
        ]
        found["gradient_max"].append([g.abs().max().item() for g in whole])
        found["gradient_norm"].append([g.norm().item() for g in whole])
        found["head_gradient_max"].append([[g.abs().max().item() for g in of_head] for of_head in heads])
        found["head_gradient_norm"].append([[g.norm().item() for g in of_head] for of_head in heads])
    model.hf.zero_grad()
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_paragraph_has_the_gradient_of_its_own_backward_pass(hooked, paragraphs, dtype, relative):
    hooked.hf.to(dtype)
    signature = lz.gradients(hooked, paragraphs, batch_size=4)
    for row in range(len(paragraphs)):
        oracle = by_backward_pass(hooked, paragraphs.tokens[row : row + 1])
        for name in NAMES:
            got = signature[name].values[row]
            # Relative to the layer's largest: a near-zero entry of float32 has no digits to compare.
            assert np.abs(got - oracle[name]).max() <= relative * oracle[name].max(), (row, name)


def test_a_set_has_the_gradient_of_one_backward_pass_of_its_mean_loss(hooked, paragraphs):
    signature = lz.gradients(hooked, paragraphs, batch_size=4)
    for group, rows in (("a", paragraphs.tokens[:2]), ("b", paragraphs.tokens[2:])):
        oracle = by_backward_pass(hooked, rows)
        for name in NAMES:
            got = signature[f"set_{name}"].sel(set=group).values
            assert np.allclose(got, oracle[name], rtol=1e-10, atol=1e-14), (group, name)


def test_the_numbers_are_the_same_for_any_batch_size(hooked, paragraphs):
    one, all_at_once = (lz.gradients(hooked, paragraphs, batch_size=size) for size in (1, 6))
    for name in one.variables:
        assert np.allclose(one[name], all_at_once[name], rtol=1e-10, atol=1e-14), name


def test_nothing_of_the_model_changes(hooked, paragraphs):
    before = hooked.weights_hash()
    asked = [p.requires_grad for p in hooked.hf.parameters()]
    lz.gradients(hooked, paragraphs)
    assert hooked.weights_hash() == before
    assert [p.requires_grad for p in hooked.hf.parameters()] == asked
    assert all(p.grad is None for p in hooked.hf.parameters())
    assert not any(module._forward_hooks for module in hooked.hf.modules())


def test_own_continuations_are_told_apart_from_true_ones(neo, paragraphs):
    own = lz.gradients(neo, paragraphs.with_own_continuation(neo))
    assert own["gradient_max"].attrs["continuation"] == "own"
    assert own["nll"].attrs["continuation"] == "true"
    with pytest.raises(lz.SignatureError) as caught:
        lz.gradients(neo, paragraphs) | own
    assert (
        str(caught.value)
        == "join: gradient_max is of the true continuation on the left and of the own one on the right."
    )


def test_sets_can_be_left_out(neo, paragraphs):
    assert not any(name.startswith("set_") for name in lz.gradients(neo, paragraphs, sets=False).variables)
