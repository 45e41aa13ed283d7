import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localize.errors import LocalizeError
from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    false_discovery,
    pair_differences,
    rough_difference,
    rough_mean,
    roughness,
)
from localize.statistics import clusters as clusters_module
from localize.statistics.permutation import LEAST_VARIANCE


def clustered(rng, sizes, cells, spread=1.0, shared=0.8):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    common = rng.normal(size=(len(sizes), cells))[labels]
    return spread * (np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(len(labels), cells))), labels


def studentized(values, in_a, clusters):
    """Difference of means and its error, by leaving out one cluster after the other."""
    moves, means = {c: [0.0, 0.0] for c in clusters}, []
    for group, mask in enumerate((in_a, ~in_a)):
        mean, own = values[mask].mean(), np.unique(clusters[mask])
        means.append(mean)
        for c in own:
            rest = values[mask & (clusters != c)].mean()
            moves[c][group] = np.sqrt(1 - 1 / len(own)) * (rest - mean)
    return means[0] - means[1], np.sqrt(sum((a - b) ** 2 for a, b in moves.values()))


def every_relabelling(in_a, clusters):
    """All group masks that the test allows, the true one first; one loop per kind of cluster."""
    in_one = [c for c in np.unique(clusters) if len(set(in_a[clusters == c])) == 1]
    in_both = [c for c in np.unique(clusters) if len(set(in_a[clusters == c])) == 2]
    called_a = [c for c in in_one if in_a[clusters == c].all()]
    masks = []
    for chosen in itertools.combinations(in_one, len(called_a)):
        for swaps in itertools.product([False, True], repeat=len(in_both)):
            mask = np.isin(clusters, chosen)
            for c, swap in zip(in_both, swaps, strict=True):
                mask[clusters == c] = in_a[clusters == c] ^ swap
            masks.append(mask)
    return sorted(masks, key=lambda mask: not (mask == in_a).all())


def tenths(whole):
    """Numbers of one decimal as arithmetic has them, not as floats do."""
    return np.array([Fraction(int(number), 10) for number in whole])


def exact_square(values, in_a, clusters):
    """The studentized difference of means squared, in fractions; clusters in one group only, or all of them in both."""
    values = values - sum(values) / len(values)
    means, variance, size, moves = [], Fraction(0), Fraction(0), {}
    for mask in (in_a, ~in_a):
        own, total = np.unique(clusters[mask]), int(mask.sum())
        mean, share = sum(values[mask]) / total, 1 - Fraction(1, len(own))
        means.append(mean)
        for c in own:
            inside = mask & (clusters == c)
            count, added = int(inside.sum()), sum(values[inside])
            move = (added - mean * count) / (total - count)
            size += share * (added**2 + (mean * count) ** 2) / (total - count) ** 2
            variance += share * (move**2 - 2 * move * moves.get(c, 0))
            moves[c] = move
    least = Fraction(LEAST_VARIANCE) * size
    return (means[0] - means[1]) ** 2 / max(variance, least) if size else Fraction(0)


def example(seed, sizes_a, sizes_b):
    """Cluster c has sizes_a[c] paragraphs in a and sizes_b[c] in b."""
    rng = np.random.default_rng(seed)
    values, labels = clustered(rng, np.add(sizes_a, sizes_b), 2)
    in_a = np.concatenate([np.arange(x + y) < x for x, y in zip(sizes_a, sizes_b, strict=True)])
    return values + in_a[:, None], in_a, labels


