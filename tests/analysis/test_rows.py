"""One row maker: what a row rests on, which null it has, whether its interval is rough, and what a difference says."""

import numpy as np
import pytest

from localize.analysis.draws import Draws
from localize.analysis.rows import COLUMNS, NO_NULL, Basis, Null, beside, is_rough, null_ends, row_of, rows_of, side
from localize.statistics import UNBOUNDED, Interval, rough_difference, rough_mean

DRAWS = Draws(0, 100)
CLUSTERS = np.r_[np.repeat(np.arange(12), 2), np.arange(50, 74)]
GROUP = np.array(["memorized"] * 24 + ["not_memorized"] * 24)


def ends(estimate, low, high, rough=None):
    return Interval(np.array(estimate), np.array(low), np.array(high), None if rough is None else np.array(rough))


def test_a_row_has_every_column_in_order():
    null = Null.dealt(0.0, -0.5, 0.5, 0.01)
    row = row_of(ends(1.0, 0.5, 1.5, True), null, Basis(9, 4, 3.5), matched_on="confidence")
    assert tuple(row) == COLUMNS
    expected = (1.0, 0.5, 1.5, 0.0, None, None, -0.5, 0.5, 0.01, None, True, 9, 4, 3.5, "confidence")
    for (name, value), wanted in zip(row.items(), expected, strict=True):
        assert np.isnan(value) if wanted is None else value == wanted and type(value) is type(wanted), name


def test_a_null_that_is_measured_has_the_interval_of_its_mean_and_one_that_is_dealt_its_range():
    measured, dealt = Null.measured(ends(0.2, 0.1, 0.3), 0.5), Null.dealt(0.2, 0.1, 0.3, 0.5)
    rows = [row_of(null=null) for null in (measured, dealt, NO_NULL)]
    names = ("null_mean_low", "null_mean_high", "null_range_low", "null_range_high")
    np.testing.assert_equal(
        [[row[name] for name in names] for row in rows],
        [[0.1, 0.3, np.nan, np.nan], [np.nan, np.nan, 0.1, 0.3], [np.nan] * 4],
    )
    assert [null_ends(row) for row in rows[:2]] == [(0.1, 0.3)] * 2 and np.isnan(null_ends(rows[2])).all()
    assert [row["null"] for row in rows[:2]] == [0.2, 0.2] and [row["p_value"] for row in rows[:2]] == [0.5, 0.5]


def test_what_could_not_be_measured_rests_on_nothing():
    row = row_of()
    assert (row["n"], row["clusters"], row["effective_clusters"], row["rough"], row["matched_on"]) == (
        0,
        0,
        0,
        None,
        "",
    )
    assert np.isnan([row[name] for name in COLUMNS[:10]]).all()
    assert Basis.of(np.array([], dtype=int)) == Basis()


def test_a_basis_counts_paragraphs_distinct_clusters_and_effective_ones():
    assert Basis.of(np.array([7, 7, 7, 2])) == Basis(4, 2, 1.6)


def test_an_interval_is_judged_rough_only_where_it_is_there():
    assert row_of(ends(1.0, 0.5, 1.5, False))["rough"] is False
    assert row_of(ends(1.0, 0.5, 1.5))["rough"] is None, "nothing judges it"
    assert row_of(ends(1.0, np.nan, np.nan, True))["rough"] is None, "there is no interval"


@pytest.mark.parametrize(
    ("own", "of_p", "p_value", "expected"),
    [
        (False, False, 0.5, False), (True, False, 0.5, True), (False, True, 0.5, True), (None, True, 0.5, True),
        (False, True, np.nan, False), (None, None, 0.5, None),
    ],
)  # fmt: skip
def test_a_row_is_rough_if_its_interval_or_its_p_value_is(own, of_p, p_value, expected):
    row = row_of(ends(1.0, 0.5, 1.5, own), Null.dealt(0.0, -1.0, 1.0, p_value, of_p))
    assert row["rough"] is expected and is_rough(row) == bool(expected)


def test_a_row_is_rough_if_the_interval_beside_it_is():
    null = Null.measured(ends(1.0, 0.5, 1.5, True), np.nan)
    assert row_of(ends(1.0, 0.5, 1.5, False), null)["rough"] is True


@pytest.mark.parametrize("spread", [0.1, 1.5], ids=["nearly normal", "skewed"])
def test_rough_is_what_the_statistics_say_of_that_very_interval(spread):
    values = np.exp(np.random.default_rng(1).normal(0, spread, 48))
    values[3] = np.nan
    in_a = GROUP == "memorized"
    rows = rows_of("q", values, GROUP, CLUSTERS, DRAWS, lambda _: NO_NULL, UNBOUNDED)
    judged = [
        rough_mean(values[in_a], CLUSTERS[in_a]), rough_mean(values[~in_a], CLUSTERS[~in_a]),
        rough_difference(values, in_a, ~in_a, CLUSTERS),
    ]  # fmt: skip
    assert [row["rough"] for row in rows] == [bool(rough) for rough in judged]
    assert rows[2]["rough"] == (spread > 1)
    assert [(row["n"], row["clusters"]) for row in rows] == [(23, 12), (24, 24), (47, 36)]


def test_beside_counts_only_paragraphs_with_both_and_is_rough_if_one_of_its_intervals_is():
    other = np.random.default_rng(0).gamma(50.0, size=48)
    own = np.where(np.arange(48) % 16 == 3, other, 0.0)  # only three differ from the others
    own[0] = other[1] = np.nan  # both of one cluster
    row = beside(own, other, CLUSTERS, UNBOUNDED, DRAWS)
    assert (row["n"], row["clusters"]) == (46, 35)
    assert row["rough"] and [bool(rough_mean(side[2:], CLUSTERS[2:])) for side in (own, other)] == [True, False]
    assert row["null"] == pytest.approx(other[2:].mean()) and np.isnan(row["null_range_low"])
    assert row["difference"] == pytest.approx((own - other)[2:].mean())
    nothing = beside(own * np.nan, other, CLUSTERS, UNBOUNDED, DRAWS)
    assert nothing["n"] == 0 and np.isnan([nothing["estimate"], nothing["difference_low"]]).all()


@pytest.mark.parametrize(
    ("low", "high", "p_value", "which"),
    [
        (1.0, 2.0, 0.01, 1),
        (-2.0, -1.0, 0.01, -1),
        (1.0, 2.0, 0.2, 0),
        (-1.0, 2.0, 0.01, 0),
        (np.nan, np.nan, np.nan, None),
        (1.0, 2.0, np.nan, 1),
    ],
)
def test_a_difference_is_told_only_where_interval_and_test_if_there_is_one_agree(low, high, p_value, which):
    assert side(low, high, p_value) == which
