"""Share of time that watching adds to training: a few steps and a measurement are timed, and a whole training is reckoned from them.

    python tests/benchmarks/watch.py [RECIPE ...] [--every 100 200] [--steps 40] [--measures recall ...] [--threads 2]

Of each recipe the shape, batch and number of paragraphs; random weights and tokens, on which time does not depend. Plain steps are
timed in one piece, then the watch at the weights that they lead to; the least of some runs each. At every n-th step one measurement is
added, and one before the first: so much of the time of all steps is told, and not measured, as a whole training takes minutes. Without
a recipe all that are shipped, at their own intervals, and the embedded one at some.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measurements import seconds

import localize as lz
from localize.train.loop import build_model, train
from localize.train.reading import read_recipe
from localize.train.recipe import Recipe

DATA = Path(__file__).parents[2] / "data"
LIMIT = 0.1
"""The largest share that is allowed at the intervals of the recipes that are shipped."""


def tell(name: str, recipe: Recipe, options: argparse.Namespace) -> None:
    """Print what a watch takes beside a step, and its share of a training."""
    training, planted = recipe.training, recipe.planted
    torch.set_num_threads(options.threads or training.threads)
    generator = torch.Generator().manual_seed(0)
    model = build_model(recipe.model, recipe.corpus.vocab, training.seed)
    held_out = planted.held_out * len(set(map(repr, recipe.corpora)))
    count = sum(planted.copies.values()) + held_out
    texts = torch.randint(recipe.corpus.vocab, (count, training.row_tokens), generator=generator)
    duplicates = [n for n, many in planted.copies.items() for _ in range(many)] + [0] * held_out
    paragraphs = lz.load_paragraphs(
        texts, prefix_length=training.prefix, continuation_length=training.row_tokens - training.prefix
    )
    paragraphs = replace(paragraphs, duplicates=tuple(duplicates))
    row_paragraph = np.resize(np.arange(-1, count), recipe.steps * training.batch)

    few = replace(training, steps=options.steps)
    rows = torch.randint(recipe.corpus.vocab, (few.steps * few.batch, few.row_tokens), generator=generator)
    of_steps = seconds(lambda: train(model, rows, few), model.device)

    watch = lz.Watch(paragraphs, 1, options.measures, row_paragraph, training.batch)
    watch(model, 0)
    step = iter(range(1, recipe.steps))
    of_watch = seconds(lambda: watch(model, next(step)), model.device, repeat=5)
    asleep = lz.Watch(paragraphs, [0])
    asleep(model, 0)
    of_none = seconds(lambda: [asleep(model, 1) for _ in range(1000)], model.device) / 1000
    step_seconds = of_steps / few.steps
    joining = seconds(watch.signature, model.device)
    print(
        f"{name}: {count} paragraphs, batch {training.batch}, {torch.get_num_threads()} threads; a step of training "
        f"({1000 * step_seconds:.1f} ms) 1, a watch of {', '.join(options.measures)} {of_watch / step_seconds:.1f}, a call at a step "
        f"not asked for "
        f"{of_none / step_seconds:.0e}, the signature of {len(watch.steps)} steps, once, {joining / step_seconds:.1f}"
    )
    for every in options.every or ([recipe.watch.every] if recipe.watch.every else [50, 100, 200]):
        share = (recipe.steps // every + 1) * of_watch / (recipe.steps * step_seconds)
        told = "within" if share <= LIMIT else "BEYOND"
        print(
            f"  every {every} of {recipe.steps} steps: {share:.1%} more than training alone (reckoned); {told} {LIMIT:.0%}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, nargs="*")
    parser.add_argument("--every", type=int, nargs="+", help="the recipe's own if left out")
    parser.add_argument("--steps", type=int, default=40, help="of training that are timed")
    parser.add_argument("--measures", nargs="+", default=["recall"])
    parser.add_argument("--threads", type=int, help="the recipe's own if left out")
    options = parser.parse_args()
    shipped = [DATA / "recipe.toml", *sorted((DATA / "recipes").glob("*.toml"))]
    for path in options.recipes or shipped:
        tell(path.stem, read_recipe(path), options)


if __name__ == "__main__":
    main()