SHAPES = {
    "apart": ([3, 1, 4, 0, 0, 0, 0], [0, 0, 0, 2, 2, 7, 1]),
    "shared": ([3, 1, 4, 2, 1], [1, 5, 2, 2, 1]),
    "some shared": ([2, 3, 1, 0, 0, 0, 4, 2], [0, 0, 0, 1, 5, 2, 3, 1]),
    "one alone in a": ([2, 3, 1, 0, 0], [0, 2, 2, 3, 1]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_small_difference_test_is_that_of_a_loop_over_all_relabellings(name):
    values, in_a, labels = example(1, *SHAPES[name])
    got = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0)
    for cell in range(2):
        tried = [studentized(values[:, cell], mask, labels) for mask in every_relabelling(in_a, labels)]
        t = np.array([difference / error for difference, error in tried])
        low, high = np.quantile(t, [0.025, 0.975]) * tried[0][1]
        assert got.difference[cell] == pytest.approx(tried[0][0], rel=1e-12)
        assert got.p_value[cell] == pytest.approx((np.abs(t) >= abs(t[0]) * (1 - 1e-9)).mean(), rel=1e-12)
        assert got.null_low[cell] == pytest.approx(low, rel=1e-7)
        assert got.null_high[cell] == pytest.approx(high, rel=1e-7)


@pytest.mark.parametrize("name", SHAPES)
def test_random_relabellings_come_near_the_exact_test(name):
    values, in_a, labels = example(2, *SHAPES[name])
    exact = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0)
    total = len(every_relabelling(in_a, labels))
    rng = np.random.default_rng(0)
    drawn = [
        cluster_permutation_difference(
            values, in_a, ~in_a, labels, seed=int(s), permutations=total - 1, family=1
        ).p_value
        for s in rng.integers(0, 10**6, 3000 // total)
    ]
    # (1 + hits) / (1 + draws), with hits binomial of the exact p.
    expected = (1 + (total - 1) * exact.p_value) / total
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=0.04)


def test_single_paragraphs_give_scipys_permutation_test_of_welchs_t():
    rng = np.random.default_rng(3)
    values, in_a = rng.normal(size=(9, 3)), np.arange(9) < 4
    values[in_a, 2] += 3
    got = cluster_permutation_difference(values, in_a, ~in_a, np.arange(9), seed=0)

    def statistic(x, y, axis):
        error = np.sqrt(x.var(axis=axis, ddof=1) / x.shape[axis] + y.var(axis=axis, ddof=1) / y.shape[axis])
        return np.abs(x.mean(axis=axis) - y.mean(axis=axis)) / error

    theirs = scipy.stats.permutation_test((values[in_a], values[~in_a]), statistic, alternative="greater", axis=0)
    np.testing.assert_allclose(got.p_value, theirs.pvalue, rtol=1e-12)


def test_complete_separation_has_the_smallest_p_value_there_is():
    """3 against 3 clusters: 20 relabellings, of which the true one and its mirror image are the most extreme."""
    values, in_a = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), np.arange(6) < 3
    assert cluster_permutation_difference(values, in_a, ~in_a, np.arange(6), seed=0).p_value == pytest.approx(2 / 20)
    many, in_many = np.repeat(values, 10), np.repeat(in_a, 10)
    got = cluster_permutation_difference(many, in_many, ~in_many, np.arange(60), seed=0, permutations=500)
    assert got.p_value == pytest.approx(1 / 501)
    assert got.null_high < 1.0 < got.difference + 1e-9


def test_a_shift_inside_every_shared_cluster_is_found_although_clusters_differ_more():
    rng = np.random.default_rng(4)
    half, labels = clustered(rng, [2] * 12, 1, spread=100.0)
    values, labels = np.concatenate([half + 1 + 0.1 * rng.normal(size=half.shape), half]), np.tile(labels, 2)
    in_a = np.arange(len(values)) < len(half)
    got = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0, permutations=4096)
    assert got.p_value[0] == pytest.approx(2 / 4096)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.1, 1e-300])
def test_constant_values_are_no_evidence(value):
    in_a = np.arange(30) < 15
    labels = np.arange(30) ** 2 // 50  # uneven, so that rounding differs from mean to mean
    got = cluster_permutation_difference(np.full(30, value), in_a, ~in_a, labels, seed=0)
    assert got.p_value == 1.0 and got.null_low == got.null_high == 0.0


def test_a_far_origin_costs_no_digits_that_the_values_still_have():
    values, in_a, labels = example(5, *SHAPES["some shared"])
    near = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0)
    far = cluster_permutation_difference(values + 1e7, in_a, ~in_a, labels, seed=0)
    np.testing.assert_allclose(far.null_low, near.null_low, rtol=1e-6)
    np.testing.assert_array_equal(far.p_value, near.p_value)


TYPE_ONE = [
    # clusters of a and b, their largest size, spread of a; then between which rates p <= .05 must come
    ("uneven", (10, 10), (40, 40), 1.0, (0.04, 0.06)),
    ("unequal numbers", (5, 20), (40, 40), 1.0, (0.04, 0.06)),
    ("large against single", (10, 60), (40, 1), 1.0, (0.01, 0.06)),
    # Spread differs, so that no permutation test is exact; the plain difference rejects 27%.
    ("few spread wide", (5, 20), (40, 40), 3.0, (0.05, 0.12)),
]


