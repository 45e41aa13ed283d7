"""What a folder holds is not done again, not overwritten unasked, and never taken for an answer to another question."""

import json
import shutil
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import localize as lz
from localize.claims import COMMAND_FILE
from localize.signature import load_signature

LENGTHS = ("--prefix", "16", "--continuation", "16")
SHORT = (*LENGTHS, "--measure", "gradients", "--measure", "replace_rarest")


@pytest.fixture
def calls(monkeypatch):
    """Names of the measurements that are made from now on."""
    made = []

    def counting(name):
        measure = getattr(lz, name)

        @wraps(measure)  # so that its code is that of the measurement
        def counted(*args, **options):
            made.append(name)
            return measure(*args, **options)

        monkeypatch.setattr(lz, name, counted)

    for name in (
        "gradients",
        "replace_rarest",
        "ablate",
        "perturb_prefix",
        "patch",
        "rare_token_heads",
        "prefix_attention",
    ):
        counting(name)
    return made


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(folder):
    return json.loads((folder / COMMAND_FILE).read_text(encoding="utf-8"))


# The same again.


def test_a_run_asked_for_again_measures_nothing_and_changes_no_number(localize, checkpoint, good, tmp_path, calls):
    command = ("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    localize(*command)
    before = contents(tmp_path / "out")["signature.zarr.zip"]
    assert calls == ["gradients", "replace_rarest"]
    code, stdout, stderr = localize(*command)
    assert (code, stderr) == (0, "")
    assert calls == ["gradients", "replace_rarest"]
    assert f"{tmp_path / 'out'} holds 2 of these; to do: nothing." in stdout
    assert contents(tmp_path / "out")["signature.zarr.zip"] == before


def test_a_run_measures_what_is_missing_and_gives_what_one_run_gives(localize, checkpoint, good, tmp_path, calls):
    draws = ("--draws", "5")  # others than patching itself would make its copies with
    for number, measurements in enumerate((("perturbation",), ("patching", "gradients"), ())):
        named = [word for name in measurements for word in ("--measure", name)]
        assert localize("run", checkpoint, good, *LENGTHS, *draws, *named, "--out", tmp_path / "parts")[0] == 0, number
    assert calls == [
        "perturb_prefix", "gradients", "patch", "rare_token_heads", "prefix_attention", "ablate", "replace_rarest",
    ]  # fmt: skip
    localize("run", checkpoint, good, *LENGTHS, *draws, "--out", tmp_path / "whole")
    parts, whole = (load_signature(tmp_path / name / "signature.zarr.zip").dataset for name in ("parts", "whole"))
    xr.testing.assert_identical(parts.drop_attrs(), whole.drop_attrs())
    model = lz.load_model(checkpoint)
    own = lz.load_paragraphs(good, model, prefix_length=16, continuation_length=16).with_own_continuation(model)
    copies = lz.perturb_prefix(model, own, draws=5, seed=0)
    patched = lz.patch(model, own, copies=copies, seed=0)["head_patch_effect"]
    np.testing.assert_array_equal(parts["head_patch_effect"].values, patched.values)  # of the run's own copies
    assert len(told(tmp_path / "parts")["commands"]) == 3
    run = parts.attrs["run"]
    assert (run["status"], run["command"]) == ("finished", told(tmp_path / "parts")["command"])
    assert run["asked"] == told(tmp_path / "parts")["asked"]


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(localize, checkpoint, good, tmp_path, calls, monkeypatch):
    command = ("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")

    @wraps(lz.replace_rarest)
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lz, "replace_rarest", stopped)
        code, _, stderr = localize(*command)
    assert code == 130
    assert (
        stderr == f"localize: interrupted; what is finished is kept in {tmp_path / 'out'}; the same command goes on\n"
    )
    assert told(tmp_path / "out")["status"] == "interrupted"
    assert load_signature(tmp_path / "out" / "signature.zarr.zip").dataset.attrs["run"]["status"] == "running"
    code, stdout, _ = localize("show", tmp_path / "out")
    assert "Note: The command was interrupted: not all that was asked for is here." in " ".join(stdout.split())
    code, _, stderr = localize(*command)
    assert (code, stderr) == (0, "")
    assert calls == ["gradients", "replace_rarest"]
    assert {"gradient_max", "replaced_nll"} <= set(load_signature(tmp_path / "out" / "signature.zarr.zip").variables)
    assert told(tmp_path / "out")["status"] == "finished"


