"""Killed at any moment, a sweep opens, goes on, and ends as if nothing had happened."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.errors import LocalizeError
from localize.sweep.store import SweepStore

RUN = """
import json, sys
import torch
import localize as lz
from localize.sweep.store import SweepStore
torch.set_num_threads(1)
grid, out, log = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
write = SweepStore.write
def told(store, cell, outcome):
    write(store, cell, outcome)
    with open(log, "a") as file:
        file.write(outcome.unit.words + chr(10))
SweepStore.write = told
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
        {"measurement": "prefix_attention", "block": 1},
        {"measurement": "gradients", "block": 1, "options": {"sets": False}},
    ]
    return grid


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_undisturbed(small, files, kills, one_thread, start_and_kill, monkeypatch):
    rng, path, log, write = random.Random(kills), files / "killed.zarr", files / "log.txt", SweepStore.write
    recorded = []

    def told(store, cell, outcome):
        write(store, cell, outcome)
        recorded.append(outcome.unit.words)

    monkeypatch.setattr(SweepStore, "write", told)
    started = time.monotonic()
    lz.run_sweep(small, files / "calm.zarr")
    whole, every = time.monotonic() - started, set(recorded)
    for _ in range(kills):
        start_and_kill(RUN, json.dumps(small), path, log, after=rng.uniform(0, whole))
        if (path / "zarr.json").is_file():
            seen = lz.open_sweep(path)
            for _, cell in seen.cells().iterrows():
                if cell["done"]:
                    dataset = seen.dataset(cell["model"], cell["paragraphs"], cell["measure"])
                    assert np.isfinite(dataset["nll"][: cell["done"]]).all()
    recorded.clear()
    lz.run_sweep(small, path)
    assert contents(path) == contents(files / "calm.zarr")
    # What was recorded is not done again; a unit killed between its last byte and its line here is in neither list twice.
    before = log.read_text().splitlines() if log.is_file() else []
    lines = [*before, *recorded]
    assert len(lines) == len(set(lines))
    assert set(lines) <= every


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
