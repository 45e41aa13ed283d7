"""`localize scan`: what it leaves and prints; the command that it prints next runs as it stands."""

import json
import re
import shlex

import numpy as np
import pytest
import torch

import localize as lz

LENGTHS = ("--prefix", "16", "--continuation", "16")
UNFILTERED = ("--min-distinct", "0", "--max-repeated", "1")


def recited(checkpoint, rows=3):
    """Rows of 32 tokens that the model recites, and 20 random ones."""
    model = lz.load_model(checkpoint)
    prefix = torch.randint(97, (rows, 16), generator=torch.Generator().manual_seed(5))
    said = torch.cat([prefix, model.continue_greedily(prefix, 16)], 1).numpy()
    return np.concatenate([said, np.random.default_rng(0).integers(0, 97, (20, 32))])


def next_command(told):
    """What the last line says to do next, as the shell takes it: the words after `localize`."""
    line = told.rstrip("\n").splitlines()[-1]
    command = shlex.split(line.split("; next: ")[1])
    assert command[0] == "localize"
    return command[1:]


def test_a_scan_writes_what_run_reads(localize, checkpoint, tmp_path):
    np.save(tmp_path / "c.npy", recited(checkpoint))
    out = tmp_path / "found"
    code, told, _ = localize("scan", checkpoint, tmp_path / "c.npy", "--out", out, *LENGTHS, *UNFILTERED, "--matched")
    assert code == 0
    assert re.search(r"windows scanned +│ +23 ", told)
    summary = json.loads((out / "scan.json").read_text(encoding="utf-8"))
    assert summary["distinct"] >= 3
    for words, name in (
        ("windows over the threshold", "found"),
        ("spans of overlapping windows", "spans"),
        ("paragraphs found", "distinct"),
        ("  clusters of near-duplicates", "clusters"),
        ("matches that are not memorized", "matched"),
    ):
        assert re.search(rf"│ {words} +│ +{summary[name]} +│", told), words
    assert re.search(rf"│   effective clusters +│ +{summary['effective_clusters']:.1f} +│", told)


@pytest.fixture
def found(localize, checkpoint, tmp_path, monkeypatch):
    """A scan of a corpus and with a folder whose names a shell would divide."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "c.npy", recited(checkpoint))

    def scan(model, *options):
        code, told, stderr = localize("scan", model, "c.npy", "--out", "found & kept", *LENGTHS, *UNFILTERED, *options)
        assert (code, stderr) == (0, "")
        return told

    return scan


def test_the_command_printed_next_runs(found, localize, checkpoint, tmp_path):
    command = next_command(found(checkpoint))
    assert command == ["run", str(checkpoint), "found & kept/paragraphs.jsonl", *LENGTHS]
    code, _, _ = localize(*command)
    assert code == 0
    signature = lz.load_signature(tmp_path / "run" / "signature.zarr.zip")
    assert (signature["exact_match"] == 16).all()
    assert len(signature) >= 3


def test_the_command_printed_next_carries_what_the_scan_was_told_of_the_model(
    found, localize, checkpoint, tokenizer, tmp_path
):
    tokenizer.save_pretrained(tmp_path / "its tokenizer")
    given = ("--tokenizer", "its tokenizer", "--device", "cpu", "--dtype", "float64")
    command = next_command(found(checkpoint, *given))
    assert command == ["run", str(checkpoint), "found & kept/paragraphs.jsonl", *LENGTHS, *given]
    code, told, _ = localize(*command, "--measure", "gradients")
    assert code == 0
    assert "float64 on cpu" in told


def test_the_command_printed_next_leaves_out_what_is_the_default(localize, make_reciter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_reciter([*range(1, 128), 0]).hf.save_pretrained("model")
    np.save("c.npy", np.arange(10, 110))
    _, told, _ = localize("scan", "model", "c.npy")
    command = next_command(told)
    assert command == ["run", "model", "found/paragraphs.jsonl"]
    code, _, _ = localize(*command, "--measure", "gradients")
    assert code == 0


def test_where_nothing_is_found_the_best_match_is_printed_and_no_command(found, checkpoint, tmp_path):
    np.save(tmp_path / "c.npy", np.random.default_rng(0).integers(0, 97, (20, 32)))
    told = found(checkpoint)
    best = json.loads((tmp_path / "found & kept" / "scan.json").read_text(encoding="utf-8"))["best"]
    assert told.splitlines()[-1] == (
        f"Nothing found. The best match, in the teacher-forced pass, is {best['exact_match']} of 16 tokens (threshold 16), NLL "
        f"{best['nll']:.2f}, at {best['id']} of c.npy"
    )
    assert "next:" not in told


def test_where_all_is_set_aside_it_is_said(localize, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("c.npy", recited(checkpoint)[:1])
    code, told, _ = localize("scan", checkpoint, "c.npy", *LENGTHS, "--min-distinct", "1", "--max-repeated", "0")
    assert code == 0
    assert told.splitlines()[-1].startswith(
        "Nothing found, 1 set aside (found/set_aside.jsonl). The best match, in the teacher-forced pass, is 16 of 16 tokens ("
    )
    assert "next:" not in told


def test_the_text_of_the_best_match_is_shown_as_it_is(localize, make_model, tokenizer, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_model("gpt2", dtype=torch.float32, vocab_size=280).hf.save_pretrained("model")
    tokenizer.save_pretrained("model")
    text = "[bold]the cat sat on the mat[/bold], and the dog sat on the log; nobody saw them leave"
    corpus = write("c.jsonl", [{"text": text}])
    _, told, _ = localize("scan", "model", corpus, *LENGTHS, *UNFILTERED)
    start = tokenizer.decode(tokenizer(text)["input_ids"][:32])
    assert told.splitlines()[-1].endswith(f" at 0:0 of c.jsonl: {start!r}")


def test_why_clusters_have_no_match_is_printed(localize, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("c.npy", recited(checkpoint)[:3])
    _, told, _ = localize("scan", checkpoint, "c.npy", *LENGTHS, *UNFILTERED, "--matched")
    assert re.search(r"│ matches that are not memorized +│ +0 +│", told)
    assert re.search(r"│   without: no window of the same source is not memorized +│ +3 +│", told)


def test_a_scan_refuses_in_one_line(localize, checkpoint, tmp_path):
    line = localize.refused("scan", checkpoint, tmp_path / "none.txt", *LENGTHS, "--out", tmp_path / "found")
    assert line == f"corpus {tmp_path / 'none.txt'}: no such file or folder."
    assert localize.refused("scan", checkpoint, "no_such_dataset", *LENGTHS, "--out", tmp_path / "found").startswith(
        "corpus no_such_dataset: no such file, and no dataset that can be streamed ("
    )


def test_what_a_folder_holds_of_another_split_of_a_dataset_is_refused(
    localize, make_reciter, tokenizer, tmp_path, monkeypatch
):
    import datasets

    for split in ("train", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps({"text": "the cat sat on the mat " * 9}) + "\n")
    make_reciter([*range(1, 280), 0], tokenizer).hf.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    files = {split: str(tmp_path / f"{split}.json") for split in ("train", "test")}
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, split, streaming: load("json", data_files=files, split=split, streaming=True),
    )
    given = ("scan", tmp_path / "model", "somebody/texts", *LENGTHS, "--out", tmp_path / "found")
    code, told, _ = localize(*given)
    assert code == 0
    assert localize(*given)[1] == told
    assert localize.refused(*given, "--split", "test").startswith(
        f'scan {tmp_path / "found"}: holds results of localize scan with corpus.split = "train", and "test" is asked for; '
    )
