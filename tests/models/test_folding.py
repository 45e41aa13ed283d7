"""A folded model is the same function, in the coordinates that the paper's values are for."""

import copy
import math

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn.functional import cross_entropy, gelu

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.errors import ModelError, SignatureError
from localize.models.folding import folded
from localize.models.hooks import HookedModel
from localize.models.load import load_model
from localize.models.parameters import weight_view

PREFIX, CONTINUATION = 24, 36
NEO_IN_FLOAT32 = {"gpt-neo": 1e-5, "gpt2": 1e-12}
"""Hugging Face's attention, which bridges run too, is in float32 for GPT-Neo even in a float64 model."""


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION).with_groups("aabbbb")


def difference(a, b):
    """Largest absolute difference, relative to the largest value."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def bias(model, layer, component):
    """b_Q, ..., read where the Hugging Face model has it."""
    block = model.blocks[layer]
    if component in ("b_in", "b_out"):
        return (block.mlp.c_fc if component == "b_in" else block.mlp.c_proj).bias
    if model.family == "gpt2":
        if component == "b_O":
            return block.attn.c_proj.bias
        return block.attn.c_attn.bias.view(3, -1)[("b_Q", "b_K", "b_V").index(component)]
    attn = block.attn.attention
    return {"b_Q": attn.q_proj, "b_K": attn.k_proj, "b_V": attn.v_proj, "b_O": attn.out_proj}[component].bias


# The oracle: raw weights, HookedTransformer's formulas, a forward pass written out, plain autograd.


def raw_block(model, layer):
    """One block's raw weights in TransformerLens's shapes, from the Hugging Face state."""
    state = {k.removeprefix(f"transformer.h.{layer}."): v.clone() for k, v in model.hf.state_dict().items()}
    w, heads = {}, {"head": model.n_heads}
    if model.family == "gpt2":
        matrix, vector = state["attn.c_attn.weight"], state["attn.c_attn.bias"]
        w["W_Q"], w["W_K"], w["W_V"] = rearrange(matrix, "d (qkv head k) -> qkv head d k", qkv=3, **heads)
        w["b_Q"], w["b_K"], w["b_V"] = rearrange(vector, "(qkv head k) -> qkv head k", qkv=3, **heads)
        w["W_O"] = rearrange(state["attn.c_proj.weight"], "(head k) d -> head k d", **heads)
        w["b_O"], w["W_in"], w["W_out"] = (
            state["attn.c_proj.bias"],
            state["mlp.c_fc.weight"],
            state["mlp.c_proj.weight"],
        )
    else:
        for name in "qkv":
            w[f"W_{name.upper()}"] = rearrange(
                state[f"attn.attention.{name}_proj.weight"], "(head k) d -> head d k", **heads
            )
            w[f"b_{name.upper()}"] = torch.zeros(model.n_heads, model.d_head, dtype=model.dtype)
        w["W_O"] = rearrange(state["attn.attention.out_proj.weight"], "d (head k) -> head k d", **heads)
        w["b_O"], w["W_in"] = state["attn.attention.out_proj.bias"], state["mlp.c_fc.weight"].T
        w["W_out"] = state["mlp.c_proj.weight"].T
    w["b_in"], w["b_out"] = state["mlp.c_fc.bias"], state["mlp.c_proj.bias"]
    norms = {f"{norm}_{part[0]}": state[f"{norm}.{part}"] for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return w | norms


def processed_block(w):
    """`fold_ln`, `center_writing_weights` and `fold_value_biases`, as HookedTransformer did them."""
    for name in "QKV":
        w[f"b_{name}"] = w[f"b_{name}"] + torch.einsum("hdk,d->hk", w[f"W_{name}"], w["ln_1_b"])
        w[f"W_{name}"] = w[f"W_{name}"] * w["ln_1_w"][None, :, None]
        w[f"W_{name}"] = w[f"W_{name}"] - w[f"W_{name}"].mean(1, keepdim=True)
    w["b_in"] = w["b_in"] + torch.einsum("dm,d->m", w["W_in"], w["ln_2_b"])
    w["W_in"] = w["W_in"] * w["ln_2_w"][:, None]
    w["W_in"] = w["W_in"] - w["W_in"].mean(0, keepdim=True)
    w["W_O"], w["W_out"] = w["W_O"] - w["W_O"].mean(2, keepdim=True), w["W_out"] - w["W_out"].mean(1, keepdim=True)
    w["b_O"], w["b_out"] = w["b_O"] - w["b_O"].mean(), w["b_out"] - w["b_out"].mean()
    w["b_O"] = w["b_O"] + torch.einsum("hk,hkd->d", w["b_V"], w["W_O"])
    w["b_V"] = torch.zeros_like(w["b_V"])
    return w


def processed_ends(model):
    """Embeddings centred; the unembedding with the final norm folded in, centred over the vocabulary."""
    state = {k: v.clone() for k, v in model.hf.state_dict().items()}
    w = {"W_E": state["transformer.wte.weight"], "W_pos": state["transformer.wpe.weight"]}
    w = {name: value - value.mean(1, keepdim=True) for name, value in w.items()}
    w_u = state["lm_head.weight"].T
    w["b_U"] = torch.einsum("dv,d->v", w_u, state["transformer.ln_f.bias"])
    w_u = w_u * state["transformer.ln_f.weight"][:, None]
    w_u = w_u - w_u.mean(0, keepdim=True)
    w["W_U"], w["b_U"] = w_u - w_u.mean(1, keepdim=True), w["b_U"] - w["b_U"].mean()
    return w


def oracle_of(model):
    """(ends, blocks): folded weights derived from the raw ones, those of the components as leaves."""
    blocks = [processed_block(raw_block(model, layer)) for layer in range(model.n_layers)]
    for block in blocks:
        block.update({name: block[name].clone().requires_grad_() for name in COMPONENTS})
    return processed_ends(model), blocks


def oracle_logits(model, ends, blocks, row):
    """The forward pass of one text, written out."""
    config, length = model.hf.config, len(row)

    def normalised(x):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + config.layer_norm_epsilon).sqrt()

    x = ends["W_E"][row] + ends["W_pos"][:length]
    scale = math.sqrt(model.d_head) if model.family == "gpt2" else 1.0
    for layer, w in enumerate(blocks):
        window = config.window_size if model.family == "gpt-neo" and layer % 2 else length
        ago = torch.arange(length)[:, None] - torch.arange(length)
        n = normalised(x)
        q, k, v = (torch.einsum("td,hdk->htk", n, w[f"W_{c}"]) + w[f"b_{c}"][:, None] for c in "QKV")
        scores = (torch.einsum("hqk,hsk->hqs", q, k) / scale).masked_fill((ago < 0) | (ago >= window), -torch.inf)
        z = torch.einsum("hqs,hsk->hqk", scores.softmax(-1), v)
        x = x + torch.einsum("hqk,hkd->qd", z, w["W_O"]) + w["b_O"]
        x = x + gelu(normalised(x) @ w["W_in"] + w["b_in"], approximate="tanh") @ w["W_out"] + w["b_out"]
    return normalised(x) @ ends["W_U"] + ends["b_U"]


def oracle_gradients(model, row):
    """Of one paragraph's mean continuation NLL: (layer, component) to a gradient in TransformerLens's shape."""
    ends, blocks = oracle_of(model)
    logp = oracle_logits(model, ends, blocks, row).log_softmax(-1)
    positions = torch.arange(PREFIX, PREFIX + CONTINUATION)
    (-logp[positions - 1, row[positions]].mean()).backward()
    return {(layer, name): blocks[layer][name].grad for layer in range(model.n_layers) for name in COMPONENTS}


def own_gradients(model, row):
    """The same as a backward pass leaves it in the model's own parameters: whole `(input, output)` matrices."""
    model.hf.zero_grad()
    cross_entropy(model(row[None])[0, PREFIX - 1 : -1], row[PREFIX:]).backward()
    return {
        (layer, name): weight_view(model, layer, name, grad=True)
        for layer in range(model.n_layers)
        for name in COMPONENTS
    }


