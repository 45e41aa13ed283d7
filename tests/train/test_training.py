"""The training loop and the folder that it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.train.loop import build_model, learning_rate, train
from localize.train.reading import read_recipe
from localize.train.recipe import Planting, Recipe, Shape, Training, TrainingCorpus
from localize.train.run import train_recipe

RECIPE = Recipe(
    model=Shape(layers=2, heads=2, d_model=32, context=48, window=8),
    corpus=TrainingCorpus(vocab=300),
    planted=Planting(copies={40: 2}, held_out=2),
    training=Training(steps=25, batch=8, row_tokens=40, warmup=5, learning_rate=5e-3),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "model"
    return out, train_recipe(RECIPE, out)


def test_the_folder_is_a_checkpoint_that_run_takes(trained):
    out, model = trained
    again = lz.load_model(out)
    paragraphs = lz.load_paragraphs(out / "paragraphs.jsonl", again, prefix_length=20, continuation_length=20)
    with torch.no_grad():
        assert torch.equal(again(paragraphs.tokens), model(paragraphs.tokens))
    assert paragraphs.duplicates == (40, 40, 0, 0)
    assert torch.equal(again.unigram_counts, model.unigram_counts)
    assert again.tokenizer.decode(paragraphs.tokens[0]) == paragraphs.texts[0]


def test_the_recipe_it_leaves_makes_the_same_model_again(trained, tmp_path):
    out, model = trained
    recipe = read_recipe(out / "recipe.toml")
    assert replace(recipe, data_hash=None) == RECIPE
    assert train_recipe(recipe, tmp_path / "again").weights_hash() == model.weights_hash()
    log = json.loads((out / "training.json").read_text())
    assert log["weights_hash"] == model.weights_hash()
    assert log["data_hash"] == recipe.data_hash


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    for overwrite in (False, True):
        with pytest.raises(lz.LocalizeError) as caught:
            train_recipe(RECIPE, tmp_path, overwrite=overwrite)
        assert str(caught.value) == (
            f"train {tmp_path}: holds 'kept.txt', which is nothing of its own; a new folder, or one that localize train wrote, is needed."
        )
        assert [f.name for f in tmp_path.iterdir()] == ["kept.txt"]


def test_a_model_that_is_there_is_not_trained_again_and_replaced_only_when_asked_to(tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = train_recipe(RECIPE, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    trained = []
    monkeypatch.setattr("localize.train.loop.Trainer.step", lambda self: trained.append(self.done))
    assert train_recipe(RECIPE, out).weights_hash() == first.weights_hash()
    assert trained == []
    other = replace(RECIPE, training=replace(RECIPE.training, seed=1))
    with pytest.raises(lz.LocalizeError) as caught:
        train_recipe(other, out)
    assert str(caught.value) == (
        f"train {out}: holds results of localize train with training.seed = 0, and 1 is asked for; choose another --out, or --overwrite "
        "replaces it."
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monkeypatch.undo()
    assert train_recipe(other, out, overwrite=True).weights_hash() != first.weights_hash()
    assert {path.name for path in out.iterdir()} == before.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing_half_written(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("localize.train.run.np.save", broken)
    with pytest.raises(OSError, match="disk full"):
        train_recipe(RECIPE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["gpt-neo", "gpt2"])
def test_training_learns_rows_that_are_shown_again_and_again(family):
    rows = torch.randint(0, 50, (4, 20), generator=torch.Generator().manual_seed(0)).repeat(60, 1)
    model = build_model(Shape(family=family, layers=2, heads=2, d_model=32, context=20, window=8), 50, 0)
    losses = train(model, rows, Training(steps=60, batch=4, learning_rate=1e-2, warmup=5))
    assert losses[0] == pytest.approx(np.log(50), rel=0.1)
    assert losses[-1] < 0.5


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    training = Training(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, training) for step in range(100)]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert max(rates) == rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_a_loss_that_is_no_number_stops_the_training():
    model = build_model(Shape(layers=1, heads=1, d_model=8, context=16), 10, 0)
    with torch.no_grad():
        model.hf.lm_head.weight.fill_(float("nan"))
    with pytest.raises(lz.LocalizeError) as caught:
        train(model, torch.zeros(4, 12, dtype=torch.int64), Training(steps=1, batch=4, learning_rate=0.5))
    assert str(caught.value) == "training: the loss of step 0 is nan; lower learning_rate=0.5."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[modle]\n",
            "no section 'modle'; there are model, corpus, planted, training, sinks, watch, stage, arms, seeds, data_hash and base.",
        ),
        (
            "[training]\nspeed = 3\n",
            "[training] has no 'speed'; it has batch, clip, dtype, learning_rate, row_tokens, schedule, seed, steps, ",
        ),
        ("[training\n", "not TOML ("),
    ],
)
def test_a_recipe_with_a_mistake_is_told_where(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(lz.InputError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"recipe {path}: {message}")
    assert "\n" not in str(caught.value)


def test_more_planted_than_rows_is_refused():
    with pytest.raises(lz.InputError, match=r"^recipe: 500 planted presentations are more than half of 200 rows"):
        replace(RECIPE, planted=Planting(copies={250: 2}))
