"""Time of an edit's step: the step on chosen weights beside the passes it needs, and both beside a plain fine-tuning step.

    python tests/benchmarks/editing.py [--shape embedded | gpt-neo-125m] [--paragraphs 16] [--device cuda]

Random weights and tokens; so many paragraphs to forget and as many to keep. The plain step is transformers' own model with autograd
and AdamW over all the blocks' components, gradients outside the mask zeroed, and the weights outside the mask put back. Seconds are the
least of some runs. Each is told beside the floating-point work that must be done: of both sets the forward pass, the backward pass
and the gradients by the weights, and the logits of the continuations and their gradients, at the matrix rate measured in the same run.
"""

import argparse
import time

import torch
from measurements import CONTINUATION, LENGTH, PREFIX, SHAPES, matrix_rate, seconds
from torch.nn.functional import cross_entropy, kl_div

import localize as lz
from localize.axes import COMPONENTS
from localize.edit.descent import ChosenWeights
from localize.edit.objectives import divergence, nll
from localize.edit.unlearn import KEEP
from localize.measure.set_gradients import set_gradients
from localize.models.parameters import block_weight_count, linear_modules, weight_view
from localize.train.loop import build_model


def passes(model, terms):
    """The gradient matrices of both terms, as an edit forms them."""
    return [
        set_gradients(
            model,
            term.paragraphs,
            torch.zeros(len(term.paragraphs), dtype=torch.int64).numpy(),
            show=False,
            loss=lambda part, term=term: term.loss(torch.arange(len(term.paragraphs)).numpy()[part]),
        ).by_set[0]
        for term in terms
    ]


def step(chosen, values, optimizer, gradients):
    """What an edit does with them: the mask's entries gathered, AdamW, the weights written."""
    first, second = (chosen.of(matrices) for matrices in gradients)
    values.grad = first.mul_(-0.1).add_(second)
    optimizer.step()
    with torch.no_grad():
        chosen.write(values)


def plain_step(model, forget, keep, reference, mask):
    """Autograd, zeroed gradients, AdamW on whole matrices, and everything outside the mask put back."""
    modules = {linear_modules(block, model.family)[name][0] for block in model.blocks for name in COMPONENTS}
    weights = [module.weight for module in modules]
    model.hf.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    outside = {cell: ~mask.matrix(*cell).to(model.device) for cell in mask.shapes}
    before = {cell: model.weight(*cell).clone() for cell in mask.shapes}
    optimizer = torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.0)

    def one():
        optimizer.zero_grad()
        logits = model.hf(forget[:, :-1], logits_to_keep=CONTINUATION).logits
        loss = -0.1 * cross_entropy(logits.flatten(0, 1), forget[:, PREFIX:].flatten())
        loss.backward()
        logs = model.hf(keep[:, :-1], logits_to_keep=CONTINUATION).logits.log_softmax(-1)
        kl_div(logs.flatten(0, 1), reference.flatten(0, 1), reduction="batchmean", log_target=True).backward()
        for cell, matrix in outside.items():
            weight_view(model, *cell, grad=True)[matrix] = 0
        optimizer.step()
        for cell, matrix in outside.items():
            model.weight(*cell)[matrix] = before[cell][matrix]

    return one


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt-neo-125m")
    parser.add_argument("--paragraphs", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    shape, vocab = SHAPES[options.shape]
    model, device = build_model(shape, vocab, seed=0), torch.device(options.device)
    model.hf.to(device)
    rows = torch.randint(0, vocab, (2 * options.paragraphs, LENGTH), generator=torch.Generator().manual_seed(0))
    paragraphs = lz.load_paragraphs(rows)
    forget, keep = paragraphs[: options.paragraphs], paragraphs[options.paragraphs :]
    rate = matrix_rate(device)
    tokens = 2 * options.paragraphs * (LENGTH - 1)
    of_logits = 2 * options.paragraphs * CONTINUATION * vocab * model.d_model
    floor = (6 * block_weight_count(model) * tokens + (4 + 2 / 2) * of_logits) / rate
    print(
        f"{model!r}; {options.paragraphs} + {options.paragraphs} paragraphs; {rate / 1e9:.0f} GFLOP/s in a matrix product"
    )
    terms = [nll("forget", forget, -0.1), divergence(model, KEEP, keep, 1.0, 16)]
    of_passes = seconds(lambda: passes(model, terms), device)
    print(f"forward and backward passes of both sets: {of_passes:.2f} s (floor {floor:.2f} s, {floor / of_passes:.0%})")
    gradients = passes(model, terms)
    for fraction in (0.001, 0.01, 1.0):
        start = time.perf_counter()
        mask = lz.top_weights(model, forget, fraction) if fraction < 1 else lz.choose_weights(model)
        selection = time.perf_counter() - start
        chosen = ChosenWeights(model, mask)
        values = chosen.read().requires_grad_()
        optimizer = torch.optim.AdamW([values], lr=1e-5, weight_decay=0.0)
        of_step = seconds(lambda c=chosen, v=values, o=optimizer: step(c, v, o, gradients), device, repeat=5)
        chosen.write(torch.cat(list(chosen.before.values())))
        print(
            f"{fraction:.1%} of the weights: step {of_step:.3f} s, {of_step / of_passes:.3f} of the passes; selection {selection:.1f} s"
        )
        if fraction == 0.01:
            plain, of_one_percent = mask, of_step
    with torch.no_grad():
        reference = model.hf(keep.tokens[:, :-1].to(device), logits_to_keep=CONTINUATION).logits.log_softmax(-1)
    one = plain_step(model, forget.tokens.to(device), keep.tokens.to(device), reference, plain)
    of_plain = seconds(one, device)
    print(
        f"a plain fine-tuning step masked to 1 %: {of_plain:.2f} s; ours is {(of_passes + of_one_percent) / of_plain:.2f} of it"
    )


if __name__ == "__main__":
    main()
