"""Finite sets of random rows, shown again and again: of uniform tokens, or facts, each a key and a value.

Nothing stands between the rows, and their law is known, so that all a model knows of them beyond it is memory. Rows follow from the
recipe's seed, the same in all trainings and, as far as they have as many, in all arms; in which order they are shown from the training's.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from localize.train.recipe import FACTS, Recipe

LISTED = 1 << 20
"""Up to so many different rows all of them are put in a random order; of more they are drawn until enough are different."""
BLOCK = 4096
"""Rows drawn together."""


class Repeated(NamedTuple):
    """The rows of a set, and in which order a training shows them.

    Attributes:
        tokens: Of the set, in the order of their frequency; beyond them rows of the same law that are measured, and not shown.
        held_out: Rows of the same law that are never shown; of facts other keys.
        order: Which row of the set each row of the training is; of a stage that shows what the model itself selects, a stand-in.
        copies: How often each is shown in the first stage; where all are shown alike, in whole rounds of all: the last round, which may
            be cut short, shows some once more.
    """

    tokens: Int[np.ndarray, "row position"]
    held_out: Int[np.ndarray, "held_out position"]
    order: Int[np.ndarray, " shown"]
    copies: Int[np.ndarray, " row"]


def repeated_rows(recipe: Recipe, seed: int) -> Repeated:
    """The rows of a recipe's set, and the order of those that the training of one seed shows."""
    corpus, apart, tokens = recipe.corpus, recipe.planted.held_out, _tokens(recipe)
    orders = [shown_in(recipe, stage, seed, _stand_in(recipe, stage, seed)) for stage in range(len(recipe.trainings))]
    copies = np.bincount(orders[0], minlength=len(tokens) - apart)
    if _law(recipe, 0) is None:
        copies[: corpus.rows] = len(orders[0]) // corpus.rows
    return Repeated(tokens[apart:], tokens[:apart], np.concatenate(orders), copies)


def _tokens(recipe: Recipe) -> Int[np.ndarray, "row position"]:
    """Rows held out, those of the set, and those that are measured beyond them."""
    corpus, facts = recipe.corpus, recipe.corpus.source == FACTS
    count = recipe.planted.held_out + max(corpus.rows, corpus.measured)
    key = recipe.prefix if facts else recipe.training.row_tokens
    tokens = distinct_rows(count, key, corpus.vocab, recipe.training.seed)
    if not facts:
        return tokens
    rng = np.random.default_rng([recipe.training.seed, 14])
    return np.concatenate([tokens, rng.integers(0, corpus.vocab, (count, corpus.value))], axis=1)


def ambiguous_bits(recipe: Recipe) -> float:
    """Bits of a set that nobody can predict who knows it by heart: which of the rows that begin alike a row is.

    >>> from localize.train.recipe import Planting, Training, TrainingCorpus
    >>> recipe = Recipe(corpus=TrainingCorpus("uniform", 2, rows=4), planted=Planting(held_out=0), training=Training(4, 4, 3))
    >>> ambiguous_bits(recipe)  # two rows begin with either token
    4.0
    """
    apart, given = recipe.planted.held_out, recipe.prefix
    begun = _tokens(recipe)[apart : apart + recipe.corpus.rows, :given]
    counts = np.unique(begun, axis=0, return_counts=True)[1]
    return float((counts * np.log2(counts)).sum())


def shown_in(recipe: Recipe, stage: int, seed: int, chosen: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " shown"]:
    """Which row of the set each row of a stage is, of those chosen: evenly, round by round, or as often as they are frequent."""
    size = recipe.trainings[stage].steps * recipe.training.batch
    rng, law = np.random.default_rng([seed, 13, stage]), _law(recipe, stage)
    if law is None:
        rounds = [rng.permutation(chosen) for _ in range(-(-size // len(chosen)))]
        return np.concatenate(rounds)[:size]
    return rng.permutation(np.repeat(chosen, apportioned(law[chosen], size)))


def frequencies(rows: int, exponent: float) -> Float[np.ndarray, " row"]:
    """How frequent each of so many facts is, as shares: the fact of rank r as r^-exponent.

    >>> frequencies(3, 1.0).round(3)
    array([0.545, 0.273, 0.182])
    """
    told = np.arange(1, rows + 1) ** -float(exponent)
    return told / told.sum()


def apportioned(weights: Real[np.ndarray, " row"], size: int) -> Int[np.ndarray, " row"]:
    """So many showings dealt out by weight, in whole numbers: where there are enough one to each, the others by largest remainder.

    >>> apportioned(np.array([4.0, 2.0, 1.0]), 10)
    array([5, 3, 2])
    """
    least = int(size >= len(weights))
    left = size - least * len(weights)
    wanted = left * weights / weights.sum()
    given = np.floor(wanted).astype(np.int64)
    more = np.argsort(given - wanted, kind="stable")[: left - given.sum()]
    given[more] += 1
    return given + least


def distinct_rows(count: int, length: int, vocab: int, seed: int) -> Int[np.ndarray, "row position"]:
    """So many different rows of uniform tokens; fewer are the first of more."""
    rng, different = np.random.default_rng([seed, 15]), vocab**length
    if different <= LISTED:
        number = rng.permutation(different)[:count]
        return np.stack([number // vocab**at % vocab for at in range(length)], axis=1)
    found = np.empty((0, length), np.int64)
    while len(found) < count:
        found = np.concatenate([found, rng.integers(0, vocab, (BLOCK, length))])
        found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
    return found[:count]


def _law(recipe: Recipe, stage: int) -> Float[np.ndarray, " row"] | None:
    """How frequent the rows are shown in a stage; None if all alike."""
    corpus = recipe.corpora[stage]
    return frequencies(corpus.rows, corpus.exponent) if corpus.exponent and not corpus.evenly else None


def _stand_in(recipe: Recipe, stage: int, seed: int) -> Int[np.ndarray, " chosen"]:
    """The rows that a stage shows, as far as that is known before the training: those kept at random are others for each seed."""
    rows, part = recipe.corpus.rows, recipe.stage[stage] if recipe.stage else None
    if part is None or not part.select:
        return np.arange(rows)
    if part.select == "random":
        return np.sort(np.random.default_rng([seed, 16, stage]).permutation(rows)[: part.keep])
    return np.arange(part.keep)
