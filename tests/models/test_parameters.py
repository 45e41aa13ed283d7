import pytest
import torch

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, MLP_COMPONENTS
from localize.errors import ModelError
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count, split_heads, weight_view

NAMES = {
    "gpt-neo": {
        "W_Q": "attn.attention.q_proj",
        "W_K": "attn.attention.k_proj",
        "W_V": "attn.attention.v_proj",
        "W_O": "attn.attention.out_proj",
        "W_in": "mlp.c_fc",
        "W_out": "mlp.c_proj",
    },
    "gpt2": {
        "W_Q": "attn.c_attn",
        "W_K": "attn.c_attn",
        "W_V": "attn.c_attn",
        "W_O": "attn.c_proj",
        "W_in": "mlp.c_fc",
        "W_out": "mlp.c_proj",
    },
}
SHAPES = {"W_Q": (32, 8), "W_K": (32, 8), "W_V": (32, 8), "W_O": (8, 32)}
PARTS = [(component, head) for component in ATTENTION_COMPONENTS for head in range(4)] + [
    (component, None) for component in COMPONENTS
]


def stored(model, layer, component):
    """The parameter of Hugging Face's model that holds the component."""
    return model.hf.get_parameter(f"transformer.h.{layer}.{NAMES[model.family][component]}.weight")


def by_hand(weight, family, component, head):
    """A component's part of a stored weight, one entry at a time, as (input, output)."""
    if family == "gpt-neo":
        matrix = torch.stack([weight[:, i] for i in range(weight.shape[1])])  # stored as (output, input)
    elif component in ("W_Q", "W_K", "W_V"):
        start = {"W_Q": 0, "W_K": 32, "W_V": 64}[component]
        matrix = torch.stack([weight[:, start + i] for i in range(32)], dim=1)
    else:
        matrix = weight
    if head is None:
        return matrix
    if component == "W_O":
        return torch.stack([matrix[head * 8 + i] for i in range(8)])
    return torch.stack([matrix[:, head * 8 + i] for i in range(8)], dim=1)


@pytest.mark.parametrize(("component", "head"), PARTS)
def test_a_view_is_the_slice_of_the_stored_weight(model, component, head):
    for layer in range(model.n_layers):
        view = model.weight(layer, component, head)
        assert torch.equal(view, by_hand(stored(model, layer, component).detach(), model.family, component, head))


def test_views_have_the_documented_shapes(model):
    for component in ATTENTION_COMPONENTS:
        assert model.weight(0, component).shape == (32, 32)
        assert model.weight(0, component, 3).shape == SHAPES[component]
    assert model.weight(0, "W_in").shape == (32, 128)
    assert model.weight(0, "W_out").shape == (128, 32)