@pytest.mark.parametrize(("name", "clusters", "largest", "spread", "rates"), TYPE_ONE, ids=[c[0] for c in TYPE_ONE])
def test_without_a_difference_one_in_twenty_is_called_one(name, clusters, largest, spread, rates):
    p_values = []
    for trial in range(100):
        rng = np.random.default_rng(trial)
        a, labels_a = clustered(rng, rng.integers(1, largest[0] + 1, clusters[0]), 120, spread=spread)
        b, labels_b = clustered(rng, rng.integers(1, largest[1] + 1, clusters[1]), 120)
        labels = np.concatenate([labels_a, labels_b + 100])
        in_a = labels < 100
        test = cluster_permutation_difference(np.concatenate([a, b]), in_a, ~in_a, labels, seed=trial, permutations=399)
        p_values.append(test.p_value)
    assert rates[0] <= np.mean(np.array(p_values) <= 0.05) <= rates[1]


def test_p_values_are_uniform_where_groups_are_alike():
    """Groups alike in everything, some clusters in both: every level is kept, not only 5%."""
    p_values = []
    for trial in range(60):
        rng = np.random.default_rng(100 + trial)
        values, labels = clustered(rng, rng.integers(2, 20, 18), 100)
        in_a = np.where(labels < 6, True, np.where(labels < 12, False, np.arange(len(labels)) % 2 == 0))
        test = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=trial, permutations=199)
        p_values.append(test.p_value)
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.03)


def test_counting_paragraphs_as_if_they_were_clusters_would_call_far_too_many():
    """What the clusters are for."""
    rng = np.random.default_rng(5)
    values, labels = clustered(rng, [10] * 20, 200)
    in_a = labels < 10
    rates = [
        np.mean(cluster_permutation_difference(values, in_a, ~in_a, c, seed=0, permutations=199).p_value <= 0.05)
        for c in (labels, np.arange(len(labels)))
    ]
    assert rates[0] < 0.1 and rates[1] > 0.4


def test_sign_flips_are_those_of_a_loop():
    rng = np.random.default_rng(6)
    values, labels = clustered(rng, [3, 1, 4, 2, 7, 1], 1)
    values = values[:, 0] + 0.4
    got = cluster_sign_flip(values, labels, seed=0)
    null = [np.mean(values * np.array(sign)[labels]) for sign in itertools.product([1, -1], repeat=6)]
    assert got.difference == pytest.approx(values.mean(), rel=1e-12)
    assert got.p_value == pytest.approx(np.mean(np.abs(null) >= abs(values.mean()) - 1e-12))
    np.testing.assert_allclose([got.null_low, got.null_high], np.quantile(null, [0.025, 0.975]), rtol=1e-10)


def test_sign_flips_of_single_paragraphs_are_scipys():
    values = np.random.default_rng(7).normal(0.3, 1.0, size=(9, 4))
    theirs = scipy.stats.permutation_test(
        (values,), lambda x, axis: np.abs(x.mean(axis=axis)), permutation_type="samples", alternative="greater"
    )
    np.testing.assert_allclose(cluster_sign_flip(values, np.arange(9), seed=0).p_value, theirs.pvalue, rtol=1e-12)


def test_sign_flips_call_one_in_twenty_and_random_flips_come_near_all_of_them():
    p_values = []
    values, labels = clustered(np.random.default_rng(0), [3] * 12, 150)
    every = cluster_sign_flip(values, labels, seed=0, permutations=4096)
    some = cluster_sign_flip(values, labels, seed=0, permutations=4095)
    for trial in range(40):
        rng = np.random.default_rng(trial)
        values, labels = clustered(rng, rng.integers(1, 41, 12), 150)
        p_values.append(cluster_sign_flip(values, labels, seed=trial, permutations=399).p_value)
    assert 0.035 <= np.mean(np.array(p_values) <= 0.05) <= 0.065
    np.testing.assert_allclose(every.p_value, some.p_value, atol=0.04)
    np.testing.assert_allclose(every.p_value * 4096 % 1, 0)


