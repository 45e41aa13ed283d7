"""Which found windows say little about memory: text that repeats itself, few distinct tokens, keywords."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

MIN_DISTINCT = 0.3
"""Share of distinct tokens below which a window is set aside."""

MAX_REPEATED = 0.8
"""Share of tokens equal to the one a period before, above which a window is set aside."""

LONGEST_PERIOD = 25


def distinct_share(tokens: Int[np.ndarray, "window position"]) -> Float[np.ndarray, " window"]:
    """Distinct tokens per token, in (0, 1]."""
    ordered = np.sort(tokens, axis=1)
    return (1 + (np.diff(ordered, axis=1) != 0).sum(1)) / tokens.shape[1]


def repeated_share(
    tokens: Int[np.ndarray, "window position"], longest: int = LONGEST_PERIOD
) -> Float[np.ndarray, " window"]:
    """Share of tokens that equal the one a period before, at the period from 1 to `longest` where it is largest, in [0, 1].

    A list with a changing number in each line repeats itself in all but that number.
    """
    periods = range(1, min(longest, tokens.shape[1] - 1) + 1)
    shares = [(tokens[:, period:] == tokens[:, :-period]).mean(1) for period in periods]
    return np.max(shares, axis=0) if shares else np.zeros(len(tokens))


def reasons(
    tokens: Int[np.ndarray, "window position"],
    texts: Sequence[str] | None,
    *,
    min_distinct: float = MIN_DISTINCT,
    max_repeated: float = MAX_REPEATED,
    keywords: Sequence[str] = (),
) -> list[str]:
    """Why each window is set aside, "" where it is not.

    Args:
        tokens: Token ids.
        texts: The windows as text, where keywords are looked for, without regard to case.
        min_distinct: Least share of distinct tokens.
        max_repeated: Greatest share of repeated tokens.
        keywords: Words that no window may hold.
    """
    distinct, repeated = distinct_share(tokens), repeated_share(tokens)
    told = []
    for row in range(len(tokens)):
        found = []
        if repeated[row] > max_repeated:
            found.append(f"repeats itself ({repeated[row]:.0%})")
        if distinct[row] < min_distinct:
            found.append(f"few distinct tokens ({distinct[row]:.0%})")
        held = [word for word in keywords if texts is not None and word.casefold() in texts[row].casefold()]
        found += [f"holds {word!r}" for word in held]
        told.append("; ".join(found))
    return told