def whole(component, gradient):
    """A gradient in TransformerLens's shape as one `(input, output)` matrix."""
    if component == "W_O":
        return rearrange(gradient, "head k d -> (head k) d")
    return rearrange(gradient, "head d k -> d (head k)") if component in ATTENTION_COMPONENTS else gradient


# The function


@torch.no_grad()
def test_folding_leaves_what_the_model_says_as_it_was(model, tokens):
    raw, new = model(tokens), folded(model)(tokens)
    assert (raw.log_softmax(-1) - new.log_softmax(-1)).abs().max() < 1e-10
    offset = raw - new
    assert (offset - offset[..., :1]).abs().max() < 1e-10, "the same for every token of the vocabulary"
    assert offset.abs().max() > 1e-2
    assert (offset[..., 0] - offset[..., 0].mean()).abs().max() > 1e-2, "another one at each position"


@torch.no_grad()
def test_attention_patterns_are_those_of_the_raw_model(model, tokens):
    names = [name for name in model.hook_names if name.endswith("hook_pattern")]
    _, raw = model.run_with_cache(tokens, names)
    _, new = folded(model).run_with_cache(tokens, names)
    assert len(raw) == model.n_layers
    for name in names:
        assert (raw[name] - new[name]).abs().max() < 1e-12, name


