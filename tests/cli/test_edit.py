"""`localize edit`: whole files after a good run, one line and nothing after bad input."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import localize as lz
from localize.signature import load_signature

LENGTHS = ("--prefix", "16", "--continuation", "16")
TWO = ("--forget", "2", "--fraction", "0.05")
QUICK = (*TWO, "--steps", "3", "--learning-rate", "0.01")


@pytest.fixture
def edited(localize, checkpoint, recited, tmp_path):
    options = ("--out", tmp_path / "out", "--repeats", "2", "--general", tmp_path / "general.jsonl")
    return localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options, "--export", tmp_path / "exported")


@pytest.fixture
def edit_by(localize, checkpoint, recited, tmp_path):
    """`edit_by(*options, out="out")`: a plain edit; what takes no steps is not told how many."""

    def call(*options, out="out"):
        how = TWO if "zero" in options else QUICK
        return localize("edit", checkpoint, recited, *LENGTHS, *how, "--no-controls", "--out", tmp_path / out, *options)

    return call


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_leaves_edits_signatures_a_table_a_figure_and_a_checkpoint(edited, checkpoint, tmp_path):
    code, stdout, stderr = edited
    assert (code, stderr) == (0, "")
    out, names = tmp_path / "out", ("ratio-5", "random-5", "all", "other-layers-5", "random-units-5")
    made = {
        f"{name}-seed{seed}{end}"
        for name in names
        for seed in (0, 1)
        for end in (".safetensors", "-before.zarr.zip", "-after.zarr.zip")
    }
    assert {path.name for path in out.iterdir()} == made | {
        "changes.csv",
        "aim.csv",
        "editing.html",
        "edits.json",
        "command.json",
    }
    table = pd.read_csv(out / "changes.csv", index_col=["edit", "quantity", "group"])
    assert {"ratio 5 %", "random 5 %", "all", "other layers 5 %", "random units 5 %"} == set(table.index.unique("edit"))
    edit, model = lz.load_edit(out / "ratio-5-seed0.safetensors"), lz.load_model(checkpoint)
    before, after = (load_signature(out / f"ratio-5-seed0-{side}.zarr.zip") for side in ("before", "after"))
    assert (before["group"].values == "general").sum() == 8
    with edit.applied(model):
        assert after.dataset.attrs["model"]["weights_hash"] == model.weights_hash()
        assert lz.load_model(tmp_path / "exported").weights_hash() == model.weights_hash()
    pooled = [load_signature(out / f"ratio-5-seed{seed}-after.zarr.zip").where(group="forget") for seed in (0, 1)]
    expected = np.concatenate([part["exact_match"].values for part in pooled]).mean()
    assert table.loc[("ratio 5 %", "exact_match", "forget"), "after"] == pytest.approx(expected)
    assert "forget" in stdout
    assert "What moved" in stdout


@pytest.mark.filterwarnings("ignore:.*effective")
@pytest.mark.parametrize(
    ("options", "row"),
    [
        (("--action", "rewrite"), ("ratio 5 %", "rewritten_exact_match", "forget")),
        (("--action", "zero"), ("zeroed ratio 5 %", "exact_match", "forget")),
        (("--method", "npo", "--stop-at", "15"), ("ratio 5 %", "exact_match", "forget")),
        (("--paragraph", "recited 3", "--paragraph", "recited 5"), ("ratio 5 %", "exact_match", "forget")),
    ],
)
def test_other_ways_of_editing(edit_by, tmp_path, options, row):
    code, _, stderr = edit_by(*options)
    assert (code, stderr) == (0, "")
    table = pd.read_csv(tmp_path / "out" / "changes.csv", index_col=["edit", "quantity", "group"])
    assert table.loc[row, "n"] == 2
    if "--paragraph" in options:
        before = load_signature(tmp_path / "out" / "ratio-5-seed0-before.zarr.zip")
        assert before["paragraph"].values[before["group"].values == "forget"].tolist() == ["recited 3", "recited 5"]


def test_what_was_edited_before_a_failure_is_kept(localize, checkpoint, recited, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise lz.LocalizeError("out of luck.")

    monkeypatch.setattr("localize.edit_table", broken)
    command = ("edit", checkpoint, recited, *LENGTHS, *QUICK, "--no-controls", "--out", tmp_path / "out")
    assert localize.refused(*command) == "out of luck."
    assert lz.load_edit(tmp_path / "out" / "ratio-5-seed0.safetensors").call["measurement"] == "unlearn"


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_that_fails_leaves_the_others_and_is_told_at_the_end(localize, checkpoint, recited, tmp_path):
    options = ("--fraction", "0.01", "--learning-rate", "1e30", "--steps", "1", "--forget", "2", "--method", "npo")
    code, stdout, stderr = localize("edit", checkpoint, recited, *LENGTHS, *options, "--out", tmp_path / "out")
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert "is nan after step 1 of 1" in stderr
    assert "seed 0, all: " in stdout


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_may_be_attacked_and_what_comes_back_is_told_beside_the_null(localize, checkpoint, recited, tmp_path):
    options = ("--no-controls", "--attack", "--out", tmp_path / "out")
    assert "--attack: text that was never trained is attacked alike" in localize.refused(
        "edit", checkpoint, recited, *LENGTHS, *QUICK, *options
    )
    options = (*options, "--general", tmp_path / "general.jsonl")
    code, stdout, stderr = localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options)
    assert (code, stderr) == (0, "")
    found = load_signature(tmp_path / "out" / "ratio-5-seed0-attacked.zarr.zip")
    table = pd.read_csv(tmp_path / "out" / "attacks.csv", index_col=["edit", "attack", "group"])
    forgotten = found.where(group="forget")["resurfaced_recall"]
    for attack in forgotten["attack"].values:
        told = table.xs(attack, level="attack").xs("forget", level="group")["estimate"].item()
        assert told == pytest.approx(forgotten.sel(attack=attack).mean().item())
    after = load_signature(tmp_path / "out" / "ratio-5-seed0-after.zarr.zip").where(group="forget")
    assert forgotten.sel(attack="as_is").values.tolist() == after["prompted_recall"].sel(prompt="as_is").values.tolist()
    assert "What attacks bring back" in stdout and "never trained" in stdout
    assert "trained on its first words" in (tmp_path / "out" / "resurfacing.html").read_text(encoding="utf-8")
    assert localize("figures", tmp_path / "out", "--out", tmp_path / "figures", "--format", "none")[0] == 0
    assert (tmp_path / "figures" / "resurfacing.json").exists()
    assert localize("report", tmp_path / "out")[0] == 0
    assert "trained on its first words" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    again = localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options)
    assert again[0] == 0 and "which are not made again" in again[1] and "What attacks bring back" in again[1]


@pytest.mark.filterwarnings("ignore:.*effective")
def test_what_was_forgotten_may_be_watched_coming_back(localize, checkpoint, recited, tmp_path):
    options = ("--no-controls", "--relearn", "2", "--general", tmp_path / "general.jsonl", "--out", tmp_path / "out")
    code, stdout, stderr = localize("edit", checkpoint, recited, *LENGTHS, *QUICK, *options)
    assert (code, stderr) == (0, "")
    forgotten, other = (
        load_signature(tmp_path / "out" / f"ratio-5-{which}-seed0-relearned.zarr.zip")
        for which in ("forgotten", "not-recited")
    )
    after = load_signature(tmp_path / "out" / "ratio-5-seed0-after.zarr.zip").where(group="forget")
    assert forgotten["relearned_exact_match"].values[:, 0].tolist() == after["exact_match"].values.tolist()
    assert other["paragraph"].values.tolist() == ["general 0", "general 1"]
    by_step = " ".join(f"{value:.1f}" for value in forgotten["relearned_exact_match"].values.mean(0))
    assert f"ratio 5 %, forgotten: exact match step by step {by_step}" in stdout
    assert (tmp_path / "out" / "relearning.html").exists()


# Whose weights


def sets_of(model, recited):
    """What the command forgets and keeps, as it gives them to a localizer."""
    paragraphs = lz.load_paragraphs(recited, model, prefix_length=16, continuation_length=16)
    dealt = lz.edit_sets(model, paragraphs, forget=2)
    return [part.with_own_continuation(model) for part in (dealt.forget, dealt.keep)]


@pytest.mark.filterwarnings("ignore:.*effective")
def test_the_units_with_the_largest_ratios_are_edited_if_no_localizer_is_named(edit_by, checkpoint, recited, tmp_path):
    assert edit_by()[0] == 0
    assert edit_by("--localizer", "ratio", out="named")[0] == 0
    plain, named = ((tmp_path / out / "ratio-5-seed0.safetensors").read_bytes() for out in ("out", "named"))
    assert plain == named
    model = lz.load_model(checkpoint)
    forget, keep = sets_of(model, recited)
    mask = lz.unit_mask(model, lz.localizers.get("ratio")(model, forget, keep), 0.05)
    expected = lz.unlearn(model, forget, keep, mask, steps=3, learning_rate=0.01)
    expected.save(tmp_path / "by_hand.safetensors")
    assert (tmp_path / "by_hand.safetensors").read_bytes() == plain
    code, stdout, _ = edit_by("--localizer", "ratio")
    assert code == 0
    assert f"{tmp_path / 'out'} holds 1 edits of these, which are not made again." in stdout
    assert json.loads((tmp_path / "out" / "command.json").read_text())["asked"]["localizer"] == ["ratio"]


@pytest.mark.filterwarnings("ignore:.*effective")
def test_of_weight_gradient_the_weights_with_the_largest_gradients_are_edited(edit_by, checkpoint, recited, tmp_path):
    assert edit_by("--localizer", "weight_gradient")[0] == 0
    model = lz.load_model(checkpoint)
    forget, keep = sets_of(model, recited)
    mask = lz.top_weights(model, forget, 0.05)
    expected = lz.unlearn(model, forget, keep, mask, steps=3, learning_rate=0.01)
    expected.save(tmp_path / "by_hand.safetensors")
    assert (tmp_path / "by_hand.safetensors").read_bytes() == (
        tmp_path / "out" / "top-5-seed0.safetensors"
    ).read_bytes()


@pytest.mark.filterwarnings("ignore:.*effective")
def test_a_localizer_of_units_has_whole_units_edited_in_its_name(edit_by, checkpoint, recited, tmp_path):
    assert edit_by("--localizer", "gradient_activation")[0] == 0
    model = lz.load_model(checkpoint)
    forget, keep = sets_of(model, recited)
    scores = lz.localizers.get("gradient_activation")(model, forget, keep)
    expected = lz.unlearn(model, forget, keep, lz.unit_mask(model, scores, 0.05), steps=3, learning_rate=0.01)
    expected.save(tmp_path / "by_hand.safetensors")
    made = tmp_path / "out" / "gradient-activation-5-seed0.safetensors"
    assert made.read_bytes() == (tmp_path / "by_hand.safetensors").read_bytes()
    table = pd.read_csv(tmp_path / "out" / "changes.csv", index_col=["edit", "quantity", "group"])
    assert set(table.index.unique("edit")) == {"gradient_activation 5 %"}


@pytest.mark.filterwarnings("ignore:.*effective")
def test_another_localizer_is_another_edit(edit_by, tmp_path):
    assert edit_by()[0] == 0
    code, _, stderr = edit_by("--localizer", "gradient_activation")
    assert code == 2
    assert stderr == (
        f'localize: edit {tmp_path / "out"}: holds results of localize edit with localizer = ["ratio"], and '
        '["gradient_activation"] is asked for; choose another --out, or --overwrite replaces it.\n'
    )


@pytest.mark.filterwarnings("ignore:.*effective")
def test_an_edit_depends_on_its_own_localizers_code(edit_by, tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr("localize.cli.edit.code_of", lambda function: hashed.append(function.__name__) or "code")
    edit_by("--localizer", "gradient_activation")
    edit_by(out="other")
    edit_by("--localizer", "weight_gradient", "--localizer", "norm", "--localizer", "all", out="several")
    edit_by("--action", "zero", out="zero")
    assert hashed == ["gradient_activation", "ratio", "weight_gradient", "norm", "ratio"]


@pytest.mark.filterwarnings("ignore:.*effective")
def test_a_file_is_all_that_a_localizer_takes(edit_by, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "third_unit.py").write_text(
        "import numpy as np\n"
        "from localize.localizers import Scores, localizer\n"
        "@localizer('1 for unit 3 of layer 1', 'a file')\n"
        "def third_unit(model, paragraphs, others):\n"
        "    mlp = np.zeros((len(paragraphs), model.n_layers, model.d_mlp))\n"
        "    mlp[:, 1, 3] = 1\n"
        "    return Scores.of(model, paragraphs, mlp=mlp)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(lz.localizers, "__path__", [*lz.localizers.__path__, str(tmp_path / "room")])
    monkeypatch.setattr("localize.cli.edit.code_of", lambda *_: "code")  # it reads the package's own files
    try:
        assert edit_by("--localizer", "third_unit", "--fraction", "0.006")[0] == 0
    finally:
        sys.modules.pop("localize.localizers.third_unit", None)
        vars(lz.localizers).pop("third_unit", None)
    edit, model = lz.load_edit(tmp_path / "out" / "third-unit-0.6-seed0.safetensors"), lz.load_model(checkpoint)
    assert edit.mask.layers == {0: 0, 1: len(edit)}
    for component, where in (("W_in", (slice(None), 3)), ("W_out", 3)):
        allowed = torch.zeros(model.weight(1, component).shape, dtype=torch.bool)
        allowed[where] = True
        assert edit.mask.matrix(1, component)[allowed].float().mean() > 0.5
        assert not edit.mask.matrix(1, component)[~allowed].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--action", "burn"), "--action burn: not one of unlearn, rewrite, zero, subnet, curvature."),
        (("--method", "burn"), "--method burn: not one of npo, contrastive, gradient_difference."),
        (("--action", "rewrite", "--first", "3"), "--first: means nothing to --action rewrite; leave it out."),
        (("--localizer", "nosuch"), f"--localizer nosuch: not one of {', '.join(lz.localizers.names())}, all."),
        (
            ("--action", "zero", "--localizer", "weight_gradient"),
            "--localizer weight_gradient: scores no units; --action zero takes one that does.",
        ),
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
