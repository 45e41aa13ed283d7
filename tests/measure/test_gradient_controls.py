"""Gradients at like loss, against a loop of backward passes over chosen tokens; of own continuations, against `gradients` of them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.measure.chosen_tokens import nearest_tokens
from localize.measure.gradient_controls import reach_of
from localize.models.parameters import weight_view

PREFIX, CONTINUATION = 24, 36
LEVELS, SIZES = (1.0, 3.0, 9.0), (1, 3)


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION).with_groups("aabbbb")


def by_backward_pass(model, row, places):
    """Largest entry and norm of each gradient of the mean NLL of some tokens, read from `.grad`."""
    model.hf.zero_grad()
    logits = model(row[None])[0, PREFIX - 1 : -1]
    cross_entropy(logits, row[PREFIX:], reduction="none")[torch.as_tensor(places)].mean().backward()
    found = {"gradient_max": [], "gradient_norm": [], "head_gradient_max": []}
    for layer in range(model.n_layers):
        whole = [weight_view(model, layer, c, grad=True) for c in COMPONENTS]
        found["gradient_max"].append([g.abs().max().item() for g in whole])
        found["gradient_norm"].append([g.norm().item() for g in whole])
        of_heads = [
            [weight_view(model, layer, c, h, grad=True) for h in range(model.n_heads)] for c in ATTENTION_COMPONENTS
        ]
        found["head_gradient_max"].append([[g.abs().max().item() for g in heads] for heads in of_heads])
    model.hf.zero_grad()
    return {name: np.array(values) for name, values in found.items()}


def test_every_set_has_the_gradient_of_its_own_backward_pass(hooked, paragraphs):
    signature = lz.gradient_controls(hooked, paragraphs, levels=LEVELS, sizes=SIZES, continuation="true", batch_size=5)
    nll, there = signature["token_nll"].values, 0
    for s, size in enumerate(SIZES):
        for at, level in enumerate(LEVELS):
            nearest = nearest_tokens(nll, level, size, reach_of(LEVELS))
            for row in range(len(paragraphs)):
                got = {
                    n: signature[f"token_{n}"].values[row, s, at]
                    for n in ("gradient_max", "gradient_norm", "head_gradient_max")
                }
                if nearest[row, 0] < 0:
                    assert all(np.isnan(values).all() for values in got.values())
                    assert np.isnan(signature["token_set_nll"].values[row, s, at])
                    continue
                oracle, there = by_backward_pass(hooked, paragraphs.tokens[row], nearest[row]), there + 1
                for name, values in got.items():
                    assert np.abs(values - oracle[name]).max() <= 1e-10 * oracle[name].max(), (row, size, level, name)
                assert signature["token_set_nll"].values[row, s, at] == pytest.approx(nll[row, nearest[row]].mean())
    assert there > 12


def test_shares_are_parts_of_a_sets_whole_squared_gradient(hooked, paragraphs):
    signature = lz.gradient_controls(hooked, paragraphs, levels=LEVELS)
    for of in ("token_", "own_"):
        squares = signature[f"{of}gradient_norm"].values ** 2
        there = ~np.isnan(squares[..., 0, 0])
        expected = squares[there] / squares[there].sum((-1, -2), keepdims=True)
        np.testing.assert_allclose(signature[f"{of}gradient_share"].values[there], expected, rtol=1e-9)
        of_heads = signature[f"{of}head_gradient_share"].sum("head").values[there]
        np.testing.assert_allclose(of_heads, expected[..., :4], rtol=1e-9)


def test_own_continuations_are_those_of_gradients(neo, paragraphs):
    signature = lz.gradient_controls(neo, paragraphs, levels=LEVELS)
    own = paragraphs.with_own_continuation(neo)
    expected = lz.gradients(neo, own, sets=False)
    for name in ("gradient_max", "gradient_norm", "head_gradient_max", "gradient_share", "head_gradient_share"):
        np.testing.assert_allclose(signature[f"own_{name}"], expected[name], rtol=1e-9, atol=1e-14)
        assert signature[f"own_{name}"].attrs["continuation"] == "own"
        assert signature[f"token_{name}"].attrs["continuation"] == "true"
    said = lz.load_paragraphs(own.tokens, prefix_length=PREFIX, continuation_length=CONTINUATION)
    np.testing.assert_allclose(signature["own_nll"], lz.recall(neo, said)["nll"], rtol=1e-10)
    from_own = lz.gradient_controls(neo, own, levels=LEVELS)
    for name in signature.variables:
        np.testing.assert_allclose(from_own[name], signature[name], rtol=1e-10, atol=1e-14)


def test_where_the_own_continuation_is_the_true_one_there_is_none(counter):
    rows = torch.arange(60)[None] + torch.tensor([[0], [7]])
    rows[1, 40] = 3
    paragraphs = lz.load_paragraphs(rows, prefix_length=24, continuation_length=36)
    signature = lz.gradient_controls(counter, paragraphs)
    assert np.isnan(signature["own_nll"].values).tolist() == [True, False]
    assert np.isnan(signature["own_gradient_max"].values).all((1, 2)).tolist() == [True, False]


def test_the_numbers_are_the_same_for_any_batch_size_and_in_any_company(hooked, paragraphs):
    one, all_at_once = (lz.gradient_controls(hooked, paragraphs, levels=LEVELS, batch_size=size) for size in (1, 50))
    alone = lz.gradient_controls(hooked, paragraphs[[2, 4]], levels=LEVELS)
    for name in one.variables:
        np.testing.assert_allclose(one[name], all_at_once[name], rtol=1e-10, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(one[name].values[[2, 4]], alone[name], rtol=1e-10, atol=1e-14, err_msg=name)


def test_it_joins_gradients_of_the_same_paragraphs(neo, paragraphs):
    joined = lz.gradients(neo, paragraphs) | lz.gradient_controls(neo, paragraphs, levels=LEVELS, continuation="true")
    assert "own_nll" not in joined and "gradient_max" in joined
    assert joined["token_set_nll"].dims == ("paragraph", "tokens_in_set", "loss_level")
    assert joined["loss_level"].values.tolist() == list(LEVELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, "levels=[] must hold one or several numbers above 0, ascending, none twice."),
        (
            {"levels": (0.1, 0.01)},
            "levels=[0.1, 0.01] must hold one or several numbers above 0, ascending, none twice.",
        ),
        ({"sizes": 0}, "sizes=[0] must hold one or several numbers above 0, ascending, none twice."),
        ({"continuation": "both"}, "continuation='both' is not one of true, own."),
        ({"attention_scale": "out"}, "attention_scale='out' is not one of apart, in_W_Q."),
    ],
    ids=["no level", "descending", "empty sets", "continuation", "scale"],
)
def test_bad_options_are_told_in_one_line(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as told:
        lz.gradient_controls(neo, paragraphs, **options)
    assert str(told.value) == f"gradient_controls: {message}"


def test_levels_reach_to_the_middle_of_the_nearest_two():
    assert reach_of((0.1, 0.4, 4.0)) == pytest.approx(2.0)
    assert reach_of((0.5,)) == pytest.approx(np.sqrt(10))