def test_patches_are_of_the_same_copies_whichever_is_asked_for_first(localize, checkpoint, good, tmp_path):
    orders = {"first": ("patching", "perturbation"), "last": ("perturbation", "patching")}
    for folder, order in orders.items():
        for name in order:
            options = ("--draws", "5", "--measure", name, "--out", tmp_path / folder)
            assert localize("run", checkpoint, good, *LENGTHS, *options)[0] == 0
    one, other = (load_signature(tmp_path / folder / "signature.zarr.zip").dataset for folder in orders)
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


# Another question.


def changed_weight(checkpoint, tmp_path):
    model = lz.load_model(checkpoint)
    with torch.no_grad():
        model.hf.transformer.h[1].mlp.c_fc.bias[0] += 1e-6
    model.hf.save_pretrained(tmp_path / "changed")
    return tmp_path / "changed"


def changed_config(checkpoint, tmp_path, **fields):
    shutil.copytree(checkpoint, tmp_path / "changed")
    config = json.loads((tmp_path / "changed" / "config.json").read_text())
    (tmp_path / "changed" / "config.json").write_text(json.dumps(config | fields))
    return tmp_path / "changed"


def with_counts(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "changed")
    np.save(tmp_path / "changed" / "unigram_counts.npy", np.arange(97))
    return tmp_path / "changed"


def with_tokenizer(checkpoint, tmp_path, tokenizer):
    shutil.copytree(checkpoint, tmp_path / "changed")
    tokenizer.save_pretrained(tmp_path / "changed")
    return tmp_path / "changed"


MODELS = {
    "weights_hash": [
        changed_weight,
        lambda *where: changed_config(*where, window_size=5),
        lambda *where: changed_config(*where, activation_function="relu"),
        lambda *where: changed_config(*where, layer_norm_epsilon=1e-3),
    ],
    "counts_hash": [with_counts],
}


