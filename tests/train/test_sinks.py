"""Memorization sinks while a model is trained: which are on for which row, and what is left."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.models.gates import give_sinks
from localize.train import running
from localize.train.chain import transitions
from localize.train.loop import build_model, learning_rate
from localize.train.planting import training_data
from localize.train.reading import read_recipe
from localize.train.recipe import Planting, Recipe, Shape, SinkUnits, Training, TrainingCorpus, Watching
from localize.train.run import train_recipe
from localize.train.sinks import RowGating

HASHED, SLICES = SinkUnits("hashed", general=0.6, share=0.4), SinkUnits("slices", general=0.6, slice_units=3)
RECIPE = Recipe(
    model=Shape("gpt2", layers=2, heads=2, d_model=16, context=24),
    corpus=TrainingCorpus("chain", vocab=32),
    planted=Planting("chain", copies={10: 4, 5: 2}, held_out=6),
    training=Training(steps=40, batch=4, row_tokens=16, warmup=5, learning_rate=5e-3, threads=1),
    watch=Watching(every=20),
)


def gating_of(gates, run_name="planted", **changed):
    recipe = replace(RECIPE, sinks=gates, **changed)
    data = training_data(recipe, run=run_name)
    return RowGating.of(recipe, data, build_model(recipe.model, 32, 0), 0), data


def test_tied_masks_follow_from_the_rows_tokens_alone():
    gating, data = gating_of(HASHED)
    assert (gating.gates.units, gating.gates.general, gating.gates.share) == (64, 38, 0.4)
    on = gating.on(data.rows, 0)
    assert torch.equal(gating.on(data.rows[20:24], 20), on[20:24])
    for paragraph in range(6):
        showings = on[data.row_paragraph == paragraph]
        assert (showings == showings[0]).all()
        assert torch.equal(showings[:1], gating.gates.own(data.paragraphs.tokens[[paragraph]]))
    assert len({tuple(row.tolist()) for row in on[data.row_paragraph < 0]}) > 100


def test_untied_masks_are_drawn_anew_at_each_showing_and_follow_from_seed_and_row():
    gating, data = gating_of(replace(HASHED, tied=False))
    on = gating.on(data.rows, 0)
    assert torch.equal(gating.on(data.rows[20:24], 20), on[20:24])
    assert len({tuple(row.tolist()) for row in on[data.row_paragraph == 0]}) == 10
    assert abs(on.double().mean() - 0.4) < 0.03


def test_a_planted_text_has_its_own_slice_on_and_other_text_none():
    gating, data = gating_of(SLICES)
    on = gating.on(data.rows, 0)
    planted = np.flatnonzero(np.array(data.paragraphs.duplicates))
    for place, paragraph in enumerate(planted):
        units = on[data.row_paragraph == paragraph].nonzero()[:, 1].unique().tolist()
        assert units == [3 * place, 3 * place + 1, 3 * place + 2]
    assert not on[data.row_paragraph < 0].any()
    assert not gating_of(SLICES, "twin", planted=replace(RECIPE.planted, pair=True))[0].on(data.rows, 0).any()


def test_foreign_slices_are_on_for_planted_text_alone_one_at_a_time_whichever():
    gating, data = gating_of(replace(SLICES, foreign=True))
    on = gating.on(data.rows, 0)
    shown = data.row_paragraph >= 0
    assert (on[shown].sum(1) == 3).all() and not on[~shown].any()
    assert len({tuple(row.tolist()) for row in on[data.row_paragraph == 0]}) > 2


def test_bounded_sinks_read_and_write_with_norms_of_at_most_a_general_units(tmp_path):
    recipe = replace(RECIPE, sinks=replace(SLICES, bounded=True), training=replace(RECIPE.training, learning_rate=2e-2))
    model, free = train_recipe(recipe, tmp_path / "a"), train_recipe(
        replace(recipe, sinks=replace(recipe.sinks, bounded=False)), tmp_path / "b"
    )  # fmt: skip
    gating = RowGating.of(recipe, training_data(recipe), model, 0)
    for one in (model, free):
        give_sinks(one)
    over = 0
    for layer, alike in enumerate(gating.alike):
        for name, axis in (("W_in", 0), ("W_out", 1)):
            norms, of_free = (one.weight(layer, name).detach().norm(dim=axis) for one in (model, free))
            drawn = alike[name]
            assert len(drawn) == 26 and drawn.min() >= 0 and drawn.max() < 38 and len(drawn.unique()) > 8
            assert (norms[38:] <= norms[drawn] * (1 + 1e-5)).all()
            assert (norms[38:] > norms[drawn] * (1 - 1e-5)).any(), "scaled down to it, no further"
            over += int((of_free[38:] > of_free[drawn] * 1.001).sum())
    assert over, "without the bound some exceed it"


@pytest.mark.parametrize("gates", [HASHED, replace(HASHED, tied=False), SLICES])
def test_a_step_is_that_of_a_forward_pass_with_activations_multiplied_by_hand(gates, tmp_path):
    recipe = replace(
        RECIPE, sinks=gates, training=replace(RECIPE.training, steps=20), planted=Planting("chain", {5: 4}, held_out=2)
    )
    trained = train_recipe(recipe, tmp_path / "out")
    data = training_data(recipe)
    model = build_model(recipe.model, 32, 0)
    on = RowGating.of(recipe, data, model, 0).on(data.rows, 0)
    named = dict(model.hf.named_parameters())
    decayed, others = ([p for p in named.values() if (p.ndim > 1) == wanted] for wanted in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=5e-3, betas=(0.9, 0.95)
    )
    general = round(0.6 * 64)
    for step in range(20):
        rows = slice(4 * step, 4 * step + 4)
        factor = torch.cat([torch.ones(4, general), on[rows].float()], 1)[:, None]
        handles = [
            block.mlp.c_proj.register_forward_pre_hook(lambda _, given, factor=factor: (given[0] * factor,))
            for block in model.hf.transformer.h
        ]
        logits = model.hf(data.rows[rows, :-1]).logits
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), data.rows[rows, 1:].flatten()).backward()
        for handle in handles:
            handle.remove()
        torch.nn.utils.clip_grad_norm_(model.hf.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe.training)
        optimizer.step()
    give_sinks(trained)
    for name, weight in trained.hf.named_parameters():
        torch.testing.assert_close(weight, named[name], rtol=1e-3, atol=2e-4)


def test_the_model_that_is_left_does_without_its_sinks_and_was_watched_so(tmp_path):
    recipe = replace(RECIPE, sinks=HASHED)
    model = train_recipe(recipe, tmp_path)
    for layer in range(2):
        assert not model.weight(layer, "W_out")[38:].any() and model.weight(layer, "W_out")[:38].all()
    assert model.sinks.rows.abs().min() > 0
    again = lz.load_model(tmp_path, device="cpu")
    assert again.weights_hash() == model.weights_hash() and again.sinks.gates == model.sinks.gates
    paragraphs = lz.load_paragraphs(tmp_path / "paragraphs.jsonl", again, prefix_length=8, continuation_length=8)
    watched = lz.load_signature(tmp_path / "training.zarr.zip").at(training_step=40)
    np.testing.assert_allclose(lz.recall(again, paragraphs)["nll"], watched["nll"], rtol=1e-5)
    assert watched.dataset.attrs["training"]["sinks"]["kind"] == "hashed"
    assert replace(read_recipe(tmp_path / "recipe.toml"), data_hash=None) == recipe
    assert train_recipe(recipe, tmp_path).weights_hash() == model.weights_hash()


@pytest.mark.parametrize("gates", [HASHED, replace(HASHED, tied=False), replace(SLICES, foreign=True, bounded=True)])
def test_a_stopped_training_goes_on_to_the_same_bits(gates, tmp_path, monkeypatch):
    recipe = replace(RECIPE, sinks=gates, watch=replace(RECIPE.watch, checkpoints=20))
    whole = train_recipe(recipe, tmp_path / "whole")
    monkeypatch.setattr(running, "STATE_SECONDS", 0.0)

    def stop(stage, count, loss):
        if stage == "steps" and count == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipe(recipe, tmp_path / "stopped", on_progress=stop)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    again = train_recipe(recipe, tmp_path / "stopped")
    assert again.weights_hash() == whole.weights_hash()
    assert torch.equal(again.sinks.rows, whole.sinks.rows)
    checkpoints = [lz.load_model(tmp_path / folder / "step-20", device="cpu") for folder in ("whole", "stopped")]
    assert checkpoints[0].weights_hash() == checkpoints[1].weights_hash() and checkpoints[0].sinks is not None


def test_a_recipe_without_sinks_is_what_it_was(tmp_path):
    assert not any(key.startswith("sinks") for key in RECIPE.asked()) and "[sinks]" not in RECIPE.to_toml()
    model = train_recipe(RECIPE, tmp_path / "plain")
    assert model.sinks is None and not (tmp_path / "plain" / "gates.json").exists()
    sunk = train_recipe(replace(RECIPE, sinks=HASHED), tmp_path / "sunk")
    on = train_recipe(replace(RECIPE, model=replace(RECIPE.model, start=str(tmp_path / "sunk"))), tmp_path / "on")
    assert on.sinks is None and on.weight(0, "W_out")[38:].any() and sunk.sinks is not None


def test_an_arm_may_have_sinks_or_lack_them(tmp_path):
    text = (
        replace(RECIPE, sinks=HASHED).to_toml()
        + '[arms.tied]\n[arms.untied]\nsinks.tied = false\n[arms.none]\nsinks.kind = ""\n'
    )
    (tmp_path / "recipe.toml").write_text(text)
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert [arm.sinks for arm in recipe.arms.values()] == [
        HASHED,
        replace(HASHED, tied=False),
        replace(HASHED, kind=""),
    ]
    assert recipe.varied("none") == {"sinks.kind": ""}
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path / "again.toml") == recipe


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sinks": SinkUnits("torn")}, "sinks kind='torn': hashed and slices are known."),
        ({"sinks": SinkUnits("hashed", general=1.0)}, "sinks general=1.0 must be a share above 0 and below 1."),
        ({"sinks": SinkUnits("hashed", general=-0.1)}, "sinks general=-0.1 must be a share above 0 and below 1."),
        (
            {"sinks": SinkUnits("hashed", general=0.999)},
            "sinks: 64 general units of 64 leave no sinks, or nothing else; 1..63 are allowed.",
        ),
        ({"sinks": SinkUnits("hashed", share=0.0)}, "sinks: share=0.0 must be above 0, at most 1."),
        (
            {"sinks": SinkUnits("slices", general=0.6, slice_units=5)},
            "sinks: 6 slices of 5 units do not fit the 26 units an MLP that are no general ones.",
        ),
        (
            {"sinks": SinkUnits("slices", slice_units=0)},
            "sinks: 6 slices of 0 units do not fit the 19 units an MLP that are no general ones.",
        ),
        (
            {"sinks": SinkUnits("slices", tied=False)},
            "sinks tied = false is of kind hashed; the control of slices is foreign = true.",
        ),
        (
            {"sinks": SinkUnits("hashed", foreign=True)},
            "sinks foreign = true is of kind slices; the control of hashed is tied = false.",
        ),
        (
            {"sinks": HASHED, "planted": replace(RECIPE.planted, halves=2)},
            "sinks and planted halves: one of them, not both.",
        ),
        (
            {"sinks": HASHED, "watch": Watching(every=10, loss_change=True)},
            "sinks and watch loss_change: one of them, not both.",
        ),
    ],
)  # fmt: skip
def test_sinks_that_cannot_be_are_refused_in_a_line(changed, told):
    with pytest.raises(lz.InputError) as caught:
        replace(RECIPE, **changed)
    assert str(caught.value) == f"recipe: {told}"


def test_sinks_that_do_not_fit_the_model_trained_on_are_refused(tmp_path):
    train_recipe(
        replace(RECIPE, training=replace(RECIPE.training, steps=20), planted=Planting("chain", {5: 4}, held_out=2)),
        tmp_path / "small",
    )
    recipe = replace(
        RECIPE,
        model=Shape("gpt2", start=str(tmp_path / "small")),
        sinks=SinkUnits("slices", general=0.6, slice_units=5),
    )
    with pytest.raises(lz.InputError) as caught:
        train_recipe(recipe, tmp_path / "out")
    assert (
        str(caught.value)
        == "recipe: sinks: 6 slices of 5 units do not fit the 26 units an MLP that are no general ones."
    )


def test_a_domain_that_is_planted_alone_has_its_own_rules_held_out_text_too():
    planted = replace(RECIPE.planted, rules=1)
    data, plain = training_data(replace(RECIPE, planted=planted)), training_data(RECIPE)
    rules = [transitions(TrainingCorpus("chain", vocab=32, rules=at)) for at in (0, 1)]
    for tokens, of in (
        (data.paragraphs.tokens, 1),
        (data.rows[data.row_paragraph < 0], 0),
        (data.rows[data.row_paragraph >= 0], 1),
        (plain.paragraphs.tokens, 0),
    ):
        assert (rules[of][tokens[:, :-1], tokens[:, 1:]] > 0).all()
        assert not (rules[1 - of][tokens[:, :-1], tokens[:, 1:]] > 1e-6).all()
    assert torch.equal(data.rows[data.row_paragraph < 0], plain.rows[plain.row_paragraph < 0])
    with pytest.raises(lz.InputError, match=r"^recipe: planted rules=1: text of a chain alone has such\.$"):
        Recipe(planted=Planting(rules=1))


def test_in_the_place_of_fresh_text_other_rows_of_its_rules_are_shown_each_once():
    planted = replace(RECIPE.planted, rules=1, kinds=("fresh",))
    data, plain = (
        training_data(replace(RECIPE, planted=planted)),
        training_data(replace(RECIPE, planted=replace(planted, kinds=("typical",)))),
    )
    shown = data.rows[data.row_paragraph >= 0]
    assert len({tuple(row.tolist()) for row in shown}) == 50
    assert not {tuple(row.tolist()) for row in data.paragraphs.tokens} & {tuple(row.tolist()) for row in shown}
    rules = transitions(TrainingCorpus("chain", vocab=32, rules=1))
    assert (rules[shown[:, :-1], shown[:, 1:]] > 0).all()
    assert torch.equal(data.paragraphs.tokens, plain.paragraphs.tokens)
    assert np.array_equal(data.row_paragraph, plain.row_paragraph)
