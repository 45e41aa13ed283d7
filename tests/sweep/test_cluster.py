"""Workers of a real scheduler: the same numbers, each unit once, also when a worker dies; a clear line when nobody answers."""

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import localize as lz
from localize.errors import LocalizeError

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def units(grid):
    """More units than workers."""
    grid["measure"] = [{"measurement": "gradients", "block": 1, "options": {"sets": False}}]
    return grid


@pytest.mark.slow
def test_with_one_worker_killed_all_units_are_there_and_each_was_recorded_once(units, files, monkeypatch):
    from localize.sweep.engines import local_pool
    from localize.sweep.store import SweepStore

    write, recorded = SweepStore.write, []
    with local_pool(2, threads=1) as client:
        pids = list(client.run(os.getpid).values())

        def counted(store, cell, outcome):
            write(store, cell, outcome)
            recorded.append(outcome.unit.words)
            if len(recorded) == 3:
                os.kill(pids[0], signal.SIGKILL)

        monkeypatch.setattr(SweepStore, "write", counted)
        done = lz.run_sweep(units, files / "s.zarr", scheduler=client)
    assert len(recorded) == len(set(recorded)) == 2 * (1 + 6)
    assert (done.cells()["status"] == "finished").all()
    calm = lz.run_sweep(units, files / "calm.zarr")
    for name in ("deep", "flat"):
        ours, theirs = (sweep.dataset(name, measure="gradients") for sweep in (done, calm))
        for variable in theirs.data_vars:
            np.testing.assert_allclose(ours[variable], theirs[variable], rtol=1e-9, err_msg=str(variable))


def test_a_scheduler_that_does_not_answer_is_told(units, files, monkeypatch):
    monkeypatch.setattr("localize.sweep.engines.PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()

        async def from_a_notebook():
            with pytest.raises(LocalizeError, match="no answer within"):
                lz.run_sweep(units, files / "s.zarr", scheduler=address)

        with ThreadPoolExecutor() as thread:  # of its own: this one's loop may be a browser's
            thread.submit(asyncio.run, from_a_notebook()).result()
        with pytest.raises(LocalizeError, match=rf"^scheduler {address}: no answer within 0.5 s"):
            lz.run_sweep(units, files / "s.zarr", scheduler=address)
        assert time.monotonic() - started < 60