@pytest.mark.parametrize(("component", "head"), PARTS)
def test_what_is_written_to_a_view_stands_in_the_model_and_nowhere_else(model, component, head):
    before = {name: p.detach().clone() for name, p in model.hf.named_parameters()}
    view = model.weight(1, component, head)
    view.fill_(7.0)
    changed = {name for name, p in model.hf.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {f"transformer.h.1.{NAMES[model.family][component]}.weight"}
    weight = stored(model, 1, component).detach()
    assert (by_hand(weight, model.family, component, head) == 7).all()
    assert (weight == 7).sum() == view.numel()


@torch.no_grad()
def test_views_compute_what_the_model_computes(model, tokens):
    """q of one head = its normed input times its W_Q, plus the bias where there is one."""
    at = "blocks.1"
    _, seen = model.run_with_cache(
        tokens, [f"{at}.hook_resid_pre", f"{at}.attn.hook_q", f"{at}.attn.hook_k", f"{at}.attn.hook_v"]
    )
    normed = model.blocks[1].ln_1(seen[f"{at}.hook_resid_pre"])
    for part, component in enumerate(("W_Q", "W_K", "W_V")):
        for head in range(4):
            expected = normed @ model.weight(1, component, head)
            if model.family == "gpt2":
                expected = expected + model.blocks[1].attn.c_attn.bias[part * 32 + head * 8 :][:8]
            assert torch.allclose(seen[f"{at}.attn.hook_{'qkv'[part]}"][:, :, head], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("component", "head"), PARTS)
def test_gradient_views_are_the_slice_of_the_gradient_and_write_through(model, tokens, component, head):
    model(tokens).square().mean().backward()
    gradient = stored(model, 1, component).grad
    view = weight_view(model, 1, component, head, grad=True)
    assert view.abs().max() > 0
    assert torch.equal(view, by_hand(gradient, model.family, component, head))
    view.zero_()
    assert (by_hand(gradient, model.family, component, head) == 0).all()


@pytest.mark.parametrize("component", ATTENTION_COMPONENTS)
def test_heads_partition_the_matrix(model, component):
    for head in range(4):
        model.weight(0, component, head).fill_(float(head))
    assert all((model.weight(0, component) == head).sum() == 256 for head in range(4))
    joined = torch.cat([model.weight(0, component, head) for head in range(4)], dim=0 if component == "W_O" else 1)
    assert torch.equal(joined, model.weight(0, component))


@pytest.mark.parametrize("component", ATTENTION_COMPONENTS)
def test_heads_of_many_matrices_are_those_of_each(component):
    matrices = torch.randn(5, 32, 32, generator=torch.Generator().manual_seed(0))
    split = split_heads(matrices, component, 4)
    assert split.shape == (5, 4, *SHAPES[component])
    for matrix, heads in zip(matrices, split, strict=True):
        assert torch.equal(heads, split_heads(matrix, component, 4))


@torch.no_grad()
def test_components_hold_the_weights_of_a_block_without_biases_and_norms(model):
    expected = sum(p.numel() for name, p in model.hf.named_parameters() if ".h." in name and p.ndim == 2)
    assert block_weight_count(model) == expected == model.n_layers * (4 * 32 * 32 + 2 * 32 * 128)


def test_gpt_neo_125M_has_84_934_656_block_weights():
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(hidden_size=768, num_layers=12, num_heads=12, attention_types=[[["global", "local"], 6]])
    with torch.device("meta"):
        model = HookedModel(GPTNeoForCausalLM(config))
    assert block_weight_count(model) == 84_934_656


@pytest.mark.parametrize("layer", [-1, 99])
def test_an_unknown_layer_is_refused(model, layer):
    with pytest.raises(ModelError) as error:
        model.weight(layer, "W_Q")
    last = {"gpt-neo": 3, "gpt2": 2}[model.family]
    assert str(error.value) == f"layer={layer} must lie in 0..{last}, the layers of small {model.family}."


@pytest.mark.parametrize("head", [-1, 4])
def test_an_unknown_head_is_refused(model, head):
    with pytest.raises(ModelError) as error:
        model.weight(0, "W_K", head)
    assert str(error.value) == f"head={head} must lie in 0..3, the heads of small {model.family}."


def test_an_unknown_component_is_refused(model):
    with pytest.raises(ModelError) as error:
        model.weight(0, "W_E")
    assert str(error.value) == "component='W_E' is not one of W_Q, W_K, W_V, W_O, W_in, W_out."


@pytest.mark.parametrize("component", MLP_COMPONENTS)
def test_an_mlp_component_has_no_heads(model, component):
    with pytest.raises(ModelError) as error:
        model.weight(0, component, 0)
    assert (
        str(error.value) == f"split_heads: component={component!r} has no heads; those that have: W_Q, W_K, W_V, W_O."
    )


def test_a_gradient_that_was_never_computed_is_refused(model):
    with pytest.raises(ModelError) as error:
        weight_view(model, 1, "W_O", 2, grad=True)
    assert str(error.value) == "layer 1 W_O holds no gradient; run a backward pass with its weights unfrozen first."
