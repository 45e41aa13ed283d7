"""Stored units: the ratio by a loop and by hand, its null, and what nothing looks like."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.errors import LocalizeError
from localize.measure.stored_units import best_units, shortened
from localize.measure.unit_effects import unit_effects
from tests.conftest import LENGTH, PREFIX


@pytest.fixture
def rows(rows):
    """Seven paragraphs; the last two are near-duplicates."""
    tokens = rows.tokens.clone()
    tokens[6] = tokens[5]
    tokens[6, -1] = (tokens[5, -1] + 1) % 97
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def by_loop(effects, clusters, floor):
    """The ratio, paragraph by paragraph and unit by unit."""
    found = np.zeros(effects.shape)
    for p in range(len(effects)):
        others = [q for q in range(len(effects)) if clusters[q] != clusters[p]]
        usual = sum(np.abs(effects[q]) for q in others) / len(others)
        for place in np.ndindex(*effects.shape[1:]):
            found[p][place] = effects[p][place] / (usual[place] + floor * usual.mean())
    return found


@pytest.mark.parametrize("floor", [1.0, 0.1])
def test_scores_are_effects_over_their_usual_size_on_the_other_clusters(model, rows, floor):
    effects, signature = unit_effects(model, rows), lz.stored_units(model, rows, floor=floor, untrained=False)
    for name, part in (("unit_score", effects.mlp), ("head_score", effects.heads)):
        expected = by_loop(part.numpy(), rows.clusters, floor)
        np.testing.assert_allclose(signature[name].values, expected, rtol=2**-10, atol=1e-6 * np.abs(expected).max())
    assert rows.clusters[5] == rows.clusters[6], "else near-duplicates would not be left out here"


def test_of_two_paragraphs_each_is_the_others_measure(model, rows):
    two = rows[[0, 1]]
    effects, found = unit_effects(model, two).mlp.numpy(), lz.stored_units(model, two)["unit_score"].values
    size = np.abs(effects)
    for own, other in ((0, 1), (1, 0)):
        expected = effects[own] / (size[other] + size[other].mean())
        np.testing.assert_allclose(found[own], expected, rtol=2**-10, atol=1e-6)


def test_the_null_is_the_best_of_the_same_scores_in_the_untrained_twin(model, rows):
    signature = lz.stored_units(model, rows, seed=4)
    twin = lz.stored_units(lz.untrained(model, 4), rows, untrained=False)
    flat = twin["unit_score"].values.reshape(len(rows), -1)
    assert np.array_equal(signature["unit_score_untrained"].values, -np.sort(-flat, axis=1)[:, :64])
    assert np.array_equal(signature["head_score_untrained"].values, twin["head_score"].values)
    np.testing.assert_allclose(signature["unit_score_sum_untrained"].values, flat.clip(min=0).sum(1), rtol=1e-5)
    width = model.d_mlp
    for row, layers in enumerate(signature["unit_layer_untrained"].values):
        assert layers.tolist() == [place // width for place in np.argsort(-flat[row], kind="stable")[:64].tolist()]
    other = lz.stored_units(model, rows, seed=5)
    assert not np.array_equal(other["unit_score_untrained"].values, signature["unit_score_untrained"].values)


def test_without_the_twin_there_is_no_null(model, rows):
    signature = lz.stored_units(model, rows, untrained=False)
    assert not [name for name in signature.variables if name.endswith("untrained")]
    assert "unit_rank" not in signature.dataset.dims


def test_it_is_the_same_whatever_the_batch(model, rows):
    one, all_at_once = (lz.stored_units(model, rows, untrained=False, batch_size=size) for size in (1, 16))
    np.testing.assert_allclose(one["unit_score"].values, all_at_once["unit_score"].values, rtol=2**-9)
    assert set((one | all_at_once).variables) == set(one.variables)


def test_the_best_units_are_told_with_their_layers():
    scores = np.array([[[1.0, -3.0, 2.0], [5.0, 2.0, 0.0]], [[np.nan] * 3] * 2])
    best, layer = best_units(scores, 3)
    assert best[0].tolist() == [5.0, 2.0, 2.0] and layer[0].tolist() == [1, 0, 1]
    assert np.isnan(best[1]).all() and (layer[1] == -1).all()


def test_shortened_numbers_are_the_nearest_of_ten_bits():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    found = shortened(values)
    assert torch.equal(found, values.half().float()) or float((found - values).abs().div(values.abs()).max()) <= 2**-11
    assert int((found.view(torch.int32) & 0x1FFF).abs().max()) == 0
    assert torch.equal(shortened(found), found)


def test_one_cluster_has_nothing_to_be_told_from(model, rows):
    signature = lz.stored_units(model, rows[[5, 6]])
    for name in ("unit_score", "head_score", "unit_score_untrained", "head_score_untrained"):
        assert np.isnan(signature[name].values).all()
    assert (signature["unit_layer_untrained"].values == -1).all()


def test_a_model_that_no_unit_moves_has_no_scores(counter):
    rows = torch.stack([torch.arange(start, start + 40) % 97 for start in (0, 30, 60)])
    paragraphs = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    assert np.isnan(lz.stored_units(counter, paragraphs)["unit_score"].values).all()


def test_a_floor_that_is_not_above_0_is_refused(neo, rows):
    with pytest.raises(LocalizeError) as error:
        lz.stored_units(neo, rows, floor=0.0)
    assert str(error.value) == "stored_units: floor=0.0 must be above 0."
