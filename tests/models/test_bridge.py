import pytest
import torch

from localize.errors import ModelError
from localize.models.load import load_model

EXACT = {"gpt-neo": 1e-5, "gpt2": 1e-12}
"""TransformerLens runs Hugging Face's attention, and GPT-Neo's there is in float32 even in a float64 model."""


def difference(a, b):
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.fixture
def bridged(make_model, family, tokenizer):
    model = make_model(family, tokenizer)
    return model, model.bridge()


@torch.no_grad()
def test_a_bridge_computes_the_same_logits(bridged, tokens):
    model, bridge = bridged
    assert difference(model(tokens), bridge(tokens)) < EXACT[model.family]


@torch.no_grad()
def test_activations_are_those_of_the_same_name_in_transformer_lens(bridged, tokens):
    model, bridge = bridged
    names = [n for n in model.hook_names if n.startswith("blocks.") or n == "hook_embed"]
    _, ours = model.run_with_cache(tokens, names)
    _, theirs = bridge.run_with_cache(tokens)
    for name in names:
        a, b = ours[name], theirs[name]
        if name.endswith("hook_attn_scores"):
            if model.family == "gpt-neo":
                continue  # there, TransformerLens 4.3 gives the pattern under this name
            seen = (
                ours[name.replace("attn_scores", "pattern")] > 0
            )  # at unseen keys each has its own very negative number
            a, b = a[seen], b[seen]
        assert difference(a, b) < EXACT[model.family], name


@torch.no_grad()
@pytest.mark.parametrize("component", ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"])
def test_an_edit_through_a_weight_view_is_seen_by_the_bridge(bridged, tokens, component):
    model, bridge = bridged
    before = model(tokens)
    model.weight(1, component, 2 if component in ("W_Q", "W_K", "W_V", "W_O") else None).mul_(3)
    assert difference(model(tokens), before) > 1e-3
    assert difference(model(tokens), bridge(tokens)) < EXACT[model.family]


@torch.no_grad()
def test_a_model_loaded_from_a_bridge_is_the_same_model(bridged, tokens):
    model, bridge = bridged
    back = load_model(bridge)
    assert torch.equal(back(tokens), model(tokens))
    assert back.weights_hash() == model.weights_hash()
    ours, theirs = dict(model.hf.named_parameters()), dict(back.hf.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert back.tokenizer is bridge.tokenizer


@torch.no_grad()
def test_an_edit_through_a_model_loaded_from_a_bridge_is_seen_by_all_three(bridged, tokens):
    model, bridge = bridged
    before, back = model(tokens), load_model(bridge)
    back.weight(0, "W_V", 1).mul_(3)
    back.weight(1, "W_in").mul_(2)
    assert difference(model(tokens), before) > 1e-3
    assert torch.equal(back(tokens), model(tokens))
    assert difference(model(tokens), bridge(tokens)) < EXACT[model.family]


@torch.no_grad()
def test_using_the_bridge_leaves_the_model_as_it_was(bridged, tokens):
    model, bridge = bridged
    before, modules = model(tokens), [name for name, _ in model.hf.named_modules()]
    bridge.enable_compatibility_mode(disable_warnings=True)
    bridge(tokens)
    assert torch.equal(model(tokens), before)
    assert [name for name, _ in model.hf.named_modules()] == modules


def test_a_bridge_in_compatibility_mode_is_refused_where_it_no_longer_computes_what_its_parameters_say(bridged):
    _, bridge = bridged
    bridge.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(ModelError) as error:
        load_model(bridge)
    assert str(error.value) == (
        "TransformerBridge: its logits differ from those of its parameters (compatibility mode?); "
        "give load_model a bridge as boot_transformers makes it, or the transformers model."
    )


@torch.no_grad()
def test_compatibility_mode_without_weight_processing_is_still_the_same_model(bridged, tokens):
    model, bridge = bridged
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    assert torch.equal(load_model(bridge)(tokens), model(tokens))


def test_a_bridge_needs_a_tokenizer(model):
    with pytest.raises(ModelError) as error:
        model.bridge()
    assert str(error.value) == (
        f"bridge: small {model.family} has no tokenizer, and a TransformerBridge needs one; load_model(..., tokenizer=...)."
    )
