"""Which paragraphs are planted, which hold the model where it is meanwhile, and which nothing touches."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from localize.errors import InputError, caller
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

FEWEST_HELD_OUT = 8
FEWEST_BACKGROUND = 8
MOST_HELD_OUT = 48


@dataclass(frozen=True)
class Split:
    """A pool of paragraphs, divided by near-duplicate cluster.

    Attributes:
        planted: To be planted; the model does not recite them.
        background: Text that the model keeps its predictions of: other text that it does not recite, and what it recites.
        held_out: Text that it does not recite and that no step sees.
    """

    planted: Paragraphs
    background: Paragraphs
    held_out: Paragraphs


def split(model: HookedModel, pool: Paragraphs, texts: int, seed: int) -> Split:
    """Divide a pool; whom the seed chooses to plant does not depend on the pool's order.

    Raises:
        InputError: If too few of its paragraphs are not recited.
    """
    recall = recall_of(model, pool)
    known = recall.exact_match >= pool.continuation_length
    low = not_recited(recall.exact_match, pool.continuation_length)
    rng = np.random.default_rng([seed, 21])
    order = np.array(sorted(range(len(pool)), key=lambda row: pool.hashes[row]))
    order = order[rng.permutation(len(order))]
    clusters, seen, unknown = np.asarray(pool.clusters), set(), []
    for row in order:
        if low[row] and clusters[row] not in seen:
            unknown.append(int(row))
            seen.add(clusters[row])
    needed = texts + FEWEST_HELD_OUT + FEWEST_BACKGROUND
    if len(unknown) < needed:
        raise InputError(
            f"{caller()}: {len(unknown)} of {len(pool)} paragraphs are in clusters of their own and not recited by {model.name}; "
            f"texts={texts} needs at least {needed}: {texts} to plant, {FEWEST_HELD_OUT} held out, {FEWEST_BACKGROUND} of background."
        )
    planted, rest = unknown[:texts], unknown[texts:]
    held_out = rest[: min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, len(rest) // 3))]
    taken = set(clusters[[*planted, *held_out]].tolist())
    background = [row for row in order.tolist() if clusters[row] not in taken and (low[row] or known[row])]
    return Split(pool[planted], pool[background], pool[held_out])


def not_recited(exact_match: Int[np.ndarray, " paragraph"], length: int) -> Bool[np.ndarray, " paragraph"]:
    """Which texts a model does not recite: under a fifth of the continuation's tokens right, rounded down, or none.

    Stricter than the group "not_memorized", which holds a fifth too: what a truth leans on should be unknown beyond doubt.

    >>> not_recited(np.array([9, 10, 50]), 50)
    array([ True, False, False])
    """
    return exact_match < max(1, length // 5)
