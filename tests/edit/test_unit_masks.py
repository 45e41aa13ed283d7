"""The weights of whole units and heads, marked through the views that the model shows; which are chosen, against a plain loop."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.edit.unit_masks import localized_mask, mask_of_units, other_units, units_in
from localize.localizers import Localizer, Scores, WeightScores

D_MLP, HEADS, D_MODEL, D_HEAD = 128, 4, 32, 8
OF_UNIT, OF_HEAD = 2 * D_MODEL, 4 * D_MODEL * D_HEAD


@pytest.fixture
def scored(rows):
    """`scored(model, mlp=True, heads=True)`: random scores of three paragraphs."""

    def make(model, mlp=True, heads=True):
        rng = np.random.default_rng(3)
        of_mlp, of_heads = (rng.normal(size=(3, model.n_layers, size)) for size in (D_MLP, HEADS))
        return Scores.of(model, rows[:3], mlp=of_mlp if mlp else None, heads=of_heads if heads else None)

    return make


@pytest.fixture
def refusal():
    """`refusal(call, *arguments, **options)`: the one line of an error."""

    def told(call, *arguments, **options):
        with pytest.raises(lz.LocalizeError) as caught:
            call(*arguments, **options)
        return str(caught.value)

    return told


def marked(model, units, heads):
    """The weights of units and heads: nan in a copy of the model, put there through its views."""
    copy = model.copied()
    for layer, unit in units:
        copy.weight(layer, "W_in")[:, unit] = torch.nan
        copy.weight(layer, "W_out")[unit] = torch.nan
    for layer, head in heads:
        for component in ATTENTION_COMPONENTS:
            copy.weight(layer, component, head)[:] = torch.nan
    return {
        (layer, component): copy.weight(layer, component).isnan()
        for layer in range(model.n_layers)
        for component in COMPONENTS
    }


def ranking(scores, rows):
    """(layer, kind, unit) of the largest mean score per weight first; of equal ones a lower layer's, then an MLP unit."""
    means = [
        (-np.mean([values[row, layer, unit] for row in rows]) / size, layer, kind, unit)
        for kind, values, size in (("0 mlp", scores.mlp, OF_UNIT), ("1 heads", scores.heads, OF_HEAD))
        if values is not None
        for layer in range(values.shape[1])
        for unit in range(values.shape[2])
    ]
    return [(layer, kind[2:], unit) for _, layer, kind, unit in sorted(means)]


def assert_chosen(mask, model, places):
    """That the mask is of the weights of (layer, kind, unit), and of all of the blocks' matrices."""
    units, heads = ([(la, u) for la, kind, u in places if kind == wanted] for wanted in ("mlp", "heads"))
    expected = marked(model, units, heads)
    assert mask.shapes.keys() == mask.indices.keys() == expected.keys()
    for cell, matrix in expected.items():
        assert torch.equal(mask.matrix(*cell), matrix), cell
        assert torch.equal(mask.indices[cell], matrix.flatten().nonzero()[:, 0]), "in order"
    assert mask.weights_hash == model.weights_hash()
    mask.check(model)


