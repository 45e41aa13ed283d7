"""Which weights are chosen, against a sort of all gradients or scores, and marks left on the weights themselves."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.edit.masks import (
    WeightMask,
    choose_weights,
    largest_exactly,
    largest_weights,
    mask_controls,
    named_layers,
)
from localize.errors import called_as
from localize.models.parameters import weight_view

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def hand_mask(model, counts, component="W_in"):
    """A mask of so many weights in each layer, chosen from all components."""
    indices = {(layer, component): torch.arange(count) * 3 for layer, count in counts.items()}
    return WeightMask(indices, choose_weights(model).shapes, model.weights_hash())


def refusal(call, error=lz.LocalizeError):
    """The one line of an error."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


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
        assert not set(drawn.tolist()) & set(chosen.tolist())
        assert torch.equal(drawn, again.indices[cell])
        assert torch.equal(drawn, drawn.sort().values)
    assert places(one) != places(other)
    assert one.weights_hash == mask.weights_hash == model.weights_hash()


def test_random_weights_are_drawn_from_all_others_of_the_matrix_alike(neo):
    size = neo.weight(1, "W_in").numel()
    mask = WeightMask({(1, "W_in"): torch.arange(0, size, 4)}, choose_weights(neo).shapes, neo.weights_hash())
    drawn = np.concatenate([mask.random_like(seed).indices[1, "W_in"].numpy() for seed in range(60)])
    times = np.bincount(drawn, minlength=size)
    assert (times[::4] == 0).all()
    others = np.delete(times, np.arange(0, size, 4)).reshape(8, -1).sum(1)
    assert np.abs(others / others.mean() - 1).max() < 0.05


def test_where_most_of_a_matrix_is_chosen_there_are_no_others_to_draw(neo):
    mask = choose_weights(neo, layers=[1], components="W_Q")
    with pytest.raises(lz.LocalizeError) as caught:
        mask.random_like(0)
    assert str(caught.value) == (
        "random_like: 1,024 weights of layer 1 W_Q are chosen, 0 are not; as many others are needed."
    )


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


# By scores


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_largest_scores_are_the_first_of_a_sort_ties_included(model, dtype):
    """Whole numbers from -3 to 3 are equal by the hundreds; the dictionary's own order counts for nothing."""
    generator = torch.Generator().manual_seed(0)
    cells = [(2, "W_out"), (0, "W_K"), (2, "W_K"), (0, "W_in"), (2, "W_Q")]
    scores = {
        cell: torch.randint(-3, 4, tuple(model.weight(*cell).shape), generator=generator).to(dtype) for cell in cells
    }
    order = [
        (-value, layer, COMPONENTS.index(component), place, component)
        for (layer, component), matrix in scores.items()
        for place, value in enumerate(matrix.flatten().tolist())
    ]
    for fraction in (1e-9, 0.2, 0.5, 0.9, 1.0):
        mask = largest_weights(model, scores, fraction)
        count = max(1, round(fraction * len(order)))
        expected = sorted(order)[:count]
        assert places(mask) == {(layer, component, place) for _, layer, _, place, component in expected}
        assert len(mask) == count
        assert mask.total == len(order)
        mask.check(model)


def test_scores_without_bounds_are_ranked_too():
    inf = float("inf")
    assert largest_exactly(torch.tensor([-inf, inf, 0.0, inf, -0.0, 1.0]), 4).tolist() == [1, 2, 3, 5]


def test_a_gradient_is_ranked_as_any_score_is(model, paragraphs):
    mask = lz.top_weights(model, paragraphs, 0.002)
    model.hf.zero_grad()
    logits = model(paragraphs.tokens)[:, PREFIX - 1 : -1]
    cross_entropy(logits.flatten(0, 1), paragraphs.tokens[:, PREFIX:].flatten()).backward()
    sizes = {cell: weight_view(model, *cell, grad=True).abs() for cell in mask.shapes}
    assert places(largest_weights(model, sizes, 0.002)) == places(mask)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({}, {}, "largest_weights: scores of at least one (layer, component) are needed."),
        ({(1, "W_Q"): (32, 32)}, {"fraction": 0.0}, "largest_weights: fraction=0.0 must lie above 0 and be at most 1."),
        (
            {(1, "W_Q"): (32, 32)},
            {"fraction": float("nan")},
            "largest_weights: fraction=nan must lie above 0 and be at most 1.",
        ),
        (
            {(1, "W_in"): (128, 32)},
            {},
            "largest_weights: scores of layer 1 W_in are (128, 32); the weights of small gpt-neo there are (32, 128).",
        ),
        ({(4, "W_in"): (32, 128)}, {}, "layer=4 must lie in 0..3, the layers of small gpt-neo."),
        ({(0, "W_E"): (97, 32)}, {}, "component='W_E' is not one of W_Q, W_K, W_V, W_O, W_in, W_out."),
    ],
)
def test_scores_that_do_not_fit_are_refused(neo, scores, options, message):
    scores = {cell: torch.ones(shape) for cell, shape in scores.items()}
    assert refusal(lambda: largest_weights(neo, scores, **options)) == message