@torch.no_grad()
def test_the_hugging_face_model_underneath_computes_the_same(model, tokens):
    new = folded(model)
    assert difference(new.hf(tokens).logits, new(tokens)) < NEO_IN_FLOAT32[model.family]


@torch.no_grad()
def test_an_unembedding_that_was_never_tied_is_folded_too(make_model, family, tokens):
    model = make_model(family, tie_word_embeddings=False)
    assert model.hf.lm_head.weight is not model.hf.transformer.wte.weight
    new = folded(model)
    assert (model(tokens).log_softmax(-1) - new(tokens).log_softmax(-1)).abs().max() < 1e-10


# The weights


@torch.no_grad()
def test_what_writes_to_the_residual_stream_has_mean_zero_along_it(model):
    new, body = folded(model), folded(model).hf.transformer
    writing = [body.wte.weight, body.wpe.weight]
    writing += [new.weight(layer, component) for layer in range(new.n_layers) for component in ("W_O", "W_out")]
    writing += [bias(new, layer, component) for layer in range(new.n_layers) for component in ("b_O", "b_out")]
    for values in writing:
        assert values.mean(-1).abs().max() < 1e-14
        assert values.std() > 1e-2


@torch.no_grad()
def test_what_reads_the_residual_stream_has_mean_zero_along_it(model):
    new = folded(model)
    for layer in range(new.n_layers):
        for component in ("W_Q", "W_K", "W_V", "W_in"):
            assert new.weight(layer, component).mean(0).abs().max() < 1e-14
            assert new.weight(layer, component).std() > 1e-2
    assert new.hf.lm_head.weight.mean(1).abs().max() < 1e-14


@torch.no_grad()
def test_the_unembedding_has_mean_zero_over_the_vocabulary(model):
    head = folded(model).hf.lm_head
    assert head.weight.mean(0).abs().max() < 1e-14
    assert head.bias.mean().abs() < 1e-14
    assert head.bias.std() > 1e-2


