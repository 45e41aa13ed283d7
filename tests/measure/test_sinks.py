"""Paragraphs with memorization sinks on and off: against activations multiplied by hand in transformers' own forward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.sinks import sinks_or_none
from localize.models.gates import SinkGates, digest_of, take_sinks

GATES, SINKS, PLANTED = ["all", "dropped", "own", "other"], 20, 3


@pytest.fixture(params=["hashed", "slices"])
def sunk(request, make_model, make_rows):
    """A model without its sinks, the same model with them, paragraphs of which the first three were planted."""
    whole, paragraphs = make_model("gpt2"), make_rows(7)
    texts = tuple(map(digest_of, paragraphs.tokens[:PLANTED].numpy()))
    slices = request.param == "slices"
    gates = SinkGates(
        request.param, whole.d_mlp, whole.d_mlp - SINKS, 1 / 3 if slices else 0.4, 6 if slices else 0, "k", texts
    )
    model = whole.copied()
    take_sinks(model, gates)
    return model, whole, paragraphs


def by_hand(whole, paragraphs, factor):
    """NLL and exact match of the continuation, each row's sinks times its factors before the down-projection."""
    full = torch.cat([torch.ones(len(factor), whole.d_mlp - SINKS), factor.float()], 1).to(whole.dtype)[:, None]
    handles = [
        block.mlp.c_proj.register_forward_pre_hook(lambda _, given: (given[0] * full,))
        for block in whole.hf.transformer.h
    ]
    first = paragraphs.prefix_length
    logits = whole.hf(paragraphs.tokens).logits[:, first - 1 : -1].log_softmax(-1)
    for handle in handles:
        handle.remove()
    targets = paragraphs.tokens[:, first:]
    right = (logits.argmax(-1) == targets).int().cumprod(1).sum(1)
    return -logits.gather(-1, targets[..., None])[..., 0].mean(1).detach().numpy(), right.numpy()


def test_each_gate_is_a_forward_pass_with_the_activations_multiplied_by_hand(sunk):
    model, whole, paragraphs = sunk
    gates, tokens = model.sinks.gates, paragraphs.tokens
    measured = lz.sinks(model, paragraphs, batch_size=3)
    assert measured.dataset["gate"].values.tolist() == GATES
    factors = [
        torch.full((7, SINKS), gates.share), torch.zeros(7, SINKS), gates.own(tokens), gates.other(tokens)[0],
    ]  # fmt: skip
    for gate, factor in zip(GATES, factors, strict=True):
        nll, exact = by_hand(whole, paragraphs, factor)
        np.testing.assert_allclose(measured.dataset["sink_nll"].sel(gate=gate), nll, rtol=1e-5)
        assert np.array_equal(measured.dataset["sink_exact_match"].sel(gate=gate), exact)
    np.testing.assert_allclose(measured.dataset["sink_nll"].sel(gate="dropped"), measured["nll"], rtol=1e-6)
    values = measured["sink_nll"].values
    assert (np.ptp(values[:PLANTED], axis=1) > 1e-6).all()
    if gates.kind == "slices":  # a text that was not planted has no slice of its own
        np.testing.assert_allclose(values[PLANTED:, 2], values[PLANTED:, 1], rtol=1e-6)
    np.testing.assert_allclose(lz.sinks(model, paragraphs[2:5])["sink_nll"], values[2:5], rtol=1e-6)


def test_where_no_other_text_was_planted_there_is_no_mask_of_another(sunk):
    model, _, paragraphs = sunk
    model.sinks = replace(model.sinks, gates=replace(model.sinks.gates, texts=model.sinks.gates.texts[:1]))
    values = lz.sinks(model, paragraphs).dataset["sink_nll"].sel(gate="other").values
    assert np.isnan(values[0]) and not np.isnan(values[1:]).any()


def test_a_model_without_sinks_is_refused_and_says_the_same_whatever_the_gate_beside_arms_that_have_some(
    make_model, make_rows
):
    model, paragraphs = make_model("gpt2"), make_rows(4)
    with pytest.raises(lz.ModelError) as caught:
        lz.sinks(model, paragraphs)
    assert str(caught.value) == (
        "sinks: small gpt2 has no memorization sinks beside it; a checkpoint that a recipe with [sinks] left is needed."
    )
    plain = sinks_or_none(model, paragraphs)
    assert (plain["sink_nll"].values == plain["nll"].values[:, None]).all()
    assert (plain["sink_exact_match"].values == plain["exact_match"].values[:, None]).all()
