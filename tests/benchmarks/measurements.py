"""Time of each measurement as a ratio to an obvious implementation run beside it, and to the floating-point work it must do.

    python tests/benchmarks/measurements.py [--shape embedded | gpt-neo-125m] [--paragraphs 16] [--only heads] [--device cuda]

Random weights and tokens: time does not depend on them. Rates are of this machine at this moment: the matrix rate printed first is
measured in the same run. Each line's seconds are the least of three runs. `--only decoding` takes minutes, and is left out otherwise.
"""

import argparse
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.measure.perturb_prefix import perturbed_recall
from localize.measure.substitutes import uniform_replacements
from localize.models.parameters import block_weight_count, weight_view
from localize.train.loop import build_model
from localize.train.recipe import Shape

PREFIX = CONTINUATION = 50
LENGTH = PREFIX + CONTINUATION
SHAPES = {
    "embedded": (Shape(), 2048),
    "gpt-neo-125m": (Shape(layers=12, heads=12, d_model=768, context=2048, window=256), 50257),
}


def seconds(work, device, repeat=3, *, warm=True):
    """The least time of some runs, after one that does not count."""
    if warm:
        work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate(device):
    """Floating-point operations a second of a large float32 matrix product."""
    size = 3072 if device.type == "cpu" else 8192
    a, out = torch.randn(size, size, device=device), torch.empty(size, size, device=device)
    return 2 * size**3 / seconds(lambda: torch.mm(a, a, out=out), device, repeat=8)


def plain_batch(model, tokens):
    """One forward and backward pass of transformers' own model over all rows, weight gradients summed: nothing per paragraph."""
    model.hf.zero_grad()
    logits = model.hf(tokens[:, :-1], logits_to_keep=CONTINUATION).logits
    cross_entropy(logits.flatten(0, 1), tokens[:, PREFIX:].flatten()).backward()
    model.hf.zero_grad()


def gradient_loop(model, tokens):
    """One forward and backward pass per paragraph, statistics from `.grad`, per component and head."""
    for row in tokens:
        model.hf.zero_grad()
        logits = model.hf(row[None, :-1], logits_to_keep=CONTINUATION).logits
        cross_entropy(logits[0], row[PREFIX:]).backward()
        for layer in range(model.n_layers):
            for component in COMPONENTS:
                heads = range(model.n_heads) if component.startswith("W_") and component in COMPONENTS[:4] else (None,)
                for head in heads:
                    gradient = weight_view(model, layer, component, head, grad=True)
                    gradient.abs().max(), gradient.norm()
    model.hf.zero_grad()


@torch.no_grad()
def eager_forward(model, tokens, rows=32):
    """Transformers' own forward pass with eager attention that returns the patterns, some rows at a time."""
    for start in range(0, len(tokens), rows):
        model.hf(tokens[start : start + rows, :-1], output_attentions=True)


def perturbed_texts(model, paragraphs, tokens):
    """The texts with one prefix token replaced, one position after the other."""
    replacements = torch.from_numpy(uniform_replacements(paragraphs, np.arange(model.vocab_size), 1, 0))[:, 0].to(
        tokens.device
    )
    for position in range(PREFIX):
        changed = tokens.clone()
        changed[:, position] = replacements[:, position]
        yield changed


@torch.no_grad()
def perturbation_loop(model, paragraphs, tokens):
    """One whole forward pass per position, without a cache, logits on the continuation only."""
    for changed in perturbed_texts(model, paragraphs, tokens):
        logits = model.forward(changed[:, :-1], read=slice(PREFIX - 1, None))
        (logits.argmax(-1) == tokens[:, PREFIX:]).cumprod(-1).sum(-1)
        cross_entropy(logits.transpose(1, 2), tokens[:, PREFIX:], reduction="none").mean(1)


@torch.no_grad()
def decoding_loop(model, paragraphs, tokens):
    """As the paper's code does: transformers' `generate` per position for the exact match, then a second pass for the NLL."""
    options = {"max_new_tokens": CONTINUATION, "min_new_tokens": CONTINUATION, "do_sample": False, "pad_token_id": 0}
    for changed in perturbed_texts(model, paragraphs, tokens):
        prefix = changed[:, :PREFIX]
        said = model.hf.generate(prefix, attention_mask=torch.ones_like(prefix), **options)
        (said[:, PREFIX:] == tokens[:, PREFIX:]).cumprod(-1).sum(-1)
        logits = model.hf(changed).logits[:, PREFIX - 1 : -1]
        cross_entropy(logits.transpose(1, 2), tokens[:, PREFIX:], reduction="none").mean(1)