@torch.no_grad()
def test_layer_norms_only_normalise(model):
    new = folded(model)
    norms = [m for m in new.hf.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 2 * new.n_layers + 1
    for norm in norms:
        assert (norm.weight == 1).all() and (norm.bias == 0).all()


@torch.no_grad()
def test_value_biases_are_zero_and_those_of_queries_and_keys_are_not(model):
    new = folded(model)
    for layer in range(new.n_layers):
        assert (bias(new, layer, "b_V") == 0).all()
        assert bias(new, layer, "b_Q").std() > 1e-2 and bias(new, layer, "b_K").std() > 1e-2


@torch.no_grad()
def test_every_weight_is_what_the_formulas_give(model):
    new, (ends, blocks) = folded(model), oracle_of(model)
    for layer, w in enumerate(blocks):
        for component in COMPONENTS:
            assert difference(new.weight(layer, component), whole(component, w[component])) < 1e-13, (layer, component)
        for name in ("b_Q", "b_K", "b_O", "b_in", "b_out"):
            assert difference(bias(new, layer, name), w[name].flatten()) < 1e-13, (layer, name)
    ours = {"W_E": new.hf.transformer.wte.weight, "W_pos": new.hf.transformer.wpe.weight}
    ours |= {"W_U": new.hf.lm_head.weight.T, "b_U": new.hf.lm_head.bias}
    for name, values in ours.items():
        assert difference(values, ends[name]) < 1e-13, name


@torch.no_grad()
def test_a_heads_weight_is_a_view_that_writes_through(model, tokens):
    new, (_, blocks) = folded(model), oracle_of(model)
    for component in ATTENTION_COMPONENTS:
        assert difference(new.weight(1, component, 2), blocks[1][component][2]) < 1e-14
    before = new(tokens)
    new.weight(1, "W_V", 2).mul_(3)
    assert difference(new(tokens), before) > 1e-3


@torch.no_grad()
def test_transformer_lens_makes_the_same_weights(make_model, family, tokenizer, tokens):
    """It processes in float32, whatever the model's dtype."""
    model = make_model(family, tokenizer)
    new, bridge = folded(model), model.bridge()
    bridge.enable_compatibility_mode(disable_warnings=True)
    for layer in range(model.n_layers):
        for component in COMPONENTS:
            theirs = whole(component, getattr(bridge, component)[layer])
            assert difference(theirs, new.weight(layer, component)) < 3e-7, (layer, component)
        for name in ("b_Q", "b_K", "b_O", "b_in", "b_out"):
            theirs = getattr(bridge, name)[layer].flatten()
            assert difference(theirs, bias(new, layer, name)) < 1e-6, (layer, name)
        assert (bridge.b_V[layer] == 0).all()
    body, head = new.hf.transformer, new.hf.lm_head
    pairs = [(bridge.W_E, body.wte.weight), (bridge.W_pos, body.wpe.weight), (bridge.W_U, head.weight.T)]
    for theirs, ours in [*pairs, (bridge.b_U, head.bias)]:
        assert difference(theirs, ours) < 1e-6
    assert difference(bridge(tokens), new(tokens)) < 1e-5


# The gradients


def test_gradients_are_those_of_a_forward_pass_with_folded_weights_as_leaves(model, tokens):
    new = folded(model)
    for row in tokens:
        expected = oracle_gradients(model, row)
        for (layer, component), gradient in own_gradients(new, row).items():
            assert difference(gradient, whole(component, expected[layer, component])) < 1e-10, (layer, component)


def test_a_signature_of_a_folded_model_holds_the_sizes_of_those_gradients(model, paragraphs):
    signature = lz.gradients(folded(model), paragraphs, batch_size=4)
    for row, tokens in enumerate(paragraphs.tokens):
        for (layer, component), expected in oracle_gradients(model, tokens).items():
            at = {"layer": layer, "component": component}
            sizes = {"gradient_max": expected.abs().max(), "gradient_norm": expected.norm()}
            for name, size in sizes.items():
                assert signature[name][row].sel(at).item() == pytest.approx(size.item(), rel=1e-10), (row, at, name)
            if component not in ATTENTION_COMPONENTS:
                continue
            at = {"layer": layer, "attention_component": component}
            sizes = {"head_gradient_max": expected.abs().amax((1, 2)), "head_gradient_norm": expected.norm(dim=(1, 2))}
            for name, size in sizes.items():
                got = signature[name][row].sel(at).values
                assert np.allclose(got, size.numpy(), rtol=1e-10, atol=0), (row, at, name)


def test_folding_changes_every_gradient_but_that_of_w_out(model, tokens):
    """An MLP's hidden activations are the same, and so is the gradient that reaches what it writes."""
    raw, new = own_gradients(model, tokens[0]), own_gradients(folded(model), tokens[0])
    for (layer, component), gradient in raw.items():
        changed = difference(new[layer, component], gradient)
        assert changed < 1e-10 if component == "W_out" else changed > 1e-2, (layer, component)


# What a signature says


def test_a_signature_says_that_its_weights_were_folded(model, paragraphs):
    says = {m.weights: lz.recall(m, paragraphs).dataset.attrs["model"] for m in (model, folded(model))}
    assert {name: about["weights"] for name, about in says.items()} == {"raw": "raw", "folded": "folded"}
    assert says["raw"]["weights_hash"] != says["folded"]["weights_hash"]


def test_raw_and_folded_signatures_do_not_join(model, paragraphs):
    raw, new = lz.recall(model, paragraphs), lz.recall(folded(model), paragraphs)
    with pytest.raises(SignatureError) as error:
        raw | new
    name = f"small {model.family}"
    assert str(error.value) == (
        f"join: the weight processing differ: {name} (weights raw) and {name} (weights folded); "
        "only measurements of one model join."
    )


# The two models


def storages(hf):
    return {value.untyped_storage().data_ptr() for value in (*hf.parameters(), *hf.buffers())}


def test_the_raw_model_stays_as_it_was_and_shares_nothing(model):
    before, hashed = copy.deepcopy(model.hf.state_dict()), model.weights_hash()
    config = model.hf.config.to_dict()
    new = folded(model)
    assert (model.weights, model.weights_hash()) == ("raw", hashed)
    assert model.hf.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.hf.state_dict().items())
    assert model.hf.lm_head.weight is model.hf.transformer.wte.weight
    assert model.hf.config.to_dict() == config
    assert not storages(model.hf) & storages(new.hf)
    with torch.no_grad():
        for p in new.hf.parameters():
            p.fill_(7)
    assert model.weights_hash() == hashed


def test_a_folded_model_is_another_model_by_its_hash(model):
    assert folded(model).weights_hash() != model.weights_hash()
    assert folded(model).weights_hash() == folded(model).weights_hash()


