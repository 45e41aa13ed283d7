"""What a command left in a folder is read back as it was written, and what is damaged is told in one line."""

import json
import shutil

import numpy as np
import pytest
import torch

from localize.claims import COMMAND_FILE
from localize.errors import InputError, SignatureError
from localize.report.folder import EDITS_FILE, SIGNATURE_FILE, read_results
from localize.storage import write_json


@pytest.fixture(scope="module")
def before():
    """Recall of eight paragraphs in a small random model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import localize as lz

    torch.manual_seed(0)
    size = {"vocab_size": 31, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    model = lz.HookedModel(GPT2LMHeadModel(GPT2Config(**size, bos_token_id=None, eos_token_id=None)), name="small")
    paragraphs = lz.load_paragraphs(torch.randint(31, (8, 12)), prefix_length=6, continuation_length=6)
    return lz.recall(model, paragraphs.with_groups(["a", "b"] * 4))


@pytest.fixture
def ran(before, tmp_path):
    before.save(tmp_path / "a run" / SIGNATURE_FILE)
    write_json(tmp_path / "a run" / COMMAND_FILE, {"command": "localize run m 'a b.csv'"})
    return tmp_path / "a run"


@pytest.fixture
def edited(before, tmp_path):
    for name in ("top-before", "top-after", "random-before", "random-after", "back"):
        before.save(tmp_path / "edited" / f"{name}.zarr.zip")
    edits = [
        {"label": label, "seed": 0, "control": label == "random", "before": f"{label}-before.zarr.zip", "after": f"{label}-after.zarr.zip"}
        for label in ("top", "random", "top")
    ]  # fmt: skip
    write_json(
        tmp_path / "edited" / EDITS_FILE, {"edits": edits, "relearned": [{"label": "it", "file": "back.zarr.zip"}]}
    )
    return tmp_path / "edited"


def test_a_run_is_its_signature_its_tokenizer_and_the_command(ran, before):
    from localize.resources import embedded

    assert read_results(ran).tokenizer is None
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (ran / "tokenizer").mkdir(exist_ok=True)
        shutil.copy(embedded("model") / name, ran / "tokenizer")
    read = read_results(ran)
    assert (read.name, read.command, read.changes, read.controls) == ("a run", "localize run m 'a b.csv'", {}, ())
    np.testing.assert_array_equal(read.signature["nll"].values, before["nll"].values)
    assert read.tokenizer.decode(read.tokenizer("the letter")["input_ids"]) == "the letter"


def test_a_signatures_file_is_a_run_without_a_command(ran):
    read = read_results(ran / SIGNATURE_FILE)
    assert (read.name, read.command, read.tokenizer, len(read.signature)) == ("signature", "", None, 8)


def test_edits_come_by_name_a_repeat_after_the_other(edited):
    read = read_results(str(edited))
    assert read.signature is None
    assert {label: len(changes) for label, changes in read.changes.items()} == {"top": 2, "random": 1}
    assert (read.controls, list(read.relearned), len(read.relearned["it"])) == (("random",), ["it"], 8)


def test_what_is_not_there_or_damaged_is_told_in_one_line(ran, edited, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / SIGNATURE_FILE).write_bytes((ran / SIGNATURE_FILE).read_bytes()[:99])
    for place, kind, told in (
        (tmp_path / "no", InputError, "{}: no such folder; one that `localize run` or `localize edit` wrote is needed."),
        (tmp_path / "empty", InputError,
         "{}: holds neither signature.zarr.zip nor edits.json nor training.zarr.zip; a folder that `localize run`, `localize edit` or "
         "`localize train` wrote is needed."),
    ):  # fmt: skip
        with pytest.raises(kind) as error:
            read_results(place)
        assert str(error.value) == told.format(place)
    with pytest.raises(SignatureError, match=r"signature\.zarr\.zip"):
        read_results(tmp_path / "damaged")
    for content, told in (
        ("[1]", "holds a list; an object is needed."),
        ("{", "cannot be read: "),
        (json.dumps({"edits": [{"label": "top"}], "relearned": []}), "not what `localize edit` writes ('before'); edit again."),
    ):  # fmt: skip
        (edited / EDITS_FILE).write_text(content)
        with pytest.raises(InputError) as error:
            read_results(edited)
        assert str(error.value).startswith(f"{edited / EDITS_FILE}: {told}")
