"""`localize edit`: whole files after a good run, one line and nothing after bad input."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import localize as lz
from localize.signature import load_signature

LENGTHS = ("--prefix", "16", "--continuation", "16")
QUICK = ("--forget", "2", "--steps", "3", "--learning-rate", "0.01", "--fraction", "0.05")


@pytest.fixture
def recited(checkpoint, tmp_path):
    """Sixteen paragraphs, of which the model says twelve itself, and a file of other text."""
    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (24, 32), generator=torch.Generator().manual_seed(4))
    tokens[:12, 16:] = model.continue_greedily(tokens[:12, :16], 16)
    for name, rows in (("recited", tokens[:16]), ("general", tokens[16:])):
        lines = [json.dumps({"tokens": row, "id": f"{name} {i}"}) for i, row in enumerate(rows.tolist())]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "recited.jsonl"


@pytest.fixture
def edited(localize, checkpoint, recited, tmp_path):
    options = ("--out", tmp_path / "out", "--repeats", "2", "--general", tmp_path / "general.jsonl")
    return localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options, "--export", tmp_path / "exported")


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_leaves_edits_signatures_a_table_a_figure_and_a_checkpoint(edited, checkpoint, tmp_path):
    code, stdout, stderr = edited
    assert (code, stderr) == (0, "")
    out, names = tmp_path / "out", ("top-5", "random-5", "all", "other-layers-5")
    made = {
        f"{name}-seed{seed}{end}"
        for name in names
        for seed in (0, 1)
        for end in (".safetensors", "-before.zarr.zip", "-after.zarr.zip")
    }
    assert {path.name for path in out.iterdir()} == made | {"changes.csv", "editing.html", "edits.json", "command.json"}
    table = pd.read_csv(out / "changes.csv", index_col=["edit", "quantity", "group"])
    assert {"top 5 %", "random 5 %", "all", "other layers 5 %"} == set(table.index.unique("edit"))
    edit, model = lz.load_edit(out / "top-5-seed0.safetensors"), lz.load_model(checkpoint)
    before, after = (load_signature(out / f"top-5-seed0-{side}.zarr.zip") for side in ("before", "after"))
    assert (before["group"].values == "general").sum() == 8
    with edit.applied(model):
        assert after.dataset.attrs["model"]["weights_hash"] == model.weights_hash()
        assert lz.load_model(tmp_path / "exported").weights_hash() == model.weights_hash()
    pooled = [load_signature(out / f"top-5-seed{seed}-after.zarr.zip").where(group="forget") for seed in (0, 1)]
    expected = np.concatenate([part["exact_match"].values for part in pooled]).mean()
    assert table.loc[("top 5 %", "exact_match", "forget"), "after"] == pytest.approx(expected)
    assert "forget" in stdout
    assert "What moved" in stdout


@pytest.mark.filterwarnings("ignore:.*effective")
@pytest.mark.parametrize(
    ("options", "row"),
    [
        (("--action", "rewrite"), ("top 5 %", "rewritten_exact_match", "forget")),
        (("--action", "zero"), ("zeroed units 5 %", "exact_match", "forget")),
        (("--method", "npo", "--stop-at", "15"), ("top 5 %", "exact_match", "forget")),
        (("--paragraph", "recited 3", "--paragraph", "recited 5"), ("top 5 %", "exact_match", "forget")),
    ],
)
def test_other_ways_of_editing(localize, checkpoint, recited, tmp_path, options, row):
    code, _, stderr = localize(
        "edit", checkpoint, recited, *LENGTHS, *QUICK, "--no-controls", "--out", tmp_path / "out", *options
    )
    assert (code, stderr) == (0, "")
    table = pd.read_csv(tmp_path / "out" / "changes.csv", index_col=["edit", "quantity", "group"])
    assert table.loc[row, "n"] == 2
    if "--paragraph" in options:
        before = load_signature(tmp_path / "out" / "top-5-seed0-before.zarr.zip")
        assert before["paragraph"].values[before["group"].values == "forget"].tolist() == ["recited 3", "recited 5"]


def test_what_was_edited_before_a_failure_is_kept(localize, checkpoint, recited, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise lz.LocalizeError("out of luck.")

    monkeypatch.setattr("localize.edit_table", broken)
    command = ("edit", checkpoint, recited, *LENGTHS, *QUICK, "--no-controls", "--out", tmp_path / "out")
    assert localize.refused(*command) == "out of luck."
    assert lz.load_edit(tmp_path / "out" / "top-5-seed0.safetensors").call["measurement"] == "unlearn"


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_that_fails_leaves_the_others_and_is_told_at_the_end(localize, checkpoint, recited, tmp_path):
    options = ("--fraction", "0.01", "--learning-rate", "1e30", "--steps", "1", "--forget", "2", "--method", "npo")
    code, stdout, stderr = localize("edit", checkpoint, recited, *LENGTHS, *options, "--out", tmp_path / "out")
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert "is nan after step 1 of 1" in stderr
    assert "seed 0, all: " in stdout


@pytest.mark.filterwarnings("ignore:.*effective")
def test_what_was_forgotten_may_be_watched_coming_back(localize, checkpoint, recited, tmp_path):
    options = ("--no-controls", "--relearn", "2", "--general", tmp_path / "general.jsonl", "--out", tmp_path / "out")
    code, stdout, stderr = localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options)
    assert (code, stderr) == (0, "")
    forgotten, other = (
        load_signature(tmp_path / "out" / f"top-5-{which}-seed0-relearned.zarr.zip")
        for which in ("forgotten", "not-recited")
    )
    after = load_signature(tmp_path / "out" / "top-5-seed0-after.zarr.zip").where(group="forget")
    assert forgotten["relearned_exact_match"].values[:, 0].tolist() == after["exact_match"].values.tolist()
    assert other["paragraph"].values.tolist() == ["general 0", "general 1"]
    by_step = " ".join(f"{value:.1f}" for value in forgotten["relearned_exact_match"].values.mean(0))
    assert f"top 5 %, forgotten: exact match step by step {by_step}" in stdout
    assert (tmp_path / "out" / "relearning.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--action", "burn"), "--action burn: not one of unlearn, rewrite, zero."),
        (("--method", "burn"), "--method burn: not one of contrastive, npo, gradient_difference."),
        (("--action", "rewrite", "--first", "3"), "--first: means nothing to --action rewrite; leave it out."),
        (("--action", "zero", "--stop-at", "3"), "--stop-at: means nothing to --action zero; leave it out."),
        (("--relearn", "-1"), "--relearn -1: must be at least 0."),
        (("--forget", "0"), "--forget 0: must be at least 1."),
        (("--forget", "13"), "edit_sets: forget=13 must lie in 1..12, the clusters of memorized paragraphs."),
        (("--fraction", "0"), "--fraction: fraction=0.0 must lie above 0 and be at most 1."),
        (("--fraction", "1.5", "--action", "zero"), "--fraction: fraction=1.5 must lie above 0 and be at most 1."),
        (("--paragraph", "nobody"), "--paragraph nobody: no such id among the 16 paragraphs."),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(localize, checkpoint, recited, tmp_path, options, message):
    command = ("edit", checkpoint, recited, *LENGTHS, "--out", tmp_path / "out", *options)
    assert localize.refused(*command) == message
    assert not (tmp_path / "out").exists()


def test_the_models_own_folder_is_no_place_to_export_to(localize, checkpoint, recited, tmp_path):
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    line = localize.refused("edit", checkpoint, recited, *LENGTHS, "--out", tmp_path / "out", "--export", checkpoint)
    assert line == f"--export {checkpoint}: exists and is not an empty folder; a checkpoint is written to a new one."
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