def test_what_is_known_of_the_model_is_kept(model, tokenizer):
    known = HookedModel(model.hf, tokenizer, name="mine", revision="abc", unigram_counts=torch.arange(97))
    new = folded(known)
    assert (new.name, new.revision, new.family, new.weights) == ("mine", "abc", model.family, "folded")
    assert new.tokenizer is tokenizer
    assert new.unigram_counts is known.unigram_counts
    assert [new.window(layer) for layer in range(new.n_layers)] == [model.window(i) for i in range(model.n_layers)]


def test_a_folded_model_is_given_back_as_it_is(model):
    new = folded(model)
    hashed = new.weights_hash()
    assert folded(new) is new
    assert new.weights_hash() == hashed


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-4), (torch.bfloat16, 0.5)])
@torch.no_grad()
def test_a_dtype_is_kept_and_each_weight_rounded_once(make_model, family, tokens, dtype, off):
    model = make_model(family, dtype=dtype)
    new, exact = folded(model), folded(load_model(copy.deepcopy(model.hf), dtype="float64"))
    assert new.dtype == dtype
    ours, theirs = dict(new.hf.named_parameters()), dict(exact.hf.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, p in ours.items():
        assert p.dtype == dtype
        assert torch.equal(p, theirs[name].to(dtype)), name
    assert (model(tokens).float().log_softmax(-1) - new(tokens).float().log_softmax(-1)).abs().max() < off


def test_a_copy_is_ready_to_measure_and_to_train(model):
    model.hf(torch.zeros(1, 2, dtype=torch.long)).logits.sum().backward()
    model.hf.train()
    new = folded(model)
    assert not any(module.training for module in new.hf.modules())
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in new.hf.parameters())
    assert model.hf.training and model.hf.lm_head.weight.grad is not None
    new.forward(torch.zeros(1, 9, dtype=torch.long)).logsumexp(-1).sum().backward()
    assert all(p.grad is not None for p in new.hf.parameters())


def test_frozen_weights_stay_frozen(model):
    with model.frozen():
        assert not any(p.requires_grad for p in folded(model).hf.parameters())


# Bridges, and a folded Hugging Face model by itself


@torch.no_grad()
def test_a_bridge_over_a_folded_model_shares_its_weights(make_model, family, tokenizer, tokens):
    new = folded(make_model(family, tokenizer))
    bridge = new.bridge()
    assert difference(bridge(tokens), new(tokens)) < NEO_IN_FLOAT32[family]
    before = new(tokens)
    new.weight(1, "W_V", 2).mul_(3)
    new.hf.lm_head.bias.mul_(2)
    assert difference(new(tokens), before) > 1e-3
    assert difference(bridge(tokens), new(tokens)) < NEO_IN_FLOAT32[family]


@torch.no_grad()
def test_a_model_loaded_from_that_bridge_is_the_folded_one(make_model, family, tokenizer, tokens):
    new = folded(make_model(family, tokenizer))
    back = load_model(new.bridge())
    assert (back.weights, back.weights_hash()) == ("folded", new.weights_hash())
    assert torch.equal(back(tokens), new(tokens))
    ours, theirs = dict(new.hf.named_parameters()), dict(back.hf.named_parameters())
    assert all(ours[name] is theirs[name] for name in ours)


def test_a_folded_hugging_face_model_is_known_as_one(model):
    new = folded(model)
    back = load_model(new.hf)
    assert (back.weights, back.hf) == ("folded", new.hf)


def test_transformers_does_not_tie_a_folded_model_again(model):
    new = folded(model)
    hashed = new.weights_hash()
    for recompute in (True, False):
        new.hf.tie_weights(recompute_mapping=recompute)
    assert new.weights_hash() == hashed
    assert new.hf.lm_head.weight is not new.hf.transformer.wte.weight


def test_a_folded_models_checkpoint_which_would_lose_its_biases_is_refused(model, tmp_path):
    folded(model).hf.save_pretrained(tmp_path / "folded")
    with pytest.raises(ModelError) as error:
        load_model(tmp_path / "folded")
    assert str(error.value) == (
        f"model {tmp_path / 'folded'}: 'lm_head.bias' has no place in a {model.hf.config.model_type}: "
        "the checkpoint is of a folded model; save the raw model instead and load it with weights='folded'."
    )


def test_a_folded_model_says_so(model):
    assert ", folded weights, float64 on cpu)" in repr(folded(model))
    assert "weights" not in repr(model)