@pytest.mark.parametrize(("key", "number"), [(key, n) for key, made in MODELS.items() for n in range(len(made))])
def test_another_model_gets_no_number_of_this_one(localize, checkpoint, good, tmp_path, key, number):
    localize("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    before = contents(tmp_path / "out")
    other = MODELS[key][number](checkpoint, tmp_path)
    line = localize.refused("run", other, good, *SHORT, "--out", tmp_path / "out")
    assert line.startswith(f"run {tmp_path / 'out'}: holds results of localize run with {key} = ")
    assert line.endswith("is asked for; choose another --out, or --overwrite replaces it.")
    assert contents(tmp_path / "out") == before


def test_another_tokenizer_gets_no_number_of_this_one(localize, checkpoint, good, tmp_path, tokenizer):
    localize("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    line = localize.refused(
        "run", with_tokenizer(checkpoint, tmp_path, tokenizer), good, *SHORT, "--out", tmp_path / "out"
    )
    assert line.startswith(f"run {tmp_path / 'out'}: holds results of localize run with tokenizer_hash = null, and ")


ROW = {"tokens": 1, "group": "another", "id": "another", "duplicates": 3}


@pytest.mark.parametrize("field", ROW)
def test_other_paragraphs_get_no_number_of_these(localize, checkpoint, good, tmp_path, write, field):
    rows = [json.loads(line) | {"duplicates": 1} for line in Path(good).read_text(encoding="utf-8").splitlines()]
    localize("run", checkpoint, write("first.jsonl", rows), *SHORT, "--out", tmp_path / "out")
    rows[3][field] = [*rows[3]["tokens"][:-1], 5] if field == "tokens" else ROW[field]
    line = localize.refused("run", checkpoint, write("second.jsonl", rows), *SHORT, "--out", tmp_path / "out")
    assert line.startswith(f"run {tmp_path / 'out'}: holds results of localize run with paragraphs_hash = ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--prefix", "15"), "prefix = 16, and 15"),
        (("--continuation", "12"), "continuation = 16, and 12"),
        (("--draws", "3"), "draws = 2, and 3"),
        (("--seed", "1"), "seed = 0, and 1"),
        (("--weights", "folded"), 'weights = "raw", and "folded"'),
        (("--dtype", "float64"), 'dtype = "float32", and "float64"'),
        (("--limit", "11"), "paragraphs_hash = "),
    ],
)
def test_other_options_get_no_number_of_these_and_it_is_told_before_a_model_is_loaded(
    localize, checkpoint, good, tmp_path, options, told, monkeypatch
):
    localize("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    if "--limit" not in options:
        monkeypatch.setattr(lz, "load_model", None)
    line = localize.refused("run", checkpoint, good, *SHORT, "--out", tmp_path / "out", *options)
    assert line.startswith(f"run {tmp_path / 'out'}: holds results of localize run with {told}")


def test_other_code_gets_no_number_of_this_one(localize, checkpoint, good, tmp_path, monkeypatch):
    localize("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    monkeypatch.setattr("localize.cli.run.code_of", lambda *_: "other")
    line = localize.refused("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    assert line.startswith(f"run {tmp_path / 'out'}: holds results of localize run with code = ")


def test_what_may_be_replaced_is_replaced_and_nothing_else(localize, checkpoint, good, tmp_path, calls):
    command = ("run", checkpoint, good, *SHORT, "--out", tmp_path / "out")
    localize(*command)
    (tmp_path / "out" / "report.html").write_text("of the first")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, _, _ = localize(*command, "--seed", "1", "--overwrite")
    assert code == 0
    assert calls == ["gradients", "replace_rarest"] * 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {COMMAND_FILE, "notes.txt", "signature.zarr.zip"}
    assert told(tmp_path / "out")["asked"]["seed"] == 1


# Edits.


@pytest.fixture
def edit(localize, checkpoint, tmp_path):
    """`edit(*options)`: two paragraphs of twelve that the model says are zeroed out of it."""
    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (16, 32), generator=torch.Generator().manual_seed(4))
    tokens[:12, 16:] = model.continue_greedily(tokens[:12, :16], 16)
    path = tmp_path / "recited.jsonl"
    path.write_text("".join(json.dumps({"tokens": row}) + "\n" for row in tokens.tolist()))
    options = (*LENGTHS, "--forget", "2", "--action", "zero", "--fraction", "0.05", "--out", tmp_path / "out")
    return lambda *more: localize("edit", checkpoint, path, *options, *more)


@pytest.mark.filterwarnings("ignore:.*effective")
def test_edits_that_are_there_are_not_made_again_and_more_repeats_are_added(edit, tmp_path, monkeypatch):
    assert edit()[0] == 0
    before, made, zero_units = contents(tmp_path / "out"), [], lz.zero_units
    for side in ("before", "after"):
        run = load_signature(tmp_path / "out" / f"zeroed-ratio-5-seed0-{side}.zarr.zip").dataset.attrs["run"]
        assert (run["asked"], run["command"]) == (told(tmp_path / "out")["asked"], told(tmp_path / "out")["command"])
    monkeypatch.setattr(lz, "zero_units", lambda *args, **options: made.append(args) or zero_units(*args, **options))
    code, stdout, stderr = edit("--repeats", "2")
    assert (code, stderr, len(made)) == (0, "", 1)
    assert f"{tmp_path / 'out'} holds 1 edits of these, which are not made again." in stdout
    after = contents(tmp_path / "out")
    for name in before.keys() - {COMMAND_FILE, "edits.json", "changes.csv", "aim.csv", "editing.html"}:
        assert after[name] == before[name], name
    assert [row["seed"] for row in json.loads(after["edits.json"])["edits"]] == [0, 1]
    assert edit("--repeats", "2")[0] == 0
    assert len(made) == 1
    again = contents(tmp_path / "out")
    assert again["changes.csv"] == after["changes.csv"]


@pytest.mark.filterwarnings("ignore:.*effective")
def test_another_edit_is_refused_and_a_runs_folder_too(edit, localize, checkpoint, good, tmp_path):
    edit()
    code, _, stderr = edit("--forget", "3")
    assert code == 2
    assert stderr == (
        f"localize: edit {tmp_path / 'out'}: holds results of localize edit with forget = 2, and 3 is asked for; choose another --out, "
        "or --overwrite replaces it.\n"
    )
    assert localize.refused("run", checkpoint, good, *SHORT, "--out", tmp_path / "out") == (
        f"run {tmp_path / 'out'}: holds the results of localize edit; localize run needs a folder of its own."
    )
    assert edit("--forget", "3", "--overwrite")[0] == 0


@pytest.mark.filterwarnings("ignore:.*effective")
def test_what_relearns_beside_is_called_by_what_was_measured(edit, tmp_path, write, checkpoint):
    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (8, 32), generator=torch.Generator().manual_seed(9))
    tokens[:6, 16:] = model.continue_greedily(tokens[:6, :16], 16)
    general = write("general.jsonl", [{"tokens": row} for row in tokens.tolist()])
    with pytest.warns(UserWarning, match=r"^evaluate_edit: 6 of 8 paragraphs of the general text are recited by"):
        code, stdout, _ = edit("--relearn", "1", "--general", general)
    assert code == 0
    beside = load_signature(tmp_path / "out" / "zeroed-ratio-5-not-recited-seed0-relearned.zarr.zip")
    assert beside["paragraph"].values.tolist() == ["6", "7"]  # the two that the unedited model does not say
    assert "never seen" not in stdout


@pytest.mark.filterwarnings("ignore:.*effective", "ignore:evaluate_edit")
def test_text_that_is_all_recited_is_no_text_beside(edit, tmp_path, write, checkpoint):
    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (4, 32), generator=torch.Generator().manual_seed(9))
    tokens[:, 16:] = model.continue_greedily(tokens[:, :16], 16)
    general = write("general.jsonl", [{"tokens": row} for row in tokens.tolist()])
    code, _, stderr = edit("--relearn", "1", "--general", general)
    assert code == 2
    assert stderr == (
        f"localize: seed 0, zeroed ratio 5 %: --relearn: all 4 paragraphs of {general} are recited; text that is not is needed beside.\n"
    )


