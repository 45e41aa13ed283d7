"""The contrastive objective's gradients, against autograd of the objective written out."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

import localize as lz
from localize.axes import COMPONENTS
from localize.measure.gradient_size import Sizes
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules, weight_view

PREFIX, LENGTH = 24, 60
NAMES = ("gradient_max", "gradient_norm", "head_gradient_max", "head_gradient_norm")


@pytest.fixture
def paragraphs(tokens):
    loaded = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    return loaded.with_groups(["f", "f", "k", "k", "k", "other"])


def objective(model, reference, tokens, c):
    """-c NLL of rows 0, 1 and KL(reference || model) of rows 2, 3, 4, both token means."""
    read = slice(PREFIX - 1, None)
    nll = cross_entropy(model(tokens[:2, :-1], read=read).transpose(1, 2), tokens[:2, PREFIX:])
    logs = model(tokens[2:5, :-1], read=read).log_softmax(-1)
    with torch.no_grad():
        before = reference(tokens[2:5, :-1], read=read).log_softmax(-1)
    return -c * nll, kl_div(logs, before, reduction="none", log_target=True).sum(-1).mean()


def sizes_after(model, tokens, steps, c, learning_rate):
    """Sizes of the objective's and the terms' gradients after steps of AdamW written out the plain way."""
    moved = HookedModel(copy.deepcopy(model.hf))
    moved.hf.requires_grad_(False)
    modules = {linear_modules(block, model.family)[name][0] for block in moved.blocks for name in COMPONENTS}
    for module in modules:
        module.weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([module.weight for module in modules], lr=learning_rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(objective(moved, model, tokens, c)).backward()
        optimizer.step()
    sizes = Sizes(moved, 3)
    for row, which in enumerate((slice(None), slice(0, 1), slice(1, 2))):
        optimizer.zero_grad()
        sum(objective(moved, model, tokens, c)[which]).backward()
        for layer in range(model.n_layers):
            for component in COMPONENTS:
                sizes.fill_formed(row, layer, component, weight_view(moved, layer, component, grad=True))
    return sizes.arrays


@pytest.mark.parametrize("steps", [1, 3])
def test_after_some_steps_both_terms_are_autograds(hooked, paragraphs, steps):
    signature = lz.contrastive_gradients(
        hooked, paragraphs, forget="f", keep="k", c=0.3, steps=steps, learning_rate=1e-3, batch_size=2
    )
    oracle = sizes_after(hooked, paragraphs.tokens, steps, 0.3, 1e-3)
    for name in NAMES:
        got = signature[f"contrastive_{name}"].values
        assert np.allclose(got, oracle[name].numpy(), rtol=1e-5, atol=1e-12), name
    keep = signature["contrastive_gradient_norm"].sel(term="keep")
    assert float(keep.min()) > 0
    call = signature.dataset.attrs["calls"][0]
    assert len(call["values"]) == steps + 1
    assert call["values"][0]["kl"] == 0 < call["values"][-1]["kl"]
    assert call["values"][0]["nll"] < call["values"][-1]["nll"]


def test_without_a_step_the_keep_term_is_empty_and_the_result_says_so(hooked, paragraphs):
    signature = lz.contrastive_gradients(hooked, paragraphs, forget="f", keep="k", c=0.1, batch_size=2)
    norm = signature["contrastive_gradient_norm"]
    assert float(norm.sel(term="keep").max()) == 0
    assert signature.dataset.attrs["calls"][0]["keep_term"].startswith("empty: at the model itself")
    plain = lz.gradients(hooked, paragraphs, set_sizes="all")["set_gradient_norm"].sel(set="f")
    assert np.allclose(norm.sel(term="objective"), 0.1 * plain, rtol=1e-10)


def test_the_model_stays_as_it_is(neo, paragraphs):
    before = neo.weights_hash()
    lz.contrastive_gradients(neo, paragraphs, forget="f", keep="k", steps=2, learning_rate=1e-2)
    assert neo.weights_hash() == before
    assert all(p.grad is None for p in neo.hf.parameters())


def test_a_group_that_is_not_there_is_refused(neo, paragraphs):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.contrastive_gradients(neo, paragraphs)
    assert str(caught.value) == (
        "contrastive_gradients: forget='memorized' and keep='not_memorized' must be two of the groups, f, k, other."
    )


@pytest.mark.parametrize("wrong", [{"c": 0.0}, {"c": float("nan")}, {"steps": -1}, {"learning_rate": -1.0}])
def test_settings_out_of_range_are_refused(neo, paragraphs, wrong):
    given = {"c": 0.1, "learning_rate": 1e-5, "steps": 0} | wrong
    with pytest.raises(lz.LocalizeError) as caught:
        lz.contrastive_gradients(neo, paragraphs, forget="f", keep="k", **wrong)
    assert str(caught.value) == (
        f"contrastive_gradients: c={given['c']} and learning_rate={given['learning_rate']} must be finite and above 0, "
        f"steps={given['steps']} at least 0."
    )