@torch.no_grad()
def ablation_loop(model, tokens):
    """One whole forward pass per head, its output set to zero by a hook."""
    for layer in range(model.n_layers):
        for head in range(model.n_heads):

            def without(z, _, head=head):
                z = z.clone()
                z[:, :, head] = 0
                return z

            hooks = {f"blocks.{layer}.attn.hook_z": without}
            logits = model.forward(tokens[:, :-1], hooks=hooks, read=slice(PREFIX - 1, None))
            cross_entropy(logits.transpose(1, 2), tokens[:, PREFIX:], reduction="none").mean(1)


def comparisons(model, paragraphs, vocab):
    """Name, ours, the words and the work of what it is held against, and the operations that must be done."""
    tokens = paragraphs.tokens.to(model.device)
    count, weights = len(tokens), block_weight_count(model)
    unembedding = vocab * model.d_model * CONTINUATION
    forward = 2 * (weights * (LENGTH - 1) + unembedding) * count
    by_weights = 2 * weights * (LENGTH - 1) * count
    loop, plain = (
        ("a pass per paragraph", lambda: gradient_loop(model, tokens)),
        (
            "a plain batched pass",
            lambda: plain_batch(model, tokens),
        ),
    )

    def ours(**options):
        return lambda: lz.gradients(model, paragraphs, sets=False, **options)

    yield "gradients", "gradients, norms", ours(statistics=("norm",)), plain, 2 * forward
    yield "gradients", "gradients, max and norm", ours(), plain, 2 * forward + by_weights
    yield "gradients", "gradients, max and norm", ours(), loop, 2 * forward + by_weights
    eager = ("an eager forward pass", lambda: eager_forward(model, tokens))
    yield (
        "heads",
        "heads' scores and nulls",
        lambda: lz.rare_token_heads(model, paragraphs, untrained=False),
        eager,
        forward,
    )
    held = paragraphs.with_own_continuation(model)
    own = held.tokens.to(model.device)
    positions = sum(2 * (weights * (LENGTH - 1 - i) + unembedding) * count for i in range(PREFIX))
    replacements = torch.from_numpy(uniform_replacements(paragraphs, np.arange(vocab), 1, 0))[:, 0].to(model.device)
    row = torch.arange(count, device=model.device)
    repeated = ("a pass per position", lambda: perturbation_loop(model, paragraphs, own))
    yield (
        "perturbation",
        "perturbation, EM and NLL",
        lambda: perturbed_recall(model, own, replacements, paragraph=row),
        repeated,
        positions,
    )
    # Before the change two passes, of the true and of the own continuation, and one for what the copies say.
    called = lambda: lz.perturb_prefix(model, held, draws=1)  # noqa: E731
    yield "perturbation", "perturbation, whole call", called, repeated, positions + 3 * forward
    decoded = ("generate, and a pass", lambda: decoding_loop(model, paragraphs, own))
    yield "decoding", "perturbation, whole call", called, decoded, positions + 3 * forward
    above = sum((model.n_layers - layer) / model.n_layers * weights for layer in range(model.n_layers))
    heads = 2 * count * model.n_heads * (above * (LENGTH - 1) + model.n_layers * unembedding)
    removed = ("a pass per head", lambda: ablation_loop(model, own))
    yield "ablation", "ablation of every head", lambda: lz.ablate(model, held, to="zero"), removed, heads


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="embedded")
    parser.add_argument("--paragraphs", type=int, default=16)
    parser.add_argument(
        "--only", choices=("gradients", "heads", "perturbation", "decoding", "ablation"), help="decoding takes minutes"
    )
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    shape, vocab = SHAPES[asked.shape]
    model = lz.load_model(build_model(shape, vocab, 0), device=asked.device)
    device = model.device
    generator = torch.Generator().manual_seed(0)
    paragraphs = lz.load_paragraphs(torch.randint(0, vocab, (asked.paragraphs, LENGTH), generator=generator))
    rate = matrix_rate(device)
    print(
        f"{model}\n{asked.paragraphs} paragraphs, {torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s in a matrix product\n"
    )
    print(f"{'measurement':26}{'ours (s)':>9}  {'beside it':24}{'(s)':>8}{'ratio':>8}{'floor (s)':>11}{'share':>8}")
    for room, name, ours, (words, obvious), work in comparisons(model, paragraphs, vocab):
        if asked.only != room and (asked.only is not None or room == "decoding"):
            continue
        mine = seconds(ours, device)
        theirs = seconds(obvious, device, repeat=1, warm=False) if room == "decoding" else seconds(obvious, device)
        floor = work / rate
        print(
            f"{name:26}{mine:9.2f}  {words:24}{theirs:8.2f}{mine / theirs:8.2f}{floor:11.2f}{floor / mine:8.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
