"""Time of every localizer that scores units: beside a plain forward and backward pass, and beside the forward passes that it counts.

    python tests/benchmarks/localizers.py [--shape gpt-neo-125m | embedded] [--paragraphs 4] [--all] [--device cuda]

Random weights and tokens, as many other texts as paragraphs. Plain passes are transformers' own model with autograd, its logits at the
continuation: with frozen parameters, gradients by the activations alone, and with gradients by the weights too. Seconds are the least of
some runs, or of one where a localizer takes many passes; those are run with `--all`.
"""

import argparse
import time

import torch
from measurements import CONTINUATION, LENGTH, PREFIX, SHAPES, seconds

import localize as lz
from localize.train.loop import build_model

FEW_PASSES = 20
"""A localizer that counts more of them is timed once."""

MANY = {
    "hard_concrete", "slimming", "zero_out", "mean_ablation", "mean_ablation_mad", "two_stage", "integrated_gradients",
    "integrated_gradients_ratio",
}  # fmt: skip


def plain(model, tokens, weights):
    """Forward and backward pass of the continuations' mean NLL."""

    def run():
        model.hf.requires_grad_(weights)
        model.hf.zero_grad()
        embedded = model.hf.transformer.wte(tokens[:, :-1]).detach().requires_grad_()
        logits = model.hf(inputs_embeds=embedded, logits_to_keep=CONTINUATION, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, PREFIX:].flatten()).backward()

    return run


@torch.no_grad()
def forward(model, tokens):
    """Forward pass, with the logits of the continuations."""
    model.hf(tokens[:, :-1], logits_to_keep=CONTINUATION, use_cache=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt-neo-125m")
    parser.add_argument("--paragraphs", type=int, default=4)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    shape, vocab = SHAPES[asked.shape]
    model = lz.load_model(build_model(shape, vocab, 0), device=asked.device)
    rows = torch.randint(0, vocab, (2 * asked.paragraphs, LENGTH), generator=torch.Generator().manual_seed(0))
    texts = lz.load_paragraphs(rows)
    paragraphs, others = texts[: asked.paragraphs], texts[asked.paragraphs :]
    tokens = paragraphs.tokens.to(model.device)
    once = seconds(lambda: forward(model, tokens), model.device)
    frozen, whole = (seconds(plain(model, tokens, weights), model.device) for weights in (False, True))
    print(
        f"{model}; {asked.paragraphs} paragraphs; {torch.get_num_threads()} threads\nforward {once:.2f} s, forward and backward with "
        f"frozen parameters {frozen:.2f} s, with gradients by the weights {whole:.2f} s"
    )
    model.hf.zero_grad()
    for name in lz.localizers.names():
        if name in MANY and not asked.all:
            continue
        localizer = lz.localizers.get(name)
        start = time.perf_counter()
        found = localizer(model, paragraphs, others)
        taken = time.perf_counter() - start
        if found.cost <= FEW_PASSES:
            taken = seconds(lambda localizer=localizer: localizer(model, paragraphs, others), model.device)
        print(
            f"{name:30} {taken:8.2f} s, {taken / frozen:7.2f} frozen passes, {taken / whole:7.2f} with weights', "
            f"{taken / once:8.1f} forward passes; counted {found.cost:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
