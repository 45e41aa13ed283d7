"""Parts of a whole are held against the typical part, which no part that changed can move."""

import numpy as np
import pytest

from localize.statistics.composition import OF_SMALLEST, REACH, log_parts, relative_logs, typical_weights


def located(values):
    """Tukey's biweight location by a search over the sum that it minimizes from the median downhill: slow, and another way."""
    centre, reach = np.median(values), REACH * np.median(np.abs(values - np.median(values)))

    def loss(at):
        near = np.clip(1 - ((values - at) / reach) ** 2, 0, None)
        return (1 - near**3).sum()

    step = reach / 8
    while step > 1e-13:
        best = min((centre, centre - step, centre + step), key=loss)
        step, centre = (step / 2, centre) if best == centre else (step, best)
    return centre


@pytest.mark.parametrize("seed", range(5))
def test_the_typical_difference_is_tukeys_biweight_location(seed):
    values = np.random.default_rng(seed).standard_t(2, 24)
    weights = typical_weights(values)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights @ values == pytest.approx(located(values), abs=1e-5)


def test_outliers_have_no_weight_up_to_well_over_a_third_of_the_cells_and_all_alike():
    alike = np.random.default_rng(0).normal(0, 0.01, 15)
    weights = typical_weights(np.concatenate([alike, np.full(9, 1.0)]))
    assert (weights[15:] == 0).all()
    assert abs(weights[:15] @ alike) < 0.01


def test_cells_that_differ_alike_count_alike_and_one_that_does_not_counts_nothing():
    np.testing.assert_allclose(typical_weights(np.array([0.2, 0.2, 0.2, 0.9, 0.2])), [0.25, 0.25, 0.25, 0, 0.25])
    np.testing.assert_allclose(typical_weights(np.array([0.3, -0.1])), [0.5, 0.5])


def test_a_cell_without_a_difference_is_no_reference():
    np.testing.assert_allclose(typical_weights(np.array([np.nan, 1.0, 1.0])), [0, 0.5, 0.5])
    assert (typical_weights(np.full(3, np.nan)) == 0).all()


def test_zeros_count_as_a_part_of_the_smallest_above_them_and_nothing_measured_stays_so():
    logs = log_parts(np.array([[0.0, 0.5, 0.0], [0.2, np.nan, 0.0], [0.4, 1.0, 0.0]]))
    expected = np.log([[OF_SMALLEST * 0.2, 0.5, 1], [0.2, 1, 1], [0.4, 1, 1]])
    np.testing.assert_allclose(logs[:, 0], expected[:, 0])
    np.testing.assert_allclose(logs[[0, 2], 1], expected[[0, 2], 1])
    assert np.isnan(logs[1, 1]) and np.isnan(logs[:, 2]).all()


def test_each_part_is_held_against_the_same_reference_in_every_paragraph():
    rng = np.random.default_rng(1)
    values, in_a = rng.gamma(4.0, size=(30, 5)), np.arange(30) < 12
    logs, weights = relative_logs(values, in_a, ~in_a)
    apart = np.log(values[in_a]).mean(0) - np.log(values[~in_a]).mean(0)
    np.testing.assert_allclose(weights, typical_weights(apart))
    for row in range(30):
        reference = sum(weight * np.log(value) for weight, value in zip(weights, values[row], strict=True))
        np.testing.assert_allclose(logs[row], np.log(values[row]) - reference)


def test_a_factor_common_to_all_parts_of_a_paragraph_changes_nothing():
    rng = np.random.default_rng(2)
    values, in_a = rng.gamma(4.0, size=(20, 6)), np.arange(20) < 9
    plain, scaled = (relative_logs(sizes, in_a, ~in_a) for sizes in (values, values * rng.gamma(2.0, size=(20, 1))))
    # The weights follow from the differences between groups, which the factor moves for all cells alike.
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_what_a_paragraph_of_the_two_groups_lacks_is_no_reference_and_others_do_not_count():
    values, in_a = np.random.default_rng(3).gamma(4.0, size=(12, 4)), np.arange(12) < 4
    in_b = (np.arange(12) >= 4) & (np.arange(12) < 9)
    values[1, 2] = np.nan
    values[10, 0] = np.nan  # in neither group
    logs, weights = relative_logs(values, in_a, in_b)
    assert weights[2] == 0 and weights[0] > 0
    assert np.isnan(logs[1, 2]) and np.isfinite(logs[0, 2])


def test_a_part_that_a_group_has_nowhere_is_not_told_and_without_a_reference_nothing_is():
    values, in_a = np.random.default_rng(4).gamma(4.0, size=(10, 3)), np.arange(10) < 5
    values[in_a, 1] = 0
    logs, weights = relative_logs(values, in_a, ~in_a)
    assert np.isnan(logs[:, 1]).all() and np.isfinite(logs[:, [0, 2]]).all() and weights[1] == 0
    values[0], values[6] = [np.nan, 0, 1], [1, 1, np.nan]
    logs, weights = relative_logs(values, in_a, ~in_a)
    assert np.isnan(logs).all() and (weights == 0).all()