def test_one_cluster_in_a_group_has_a_difference_and_no_p_value():
    in_a = np.array([True, True, False, False, False])
    values, labels = np.array([1.0, 3, 5, 6, 7]), np.array([0, 0, 1, 2, 3])
    for groups, difference in (((in_a, ~in_a), -4.0), ((~in_a, in_a), 4.0)):
        got = cluster_permutation_difference(values, *groups, labels, seed=0)
        assert got.difference == difference and np.isnan([got.p_value, got.null_low, got.null_high]).all()
    flip = cluster_sign_flip(np.array([1.0, 3.0]), np.array([0, 0]), seed=0)
    assert flip.difference == 2.0 and np.isnan([flip.p_value, flip.null_low, flip.null_high]).all()


def test_nothing_measured_is_nan_everywhere():
    values = np.array([[np.nan, 1.0], [np.nan, 2.0], [1.0, 4.0], [2.0, 8.0]])
    in_a = np.array([True, True, False, False])
    got = cluster_permutation_difference(values, in_a, ~in_a, np.arange(4), seed=0)
    assert np.isnan([got.difference[0], got.p_value[0]]).all() and np.isfinite(got.p_value[1])
    flip = cluster_sign_flip(values[:2], np.arange(2), seed=0)
    assert np.isnan(flip.p_value).tolist() == [True, False] and np.isnan(flip.difference[0])


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_a_missing_measurement_counts_as_if_its_paragraph_were_not_there(seed):
    rng = np.random.default_rng(seed)
    values, labels = clustered(rng, rng.integers(1, 5, 8), 3)
    values[rng.random(len(values)) < 0.3, 1] = np.nan
    in_a, there = rng.random(len(values)) < 0.5, ~np.isnan(values[:, 1])
    assume(in_a[there].any() and (~in_a)[there].any())
    pairs = [
        (
            cluster_permutation_difference(values, in_a, ~in_a, labels, seed=1, permutations=99, family=1),
            cluster_permutation_difference(
                values[there, 1], in_a[there], ~in_a[there], labels[there], seed=1, permutations=99, family=1
            ),
        ),
        (
            cluster_sign_flip(values, labels, seed=1, permutations=99, family=1),
            cluster_sign_flip(values[there, 1], labels[there], seed=1, permutations=99, family=1),
        ),
    ]
    for whole, dropped in pairs:
        for name in ("difference", "p_value", "null_low", "null_high"):
            np.testing.assert_allclose(getattr(whole, name)[1], getattr(dropped, name), atol=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e9), st.floats(-100, 100), st.booleans())
def test_exact_p_values_know_no_unit_no_origin_no_order_and_no_names(seed, unit, origin, exchange):
    rng = np.random.default_rng(seed)
    values, labels = clustered(rng, rng.integers(1, 4, 7), 2)
    in_a = rng.random(len(values)) < 0.5
    assume(in_a.any() and not in_a.all())
    order, names = rng.permutation(len(values)), rng.permutation(7)
    one = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0)
    moved = (unit * (values + origin))[order]
    groups = (~in_a[order], in_a[order]) if exchange else (in_a[order], ~in_a[order])
    two = cluster_permutation_difference(moved, *groups, names[labels[order]], seed=1)
    np.testing.assert_allclose(one.p_value, two.p_value, rtol=1e-12)
    sign = -unit if exchange else unit
    np.testing.assert_allclose(two.difference, sign * one.difference, rtol=1e-6, atol=1e-9 * unit)


EQUAL_MEANS = [
    (a, b)
    for a, b in itertools.product(itertools.combinations_with_replacement(range(11), 3), repeat=2)
    if sum(a) == sum(b)
]


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3, 1 / 3])
def test_three_against_three_of_equal_means_are_never_evidence(unit):
    """All 3,796 pairs of groups of one decimal between 0 and 1, as (.1 .2 .3) against (.3 .2 .1)."""
    values, in_a = unit * np.array([(*a, *b) for a, b in EQUAL_MEANS]).T / 10, np.arange(6) < 3
    assert (cluster_permutation_difference(values, in_a, ~in_a, np.arange(6), seed=0).p_value == 1.0).all()
    signed = np.where(in_a[:, None], values, -values)  # differences whose mean is 0
    assert (cluster_sign_flip(signed, np.arange(6), seed=0).p_value == 1.0).all()


small_numbers = st.lists(st.integers(-9, 9), min_size=8, max_size=8).map(np.array)


