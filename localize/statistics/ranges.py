"""Where a number can lie at all: what its interval must not leave."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

End = float | Float[np.ndarray, "*cell"]


class Range(NamedTuple):
    """The smallest and the largest value that is possible, in the unit of the values.

    >>> Range(0, 16).minus(Range(0, 16))
    Range(low=-16, high=16)

    Attributes:
        low: -inf where there is none; one number, or one for each cell.
        high: inf where there is none.
    """

    low: End = -np.inf
    high: End = np.inf

    def minus(self, other: "Range") -> "Range":
        """Where the difference of two such numbers can lie."""
        return Range(self.low - other.high, self.high - other.low)


UNBOUNDED = Range()
ZERO_TO_ONE = Range(0, 1)
MINUS_ONE_TO_ONE = Range(-1, 1)
PERCENT = Range(0, 100)


def within(end: Float[np.ndarray, "*cell"], possible: Range) -> Float[np.ndarray, "*cell"]:
    """What lies beyond the range, moved to where it ends; nan stays nan."""
    return np.asarray(np.clip(end, possible.low, possible.high))
