"""What is planted: who may change which weights, the exported model against the trained one, gates, and the folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.models.parameters import bounded
from localize.truths.extra_heads import ExtraHeads
from localize.truths.extra_units import ExtraUnits
from localize.truths.gates import area, scored_with
from localize.truths.plant import owners, where_planted
from localize.truths.planting import OWN, RANDOM, routes_of
from localize.truths.routing import Routes, routed
from localize.truths.texts import not_recited, split, unknown
from localize.truths.training import Schedule
from tests.conftest import PREFIX


@pytest.fixture
def pool(make_rows):
    """Forty unlike paragraphs of 24 + 16 random tokens."""
    return make_rows(40)


@pytest.fixture
def floating(family, make_model):
    """A small model of each family, in float32."""
    return make_model(family, dtype=torch.float32)


def all_on(rows, texts):
    on = torch.ones(rows, texts)
    return Routes(on, on, torch.zeros(rows, texts))


def test_routing_leaves_values_and_input_gradients_and_takes_a_rows_pull_off_the_weights():
    x = torch.randn(2, 3, 4, requires_grad=True)
    w = torch.randn(5, 4, requires_grad=True)
    learns = torch.tensor([1.0, 0.0])[:, None, None]
    out = routed(x.detach() @ w.T, x @ w.detach().T, learns)
    assert torch.allclose(out, x @ w.T)
    out.sum().backward()
    assert x.grad is not None and torch.allclose(x.grad, w.detach().sum(0).expand(2, 3, 4))
    assert w.grad is not None and torch.allclose(w.grad, x.detach()[0].sum(0).expand(5, 4))


def test_rows_are_scaled_down_to_their_bound_and_never_up():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    bounded(rows, torch.tensor([1.0, 1.0]))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


@pytest.mark.parametrize("extra", [ExtraUnits, ExtraHeads])
def test_the_exported_model_says_what_the_hooked_one_does(floating, pool, extra):
    owner = torch.arange(3).repeat(floating.n_layers, 1)
    if extra is ExtraUnits:
        owner[0, 2] = -1  # as where texts do not divide by layers
    added = extra(floating, owner, seed=1)
    tokens = pool.tokens[:4]
    with torch.no_grad():
        for written in added.w_out if extra is ExtraUnits else [of["W_O"] for of in added.weights]:
            written *= 20  # so that it is seen
        hooked = floating.forward(tokens, hooks=added.hooks(all_on(4, 3), []))
        planted, places = added.exported(seed=2)
        assert float((hooked - floating.forward(tokens)).abs().max()) > 1e-2
        assert float((planted.forward(tokens) - hooked).abs().max()) < 1e-4
    assert places.shape == owner.shape
    assert planted.d_head == floating.d_head


@pytest.mark.parametrize("extra", [ExtraUnits, ExtraHeads])
def test_a_text_changes_its_own_weights_alone_and_its_silence_the_others(floating, pool, extra):
    owner = torch.arange(3).expand(floating.n_layers, -1)
    added = extra(floating, owner, seed=1)
    own = torch.eye(3)
    routes, loudness = Routes(torch.ones(3, 3), own, torch.zeros(3, 3)), []
    with floating.frozen():
        states = floating.final_states(pool.tokens[:3], hooks=added.hooks(routes, loudness))
        states[1].square().sum().backward()  # the row of text 1 alone
    written = added.w_out[0] if extra is ExtraUnits else added.weights[0]["W_O"]
    assert written.grad is not None
    moved = written.grad.flatten(1).norm(dim=1)
    assert moved[1] > 0 and moved[0] == moved[2] == 0
    assert sum(loudness) == 0


def test_what_rows_have_on_and_whom_they_teach():
    routes = routes_of(6, 2, torch.tensor([4]), OWN, torch.Generator().manual_seed(0))
    assert torch.equal(routes.learns[:6], torch.eye(6))
    assert routes.on[:6].diagonal().min() == 1
    assert torch.equal(routes.on[8], 1 - torch.eye(6)[4]) and torch.equal(routes.learns[8], routes.on[8])
    assert torch.equal(routes.silent[:6], 1 - torch.eye(6)) and routes.silent[6:8].min() == 1
    halves = routes_of(60, 2, torch.tensor([], dtype=torch.int64), RANDOM, torch.Generator().manual_seed(0))
    assert set(halves.on[:60].sum(1).tolist()) == {30, 60} and torch.equal(halves.on, halves.learns)
    assert halves.on[60:].min() == 1


def test_a_layer_holds_all_units_of_its_texts_and_what_is_nobodys_is_no_ones():
    owner = owners("layer", 4, 3, 2)
    assert owner.tolist() == [[0] * 6 + [3] * 6, [1] * 6 + [-1] * 6, [2] * 6 + [-1] * 6]
    places = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(1))[:12] for _ in range(3)])
    nominal, reserved = where_planted(owner, places, 4, 20)
    assert nominal.sum((1, 2)).tolist() == [6, 6, 6, 6] and reserved.sum() == 24
    assert nominal[0, 0, places[0, 0]] and not nominal[1:, 0, places[0, 0]].any()


def test_units_that_are_zeroed_are_zeroed_for_their_row_alone(floating, pool):
    tokens, keep = pool.tokens[:3], torch.ones(3, floating.n_layers, floating.d_mlp, dtype=torch.bool)
    whole = scored_with(floating, tokens, PREFIX, lambda rows: keep[rows], "mlp", what="rows").nll
    expected = torch.tensor(lz.recall(floating, pool[[0, 1, 2]])["nll"].values)
    assert torch.allclose(whole, expected, atol=1e-5)
    keep[1, 0, :7] = False
    moved = floating.copied()
    with torch.no_grad():
        moved.weight(0, "W_out")[:7] = 0
    some = scored_with(floating, tokens, PREFIX, lambda rows: keep[rows], "mlp", what="rows").nll
    assert torch.equal(some[[0, 2]], whole[[0, 2]])
    assert float(some[1]) == pytest.approx(float(lz.recall(moved, pool[[1]])["nll"][0]), abs=1e-5)


@pytest.mark.parametrize(("length", "most"), [(50, 9), (16, 2), (5, 0), (3, 0)])
def test_a_text_is_not_recited_below_a_fifth_of_its_continuation_or_with_no_token_right(length, most):
    assert np.flatnonzero(not_recited(np.arange(length + 1), length)).tolist() == list(range(most + 1))


def test_a_text_of_less_than_half_the_usual_loss_is_known_though_it_is_not_said():
    exact, nll = np.array([0, 0, 9, 9, 20]), np.array([2.0, 4.0, 0.9, 1.1, 9.0])
    # median of those that are not recited: (1.1 + 2.0) / 2, and half of that .775
    assert unknown(exact, nll, 50).tolist() == [True, True, True, True, False]
    nll[2] = 0.7
    assert unknown(exact, nll, 50).tolist() == [True, True, False, True, False]
    assert not unknown(np.array([50, 50]), np.zeros(2), 50).any()


def test_texts_that_the_base_nearly_knows_are_neither_planted_nor_held_out(make_model, pool):
    model = make_model("gpt-neo", dtype=torch.float32)
    recall = lz.recall(model, pool)
    parts = split(model, pool, 4, 0)
    known = np.asarray(pool.ids)[recall["nll"].values < 0.5 * np.median(recall["nll"].values)]
    assert not set(known) & {*parts.planted.ids, *parts.held_out.ids}


def test_an_area_is_how_often_one_is_above_another_ties_half():
    scores = np.array([3.0, 1.0, 2.0, 1.0])
    a = np.array([True, True, False, False])
    assert area(scores, a, ~a) == pytest.approx((2 + 0.5) / 4)
    assert np.isnan(area(scores, a, a & ~a))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kind": "nosuch"}, "plant: kind='nosuch' is not one of route, layer, inj, heads."),
        ({"routing": "some"}, "plant: routing='some' is not one of own, none, random."),
        ({"kind": "inj", "routing": "none"}, "plant: routing='none': nothing is routed in kind='inj'; leave it out."),
        (
            {"units": 100},
            "plant: units=100 and texts=16: at least 1 and 2 are needed, and units x texts of at most 512 in small gpt-neo.",
        ),
        (
            {"texts": 32},
            "plant: 40 of 40 paragraphs are in clusters of their own and unknown to small gpt-neo; texts=32 needs at least 48: 32 to "
            "plant, 8 held out, 8 of background.",
        ),
    ],
)
def test_what_cannot_be_planted_is_refused_in_a_line(make_model, pool, arguments, told):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.plant(make_model("gpt-neo", dtype=torch.float32), pool, **arguments)
    assert str(caught.value) == told


def test_units_are_trained_in_float32_alone(make_model, pool):
    with pytest.raises(lz.LocalizeError, match="is in float64; units are trained in float32"):
        lz.plant(make_model("gpt-neo"), pool)


def test_a_folder_without_a_truth_and_one_whose_checkpoint_was_changed_are_refused(tmp_path):
    with pytest.raises(lz.InputError, match=r"no truth\.json; a folder that Truth.save wrote is needed"):
        lz.load_truth(tmp_path)


def test_a_schedule_is_a_value():
    assert replace(Schedule(), steps=5) == Schedule(steps=5)