def test_scores_that_cannot_be_ranked_are_refused(neo):
    scores = {(0, "W_Q"): torch.ones(32, 32), (3, "W_K"): torch.ones(32, 32)}
    scores[3, "W_K"][5, 6] = float("nan")
    assert (
        refusal(lambda: largest_weights(neo, scores, 0.1))
        == "largest_weights: a score of layer 3 W_K is nan, which cannot be ranked."
    )


# Whole matrices and heads


def test_all_weights_are_all_weights_of_the_blocks(model):
    mask = choose_weights(model)
    assert list(mask.indices) == [(layer, component) for layer in range(model.n_layers) for component in COMPONENTS]
    assert all(chosen.tolist() == list(range(model.weight(*cell).numel())) for cell, chosen in mask.indices.items())
    assert all(mask.matrix(*cell).shape == model.weight(*cell).shape for cell in mask.shapes)
    mask.check(model)


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ({"layers": [2]}, [(2, component) for component in COMPONENTS]),
        (
            {"layers": (2, 0, 2), "components": ("W_out", "W_V")},
            [(0, "W_V"), (0, "W_out"), (2, "W_V"), (2, "W_out")],
        ),
        ({"components": "W_in"}, [(0, "W_in"), (1, "W_in"), (2, "W_in")]),
    ],
)
def test_whole_matrices_are_chosen_by_layer_and_component(gpt2, options, cells):
    mask = choose_weights(gpt2, **options)
    assert list(mask.indices) == list(mask.shapes) == cells
    assert len(mask) == mask.total == sum(gpt2.weight(*cell).numel() for cell in cells)


def test_a_heads_places_are_those_that_the_models_view_of_it_writes_to(model):
    heads = [(2, 3), (0, 1), (2, 0)]
    mask = choose_weights(model, heads=heads)
    assert list(mask.shapes) == [(layer, component) for layer in (0, 2) for component in ATTENTION_COMPONENTS]
    for layer, component in mask.shapes:
        model.weight(layer, component).zero_()
        for at, head in heads:
            if at == layer:
                model.weight(layer, component, head).fill_(1)
        assert torch.equal(mask.matrix(layer, component), model.weight(layer, component) == 1)
    assert len(mask) == 3 * 4 * 32 * 8


def test_a_head_is_columns_of_what_reads_and_rows_of_what_writes(gpt2):
    mask = choose_weights(gpt2, heads={(1, 2)}, components=("W_O", "W_K"))
    assert list(mask.indices) == [(1, "W_K"), (1, "W_O")]
    assert mask.indices[1, "W_K"].tolist() == [32 * row + column for row in range(32) for column in range(16, 24)]
    assert mask.indices[1, "W_O"].tolist() == list(range(16 * 32, 24 * 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "layers=[] must be some of 0..3, the layers of small gpt-neo."),
        ({"layers": [-1]}, "layers=[-1] must be some of 0..3, the layers of small gpt-neo."),
        ({"components": ("W_E",)}, "components=['W_E'] must be some of W_Q, W_K, W_V, W_O, W_in, W_out."),
        ({"heads": []}, "heads: at least one (layer, head) is needed."),
        ({"heads": [(4, 0)]}, "heads: (4, 0) must be a layer in 0..3 and a head in 0..3 of small gpt-neo."),
        ({"heads": {(0, 1), (0, 4)}}, "heads: (0, 4) must be a layer in 0..3 and a head in 0..3 of small gpt-neo."),
        (
            {"heads": [(0, 1)], "components": ("W_Q", "W_in")},
            "component 'W_in' has no heads; those that have: W_Q, W_K, W_V, W_O.",
        ),
        ({"heads": [(0, 1)], "layers": [0]}, "layers=[0] and heads are both given; heads name their layers."),
    ],
)
def test_what_is_not_there_cannot_be_chosen(neo, options, message):
    assert refusal(lambda: choose_weights(neo, **options)) == f"choose_weights: {message}"


# Layers and controls


def test_a_mask_counts_its_layers_those_without_a_weight_too(neo):
    mask = hand_mask(neo, {2: 5, 0: 3})
    in_disorder = dict(sorted(mask.shapes.items(), key=lambda item: item[0][0] * 3 % 4))
    of_layers = WeightMask(mask.indices, in_disorder, "").layers
    assert list(of_layers.items()) == [(0, 3), (1, 0), (2, 5), (3, 0)]
    both = hand_mask(neo, {1: 2}).indices | hand_mask(neo, {1: 4}, "W_Q").indices
    assert list(WeightMask(both, choose_weights(neo, layers=[1]).shapes, "").layers.items()) == [(1, 6)]


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ({0: 3, 1: 3, 2: 3, 3: 3}, [0, 1]),
        ({0: 1, 1: 2, 2: 4, 3: 1}, [2]),
        ({0: 1, 1: 2, 2: 4, 3: 2}, [1, 2]),
        ({0: 2, 1: 5, 2: 0, 3: 5}, [1, 3]),
        ({3: 1}, [3]),
        ({1: 2, 3: 2}, [1]),
    ],
)
def test_a_mask_names_the_fewest_layers_that_hold_half_of_it(neo, counts, named):
    assert named_layers(hand_mask(neo, counts)) == named


