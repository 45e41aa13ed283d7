"""Per-paragraph gradients against a loop of plain backward passes through the Hugging Face model's own parameters."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.measure.equal_sets import sets_of
from localize.models.folding import folded
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules, weight_view

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
    signature = lz.gradients(hooked, paragraphs, set_sizes="all", batch_size=4)
    assert signature["set_size"].values.tolist() == [2, 4] and signature["set_count"].values.tolist() == [1, 1]
    for group, rows in (("a", paragraphs.tokens[:2]), ("b", paragraphs.tokens[2:])):
        oracle = by_backward_pass(hooked, rows)
        for name in NAMES:
            got = signature[f"set_{name}"].sel(set=group).values
            assert np.allclose(got, oracle[name], rtol=1e-10, atol=1e-14), (group, name)


def test_sets_are_of_equal_size_and_what_is_measured_of_them_is_averaged(hooked, paragraphs):
    signature = lz.gradients(hooked, paragraphs, seed=1, batch_size=4)
    assert signature["set_size"].values.tolist() == [2, 2] and signature["set_count"].values.tolist() == [1, 2]
    drawn = sets_of(np.array(paragraphs.groups), paragraphs.hashes, sizes="equal", draws=4, seed=1)
    one, other = (paragraphs.tokens[drawn.rows(index)] for index in drawn.drawn("b"))
    oracles = [by_backward_pass(hooked, rows) for rows in (one, other)]
    for name in NAMES:
        got = signature[f"set_{name}"].sel(set="b").values
        assert np.allclose(got, sum(oracle[name] for oracle in oracles) / 2, rtol=1e-10, atol=1e-14), name


def test_the_same_text_has_the_same_set_gradient_beside_few_paragraphs_and_in_a_group_of_many(neo):
    """28 random rows dealt out 8 times, 4 to one group and 24 to the other: whole groups differ by their size alone."""
    rows = torch.randint(97, (28, 60), generator=torch.Generator().manual_seed(3))
    ratios = {"equal": [], "all": []}
    for seed in range(8):
        groups = np.random.default_rng(seed).permutation(list("a" * 4 + "b" * 24))
        named = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION).with_groups(groups)
        for sizes, ratio in ratios.items():
            found = lz.gradients(neo, named, set_sizes=sizes)["set_gradient_max"].sum(["layer", "component"])
            ratio.append(float(found.sel(set="a") / found.sel(set="b")))
    assert np.mean(ratios["all"]) > 1.4
    assert np.mean(ratios["equal"]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"set_sizes": "each"}, "gradients: set_sizes='each' is not one of equal, all."),
        ({"set_draws": 0}, "gradients: set_draws=0 must be at least 1."),
    ],
)
def test_sets_that_cannot_be_drawn_are_refused(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.gradients(neo, paragraphs, **options)
    assert str(caught.value) == message


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


def test_shares_are_parts_of_a_paragraphs_whole_squared_gradient(hooked, paragraphs):
    signature = lz.gradients(hooked, paragraphs, sets=False)
    assert np.allclose(signature["gradient_share"].sum(["layer", "component"]), 1, rtol=1e-12)
    squares = signature["gradient_norm"].values ** 2
    assert np.allclose(signature["gradient_share"], squares / squares.sum((1, 2), keepdims=True), rtol=1e-12)
    of_heads = signature["head_gradient_share"].sum("head").values
    assert np.allclose(of_heads, signature["gradient_share"].values[:, :, :4], rtol=1e-10)


@pytest.mark.parametrize("statistics", [("norm",), ("max",), ("norm", "max")])
def test_only_what_is_asked_for_is_measured_and_it_is_the_same(hooked, paragraphs, statistics):
    both, some = lz.gradients(hooked, paragraphs), lz.gradients(hooked, paragraphs, statistics=statistics)
    assert ("gradient_max" in some, "gradient_norm" in some) == ("max" in statistics, "norm" in statistics)
    assert ("gradient_share" in some) == ("set_cancellation" in some) == ("norm" in statistics)
    for name in some.variables:
        assert np.allclose(some[name], both[name], rtol=1e-9, atol=1e-13), name


@pytest.mark.parametrize("statistics", [(), ("mean",), ("max", "l1")])
def test_other_statistics_are_refused(neo, paragraphs, statistics):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.gradients(neo, paragraphs, statistics=statistics)
    assert str(caught.value) == f"gradients: statistics={list(statistics)} must hold one or both of max, norm."


def test_cancellation_is_what_the_mean_loses_against_the_paragraphs(hooked, paragraphs):
    signature = lz.gradients(hooked, paragraphs, set_sizes="all")
    norms = signature["gradient_norm"].values[2:]
    left = signature["set_gradient_norm"].sel(set="b").values / norms.mean(0)
    assert np.allclose(signature["set_cancellation"].sel(set="b"), 1 - left, rtol=1e-10)
    unrelated = np.sqrt((norms**2).sum(0)) / norms.sum(0)
    assert np.allclose(signature["set_cancellation_null"].sel(set="b"), 1 - unrelated, rtol=1e-12)


def test_copies_of_one_paragraph_do_not_cancel(neo, tokens):
    same = lz.load_paragraphs(tokens[:1].repeat(4, 1), prefix_length=PREFIX, continuation_length=CONTINUATION)
    signature = lz.gradients(neo, same.with_groups("aaaa"))
    assert np.abs(signature["set_cancellation"]).max() < 1e-12
    assert np.allclose(signature["set_cancellation_null"], 0.5, rtol=1e-12)


def test_recall_from_the_gradients_own_pass_is_that_of_recall(hooked, paragraphs):
    for chosen in (paragraphs, paragraphs.with_own_continuation(hooked)):
        signature, alone = lz.gradients(hooked, chosen, batch_size=4), lz.recall(hooked, chosen)
        assert np.array_equal(signature["exact_match"], alone["exact_match"])
        assert np.allclose(signature["token_nll"], alone["token_nll"], rtol=1e-12)


def test_groups_of_exact_match_are_known_in_time_for_the_sets(neo, tokens):
    own = neo.continue_greedily(tokens[:3, :PREFIX], CONTINUATION)
    said = torch.cat([torch.cat([tokens[:3, :PREFIX], own], 1), tokens[3:]])
    signature = lz.gradients(
        neo, lz.load_paragraphs(said, prefix_length=PREFIX, continuation_length=CONTINUATION), batch_size=2
    )
    assert signature["set"].values.tolist() == ["memorized", "not_memorized"]
    oracle = by_backward_pass(neo, said[:3])
    assert np.allclose(signature["set_gradient_norm"].sel(set="memorized"), oracle["gradient_norm"], rtol=1e-10)


def outer_by_backward_pass(model, row):
    """Gradients of the embeddings and biases from `.grad`, the tied matrix as the model uses it: in both places."""
    model.hf.zero_grad()
    cross_entropy(model(row[None])[0, PREFIX - 1 : -1], row[PREFIX:]).backward()
    body = model.hf.transformer
    found = {"W_E + W_U": body.wte.weight.grad.clone(), "W_pos": body.wpe.weight.grad.clone()}
    biases = []
    for layer in range(model.n_layers):
        of_layer = []
        for component in COMPONENTS:
            module, part = linear_modules(model.blocks[layer], model.family)[component]
            if module.bias is None:
                of_layer.append(None)
                continue
            parts = 3 if module.bias.shape[0] == 3 * model.d_model and component in ("W_Q", "W_K", "W_V") else 1
            of_layer.append(module.bias.grad.chunk(parts)[part].clone())
        biases.append(of_layer)
    model.hf.zero_grad()
    return found, biases


def test_embeddings_and_biases_are_those_of_a_backward_pass_the_tied_matrix_with_both_its_uses(hooked, paragraphs):
    signature = lz.gradients(hooked, paragraphs, sets=False, embeddings=True, biases=True, batch_size=4)
    for row in range(len(paragraphs)):
        outer, biases = outer_by_backward_pass(hooked, paragraphs.tokens[row])
        for name, gradient in outer.items():
            got = [signature[f"embedding_gradient_{size}"].sel(embedding=name).values[row] for size in ("max", "norm")]
            assert got == pytest.approx([float(gradient.abs().max()), float(gradient.norm())], rel=1e-10), name
        for layer, of_layer in enumerate(biases):
            for b, gradient in enumerate(of_layer):
                got = [signature[f"bias_gradient_{size}"].values[row, layer, b] for size in ("max", "norm")]
                wanted = [np.nan] * 2 if gradient is None else [float(gradient.abs().max()), float(gradient.norm())]
                assert got == pytest.approx(wanted, rel=1e-10, nan_ok=True), (layer, b)


def test_a_tied_matrix_has_the_gradient_of_its_two_uses_and_their_cross_term(hooked, paragraphs):
    """The two uses apart, from a copy whose unembedding is a matrix of its own."""
    signature = lz.gradients(hooked, paragraphs, sets=False, embeddings=True, statistics=("norm",))
    untied = HookedModel(copy.deepcopy(hooked.hf))
    untied.hf.lm_head.weight = torch.nn.Parameter(hooked.hf.lm_head.weight.detach().clone())
    apart = lz.gradients(untied, paragraphs, sets=False, embeddings=True, statistics=("norm",))
    both, alone = (s["embedding_gradient_norm"] for s in (signature, apart))
    assert np.allclose(
        both.sel(embedding=["W_E", "W_pos", "W_U"]), alone.sel(embedding=["W_E", "W_pos", "W_U"]), rtol=1e-10
    )
    assert np.isnan(alone.sel(embedding="W_E + W_U")).all()
    squares = both**2
    cross = squares.sel(embedding="W_E + W_U") - squares.sel(embedding="W_E") - squares.sel(embedding="W_U")
    assert float(np.abs(cross).max()) > 1e-3 * float(squares.sel(embedding="W_E").max())


def test_a_model_that_gives_nan_is_told_in_one_line(neo, paragraphs):
    with torch.no_grad():
        neo.hf.transformer.ln_f.bias[0] = torch.nan
    with pytest.raises(
        lz.LocalizeError, match=r"^small gpt-neo: the NLL of paragraph '0' at position 24 is nan; a finite"
    ):
        lz.gradients(neo, paragraphs)


def test_the_papers_table_is_one_backward_pass_over_a_bins_rows_in_the_folded_model(hooked, tokens):
    """Own continuations, groups by exact match on the true ones, folded weights, max per cell, summed over a layer's cells."""
    model = folded(hooked)
    own = hooked.continue_greedily(tokens[:2, :PREFIX], CONTINUATION)
    rows = torch.cat([torch.cat([tokens[:2, :PREFIX], own], 1), tokens[2:]])
    loaded = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)
    bins = [(0, 10), (11, CONTINUATION - 1), (CONTINUATION, CONTINUATION)]
    own_ones = loaded.with_em_bins(bins).with_own_continuation(model)
    signature = lz.gradients(model, own_ones, set_sizes="all", batch_size=4)
    heads = signature["set_head_gradient_max"].sum(["attention_component", "head"])
    table = heads + signature["set_gradient_max"].sel(component=["W_in", "W_out"]).sum("component")
    assert table["set"].values.tolist() == [f"EM {CONTINUATION}", "EM 0-10"]
    said = torch.cat([rows[2:, :PREFIX], hooked.continue_greedily(rows[2:, :PREFIX], CONTINUATION)], 1)
    for name, of_bin in ((f"EM {CONTINUATION}", rows[:2]), ("EM 0-10", said)):
        oracle = by_backward_pass(model, of_bin)
        layers = oracle["head_gradient_max"].sum((1, 2)) + oracle["gradient_max"][:, 4:].sum(1)
        assert np.allclose(table.sel(set=name), layers, rtol=1e-9)