@pytest.mark.parametrize(("mlp", "heads"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("fraction", [0.0005, 0.01, 0.2, 1.0])
def test_the_units_at_the_top_that_fit_are_chosen_whole(model, scored, mlp, heads, fraction):
    scores = scored(model, mlp, heads)
    left = budget = fraction * lz.choose_weights(model).total
    places = []
    for place in ranking(scores, range(3)):
        left -= OF_UNIT if place[1] == "mlp" else OF_HEAD
        if left < 0:
            break
        places.append(place)
    mask = lz.unit_mask(model, scores, fraction)
    assert_chosen(mask, model, places or ranking(scores, range(3))[:1])
    assert len(mask) <= max(budget, OF_UNIT if mlp else OF_HEAD)


@pytest.mark.parametrize("count", [1, 7, 132])
def test_or_so_many(model, scored, count):
    scores = scored(model)
    assert_chosen(lz.unit_mask(model, scores, count=count), model, ranking(scores, range(3))[:count])


def test_a_head_comes_before_a_unit_if_it_scores_more_than_its_times_as_many_weights(neo, rows):
    mlp, heads = np.zeros((12, 4, D_MLP)), np.zeros((12, 4, HEADS))
    mlp[:, 2, 9] = 1.0
    for score, first in ((15.9, (2, "mlp", 9)), (16.1, (0, "heads", 1))):  # a head has 16 times the weights
        heads[:, 0, 1] = score
        assert_chosen(lz.unit_mask(neo, Scores.of(neo, rows, mlp=mlp, heads=heads), count=1), neo, [first])


def test_the_paragraphs_named_decide(neo, scored):
    scores = scored(neo)
    assert_chosen(lz.unit_mask(neo, scores, count=9, rows=[2, 0]), neo, ranking(scores, [2, 0])[:9])
    assert ranking(scores, [2, 0])[:9] != ranking(scores, range(3))[:9]


def test_of_equal_scores_lower_layers_come_first_and_mlp_units_before_heads(neo, rows):
    alike = Scores.of(neo, rows, mlp=np.zeros((12, 4, D_MLP)), heads=np.zeros((12, 4, HEADS)))
    places = [(0, "mlp", unit) for unit in range(D_MLP)] + [(0, "heads", head) for head in range(HEADS)]
    assert_chosen(lz.unit_mask(neo, alike, count=D_MLP + HEADS + 1), neo, [*places, (1, "mlp", 0)])


@pytest.mark.parametrize("which", [None, [2, 0]])
@pytest.mark.parametrize("per_text", [5, [3, 60, 1]])
@pytest.mark.parametrize("heads", [True, False])
def test_of_each_paragraph_its_own_best_units_are_taken_and_joined(model, scored, which, per_text, heads):
    scores = scored(model, heads=heads)
    chosen = which or [0, 1, 2]
    each = [per_text] * len(chosen) if isinstance(per_text, int) else per_text[: len(chosen)]
    expected = set()
    for row, many in zip(chosen, each, strict=True):
        ranked = sorted((-scores.mlp[row, la, unit], la, unit) for la in range(model.n_layers) for unit in range(D_MLP))
        expected |= {(la, "mlp", unit) for _, la, unit in ranked[:many]}
    assert max(each) < len(expected) <= sum(each)
    mask = lz.unit_mask(model, scores, per_text=per_text if isinstance(per_text, int) else each, rows=which)
    assert_chosen(mask, model, expected)


def test_of_equal_scores_a_paragraphs_units_of_lower_layers_come_first(neo, rows):
    alike = Scores.of(neo, rows, mlp=np.zeros((12, 4, D_MLP)))
    expected = [(0, "mlp", unit) for unit in range(D_MLP)] + [(1, "mlp", 0)]
    assert_chosen(lz.unit_mask(neo, alike, per_text=np.full(12, D_MLP + 1)), neo, expected)


def test_heads_are_no_units_of_a_text(neo, scored, refusal):
    assert refusal(lz.unit_mask, neo, scored(neo, mlp=False), per_text=4) == (
        "unit_mask: per_text=4: scores are of no MLP units, of which alone so many a text are taken."
    )


def test_other_units_are_as_many_of_each_layer_and_none_of_the_masks_own(model):
    units = [(0, unit) for unit in range(0, D_MLP, 2)] + [(2, 5), (2, 90), (2, 17)]  # of layer 0 exactly half
    mask = mask_of_units(model, units, heads=[(1, 3)])
    drawn = [units_in(model, other_units(model, mask, seed)) for seed in (0, 0, 1)]
    assert [len(of) for of in drawn[0]] == [D_MLP // 2, 0, 3, 0][: model.n_layers]
    assert drawn[0][0].tolist() == list(range(1, D_MLP, 2))
    assert not set(drawn[0][2].tolist()) & {5, 17, 90}
    assert drawn[0][2].tolist() == drawn[1][2].tolist() != drawn[2][2].tolist()
    places = [(layer, "mlp", unit) for layer, of in enumerate(drawn[0]) for unit in of.tolist()]
    assert_chosen(other_units(model, mask, 0), model, places)
    one = mask_of_units(model, [(0, 5), (2, 5)])
    per_layer = [
        tuple(int(of[0]) for of in units_in(model, other_units(model, one, seed)) if len(of)) for seed in range(9)
    ]
    assert any(low != high for low, high in per_layer)  # each layer has draws of its own


def test_where_there_are_not_as_many_others_there_are_no_other_units(neo):
    more_than_half = mask_of_units(neo, [(3, unit) for unit in range(D_MLP // 2 + 1)] + [(0, 1)])
    assert other_units(neo, more_than_half, 0) is None
    assert other_units(neo, mask_of_units(neo, [], heads=[(1, 3)]), 0) is None


def test_a_units_rows_alone_are_what_it_writes_with(model):
    mask = mask_of_units(model, [(1, 5), (0, 100), (1, 3)], components=("W_out",))
    assert len(mask) == 3 * D_MODEL
    assert mask.matrix(1, "W_out").any(1).nonzero()[:, 0].tolist() == [3, 5]
    assert mask.matrix(0, "W_out").any(1).nonzero()[:, 0].tolist() == [100]
    assert mask.matrix(0, "W_out")[100].all()


def test_an_edit_moves_the_weights_of_the_units_that_a_localizer_names_and_no_others(model, sets):
    forget, keep = sets

    def chosen(model, paragraphs, others):
        assert [part.ids for part in (paragraphs, others)] == [forget.ids, keep.ids]
        mlp, heads = (torch.zeros(len(paragraphs), model.n_layers, size) for size in (D_MLP, HEADS))
        mlp[:, 1, 17], mlp[:, 2, 60], heads[:, 0, 3] = 1.0, 2.0, 30.0
        return Scores.of(model, paragraphs, mlp=mlp, heads=heads)

    toy = Localizer("toy", chosen, "three units", "this test")
    mask = lz.unit_mask(model, toy(model, forget, keep), count=3)
    edit = lz.unlearn(model, forget, keep, mask, steps=2, learning_rate=1e-2, c=1.0)
    expected = marked(model, [(1, 17), (2, 60)], [(0, 3)])
    with edit.applied(model):
        after = {cell: model.weight(*cell).clone() for cell in expected}
    for cell, matrix in expected.items():
        assert not (after[cell] != model.weight(*cell))[~matrix].any(), cell
        assert (after[cell] != model.weight(*cell))[matrix].float().mean() > 0.5 or not matrix.any(), cell
    assert edit.weights_hash == model.weights_hash()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "fraction=None, count=None, per_text=None: exactly one of them is needed."),
        ({"fraction": 0.1, "count": 3}, "fraction=0.1, count=3, per_text=None: exactly one of them is needed."),
        ({"count": 3, "per_text": 3}, "fraction=None, count=3, per_text=3: exactly one of them is needed."),
        ({"fraction": 0.0}, "fraction=0.0 must lie above 0 and be at most 1."),
        ({"fraction": 1.5}, "fraction=1.5 must lie above 0 and be at most 1."),
        ({"count": 0}, "count=0 must be a whole number in 1..528, the units scored."),
        ({"count": 529}, "count=529 must be a whole number in 1..528, the units scored."),
        ({"count": 3, "rows": [3]}, "rows=[3] must be some of 0..2, the paragraphs that were scored."),
        ({"per_text": 3, "rows": [3]}, "rows=[3] must be some of 0..2, the paragraphs that were scored."),
        ({"per_text": 0}, "per_text=0 must be a whole number in 1..512, or one for each of 3 paragraphs."),
        (
            {"per_text": [4, 513, 8]},
            "per_text=[4, 513, 8] must be a whole number in 1..512, or one for each of 3 paragraphs.",
        ),
        ({"per_text": [4, 8]}, "per_text=[4, 8] must be a whole number in 1..512, or one for each of 3 paragraphs."),
        (
            {"per_text": [4, 8, 4], "rows": [0, 2]},
            "per_text=[4, 8, 4] must be a whole number in 1..512, or one for each of 2 paragraphs.",
        ),
        ({"per_text": True}, "per_text=True must be a whole number in 1..512, or one for each of 3 paragraphs."),
    ],
)
def test_what_cannot_be_chosen_is_refused(neo, scored, refusal, options, message):
    assert refusal(lz.unit_mask, neo, scored(neo), **options) == f"unit_mask: {message}"


def test_scores_of_another_model_choose_nothing(neo, gpt2, scored, refusal):
    scores = scored(neo)
    assert refusal(lz.unit_mask, gpt2, scores, 0.1) == (
        "unit_mask: mlp scores are (3, 4, 128); in small gpt2 those of 3 paragraphs are (3, 3, 128), (paragraph, layer, d_mlp)."
    )
    neo.weight(0, "W_Q")[0, 0] += 1
    assert refusal(lz.unit_mask, neo, scores, 0.1) == (
        "unit_mask: the scores are of other weights than those of small gpt-neo; score this model, unedited."
    )


def test_weights_are_chosen_by_scores_of_weights_and_units_by_those_of_units(neo, rows, scored, refusal):
    by_weight = WeightScores.of(neo, rows, {(1, "W_V"): torch.rand(32, 32), (0, "W_in"): torch.rand(32, 128)})
    found, expected = localized_mask(neo, by_weight, 0.01), lz.largest_weights(neo, by_weight.matrices, 0.01)
    assert all(torch.equal(found.indices[cell], expected.indices[cell]) for cell in expected.indices)
    found, expected = localized_mask(neo, scored(neo), 0.01), lz.unit_mask(neo, scored(neo), 0.01)
    assert all(torch.equal(found.indices[cell], expected.indices[cell]) for cell in expected.indices)
