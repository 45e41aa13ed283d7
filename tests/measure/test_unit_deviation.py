"""Deviations from other texts against scipy and numpy."""

import numpy as np
import pytest
import scipy.stats
import torch

import localize as lz
from localize.measure.unit_deviation import FLOOR, deviation, robust_deviation


@pytest.mark.parametrize("count", [5, 8])
def test_they_are_over_the_standard_deviation_and_the_median_absolute_deviation_with_a_floor(count):
    rng = np.random.default_rng(0)
    own, others = rng.normal(size=(3, 2, 4)), rng.normal(size=(count, 2, 4))
    found = [call(torch.from_numpy(own), torch.from_numpy(others)).numpy() for call in (deviation, robust_deviation)]
    spread, mad = others.std(0, ddof=1), scipy.stats.median_abs_deviation(others, axis=0)
    assert found[0] == pytest.approx((own - others.mean(0)) / (spread + FLOOR * spread.mean()))
    assert found[1] == pytest.approx((own - np.median(others, axis=0)) / (mad + FLOOR * mad.mean()))


def test_a_unit_that_does_the_same_on_all_others_has_a_finite_deviation():
    others = torch.randn(6, 1, 3)
    others[:, 0, 1] = 2.0
    for call in (deviation, robust_deviation):
        assert call(torch.full((1, 1, 3), 2.0), others)[0, 0, 1] == 0
        assert bool(call(torch.ones(1, 1, 3), others).isfinite().all())


def test_without_a_spread_there_is_no_deviation():
    for others, words in (
        (torch.randn(2, 1, 3), "there are 2 other texts; at least 3 have a spread."),
        (torch.ones(5, 1, 3), "the other texts are alike in every unit; there is nothing to compare with."),
    ):
        for call in (deviation, robust_deviation):
            with pytest.raises(lz.LocalizeError) as caught:
                call(torch.randn(2, 1, 3), others)
            assert str(caught.value) == f"localize: {words}"
