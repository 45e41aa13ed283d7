"""How a continuation differs from the one wanted, beyond its exact match: that ends at the first wrong token."""

import numpy as np
from jaxtyping import Int
from rapidfuzz.distance import Levenshtein


def tokens_wrong(
    said: Int[np.ndarray, "paragraph continuation_position"], wanted: Int[np.ndarray, "paragraph continuation_position"]
) -> Int[np.ndarray, " paragraph"]:
    """Tokens that differ from the one wanted at the same position, after the first of them too.

    >>> tokens_wrong(np.array([[5, 6, 7, 8]]), np.array([[5, 7, 8, 8]]))
    array([2])

    Args:
        said: Token ids of the continuations to judge.
        wanted: Token ids of what each is held against.

    Returns:
        In tokens, between 0 and their number.
    """
    return (said != wanted).sum(1)


def edit_distance(
    said: Int[np.ndarray, "paragraph continuation_position"], wanted: Int[np.ndarray, "paragraph continuation_position"]
) -> Int[np.ndarray, " paragraph"]:
    """Fewest tokens to insert, delete or replace that turn the one continuation into the other.

    Text that goes on as wanted after a token too many counts as nearly right, which `tokens_wrong` does not see.

    >>> edit_distance(np.array([[9, 5, 6, 7, 8]]), np.array([[5, 6, 7, 8, 4]]))
    array([2])

    Args:
        said: Token ids of the continuations to judge.
        wanted: Token ids of what each is held against.

    Returns:
        In tokens, between 0 and `tokens_wrong`.

    Source:
        Levenshtein 1966, over tokens.
    """
    pairs = zip(said.tolist(), wanted.tolist(), strict=True)
    return np.array([Levenshtein.distance(*pair) for pair in pairs], dtype=np.int64)


def longest_run(
    said: Int[np.ndarray, "paragraph continuation_position"], wanted: Int[np.ndarray, "paragraph continuation_position"]
) -> Int[np.ndarray, " paragraph"]:
    """Longest run of consecutive tokens that stands anywhere in the continuation wanted: how much is still recited.

    >>> longest_run(np.array([[9, 5, 6, 7, 8]]), np.array([[5, 6, 7, 4, 8]]))
    array([3])

    Args:
        said: Token ids of the continuations to judge.
        wanted: Token ids of what each is held against.

    Returns:
        In tokens, between 0 and their number.
    """
    longest = np.zeros(len(said), dtype=np.int64)
    # Of the run that ends at one token of `said` and each of `wanted`; behind a 0, where a run of the next token may begin.
    ends = np.zeros((len(wanted), wanted.shape[1] + 1), dtype=np.int64)
    for token in said.T:
        ends[:, 1:] = np.where(token[:, None] == wanted, ends[:, :-1] + 1, 0)
        np.maximum(longest, ends.max(1), out=longest)
    return longest
