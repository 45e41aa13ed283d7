"""Matching finds what is left of a difference among the alike: held against loops, and against cases where nothing is left."""

import numpy as np
import pytest

from localize.errors import LocalizeError
from localize.statistics import cluster_bootstrap_difference, matched_difference
from localize.statistics.matching import CLUSTERS_IN_A_STRATUM, STRATA, _Rows
from localize.statistics.permutation import relabelled_among_alike
from localize.statistics.strata import CELLS, cells_of, quantile_part


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
    return matched_difference(values, on, in_a, ~in_a, clusters, **{"seed": 0, "resamples": 200} | options)


def slow(y, x, a, strata):
    """Cut at quantiles of the range that both reach, compared stratum by stratum, with one slope inside strata and groups."""
    low, high = max(x[a].min(), x[~a].min()), min(x[a].max(), x[~a].max())
    kept = np.flatnonzero((x >= low) & (x <= high))
    order = kept[np.argsort(x[kept])]
    stratum = {row: int(strata * (place + 0.5) / len(order)) for place, row in enumerate(order)}
    there, top, bottom = [], 0.0, 0.0
    for s in range(strata):
        groups = [[row for row in order if stratum[row] == s and a[row] == g] for g in (True, False)]
        if not all(groups):
            continue
        there.append(groups)
        for rows in groups:
            top += sum((x[r] - x[rows].mean()) * (y[r] - y[rows].mean()) for r in rows)
            bottom += sum((x[r] - x[rows].mean()) ** 2 for r in rows)
    slope, total, weight = top / bottom, np.zeros(3), 0.0
    for one, other in there:
        w = len(one) * len(other) / (len(one) + len(other))
        left = slope * (x[one].mean() - x[other].mean())
        means = y[one].mean() - left / 2, y[other].mean() + left / 2
        total += w * np.array([means[0] - means[1], *means])
        weight += w
    return total / weight


@pytest.mark.parametrize("options", [{}, {"of_a": 17, "of_b": 40}, {"apart": 3.0}, {"of_a": 12, "size": 6}])
def test_it_is_what_a_loop_over_strata_gives(options):
    y, x, a, clusters = made(1, **options)
    found = of(y, x, a, clusters)
    got = [float(part.estimate) for part in (found.difference, found.mean_a, found.mean_b)]
    np.testing.assert_allclose(got, slow(y, x, a, found.strata), rtol=1e-9)


