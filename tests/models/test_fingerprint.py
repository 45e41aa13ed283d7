"""What a number depends on, the hash depends on: over every field of both configs, and whatever is changed or hooked afterwards."""

import copy
import dataclasses
import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPTNeoConfig

import localize as lz
from localize.errors import InputError, LocalizeError, ModelError
from localize.models import fingerprint as module
from localize.models.hooks import HookedModel

CONFIGS = {"gpt2": GPT2Config, "gpt-neo": GPTNeoConfig}
FIELDS = [(family, field.name) for family, config in CONFIGS.items() for field in dataclasses.fields(config)]
OTHER = {
    "activation_function": "relu",
    "attention_types": [[["local", "global"], 2]],
    "num_layers": 2,
    "n_inner": 64,
    "intermediate_size": 64,
    "dtype": torch.float32,
    "transformers_version": "5.0.0",
    "architectures": ["GPT2Model"],
    "id2label": {0: "a", 1: "b", 2: "c"},
    "label2id": {"a": 0, "b": 1, "c": 2},
    "problem_type": "regression",
    "summary_type": "first",
    "summary_activation": "tanh",
    "bos_token_id": 3,
    "eos_token_id": 3,
    "pad_token_id": 3,
}
"""Of fields that have no other value by their type alone."""

TOGETHER = {
    "num_layers": {"attention_types": [[["global", "local"], 1]]},
    "label2id": {"id2label": {0: "a", 1: "b", 2: "c"}},
}
"""Fields that must agree with another."""

READ = {
    "gpt2": {
        "dtype", "vocab_size", "n_embd", "n_layer", "n_head", "n_inner", "activation_function", "layer_norm_epsilon",
        "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
    },
    "gpt-neo": {
        "dtype", "vocab_size", "hidden_size", "num_layers", "attention_types", "num_heads", "intermediate_size",
        "window_size", "activation_function", "layer_norm_epsilon",
    },
}  # fmt: skip


def other_value(field, value):
    """A value that the field can have instead."""
    if field in OTHER:
        return OTHER[field]
    if isinstance(value, bool):
        return not value
    return value * 2 if value else 1


def with_the_weights_of(model, other):
    """The model, with each weight of the other that has the same shape."""
    own, theirs = model.hf.state_dict(), other.hf.state_dict()
    model.hf.load_state_dict({k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}, strict=False)
    return model


def alike(one, other, tokens):
    """Whether two models say the same of the tokens."""
    with torch.no_grad():
        one, other = one(tokens), other(tokens)
    return one.shape == other.shape and torch.equal(one, other)


@pytest.mark.parametrize(("family", "field"), FIELDS)
def test_a_field_of_the_config_that_changes_a_logit_changes_the_hash(make_model, tokens, family, field):
    model = make_model(family)
    other = other_value(field, getattr(model.hf.config, field))
    assert other != getattr(model.hf.config, field)
    changed = with_the_weights_of(make_model(family, **{field: other}, **TOGETHER.get(field, {})), model)
    same = alike(model, changed, tokens)
    assert same == (field not in READ[family])
    if not same:
        assert changed.weights_hash() != model.weights_hash()


