import numpy as np
import pytest
import scipy.stats

from localize.statistics.groups import ClusterParts
from localize.statistics.studentized import (
    ClusterEffects,
    error_of,
    freedom_of,
    groups_of,
    studentized_draws,
    studentized_draws_together,
)


def group(sizes, effects):
    """Clusters of these sizes whose means are these."""
    sizes, effects = np.asarray(sizes), np.asarray(effects, dtype=float)
    return ClusterEffects.of(sizes, sizes[:, None] * effects.reshape(len(sizes), -1))


def test_clusters_of_one_paragraph_have_the_textbooks_error():
    values = np.random.default_rng(0).normal(size=(12, 3))
    one, other = group(np.ones(5, int), values[:5]), group(np.ones(7, int), values[5:])
    np.testing.assert_allclose(error_of((one,), 0), scipy.stats.sem(values[:5]), rtol=1e-12)
    welch = scipy.stats.ttest_ind(values[:5], values[5:], equal_var=False)
    difference = one.mean - other.mean
    np.testing.assert_allclose(difference / error_of((one, other), 0), welch.statistic, rtol=1e-12)
    np.testing.assert_allclose(freedom_of((one, other), 0.0), welch.df, rtol=1e-12)
    assert freedom_of((one,), 0.0).tolist() == [4, 4, 4]


def test_two_groups_of_the_same_clusters_have_the_error_of_paired_differences():
    values = np.random.default_rng(1).normal(size=(2, 9, 4))
    pair = tuple(group(np.ones(9, int), one) for one in values)
    np.testing.assert_allclose(error_of(pair, 9), scipy.stats.sem(values[0] - values[1]), rtol=1e-12)
    same = group(np.ones(9, int), values[0]), group(np.ones(9, int), values[0] + 1)
    assert (error_of(same, 9) == 0).all(), "nothing but rounding varies"


def test_values_equal_but_for_rounding_have_no_effects():
    assert (group([3, 1, 2], [0.1, 0.1 + 1e-17, 0.1]).effects == 0).all()
    assert (group([3, 1, 2], [0.1, 0.1 + 1e-9, 0.1]).effects != 0).all()


def test_parts_are_divided_into_their_groups_with_shared_clusters_last():
    counts, sums = np.array([2, 1, 3, 4, 5, 6]), np.arange(1.0, 7)[:, None]
    parts = ClusterParts(np.zeros(1, np.int64), 1, 1, 2, counts, sums)
    a, b = groups_of(parts)
    assert a.counts.tolist() == [2, 3, 4] and b.counts.tolist() == [1, 5, 6]
    np.testing.assert_allclose([a.mean[0], b.mean[0]], [8 / 9, 13 / 12])


def test_draws_of_normal_clusters_follow_students_t():
    """The 97.5 % quantile of so many draws of so many cells, where effects are many enough to be normal themselves."""
    effects = scipy.stats.norm.ppf((np.arange(40) + 0.5) / 40)
    drawn = studentized_draws((group(np.ones(40, int), effects),), 0, np.random.default_rng(0), 40000)
    assert np.quantile(drawn, 0.975) == pytest.approx(scipy.stats.t.ppf(0.975, 39), rel=0.03)


def test_equally_large_clusters_draw_as_clusters_of_any_size_do():
    """Nearly equal sizes take the long way, equal ones the short: the same numbers."""
    effects = np.random.default_rng(2).normal(size=(8, 3))
    short = studentized_draws((group(np.full(8, 10**9), effects),), 0, np.random.default_rng(0), 50)
    long = studentized_draws((group(10**9 + np.arange(8), effects),), 0, np.random.default_rng(0), 50)
    np.testing.assert_allclose(short, long, atol=1e-6)


def levers(counts):
    return np.sqrt(1 - 1 / len(counts)) * counts / (counts.sum() - counts)


def dealt(counts, effects, sources):
    """Mean and its variance, for every draw, when clusters take the effects of those in its row of `sources`."""
    means, variances = [], []
    for row in sources:
        taken = effects[row]
        mean = np.average(taken, weights=counts)
        means.append(mean)
        variances.append(
            sum((lever * (effect - mean)) ** 2 for lever, effect in zip(levers(counts), taken, strict=True))
        )
    return np.array(means), np.array(variances)


def test_draws_of_both_groups_are_those_of_a_loop_over_a_common_pool():
    rng = np.random.default_rng(8)
    sizes = np.array([2, 1, 3, 2, 2, 1]), np.array([1, 4, 2, 2, 3])
    groups = tuple(
        ClusterEffects.of(n, np.stack([n * rng.exponential(size=len(n)) for _ in range(2)], axis=1)) for n in sizes
    )
    got = studentized_draws_together(groups, np.random.default_rng(1), 50)
    draws = np.random.default_rng(1)
    for cell in range(2):
        draws = np.random.default_rng(1)
        centred = [g.effects[:, cell] - g.effects[:, cell].mean() for g in groups]
        pool = np.concatenate([e / e.std() for e in centred])
        drawn = [
            dealt(n, pool * e.std(), draws.integers(11, size=(50, len(n)))) for n, e in zip(sizes, centred, strict=True)
        ]
        (mean_a, var_a), (mean_b, var_b) = drawn
        np.testing.assert_allclose(got[:, cell], (mean_a - mean_b) / np.sqrt(var_a + var_b), rtol=1e-9)
