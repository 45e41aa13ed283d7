"""Names stand beside their points where they meet nothing, and further off where there is no room."""

from itertools import combinations

import numpy as np
import pytest

from localize.plots.spots import LETTER, LINE, REACHES, around, edges, free_spots, met_area, nearest

SIZE = (400.0, 200.0)


def middle(*point):
    return np.array([[float(end) for end in point]])


def boxes(*edges):
    return [np.array(box, dtype=float) for box in edges]


def meets(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_a_name_stands_to_the_right_of_a_point_that_stands_alone():
    ((x, y),) = free_spots(middle(100, 50), [], [6], SIZE)
    assert (x, y) == (100 + 6 * LETTER / 2 + 8, 50)


@pytest.mark.parametrize(
    ("point", "taken", "where"),
    [((395, 50), [], "left"), ((100, 50), [(105, 45, 160, 55)], "above"), ((100, 3), [(105, 0, 200, 10)], "left"),
     ((100, 50), [(0, 0, 400, 48), (105, 48, 400, 52), (0, 48, 95, 52)], "below")],
)  # fmt: skip
def test_it_gives_way_to_edges_and_to_what_stands_there(point, taken, where):
    (spot,) = free_spots(middle(*point), boxes(*taken), [6], SIZE)
    box = edges(spot, 6)
    assert all(not meets(box, other) for other in taken)
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= SIZE[0] and box[3] <= SIZE[1]
    right, down = spot - point
    assert {"left": right < -9, "above": down < -LINE / 2, "below": down > LINE / 2}[where]


def test_names_of_points_at_one_place_do_not_meet():
    points = np.repeat(middle(60, 100), 7, axis=0) + np.arange(7)[:, None] * 0.5
    letters = [9, 7, 24, 12, 3, 12, 10]
    spots = free_spots(points, [around(point, 6) for point in points], letters, SIZE)
    names = [edges(spot, count) for spot, count in zip(spots, letters, strict=True)]
    assert not any(meets(a, b) for a, b in combinations(names, 2))
    assert not any(meets(name, around(point, 6)) for name in names for point in points)


def test_a_name_does_not_stand_on_the_line_to_another():
    bar = boxes((100, 0, 102, 200))  # twenty letters have no room before it
    points = np.array([[60.0, 100.0], [75.0, 96.0]])
    first, second = free_spots(points, bar, [20, 1], SIZE)
    led = nearest(points[0], first, 20)
    assert led[1] == 100 and led[0] > 102
    assert not meets(edges(second, 1), (60, 99.9, led[0], 100.1))
    (alone,) = free_spots(points[1:], bar, [1], SIZE)
    assert meets(edges(alone, 1), (60, 99.9, led[0], 100.1)), "where it would stand without the line"


def test_where_everything_is_taken_it_meets_least():
    point, (half, tall) = middle(200, 100), (3 * LETTER, LINE / 2)
    everything = [(0.0, 0.0, 400.0, 200.0)]
    (spot,) = free_spots(point, boxes(*everything), [6], SIZE)
    assert spot.tolist() == [200 + half + 8, 100], "all alike: the nearest"
    (spot,) = free_spots(point, boxes(*everything, (190, 80, 400, 120)), [6], SIZE)
    assert not meets(edges(spot, 6), (190, 80, 400, 120))
    assert np.abs(spot - point[0]).max() < half + 8 + REACHES[2] and tall == 6


def test_boxes_and_what_they_share_are_plain_geometry():
    assert edges(np.array([10.0, 20.0]), 10).tolist() == [10 - 5 * LETTER, 14, 10 + 5 * LETTER, 26]
    assert around(np.array([10.0, 20.0]), 3).tolist() == [7, 17, 13, 23]
    names = np.array([[0.0, 0, 4, 4], [2, 2, 3, 5], [8, 8, 9, 9]])
    assert met_area(names, boxes((3, 1, 9, 9), (4, 0, 9, 9), (0, 0, 2, 2))).tolist() == [3 + 4, 0, 2]
    assert met_area(names, []).tolist() == [0, 0, 0]
    assert nearest(np.array([0.0, 0.0]), np.array([100.0, 0.0]), 10).tolist() == [100 - 5 * LETTER, 0]
    assert nearest(np.array([100.0, 50.0]), np.array([100.0, 0.0]), 10).tolist() == [100, 6]