CHANGES = {
    "scaling": lambda hf: setattr(hf.transformer.h[1].attn, "scaling", 1.0),
    "eps": lambda hf: setattr(hf.transformer.h[1].ln_2, "eps", 0.1),
    "last eps": lambda hf: setattr(hf.transformer.ln_f, "eps", 0.1),
    "activation": lambda hf: setattr(hf.transformer.h[1].mlp, "act", nn.LeakyReLU()),
    "max_norm": lambda hf: setattr(hf.transformer.wpe, "max_norm", 0.5),
    "bias added": lambda hf: setattr(hf.lm_head, "bias", nn.Parameter(torch.ones(97, dtype=torch.float64))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_changed_on_a_module_changes_the_hash(gpt2, tokens, what):
    other = gpt2.copied()
    CHANGES[what](other.hf)
    assert not alike(gpt2, other.copied(), tokens)
    assert other.weights_hash() != gpt2.weights_hash()


def test_an_activation_function_is_hashed_with_its_settings(gpt2):
    hashes = set()
    for slope in (0.1, 0.2, 0.1):
        gpt2.blocks[0].mlp.act = nn.LeakyReLU(slope)
        hashes.add(gpt2.weights_hash())
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "names", [("gelu", "gelu_python"), ("gelu", "quick_gelu"), ("gelu_10", "gelu"), ("relu", "relu6")]
)
def test_activation_functions_of_other_names_have_other_hashes(make_model, family, names):
    hashes = [make_model(family, activation_function=name).weights_hash() for name in names]
    assert hashes[0] != hashes[1]
    assert hashes[0] == make_model(family, activation_function=names[0]).weights_hash()


def test_a_config_changed_once_the_model_is_there_changes_neither_numbers_nor_hash(model, tokens):
    """Transformers reads its config when it builds the modules, and so do we."""
    with torch.no_grad():
        expected, theirs = model(tokens), model.hf(tokens).logits
    hashed = model.weights_hash()
    config = model.hf.config
    config.layer_norm_epsilon, config.num_attention_heads, config.activation_function = 0.1, 2, "relu"
    if model.family == "gpt-neo":
        config.window_size, config.attention_layers = 2, ["global"] * 4
    else:
        config.scale_attn_weights = False
    again = HookedModel(model.hf)
    with torch.no_grad():
        assert torch.equal(again(tokens), expected)
        assert torch.equal(model.hf(tokens).logits, theirs)
    assert again.weights_hash() == model.weights_hash() == hashed


def test_dropout_is_no_part_of_the_hash(make_model):
    assert make_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5).weights_hash() == make_model("gpt2").weights_hash()
    model = make_model("gpt2")
    hashed = model.weights_hash()
    model.hf.train()
    assert model.weights_hash() == hashed


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_the_hash_is_the_same_in_another_process_and_on_every_device(family, make_model, device):
    script = f"from tests.conftest import small_model; print(small_model({family!r}).weights_hash())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert lz.load_model(make_model(family), device=device).weights_hash() == other.stdout.strip()


# Hooks of others


def steering(vector):
    return lambda module, inputs, output: output + vector


def test_a_hook_that_is_called_changes_numbers_and_hash_and_is_recorded(model, tokens):
    before, hashed = model(tokens), model.weights_hash()
    assert model.foreign_hooks == ()
    handle = model.blocks[1].mlp.c_proj.register_forward_hook(steering(torch.ones(32)))
    assert not torch.equal(model(tokens), before)
    assert model.weights_hash() == model.weights_hash() != hashed
    assert model.foreign_hooks == ("transformer.h.1.mlp.c_proj: 1 forward hooks",)
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    told = lz.recall(model, paragraphs).dataset.attrs["model"]
    assert told["foreign_hooks"] == ["transformer.h.1.mlp.c_proj: 1 forward hooks"]
    assert told["weights_hash"] == model.weights_hash()
    handle.remove()
    assert model.weights_hash() == hashed


@pytest.mark.parametrize(
    "register",
    [
        lambda hf: hf.transformer.wte.register_forward_hook(steering(1.0)),
        lambda hf: hf.transformer.h[2].ln_1.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
        lambda hf: hf.lm_head.register_full_backward_hook(lambda module, *_: None),
        lambda hf: nn.modules.module.register_module_forward_hook(lambda *_: None),
    ],
)
def test_hooks_of_every_kind_change_the_hash(model, register):
    hashed = model.weights_hash()
    handle = register(model.hf)
    try:
        assert model.weights_hash() != hashed
    finally:
        handle.remove()
    assert model.weights_hash() == hashed


def test_two_vectors_in_one_hook_have_two_hashes_and_so_has_the_same_hook_registered_twice(model):
    vector, hashes = torch.ones(32), set()
    handle = model.blocks[0].mlp.c_proj.register_forward_hook(steering(vector))
    hashes.add(model.weights_hash())
    vector[3] = 2.0
    hashes.add(model.weights_hash())
    handle.remove()
    for held in (functools.partial(steering(0.0), 1.0), Steering(vector), Steering(vector).apply):
        handle = model.blocks[0].mlp.c_proj.register_forward_hook(held)
        hashes.add(model.weights_hash())
        handle.remove()
    assert len(hashes) == 5


class Steering:
    """A hook as an object, which holds its vector as an attribute."""

    def __init__(self, vector):
        self.vector = vector

    def __call__(self, module, inputs, output):
        return output + self.vector

    apply = __call__


