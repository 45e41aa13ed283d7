"""Gradients by activations, against autograd through one paragraph at a time."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import SITES

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def by_autograd(model, row, chosen):
    """Norms of the gradients of one row's chosen tokens' mean NLL by its activations, from a graph over the whole row."""
    names = [f"blocks.{layer}.attn.hook_{site}" for layer in range(model.n_layers) for site in SITES]
    names += [f"blocks.{layer}.hook_resid_pre" for layer in range(model.n_layers)]
    logits, seen = model.run_with_cache(row[None], names)
    for value in seen.values():
        value.retain_grad()
    chosen = torch.tensor(chosen)
    cross_entropy(logits[0, chosen - 1], row[chosen]).backward()
    norms = {name: value.grad[0].norm(dim=-1).numpy() for name, value in seen.items()}
    model.hf.zero_grad()
    return norms


@pytest.mark.parametrize("at", [None, PREFIX, 59, 5, [24, 30, 24, 59, 40, 1], "mask"])
def test_every_head_and_position_has_autograds_gradient(hooked, paragraphs, at):
    count = len(paragraphs)
    if isinstance(at, str):
        at = np.zeros((count, LENGTH), bool)
        at[:, [3, 30, 31]] = True
        at[2, 50] = True
        chosen = [np.flatnonzero(row).tolist() for row in at]
    else:
        chosen = [
            list(range(PREFIX, LENGTH)) if at is None else [at if isinstance(at, int) else at[row]]
            for row in range(count)
        ]
    signature = lz.activation_gradients(hooked, paragraphs, at=at, batch_size=4)
    for row in range(count):
        oracle = by_autograd(hooked, paragraphs.tokens[row], chosen[row])
        for layer in range(hooked.n_layers):
            for s, site in enumerate(SITES):
                got = signature["activation_gradient"].values[row, layer, s]  # (head, position)
                # sums of terms up to 1 differ in their last bits, more or less by the machine
                assert np.allclose(got, oracle[f"blocks.{layer}.attn.hook_{site}"].T, rtol=1e-10, atol=1e-14)
            got = signature["residual_gradient"].values[row, layer]
            assert np.allclose(got, oracle[f"blocks.{layer}.hook_resid_pre"], rtol=1e-10, atol=1e-14)


def test_nothing_after_the_predicting_position_can_matter(hooked, paragraphs):
    signature = lz.activation_gradients(hooked, paragraphs, at=30)
    assert (signature["residual_gradient"].values[..., 30:] == 0).all()
    assert (signature["activation_gradient"].values[..., 30:] == 0).all()
    assert (signature["residual_gradient"].values[..., 29] > 0).all()


def test_recall_is_of_the_whole_continuation_whatever_is_chosen(neo, paragraphs):
    for at in (None, 30):
        signature = lz.activation_gradients(neo, paragraphs, at=at)
        assert np.allclose(signature["token_nll"], lz.recall(neo, paragraphs)["token_nll"], rtol=1e-12)


def test_what_was_chosen_is_told(neo, paragraphs):
    def told(at):
        return lz.activation_gradients(neo, paragraphs, at=at).dataset.attrs["calls"][0]["at"]

    assert told(None) == "the continuation"
    assert told([24, 25, 26, 27, 28, 29]) == "1 token(s) a paragraph, positions 24 to 29"


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0, "activation_gradients: at=0 must lie in 1..59; nothing predicts token 0."),
        (60, "activation_gradients: at=60 must lie in 1..59; nothing predicts token 0."),
        (
            [1, 2],
            "activation_gradients: at has shape (2,) and dtype int64; a position, or one whole number for each of the 6 paragraphs, "
            "is needed.",
        ),
        (
            np.zeros((6, 60), bool),
            "activation_gradients: a mask of shape (6, 60) for 6 paragraphs of 60 tokens; it must have their shape and choose "
            "at least one of the tokens 1..59 of each, never token 0.",
        ),
    ],
)
def test_tokens_that_nothing_predicts_are_refused(neo, paragraphs, at, message):
    with pytest.raises(lz.InputError) as caught:
        lz.activation_gradients(neo, paragraphs, at=at)
    assert str(caught.value) == message
