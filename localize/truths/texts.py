"""Which paragraphs are planted, which hold the model where it is meanwhile, and which nothing touches."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.errors import InputError, caller
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

FEWEST_HELD_OUT = 8
FEWEST_BACKGROUND = 8
MOST_HELD_OUT = 48
LEAST_LOSS = 0.5
"""Of the median NLL of texts that are not recited: below it a text is nearly known, though it is not said greedily."""


@dataclass(frozen=True)
class Split:
    """A pool of paragraphs, divided by near-duplicate cluster.

    Attributes:
        planted: To be planted; the model does not know them.
        background: Text that the model keeps its predictions of: other text that it does not recite, and what it recites.
        held_out: Text that it does not know and that no step sees.
    """

    planted: Paragraphs
    background: Paragraphs
    held_out: Paragraphs


def split(model: HookedModel, pool: Paragraphs, texts: int, seed: int) -> Split:
    """Divide a pool; whom the seed chooses to plant does not depend on the pool's order.

    Raises:
        InputError: If too few of its paragraphs are unknown to the model.
    """
    recall = recall_of(model, pool)
    known = recall.exact_match >= pool.continuation_length
    low = not_recited(recall.exact_match, pool.continuation_length)
    new = unknown(recall.exact_match, recall.token_nll.mean(1), pool.continuation_length)
    rng = np.random.default_rng([seed, 21])
    order = np.array(sorted(range(len(pool)), key=lambda row: pool.hashes[row]))
    order = order[rng.permutation(len(order))]
    clusters, seen, usable = np.asarray(pool.clusters), set(), []
    for row in order:
        if new[row] and clusters[row] not in seen:
            usable.append(int(row))
            seen.add(clusters[row])
    needed = texts + FEWEST_HELD_OUT + FEWEST_BACKGROUND
    if len(usable) < needed:
        raise InputError(
            f"{caller()}: {len(usable)} of {len(pool)} paragraphs are in clusters of their own and unknown to {model.name}; "
            f"texts={texts} needs at least {needed}: {texts} to plant, {FEWEST_HELD_OUT} held out, {FEWEST_BACKGROUND} of background."
        )
    planted, rest = usable[:texts], usable[texts:]
    held_out = rest[: min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, len(rest) // 3))]
    taken = set(clusters[[*planted, *held_out]].tolist())
    background = [row for row in order.tolist() if clusters[row] not in taken and (low[row] or known[row])]
    return Split(pool[planted], pool[background], pool[held_out])


def not_recited(exact_match: Int[np.ndarray, " paragraph"], length: int) -> Bool[np.ndarray, " paragraph"]:
    """Which texts a model does not recite: under a fifth of the continuation's tokens right, rounded down, or none.

    Stricter than the group "not_memorized", which holds a fifth too.

    >>> not_recited(np.array([9, 10, 50]), 50)
    array([ True, False, False])
    """
    return exact_match < max(1, length // 5)


def unknown(
    exact_match: Int[np.ndarray, " paragraph"], nll: Float[np.ndarray, " paragraph"], length: int
) -> Bool[np.ndarray, " paragraph"]:
    """Which texts a model does not know: not recited, and of no less than half the median loss of all that are not.

    Exact match ends at the first slip: a text may lack it and need no more than a hint, and such a text is kept in fewer of the
    units that it is planted in.

    Args:
        exact_match: Tokens right before the first slip.
        nll: Mean over the continuation, nats per token.
        length: Of the continuation, tokens.

    >>> unknown(np.array([0, 9, 5, 10]), np.array([2.0, 1.1, 0.3, 2.0]), 50)
    array([ True,  True, False, False])
    """
    low = not_recited(exact_match, length)
    return low & (nll >= LEAST_LOSS * np.median(nll[low])) if low.any() else low
