"""Attribution patching against finite differences of whole forward passes, and against exact patching of small changes."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import DIRECTIONS, PATCH_METRICS, SITES, STREAMS
from localize.measure.patch import patch
from localize.measure.patch_estimate import estimated_effect
from localize.measure.patch_runs import Patching, activation_name, patched_nll, patched_places, two_runs

pytestmark = pytest.mark.gpt2_is_slow("hooked")


PREFIX, CONTINUATION = 24, 16
LENGTH = PREFIX + CONTINUATION
POSITION, TARGET = 20, 29


@pytest.fixture
def pair(tokens):
    """A paragraph longer than the local window, and its copy, with one prefix token and a later one replaced."""
    clean = tokens[:1, :LENGTH]
    copy = clean.clone()
    copy[0, [POSITION, TARGET]] = (copy[0, [POSITION, TARGET]] + 5) % 97
    return tuple(lz.load_paragraphs(t, prefix_length=PREFIX, continuation_length=CONTINUATION) for t in (clean, copy))


def estimated(model, pair, at, **options):
    return patch(model, *pair, continuation="true", metrics=PATCH_METRICS, at=at, null=False, **options)


def run_tokens(pair):
    clean = pair[0].tokens[0]
    corrupted = clean.clone()
    corrupted[POSITION] = pair[1].tokens[0, POSITION]
    return clean, corrupted


def judged(model, tokens, clean, hooks=None):
    """Both metrics, from all logits."""
    nll = -model(tokens[None, :-1], hooks=hooks)[0].log_softmax(-1)[torch.arange(LENGTH - 1), clean[1:]]
    return np.array([float(nll[TARGET - 1]), float(nll[PREFIX - 1 :].mean())])


def slope(model, base, other, clean, name, head, positions, step=1e-5):
    """Central difference of both metrics along the way from one activation to the other."""
    mine, theirs = (model.run_with_cache(t[None, :-1], [name])[1][name] for t in (base, other))
    way = torch.zeros_like(mine)
    at = (0, list(positions)) if head is None else (0, list(positions), head)
    way[at] = (theirs - mine)[at]
    up, down = (judged(model, base, clean, {name: lambda v, _, s=s: v + s * way}) for s in (step, -step))
    return (up - down) / (2 * step)


@torch.no_grad()
@pytest.mark.parametrize("at", ["changed", "all"])
def test_every_estimate_is_the_slope_of_the_nll_along_the_change(hooked, pair, at):
    signature = estimated(hooked, pair, at)
    clean, corrupted = run_tokens(pair)
    positions = [POSITION] if at == "changed" else range(LENGTH - 1)
    largest = 0.0
    for direction, base, other in (("denoising", corrupted, clean), ("noising", clean, corrupted)):
        for layer in range(hooked.n_layers):
            for part in (*SITES, *STREAMS):
                place = "head" if part in SITES else "stream"
                array = signature[f"{place}_patch_estimate"].isel(paragraph=0, layer=layer)
                array = array.sel({"direction": direction, "site" if part in SITES else "stream": part})
                for head in (0, 3) if part in SITES else (None,):
                    mine = array.values if head is None else array.isel(head=head).values
                    name = activation_name(layer, part)
                    expected = slope(hooked, base, other, clean, name, head, positions)
                    assert np.allclose(mine, expected, rtol=1e-6, atol=1e-8), (direction, part, layer, head)
                    largest = max(largest, np.abs(mine).min())
    assert largest > 1e-2


@torch.no_grad()
def test_estimates_of_each_position_are_those_there_and_sum_to_that_of_all(hooked, pair):
    each, changed, every = (
        estimated(hooked, pair, at, layers=[0, 2], sites=("k", "z"), streams=("resid", "mlp_out"))
        for at in ("each", "changed", "all")
    )
    for place in ("head", "stream"):
        found = each[f"{place}_patch_estimate_map"]
        assert found.dims[-1] == "position" and found.sizes["position"] == LENGTH
        alone, together = (s[f"{place}_patch_estimate"].values for s in (changed, every))
        assert np.allclose(found.values[..., POSITION], alone, rtol=1e-10, atol=1e-12, equal_nan=True)
        assert np.allclose(found.values.sum(-1), together, rtol=1e-10, atol=1e-12, equal_nan=True)
        of_first = found.sel(metric="first_changed").values
        assert not np.nan_to_num(found.values[..., :POSITION]).any()
        assert not np.nan_to_num(of_first[..., TARGET:]).any()
        assert (np.abs(np.nan_to_num(found.values[..., POSITION + 1 : TARGET])) > 1e-6).any()


@torch.no_grad()
def test_exact_and_estimated_effects_of_ever_smaller_changes_come_together(hooked, pair):
    clean, corrupted = run_tokens(pair)
    with torch.enable_grad(), hooked.frozen():
        read = slice(PREFIX - 1 - POSITION, None)
        runs = two_runs(hooked, torch.stack([clean, corrupted])[:, :-1], POSITION, read)
        logits = hooked.hf.lm_head(runs.states)
        nll = -logits.log_softmax(-1).gather(-1, clean[PREFIX:].expand(2, -1)[..., None])[..., 0]
        gradients = dict(
            zip(runs.activations, torch.autograd.grad(nll.sum(), list(runs.activations.values())), strict=True)
        )
    base = {name: value.detach() for name, value in runs.activations.items()}
    planned = patched_places(hooked, range(hooked.n_layers), (*SITES, *STREAMS), 4)
    errors = []
    for scale in (1e-2, 1e-3, 1e-4):
        put = {name: value + scale * (value.flip(0) - value) for name, value in base.items()}
        patching = Patching(hooked, base, put, runs.past, LENGTH - 1 - POSITION)
        worst = 0.0
        for unit, after in patched_nll(patching, planned, 200, read, clean[PREFIX:]):
            exact = (after - nll.detach()[:, None]).sum(-1) / scale
            name = activation_name(unit.layer, unit.part)
            estimate = estimated_effect(base[name], put[name], gradients[name]).sum(1) / scale
            worst = max(worst, float((exact - estimate.view_as(exact)).abs().max()))
        errors.append(worst)
    assert errors[0] > 1e-4
    assert errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5, "the difference is of second order"


def test_the_estimate_is_the_change_times_the_gradient_summed_over_an_activations_entries():
    base, put = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, -1.0]]])
    assert estimated_effect(base, put, torch.tensor([[[0.5, 2.0]]])).tolist() == [[2 * 0.5 - 3 * 2.0]]


@torch.no_grad()
def test_estimating_leaves_the_weights_without_gradients_and_as_they_were(hooked, pair):
    before = {name: p.clone() for name, p in hooked.hf.named_parameters()}
    estimated(hooked, pair, "changed")
    for name, p in hooked.hf.named_parameters():
        assert p.grad is None and p.requires_grad and torch.equal(p, before[name]), name


@torch.no_grad()
def test_one_direction_alone_is_estimated_as_beside_the_other(hooked, pair):
    both = estimated(hooked, pair, "changed")
    for index, direction in enumerate(DIRECTIONS):
        one = estimated(hooked, pair, "changed", directions=direction)["head_patch_estimate"].values[:, index]
        assert np.allclose(one, both["head_patch_estimate"].values[:, index], rtol=1e-10, atol=0)


@torch.no_grad()
def test_float32_gives_float32(make_model, family, pair):
    rough, precise = (estimated(make_model(family, dtype=d), pair, "changed") for d in (torch.float32, torch.float64))
    for name in ("head_patch_estimate", "head_patch_effect", "stream_patch_effect", "clean_nll"):
        assert rough[name].dtype == np.float32
        assert np.allclose(rough[name], precise[name], rtol=1e-3, atol=1e-4), name


@torch.no_grad()
@pytest.mark.parametrize("at", ["all", "each"])
def test_half_precision_is_summed_in_float32(make_model, family, pair, at):
    signature = estimated(make_model(family, dtype=torch.bfloat16), pair, at, layers=1, sites="z", streams="mlp_out")
    for name in (name for name in signature.variables if "_patch_" in name):
        chosen = {"site": "z"} if name.startswith("head") else {"stream": "mlp_out"}
        assert signature[name].dtype == np.float32
        assert np.isfinite(signature[name].sel(layer=1, **chosen)).all(), name
