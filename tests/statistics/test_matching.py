"""Matching finds what is left of a difference among the alike: held against dense algebra, and against simulations."""

import numpy as np
import pytest
import scipy.stats
from scipy.linalg import sqrtm
from scipy.stats import t as student

from localize.errors import LocalizeError
from localize.statistics import matched_difference
from localize.statistics.matching import FEWEST
from localize.statistics.overlap import CLUSTERS_A_PIECE, MOST_PIECES, has_counterpart, overlap_weights, spline


def made(seed, *, of_a=60, of_b=60, apart=1.5, effect=0.0, size=1):
    """Values that fall with `on`, by a curve, and differ between groups by `effect`; a has clusters of up to `2 size - 1`."""
    rng = np.random.default_rng(seed)
    clusters = [np.repeat(np.arange(of_a), rng.integers(1, 2 * size, of_a)), 1000 + np.arange(of_b)]
    on, own = [], []
    for cluster, middle in zip(clusters, (apart / 2, -apart / 2), strict=True):
        index = np.unique(cluster, return_inverse=True)[1]
        on.append(rng.normal(middle, 0.9, 600)[index] + rng.normal(0, 0.4, len(index)))
        own.append(rng.normal(0, 2, 600)[index] + rng.normal(0, 3, len(index)))
    on, own, clusters = (np.concatenate(parts) for parts in (on, own, clusters))
    in_a = clusters < 1000
    return 40 / (1 + np.exp(on)) + own + effect * in_a, on, in_a, clusters


def of(values, on, in_a, clusters, **options):
    return matched_difference(values, on, in_a, ~in_a, clusters, **options)


