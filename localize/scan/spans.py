"""Windows that overlap and are all recited are one stretch of text: a span, of which one window is kept."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Spans(NamedTuple):
    """Stretches of a corpus that consecutive windows cover without a gap.

    Attributes:
        window: The one that is kept of each: of those with the highest exact match the first.
        start: Where each starts in its document.
        length: Tokens that its windows cover.
        windows: How many these are.
    """

    window: Int[np.ndarray, " span"]
    start: Int[np.ndarray, " span"]
    length: Int[np.ndarray, " span"]
    windows: Int[np.ndarray, " span"]


def spans(
    document: Int[np.ndarray, " window"],
    offset: Int[np.ndarray, " window"],
    exact_match: Int[np.ndarray, " window"],
    length: int,
) -> Spans:
    """The spans of windows, which are in the order of the corpus.

    A window belongs to the span of the one before it if it shares a token of the document with it; two that only touch are two spans.
    The window kept is not chosen by its NLL: that would bias every NLL told, and hang on rounding.

    >>> spans(np.array([0, 0, 0, 4]), np.array([0, 8, 30, 30]), np.array([7, 8, 8, 8]), 10)._asdict()
    {'window': array([1, 2, 3]), 'start': array([ 0, 30, 30]), 'length': array([18, 10, 10]), 'windows': array([2, 1, 1])}

    Args:
        document: Of each window.
        offset: Of its first token in the document.
        exact_match: In tokens.
        length: Of a window, in tokens.
    """
    new = np.ones(len(document), bool)
    new[1:] = (np.diff(document) != 0) | (np.diff(offset) >= length)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(document))[: len(first)] - 1
    number = np.cumsum(new) - 1
    order = np.lexsort((-exact_match, number))  # stable: of equals the first
    return Spans(order[first], offset[first], offset[last] + length - offset[first], last - first + 1)


def overlaps(
    document: Int[np.ndarray, " window"],
    offset: Int[np.ndarray, " window"],
    other_document: Int[np.ndarray, " other"],
    other_offset: Int[np.ndarray, " other"],
    length: int,
) -> Bool[np.ndarray, " window"]:
    """Which windows share a token of the corpus with one of the others, which are in its order.

    >>> overlaps(np.array([0, 0, 1]), np.array([9, 10, 9]), np.array([0]), np.array([0]), 10)
    array([ True, False, False])
    """
    if not len(other_offset):
        return np.zeros(len(offset), bool)
    between = (
        max(int(offset.max(initial=0)), int(other_offset.max())) + length
    )  # documents one after the other, far apart
    ours, theirs = document * between + offset, other_document * between + other_offset
    after = np.searchsorted(theirs, ours)
    near = [theirs[np.clip(place, 0, len(theirs) - 1)] for place in (after - 1, after)]
    return np.any([np.abs(other - ours) < length for other in near], axis=0)


def apart(
    document: Int[np.ndarray, " window"], offset: Int[np.ndarray, " window"], length: int
) -> Int[np.ndarray, " chosen"]:
    """As many windows, in the order of the corpus, as share no token of it: each the first that starts where the last one ended."""
    chosen, last = list[int](), (-1, 0)
    for row, (here, start) in enumerate(zip(document.tolist(), offset.tolist(), strict=True)):
        if here != last[0] or start >= last[1]:
            chosen.append(row)
            last = (here, start + length)
    return np.array(chosen, dtype=np.int64)
