import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from localize.errors import LocalizeError, public
from localize.statistics import (
    Interval,
    Range,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_bootstrap_statistic,
    effective_clusters,
)
from localize.statistics import bootstrap as bootstrap_module
from localize.statistics import clusters as clusters_module
from localize.statistics.bootstrap import FURTHEST, HIDDEN


def clustered(rng, sizes, cells, shared=0.8, spread=1.0):
    """Paragraphs of correlated clusters: mean 0, variance `spread`^2, correlation `shared` inside a cluster."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    common = rng.normal(size=(len(sizes), cells))[labels]
    values = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(len(labels), cells))
    return spread * values, labels


def one_by_one(values, labels):
    """Mean, and the cluster's counts, its distance from the mean, and how far the mean moves without it (CR3)."""
    mean, names = values.mean(), np.unique(labels)
    counts = np.array([(labels == c).sum() for c in names])
    effects = np.array([values[labels == c].mean() - mean for c in names])
    moves = [np.sqrt(1 - 1 / len(names)) * (values[labels != c].mean() - mean) for c in names]
    np.testing.assert_allclose(moves, -levers(counts) * effects, atol=1e-12)
    return mean, counts, effects


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


def ends(estimate, error, drawn, freedom, level=0.95):
    """The documented interval, from the estimate of every draw over its error."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    t = scipy.stats.t.ppf((1 + level) / 2, freedom)
    down, up = (min(t + (1 + HIDDEN / (freedom + 1)) * max(end - t, 0), FURTHEST * t) for end in (high, -low))
    return estimate - error * down, estimate + error * up


def redrawn(rng, clusters, resamples):
    """For each resample the list of cluster indices drawn: all but one."""
    return list(rng.integers(clusters, size=(resamples, clusters - 1)))


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_mean_interval_is_that_of_a_loop_over_clusters_that_take_one_anothers_effects(shape):
    rng = np.random.default_rng(1)
    values, labels = clustered(rng, [3, 1, 4, 2, 7, 5, 6, 6], 1)
    values = values[:, 0] if shape == "normal" else np.exp(2 * values[:, 0])
    got = cluster_bootstrap(values, labels, seed=5, resamples=300, level=0.9)
    mean, counts, effects = one_by_one(values, labels)
    sources = np.random.default_rng(5).integers(8, size=(300, 8))
    means, variances = dealt(counts, effects - effects.mean(), sources)
    error = np.sqrt(((levers(counts) * effects) ** 2).sum())
    low, high = ends(mean, error, means / np.sqrt(variances), effective_clusters(labels) - 1, 0.9)
    assert got.estimate.shape == ()
    np.testing.assert_allclose([got.estimate, got.low, got.high], [mean, low, high], rtol=1e-10)


@pytest.mark.parametrize("log", [False, True], ids=["difference", "log ratio"])
def test_difference_interval_is_that_of_a_loop_over_clusters_that_take_one_anothers_effects(log):
    """Clusters 0-5 only in a, 6-11 only in b, 12-14 in both: these take the effects of both groups from one another together."""
    rng = np.random.default_rng(2)
    sizes_a = np.array([2, 3, 1, 2, 2, 3, 0, 0, 0, 0, 0, 0, 4, 2, 3])
    sizes_b = np.array([0, 0, 0, 0, 0, 0, 1, 5, 2, 2, 3, 4, 3, 1, 2])
    a, labels_a = clustered(rng, sizes_a, 1)
    b, labels_b = clustered(rng, sizes_b, 1)
    values, labels = np.concatenate([a, b])[:, 0], np.concatenate([labels_a, labels_b])
    values = np.exp(values) if log else values
    in_a = np.arange(len(values)) < len(a)
    got = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=3, resamples=200, log=log)

    draws = np.random.default_rng(3)
    sources = [draws.integers(9, size=(200, 9)) for _ in range(2)]
    shared = draws.integers(3, size=(200, 3)) + 6
    drawn, observed, groups = [], [], []
    for group, source in zip((in_a, ~in_a), sources, strict=True):
        source[:, 6:] = shared
        mean, counts, effects = one_by_one(values[group], labels[group])
        effects = effects / mean if log else effects
        drawn.append(dealt(counts, effects - effects.mean(), source))
        observed.append(np.log(mean) if log else mean)
        groups.append((counts, effects))
    both = [levers(counts)[6:] for counts, _ in groups]
    own = [((levers(counts) * effects) ** 2).sum() for counts, effects in groups]
    common = sum(x * y * e * f for x, y, e, f in zip(*both, *(effects[6:] for _, effects in groups), strict=True))
    (mean_a, var_a), (mean_b, var_b) = drawn
    covariance = np.array([
        sum(
            x * y * (e - m) * (f - n)
            for x, y, e, f in zip(*both, *((g[1] - g[1].mean())[row] for g in groups), strict=True)
        )
        for row, m, n in zip(shared, mean_a, mean_b, strict=True)
    ])  # fmt: skip
    by_a, by_b = (1 + mean_a, 1 + mean_b) if log else (1, 1)
    moved = np.log(by_a / by_b) if log else mean_a - mean_b
    t = moved / np.sqrt(var_a / by_a**2 + var_b / by_b**2 - 2 * covariance / by_a / by_b)
    freedom = np.array([effective_clusters(labels[g]) for g in (in_a, ~in_a)]) - 1
    overlap = np.dot(sizes_a, sizes_b) / np.linalg.norm(sizes_a) / np.linalg.norm(sizes_b)
    va, vb = own / np.sqrt(freedom)
    welch = sum(own) ** 2 / (va**2 + vb**2 + 2 * overlap * va * vb)
    low, high = ends(observed[0] - observed[1], np.sqrt(sum(own) - 2 * common), t, welch)
    np.testing.assert_allclose([got.estimate, got.low, got.high], [observed[0] - observed[1], low, high], rtol=1e-9)


def test_groups_without_a_common_cluster_also_take_the_effects_of_one_another_and_the_longer_reach_counts():
    """The small group has missed its tail; that the large one has one shows in the interval of their difference."""
    rng = np.random.default_rng(3)
    values = np.exp(rng.normal(size=(70, 400))) - np.exp(0.5)
    in_a = np.arange(70) < 10
    values[in_a] *= 4
    got = cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(70), seed=0, resamples=400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap_module, "MANY", 0.0)
        own = cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(70), seed=0, resamples=400)
    assert ((got.low <= own.low) & (got.high >= own.high)).all()
    assert ((own.low > 0) | (own.high < 0)).mean() > ((got.low > 0) | (got.high < 0)).mean() + 0.02


def test_many_single_paragraphs_that_are_normal_give_students_interval():
    values = np.random.default_rng(3).normal(size=(500, 4))
    got = cluster_bootstrap(values, np.arange(500), seed=1, resamples=9999)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    width = theirs.high - theirs.low
    np.testing.assert_allclose(got.low, theirs.low, atol=0.02 * width.min())
    np.testing.assert_allclose(got.high, theirs.high, atol=0.02 * width.min())
    assert (got.low <= theirs.low + 1e-9).all() and (got.high >= theirs.high - 1e-9).all()


def test_many_single_paragraphs_in_two_groups_give_welchs_interval():
    values, in_a = np.random.default_rng(4).normal(size=(500, 3)), np.arange(500) < 200
    got = cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(500), seed=1, resamples=9999)
    theirs = scipy.stats.ttest_ind(values[in_a], values[~in_a], equal_var=False).confidence_interval()
    width = theirs.high - theirs.low
    np.testing.assert_allclose(got.low, theirs.low, atol=0.02 * width.min())
    np.testing.assert_allclose(got.high, theirs.high, atol=0.02 * width.min())


def test_fewer_than_five_effective_clusters_give_students_interval_and_it_is_rough():
    values, labels = clustered(np.random.default_rng(5), [1, 3, 2, 9], 50)
    got = cluster_bootstrap(np.exp(values), labels, seed=0)
    np.testing.assert_allclose(got.high - got.estimate, got.estimate - got.low, rtol=1e-9)
    assert got.rough.all() and (got.high > got.low).all()


def test_the_interval_of_skewed_values_reaches_further_to_the_side_of_their_tail():
    values = np.random.default_rng(6).exponential(size=(30, 200))
    got = cluster_bootstrap(values, np.arange(30), seed=0)
    longer = (got.high - got.estimate) / (got.estimate - got.low)
    assert (longer >= 1 - 1e-9).mean() > 0.95 and np.median(longer) > 1.1
    assert longer.max() <= FURTHEST + 1e-9


def test_parts_of_a_shared_cluster_travel_together():
    """a = b + 1 in every cluster: whatever is drawn, the difference is 1."""
    rng = np.random.default_rng(5)
    half, labels = clustered(rng, [3, 2, 6, 1], 2)
    values, labels = np.concatenate([half + 1, half]), np.tile(labels, 2)
    in_a = np.arange(len(values)) < len(half)
    got = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=0)
    np.testing.assert_allclose([got.low, got.estimate, got.high], 1.0, atol=1e-12)


def test_a_single_shared_cluster_does_not_make_the_interval_too_narrow():
    """The lone shared cluster holds most of both groups: if it were always drawn, nothing much would vary."""
    values, labels = clustered(np.random.default_rng(6), [2, 2, 2, 2, 2, 2, 60], 1)
    in_a = np.isin(labels, [0, 1, 2]) | ((labels == 6) & (np.arange(len(labels)) % 2 == 0))
    got = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=0)
    apart = cluster_bootstrap_difference(
        values[labels < 6], in_a[labels < 6], ~in_a[labels < 6], labels[labels < 6], seed=0
    )
    assert got.high - got.low > 0.5 * (apart.high - apart.low)


COVERAGE = [("uneven", (10, 10), 1.0), ("few", (5, 20), 1.0), ("few spread wide", (5, 20), 3.0)]


@pytest.mark.parametrize(("name", "clusters", "spread"), COVERAGE, ids=[c[0] for c in COVERAGE])
def test_intervals_cover_the_true_difference_95_percent_of_the_time(name, clusters, spread):
    """Each cell is one experiment; the sizes of the clusters change from trial to trial."""
    held, held_mean = [], []
    for trial in range(80):
        rng = np.random.default_rng(trial)
        a, labels_a = clustered(rng, rng.integers(1, 41, clusters[0]), 150, spread=spread)
        b, labels_b = clustered(rng, rng.integers(1, 41, clusters[1]), 150)
        values, labels = np.concatenate([a, b]), np.concatenate([labels_a, labels_b + 100])
        in_a = labels < 100
        got = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=trial, resamples=500)
        held.append((got.low <= 0) & (got.high >= 0))
        mean = cluster_bootstrap(a, labels_a, seed=trial, resamples=500)
        held_mean.append((mean.low <= 0) & (mean.high >= 0))
    assert 0.935 <= np.mean(held) <= 0.97
    assert 0.93 <= np.mean(held_mean) <= 0.975


@pytest.mark.parametrize(("clusters", "shape"), [((10, 10), 4.0), ((5, 20), 4.0), ((20, 20), 1.0)])
def test_log_ratios_cover_the_true_one_95_percent_of_the_time(clusters, shape):
    """Gamma clusters: of spread 1/2 of their mean, and of spread 1, as skewed as an exponential. The true ratio is 3."""
    held = []
    for trial in range(80):
        rng = np.random.default_rng(trial)
        sizes = [rng.integers(1, 41, count) for count in clusters]
        labels = np.repeat(np.arange(sum(clusters)), np.concatenate(sizes))
        in_a = labels < clusters[0]
        common = rng.gamma(shape, size=(sum(clusters), 150))[labels]
        values = common * rng.gamma(4.0, size=common.shape) * np.where(in_a, 3.0, 1.0)[:, None]
        got = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=trial, resamples=500, log=True)
        held.append((got.low <= np.log(3)) & (got.high >= np.log(3)))
    assert 0.93 <= np.mean(held) <= 0.97


def test_a_log_ratio_does_not_depend_on_the_unit_and_is_the_log_of_the_factor():
    values, labels = clustered(np.random.default_rng(7), [1, 5, 2, 9, 3, 3], 4)
    values, in_a = np.exp(values), labels % 2 == 0
    one = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=0, log=True)
    other = cluster_bootstrap_difference(1e-6 * values, in_a, ~in_a, labels, seed=0, log=True)
    doubled = cluster_bootstrap_difference(
        np.where(in_a[:, None], 2 * values, values), in_a, ~in_a, labels, seed=0, log=True
    )
    for end in ("estimate", "low", "high"):
        np.testing.assert_allclose(getattr(one, end), getattr(other, end), atol=1e-10)
        np.testing.assert_allclose(getattr(one, end) + np.log(2), getattr(doubled, end), atol=1e-10)


def test_a_mean_of_zero_has_no_log_ratio_and_one_that_a_single_cluster_makes_has_a_rough_interval():
    """Cell 0: b is 0. Cell 1: a is 0 but for one cluster. Cell 2: as any."""
    values, in_a = np.ones((12, 3)), np.arange(12) < 6
    values[6:, 0] = 0
    values[1:6, 1] = 0
    values[:, 2] = np.linspace(1, 2, 12)
    got = cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(12), seed=0, log=True)
    np.testing.assert_allclose(got.estimate[:2], [np.nan, np.log(1 / 6)])
    assert np.isnan([got.low[0], got.high[0]]).all()
    assert got.low[1] < got.estimate[1] < got.high[1]
    assert got.rough.tolist() == [True, True, False]
    turned = cluster_bootstrap_difference(values, ~in_a, in_a, np.arange(12), seed=0, log=True)
    np.testing.assert_allclose(turned.estimate, -got.estimate)


def test_negative_values_have_a_difference_and_no_log_ratio():
    values, in_a = np.array([[1.0, 2.0], [1.0, -0.5], [3.0, 1.0], [1.0, 1.0]]), np.arange(4) < 2
    cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(4), seed=0)
    with pytest.raises(LocalizeError) as told:
        cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(4), seed=0, log=True)
    assert str(told.value) == (
        "cluster_bootstrap_difference: values is -0.5 at paragraph 1; with log=True it must be at least 0."
    )


def test_an_interval_of_a_statistic_is_that_of_loops_over_drawn_and_left_out_clusters():
    values, labels = clustered(np.random.default_rng(1), [3, 1, 4, 2, 7, 5, 4], 6)
    values, labels = values.reshape(-1, 2, 3) + np.arange(3), labels + 10

    def spread_and_first(means):
        return np.stack([means.max((1, 2)) - means.min((1, 2)), means[:, 0, 0]], axis=1)

    got = cluster_bootstrap_statistic(values, labels, spread_and_first, seed=5, resamples=300, level=0.9)
    expected = []
    for drawn in redrawn(np.random.default_rng(5), 7, 300):
        mean = np.concatenate([values[labels == 10 + c] for c in drawn]).mean(0)
        expected.append([mean.max() - mean.min(), mean[0, 0]])
    estimate = spread_and_first(values.mean(0)[None])[0]
    counts = np.bincount(labels)[10:]
    for number in range(2):
        without = np.array([spread_and_first(values[labels != 10 + c].mean(0)[None])[0, number] for c in range(7)])
        effects = (estimate[number] - without) * (counts.sum() - counts) / counts
        sources = np.random.default_rng(5).integers(7, size=(300, 7))
        means, variances = dealt(counts, effects - effects.mean(), sources)
        error = np.sqrt(((levers(counts) * effects) ** 2).sum())
        down, up = ends(0, 1, means / np.sqrt(variances), effective_clusters(labels) - 1, 0.9)
        deviation = np.std(expected, axis=0, ddof=1)[number]
        deviation, bias = (
            max(deviation, np.sqrt(deviation * error)),
            np.mean(expected, axis=0)[number] - estimate[number],
        )
        low, high = estimate[number] + deviation * down - max(bias, 0), estimate[number] + deviation * up - min(bias, 0)
        np.testing.assert_allclose([got.low[number], got.high[number]], [low, high], rtol=1e-9)
    np.testing.assert_allclose(got.estimate, estimate, rtol=1e-12)
    assert bias != 0 and not got.rough.any()


def test_a_statistic_sees_the_means_of_what_was_measured_and_nan_where_nothing_was():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [5.0, np.nan, np.nan], [7.0, np.nan, np.nan]])
    labels = np.array([0, 1, 2, 3])
    got = cluster_bootstrap_statistic(values, labels, lambda means: means, seed=0)
    np.testing.assert_array_equal(got.estimate, [4.0, 5.0, np.nan])
    # The second cell is 5 in every draw that holds cluster 1, and nan in the others, which do not count.
    np.testing.assert_array_equal([got.low[1], got.high[1]], [5.0, 5.0])
    assert np.isnan(got.low[2])
    assert got.low[0] < 4 < got.high[0]


def test_a_statistic_of_one_cluster_has_no_interval():
    got = cluster_bootstrap_statistic(np.array([[1.0], [3.0]]), np.array([4, 4]), lambda m: m[:, 0], seed=0)
    assert got.estimate == 2.0 and np.isnan(got.low) and np.isnan(got.high)


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.9])
def test_rank_correlations_over_cells_are_covered_as_documented(rho):
    """32 cells whose true means spread by 1, from 10 clusters of paragraphs that spread by 1 around them."""
    held = []
    for trial in range(300):
        rng = np.random.default_rng(trial)
        true = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 32)
        noise, labels = clustered(rng, rng.integers(1, 8, 10), 64, shared=0.6)
        values = true.T + noise.reshape(-1, 2, 32)
        got = cluster_bootstrap_statistic(values, labels, rank_correlation, seed=trial, resamples=200)
        held.append(got.low <= rank_correlation(true.T[None])[0] <= got.high)
    assert 0.93 <= np.mean(held) <= 0.99


def rank_correlation(means):
    ranks = scipy.stats.rankdata(means, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    return (ranks[:, 0] * ranks[:, 1]).sum(-1) / np.sqrt((ranks**2).sum(-1).prod(-1))


def test_wider_levels_give_wider_intervals_around_the_same_estimate():
    values, labels = clustered(np.random.default_rng(7), [1, 5, 2, 9, 3, 3], 6)
    at = {level: cluster_bootstrap(values, labels, seed=0, level=level) for level in (0.5, 0.95)}
    assert (at[0.95].high > at[0.5].high).all() and (at[0.95].low < at[0.5].low).all()
    np.testing.assert_array_equal(at[0.95].estimate, at[0.5].estimate)


def test_one_cluster_has_an_estimate_and_no_interval():
    one = cluster_bootstrap(np.array([1.0, 2.0, 6.0]), np.array([4, 4, 4]), seed=0)
    assert one.estimate == 3.0 and np.isnan(one.low) and np.isnan(one.high)
    in_a = np.array([True, True, False, False])
    values, labels = np.array([1.0, 3.0, 5.0, 6.0]), np.array([0, 0, 1, 2])
    for groups, estimate in (((in_a, ~in_a), -3.5), ((~in_a, in_a), 3.5)):
        two = cluster_bootstrap_difference(values, *groups, labels, seed=0)
        assert two.estimate == estimate and np.isnan(two.low) and np.isnan(two.high)


def test_nothing_measured_is_nan_everywhere():
    values = np.array([[np.nan, 1.0], [np.nan, 2.0], [1.0, 4.0], [2.0, 8.0]])
    in_a = np.array([True, True, False, False])
    got = cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(4), seed=0)
    assert np.isnan([got.estimate[0], got.low[0], got.high[0]]).all()
    assert np.isfinite([got.estimate[1], got.low[1], got.high[1]]).all()
    assert np.isnan(cluster_bootstrap(values[:2], np.arange(2), seed=0).estimate[0])


def test_constant_values_have_an_interval_of_no_width():
    in_a = np.arange(8) < 4
    got = cluster_bootstrap_difference(np.zeros(8), in_a, ~in_a, np.arange(8), seed=0)
    assert (got.estimate, got.low, got.high) == (0.0, 0.0, 0.0)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_a_missing_measurement_counts_as_if_its_paragraph_were_not_there(seed):
    rng = np.random.default_rng(seed)
    values, labels = clustered(rng, rng.integers(1, 5, 8), 3)
    values[rng.random(len(values)) < 0.3, 1] = np.nan
    in_a = rng.random(len(values)) < 0.5
    there = ~np.isnan(values[:, 1])
    if not (in_a[there].any() and (~in_a)[there].any() and in_a.any() and (~in_a).any()):
        return
    pairs = [
        (
            cluster_bootstrap(values, labels, seed=1, resamples=100),
            cluster_bootstrap(values[there, 1], labels[there], seed=1, resamples=100),
        ),
        (
            cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=1, resamples=100),
            cluster_bootstrap_difference(
                values[there, 1], in_a[there], ~in_a[there], labels[there], seed=1, resamples=100
            ),
        ),
    ]
    for whole, dropped in pairs:
        for name in ("estimate", "low", "high"):
            np.testing.assert_allclose(getattr(whole, name)[1], getattr(dropped, name), atol=1e-12)


def test_cells_do_not_depend_on_each_other_nor_on_the_pieces_they_are_worked_out_in(monkeypatch):
    values, labels = clustered(np.random.default_rng(8), [1, 5, 2, 9, 3, 3, 2, 2], 12)
    values[labels == 2, 3] = np.nan
    in_a = labels % 2 == 0
    whole = cluster_bootstrap_difference(values.reshape(-1, 3, 4), in_a, ~in_a, labels, seed=0)
    mean = cluster_bootstrap(values.reshape(-1, 3, 4), labels, seed=0)
    assert whole.low.shape == mean.low.shape == (3, 4)
    monkeypatch.setattr(clusters_module, "CELLS_TIMES_DRAWS", 5 * 2000)
    for cell in range(12):
        one = cluster_bootstrap_difference(values[:, cell], in_a, ~in_a, labels, seed=0)
        np.testing.assert_allclose(whole.low.flat[cell], one.low, rtol=1e-12)
    np.testing.assert_allclose(mean.high.ravel(), cluster_bootstrap(values, labels, seed=0).high, rtol=1e-12)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    values, labels = clustered(np.random.default_rng(9), [1, 5, 2, 5, 3, 4, 4, 3], 4)
    first, again, other = (cluster_bootstrap(values, labels, seed=s) for s in (1, 1, 2))
    assert (first.low == again.low).all() and (first.high == again.high).all()
    assert (first.low != other.low).any() and (first.high != other.high).any()


def test_the_order_of_paragraphs_does_not_matter():
    rng = np.random.default_rng(10)
    values, labels = clustered(rng, [1, 5, 2, 9, 3, 4], 3)
    in_a, order = labels % 2 == 0, rng.permutation(len(labels))
    one = cluster_bootstrap_difference(values, in_a, ~in_a, labels, seed=0)
    two = cluster_bootstrap_difference(values[order], in_a[order], ~in_a[order], labels[order], seed=0)
    np.testing.assert_allclose(one.low, two.low, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 99}, "resamples=99 must be at least 100, because the tails are read off the draws."),
        ({"level": 1.0}, "level=1.0 must lie between 0 and 1, both excluded."),
        ({"level": 0.0}, "level=0.0 must lie between 0 and 1, both excluded."),
    ],
)
def test_a_bootstrap_that_cannot_be_drawn_is_told_in_one_line(options, message):
    values, in_a = np.arange(4.0), np.arange(4) < 2
    with pytest.raises(LocalizeError) as told:
        cluster_bootstrap(values, np.arange(4), seed=0, **options)
    assert str(told.value) == "cluster_bootstrap: " + message
    with pytest.raises(LocalizeError) as told:
        cluster_bootstrap_difference(values, in_a, ~in_a, np.arange(4), seed=0, **options)
    assert str(told.value) == "cluster_bootstrap_difference: " + message
    with pytest.raises(LocalizeError) as told:
        cluster_bootstrap_statistic(values, np.arange(4), lambda means: means, seed=0, **options)
    assert str(told.value) == "cluster_bootstrap_statistic: " + message


def test_what_is_called_by_another_public_function_is_told_in_that_ones_name():
    @public
    def compared():
        return cluster_bootstrap(np.arange(4.0), np.arange(4), seed=0, resamples=50)

    with pytest.raises(LocalizeError) as told:
        compared()
    assert str(told.value) == ("compared: resamples=50 must be at least 100, because the tails are read off the draws.")


def test_an_empty_group_is_told_by_the_function_that_was_called():
    with pytest.raises(LocalizeError) as told:
        cluster_bootstrap_difference(np.arange(4.0), np.arange(4) < 4, np.arange(4) > 4, np.arange(4), seed=0)
    assert str(told.value) == (
        "cluster_bootstrap_difference: in_b selects 0 of 4 paragraphs; at least one is needed to compare."
    )


def test_an_end_beyond_what_is_possible_is_moved_there_and_no_truth_is_lost():
    """Shares of 4 clusters, near 1: the intervals hold the truth as often, and their ends lie in 0..1."""
    rng = np.random.default_rng(0)
    shares = rng.beta(8, 0.4, size=(4, 500))
    bare = cluster_bootstrap(shares, np.arange(4), seed=0)
    cut = bare.within(Range(0, 1))
    assert (bare.high > 1).mean() > 0.5 and cut.high.max() == 1 and cut.low.min() >= 0
    true = 8 / 8.4
    held = [(interval.low <= true) & (true <= interval.high) for interval in (bare, cut)]
    np.testing.assert_array_equal(*held)
    inside = bare.high <= 1
    np.testing.assert_array_equal(cut.high[inside], bare.high[inside])
    np.testing.assert_array_equal(cut.low, bare.low)
    assert ((cut.low <= cut.estimate) & (cut.estimate <= cut.high)).all()


def test_nan_stays_nan_and_rounding_of_the_estimate_is_cut_too():
    told = Interval(
        np.array([1 + 1e-16, np.nan, 1 + 1e-9]), np.array([np.nan, np.nan, 0.5]), np.array([np.nan, np.nan, 2.0])
    )
    cut = told.within(Range(-1, 1))
    np.testing.assert_array_equal(
        [cut.estimate, cut.low, cut.high], [[1, np.nan, 1], [np.nan, np.nan, 0.5], [np.nan, np.nan, 1]]
    )


def test_a_difference_reaches_from_the_one_end_to_the_other():
    assert Range(0, 16).minus(Range(0, 16)) == (-16, 16)
    assert Range(0, 16).minus(Range(0, 50)) == (-50, 16)
    assert Range(0).minus(Range(0)) == Range() == (-np.inf, np.inf)
