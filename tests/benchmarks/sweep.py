"""What a sweep costs beside the bare calls, and how much faster two workers are than one.

    python tests/benchmarks/sweep.py [--cells 60] [--units 32 --size 48] [--only overhead | workers]

Overhead: milliseconds a cell over a loop of the same calls on the same model and paragraphs, in one process; the store is on disk.
Workers: the same units by one and by two processes of one thread each, both started before the clock.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import localize as lz
from localize.sweep.engines import local_pool
from localize.train.loop import build_model
from localize.train.recipe import Shape


def make_files(folder, paragraphs, shape):
    """A checkpoint with random weights and a file of random rows."""
    build_model(shape, 2048, 0).hf.save_pretrained(folder / "model")
    np.save(
        folder / "rows.npy",
        torch.randint(0, 2048, (paragraphs, 100), generator=torch.Generator().manual_seed(0)).numpy(),
    )
    return {"model": [{"source": str(folder / "model")}], "paragraphs": [{"source": str(folder / "rows.npy")}]}


def overhead(folder, cells):
    """Seconds of a loop of calls, of the sweep that makes the same calls, and the difference per cell in ms.

    The calls are short, so that the difference is not lost in how much they vary.
    """
    torch.set_num_threads(1)
    grid = make_files(folder, 16, Shape(layers=1, heads=2, d_model=16))
    sizes = [size + 1 for size in range(cells)]
    grid["measure"] = [{"measurement": "prefix_attention", "over": {"batch_size": sizes}}]
    model = lz.load_model(folder / "model")
    paragraphs = lz.load_paragraphs(folder / "rows.npy")
    lz.prefix_attention(model, paragraphs)

    def bare():
        lz.recall(model, paragraphs)
        for size in sizes:
            lz.prefix_attention(model, paragraphs, batch_size=size)

    taken = []
    for work in (
        bare,
        lambda: lz.run_sweep(grid, folder / "overhead.zarr"),
        lambda: lz.run_sweep(grid, folder / "overhead.zarr"),
    ):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    print(
        f"bare loop of {cells} calls: {taken[0]:.2f} s; sweep: {taken[1]:.2f} s, again with nothing to do: {taken[2]:.2f} s"
    )
    print(
        f"over the bare loop: {1000 * (taken[1] - taken[0]) / (cells + 1):.1f} ms a cell, planning and loading among it"
    )


def workers(folder, units, size):
    """Seconds with one and with two workers, for units of so many paragraphs."""
    grid = make_files(folder, size * units, Shape())
    grid["measure"] = [{"measurement": "gradients", "block": size, "options": {"sets": False}}]
    grid["measure"] += [{"measurement": "activation_gradients", "block": size}]
    taken = {}
    for count in (1, 2):
        with local_pool(count, threads=1) as client:
            # every worker has imported everything and loaded the model
            warm = {**grid, "measure": [{"measurement": "prefix_attention", "block": size}]}
            lz.run_sweep(warm, folder / f"workers-{count}.zarr", scheduler=client)
            started = time.perf_counter()
            sweep = lz.run_sweep(grid, folder / f"workers-{count}.zarr", scheduler=client)
            taken[count] = time.perf_counter() - started
            each = sweep.cells()["seconds"][-2:].sum() / (2 * units)
            print(f"{count} worker{'s' * (count > 1)}: {taken[count]:.2f} s for {2 * units} units of {each:.2f} s")
    print(f"two workers: {taken[1] / taken[2]:.2f} times one")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--size", type=int, default=48, help="paragraphs of a unit")
    parser.add_argument("--only", choices=["overhead", "workers"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.only in (None, "overhead"):
            overhead(Path(folder), asked.cells)
        if asked.only in (None, "workers"):
            workers(Path(folder), asked.units, asked.size)


if __name__ == "__main__":
    main()
