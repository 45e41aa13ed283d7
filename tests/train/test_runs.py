"""Trainings of a recipe: several seeds and runs, killed and gone on, watched."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import localize as lz
from localize.train import running
from localize.train.loop import Trainer, build_model, train
from localize.train.planting import training_data
from localize.train.recipe import WATCHED_FILE, Planting, Recipe, Shape, Stage, Training, TrainingCorpus, Watching
from localize.train.run import STATE_FILE, train_recipe

RECIPE = Recipe(
    model=Shape(family="gpt2", layers=1, heads=2, d_model=16, context=16),
    corpus=TrainingCorpus("chain", 64),
    planted=Planting(copies={4: 4, 16: 4}, held_out=6, windows=((0.0, 0.5), (0.0, 1.0))),
    training=Training(steps=30, batch=8, row_tokens=12, warmup=2, threads=1, learning_rate=1e-2),
    watch=Watching(10, checkpoints=15),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, train_recipe(RECIPE, out)


def contents(folder):
    """All that a training leaves, but for the record of when it was made."""
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "command.json"}
    left["weights"] = lz.load_model(folder).weights_hash()
    left |= {path.name: lz.load_model(path).weights_hash() for path in folder.glob("step-*")}
    watched = left.pop(WATCHED_FILE, None)
    return left, None if watched is None else lz.load_signature(folder / WATCHED_FILE)


def test_what_is_watched_is_what_recall_says(whole):
    out, model = whole
    signature = lz.load_signature(out / WATCHED_FILE)
    assert signature.over_training == ("training_step",)
    assert signature["training_step"].values.tolist() == [0, 10, 20, 30]
    assert signature.groups == ("never_trained", "planted")
    paragraphs = lz.load_paragraphs(out / "paragraphs.jsonl", model, prefix_length=6, continuation_length=6)
    last = signature.at(training_step=-1)
    assert np.array_equal(last["token_nll"], lz.recall(model, paragraphs)["token_nll"])
    assert signature["exposures"].values[-1].tolist() == list(paragraphs.duplicates)
    planted = np.array(paragraphs.duplicates) > 0
    ends = signature.dataset["window_end"].values
    assert np.isnan(ends[~planted]).all() and set(ends[planted]) == {0.5, 1.0}
    early = signature["exposures"].values[2] == np.array(paragraphs.duplicates)
    assert early[planted & (ends == 0.5)].all() and not early[planted & (ends == 1.0)].all()
    assert signature.dataset.attrs["training"] == {
        "steps": 30,
        "batch": 8,
        "stages": [{"name": "stage 0", "steps": 30, "schedule": "cosine", "learning_rate": 0.01, "replay": 0.0}],
    }


def test_checkpoints_are_what_was_watched(whole):
    kept = {int(path.name.removeprefix("step-")): path for path in whole[0].glob("step-*")}
    assert sorted(kept) == [0, 15, 30]
    watched = lz.load_signature(whole[0] / WATCHED_FILE).dataset["weights_hash"].values.tolist()
    hashes = {step: lz.load_model(path).weights_hash() for step, path in kept.items()}
    assert [hashes[0], hashes[30]] == [watched[0], watched[-1]] and hashes[15] not in watched
    model = lz.load_model(kept[15])
    assert model.tokenizer is not None and model.unigram_counts is not None


def test_watching_changes_no_bit_of_the_model(whole, tmp_path):
    out, model = whole
    assert train_recipe(replace(RECIPE, watch=Watching()), tmp_path / "out").weights_hash() == model.weights_hash()
    assert not (tmp_path / "out" / WATCHED_FILE).exists() and (out / WATCHED_FILE).exists()


FOLLOWED = replace(RECIPE, watch=Watching(10, loss_change=True), training=replace(RECIPE.training, learning_rate=2e-3))


def test_a_recipe_follows_the_loss_change_and_leaves_it_with_what_is_watched(tmp_path):
    model = train_recipe(FOLLOWED, tmp_path / "out")
    assert train_recipe(replace(FOLLOWED, watch=Watching()), tmp_path / "plain").weights_hash() == model.weights_hash()
    signature = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    assert signature["training_step"].values.tolist() == [0, 10, 20, 30]
    planted, held_out = (signature["loss_change"].sel(set=name) for name in ("planted", "never_trained"))
    last = signature["loss_change_null"].sel(set="planted").isel(training_step=-1).sum("exposure")
    np.testing.assert_allclose(last, held_out.isel(training_step=-1).sum("exposure"), atol=1e-12)
    assert (planted.isel(training_step=-1) != 0).all() and (held_out.sel(exposure="shown") == 0).all()
    with pytest.warns(UserWarning, match="one seed"):
        table = lz.loss_change_table(signature)
    every = table.xs(("all", "both"), level=("component", "exposure"))
    nll = signature["nll"].groupby("group").mean().diff("training_step").sum("training_step")
    for name in ("planted", "never_trained"):
        assert every.loc[name]["estimate"].item() == pytest.approx(float(nll.sel(group=name)), rel=0.02)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    looks = [line for line in lines if "nll_planted" in line]
    assert looks[0]["loss_change_rows_a_step"] == 14 and looks[0]["loss_change_of_a_step"] == 14 / 8
    assert 0 < looks[-1]["loss_change_error_planted"] < 0.02


def test_one_that_is_stopped_and_goes_on_leaves_the_same_loss_change(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STATE_SECONDS", 0.0)
    whole = train_recipe(FOLLOWED, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(stage, count, loss):
        if stage == "steps" and count == 17 and not np.isnan(loss):
            raise Stopped

    with pytest.raises(Stopped):
        train_recipe(FOLLOWED, tmp_path / "out", on_progress=stop)
    assert (tmp_path / "out" / STATE_FILE).is_file()
    assert train_recipe(FOLLOWED, tmp_path / "out").weights_hash() == whole.weights_hash()
    one, other = (lz.load_signature(tmp_path / name / WATCHED_FILE).dataset for name in ("whole", "out"))
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def test_seeds_and_runs_are_joined_with_their_loss_change(tmp_path):
    recipe = replace(FOLLOWED, seeds=2, planted=replace(FOLLOWED.planted, pair=True))
    train_recipe(recipe, tmp_path / "out")
    signature = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    assert signature["loss_change"].dims[:3] == ("training_run", "training_seed", "training_step")
    twin = signature["loss_change"].sel(training_run="twin", exposure="shown")
    assert (twin == 0).all(), "it is shown none"
    with pytest.warns(UserWarning, match="2 seeds; 5 are needed"):
        table = lz.loss_change_table(signature)
    own = signature["loss_change"].sel(training_run="planted", training_step=30, set="planted", exposure="shown")
    assert table.loc["planted", 0, "W_in", -1, "shown"]["estimate"] == pytest.approx(
        float(own.sel(layer=0, component="W_in").mean())
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"watch": Watching(0, loss_change=True)},
            "without watch every: it is put down at the steps that are watched.",
        ),
        (
            {"watch": Watching(10, loss_change=True), "stage": (Stage(10), Stage(20, fresh=True))},
            "with a fresh stage: a step back to untrained weights is none whose change can be parted.",
        ),
    ],
)
def test_a_loss_change_that_cannot_be_followed_is_refused(changed, told):
    with pytest.raises(lz.InputError) as caught:
        replace(RECIPE, **changed)
    assert str(caught.value) == f"recipe: watch loss_change {told}"


def test_the_log_has_a_line_every_20_steps_and_for_each_look(whole, tmp_path):
    lines = [json.loads(line) for line in (whole[0] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 21]
    looks = {line["step"]: line for line in lines if "nll_planted" in line}
    signature = lz.load_signature(whole[0] / WATCHED_FILE)
    for step, line in looks.items():
        for group in signature.groups:
            part = signature.where(group=group).at(training_step=step)
            assert line[f"nll_{group}"] == pytest.approx(float(part["nll"].mean()))
            assert line[f"exact_match_{group}"] == pytest.approx(float(part["exact_match"].mean()))
    assert list(looks) == [0, 10, 20, 30]
    told = []
    train_recipe(RECIPE, tmp_path / "out", on_log=told.append)
    assert told == lines


def stopped_at(at, monkeypatch, out):
    """A training that fails before a step."""
    step = Trainer.step

    def broken(self):
        if self.done == at:
            raise OSError("power cut")
        return step(self)

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(OSError, match="power cut"):
        train_recipe(RECIPE, out)


@pytest.mark.parametrize("at", [1, 9, 10, 25])
def test_a_training_that_failed_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch, at):
    monkeypatch.setattr(running, "STATE_SECONDS", -1.0)  # kept after every step
    step, out = Trainer.step, tmp_path / "out"

    stopped_at(at, monkeypatch, out)
    assert (out / STATE_FILE).is_file() and not (out / "model.safetensors").exists()
    made = []
    monkeypatch.setattr(Trainer, "step", lambda self: (made.append(self.done), step(self))[1])
    train_recipe(RECIPE, out)
    assert made[0] == at and len(made) == 30 - at
    (files, watched), (expected, signature) = contents(out), contents(whole[0])
    assert files == expected
    assert watched.dataset.identical(signature.dataset.assign_attrs(watched.dataset.attrs))
    assert watched["token_nll"].identical(signature["token_nll"])


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STATE_SECONDS", -1.0)
    out, step = tmp_path / "out", Trainer.step
    stopped_at(5, monkeypatch, out)
    monkeypatch.setattr(Trainer, "step", step)
    for name in (f".abcd1234.{STATE_FILE}", ".ab_d1234.log.jsonl"):
        (out / name).write_bytes(b"half")
    (out / ".abcd1234.partial" / "step-5").mkdir(parents=True)
    (out / ".mine").write_text("stays")
    train_recipe(RECIPE, out)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".mine"]


def test_what_was_stopped_does_not_go_on_by_another_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STATE_SECONDS", -1.0)
    out = tmp_path / "out"
    stopped_at(5, monkeypatch, out)
    other = replace(RECIPE, training=replace(RECIPE.training, learning_rate=0.02))
    with pytest.raises(lz.LocalizeError) as caught:
        train_recipe(other, out)
    assert str(caught.value) == (
        f"train {out}: holds results of localize train with training.learning_rate = 0.01, and 0.02 is asked for; choose another --out, "
        "or --overwrite replaces it."
    )


KILLED = """
import sys
from localize.train import run, running
running.STATE_SECONDS = 0.0
from localize.train.reading import read_recipe
run.train_recipe(read_recipe(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_a_training_killed_ten_times_ends_in_the_same_bits(tmp_path):
    recipe = replace(RECIPE, training=replace(RECIPE.training, steps=400))
    expected = train_recipe(recipe, tmp_path / "whole").weights_hash()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    out, killed, stood = tmp_path / "out", 0, []
    rng = np.random.default_rng(0)
    while killed < 10:
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "recipe.toml", out], env=os.environ)
        before = (out / STATE_FILE).stat().st_mtime_ns if (out / STATE_FILE).exists() else 0
        while process.poll() is None and not (
            (out / STATE_FILE).exists() and (out / STATE_FILE).stat().st_mtime_ns > before
        ):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "finished before it was killed ten times"
        killed += 1
        stood.append((out / STATE_FILE).stat().st_mtime_ns)
    assert len(set(stood)) == 10 and not (out / "model.safetensors").exists()
    assert train_recipe(recipe, out).weights_hash() == expected
    assert contents(out)[0] == contents(tmp_path / "whole")[0]


