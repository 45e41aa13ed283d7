"""Intervals that are not to be trusted are told in figures: bands hatched, bars under a "~", one key for all."""

import numpy as np
import pytest

from localize.plots.groups import Group
from localize.plots.roughness import ROUGH, mark_rough, outline
from localize.plots.sheet import Box, Sheet
from localize.statistics import Interval

GROUP = Group("a", "a", "#112233", "circle", np.array([True]), np.array([0]))


def interval(rough):
    middle = np.arange(float(len(rough)))
    return Interval(middle, middle - 1, middle + 1, rough=np.array(rough))


@pytest.fixture
def panel():
    return Sheet().panel(Box(0, 0, 100, 100), "one", x={}, y={})


def drawn(panel, what):
    return [trace for trace in panel.sheet.figure.data if trace.meta and trace.meta["what"] == what]


def corners(trace):
    there = ~np.isnan(np.array(trace.x, dtype=float))
    return set(np.array(trace.x, dtype=float)[there].tolist())


def test_a_band_is_hatched_on_both_sides_of_a_rough_point_and_plain_elsewhere(panel):
    panel.curve(np.arange(5), interval([False, False, False, True, False]), GROUP)
    plain, hatched = drawn(panel, "interval")
    assert corners(plain) == {0.0, 1.0, 2.0} and corners(hatched) == {2.0, 3.0, 4.0}
    assert plain.fillpattern.shape is None and hatched.fillpattern.shape == "/"


def test_a_band_without_a_rough_point_is_one_plain_band_with_no_key(panel):
    panel.curve(np.arange(3), interval([False] * 3), GROUP)
    (band,) = drawn(panel, "interval")
    assert band.x.tolist() == [0, 1, 2, 2, 1, 0] and band.fillpattern.shape is None
    assert not [trace for trace in panel.sheet.figure.data if trace.name == ROUGH]


def test_a_point_without_an_interval_is_left_out_of_both_bands(panel):
    ends = interval([False, True, False, True])
    ends.low[0] = np.nan
    panel.curve(np.arange(4), ends, GROUP)
    (hatched,) = drawn(panel, "interval")
    assert corners(hatched) == {1.0, 2.0, 3.0}


def test_an_outline_goes_up_one_side_and_back_the_other():
    x, y = outline(np.array([0, 1, 2]), np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), np.array([False, True]))
    assert x.tolist() == [1, 2, 2, 1] and y.tolist() == [2, 3, 6, 5]
    assert outline(np.arange(3), np.zeros(3), np.ones(3), np.zeros(2, dtype=bool))[0].size == 0


def test_rough_estimates_stand_under_a_sign_and_the_key_stands_once(panel):
    three = interval([True, False, True])
    mark_rough(panel, np.arange(3), three.estimate, three, GROUP)
    mark_rough(panel, [7.0], [8.0], interval([True]), upright=True)
    signs = drawn(panel, "rough")
    assert [(trace.x.tolist(), trace.y.tolist(), set(trace.text)) for trace in signs] == [
        ([0, 2], [0.0, 2.0], {"~"}),
        ([7.0], [8.0], {"~"}),
    ]
    assert [trace.textposition for trace in signs] == ["top center", "middle right"]
    assert [trace.name for trace in panel.sheet.figure.data if trace.showlegend] == [ROUGH]


@pytest.mark.parametrize(
    ("rough", "low"), [(None, 0.0), (False, 0.0), (True, np.nan)], ids=["not judged", "not rough", "no interval"]
)
def test_what_is_not_rough_has_no_sign(panel, rough, low):
    ends = Interval(np.ones(1), np.full(1, low), np.ones(1), rough=None if rough is None else np.array([rough]))
    mark_rough(panel, [1.0], [1.0], ends)
    assert not panel.sheet.figure.data