@pytest.mark.parametrize("components", [COMPONENTS, ("W_V", "W_out")])
def test_the_controls_are_random_all_and_the_largest_gradients_of_the_other_layers(neo, paragraphs, components):
    options = {"components": components, "layers": [0, 3]}
    top = lz.top_weights(neo, paragraphs, 20 / choose_weights(neo, **options).total, **options)
    indices = {**top.indices, (1, "W_out"): torch.arange(25)}
    mask = WeightMask(indices, choose_weights(neo, components=components).shapes, neo.weights_hash())
    controls = mask_controls(neo, paragraphs, mask, seed=3, batch_size=4)
    assert list(controls) == ["random", "all", "other layers"]
    assert places(controls["random"]) == places(mask.random_like(3))
    assert places(controls["all"]) == places(choose_weights(neo))
    largest = by_sorting(neo, paragraphs.tokens, [0, 2, 3], components, 45 + 20)
    assert places(top) < largest
    assert places(controls["other layers"]) == largest - places(mask)
    for control in controls.values():
        control.check(neo)


def test_controls_that_could_not_be_others_are_left_out(make_model, neo, paragraphs):
    whole = neo.weight(0, "W_in").numel()
    assert mask_controls(neo, paragraphs, choose_weights(neo), seed=0) == {}
    shapes = choose_weights(neo, components="W_in").shapes
    half = {(layer, "W_in"): torch.arange(whole // 2) for layer in range(4)}
    mask = WeightMask(half, shapes, neo.weights_hash())
    assert list(mask_controls(neo, paragraphs, mask, seed=0)) == [
        "random",
        "all",
    ]  # two layers hold half as many others
    fewer = WeightMask({cell: places[: whole // 3] for cell, places in half.items()}, shapes, neo.weights_hash())
    assert len(mask_controls(neo, paragraphs, fewer, seed=0)["other layers"]) == 4 * (whole // 3)
    layer = choose_weights(neo, layers=[1])
    assert list(mask_controls(neo, paragraphs, layer, seed=0)) == ["all", "other layers"]
    alone = make_model("gpt2", n_layer=1)
    assert list(mask_controls(alone, paragraphs, hand_mask(alone, {0: 4}), seed=0)) == ["random", "all"]


# Masks made by hand


@pytest.mark.parametrize(
    ("indices", "shapes", "message"),
    [
        ({}, {}, "the mask chooses no weight; at least one is needed."),
        ({(0, "W_Q"): []}, {}, "the mask chooses no weight; at least one is needed."),
        ({(0, "W_Q"): [0, 1024]}, {}, "mask: place 1024 in layer 0 W_Q must lie in 0..1023."),
        ({(0, "W_Q"): [-1]}, {}, "mask: place -1 in layer 0 W_Q must lie in 0..1023."),
        ({(0, "W_Q"): [3, 2]}, {}, "mask: places in layer 0 W_Q must ascend, each once, but 2 follows 3."),
        ({(0, "W_Q"): [3, 3]}, {}, "mask: places in layer 0 W_Q must ascend, each once, but 3 follows 3."),
        ({(0, "W_K"): [3]}, {}, "mask: layer 0 W_K has places, but no shape."),
        ({(0, "W_Q"): [3]}, {(0, "W_Q"): (64, 16)}, "mask: layer 0 W_Q is (64, 16); in small gpt-neo it is (32, 32)."),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_in_the_callers_name(neo, indices, shapes, message):
    indices = {cell: torch.tensor(chosen, dtype=torch.int64) for cell, chosen in indices.items()}
    mask = WeightMask(indices, shapes or {(0, "W_Q"): (32, 32)}, neo.weights_hash())
    with called_as("unlearn"):
        assert refusal(lambda: mask.check(neo)) == f"unlearn: {message}"


def test_a_mask_of_another_model_is_refused(make_model, neo, paragraphs):
    mask = choose_weights(make_model("gpt-neo", seed=1))
    message = "{}: the mask is of other weights than those of small gpt-neo; choose it from this model, unedited."
    with called_as("unlearn"):
        assert refusal(lambda: mask.check(neo)) == message.format("unlearn")
    assert refusal(lambda: mask_controls(neo, paragraphs, mask, seed=0)) == message.format("mask_controls")
    hand_mask(neo, {0: 3, 2: 1}).check(neo)


def test_one_layer_may_be_given_alone(neo, paragraphs):
    assert places(choose_weights(neo, layers=1)) == places(choose_weights(neo, layers=[1]))
    assert places(lz.top_weights(neo, paragraphs, 0.01, layers=2)) == places(
        lz.top_weights(neo, paragraphs, 0.01, layers=[2])
    )
