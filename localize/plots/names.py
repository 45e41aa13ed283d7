"""Where the names of points stand, so that they cover nothing."""

import numpy as np
from jaxtyping import Float, Int

PLACES = {
    "middle right": (1, 0), "middle left": (-1, 0), "top center": (0, -1), "bottom center": (0, 1),
    "top right": (1, -1), "top left": (-1, -1), "bottom right": (1, 1), "bottom left": (-1, 1),
}  # fmt: skip
"""Where a name may stand, and in which direction that is from its point, in px rightwards and downwards."""


def free_places(
    points: Float[np.ndarray, "point 2"],
    bars: list[tuple[float, float, float, float]],
    named: Int[np.ndarray, " name"],
    names: list[str],
    size: tuple[int, int],
) -> list[str]:
    """For each named point the first of `PLACES` where its name meets no point, bar, name before it or edge.

    Args:
        points: Of all points, px from the left and the top of the panel.
        bars: Left, top, right and bottom of what else stands there.
        named: Which of them have a name.
        names: The names.
        size: Width and height of the panel in px.

    Returns:
        One of `PLACES` each; where none is free, the one that meets least.
    """
    taken = [*((x - 4, y - 4, x + 4, y + 4) for x, y in points), *bars]
    places = []
    for index, name in zip(named, names, strict=True):
        x, y = points[index]
        half = 3.1 * len(name), 6.0
        met = {}
        for place, (right, down) in PLACES.items():
            middle = x + right * (half[0] + 6), y + down * (half[1] + (6 if right == 0 else 4))
            label = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
            outside = label[0] < 0 or label[1] < 0 or label[2] > size[0] or label[3] > size[1]
            met[place] = (sum(_overlap(label, other) for other in taken) + 1e6 * outside, label)
        best = min(met, key=lambda place: met[place][0])
        places.append(best)
        taken.append(met[best][1])
    return places


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes (left, top, right, bottom) share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
