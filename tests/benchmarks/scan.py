"""What a scan costs beside bare forward passes, how its memory grows, and how long clustering takes.

    python tests/benchmarks/scan.py [--few 1000 --many 100000] [--only speed | memory | clusters]

Speed: windows a second of the embedded shape, beside a loop of forward passes that only compute logits, at the same batch; also as a
share of the floating-point work (two operations for each weight and token). Memory: peak MiB of a process, for few and for many windows.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import localize as lz
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.train.loop import build_model
from localize.train.recipe import Shape

LENGTH, STRIDE, BATCH = 100, 50, 64


def make_corpus(folder, windows):
    """A flat array of random tokens."""
    path = Path(folder) / f"{windows}.npy"
    np.save(
        path,
        np.random.default_rng(0).integers(0, 2048, LENGTH + STRIDE * (windows - 1), dtype=np.int64).astype(np.uint16),
    )
    return path


def speed(windows):
    """Windows a second of both."""
    model = build_model(Shape(), 2048, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = make_corpus(folder, windows)
        rows = np.lib.stride_tricks.sliding_window_view(np.load(path), LENGTH)[::STRIDE]

        def bare():
            with torch.no_grad():
                for start in range(0, len(rows), BATCH):
                    model.hf(torch.from_numpy(rows[start : start + BATCH].astype(np.int64)))

        bare_short = rows[:BATCH]
        with torch.no_grad():
            model.hf(torch.from_numpy(bare_short.astype(np.int64)))
        started = time.perf_counter()
        bare()
        of_bare = time.perf_counter() - started
        started = time.perf_counter()
        lz.scan_corpus(model, path, Path(folder) / "found", batch_size=BATCH, count=False)
        of_scan = time.perf_counter() - started
        started = time.perf_counter()
        lz.scan_corpus(model, path, Path(folder) / "counted", batch_size=BATCH)
        with_counts = time.perf_counter() - started
    a = torch.randn(3072, 3072)
    torch.mm(a, a)
    started = time.perf_counter()
    torch.mm(a, a)
    rate = 2 * 3072**3 / (time.perf_counter() - started)
    work = 2.0 * sum(p.numel() for p in model.hf.transformer.h.parameters()) * LENGTH * windows
    work += 2.0 * model.d_model * model.vocab_size * STRIDE * windows
    print(
        f"{windows} windows: bare passes {windows / of_bare:,.0f} a second, scan {windows / of_scan:,.0f}: {of_bare / of_scan:.2f} of them"
    )
    print(
        f"with occurrences counted: {windows / with_counts:,.0f} a second; floor {work / rate:.1f} s, share {work / rate / of_scan:.0%}"
    )


def peak(windows):
    """MiB of this process after a scan."""
    torch.set_num_threads(1)
    model = build_model(Shape(layers=1, heads=2, d_model=16), 2048, 0)
    with tempfile.TemporaryDirectory() as folder:
        lz.scan_corpus(model, make_corpus(folder, windows), Path(folder) / "found", matched=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def clusters(count):
    """Seconds to cluster random windows, a tenth of them near-duplicates of others."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50257, (count, LENGTH))
    for place in range(0, count, 10):
        rows[place, 40:] = rows[rng.integers(count), :60]
    started = time.perf_counter()
    found = near_duplicate_clusters(rows)
    print(f"{count} windows into {len(np.unique(found))} clusters: {time.perf_counter() - started:.1f} s")
    rows[: count // 10, :50] = rows[0, :50]  # boilerplate that a tenth of all share
    started = time.perf_counter()
    found = near_duplicate_clusters(rows)
    print(f"with a beginning that a tenth of them share: {time.perf_counter() - started:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--only", choices=["speed", "memory", "clusters"])
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(peak(asked.peak))
        return
    if asked.only in (None, "clusters"):
        clusters(asked.many)
    if asked.only in (None, "speed"):
        speed(4096)
    if asked.only in (None, "memory"):
        for count in (asked.few, asked.many):
            command = [sys.executable, __file__, "--peak", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{count} windows: peak {float(done.stdout):.0f} MiB")


if __name__ == "__main__":
    main()
