import numpy as np
import pytest
import scipy.stats

from localize.statistics import rough_difference, rough_mean, roughness
from localize.statistics.roughness import differing
from localize.statistics.skewness import own_skewness, skewness, skewness_together
from localize.statistics.studentized import ClusterEffects


def group(values, sizes=None):
    """Clusters of these means; of one paragraph each unless sizes are given."""
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    sizes = np.ones(len(values), dtype=int) if sizes is None else np.asarray(sizes)
    return ClusterEffects.of(sizes, values * sizes[:, None])


def by_hand(values):
    values = np.asarray(values, dtype=float)
    error = values.std() * np.sqrt((np.pi / 2 - 1) / len(values))
    moved = values - values.mean()
    return (values.mean() - np.median(values)) / error + (moved**3).sum() / np.sqrt((moved**6).sum())


def test_skewness_is_that_worked_out_by_hand_and_turns_with_its_sign():
    values = np.random.default_rng(0).exponential(size=(11, 3))
    np.testing.assert_allclose(skewness(values), [by_hand(column) for column in values.T], rtol=1e-10)
    np.testing.assert_allclose(skewness(-1e6 * values + 3), -skewness(values), rtol=1e-6)
    assert skewness(np.ones((5, 1)))[0] == 0 == skewness(np.array([[-1.0], [0.0], [1.0]]))[0]


def test_one_outlier_alone_is_no_more_than_heavy_tails_show():
    """1 from the cubes, and what the mean lies from the median by."""
    values = np.zeros((100, 1))
    values[0] = 1
    assert skewness(values)[0] == pytest.approx(1 + 0.01 / (np.sqrt(0.0099) * np.sqrt((np.pi / 2 - 1) / 100)), rel=1e-3)


@pytest.mark.parametrize("count", [8, 15, 30, 100])
def test_even_samples_seldom_pass_the_limit_and_skewed_ones_do(count):
    rng, limit = np.random.default_rng(count), roughness.SKEWED + roughness.LARGER * np.log(count)
    share = {
        name: (np.abs(skewness(values)) > limit).mean()
        for name, values in {
            "normal": rng.normal(size=(count, 4000)),
            "heavy": rng.standard_t(3, size=(count, 4000)),
            "skewed": np.exp(rng.normal(size=(count, 4000))),
        }.items()
    }
    assert 0.02 < share["normal"] < 0.09 and share["heavy"] < 0.13
    assert share["skewed"] > {8: 0.2, 15: 0.6, 30: 0.9, 100: 0.99}[count]


def test_skewness_of_a_difference_is_that_of_the_group_whose_error_outweighs():
    a, b = np.random.default_rng(1).exponential(size=12), np.random.default_rng(2).exponential(size=15)
    one, other = group(a), group(b)
    errors = np.array([scipy.stats.sem(a), scipy.stats.sem(b)])
    parts = (errors / np.linalg.norm(errors)) ** 3
    effective = scipy.stats.ttest_ind(a, b, equal_var=False).df + 1
    expected = abs(parts[0] * by_hand(a) - parts[1] * by_hand(b)) * min(1, 20 / effective)
    assert own_skewness((one, other), 0.0)[0] == pytest.approx(expected, rel=1e-9)
    assert own_skewness((group(1e6 * a), other), 0.0)[0] == pytest.approx(abs(by_hand(a)), rel=1e-6)
    assert own_skewness((one, group(a)), 0.0)[0] == pytest.approx(0, abs=1e-12), "alike groups go against one another"


def test_skewness_together_is_of_all_clusters_in_their_groups_own_deviations():
    a, b = np.random.default_rng(1).exponential(size=6), np.random.default_rng(2).exponential(size=40)
    pool = np.concatenate([(a - a.mean()) / a.std(), (b - b.mean()) / b.std()])
    found = skewness_together((group(1e6 * a), group(b)), 0.0)[0]
    assert found == pytest.approx(abs(by_hand(pool)), rel=1e-6)
    # By its error a group that hardly varies leaves the 40 clusters of the other, which would count half; it may have missed its tail.
    quiet = skewness_together((group(1e-6 * a), group(b)), 0.0)[0]
    assert quiet == pytest.approx(abs(by_hand(pool)), rel=1e-6)
    # By neither do groups of the same size and spread differ.
    assert skewness_together((group(a), group(-a)), 0.0)[0] == pytest.approx(0, abs=1e-9)


def test_clusters_that_differ_from_the_most_common_mean_are_counted():
    values = np.array([[5.0, 1.0, 0.1], [5.0, 2.0, 0.1 + 1e-17], [5.0, 2.0, 0.1], [4.0, 3.0, 0.1], [6.0, 3.0, 0.1]])
    assert differing(group(values)).tolist() == [2, 3, 0]
    assert differing(group(values, [2, 1, 7, 3, 3])).tolist() == [2, 3, 0]


def test_too_few_clusters_are_rough_and_five_that_differ_are_enough():
    values = np.zeros((60, 2))
    values[:4, 0] = [1, -1, 2, -2]
    values[:5, 1] = [1, -1, 2, -2, 0.1]
    assert rough_mean(values, np.arange(60)).tolist() == [True, False]
    in_a = np.arange(60) < 30
    beside = np.where(in_a[:, None], values, np.random.default_rng(0).normal(size=(60, 2)))
    assert rough_difference(beside, in_a, ~in_a, np.arange(60)).tolist() == [True, False]
    assert rough_difference(beside, ~in_a, in_a, np.arange(60)).tolist() == [True, False]
    even = np.random.default_rng(1).normal(size=(40, 1))
    assert (
        rough_mean(even, np.repeat(np.arange(4), 10)).all() and not rough_mean(even, np.repeat(np.arange(8), 5)).all()
    )


def test_where_most_cells_are_skewed_all_are_rough():
    rng = np.random.default_rng(3)
    skewed, even = np.exp(rng.normal(size=(20, 6))), rng.normal(size=(20, 4))
    assert rough_mean(np.concatenate([skewed, even], axis=1), np.arange(20)).all()
    assert not rough_mean(even, np.arange(20)).any()


def test_many_clusters_are_not_rough_for_being_skewed():
    values = np.exp(np.random.default_rng(4).normal(size=(245, 200)))
    in_a = np.arange(245) < 109
    assert rough_mean(values[in_a], np.arange(109)).mean() <= 0.01
    assert rough_difference(values, in_a, ~in_a, np.arange(245)).mean() <= 0.01


def test_what_was_not_measured_is_not_judged():
    values = np.full((10, 1), np.nan)
    assert rough_mean(values, np.arange(10)).tolist() == [False]
    values[:5] = 1
    assert rough_difference(values, np.arange(10) < 5, np.arange(10) >= 5, np.arange(10)).tolist() == [False]
