"""Where names stand that are led to their points by a line where there is no room beside them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from localize.plots.sheet import Px

LETTER, LINE = 5.4, 12
"""Width and height in px of a letter in the smallest size of text."""

REACHES = (0, 8, 18, 30, 44, 60, 78, 98)
"""How much further off a name is tried, in px, when all nearer places are taken."""


def free_spots(
    points: Float[np.ndarray, "point 2"],
    taken: Sequence[Float[np.ndarray, "4"]],
    letters: Sequence[int],
    size: tuple[Px, Px],
) -> Float[np.ndarray, "point 2"]:
    """Where the middle of each point's name stands: as near as it meets nothing there, no name before it and no edge.

    Args:
        points: Px from the left and the top of the panel.
        taken: What stands there: left, top, right and bottom of each box.
        letters: Of each name.
        size: Width and height of the panel in px.

    Returns:
        Px from the left and the top; where everything near is taken, the place that meets least.
    """
    boxes, spots = [np.asarray(box, dtype=float) for box in taken], []
    for point, count in zip(points, letters, strict=True):
        tried = _candidates(point, count)
        names = edges(tried, count)
        outside = (names[:, :2] < 0).any(1) | (names[:, 2:] > size).any(1)
        best = tried[np.argmin(met_area(names, boxes) + 1e6 * outside)]
        spots.append(best)
        # The line to a name is in the way of the names after it too.
        line = np.linspace(point, nearest(point, best, count), 12)
        boxes += [edges(best, count), *(around(step, 1.5) for step in line)]
    return np.array(spots)


def _candidates(point: Float[np.ndarray, "2"], count: int) -> Float[np.ndarray, "candidate 2"]:
    """Places for a name round its point, the nearest first, from the right of it."""
    turns = np.arange(16) * np.pi / 8
    ways = np.stack([np.cos(turns), -np.sin(turns)], axis=1)
    half = np.array([LETTER * count / 2 + 8, LINE / 2 + 6])
    return np.concatenate([point + ways * (half + reach) for reach in REACHES])


def met_area(names: Float[np.ndarray, "name 4"], boxes: list[np.ndarray]) -> Float[np.ndarray, " name"]:
    """How much of each name's box lies over others, in square px."""
    other = np.array(boxes, dtype=float).reshape(-1, 4)
    near = np.maximum(names[:, None, :2], other[:, :2])
    far = np.minimum(names[:, None, 2:], other[:, 2:])
    return (far - near).clip(min=0).prod(-1).sum(1)


def edges(middle: Float[np.ndarray, "*name 2"], count: int) -> Float[np.ndarray, "*name 4"]:
    """The box of a name of so many letters: left, top, right and bottom."""
    half = np.array([LETTER * count / 2, LINE / 2])
    return np.concatenate([middle - half, middle + half], axis=-1)


def around(point: Float[np.ndarray, "2"], reach: Px) -> Float[np.ndarray, "4"]:
    """The box of a marker: left, top, right and bottom."""
    return np.concatenate([point - reach, point + reach])


def nearest(point: Float[np.ndarray, "2"], middle: Float[np.ndarray, "2"], count: int) -> Float[np.ndarray, "2"]:
    """Where the box of a name is nearest to its point."""
    box = edges(middle, count)
    return np.clip(point, box[:2], box[2:])
