"""The untrained twin: the same shape, other weights, and nothing else touched."""

import pytest
import torch

from localize.models.folding import folded
from localize.models.untrained import untrained


def parameters(model):
    return {name: value.detach().clone() for name, value in model.hf.named_parameters()}


def test_the_twin_has_the_same_shape_and_says_what_it_is(model, tokenizer):
    model.tokenizer, model.unigram_counts = tokenizer, torch.arange(97)
    twin = untrained(model)
    assert twin.name == f"untrained {model.name}"
    assert twin.family == model.family
    assert twin.tokenizer is tokenizer
    assert torch.equal(twin.unigram_counts, model.unigram_counts)
    assert [twin.window(layer) for layer in range(twin.n_layers)] == [
        model.window(layer) for layer in range(model.n_layers)
    ]
    assert {n: p.shape for n, p in parameters(twin).items()} == {n: p.shape for n, p in parameters(model).items()}


def test_the_twins_weights_are_what_transformers_draws_before_training(model):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = type(model.hf)(model.hf.config).double()
    twin = untrained(model, seed=3)
    for name, value in fresh.named_parameters():
        assert torch.equal(parameters(twin)[name], value)
    assert float(twin.weight(0, "W_Q").std()) == pytest.approx(0.02, rel=0.2)


def test_the_twin_follows_from_the_seed_alone(model):
    torch.manual_seed(0)
    one = untrained(model, seed=1)
    torch.manual_seed(5)
    assert untrained(model, seed=1).weights_hash() == one.weights_hash()
    assert untrained(model, seed=2).weights_hash() != one.weights_hash()
    assert untrained(model).weights_hash() == untrained(model, seed=0).weights_hash()


def test_neither_the_model_nor_the_global_random_state_is_touched(model):
    before, weights = torch.get_rng_state(), parameters(model)
    configured = model.hf.config.to_dict()
    twin = untrained(model)
    with torch.no_grad():
        for p in twin.hf.parameters():
            p.zero_()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.hf.named_parameters())
    assert twin.hf.config is not model.hf.config
    assert model.hf.config.to_dict() == configured


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_twin_computes_in_the_models_precision(make_model, family, dtype):
    model = make_model(family, dtype=dtype)
    twin = untrained(model)
    assert twin.dtype == dtype
    assert twin.device == model.device


def test_the_twin_is_where_the_model_is_whatever_the_default_device(model):
    with torch.device("meta"):
        assert untrained(model).weights_hash() == untrained(model).weights_hash()
    model.hf.to("meta")
    assert untrained(model).device.type == "meta"


def test_the_twin_is_tied_as_the_model_is(make_model, family):
    tied, free = (untrained(make_model(family, tie_word_embeddings=tie)).hf for tie in (True, False))
    assert tied.lm_head.weight is tied.transformer.wte.weight
    assert not torch.equal(free.lm_head.weight, free.transformer.wte.weight)


def test_the_twin_of_a_folded_model_is_plain(model):
    twin = untrained(folded(model))
    assert twin.weights == "raw"
    assert twin.name == f"untrained {model.name}"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_the_weights_are_the_same_and_its_random_state_is_not_touched(model):
    expected = untrained(model).weights_hash()
    model.hf.to("cuda")
    before = torch.cuda.get_rng_state()
    twin = untrained(model)
    assert twin.device.type == "cuda"
    assert twin.weights_hash() == expected
    assert torch.equal(torch.cuda.get_rng_state(), before)