def test_an_objects_vector_is_hashed(model):
    hook = Steering(torch.zeros(32))
    model.blocks[0].mlp.c_proj.register_forward_hook(hook.apply)
    before = model.weights_hash()
    hook.vector = torch.ones(32)
    assert model.weights_hash() != before


def test_a_hook_that_only_collects_what_it_sees_leaves_the_hash_as_it_is(model, tokens):
    """Else two measurements of one model would not join."""
    seen, by_name = [], {}

    def collect(module, inputs, output):
        seen.append(output)
        by_name[len(by_name)] = output

    model.blocks[0].mlp.c_fc.register_forward_hook(collect)
    hashed = model.weights_hash()
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    signature = lz.recall(model, paragraphs) | lz.gradients(model, paragraphs, sets=False)
    assert len(seen) == len(by_name) > 0
    assert signature.dataset.attrs["model"]["weights_hash"] == model.weights_hash() == hashed


def test_no_other_process_gives_the_hash_of_a_hooked_model(model, monkeypatch):
    plain = model.weights_hash()
    handle = model.blocks[0].mlp.c_proj.register_forward_hook(steering(1.0))
    here = model.weights_hash()
    monkeypatch.setattr(module, "PROCESS", "another")
    assert model.weights_hash() != here
    handle.remove()
    assert model.weights_hash() == plain


def test_a_copy_has_the_hash_of_the_model_that_it_is_of_hooks_and_all(model):
    assert model.copied().weights_hash() == model.weights_hash()
    model.blocks[0].mlp.c_proj.register_forward_hook(steering(torch.ones(32)))
    assert model.copied().weights_hash() == model.weights_hash()


class Doubled(nn.Module):
    """An activation function of the user's own."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return self.by * x


def test_a_module_of_the_users_own_is_recorded_and_its_settings_are_hashed(model):
    hashes = {model.weights_hash()}
    for by in (2.0, 3.0, torch.tensor(2.0)):
        model.blocks[1].mlp.act = Doubled(by)
        hashes.add(model.weights_hash())
    assert len(hashes) == 4
    assert model.foreign_hooks == ("transformer.h.1.mlp.act: a Doubled",)


def test_an_edit_is_not_applied_to_a_steered_model(neo):
    whole, values = neo.weights_hash(), {(0, "W_Q"): torch.zeros(1, dtype=torch.float64)}
    mask = lz.WeightMask({(0, "W_Q"): torch.tensor([5])}, {(0, "W_Q"): (32, 32)}, whole)
    before = {(0, "W_Q"): neo.weight(0, "W_Q").flatten()[[5]]}
    edit = lz.WeightEdit.of(mask, before, values, {"measurement": "unlearn"})
    handle = neo.blocks[1].mlp.c_proj.register_forward_hook(steering(1.0))
    with pytest.raises(LocalizeError) as caught:
        edit.apply(neo)
    assert str(caught.value) == (
        "apply: small gpt-neo has the edited weights as they were before, but other weights, its settings or the hooks on it differ "
        "from the model that the edit was made of; it applies to that one alone."
    )
    handle.remove()
    edit.apply(neo)
    edit.undo(neo)
    assert neo.weights_hash() == whole


def test_a_perturbation_of_the_model_without_its_hook_is_not_used_for_the_steered_one(neo, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    prefix = lz.perturb_prefix(neo, paragraphs, draws=1)
    neo.blocks[1].mlp.c_proj.register_forward_hook(steering(1.0))
    with pytest.raises(InputError, match="they must be the same"):
        lz.corrupt_prefix(neo, paragraphs, perturbation=prefix)


UNCALLED = {
    "the model itself": lambda hf: hf,
    "transformer": lambda hf: hf.transformer,
    "transformer.drop": lambda hf: hf.transformer.drop,
    "transformer.h.1": lambda hf: hf.transformer.h[1],
    "transformer.h.1.attn": lambda hf: hf.transformer.h[1].attn,
    "transformer.h.1.mlp": lambda hf: hf.transformer.h[1].mlp,
    "transformer.h.1.mlp.dropout": lambda hf: hf.transformer.h[1].mlp.dropout,
}


@pytest.mark.parametrize("name", UNCALLED)
def test_a_hook_where_it_would_never_be_called_is_refused(model, tokens, name):
    handle = UNCALLED[name](model.hf).register_forward_hook(steering(1.0))
    expected = (
        f"small {model.family}: {name} has a forward hook, which would never be called: the forward pass here calls linear maps, norms, "
        "activation functions and embeddings; put it on one of those (on mlp.c_proj for what a block writes), or take it off."
    )
    for refused in (lambda: model(tokens), lambda: HookedModel(model.hf, name=model.name)):
        with pytest.raises(ModelError) as caught:
            refused()
        assert str(caught.value) == expected
    handle.remove()
    assert model(tokens).isfinite().all()


def test_hooks_inside_attention_that_would_never_be_called_are_refused(neo, tokens):
    for inner in (neo.blocks[0].attn.attention, neo.blocks[0].attn.attention.resid_dropout):
        handle = inner.register_forward_pre_hook(lambda *_: None)
        with pytest.raises(ModelError, match="has a forward pre hook, which would never be called"):
            neo(tokens)
        handle.remove()


class OtherMLP(nn.Module):
    """One with the right parts, put together in another way."""

    def __init__(self, mlp):
        super().__init__()
        self.c_fc, self.act, self.c_proj, self.dropout = mlp.c_fc, mlp.act, mlp.c_proj, mlp.dropout

    def forward(self, x):
        return 2 * self.c_proj(self.act(self.c_fc(x)))


def test_a_block_with_a_forward_pass_of_its_own_is_refused(model, tokens):
    model.blocks[1].mlp = OtherMLP(model.blocks[1].mlp)
    with pytest.raises(ModelError) as caught:
        model(tokens)
    assert str(caught.value) == (
        f"small {model.family}: transformer.h.1.mlp has a forward pass of its own (OtherMLP), which would never be called; the modules of "
        "transformers' gpt_neo and gpt2 can be localized."
    )


class LowRank(nn.Module):
    """A linear map with an adapter beside it, as such packages wrap them."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer

    @property
    def weight(self):
        return self.base_layer.weight

    def forward(self, x):
        return self.base_layer(x)


