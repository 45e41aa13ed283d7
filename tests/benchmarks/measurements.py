"""Time of each measurement as a ratio to an obvious implementation run beside it, and to the floating-point work it must do.

    python tests/benchmarks/measurements.py [--paragraphs 16] [--layers 4 --heads 8 --d-model 128 --vocab 2048]

Random weights and tokens: time does not depend on them. Rates are of this machine at this moment: the matrix rate printed first is
measured in the same run.
"""

import argparse
import time

import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.measure.perturbation import uniform_replacements
from localize.models.parameters import block_weight_count, weight_view
from localize.train.loop import build_model
from localize.train.recipe import Shape

PREFIX = CONTINUATION = 50


def seconds(work, repeat=3):
    """The least of some runs after one that does not count."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate():
    """Floating-point operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / seconds(lambda: a @ a)


def gradient_loop(model, tokens):
    """One forward and backward pass per paragraph, statistics from `.grad`."""
    for row in tokens:
        model.hf.zero_grad()
        cross_entropy(model(row[None])[0, PREFIX - 1 : -1], row[PREFIX:]).backward()
        for layer in range(model.n_layers):
            for component in COMPONENTS:
                gradient = weight_view(model, layer, component, grad=True)
                gradient.abs().max(), gradient.norm()
    model.hf.zero_grad()


@torch.no_grad()
def perturbation_loop(model, paragraphs, tokens):
    """One whole forward pass per position, without a cache, logits on the continuation only."""
    replacements = torch.from_numpy(uniform_replacements(paragraphs, model.vocab_size, 1, 0))[:, 0]
    for position in range(PREFIX):
        changed = tokens.clone()
        changed[:, position] = replacements[:, position]
        logits = model.forward(changed[:, :-1], read=slice(PREFIX - 1, None))
        (logits.argmax(-1) == tokens[:, PREFIX:]).cumprod(-1).sum(-1)
        cross_entropy(logits.transpose(1, 2), tokens[:, PREFIX:], reduction="none").mean(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("paragraphs", 16), ("layers", 4), ("heads", 8), ("d-model", 128), ("vocab", 2048)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    shape = Shape(layers=asked.layers, heads=asked.heads, d_model=asked.d_model)
    model = build_model(shape, asked.vocab, 0)
    tokens = torch.randint(0, asked.vocab, (asked.paragraphs, PREFIX + CONTINUATION))
    paragraphs = lz.load_paragraphs(tokens)
    own = paragraphs.with_own_continuation(model).tokens
    rate = matrix_rate()
    weights, count, length = block_weight_count(model), len(tokens), PREFIX + CONTINUATION
    unembedding = asked.vocab * asked.d_model * CONTINUATION
    forward = 2 * (weights * (length - 1) + unembedding) * count
    print(
        f"{model}\n{count} paragraphs, {torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s in a matrix product\n"
    )
    print(f"{'measurement':24}{'ours (s)':>10}{'obvious (s)':>13}{'ratio':>8}{'floor (s)':>11}{'share':>8}")
    rows = (
        (
            "gradients",
            lambda: lz.gradients(model, paragraphs, sets=False),
            lambda: gradient_loop(model, tokens),
            # recall, then forward, backward to the activations, and the weight gradients
            forward + 3 * forward,
        ),
        (
            "prefix perturbation",
            lambda: lz.perturb_prefix(model, paragraphs, draws=1),
            lambda: perturbation_loop(model, paragraphs, own),
            sum(2 * (weights * (length - 1 - i) + unembedding) * count for i in range(PREFIX)),
        ),
        (
            "rare-token heads",
            lambda: lz.rare_token_heads(model, paragraphs),
            lambda: model.run_with_cache(tokens, [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]),
            forward + 2 * weights * PREFIX * count,
        ),
    )
    for name, ours, obvious, work in rows:
        mine, theirs = seconds(ours), seconds(obvious)
        print(f"{name:24}{mine:10.2f}{theirs:13.2f}{mine / theirs:8.2f}{work / rate:11.3f}{work / rate / mine:8.0%}")


if __name__ == "__main__":
    main()
