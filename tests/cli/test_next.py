"""Every command that another one prints as the next can be run as it stands there."""

import json
import re
import shlex

import pytest
import torch

import localize as lz

LENGTHS = ("--prefix", "16", "--continuation", "16")
RECIPE = """
[model]
layers = 2
heads = 2
d_model = 32
context = 48
window = 8
[corpus]
vocab = 300
[planted]
copies = { 40 = 8 }
held_out = 4
[training]
steps = 40
batch = 16
row_tokens = 40
warmup = 5
"""


@pytest.fixture
def follow(localize):
    """Run the last command that a text calls the next one, in a folder of a name that a shell would take apart."""

    def follow(told, *more):
        words = shlex.split(re.findall(r"next: (localize .*)", told)[-1])
        code, stdout, stderr = localize(*words[1:], *more)
        assert (code, stderr) == (0, ""), words
        return stdout

    return follow


def test_after_a_run_comes_its_report(localize, checkpoint, good, tmp_path, follow):
    out = tmp_path / "a run & more"
    _, told, _ = localize("run", checkpoint, good, *LENGTHS, "--measure", "replace_rarest", "--out", out)
    follow(told)
    assert (out / "report.html").is_file()


def test_after_a_training_comes_a_run_of_its_paragraphs(localize, tmp_path, follow):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    _, told, _ = localize("train", tmp_path / "recipe.toml", "--out", tmp_path / "it's trained")
    follow(told, "--measure", "replace_rarest", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "signature.zarr.zip").is_file()


@pytest.mark.filterwarnings("ignore:.*effective")
def test_after_an_exported_edit_comes_a_run_of_the_edited_model(localize, checkpoint, tmp_path, follow):
    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (12, 32), generator=torch.Generator().manual_seed(4))
    tokens[:8, 16:] = model.continue_greedily(tokens[:8, :16], 16)
    path = tmp_path / "a b.jsonl"
    path.write_text("".join(json.dumps({"tokens": row}) + "\n" for row in tokens.tolist()))
    options = (
        "--action",
        "zero",
        "--fraction",
        "0.05",
        "--forget",
        "2",
        "--out",
        tmp_path / "out",
        "--export",
        tmp_path / "new model",
    )
    _, told, _ = localize("edit", checkpoint, path, *LENGTHS, *options)
    follow(told, "--measure", "replace_rarest", "--out", tmp_path / "run")
    edited = lz.load_signature(tmp_path / "run" / "signature.zarr.zip").dataset.attrs["model"]
    assert edited["name"] == str(tmp_path / "new model")


@pytest.mark.parametrize("arguments", [("embedded",), ("embedded", "embedded"), (), ("FILE",), ("embedded", "FILE")])
def test_what_is_embedded_has_a_name_and_a_file_of_paragraphs_may_stand_alone(localize, tmp_path, arguments):
    lz.load_paragraphs()[:12].save(tmp_path / "some.JSONL")
    given = [tmp_path / "some.JSONL" if word == "FILE" else word for word in arguments]
    code, _, stderr = localize(
        "run", *given, "--limit", "12", "--measure", "prefix_attention", "--out", tmp_path / "out"
    )
    assert (code, stderr) == (0, "")
    facts = lz.load_signature(tmp_path / "out" / "signature.zarr.zip").dataset.attrs
    assert facts["model"]["name"] == "embedded"
    assert facts["paragraphs"]["source"] == (str(tmp_path / "some.JSONL") if "FILE" in arguments else "embedded")


def test_a_revision_of_what_has_none_is_refused(localize, checkpoint, good, tmp_path):
    for command in ("run", "edit", "scan"):
        for model in ("embedded", checkpoint):
            line = localize.refused(command, model, good, *LENGTHS, "--revision", "main", "--out", tmp_path / "out")
            assert "revision='main'" in line
