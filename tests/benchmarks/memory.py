"""Peak memory of each measurement for few and for many paragraphs, the returned arrays taken off.

    python tests/benchmarks/memory.py [--few 64 --many 1024]

A small model (4 layers, d_model 128), one process per line, so that peaks do not mix. "perturb_prefix, draws": of 8 paragraphs, an
eighth of the number in draws.
"""

import argparse
import resource
import subprocess
import sys

import torch

import localize as lz
from localize.train.loop import build_model
from localize.train.recipe import Shape

MEASUREMENTS = {
    "gradients": lz.gradients,
    "activation_gradients": lz.activation_gradients,
    "rare_token_heads": lz.rare_token_heads,
    "perturb_prefix": lambda model, paragraphs: lz.perturb_prefix(model, paragraphs, draws=1),
    "perturb_prefix, draws": lambda model, paragraphs: lz.perturb_prefix(
        model, paragraphs[:8], draws=len(paragraphs) // 8
    ),
    "patch": lambda model, paragraphs: lz.patch(model, paragraphs, null=False),
    "ablate": lz.ablate,
}


def peak(name, count):
    """MiB beyond the result."""
    torch.set_num_threads(1)
    model = build_model(Shape(), 2048, 0)
    paragraphs = lz.load_paragraphs(torch.randint(0, 2048, (count, 100)))
    signature = MEASUREMENTS[name](model, paragraphs)
    result = sum(variable.nbytes for variable in signature.dataset.variables.values())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - result / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--many", type=int, default=1024)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(peak(asked.one[0], int(asked.one[1])))
        return
    print(f"{'peak beyond the result (MiB)':30}{asked.few:>8}{asked.many:>8}")
    for name in MEASUREMENTS:
        peaks = [
            float(
                subprocess.run(
                    [sys.executable, __file__, "--one", name, str(count)], capture_output=True, text=True, check=True
                ).stdout
            )
            for count in (asked.few, asked.many)
        ]
        print(f"{name:30}{peaks[0]:8.0f}{peaks[1]:8.0f}", flush=True)


if __name__ == "__main__":
    main()