class Int8(nn.Linear):
    """A linear map as quantising packages leave it."""

    def __init__(self, base):
        super().__init__(base.in_features, base.out_features)
        self.weight = nn.Parameter(base.weight.detach().to(torch.int8), requires_grad=False)

    def forward(self, x):
        return x


def refusal_of(hf):
    with pytest.raises(ModelError) as caught:
        lz.load_model(hf)
    return str(caught.value)


ALLOWED = (
    "plain linear maps and embeddings with float32, float64, bfloat16, float16 weights of their own can be localized: load the model "
    "unquantised, and merge adapters into it."
)


def test_adapters_are_refused(model, tokens):
    hf = model.hf
    hf.transformer.h[0].mlp.c_fc = LowRank(hf.transformer.h[0].mlp.c_fc)
    expected = f"transformer.h.0.mlp.c_fc is a LowRank of float64 weights; {ALLOWED}"
    assert refusal_of(hf) == f"in memory: {expected}"
    with pytest.raises(ModelError) as caught:  # one that was put there after the model was loaded
        model(tokens)
    assert str(caught.value) == f"small {model.family}: {expected}"


def test_parametrized_weights_are_refused(neo):
    nn.utils.parametrizations.weight_norm(neo.blocks[0].mlp.c_fc)
    expected = f"in memory: transformer.h.0.mlp.c_fc is a ParametrizedLinear of float64 weights; {ALLOWED}"
    assert refusal_of(neo.hf) == expected


def test_quantised_models_are_refused(neo, gpt2):
    neo.blocks[2].attn.attention.v_proj = Int8(neo.blocks[2].attn.attention.v_proj)
    expected = f"in memory: transformer.h.2.attn.attention.v_proj is a Int8 of int8 weights; {ALLOWED}"
    assert refusal_of(neo.hf) == expected
    gpt2.hf.lm_head = Int8(gpt2.hf.lm_head)
    assert refusal_of(gpt2.hf) == f"in memory: lm_head is a Int8 of int8 weights; {ALLOWED}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_a_model_that_torch_quantised_is_refused(make_model, family):
    hf = torch.ao.quantization.quantize_dynamic(make_model(family, dtype=torch.float32).hf, {nn.Linear}, torch.qint8)
    first = "lm_head" if family == "gpt2" else "transformer.h.0.attn.attention.q_proj"
    assert refusal_of(hf) == f"in memory: {first} is a Linear; {ALLOWED}"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64], ids=str)
