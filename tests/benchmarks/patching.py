"""Time of patching every head against one whole forward pass per patch, and against the floating-point work it must do.

    python tests/benchmarks/patching.py [--pairs 1] [--position 44] [--target 50] [--device cuda]

GPT-Neo-125M's shape with random weights and tokens, q, k and v of all 432 heads, both directions, no null, no estimate. A pass per
patch is timed on a few patches and told for all of them; it feeds the tokens before the target and computes one row of logits.
"""

import argparse
import time

import torch
from measurements import LENGTH, PREFIX, SHAPES, matrix_rate, seconds

import localize as lz
from localize.axes import DIRECTIONS
from localize.measure.patch import patch
from localize.train.loop import build_model

PART_OF_LAYER = 1 / 12
"""Share of a layer's weights that one of W_Q, W_K, W_V, W_O holds; the MLP holds eight of these."""


def pairs(vocab, count, position, target):
    """Paragraphs, and the same with one prefix token and the continuation from the target on replaced."""
    tokens = torch.randint(0, vocab, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, position] = (tokens[:, position] + 1) % vocab
    changed[:, target:] = (tokens[:, target:] + 1) % vocab
    return lz.load_paragraphs(tokens), lz.load_paragraphs(changed)


def operations(model, position, read):
    """Floating-point operations of one patch of every q, k and v: MLP of its layer and all layers above it, at the positions recomputed.

    Of the last layer all positions need keys and values, those read the rest. `read` is the first and the last position read.
    """
    suffix, reads, last = read[1] + 1 - position, read[1] + 1 - read[0], model.n_layers - 1
    layer_weights = 12 * model.d_model**2
    of_mlp, of_keys = 8 * PART_OF_LAYER, 2 * PART_OF_LAYER
    total = 0.0
    for layer in range(model.n_layers):
        if layer == last:
            total += of_mlp * reads
        else:
            total += (of_mlp + last - 1 - layer + of_keys) * suffix + (1 - of_keys) * reads
    unembedding = model.n_layers * reads * model.vocab_size * model.d_model
    return 2 * 3 * model.n_heads * (total * layer_weights + unembedding)


@torch.no_grad()
def one_by_one(model, tokens, position, target, patches):
    """A whole hooked forward pass for each patch, logits at one position only."""
    for index in range(patches):
        name = f"blocks.{index % model.n_layers}.attn.hook_{'qkv'[index % 3]}"

        def put(value, _, head=index % model.n_heads):
            value = value.clone()
            value[:, position, head] = 0.0
            return value

        logits = model.forward(tokens[:1, :target], hooks={name: put}, read=slice(-1, None))
        logits.log_softmax(-1)[..., 0]


def once(work, device):
    """One run's time; it is long enough to need no run before it that does not count."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--position", type=int, default=44)
    parser.add_argument("--target", type=int, default=50)
    parser.add_argument("--metric", choices=("first_changed", "continuation"))
    parser.add_argument("--shape", choices=SHAPES, default="gpt-neo-125m")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    shape, vocab = SHAPES[asked.shape]
    model = lz.load_model(build_model(shape, vocab, 0), device=asked.device)
    paragraphs, copies = pairs(vocab, asked.pairs, asked.position, asked.target)
    rate, patches = matrix_rate(model.device), 2 * 3 * model.n_layers * model.n_heads
    print(
        f"{model}\n{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s in a matrix product, {patches} patches a pair",
        flush=True,
    )
    reads = {"first_changed": (asked.target - 1, asked.target - 1), "continuation": (PREFIX - 1, LENGTH - 2)}
    for metric, read in reads.items():
        if asked.metric not in (None, metric):
            continue
        options = {"streams": (), "sites": ("q", "k", "v"), "metrics": metric, "null": False, "estimate": False}

        def ours(options=options):
            patch(model, paragraphs, copies, continuation="true", **options)

        mine = seconds(ours, model.device) if metric == "first_changed" else once(ours, model.device)
        floor = len(DIRECTIONS) * operations(model, asked.position, read) * asked.pairs / rate
        beside = ""
        if metric == "first_changed":
            tokens, sample = paragraphs.tokens.to(model.device), 36
            passes = seconds(
                lambda tokens=tokens, sample=sample: one_by_one(model, tokens, asked.position, asked.target, sample),
                model.device,
            )
            passes *= patches * asked.pairs / sample
            beside = f"a pass per patch {passes:7.2f} s, {passes / mine:5.1f} times"
        print(
            f"{metric:14} ours {mine:7.2f} s  floor {floor:7.2f} s, ours {mine / floor:5.2f} times  {beside}",
            flush=True,
        )


if __name__ == "__main__":
    main()
