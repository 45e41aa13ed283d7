"""Which paragraphs a page shows where there are too many for it."""

import numpy as np
from jaxtyping import Int, Shaped

from localize.axes import ordered_groups


def sampled(group: Shaped[np.ndarray, " paragraph"], most: int, seed: int) -> Int[np.ndarray, " chosen"]:
    """Rows to show, in their order: of every group as many as of the others, or all it has; what is left goes to the larger ones.

    Where not even one of each group fits, those of recall come first, the memorized before all.

    Args:
        group: The group of each paragraph.
        most: How many to show at most.
        seed: Of the draw inside each group.
    """
    if len(group) <= most:
        return np.arange(len(group))
    names = ordered_groups(str(name) for name in group)
    sizes = np.array([(group == name).sum() for name in names])
    shares = even_shares(sizes, most)
    chosen = [
        np.random.default_rng([seed, number]).permutation(np.flatnonzero(group == name))[:share]
        for number, (name, share) in enumerate(zip(names, shares, strict=True))
    ]
    return np.sort(np.concatenate(chosen))


def even_shares(sizes: Int[np.ndarray, " group"], total: int) -> Int[np.ndarray, " group"]:
    """`total` dealt out one by one in turn, to whoever has not got all; at most what there is.

    >>> even_shares(np.array([100, 3, 50]), 20).tolist()
    [9, 3, 8]
    """
    shares, left = np.zeros_like(sizes), min(total, int(sizes.sum()))
    while left:
        hungry = np.flatnonzero(shares < sizes)
        each = min(left // len(hungry), int((sizes - shares)[hungry].min()))
        if each:
            shares[hungry] += each
            left -= each * len(hungry)
        else:
            shares[hungry[:left]] += 1
            left = 0
    return shares
