"""Work streams: ten times as many paragraphs need no more memory than their results take."""

import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).parents[1] / "benchmarks" / "memory.py"


def peak(measurement, paragraphs):
    """MiB beyond the result, in a process of its own."""
    command = [sys.executable, str(MEMORY), "--one", measurement, str(paragraphs)]
    done = subprocess.run(command, cwd=MEMORY.parents[2], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measurement", "counts"),
    [
        ("gradients", (32, 320)),
        ("rare_token_heads", (32, 320)),
        ("perturb_prefix", (8, 48)),
        ("perturb_prefix, draws", (8, 48)),
        ("patch", (8, 48)),
    ],
)
def test_peak_memory_beyond_the_result_does_not_grow_with_paragraphs_or_draws(measurement, counts):
    few, many = (peak(measurement, count) for count in counts)
    # One batch's worth of jitter; a copy of what is measured per paragraph would be 290 MiB of weight gradients, all logits of the
    # perturbed continuations 780 MiB.
    assert many - few < 40, (few, many)
