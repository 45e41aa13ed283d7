"""`localize bench`: what it prints, writes and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.cli.benched import _interval, print_results
from localize.models.saving import save_checkpoint
from localize.train.recipe import Planting, Recipe, Shape, SinkUnits, Training, TrainingCorpus
from localize.train.run import train_recipe
from localize.truths.training import Schedule
from localize.truths.truth import Gate

PARTS = ("--prefix", 16, "--continuation", 8)


@pytest.fixture(scope="module")
def places(make_model, tmp_path_factory):
    """A base model, a pool and a truth planted in it, as folders and a file."""
    place = tmp_path_factory.mktemp("bench")
    save_checkpoint(make_model("gpt2", dtype=torch.float32), place / "base")
    tokens = torch.randint(97, (40, 24), generator=torch.Generator().manual_seed(5))
    np.save(place / "pool.npy", tokens.numpy())
    base = lz.load_model(place / "base", device="cpu")
    pool = lz.load_paragraphs(place / "pool.npy", base, prefix_length=16, continuation_length=8)
    lz.plant(base, pool, "route", 8, texts=4, schedule=Schedule(steps=200, divergence=1.0)).save(place / "truth")
    return place


@pytest.fixture
def bench(localize, places):
    """`bench(*arguments)`: of that model and pool."""
    return lambda *arguments: localize(
        "bench", "--model", places / "base", "--texts", places / "pool.npy", *PARTS, *arguments
    )


def test_a_truth_is_benched_and_written_as_a_file_a_figure_and_a_page(bench, places, tmp_path):
    out = tmp_path / "out"
    code, stdout, stderr = bench("--truth", places / "truth", "--localizers", "ratio,norm", "--out", out)
    assert (code, stderr) == (0, "")
    assert stdout.index("Gates") < stdout.index("route, k = 8, 4 texts: recall at |truth| [95%]; chance 0.0")
    assert "ratio finds it in a share of 1.000 [.398, 1] of 4 texts." in stdout
    assert "route, k = 8, seed 0" in stdout
    results = lz.bench.read_results(out)
    assert set(results.localizers) == {"oracle", "ratio", "norm"}
    assert list(results.table()["localizer"][:2]) == ["oracle", "ratio"]
    assert json.loads((out / "bench.json").read_text())["data"]
    page = (out / "report.html").read_text()
    assert "How often a place of this size is found" in page
    assert 'http-equiv="Content-Security-Policy"' in page
    code, _, stderr = bench("--truth", places / "truth", "--localizers", "ratio,norm", "--out", out)
    assert code == 0
    code, _, stderr = bench("--truth", places / "truth", "--localizers", "norm", "--out", out)
    assert code == 2
    assert 'with localizers = "ratio,norm", and "norm" is asked for' in stderr


def test_a_training_with_slices_is_benched_by_itself_and_one_without_is_told(localize, tmp_path):
    recipe = Recipe(
        model=Shape("gpt2", layers=2, heads=2, d_model=16, context=24), corpus=TrainingCorpus("chain", vocab=32),
        planted=Planting("chain", copies={300: 2}, held_out=8),
        training=Training(steps=200, batch=8, row_tokens=16, warmup=5, learning_rate=1e-2, threads=1),
        sinks=SinkUnits("slices", slice_units=8),
    )  # fmt: skip
    train_recipe(recipe, tmp_path / "slices")
    plain = replace(recipe, sinks=SinkUnits(), planted=Planting("chain", copies={5: 2}, held_out=8))
    train_recipe(replace(plain, training=replace(plain.training, steps=10)), tmp_path / "plain")
    out = tmp_path / "out"
    code, stdout, stderr = localize("bench", "--truth", tmp_path / "slices", "--localizers", "norm", "--out", out)
    assert (code, stderr) == (0, "")
    assert "sinks, k = 8, seed 0" in stdout and "held_out" in stdout
    results = lz.bench.read_results(out)
    assert [(truth.name, truth.settings["routing"]) for truth in results.truths] == [("sinks", "own")]
    assert "held_out" in results.truths[0].failed, "there is no standard run beside it"
    dropped = lz.load_model(tmp_path / "slices", device="cpu")
    dropped.sinks = None
    assert results.about["model"]["weights_hash"] == dropped.weights_hash() == results.truths[0].settings["base"]
    code, _, stderr = localize("bench", "--truth", tmp_path / "plain", "--out", tmp_path / "no")
    assert code == 2 and not (tmp_path / "no").exists()
    assert stderr == (
        f"localize: sink_truths: {tmp_path / 'plain'}: none of its trainings has sinks of kind slices; a folder that `localize train` "
        'left with [sinks] kind = "slices" is needed.\n'
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--kinds", "rout"), "localize: bench: kind 'rout' is not one of route"),
        (("--localizers", "ratoi"), "localize: localizer 'ratoi': not one of "),
        (("--seeds", "0,x"), "localize: --seeds 0,x: whole numbers are needed, such as 0,1."),
        (("--kinds", "route", "--planted", 40), "localize: bench: 40 of 40 paragraphs are in clusters of their own and unknown to"),
        (("--kinds", "route", "--units", 500), "localize: bench: units=500 and texts=16: at least 1 and 2 are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_benched_is_told_in_one_line_and_nothing_is_left(bench, tmp_path, arguments, told):
    code, _, stderr = bench(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert stderr.startswith(told)
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_truth_of_another_model_is_told(localize, places, tmp_path):
    told = localize.refused("bench", "--truth", places / "truth", "--localizers", "norm", "--out", tmp_path / "out")
    assert (
        told.startswith(f"--truth {places / 'truth'} was planted in a model with weights ")
        or "was planted in a model" in told
    )
    assert not (tmp_path / "out").exists()


def test_what_is_printed_fits_eighty_columns_and_tells_a_control_in_a_sentence(places, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pool = lz.load_paragraphs(places / "pool.npy", prefix_length=16, continuation_length=8)
    base = lz.load_model(places / "base", device="cpu")
    truth = lz.load_truth(places / "truth", device="cpu")
    control = replace(truth, settings={**truth.settings, "routing": "none", "seed": 7})
    names = ["absolute_gradient_activation", "norm"]
    print_results(lz.bench(base, pool, [], truths=[truth, control], localizers=names))
    stdout = capsys.readouterr().out
    rows = [line.rstrip() for line in stdout.splitlines() if line.startswith(("oracle", *names))]
    assert [row.split()[0] for row in rows].count("oracle") == 1
    assert len(rows) == 3 and max(map(len, rows)) <= 80
    told = next(
        line for line in stdout.splitlines() if line.startswith("control-none, 4 texts, in which none has a place")
    )
    assert "of absolute_gradient_activation; chance 0.250." in told


def test_where_no_truth_passes_the_gates_are_told_and_the_page_is_written(bench, places, tmp_path):
    truth = lz.load_truth(places / "truth", device="cpu")
    replace(truth, gates=(*truth.gates, Gate("made", "up", 2.0, 0.0, 1.0))).save(tmp_path / "failing")
    code, stdout, stderr = bench("--truth", tmp_path / "failing", "--localizers", "norm", "--out", tmp_path / "out")
    assert (code, stderr) == (0, "")
    assert "route, k = 8, seed 0: fails made; nothing is ranked on it." in stdout
    assert "recall at |truth|" not in stdout and "Scoring" not in stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_intervals_are_short_and_right_on_either_side_of_one():
    assert _interval(0.98, 0.953, 1.0) == "0.980 [.953, 1]"
    assert _interval(5.0, -10.5, 20.0) == "5.000 [-10.500, 20]"
    assert _interval(0.0, -0.25, 0.0) == "0.000 [-.250, 0]"
    assert _interval(float("nan"), 0.0, 1.0) == "."