def test_seeds_and_twins_are_joined_and_trained_once(tmp_path, monkeypatch):
    recipe = replace(RECIPE, seeds=2, planted=replace(RECIPE.planted, pair=True))
    out = tmp_path / "out"
    first = train_recipe(recipe, out)
    names = {"seed-0-planted", "seed-0-twin", "seed-1-planted", "seed-1-twin"}
    assert {path.name for path in out.iterdir()} == names | {"recipe.toml", "command.json", WATCHED_FILE}
    signature = lz.load_signature(out / WATCHED_FILE)
    assert signature.over_training == ("training_run", "training_seed", "training_step")
    assert signature["training_run"].values.tolist() == ["planted", "twin"]
    for run in ("planted", "twin"):
        for seed in (0, 1):
            model = lz.load_model(out / f"seed-{seed}-{run}")
            last = signature.at(training_run=run, training_seed=seed, training_step=-1)
            assert last.dataset.attrs["model"]["weights_hash"] == model.weights_hash()
    assert len(set(signature.dataset["weights_hash"].values[:, :, -1].flat)) == 4
    same = signature.dataset["weights_hash"].values[:, :, 0]
    assert (same[0] == same[1]).all() and same[0, 0] != same[0, 1]  # twins begin alike
    assert first.weights_hash() == lz.load_model(out / "seed-0-planted").weights_hash()
    assert (signature["exposures"].sel(training_run="twin") == 0).all()
    assert contents(out / "seed-0-planted")[0]["weights"] == train_recipe(RECIPE, tmp_path / "alone").weights_hash()
    shutil.rmtree(out / "seed-1-twin")
    step, made = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self: (made.append(self.done), step(self))[1])
    train_recipe(recipe, out)
    assert len(made) == 30  # the one that is not there
    assert lz.load_signature(out / WATCHED_FILE)["nll"].identical(signature["nll"])


