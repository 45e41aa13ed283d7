"""What following the loss change costs: a call after a step, beside a forward and backward pass of the same rows, and a training step.

    python tests/benchmarks/loss_change.py [RECIPE ...] [--steps 20] [--threads 2] [--device cuda]

Of each recipe the shape, batch and number of paragraphs; random weights and tokens, on which time does not depend. The pass beside it is
the training's own, of whole rows, as many at a time as a step has; the least of some runs each. Without a recipe all that are shipped.
"""

import argparse
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from measurements import seconds
from torch.nn.functional import cross_entropy

import localize as lz
from localize.train.loop import build_model, train
from localize.train.reading import read_recipe
from localize.train.recipe import Recipe

DATA = Path(__file__).parents[2] / "data"
LIMIT = 1.2
"""The largest multiple of the pass beside it that is allowed."""


def tell(name: str, recipe: Recipe, options: argparse.Namespace) -> None:
    """Print what a call takes."""
    training, planted, device = recipe.training, recipe.planted, torch.device(options.device)
    torch.set_num_threads(options.threads or training.threads)
    generator = torch.Generator().manual_seed(0)
    model = build_model(recipe.model, recipe.corpus.vocab, training.seed)
    model.hf.to(device)
    copies = [n for n, many in planted.copies.items() for _ in range(many)]
    held_out = planted.held_out * len(set(map(repr, recipe.corpora)))
    texts = torch.randint(recipe.corpus.vocab, (len(copies) + held_out, training.row_tokens), generator=generator)
    paragraphs = lz.load_paragraphs(
        texts, prefix_length=training.prefix, continuation_length=training.row_tokens - training.prefix
    )
    paragraphs = replace(paragraphs, duplicates=(*copies, *[0] * held_out))

    few = replace(training, steps=options.steps)
    rows = torch.randint(recipe.corpus.vocab, (few.steps * few.batch, few.row_tokens), generator=generator)
    step_seconds = seconds(lambda: train(model, rows, few), device) / few.steps
    tokens = texts.to(device)

    def passes() -> None:
        """The training's forward and backward pass of the same rows."""
        model.hf.zero_grad()
        for at in range(0, len(tokens), training.batch):
            of_step = tokens[at : at + training.batch]
            logits = model.forward(of_step[:, :-1])
            cross_entropy(logits.flatten(0, 1), of_step[:, 1:].flatten()).backward()

    change, step = lz.LossChange(paragraphs, batch_size=options.batch_size or training.batch), count()
    change(model, next(step))
    of_change = seconds(lambda: change(model, next(step)), device, repeat=3)
    of_passes = seconds(passes, device, repeat=3)
    told = "within" if of_change <= LIMIT * of_passes else "BEYOND"
    print(
        f"{name}: {len(paragraphs)} paragraphs, batch {training.batch}, {torch.get_num_threads()} threads: a call "
        f"{1000 * of_change:.1f} ms, {of_change / of_passes:.2f} of a pass of the same rows ({told} {LIMIT}), "
        f"{of_change / step_seconds:.1f} of a training step ({len(paragraphs) / training.batch:.1f} by rows)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, nargs="*")
    parser.add_argument("--steps", type=int, default=20, help="of training that are timed")
    parser.add_argument("--threads", type=int, help="the recipe's own if left out")
    parser.add_argument("--batch-size", type=int, help="paragraphs a pass; the recipe's batch if left out")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    shipped = [DATA / "recipe.toml", *sorted((DATA / "recipes").glob("*.toml"))]
    for path in options.recipes or shipped:
        tell(path.stem, read_recipe(path), options)


if __name__ == "__main__":
    main()
