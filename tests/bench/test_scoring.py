"""What localizers find of a truth that was planted here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.bench.layer_maps import layer_maps
from localize.bench.unit_scores import summed_over_units, unit_scores
from localize.localizers import Localizer, Scores, get


def mean(scores, what):
    return np.mean([getattr(score, what) for score in scores])


def shares_of_mlp(model, texts):
    """Each layer's part of what the MLPs have of the squared gradient."""
    shares = lz.gradients(model, texts, sets=False)["gradient_share"].sel(component=["W_in", "W_out"]).sum("component")
    return (shares / shares.sum("layer")).transpose("paragraph", "layer").values


def test_the_oracle_finds_all_and_takes_all(truth):
    scores = lz.bench.score_localizer(lz.bench.oracle(truth), truth)
    assert [score.text for score in scores] == list(truth.paragraphs.ids)
    for score in scores:
        assert (score.recall, score.within, score.auroc) == (1, 1, 1)
        assert score.taken == pytest.approx(1)


def test_the_ratio_finds_what_was_planted_and_the_norm_does_not(truth):
    ratio, norm = (lz.bench.score_localizer(get(name), truth) for name in ("ratio", "norm"))
    assert mean(ratio, "within") >= 0.95
    assert (
        mean(ratio, "recall") >= 0.8
    )  # the base is random: its own units matter to a text as much as in no trained model
    assert mean(ratio, "taken") > 0.95
    assert mean(norm, "within") < 2 * mean(norm, "chance_within")
    assert abs(mean(norm, "auroc") - 0.5) < 0.1


def test_own_dead_units_are_no_candidates_and_the_nominal_column_counts_them(truth):
    def negated(model, paragraphs, others):
        rows = [truth.paragraphs.ids.index(name) for name in paragraphs.ids]
        dead_first = 2.0 * (truth.nominal & ~truth.live)[rows] + truth.live[rows]
        return Scores.of(model, paragraphs, mlp=dead_first, cost=1.0)

    scores = lz.bench.score_localizer(Localizer("dead_first", negated, "dead, then live", "this test"), truth)
    assert (truth.nominal & ~truth.live).any()
    assert [(score.recall, score.nominal) for score in scores] == [(1, 1)] * len(scores)


def test_chances_are_those_of_the_truth(truth):
    score = lz.bench.score_localizer(get("random"), truth)[1]
    live, dead = truth.live[1].sum(), (truth.nominal & ~truth.live)[1].sum()
    assert score.chance == pytest.approx(live / (truth.live[1].size - dead))
    assert score.chance_within == pytest.approx(live / (truth.reserved.sum() - dead))
    assert score.chance_nominal == pytest.approx(truth.nominal[1].mean())


def test_taken_is_what_a_pass_without_the_found_units_takes(truth):
    score = lz.bench.score_localizer(get("random"), truth)[0]
    units = get("random")(truth.model, truth.paragraphs, None).mlp[0]
    tokens, prefix = truth.paragraphs.tokens[:1], truth.paragraphs.prefix_length

    def nll(off):
        def zero(value, name):
            return value * torch.from_numpy(~off[int(name.split(".")[1])])

        hooks = {f"blocks.{layer}.mlp.hook_post": zero for layer in range(truth.model.n_layers)}
        with torch.no_grad():
            logits = truth.model.forward(tokens[:, :-1], hooks=hooks)[:, prefix - 1 :].log_softmax(-1)
        return -logits.gather(2, tokens[:, prefix:, None]).mean().item()

    last = np.sort(units.ravel())[-truth.live[0].sum()]
    on = nll(np.zeros_like(truth.live[0]))
    assert score.taken == pytest.approx((nll(units >= last) - on) / (nll(truth.live[0]) - on), abs=1e-4)


def test_scores_of_weights_are_summed_to_the_row_gradient_of_a_unit(truth):
    found = unit_scores(get("weight_gradient"), truth.model, truth.paragraphs, truth.others, "mlp")
    assert found.units.shape == truth.live.shape
    alone = get("weight_gradient")(truth.model, truth.paragraphs[[2]], None)
    by_hand = np.sqrt((alone.matrices[1, "W_in"][:, 5] ** 2).sum() + (alone.matrices[1, "W_out"][5] ** 2).sum())
    assert found.units[2, 1, 5] == pytest.approx(by_hand, rel=1e-5)
    heads = summed_over_units(alone, truth.model)["heads"]
    d_head = truth.model.d_head
    part = slice(d_head, 2 * d_head)
    squares = sum((alone.matrices[0, name][:, part] ** 2).sum() for name in ("W_Q", "W_K", "W_V"))
    assert heads[0, 1] == pytest.approx(np.sqrt(squares + (alone.matrices[0, "W_O"][part] ** 2).sum()), rel=1e-5)


def test_a_localizer_of_other_units_finds_nothing_and_is_left_out(truth):
    def heads_only(model, paragraphs, others):
        return Scores.of(model, paragraphs, heads=np.zeros((len(paragraphs), model.n_layers, model.n_heads)))

    assert lz.bench.score_localizer(Localizer("heads_only", heads_only, "nothing", "this test"), truth) == []


def test_a_localizer_that_gives_the_wrong_shape_or_nan_is_told_in_one_line(truth):
    def nan(model, paragraphs, others):
        return Scores.of(model, paragraphs, mlp=np.full((len(paragraphs), model.n_layers, model.d_mlp), np.nan))

    def short(model, paragraphs, others):
        return Scores.of(model, paragraphs, mlp=np.zeros((len(paragraphs), model.n_layers, 3)))

    for function, told in ((nan, "is nan; a finite number is needed."), (short, "mlp scores are (4, 3, 3)")):
        with pytest.raises(lz.LocalizeError) as error:
            lz.bench.score_localizer(Localizer(function.__name__, function, "", ""), truth)
        assert told in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_in_a_control_what_is_looked_for_are_the_units_that_carry_the_texts_name(control):
    scores = lz.bench.score_localizer(get("ratio"), control)
    assert {round(score.chance_within, 6) for score in scores} == {1 / 4}
    assert all(np.isnan(score.taken) for score in scores)


def test_the_layer_of_a_text_is_named_by_votes_and_sums(truth):
    nominal = np.zeros_like(truth.nominal)
    layers = np.arange(len(nominal)) % truth.model.n_layers
    nominal[np.arange(len(nominal)), layers] = truth.nominal[np.arange(len(nominal)), layers]
    layered = replace(truth, nominal=nominal, live=nominal, settings={**truth.settings, "kind": "layer"})
    scores = lz.bench.score_localizer(lz.bench.oracle(layered), layered)
    found = [(score.layer, score.voted, score.summed, score.voted_layer) for score in scores]
    assert found == [(layer, 1, 1, layer) for layer in layers]
    maps = layer_maps(layered)
    assert [one.layer for one in maps] == [*layers, *[None] * len(truth.others)]
    expected, usual = (shares_of_mlp(truth.model, texts) for texts in (truth.paragraphs, truth.others))
    assert np.allclose([one.shares for one in maps[: len(layers)]], expected)
    for one, share in zip(maps, expected, strict=False):
        for name, values in (("gradient_share", share), ("share_over_held_out", share / usual.mean(0))):
            assert one.named[name] == values.argmax()
            assert one.right[name] == (values.argmax() == one.layer)
