"""`localize sweep` and `localize scan`: what they leave and print, and how they refuse."""

import json

import numpy as np
import pytest
import torch

import localize as lz


@pytest.fixture
def grid(write, checkpoint, good):
    """One model, the good paragraphs, gradients and what cannot be measured."""
    return write(
        "grid.toml",
        f"""
        [[model]]
        source = "{checkpoint}"
        [[paragraphs]]
        source = "{good}"
        prefix = 16
        continuation = 16
        [[measure]]
        measurement = "gradients"
        """,
    )


def test_a_sweep_is_listed_run_shown_and_not_run_again(localize, grid, tmp_path):
    out = tmp_path / "s.zarr"
    code, listed, _ = localize("sweep", grid, "--out", out, "--dry-run")
    assert code == 0 and not out.exists()
    assert "2 cells, 2 units to do, about" in listed
    code, told, _ = localize("sweep", grid, "--out", out)
    assert code == 0
    assert told.splitlines()[0] == "0 of 2 units are there; 2 to do."
    assert told.count("12 of 12") == 2
    code, again, _ = localize("sweep", grid, "--out", out)
    assert again.splitlines()[0] == "2 of 2 units are there; 0 to do."
    code, shown, _ = localize("show", out)
    assert code == 0 and shown.count("finished") == 2
    assert "gradient_norm" in lz.open_sweep(out).signature()


def test_a_failed_cell_is_exit_code_2_and_the_others_are_kept(localize, grid, tmp_path):
    with open(grid, "a") as file:
        file.write('\n[[measure]]\nmeasurement = "patching"\noptions = { metrics = ["x"] }\n')
    out = tmp_path / "s.zarr"
    code, told, stderr = localize("sweep", grid, "--out", out)
    assert code == 2
    assert "failed: model / good / patching: InputError: patch: " in told
    assert stderr.splitlines()[-1].startswith(
        "localize: 1 of 3 cells failed; the first, model / good / patching: InputError: "
    )
    assert set(lz.open_sweep(out).cells()["status"]) == {"finished", "failed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.toml"], "grid none.toml: no such file."),
        (["GRID", "--resource", "GPU"], "--resource GPU: must be NAME=AMOUNT, such as GPU=1."),
        (["GRID", "--workers", "0"], "run_sweep: workers=0 must be at least 1."),
    ],
)
def test_a_sweep_refuses_in_one_line(localize, grid, tmp_path, arguments, message):
    arguments = [grid if word == "GRID" else word for word in arguments]
    assert localize.refused("sweep", *arguments, "--out", tmp_path / "s.zarr") == message
    assert not (tmp_path / "s.zarr").exists()


def test_a_scan_writes_what_run_reads(localize, checkpoint, tmp_path):
    model = lz.load_model(checkpoint)
    prefix = torch.randint(97, (3, 16), generator=torch.Generator().manual_seed(5))
    rows = torch.cat([prefix, model.continue_greedily(prefix, 16)], 1).numpy()
    np.save(tmp_path / "c.npy", np.concatenate([rows, np.random.default_rng(0).integers(0, 97, (20, 32))]))
    lengths = ("--prefix", "16", "--continuation", "16")
    out = tmp_path / "found"
    options = ("--min-distinct", "0", "--max-repeated", "1", "--matched")
    code, told, _ = localize("scan", checkpoint, tmp_path / "c.npy", "--out", out, *lengths, *options)
    assert code == 0
    assert "windows scanned" in told and "23" in told
    summary = json.loads((out / "scan.json").read_text(encoding="utf-8"))
    assert summary["distinct"] >= 3
    code, _, _ = localize(
        "run", checkpoint, out / "paragraphs.jsonl", *lengths, "--out", tmp_path / "run", "--measure", "gradients"
    )
    assert code == 0
    signature = lz.load_signature(tmp_path / "run" / "signature.zarr.zip")
    assert (signature["exact_match"] == 16).all()


def test_a_scan_refuses_in_one_line(localize, checkpoint, tmp_path):
    lengths = ("--prefix", "16", "--continuation", "16")
    line = localize.refused("scan", checkpoint, tmp_path / "none.txt", *lengths, "--out", tmp_path / "found")
    assert line == f"corpus {tmp_path / 'none.txt'}: no such file or folder."
    assert localize.refused("scan", checkpoint, "no_such_dataset", *lengths, "--out", tmp_path / "found").startswith(
        "corpus no_such_dataset: no such file, and no dataset that can be streamed ("
    )
