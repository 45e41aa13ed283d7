"""More permutations for the tests that so many do not suffice for, and for no others."""

from collections.abc import Callable
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Int

HITS = 10
"""A p-value that rests on so many relabellings as extreme as the observed one is known well enough."""

SMALLEST = 0.02
"""The q-value that tests without any hit must be able to reach."""

MOST_PERMUTATIONS = 2**18
"""Of one test: enough for one true cell in 5,000."""

FASTER = 4
"""Each round comes to so many times the permutations that were made before it."""

AT_ONCE = 2**13
"""Relabellings worked out together."""


def continued(
    p_value: Float[np.ndarray, "cell"],
    exact: Bool[np.ndarray, "cell"],
    permutations: int,
    family: int | None,
    more: Callable[[Int[np.ndarray, "chosen"], np.random.Generator, int], Int[np.ndarray, "chosen"]],
    seed: int,
) -> Float[np.ndarray, "cell"]:
    """p-values by as many permutations as the number of tests asks for.

    One true cell of 128 cannot be found by 2,000 permutations: 128 / 2,001 is above .05. So cells that fewer than 10 relabellings
    were as extreme in are permuted further, until 1 / (permutations + 1) times the family, over the number of cells in which none
    was, is at most .02; a cell that has come to 10 stays as it is. A test that is made alone has the permutations that were asked for.

    Args:
        p_value: (1 + as extreme) / (1 + permutations); nan where nothing is tested.
        exact: Where all relabellings were taken.
        permutations: How many were made.
        family: How many tests are corrected together; None takes the cells given.
        more: Of chosen cells, how many of so many further relabellings are as extreme.
        seed: Of those; every round has draws of its own.

    Source:
        Stopping at so many hits: Besag and Clifford 1991.
    """
    made, family, p_value = permutations, family or len(p_value), p_value.copy()
    tested = ~exact & ~np.isnan(p_value) & (family > 1)
    hits = np.where(tested, np.rint(np.nan_to_num(p_value) * (1 + permutations)) - 1, HITS)
    while len(open_cells := np.flatnonzero(hits < HITS)):
        at_floor = max(int((hits == 0).sum()), 1)
        wanted = min(ceil(family / (SMALLEST * at_floor)), MOST_PERMUTATIONS, FASTER * made)
        if wanted <= made:
            break
        rng = np.random.default_rng([seed, made])
        for begin in range(made, wanted, AT_ONCE):
            hits[open_cells] += more(open_cells, rng, min(AT_ONCE, wanted - begin))
        made = wanted
        p_value[open_cells] = (1 + hits[open_cells]) / (1 + made)
    return p_value