def test_replaced_arms_leave_no_folder_and_nothing_else_is_touched(tmp_path):
    def of_arms(*names, steps=4):
        few = Planting(copies={2: 2}, held_out=2)
        base = replace(RECIPE, training=replace(RECIPE.training, steps=steps), planted=few, watch=Watching())
        return replace(base, arms=dict.fromkeys(names, base))

    out = tmp_path / "out"
    train_recipe(of_arms("a", "b", "notes"), out)
    train_recipe(of_arms(), out / "other")  # a training of its own, no arm
    for path in (out / "notes").iterdir():
        path.unlink()
    for folder in ("notes", "figures"):
        (out / folder).mkdir(exist_ok=True)
        (out / folder / "mine.txt").write_text("mine", encoding="utf-8")
    train_recipe(of_arms("a", "c", steps=5), out, overwrite=True)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"a", "c", "notes", "figures", "other"}
    train_recipe(of_arms(), out, overwrite=True)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"notes", "figures", "other"}
    assert all((out / folder / "mine.txt").is_file() for folder in ("notes", "figures"))
    assert (out / "model.safetensors").is_file() and (out / "other" / "model.safetensors").is_file()
    with pytest.raises(lz.LocalizeError, match=r"figures: holds 'mine.txt', which is nothing of its own; "):
        train_recipe(of_arms("figures"), out, overwrite=True)
    assert (out / "figures" / "mine.txt").is_file()


