"""Killed at any moment, a sweep opens, goes on, and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.errors import LocalizeError

RUN = """
import sys, json
import localize as lz
from localize.sweep.bench import Bench
import torch
torch.set_num_threads(1)
grid, out, log = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
write = __import__("localize.sweep.store", fromlist=["x"]).SweepStore.write
def told(store, cell, outcome):
    write(store, cell, outcome)
    with open(log, "a") as file:
        file.write(outcome.unit.words + chr(10))
__import__("localize.sweep.store", fromlist=["x"]).SweepStore.write = told
print("ready", flush=True)
lz.run_sweep(grid, out)
"""


def contents(path):
    """Every file of a store but those that tell times, places and processes."""
    found = {}
    for file in sorted(Path(path).rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            if file.name == "zarr.json":
                told = json.loads(data)
                told["attributes"] = {k: v for k, v in told.get("attributes", {}).items() if k not in ("done", "calls")}
                data = json.dumps(told, sort_keys=True).encode()
            found[str(file.relative_to(path))] = data
    return found


@pytest.fixture
def small(grid):
    """Several units of some hundredths of a second."""
    grid["measure"] = [
        {"measurement": "attention", "block": 1},
        {"measurement": "gradients", "block": 1, "options": {"sets": False}},
    ]
    return grid


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_undisturbed(small, files, kills):
    rng, log = random.Random(kills), files / "log.txt"
    command = [sys.executable, "-c", RUN, json.dumps(small)]
    started = time.monotonic()
    subprocess.run([*command, str(files / "calm.zarr"), str(files / "calm.txt")], check=True, capture_output=True)
    whole = time.monotonic() - started
    path = files / "killed.zarr"
    for _ in range(kills):
        process = subprocess.Popen([*command, str(path), str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.6 * whole))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if (path / "zarr.json").is_file():
            seen = lz.open_sweep(path)
            for _, cell in seen.cells().iterrows():
                if cell["done"]:
                    dataset = seen.dataset(cell["model"], cell["paragraphs"], cell["measure"])
                    assert np.isfinite(dataset["nll"][: cell["done"]]).all()
    subprocess.run([*command, str(path), str(log)], check=True, capture_output=True)
    assert contents(path) == contents(files / "calm.zarr")
    # What was recorded is not done again; a unit killed between its last byte and its line here is in neither list twice.
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert set(lines) <= set((files / "calm.txt").read_text().splitlines())


def test_a_full_disk_is_one_line_and_what_is_finished_stays(small, files, monkeypatch):
    import errno

    from zarr.storage import _local

    path, put, written = files / "s.zarr", _local._put, []

    def full(place, value, *args, **options):
        written.append(place)
        if len(written) > 150:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(place, value, *args, **options)

    monkeypatch.setattr(_local, "_put", full)
    with pytest.raises(LocalizeError) as error:
        lz.run_sweep(small, path)
    assert str(error.value) == (
        f"sweep {path}: no space left on the device; what is finished is kept. Make room and run the same command again."
    )
    monkeypatch.setattr(_local, "_put", put)
    before = lz.open_sweep(path).cells()["done"].sum()
    assert 0 < before < 36
    lz.run_sweep(small, path)
    lz.run_sweep(small, files / "calm.zarr")
    assert contents(path) == contents(files / "calm.zarr")