def test_strata_are_as_many_as_the_clusters_of_the_smaller_group_can_fill():
    for of_a, strata in ((60, STRATA), (20, 20 // CLUSTERS_IN_A_STRATUM), (3, 1)):
        assert of(*made(1, of_a=of_a, apart=0.0)).strata in (strata, strata - 1, max(strata - 2, 1))
    assert of(*made(1, of_a=8, size=20, apart=0.0)).strata <= 2  # many rows, few clusters


def test_weights_say_what_was_compared():
    y, x, a, clusters = made(2, of_a=30, size=3)
    found = of(y, x, a, clusters)
    w = found.weights
    assert (w >= 0).all()
    assert (w[a].sum(), w[~a].sum()) == pytest.approx((1, 1))
    low, high = max(x[a].min(), x[~a].min()), min(x[a].max(), x[~a].max())
    assert (w[(x < low) | (x > high)] == 0).all()
    plain, left = (w[a] @ z[a] - w[~a] @ z[~a] for z in (y, x))
    assert abs(left) < 0.1 * (x[a].mean() - x[~a].mean())
    # What the weights do not make alike, one slope takes out.
    slopes = [(float(of(k * x + y, x, a, clusters).difference.estimate)) for k in (0.0, 5.0)]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-9)
    assert plain == pytest.approx(slopes[0], abs=12 * abs(left) + 1e-9)


def test_what_follows_from_confidence_alone_is_no_difference_among_the_alike():
    plain, matched, p_values, covered = [], [], [], []
    for seed in range(40):
        y, x, a, clusters = made(seed, of_a=40, of_b=50, size=2)
        found = of(y, x, a, clusters, seed=seed, resamples=150)
        plain.append(y[a].mean() - y[~a].mean())
        matched.append(float(found.difference.estimate))
        p_values.append(found.p_value)
        covered.append(float(found.difference.low) <= 0 <= float(found.difference.high))
    assert np.mean(plain) < -9
    assert abs(np.mean(matched)) < 0.4  # of 40
    p_values = np.array(p_values)
    assert np.mean(p_values <= 0.05) <= 0.125
    assert 0.05 <= np.mean(p_values <= 0.25) <= 0.45
    assert 0.38 < p_values.mean() < 0.64
    assert np.mean(covered) >= 0.85


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
    assert (found.weights == 0).all() and found.strata == 0


def test_all_alike_is_the_plain_difference():
    y, _, a, clusters = made(3, of_a=25, size=3)
    found = of(y, np.full(len(y), 0.3), a, clusters, resamples=2000)
    assert float(found.difference.estimate) == pytest.approx(y[a].mean() - y[~a].mean())
    assert float(found.mean_b.estimate) == pytest.approx(y[~a].mean())
    interval = cluster_bootstrap_difference(y, a, ~a, clusters, seed=0)
    assert float(found.difference.low) == pytest.approx(float(interval.low), abs=0.5)
    assert float(found.difference.high) == pytest.approx(float(interval.high), abs=0.5)


def test_what_is_missing_or_in_neither_group_is_as_if_it_were_not_there():
    y, x, a, clusters = made(4)
    lacking, unknown, b = y.copy(), x.copy(), ~a
    lacking[:5], unknown[-5:], b[70:75] = np.nan, np.nan, False
    kept = ~np.isnan(lacking) & ~np.isnan(unknown) & (a | b)
    one = matched_difference(lacking, unknown, a, b, clusters, seed=0, resamples=200)
    other = of(y[kept], x[kept], a[kept], clusters[kept])
    assert float(one.difference.low) == float(other.difference.low)
    assert one.p_value == other.p_value
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


def test_labels_move_among_alike_clusters_only_and_the_parts_of_one_cluster_swap():
    y, x, a, clusters = made(7, of_a=30, of_b=30, apart=1.0)
    clusters[-6:] = clusters[:6]  # in both groups
    rows = _Rows.of(y, x, a, clusters)
    labels = relabelled_among_alike(np.random.default_rng(0), rows.parts, rows.stratum, 50)
    parts, both = rows.parts, rows.parts.both
    assert (both, parts.only_a, parts.only_b) == (6, 24, 24)
    assert (labels[0] == parts.in_a).all()
    alone = labels[:, : parts.only_a + parts.only_b]
    for stratum in np.unique(rows.stratum):
        inside = alone[:, rows.stratum == stratum]
        assert (inside.sum(1) == inside[0].sum()).all()
    assert (labels[:, -2 * both : -both] == ~labels[:, -both:]).all()
    assert len(np.unique(labels, axis=0)) > 45
    # Outside the range of both, a cluster is alike to none.
    means = np.array([x[clusters == c].mean() for c in np.unique(clusters) if c not in clusters[-6:]])
    own = np.arange(len(means)) < 24
    outside = (means < max(means[own].min(), means[~own].min())) | (means > min(means[own].max(), means[~own].max()))
    assert outside.any()
    assert (alone[:, outside] == alone[0, outside]).all()


def test_equal_values_share_a_cell_and_cells_are_few():
    x = np.random.default_rng(0).integers(0, 40, 5000) / 10
    assert (cells_of(x) == np.unique(x, return_inverse=True)[1]).all()
    many = np.concatenate([np.random.default_rng(0).random(5000), np.full(900, 0.5)])
    cell = cells_of(many)
    assert cell.max() < CELLS
    assert len(set(cell[-900:])) == 1
    assert (np.diff(cell[np.argsort(many)]) >= 0).all()
    assert quantile_part(np.array([3.0, 1.0, 2.0, 4.0]), 2).tolist() == [1, 0, 0, 1]
    assert quantile_part(np.full(3, 7.0), 4).tolist() == [2, 2, 2]


def test_many_rows_in_cells_are_near_the_loop_over_strata():
    y, x, a, clusters = made(8, of_a=100, of_b=500, size=6)
    assert len(np.unique(x)) > 2 * CELLS
    found = of(y, x, a, clusters, resamples=100)
    assert float(found.difference.estimate) == pytest.approx(slow(y, x, a, found.strata)[0], abs=0.25)


def test_the_same_seed_gives_the_same_bits():
    first, again, other = (of(*made(9), seed=seed) for seed in (1, 1, 2))
    assert float(first.difference.low) == float(again.difference.low) != float(other.difference.low)
    assert first.p_value == again.p_value


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
        matched_difference(**given, seed=0)
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
    assert small.p_value == plain.p_value and small.strata == plain.strata