def test_a_model_is_trained_on(whole, tmp_path):
    out, before = whole
    recipe = replace(RECIPE, model=Shape(start=str(out)), training=replace(RECIPE.training, steps=25, seed=4))
    model = train_recipe(recipe, tmp_path / "on")
    watched = lz.load_signature(tmp_path / "on" / WATCHED_FILE)
    assert watched.dataset["weights_hash"].values[0] == before.weights_hash() != model.weights_hash()
    assert lz.load_model(tmp_path / "on").tokenizer.decode([3, 5]) == "w3 w5"


def test_a_chain_of_other_words_than_the_model_has_is_refused(whole, tmp_path):
    recipe = replace(RECIPE, model=Shape(start=str(whole[0])), corpus=TrainingCorpus("chain", 32))
    with pytest.raises(lz.InputError, match=r"its words are not those of the chain \(32\)\.$"):
        train_recipe(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stages_have_schedules_of_their_own(tmp_path):
    recipe = replace(
        RECIPE,
        planted=replace(RECIPE.planted, windows=((0.0, 1.0),)),
        stage=(
            Stage(20),
            Stage(21, corpus={"rules": 1}, learning_rate=0.02, schedule="constant", warmup=4, replay=0.25),
        ),
    )
    rates = []
    train_recipe(recipe, tmp_path / "out", on_log=lambda line: rates.append((line["step"], line.get("learning_rate"))))
    told = {step: rate for step, rate in rates if rate is not None}
    assert told[21] == pytest.approx(0.02 / 4)  # warms up again
    assert told[41] == pytest.approx(0.02)
    signature = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    assert signature.groups == ("never_trained_stage_0", "never_trained_stage_1", "planted")
    assert (signature.dataset["training_stage"].values == 1).sum() == 6
    counts = signature["exposures"]
    assert (counts.values[-1] > counts.sel(training_step=20).values).any()  # shown again by replay


def test_a_fresh_stage_is_a_training_of_its_rows_alone(tmp_path):
    planted = replace(RECIPE.planted, windows=((0.0, 1.0),))
    recipe = replace(RECIPE, planted=planted, stage=(Stage(20), Stage(21, corpus={"rules": 1}, fresh=True)))
    kept = train_recipe(recipe, tmp_path / "out").weights_hash()
    data = training_data(recipe)
    model = build_model(recipe.model, len(data.tokenizer), recipe.training.seed)
    train(model, data.rows[20 * recipe.training.batch :], recipe.trainings[1])
    assert model.weights_hash() == kept
    first = lz.load_signature(tmp_path / "out" / WATCHED_FILE)["weights_hash"].sel(training_step=0).item()
    again = Trainer(build_model(recipe.model, len(data.tokenizer), 0), data.rows, recipe.trainings, recipe.fresh_at)
    for _ in range(30):
        again.step()
    state = again.state()
    gone_on = Trainer(build_model(recipe.model, len(data.tokenizer), 0), data.rows, recipe.trainings, recipe.fresh_at)
    assert gone_on.model.weights_hash() == first
    gone_on.resume(state)
    while gone_on.done < gone_on.steps:
        gone_on.step()
    assert gone_on.model.weights_hash() == kept, "stopped after the stage began"


def test_a_recipe_gives_memory_the_rows_that_it_is_trained_on(tmp_path):
    """In both runs and seeds, beside each other in one signature; the planted texts are rows of one run alone."""
    watch = Watching(15, ("recall", "memory"))
    recipe = replace(RECIPE, seeds=2, watch=watch, planted=Planting(copies={4: 4, 16: 4}, held_out=6, pair=True))
    train_recipe(recipe, tmp_path / "out")
    signature = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    true, sampled = signature["true_ngrams_in_rows"], signature["sampled_ngrams_in_rows"]
    assert true.dims == ("training_run", "training_seed", "training_step", "paragraph", "ngram")
    planted = signature.dataset["duplicates"].values > 0
    assert (true.sel(training_run="planted").values[:, :, planted] == 1).all()
    assert true.sel(training_run="twin", ngram=6).values[:, :, planted].mean() < 0.5
    for run in ("planted", "twin"):
        folder = tmp_path / "out" / f"seed-1-{run}"
        paragraphs = lz.load_paragraphs(
            folder / "paragraphs.jsonl", lz.load_model(folder), prefix_length=6, continuation_length=6
        )
        rows = training_data(recipe, seed=1, run=run).rows
        again = lz.memory(lz.load_model(folder), paragraphs, rows=rows)
        chosen = {"training_run": run, "training_seed": 1, "training_step": 30}
        np.testing.assert_allclose(again["sampled_ngrams_in_rows"], sampled.sel(chosen))
        np.testing.assert_allclose(again["min_k"], signature["min_k"].sel(chosen), atol=1e-5)
