"""Which items have the highest scores: one order, of equals the first one first."""

import numpy as np
from jaxtyping import Float, Int


def ranked(scores: Float[np.ndarray, "*row item"]) -> Int[np.ndarray, "*row item"]:
    """Each row's items from the highest score down; of equals the first one first, and nan last.

    >>> ranked(np.array([1.0, 3.0, np.nan, 3.0]))
    array([1, 3, 0, 2])
    """
    return np.argsort(-scores, axis=-1, kind="stable")


def ranks(scores: Float[np.ndarray, "*row layer unit"]) -> Int[np.ndarray, "*row layer unit"]:
    """The place of each unit in the order of all units of its row, 0 for the first: the best k are those below k.

    >>> ranks(np.array([[1.0, 3.0], [3.0, 2.0]]))
    array([[3, 0],
           [1, 2]])
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.argsort(ranked(flat), axis=-1).reshape(scores.shape)