@settings(max_examples=60, derandomize=True)
@given(small_numbers, st.permutations([0, 0, 1, 2, 3, 3, 4, 5]), st.sampled_from([2, 3]), st.sampled_from([1.0, 1e-3, 7e3]),
       st.sampled_from([0.0, 0.3, -1e6]), st.booleans())  # fmt: skip
def test_a_p_value_is_that_of_exact_arithmetic_over_all_relabellings(numbers, labels, fewer, unit, origin, shared):
    labels = np.array(labels) // 2 if shared else np.array(labels)
    in_a = labels < fewer
    if shared:
        in_a = np.arange(8) % 2 == 0
        assume(all(len(set(in_a[labels == c])) == 2 for c in set(labels.tolist())))
    squares = [exact_square(tenths(numbers), mask, labels) for mask in every_relabelling(in_a, labels)]
    expected = sum(square >= squares[0] for square in squares) / len(squares)
    got = cluster_permutation_difference(unit * (numbers / 10 + origin), in_a, ~in_a, labels, seed=0)
    assert got.p_value == expected


@settings(max_examples=60, derandomize=True)
@given(small_numbers, small_numbers, st.permutations([0, 0, 1, 2, 2, 3, 4, 4]), st.sampled_from([1.0, 1e-3, 7e3]))
def test_a_paired_p_value_is_that_of_exact_arithmetic_over_all_flips(after, before, labels, unit):
    labels, pairs = np.array(labels), tenths(after) - tenths(before)
    sums = [sum(pairs[labels == c]) for c in range(5)]
    null = [abs(sum(x * s for x, s in zip(sums, signs, strict=True))) for signs in itertools.product([1, -1], repeat=5)]
    differences = pair_differences(unit * after / 10, unit * before / 10)
    assert cluster_sign_flip(differences, labels, seed=0).p_value == sum(x >= null[0] for x in null) / len(null)


def test_pairs_that_are_equal_but_for_rounding_are_no_change():
    """Left alone, the same rounding in each of ten pairs is as strong an evidence as there is."""
    one, other = np.full(10, 0.1 + 0.2), np.full(10, 0.3)
    assert cluster_sign_flip(one - other, np.arange(10), seed=0).p_value == 2 / 2**10
    assert (pair_differences(one, other) == 0).all()
    assert cluster_sign_flip(pair_differences(one, other), np.arange(10), seed=0).p_value == 1.0
    told = pair_differences(np.array([np.nan, 2.0, -1e-9]), np.array([1.0, 2.5, 0.0]))
    np.testing.assert_array_equal(told, [np.nan, -0.5, -1e-9])


def test_cells_do_not_depend_on_each_other_nor_on_the_pieces_they_are_worked_out_in(monkeypatch):
    values, labels = clustered(np.random.default_rng(8), [1, 5, 2, 9, 3, 3, 2, 2] * 2, 12)
    values[labels == 2, 3] = np.nan
    in_a = labels % 2 == 0
    whole = cluster_permutation_difference(values.reshape(-1, 3, 4), in_a, ~in_a, labels, seed=0, permutations=300)
    assert whole.p_value.shape == (3, 4)
    monkeypatch.setattr(clusters_module, "CELLS_TIMES_DRAWS", 5 * 300)
    pieces = cluster_permutation_difference(values, in_a, ~in_a, labels, seed=0, permutations=300)
    one = cluster_permutation_difference(values[:, 3], in_a, ~in_a, labels, seed=0, permutations=300)
    np.testing.assert_allclose(whole.p_value.ravel(), pieces.p_value, rtol=1e-12)
    np.testing.assert_allclose(pieces.p_value[3], one.p_value, rtol=1e-12)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    values, labels = clustered(np.random.default_rng(9), [2] * 30, 4)
    in_a = labels % 2 == 0
    tests = [cluster_permutation_difference(values, in_a, ~in_a, labels, seed=s, permutations=99) for s in (1, 1, 2)]
    assert (tests[0].null_low == tests[1].null_low).all() and (tests[0].null_low != tests[2].null_low).any()
    flips = [cluster_sign_flip(values, labels, seed=s, permutations=99) for s in (1, 1, 2)]
    assert (flips[0].null_low == flips[1].null_low).all() and (flips[0].null_low != flips[2].null_low).any()