# Figures and reports, which follow from results and are drawn anew.


@pytest.fixture
def ran(localize, checkpoint, good, tmp_path):
    for name in ("one", "two"):
        localize("run", checkpoint, good, *LENGTHS, "--measure", "gradients", "--out", tmp_path / name)
    return tmp_path


def test_figures_of_the_same_results_are_drawn_anew_and_those_of_others_stay(localize, ran):
    options = ("--out", ran / "figs", "--format", "none", "--width", "page")
    assert localize("figures", ran / "one", *options)[0] == 0
    assert localize("figures", ran / "one", *options, "--seed", "1")[0] == 0
    line = localize.refused("figures", ran / "two", *options)
    assert line.startswith(f"figures {ran / 'figs'}: holds results of localize figures with results = ")
    assert localize("figures", ran / "two", *options, "--overwrite")[0] == 0
    (ran / "mine").mkdir()
    (ran / "mine" / "photo.png").write_text("mine")
    line = localize.refused("figures", ran / "one", "--out", ran / "mine", "--overwrite")
    assert line == (
        f"figures {ran / 'mine'}: holds 'photo.png', which is nothing of its own; a new folder, or one that localize figures wrote, "
        "is needed."
    )


def test_a_report_of_the_same_results_is_made_anew_and_any_other_file_stays(localize, ran):
    assert localize("report", ran / "one")[0] == 0
    assert localize("report", ran / "one", "--title", "Another")[0] == 0
    line = localize.refused("report", ran / "one", ran / "two")
    assert line == (
        f"report: {ran / 'one' / 'report.html'} holds a report of other results; choose another --out, or --overwrite replaces it."
    )
    assert localize("report", ran / "one", ran / "two", "--overwrite")[0] == 0
    (ran / "page.html").write_text("mine")
    line = localize.refused("report", ran / "one", "--out", ran / "page.html")
    assert (
        line == f"report: {ran / 'page.html'} holds something else; choose another --out, or --overwrite replaces it."
    )
    assert (ran / "page.html").read_text() == "mine"


def test_the_report_of_a_run_tells_the_commands_that_its_numbers_are_of(localize, ran, checkpoint, good):
    localize("run", checkpoint, good, *LENGTHS, "--measure", "prefix_attention", "--out", ran / "one")
    localize("report", ran / "one")
    page = (ran / "one" / "report.html").read_text(encoding="utf-8")
    for command in told(ran / "one")["commands"]:
        assert command in page
    assert len(told(ran / "one")["commands"]) == 2


# Places that cannot be written to.


@pytest.mark.parametrize("command", ["run", "edit", "train", "figures", "report"])
def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_loaded(
    localize, good, tmp_path, command, monkeypatch
):
    monkeypatch.setattr(lz, "load_model", None)

    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("localize.storage.tempfile.TemporaryFile", denied)
    out = tmp_path / "out" / ("page.html" if command == "report" else "")
    given = (
        () if command == "train" else (tmp_path,) if command in ("figures", "report") else (tmp_path / "no model", good)
    )
    line = localize.refused(command, *given, "--out", out)
    assert line == f"--out {out}: cannot be written to (Permission denied in {tmp_path}); choose another."


@pytest.mark.parametrize("command", ["run", "edit", "train", "figures", "report", "scan"])
def test_a_url_is_refused_and_no_folder_of_its_name_is_made(localize, good, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = () if command == "train" else (tmp_path,) if command in ("figures", "report") else ("embedded", good)
    line = localize.refused(command, *given, "--out", "s3://bucket/out.html")
    assert line.endswith(": is a URL; a path of this machine is needed (only a sweep's store can be a URL).")
    assert not (tmp_path / "s3:").exists()
