"""Which paragraphs are near-duplicates of one another: the unit of every split, interval and test."""

import numpy as np
from jaxtyping import Int

NGRAM = 5
THRESHOLD = 0.3
ROWS_AT_ONCE = 4096
"""Paragraphs whose shared n-grams with all others are counted together."""


def near_duplicate_clusters(
    tokens: Int[np.ndarray, "paragraph position"], *, ngram: int = NGRAM, threshold: float = THRESHOLD
) -> Int[np.ndarray, " paragraph"]:
    """Single-linkage clusters of paragraphs that share at least `threshold` of the smaller one's distinct n-grams.

    An inverted index (a sparse paragraph x n-gram matrix) counts what each pair shares; pairs that share nothing are never
    looked at.

    Args:
        tokens: Token ids.
        ngram: Length of the n-grams, in tokens; a shorter paragraph is one n-gram of its own length.
        threshold: Share of distinct n-grams, in (0, 1].

    Returns:
        One cluster number per paragraph, numbered from 0 by first appearance.

    Source:
        Stoehr et al. 2024 leave duplicates in; at this threshold 405 of their 442 memorized paragraphs have one.
    """
    seen: dict[bytes, int] = {}
    inverse = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in tokens])
    _, first = np.unique(inverse, return_index=True)
    component = _linked(tokens[first], min(ngram, tokens.shape[1]), threshold)[inverse]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _linked(
    tokens: Int[np.ndarray, "paragraph position"], ngram: int, threshold: float
) -> Int[np.ndarray, " paragraph"]:
    """The component of each paragraph, all of them different, in the graph of those that share enough."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    count = len(tokens)
    gram = _ngram_numbers(tokens, ngram)
    kinds = int(gram.max()) + 1
    gram = np.sort(gram, axis=1)
    new = np.concatenate([np.ones((count, 1), bool), np.diff(gram, axis=1) != 0], axis=1)
    paragraph, gram = np.nonzero(new)[0], gram[new]  # a paragraph with each of its distinct n-grams
    size = np.bincount(paragraph, minlength=count)
    # An n-gram of one paragraph alone links nothing.
    shared = np.bincount(gram, minlength=kinds)[gram] > 1
    paragraph, gram = paragraph[shared], gram[shared]
    incidence = csr_array((np.ones(len(gram), np.int32), (paragraph, gram)), shape=(count, kinds))
    transposed, label = incidence.T.tocsr(), np.arange(count)
    for start in range(0, count, ROWS_AT_ONCE):
        common = coo_array(incidence[start : start + ROWS_AT_ONCE] @ transposed)
        row, column = common.row + start, common.col
        near = (common.data >= threshold * np.minimum(size[row], size[column])) & (label[row] != label[column])
        if near.any():
            links = csr_array(
                (np.ones(near.sum(), np.int8), (label[row[near]], label[column[near]])), shape=(count, count)
            )
            label = connected_components(links, directed=False)[1][label]
    return label


def _ngram_numbers(tokens: Int[np.ndarray, "paragraph position"], ngram: int) -> Int[np.ndarray, "paragraph start"]:
    """A number for every n-gram, the same for equal ones: digits to the base of the vocabulary, numbered anew before they overflow."""
    from pandas import factorize

    values = int(tokens.max()) - min(0, int(tokens.min())) + 1
    shifted = tokens - min(0, int(tokens.min()))
    starts = tokens.shape[1] - ngram + 1
    number, bound = shifted[:, :starts].astype(np.int64), values
    for place in range(1, ngram):
        if bound * values >= 2**62:
            number = factorize(number.ravel())[0].reshape(number.shape)
            bound = int(number.max()) + 1
        number = number * values + shifted[:, place : place + starts]
        bound *= values
    return factorize(number.ravel())[0].reshape(number.shape)
