"""Time of K-FAC statistics: beside a pass with weight gradients over the same text, and beside the floating-point work that they need.

    python tests/benchmarks/curvature.py [--shape embedded | gpt-neo-125m] [--paragraphs 16] [--device cuda]

Random weights and tokens; factors of all MLP matrices. The plain pass is transformers' own model with autograd: the mean NLL of all
positions, and gradients by all weights. Seconds are the least of some runs. Eigendecompositions are timed apart. The work of the factors
themselves is that of x^T x and d^T d at each position, at the matrix rate measured in the same run.
"""

import argparse
import resource

import torch
from measurements import LENGTH, SHAPES, matrix_rate, seconds
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import MLP_COMPONENTS
from localize.measure.curvature_factors import curvature_factors
from localize.train.loop import build_model


def plain(model, tokens):
    """Forward and backward pass, gradients by all weights."""

    def run():
        model.hf.requires_grad_(True)
        model.hf.zero_grad()
        logits = model.hf(tokens[:, :-1], use_cache=False).logits
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt-neo-125m")
    parser.add_argument("--paragraphs", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    shape, vocab = SHAPES[options.shape]
    model = lz.load_model(build_model(shape, vocab, 0), device=options.device)
    rows = torch.randint(0, vocab, (options.paragraphs, LENGTH), generator=torch.Generator().manual_seed(0))
    text = lz.load_paragraphs(rows)
    cells = [(layer, component) for layer in range(model.n_layers) for component in MLP_COMPONENTS]
    of_plain = seconds(plain(model, text.tokens.to(model.device)), model.device)
    model.hf.zero_grad()
    of_factors = seconds(lambda: curvature_factors(model, text, cells), model.device)
    sizes = [size for cell in cells for size in model.weight(*cell).shape]
    work = 2 * sum(size**2 for size in sizes) * options.paragraphs * (LENGTH - 1) / matrix_rate(model.device)
    print(
        f"{model!r}; {options.paragraphs} rows; {torch.get_num_threads()} threads\npass with weight gradients {of_plain:.2f} s; "
        f"K-FAC factors of {len(cells)} matrices {of_factors:.2f} s, {of_factors / of_plain:.2f} of it; the products alone "
        f"need {work:.2f} s, {work / of_factors:.0%}"
    )
    factors = curvature_factors(model, text, cells[:2])
    of_eigen = seconds(
        lambda: [torch.linalg.eigh(one) for parts in factors.values() for one in parts], model.device, repeat=1
    )
    held = sum(size**2 for size in sizes) * 4 / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"eigendecompositions of a layer's {of_eigen:.2f} s; the factors hold {held:.2f} GiB; peak of the process {peak:.1f} GiB"
    )


if __name__ == "__main__":
    main()