def slow(y, x, a, clusters):
    """Estimate, error and degrees of freedom: weighted least squares by dense matrices, CR2 with a root of each cluster's block."""
    kept = has_counterpart(x, a)
    y, x, a, clusters = y[kept], x[kept], a[kept], clusters[kept]

    def effective(weights, group):
        of = np.array([weights[group & (clusters == c)].sum() for c in np.unique(clusters[group])])
        return of.sum() ** 2 / (of**2).sum()

    even = sum(effective(np.ones(len(y)), g) for g in (a, ~a))
    basis = spline(x, int(np.clip(even // CLUSTERS_A_PIECE, 1, MOST_PIECES)))
    weights = overlap_weights(basis, a)
    root = np.sqrt(weights)
    rows = root[:, None] * np.concatenate([a[:, None], basis], axis=1)
    inverse = np.linalg.pinv(rows.T @ rows)
    slopes = inverse @ rows.T @ (root * y)
    residual, hat, line = root * y - rows @ slopes, rows @ inverse @ rows.T, (inverse @ rows.T)[0]
    pulls = {}
    for c in np.unique(clusters):
        at = clusters == c
        block = np.linalg.inv(np.real(sqrtm(np.eye(at.sum()) - hat[np.ix_(at, at)])))
        pulls[c] = line[at] @ block @ residual[at]
    freedom = [effective(weights, g) - 1 for g in (a, ~a)]
    expected = {c: ((line * root)[clusters == c] ** 2).sum() for c in pulls}  # of rows with a variance of 1
    together = []
    for square in ({c: pull**2 for c, pull in pulls.items()}, expected):
        own = [sum(square[c] for c in np.unique(clusters[g])) for g in (a, ~a)]
        together.append(sum(own) ** 2 / (own[0] ** 2 / freedom[0] + own[1] ** 2 / freedom[1]))
    return slopes[0], np.sqrt(sum(pull**2 for pull in pulls.values())), min(together)


@pytest.mark.parametrize("options", [{}, {"of_a": 17, "of_b": 40}, {"apart": 3.0}, {"of_a": 12, "size": 6}])
def test_it_is_a_weighted_regression_with_cluster_robust_errors(options):
    y, x, a, clusters = made(1, **options)
    found = of(y, x, a, clusters, level=0.9)
    estimate, error, freedom = slow(y, x, a, clusters)
    reach = student.ppf(0.95, freedom) * error
    assert float(found.difference.estimate) == pytest.approx(estimate, rel=1e-7, abs=1e-9)
    assert float(found.difference.low) == pytest.approx(estimate - reach, rel=1e-6)
    assert float(found.difference.high) == pytest.approx(estimate + reach, rel=1e-6)
    assert float(found.p_value) == pytest.approx(2 * student.sf(abs(estimate) / error, freedom), rel=1e-5)
    assert (
        float(found.null_high) == -float(found.null_low) == pytest.approx(student.ppf(0.975, freedom) * error, rel=1e-6)
    )
    assert float(found.mean_a.estimate) - float(found.mean_b.estimate) == pytest.approx(estimate)


def test_clusters_in_both_groups_pull_with_both_parts():
    y, x, a, clusters = made(3, of_a=20, of_b=60)
    clusters[20:35] = clusters[:15]
    estimate, error, freedom = slow(y, x, a, clusters)
    found = of(y, x, a, clusters)
    assert float(found.difference.estimate) == pytest.approx(estimate)
    assert float(found.null_high) == pytest.approx(student.ppf(0.975, freedom) * error, rel=1e-6)


def test_weights_say_what_was_compared():
    y, x, a, clusters = made(2, of_a=30, size=3)
    found = of(y, x, a, clusters)
    w = found.weights
    assert ((w > 0) == has_counterpart(x, a)).all() and (w >= 0).all()
    assert (w[a].sum(), w[~a].sum()) == pytest.approx((1, 1))
    left = w[a] @ x[a] - w[~a] @ x[~a]
    assert abs(left) < 0.1 * (x[a].mean() - x[~a].mean())
    # What the weights do not make alike, the spline takes out: any cubic, and here nearly any curve.
    slopes = [float(of(k * x**3 + y, x, a, clusters).difference.estimate) for k in (0.0, 5.0)]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-6)


def test_cells_are_compared_as_if_alone():
    y, x, a, clusters = made(4, of_a=30, size=2)
    cells = np.stack([y, x**2 + 0.1 * y, np.where(np.arange(len(y)) % 7 == 0, np.nan, y)], axis=1)
    found = of(cells.reshape(len(y), 3, 1), x, a, clusters)
    assert found.difference.low.shape == found.rough.shape == found.p_value.shape == (3, 1)
    for cell in range(3):
        alone = of(cells[:, cell], x, a, clusters)
        for name in ("difference", "mean_a", "mean_b"):
            one, other = getattr(found, name), getattr(alone, name)
            for end in ("estimate", "low", "high"):
                assert float(getattr(one, end)[cell, 0]) == pytest.approx(float(getattr(other, end)))
        assert float(found.p_value[cell, 0]) == pytest.approx(float(alone.p_value), rel=1e-6)
        np.testing.assert_allclose(found.weights[:, cell, 0], alone.weights)


CURVES = {"exponential": np.exp, "step": lambda x: 2.0 * (x > 0)}


def layout(rng, name):
    """Group, cluster, what is matched on and an error with a part of its own in each cluster: as if nothing told the groups apart."""
    sizes = {
        "100 against 15": [np.ones(15, int), np.ones(100, int)],
        "109 against 136": [np.ones(109, int), np.ones(136, int)],
        "70 clusters, some large": [np.array([30] * 6 + [1] * 29)] * 2,
        "12 uneven clusters each": [rng.integers(2, 41, 12) for _ in range(2)],
        "tokens": [np.full(28, 10), np.full(32, 10)],
    }[name]
    cluster = np.repeat(np.arange(sum(len(s) for s in sizes)), np.concatenate(sizes))
    a = cluster < len(sizes[0])
    x = np.where(a, 0.5, -0.5) + rng.normal(0, 0.6, cluster.max() + 1)[cluster] + rng.normal(0, 0.8, len(a))
    return x, rng.normal(0, 0.7, cluster.max() + 1)[cluster] + rng.normal(0, 0.7, len(a)), a, cluster


@pytest.mark.parametrize("curve", ["exponential", "step"])
@pytest.mark.parametrize(
    "name", ["100 against 15", "109 against 136", "70 clusters, some large", "12 uneven clusters each", "tokens"]
)
def test_no_curve_in_what_is_matched_on_is_taken_for_a_difference(name, curve):
    """Nominal .05 of the p-values and .95 of the intervals; 120 trials err by .02, and in few rows a step stays a little."""
    rng, p_values, covered, estimates, plain = np.random.default_rng(17), [], [], [], []
    for _ in range(120):
        x, error, a, clusters = layout(rng, name)
        y = CURVES[curve](x) + error
        found = of(y, x, a, clusters)
        p_values.append(float(found.p_value))
        covered.append(float(found.difference.low) <= 0 <= float(found.difference.high))
        estimates.append(float(found.difference.estimate))
        plain.append(y[a].mean() - y[~a].mean())
    assert np.mean(np.array(p_values) <= 0.05) <= 0.11
    assert np.mean(covered) >= 0.89
    assert 0.40 < np.mean(p_values) < 0.60
    assert abs(np.mean(estimates)) < 3.5 * np.std(estimates) / np.sqrt(120)
    assert np.mean(plain) > 0.5


def test_the_interval_holds_a_true_difference_and_the_test_finds_it():
    rng, held, found_it = np.random.default_rng(5), [], []
    for _ in range(150):
        x, error, a, clusters = layout(rng, "109 against 136")
        found = of(np.exp(x) + error + 0.8 * a, x, a, clusters)
        held.append(float(found.difference.low) <= 0.8 <= float(found.difference.high))
        found_it.append(found.p_value <= 0.05)
    assert 0.90 <= np.mean(held) <= 0.99
    assert np.mean(found_it) > 0.95


def test_few_effective_clusters_and_skewed_ones_on_one_side_are_rough_and_normal_ones_are_not():
    rng, rough = np.random.default_rng(6), {"few": [], "skewed": [], "normal": []}
    for _ in range(40):
        x, error, a, clusters = layout(rng, "109 against 136")
        rough["normal"].append(of(error, x, a, clusters).rough)
        few = np.where(a, clusters % (int(FEWEST) - 1), clusters)
        assert of(error, x, a, few).rough
        x, _, a, clusters = layout(rng, "100 against 15")
        rough["skewed"].append(of(rng.lognormal(0, 1, len(x)), x, a, clusters).rough)
    assert np.mean(rough["normal"]) <= 0.05
    assert np.mean(rough["skewed"]) >= 0.6


@pytest.mark.parametrize("effect", [-6.0, 6.0])
def test_a_real_difference_is_found_among_the_alike(effect):
    y, x, a, clusters = made(5, of_a=40, of_b=50, size=2, effect=effect)
    found = of(y, x, a, clusters)
    assert float(found.difference.estimate) == pytest.approx(effect, abs=2.5)
    assert float(found.difference.low) < effect < float(found.difference.high)
    assert found.p_value < 0.02
    assert found.null_low < 0 < found.null_high
    assert float(found.mean_a.low) < float(found.mean_a.estimate) < float(found.mean_a.high)


def test_without_anything_alike_nothing_is_told():
    y, x, a, clusters = made(1, apart=0.0)
    found = of(y, np.where(a, 5.0, -5.0) + 0.1 * x, a, clusters)
    assert np.isnan([float(found.difference.estimate), float(found.mean_a.estimate), found.p_value]).all()
    assert (found.weights == 0).all() and not found.rough


def test_all_alike_is_the_plain_difference_with_its_usual_error():
    y, _, a, clusters = made(3, of_a=25)
    found = of(y, np.full(len(y), 0.3), a, clusters)
    assert float(found.difference.estimate) == pytest.approx(y[a].mean() - y[~a].mean())
    assert float(found.mean_b.estimate) == pytest.approx(y[~a].mean())
    welch = scipy.stats.ttest_ind(y[a], y[~a], equal_var=False)  # of single paragraphs CR2 is the usual variance
    of_equal_rows = (1 / 25 + 1 / 60) ** 2 / (1 / 25**2 / 24 + 1 / 60**2 / 59)
    freedom = min(welch.df, of_equal_rows)
    reach = student.ppf(0.975, freedom) * abs(welch.statistic) ** -1 * abs(y[a].mean() - y[~a].mean())
    assert float(found.p_value) == pytest.approx(2 * student.sf(abs(welch.statistic), freedom))
    assert float(found.difference.high) - float(found.difference.estimate) == pytest.approx(reach)
    own = scipy.stats.sem(y[a]) * student.ppf(0.975, 24)
    assert float(found.mean_a.high) == pytest.approx(y[a].mean() + own)


def test_what_is_missing_or_in_neither_group_is_as_if_it_were_not_there():
    y, x, a, clusters = made(4)
    lacking, unknown, b = y.copy(), x.copy(), ~a
    lacking[:5], unknown[-5:], b[70:75] = np.nan, np.nan, False
    kept = ~np.isnan(lacking) & ~np.isnan(unknown) & (a | b)
    one = matched_difference(lacking, unknown, a, b, clusters)
    other = of(y[kept], x[kept], a[kept], clusters[kept])
    assert float(one.difference.low) == float(other.difference.low)
    assert float(one.p_value) == float(other.p_value)
    np.testing.assert_array_equal(one.weights[kept], other.weights)
    assert (one.weights[~kept] == 0).all()


def test_one_cluster_in_a_group_has_neither_interval_nor_test():
    y, x, a, clusters = made(4, apart=0.0)
    clusters = np.where(a, 0, clusters)
    found = of(y, x, a, clusters)
    assert np.isfinite(float(found.difference.estimate))
    assert np.isnan([float(found.difference.low), float(found.mean_a.high), found.p_value, found.null_low]).all()


def test_copies_of_paragraphs_tell_no_more_than_one():
    y, x, a, clusters = made(6, of_a=30, of_b=30)
    once, often = of(y, x, a, clusters), of(*(np.repeat(z, 8) for z in (y, x, a, clusters)))
    width = [float(found.difference.high) - float(found.difference.low) for found in (once, often)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
    assert abs(once.p_value - often.p_value) < 0.15


def test_the_same_rows_in_another_order_give_the_same():
    y, x, a, clusters = made(9)
    order = np.random.default_rng(0).permutation(len(y))
    first, again = of(y, x, a, clusters), of(y[order], x[order], a[order], clusters[order])
    assert float(first.difference.low) == pytest.approx(float(again.difference.low), rel=1e-9)
    assert float(first.p_value) == pytest.approx(float(again.p_value), rel=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z["on"].__setitem__(3, np.inf), "matched_difference: on is infinite at row 3; it must be finite, or nan where missing."),
        (
            lambda z: z["values"].__setitem__(2, -np.inf),
            "matched_difference: values is infinite at paragraph 2; it must be finite, or nan where nothing was measured.",
        ),
        (
            lambda z: z["in_b"].__setitem__(slice(None), False),
            "matched_difference: in_b selects 0 of 120 paragraphs; at least one is needed to compare.",
        ),
        (
            lambda z: z["in_b"].__setitem__(0, True),
            "matched_difference: paragraph 0 is in both in_a and in_b; the groups must not overlap.",
        ),
    ],
    ids=["on", "values", "empty", "overlap"],
)  # fmt: skip
def test_bad_input_is_told_in_one_line(change, message):
    y, x, a, clusters = made(0)
    given = {"values": y, "on": x, "in_a": a, "in_b": ~a, "clusters": clusters}
    change(given)
    with pytest.raises(LocalizeError) as told:
        matched_difference(**given)
    assert str(told.value) == message


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3, 1 / 3])
def test_groups_of_equal_mean_are_no_evidence_in_any_unit(unit):
    """Of one decimal, four against four, nothing to match on: rounding alone made some of these p-values smaller than 1."""
    a = np.arange(8) < 4
    for numbers in (
        [1, 2, 3, 4, 4, 3, 2, 1],
        [0, 1, 5, 5, 2, 2, 3, 4],
        [1, 1, 2, 5, 3, 2, 2, 2],
        [0, 3, 3, 4, 1, 1, 3, 5],
    ):
        found = of(unit * np.array(numbers) / 10, np.zeros(8), a, np.arange(8))
        assert found.p_value == 1.0, numbers


@pytest.mark.parametrize("unit", [1e-3, 0.3, 7e3])
def test_values_that_follow_from_what_is_matched_on_leave_no_evidence(unit):
    """What is left is rounding, which has no size of its own: it is held against the values."""
    on, a = np.random.default_rng(0).integers(0, 8, 24) / 10, np.arange(24) % 2 == 0
    found = of(unit * on, on, a, np.arange(24))
    assert abs(found.difference.estimate) < 1e-14 * unit and found.p_value == 1.0


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, 1 / 3])
def test_constant_values_are_no_evidence_but_for_rounding(value):
    a = np.arange(24) % 2 == 0
    found = of(np.where(np.arange(24) < 9, value, value * (1 + 1e-15)), np.arange(24) % 5, a, np.arange(24))
    assert found.difference.estimate == found.difference.low == found.difference.high == 0.0 and found.p_value == 1.0


def test_the_unit_of_what_is_matched_on_changes_nothing():
    y, on, a, clusters = made(1)
    plain, small = of(y, on, a, clusters), of(y, 1e-7 * on, a, clusters)
    assert small.difference.estimate == pytest.approx(float(plain.difference.estimate), rel=1e-9)
    assert float(small.p_value) == pytest.approx(float(plain.p_value))
