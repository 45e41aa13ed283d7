"""The command line: a good run leaves whole files; bad input is told in one line, with exit code 2, and leaves nothing."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from localize import localizers
from localize.measurements import asked_names
from localize.signature import REGISTRY, load_signature

LENGTHS = ("--prefix", "16", "--continuation", "16")
ROWS = torch.randint(97, (12, 32), generator=torch.Generator().manual_seed(1)).tolist()
SCRIPT = "<script>alert(1)</script>"


# A good run.


@pytest.fixture
def ran(localize, checkpoint, good, tmp_path):
    told = localize("run", checkpoint, good, *LENGTHS, "--out", tmp_path / "new" / "out", "--seed", "3", "--draws", "3")
    return tmp_path / "new" / "out", told


def test_a_run_leaves_a_signature_and_its_command_and_prints_what_stands_out(ran, localize, checkpoint, good):
    out, (code, stdout, stderr) = ran
    assert (code, stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["command.json", "signature.zarr.zip"]
    told = json.loads((out / "command.json").read_text(encoding="utf-8"))
    assert told["command"].startswith(f"localize run {checkpoint} {good} --prefix 16")
    assert told["seconds"] > 0
    signature = load_signature(out / "signature.zarr.zip")
    on_request = (
        "embedding_",
        "bias_",
        "activation_",
        "residual_",
        "contrastive_",
        "copy_similarity",
        "set_similarity",
        "set_split",
        "corrupted_exact",
        "corrupted_nll",
        "tokens_to_break",
        "token_accuracy",
        "reference_",
        "prompted_",
        "rewritten_",
        "relearned_",
        "resurfaced_",
        "noised_",
        "exposures",
        "steps_since_exposure",
        "continued_",
        "extraction_",
        "text_log_p",
        "min_k",
        "memorized_bits",
        "sampled_ngrams_in_rows",
        "true_ngrams_in_rows",
        "loss_change",
        "head_loss_change",
        "outside_loss_change",
        "set_nll_change",
        "largest_",
        "stream_sparsity",
        "mlp_sparsity",
        "priming",
        "primed_",
        "sink_",
        "in_context_",
        "ngram_nll",
        "rows_holding_text",
    )
    maps = {name for name in REGISTRY if name.endswith("_map")}
    assert set(signature.variables) == {name for name in REGISTRY if not name.startswith(on_request)} - maps
    assert len(signature) == 12
    assert signature["perturbed_nll"].sizes["draw"] == 3
    calls = signature.dataset.attrs["calls"]
    assert [call["measurement"] for call in calls] == [
        "stored_units",
        "locality",
        "gradients",
        "gradient_controls",
        "rare_token_heads",
        "prefix_attention",
        "ablate",
        "replace_rarest",
        "perturb_prefix",
        "patch",
    ]
    assert [call.get("seed") for call in calls] == [3, 3, 3, None, 3, None, None, 3, 3, 3]
    assert signature.dataset.attrs["model"]["name"] == str(checkpoint)
    assert signature.dataset.attrs["paragraphs"]["source"] == good
    for told in (
        "low-layer share of the gradient",
        SCRIPT,
        "Recall",
        f"Wrote {out / 'signature.zarr.zip'}; next: localize report {out}",
    ):
        assert told in stdout

    # `show` prints the same tables, from the folder and from the file.
    for place in (out, out / "signature.zarr.zip"):
        code, shown, stderr = localize("show", place)
        assert (code, stderr) == (0, "")
        assert shown.strip() in stdout


def test_one_measurement_may_be_chosen(localize, checkpoint, good, tmp_path):
    code, _, stderr = localize(
        "run", checkpoint, good, *LENGTHS, "--out", tmp_path / "out", "--measure", "rare_token_heads", "--limit", "6"
    )
    assert (code, stderr) == (0, "")
    signature = load_signature(tmp_path / "out" / "signature.zarr.zip")
    assert {"exact_match", "nll", "token_nll", "rare_token_score", "rare_token_null"} <= set(signature.variables)
    assert not any("gradient" in name or "perturbed" in name for name in signature.variables)
    assert len(signature) == 6


def test_weights_may_be_folded(localize, checkpoint, good, tmp_path):
    options = (*LENGTHS, "--measure", "gradients")
    code, _, stderr = localize(
        "run", checkpoint, good, *options, "--out", tmp_path / "out", "--limit", "6", "--weights", "folded"
    )
    assert (code, stderr) == (0, "")
    model = load_signature(tmp_path / "out" / "signature.zarr.zip").dataset.attrs["model"]
    assert (model["weights"], model["name"]) == ("folded", str(checkpoint))
    line = localize.refused("run", checkpoint, good, *options, "--out", tmp_path / "none", "--weights", "centred")
    assert line == "weights='centred' is not one of raw, folded."
    assert not (tmp_path / "none").exists()


def test_rows_that_are_skipped_are_told(localize, checkpoint, tmp_path, monkeypatch):
    from localize.paragraphs import readers

    read = readers.load_paragraphs

    def with_skipped(*args, **options):
        from dataclasses import replace

        return replace(read(*args, **options), skipped=tuple(f"row {i}: 3 tokens, 32 are needed" for i in range(8)))

    monkeypatch.setattr("localize.load_paragraphs", with_skipped, raising=False)
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"tokens": row}) + "\n" for row in ROWS))
    code, stdout, _ = localize(
        "run", checkpoint, path, *LENGTHS, "--out", tmp_path / "out", "--measure", "rare_token_heads"
    )
    assert code == 0
    assert [line for line in stdout.splitlines() if line.startswith("  ")][:6] == [
        *(f"  skipped row {i}: 3 tokens, 32 are needed" for i in range(5)),
        "  ... and 3 more rows",
    ]


def test_what_was_measured_before_a_failure_is_kept(localize, checkpoint, good, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    import localize as package

    package.perturb_prefix  # noqa: B018  resolved once, so that there is something to replace
    monkeypatch.setattr(package, "perturb_prefix", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        localize("run", checkpoint, good, *LENGTHS, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["command.json", "signature.zarr.zip"]
    signature = load_signature(tmp_path / "out" / "signature.zarr.zip")
    assert {"gradient_max", "rare_token_score", "rare_token_null"} <= set(signature.variables)
    assert "perturbed_nll" not in signature


def test_in_a_process_of_its_own_a_refusal_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "localize.cli", "run", str(tmp_path / "no model"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"localize: model {tmp_path / 'no model'}: no such folder; "
        "give a checkpoint folder, a hub name or nothing for the embedded model.\n"
    )
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "no.csv"), "paragraphs no.csv: no such file."),
        (("run", "embedded", "no.csv"), "paragraphs no.csv: no such file."),
        (("run", "--out", "/dev/null/out"), "--out /dev/null/out: /dev/null is a file; a folder is needed."),
        (("run", "--out", "s3://bucket/run"), "--out s3://bucket/run: is a URL; a path of this machine is needed (only a sweep's store can "
         "be a URL)."),
        (("run", "--dtype", "int8"), "dtype='int8' is not one of float32, float64, bfloat16, float16."),
        (("run", "--device", "tpu"), "device='tpu' is not one of cpu, cuda, cuda:0, ...."),
        (("run", "--weights", "centred"), "weights='centred' is not one of raw, folded."),
        (("edit", "embedded", "no.csv"), "paragraphs no.csv: no such file."),
        (("edit", "--localizer", "nosuch"), f"--localizer nosuch: not one of {', '.join(localizers.names())}, all."),
        (("edit", "--general", "no.csv"), "paragraphs no.csv: no such file."),
        (("scan", "embedded", "no.txt"), "corpus no.txt: no such file or folder."),
        (("sweep", "no.toml"), "grid no.toml: no such file."),
        (("train", "no.toml"), "recipe no.toml: no such file."),
        (("report", "no"), "no: no such folder; one that `localize run` or `localize edit` wrote is needed."),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_takes_no_time_to_see_is_told_before_torch_is_loaded(arguments, told, tmp_path):
    code = (
        "import sys; from localize.cli import main; sys.argv = ['localize', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2, "False\n", f"localize: {told}\n")
    assert list(tmp_path.iterdir()) == []


# Bad paragraphs.


@pytest.fixture
def run_refused(localize, checkpoint, tmp_path):
    """Run these paragraphs; the line it is refused with, when nothing was left."""

    def run(paragraphs, *options, lengths=LENGTHS):
        line = localize.refused("run", checkpoint, paragraphs, *lengths, "--out", tmp_path / "out", *options)
        assert not (tmp_path / "out").exists()
        return line

    return run


def test_a_missing_file(run_refused, tmp_path):
    assert run_refused(tmp_path / "no.csv") == f"paragraphs {tmp_path / 'no.csv'}: no such file."


def test_a_csv_without_the_column(run_refused, write):
    path = write("p.csv", "id,words\n1,abc\n")
    assert run_refused(path) == f"paragraphs {path}: no column 'text', 'paragraph', 'content'; it has id, words."


def test_ragged_rows(run_refused, write, tmp_path):
    path = write("p.jsonl", [{"tokens": ROWS[0]}, {"tokens": ROWS[1][:20]}])
    assert run_refused(path) == f"paragraphs {path}: row 1 has 20 tokens; 32 are needed (prefix + continuation)."
    torch.save([torch.tensor(ROWS[0]), torch.tensor(ROWS[1][:20])], tmp_path / "p.pt")
    assert (
        run_refused(tmp_path / "p.pt")
        == f"paragraphs {tmp_path / 'p.pt'}: ragged rows, of 20 to 32 tokens; rows of one length are needed."
    )


@pytest.mark.parametrize("token", [97, -1, 50256])
def test_a_token_id_outside_the_vocabulary(run_refused, write, checkpoint, token):
    path = write("p.jsonl", [{"tokens": ROWS[0], "id": "x"}, {"tokens": [*ROWS[1][:-1], token], "id": "y"}])
    expected = f"{path}: paragraph 'y' (row 1) has token id {token} at position 31; the vocabulary of {checkpoint} allows 0..96."
    assert run_refused(path) == expected


def test_a_token_id_that_no_machine_integer_holds(run_refused, write):
    path = write("p.jsonl", [{"tokens": ROWS[0]}, {"tokens": [*ROWS[1][:-1], 2**64]}])
    assert path in run_refused(path)


def test_more_tokens_than_the_context(run_refused, write, checkpoint):
    path = write("p.jsonl", [{"tokens": row * 3} for row in ROWS])
    expected = f"{path}: 40 + 40 tokens exceed the context of {checkpoint}, which is 64; choose a shorter prefix or continuation."
    assert run_refused(path, lengths=("--prefix", "40", "--continuation", "40")) == expected


def test_no_paragraphs(run_refused, write):
    path = write("p.jsonl", "")
    expected = f"paragraphs {path}: no paragraphs; at least one of 32 tokens is needed."
    assert run_refused(path) == expected
    path = write("p.jsonl", [{"tokens": row} for row in ROWS])
    assert run_refused(path, "--limit", "0") == "limit=0 must be at least 1."


def test_a_single_paragraph_has_no_null(run_refused, write):
    path = write("p.jsonl", [{"tokens": ROWS[0]}])
    assert run_refused(path) == (
        f"{path}: 1 paragraph(s) in one cluster of near-duplicates; the null of rare_token_heads needs at least two clusters."
    )


def test_texts_for_a_model_without_tokenizer(run_refused, write):
    path = write("p.jsonl", [{"text": "abc"}])
    assert (
        run_refused(path)
        == f"paragraphs {path} are text; pass the model or its tokenizer: load_paragraphs(..., model)."
    )


# Bad options.


def test_an_unknown_measurement(run_refused, good):
    assert run_refused(good, "--measure", "dreams") == f"--measure dreams: not one of {', '.join(asked_names())}."
    assert (
        run_refused(good, "--measure", "rare_token_heads", "--measure", "dreams")
        == f"--measure dreams: not one of {', '.join(asked_names())}."
    )


@pytest.mark.parametrize(
    "options",
    [("--draws", "0"), ("--batch-size", "0"), ("--dtype", "int8"), ("--device", "tpu"), ("--prefix", "0")],
    ids=" ".join,
)
def test_an_option_out_of_range_is_refused_before_anything_is_measured(run_refused, good, options):
    run_refused(good, *options)


def test_a_prefix_that_cannot_be_ranked_is_refused_before_anything_is_measured(run_refused, good):
    expected = f"{good}: prefix_length=2 must be at least 3 for rare_token_heads, to rank two earlier tokens."
    assert run_refused(good, lengths=("--prefix", "2", "--continuation", "16")) == expected


def test_a_file_where_the_folder_should_be(localize, checkpoint, good, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    line = localize.refused("run", checkpoint, good, *LENGTHS, "--out", tmp_path / "mine.txt")
    assert line == f"--out {tmp_path / 'mine.txt'}: is a file; a folder is needed."
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made(localize, checkpoint, good, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    line = localize.refused("run", checkpoint, good, *LENGTHS, "--out", tmp_path / "mine.txt" / "out")
    assert line.startswith(f"--out {tmp_path / 'mine.txt' / 'out'}: ")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_refused_run_leaves_the_last_one_as_it_was(ran, localize, checkpoint, write):
    out, _ = ran
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for rows in ([{"tokens": ROWS[0]}], [{"tokens": [97] * 32}], []):
        localize.refused("run", checkpoint, write("p.jsonl", rows), *LENGTHS, "--out", out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_word_that_typer_does_not_know_is_exit_code_2(localize):
    code, _, stderr = localize("run", "--nonsense")
    assert code == 2
    assert "--nonsense" in stderr


# Bad models.


@pytest.fixture
def model_refused(localize, good, tmp_path):
    def run(folder):
        line = localize.refused("run", folder, good, *LENGTHS, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return line.removeprefix(f"model {folder}: ")

    return run


def test_a_model_that_is_not_there(model_refused, tmp_path):
    assert (
        model_refused(tmp_path / "no")
        == "no such folder; give a checkpoint folder, a hub name or nothing for the embedded model."
    )


def test_a_folder_that_holds_no_model(model_refused, tmp_path):
    (tmp_path / "model").mkdir()
    lacking = "a checkpoint folder holds config.json and model.safetensors or pytorch_model.bin."
    assert model_refused(tmp_path / "model") == f"no config.json; {lacking}"
    (tmp_path / "model" / "config.json").write_text("{")
    assert model_refused(tmp_path / "model").startswith("config.json is not a JSON object (")


@pytest.mark.parametrize("model_type", ["llama", "bert", None])
def test_a_model_of_another_architecture(model_refused, tmp_path, model_type):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert (
        model_refused(tmp_path / "model")
        == f"model_type={model_type!r} in config.json; gpt_neo and gpt2 can be localized."
    )


def test_a_folder_without_weights(model_refused, checkpoint, tmp_path):
    (tmp_path / "model").mkdir()
    shutil.copy(checkpoint / "config.json", tmp_path / "model")
    names = "model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json"
    assert model_refused(tmp_path / "model") == f"no weights; one of {names} is needed."


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights(model_refused, checkpoint, tmp_path, name):
    (tmp_path / "model").mkdir()
    shutil.copy(checkpoint / "config.json", tmp_path / "model")
    (tmp_path / "model" / name).write_bytes((checkpoint / "model.safetensors").read_bytes()[:1000])
    assert model_refused(tmp_path / "model").startswith("cannot be loaded: ")


# Bad signatures.


def test_a_damaged_signature(localize, tmp_path):
    for content in (b"", b"PK\x03\x04 and then nothing"):
        path = tmp_path / "signature.zarr.zip"
        path.write_bytes(content)
        for place in (path, tmp_path):
            assert (
                localize.refused("show", place)
                == f"signature {path}: not a readable .zarr.zip (File is not a zip file)."
            )


def test_a_signature_that_is_not_there(localize, tmp_path):
    assert localize.refused("show", tmp_path) == f"signature {tmp_path / 'signature.zarr.zip'}: no such file."
    assert localize.refused("show", tmp_path / "no") == f"signature {tmp_path / 'no'}: no such file."