def test_a_test_without_permutations_is_told_in_one_line():
    values, in_a = np.arange(4.0), np.arange(4) < 2
    with pytest.raises(LocalizeError) as told:
        cluster_permutation_difference(values, in_a, ~in_a, np.arange(4), seed=0, permutations=0)
    assert str(told.value) == "cluster_permutation_difference: permutations=0 must be at least 1."
    with pytest.raises(LocalizeError) as told:
        cluster_sign_flip(values, np.arange(4), seed=0, permutations=-1)
    assert str(told.value) == "cluster_sign_flip: permutations=-1 must be at least 1."


def test_a_p_value_that_the_interval_contradicts_is_rough_and_no_other_is_for_it(monkeypatch):
    """12 clusters of skewed values: flips reject too often, and where the interval holds 0 they are marked."""
    monkeypatch.setattr(roughness, "MOST", 1.0)
    values = np.random.default_rng(11).exponential(size=(12, 400)) - 1
    test = cluster_sign_flip(values, np.arange(12), seed=0, family=1)
    interval = cluster_bootstrap(values, np.arange(12), seed=0)
    holds = (interval.low <= 0) & (interval.high >= 0)
    expected = rough_mean(values, np.arange(12)) | ((test.p_value <= 0.05) & holds)
    np.testing.assert_array_equal(test.rough, expected)
    assert (expected & ~interval.rough).sum() > 5
    in_a = np.arange(24) < 12
    pair = np.random.default_rng(12).exponential(size=(24, 400)) - 1
    pair[in_a] *= 4
    test = cluster_permutation_difference(pair, in_a, ~in_a, np.arange(24), seed=0, family=1)
    interval = cluster_bootstrap_difference(pair, in_a, ~in_a, np.arange(24), seed=0)
    holds = (interval.low <= 0) & (interval.high >= 0)
    expected = rough_difference(pair, in_a, ~in_a, np.arange(24)) | ((test.p_value <= 0.05) & holds)
    np.testing.assert_array_equal(test.rough, expected)
    assert (expected & ~interval.rough).any()


@pytest.mark.parametrize("cells", [128, 432])
def test_one_true_cell_of_many_is_found(cells):
    values, in_a = np.random.default_rng(cells).normal(size=(100, cells)), np.arange(100) < 45
    values[in_a, 5] += 2
    test = cluster_permutation_difference(values, in_a, ~in_a, np.arange(100), seed=1)
    assert np.flatnonzero(false_discovery(test.p_value) <= 0.05).tolist() == [5]
    alone = cluster_permutation_difference(values[:, 5], in_a, ~in_a, np.arange(100), seed=1)
    assert alone.p_value == 1 / 2001, "one test needs no more"
    told = cluster_permutation_difference(values[:, 5], in_a, ~in_a, np.arange(100), seed=1, family=cells)
    assert told.p_value == test.p_value[5] == 1 / (1 + 50 * cells)
    values[:, 5] = np.random.default_rng(0).normal(size=100) + 1
    flips = cluster_sign_flip(values, np.arange(100), seed=1)
    assert np.flatnonzero(false_discovery(flips.p_value) <= 0.05).tolist() == [5]
    assert cluster_sign_flip(values[:, 5], np.arange(100), seed=1, family=cells).p_value == 1 / (1 + 50 * cells)


def test_what_is_tested_further_leaves_other_cells_and_exact_tests_as_they_are():
    values, in_a = np.random.default_rng(2).normal(size=(40, 60)), np.arange(40) < 20
    values[in_a, 0] += 3
    few = cluster_permutation_difference(values, in_a, ~in_a, np.arange(40), seed=1, permutations=200, family=1)
    more = cluster_permutation_difference(values, in_a, ~in_a, np.arange(40), seed=1, permutations=200)
    known = few.p_value > 10 / 201
    np.testing.assert_array_equal(few.p_value[known], more.p_value[known])
    assert more.p_value[0] < few.p_value[0] == 1 / 201
    np.testing.assert_array_equal(few.null_high, more.null_high)
    exact = [cluster_sign_flip(values[:8], np.arange(8), seed=0, family=family) for family in (1, 10**5)]
    np.testing.assert_array_equal(exact[0].p_value, exact[1].p_value)
    np.testing.assert_array_equal(exact[0].p_value * 256 % 1, 0)
