"""Locality: the ablation by edited weights, others and random units by a loop, and a model in which few units are all."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.errors import InputError, LocalizeError
from localize.measure.ablated_rows import ablated_rows
from localize.measure.locality import ablated_units, partners, texts_tried
from localize.measure.unit_means import unit_means
from tests.conftest import LENGTH, PREFIX

NAMES = ("located_rise", "located_others_rise", "located_random_rise", "located_lost_match")


@pytest.fixture
def rows(make_rows):
    return make_rows(6)


@pytest.fixture
def reference(make_rows):
    return make_rows(5, seed=6)


def without(model, units, means):
    """The model with some units of each layer constant: out-rows to the bias, which gets what their means write."""
    edited = model.copied()
    for layer in range(model.n_layers):
        chosen = torch.from_numpy(units[layer])
        w_out = edited.weight(layer, "W_out")
        edited.blocks[layer].mlp.c_proj.bias.data += means[layer, chosen] @ w_out[chosen]
        w_out[chosen] = 0.0
    return edited


def nll_of(model, rows):
    logits = model(rows.tokens)[:, PREFIX - 1 : -1]
    losses = cross_entropy(logits.transpose(1, 2), rows.tokens[:, PREFIX:], reduction="none")
    return losses.mean(1).detach().numpy()


def test_own_others_and_random_rises_are_those_of_edited_models(model, rows, reference):
    scores = np.random.default_rng(1).normal(size=(6, model.n_layers, model.d_mlp))
    numbers, options = [5, 40], {"texts": 3, "others": 2, "seed": 7}
    found = lz.locality(model, rows, scores=scores, numbers=numbers, reference=reference, **options)
    means, before = unit_means(model, reference.tokens[:, :-1]).mlp, nll_of(model, rows)
    matched = lz.recall(model, rows)["exact_match"].values
    tried = texts_tried(rows, np.ones(6, bool), 3, 7)
    assert np.flatnonzero(np.isfinite(found["located_rise"].values).all(1)).tolist() == tried.tolist()
    for row in tried.tolist():
        for at, number in enumerate(numbers):
            best, chance = ablated_units(scores[row], [number], rows.hashes[row], 7)[:, 0]
            limit = np.sort(scores[row].ravel())[-number]
            assert np.array_equal(best, scores[row] >= limit)
            edited = without(model, best, means)
            rise = nll_of(edited, rows) - before
            others = partners(rows, np.ones(6, bool), row, 2, 7)
            assert len(others) == 2 and row not in others
            lost = matched[row] - lz.recall(edited, rows)["exact_match"].values[row]
            at_random = nll_of(without(model, chance, means), rows)[row] - before[row]
            expected = (rise[row], rise[others].mean(), at_random, lost)
            assert [float(found[name].values[row, at]) for name in NAMES] == pytest.approx(
                expected, rel=1e-9, abs=1e-12
            )


def test_random_units_lie_in_the_layers_of_the_best_and_grow_with_them():
    scores = np.random.default_rng(0).normal(size=(4, 50))
    scores[2] += 2
    best, chance = ablated_units(scores, [4, 16, 64], b"a", 0)
    assert np.array_equal(best.sum(2), chance.sum(2)) and best.sum((1, 2)).tolist() == [4, 16, 64]
    for smaller, larger in ((0, 1), (1, 2)):
        for which in (best, chance):
            assert (which[smaller] <= which[larger]).all()
    assert not np.array_equal(best[1], chance[1])
    assert not np.array_equal(ablated_units(scores, [16], b"b", 0)[1, 0], chance[1])
    assert not np.array_equal(ablated_units(scores, [16], b"a", 1)[1, 0], chance[1])


def one_unit_matters(make_model, rows, text):
    """A model whose MLPs whisper but for one unit, which fires in one text alone and writes against the gradient of its loss."""
    model, at = make_model("gpt2"), "blocks.1.hook_resid_post"
    for layer in range(model.n_layers):
        model.weight(layer, "W_out")[:] *= 0.01
    logits, seen = model.run_with_cache(rows.tokens, ["blocks.1.hook_resid_mid", at])
    seen[at].retain_grad()
    cross_entropy(logits[text, PREFIX - 1 : -1], rows.tokens[text, PREFIX:]).backward()
    x = model.hf.transformer.h[1].ln_2(seen["blocks.1.hook_resid_mid"]).detach()
    direction = x[text, PREFIX - 1 : -1].mean(0)
    read = x @ direction  # (row, position)
    silent = read[[row for row in range(len(rows)) if row != text]].max()
    model.weight(1, "W_in")[:, 9] = 4 * direction
    model.blocks[1].mlp.c_fc.bias.data[9] = -4 * silent
    fires = (read[text] - silent).clamp(min=0)
    assert int((fires > 0).sum()) >= 2
    write = -(fires[:, None] * seen[at].grad[text]).sum(0)
    model.weight(1, "W_out")[9] = (
        3 * write / write.norm()
    )  # further on, the gradient where it ends no longer points back
    return model


def test_where_one_unit_is_all_one_unit_is_found_and_its_own_text_alone_loses(make_model, rows, reference):
    model = one_unit_matters(make_model, rows, 2)
    scores = lz.stored_units(model, rows, untrained=False)["unit_score"].values[2]
    assert np.unravel_index(scores.argmax(), scores.shape) == (1, 9)
    of_one = np.zeros((6, model.n_layers, model.d_mlp))
    of_one[:, 1, 9] = 1.0
    found = lz.locality(model, rows, scores=of_one, numbers=1, texts=None, others=5, reference=reference)
    own, others, chance = (found[name].values[2, 0] for name in NAMES[:3])
    assert own > 0.05 and abs(others) < 0.1 * own and abs(chance) < 0.1 * own


def test_it_takes_scores_of_any_kind_and_the_same_from_all(neo, rows, reference):
    signature = lz.stored_units(neo, rows)
    given = (
        None,
        signature,
        signature["unit_score"].values,
        lz.localizers.Scores.of(neo, rows, mlp=signature["unit_score"].values),
    )
    found = [lz.locality(neo, rows, scores=one, reference=reference, numbers=[4, 8]) for one in given]
    for other in found[1:]:
        for name in NAMES:
            np.testing.assert_array_equal(other[name].values, found[0][name].values)


def test_it_is_the_same_whatever_the_batch(neo, rows, reference):
    one, many = (lz.locality(neo, rows, reference=reference, numbers=[4, 8], batch_size=size) for size in (1, 64))
    for name in NAMES:
        np.testing.assert_allclose(one[name].values, many[name].values, atol=1e-12)


def test_the_memorized_are_tried_where_there_are_any_one_of_a_cluster(neo, rows, reference):
    labelled = rows.with_groups(["memorized", "other", "memorized", "other", "memorized", "other"])
    found = lz.locality(neo, labelled, reference=reference, numbers=4)
    assert np.flatnonzero(np.isfinite(found["located_rise"].values[:, 0])).tolist() == [0, 2, 4]
    twice = lz.load_paragraphs(rows.tokens[[0, 0, 1, 1]], prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    tried = texts_tried(twice, np.ones(4, bool), 24, 0)
    assert len(tried) == 2 and len(set(twice.clusters[tried])) == 2
    assert all(twice.clusters[other] != twice.clusters[0] for other in partners(twice, np.ones(4, bool), 0, 4, 0))


def test_a_single_cluster_is_not_tried(neo, rows, reference):
    found = lz.locality(neo, rows[[0]], reference=reference)
    assert all(np.isnan(found[name].values).all() for name in NAMES)


def test_a_small_model_is_tried_up_to_all_of_its_units(make_model, rows, reference):
    model = make_model("gpt2", n_layer=1, n_embd=8, n_inner=20, n_head=2)
    found = lz.locality(model, rows, reference=reference)
    assert found["units_ablated"].values.tolist() == [4, 8, 16]
    tiny = make_model("gpt2", n_layer=1, n_embd=8, n_inner=3, n_head=2)
    assert lz.locality(tiny, rows, reference=reference)["units_ablated"].values.tolist() == [3]


def test_what_cannot_be_tried_is_refused_in_one_line(neo, gpt2, rows):
    units = neo.n_layers * neo.d_mlp
    for options, line in (
        (
            {"numbers": units + 1},
            f"number {units + 1} must be a whole number in 1..{units}, the MLP units of the model.",
        ),
        ({"numbers": []}, f"numbers=[] is empty; at least one in 1..{units} is needed."),
        ({"texts": 0}, "texts=0 must be a whole number of at least 1."),
        ({"others": 0}, "others=0 must be a whole number of at least 1."),
        (
            {"scores": np.zeros((6, 2, 3))},
            f"scores are (6, 2, 3); (6, 4, {neo.d_mlp}), (paragraph, layer, unit), is needed.",
        ),
    ):
        with pytest.raises(LocalizeError) as error:
            lz.locality(neo, rows, **options)
        assert str(error.value) == f"locality: {line}"
    for scores, start in (
        (
            lz.recall(neo, rows),
            "locality: scores has no 'unit_score'; measure it with localize.stored_units(model, paragraphs).",
        ),
        (lz.stored_units(neo, rows[[0, 1]]), "locality: scores are of other paragraphs (data_hash"),
        (lz.stored_units(gpt2, rows), "locality: scores are of another model (weights_hash"),
        (lz.localizers.Scores.of(neo, rows, heads=np.zeros((6, 4, 4))), "locality: scores=Scores(made by hand"),
    ):
        with pytest.raises(InputError) as error:
            lz.locality(neo, rows, scores=scores)
        assert str(error.value).startswith(start)


def test_of_own_continuations_all_is_matched_before_and_what_is_lost_is_above_0(neo, rows, reference):
    own = rows.with_own_continuation(neo)
    scores = np.random.default_rng(2).normal(size=(6, neo.n_layers, neo.d_mlp))
    found = lz.locality(neo, own, scores=scores, numbers=200, texts=None, reference=reference)
    means, best = unit_means(neo, reference.tokens[:, :-1]), ablated_units(scores[1], [200], own.hashes[1], 0)[0, 0]
    said = ablated_rows(neo, own.tokens[[1]], PREFIX, mlp=torch.from_numpy(best)[None], means=means)[0]
    assert int(said[0]) < LENGTH - PREFIX
    assert found["located_lost_match"].values[1, 0] == LENGTH - PREFIX - int(said[0])
    assert found["located_rise"].attrs["continuation"] == "own" and found["nll"].attrs["continuation"] == "true"