def test_weights_of_other_dtypes_are_refused(neo, dtype):
    neo.hf.transformer.wpe.weight = nn.Parameter(neo.hf.transformer.wpe.weight.detach().to(dtype), requires_grad=False)
    of = str(dtype).removeprefix("torch.")
    assert refusal_of(neo.hf) == f"in memory: transformer.wpe is a Embedding of {of} weights; {ALLOWED}"


# Where no gradient can be computed


DIFFERENTIATE = {
    "gradients": lz.gradients,
    "activation_gradients": lz.activation_gradients,
    "set_similarity": lz.set_similarity,
    "copy_similarity": lambda model, paragraphs: lz.copy_similarity(model, paragraphs, paragraphs),
    "contrastive_gradients": lambda model, paragraphs: lz.contrastive_gradients(model, paragraphs, forget="a", keep="b"),
    "noise": lz.noise,
    "patch": lambda model, paragraphs: lz.patch(model, paragraphs, copies_of(paragraphs), continuation="true", metrics="continuation"),
    "top_weights": lz.top_weights,
    "unlearn": lambda model, paragraphs: lz.unlearn(
        model, paragraphs[:3], paragraphs[3:], lz.choose_weights(model), steps=1
    ),
}  # fmt: skip


def copies_of(paragraphs):
    tokens = paragraphs.tokens.clone()
    tokens[:, 5] = (tokens[:, 5] + 1) % 97
    return lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)


@pytest.mark.parametrize("name", DIFFERENTIATE)
def test_what_differentiates_says_what_is_allowed_inside_inference_mode(gpt2, tokens, name):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36).with_groups("aaabbb")
    with torch.inference_mode(), pytest.raises(LocalizeError) as caught:
        DIFFERENTIATE[name](gpt2, paragraphs)
    assert str(caught.value) == (
        "small gpt2: no gradient can be computed inside torch.inference_mode(); measure outside of it, or inside torch.no_grad(), "
        "which is allowed."
    )


def test_gradients_are_the_same_inside_no_grad(model, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    expected = lz.gradients(model, paragraphs)
    with torch.no_grad():
        found = lz.gradients(model, paragraphs)
    assert expected.dataset.drop_attrs().equals(found.dataset.drop_attrs())


def test_weights_made_inside_inference_mode_measure_recall_and_refuse_gradients(make_model, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    with torch.inference_mode():
        model = HookedModel(copy.deepcopy(make_model("gpt2").hf), name="mine")
    assert lz.recall(model, paragraphs).dataset.equals(lz.recall(make_model("gpt2"), paragraphs).dataset)
    with pytest.raises(LocalizeError) as caught:
        lz.gradients(model, paragraphs)
    assert str(caught.value) == (
        "mine: its weights were made inside torch.inference_mode(), and no gradient can be computed with them; load it outside of it."
    )
    with torch.inference_mode():
        assert lz.recall(make_model("gpt2"), paragraphs).dataset.equals(lz.recall(model, paragraphs).dataset)


def test_inside_unchanged_a_model_is_hashed_and_scored_once_and_after_it_an_edit_is_seen(gpt2, make_rows, monkeypatch):
    from localize.measure import scoring
    from localize.models import hooks

    calls = {"hash": 0, "recall": 0}

    def counted(name, function):
        def call(*given, **options):
            calls[name] += 1
            return function(*given, **options)

        return call

    monkeypatch.setattr(hooks, "fingerprint", counted("hash", hooks.fingerprint))
    monkeypatch.setattr(scoring, "measure_recall", counted("recall", scoring.measure_recall))
    rows = make_rows(3)
    with gpt2.unchanged():
        first = scoring.recall_of(gpt2, rows)
        first.token_nll[:] = 0.0  # what a caller does to its arrays is seen by no other
        with gpt2.unchanged():
            again, hashed = scoring.recall_of(gpt2, rows), gpt2.weights_hash()
        assert scoring.recall_of(gpt2, rows[[0]]).token_nll.shape[0] == 1
        assert gpt2.weights_hash() == hashed
    assert calls == {"hash": 1, "recall": 2}
    assert again.token_nll.min() > 0
    with torch.no_grad():
        gpt2.weight(0, "W_in").mul_(1.5)
    assert gpt2.weights_hash() != hashed
    assert not np.array_equal(scoring.recall_of(gpt2, rows).token_nll, again.token_nll)
