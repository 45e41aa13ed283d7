"""Which weights are chosen, against a sort of all gradients."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.edit.masks import largest_exactly
from localize.models.parameters import weight_view

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def by_sorting(model, tokens, layers, components, count):
    """The largest of all |.grad| by a plain sort, as (layer, component, place)."""
    model.hf.zero_grad()
    logits = model(tokens)[:, PREFIX - 1 : -1]
    cross_entropy(logits.flatten(0, 1), tokens[:, PREFIX:].flatten()).backward()
    all_of_them = [
        (-float(value), layer, component, place)
        for layer in layers
        for component in components
        for place, value in enumerate(weight_view(model, layer, component, grad=True).flatten().abs())
    ]
    model.hf.zero_grad()
    return {(layer, component, place) for _, layer, component, place in sorted(all_of_them)[:count]}


def places(mask):
    return {(layer, component, int(place)) for (layer, component), chosen in mask.indices.items() for place in chosen}


@pytest.mark.parametrize(("layers", "components"), [(None, COMPONENTS), ([1], ("W_V",)), ([2, 0], ("W_out", "W_Q"))])
def test_the_chosen_weights_are_the_first_of_a_sort_over_all_matrices(model, paragraphs, layers, components):
    mask = lz.top_weights(model, paragraphs, 0.003, components=components, layers=layers, batch_size=4)
    of_layers = range(model.n_layers) if layers is None else layers
    total = sum(model.weight(layer, component).numel() for layer in of_layers for component in components)
    assert (mask.total, len(mask)) == (total, max(1, round(0.003 * total)))
    assert places(mask) == by_sorting(model, paragraphs.tokens, sorted(of_layers), components, len(mask))


def test_as_a_matrix_a_mask_lies_on_the_weight_that_the_model_shows(model, paragraphs):
    mask = lz.top_weights(model, paragraphs, 0.01)
    assert sum(int(mask.matrix(layer, component).sum()) for layer, component in mask.shapes) == len(mask)
    for (layer, component), chosen in mask.indices.items():
        matrix = mask.matrix(layer, component)
        assert matrix.shape == model.weight(layer, component).shape
        assert torch.equal(matrix.flatten().nonzero()[:, 0], chosen)


def test_equal_values_at_the_edge_are_taken_from_the_front_and_never_too_many():
    values = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0, 0.0, 3.0])
    assert largest_exactly(values, 4).tolist() == [1, 2, 3, 6]
    assert largest_exactly(values, 7).tolist() == list(range(7))
    assert largest_exactly(torch.zeros(5), 2).tolist() == [0, 1]


def test_the_random_control_has_the_same_size_in_every_matrix_and_follows_its_seed(model, paragraphs):
    mask = lz.top_weights(model, paragraphs, 0.01)
    one, again, other = mask.random_like(0), mask.random_like(0), mask.random_like(1)
    for cell, chosen in mask.indices.items():
        drawn = one.indices[cell]
        assert len(drawn) == len(chosen) == len(set(drawn.tolist()))
        assert torch.equal(drawn, again.indices[cell])
        assert torch.equal(drawn, drawn.sort().values)
    assert places(one) != places(other)
    assert one.weights_hash == mask.weights_hash == model.weights_hash()


def test_random_weights_are_drawn_from_the_whole_matrix_alike(neo, paragraphs):
    mask = lz.top_weights(neo, paragraphs, 0.3)
    drawn = np.concatenate([mask.random_like(seed).indices[1, "W_in"].numpy() for seed in range(60)])
    size = neo.weight(1, "W_in").numel()
    counts = np.bincount(drawn * 8 // size, minlength=8)
    assert np.abs(counts / counts.mean() - 1).max() < 0.1


def test_a_mask_tells_its_size(neo, paragraphs):
    assert repr(lz.top_weights(neo, paragraphs, 0.001)) == "WeightMask(49 of 49,152 weights, 0.100%, in 24 matrices)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "top_weights: fraction=0.0 must lie above 0 and be at most 1."),
        ({"fraction": 1.5}, "top_weights: fraction=1.5 must lie above 0 and be at most 1."),
        (
            {"components": ("W_Z",)},
            "top_weights: components=['W_Z'] must be some of W_Q, W_K, W_V, W_O, W_in, W_out.",
        ),
        ({"layers": [4]}, "top_weights: layers=[4] must be some of 0..3, the layers of small gpt-neo."),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.top_weights(neo, paragraphs, **options)
    assert str(caught.value) == message


def test_a_matrix_that_was_not_chosen_from_is_refused(neo, paragraphs):
    mask = lz.top_weights(neo, paragraphs, layers=[0])
    with pytest.raises(lz.LocalizeError) as caught:
        mask.matrix(1, "W_V")
    assert str(caught.value) == "mask: nothing was chosen from layer 1 W_V."
