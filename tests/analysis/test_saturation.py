"""Shares of positions by a measure that saturates, beside what saturation alone makes: known worlds, and words from their rows."""

import numpy as np
import pandas as pd
import pytest

from localize.analysis.concentration import Told, first_half_share, top_share
from localize.analysis.draws import Draws
from localize.analysis.rows import COLUMNS, row_of
from localize.analysis.saturation import SATURATION, disagreements, saturation_rows
from localize.statistics import ZERO_TO_ONE
from localize.statistics.permutation import cluster_permutation_difference

END, PAIR = 50, "memorized - not_memorized"
NAMES = ("share of the {} in the top 5 positions", "share of the {} in the first half of the prefix")
GROUP = np.array(["memorized"] * 40 + ["not_memorized"] * 40)
IN_A = GROUP == "memorized"


def lost_at(rng, profile, levels):
    """Two draws of what is lost of 50 tokens, and the NLL that rises with the hazard."""
    hazard = np.where(IN_A, *levels)[:, None, None] * np.broadcast_to(profile[:, None], (80, 2, profile.shape[1]))
    kept = np.floor(rng.standard_exponential(hazard.shape) / hazard)
    return END - np.minimum(kept, END), hazard * rng.gamma(20, 1 / 20, hazard.shape)


def shares(lost):
    return np.stack([top_share(lost), first_half_share(lost)])


def beside(lost, seed=0, draws=200):
    found = saturation_rows(
        dict.fromkeys(NAMES, ZERO_TO_ONE), shares, lost, np.full(80, END), GROUP, np.arange(80), Draws(seed, draws)
    )
    return [row["p_value"] for row in found]


def test_one_profile_at_two_levels_of_hazard_differs_by_exact_match_alone_and_not_beside_saturation():
    """In 40 worlds; "different" by labels permuted means nothing there."""
    plain, smooth, new = [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        lost, rise = lost_at(rng, rng.gamma(0.5, 2.0, (80, 20)), (0.01, 0.15))
        for values, found in ((lost, plain), (rise, smooth)):
            test = cluster_permutation_difference(
                top_share(values), IN_A, ~IN_A, np.arange(80), seed=seed, permutations=199
            )
            found.append(float(test.p_value))
        new.append(beside(lost, seed))
    assert np.mean(np.array(plain) <= 0.05) > 0.6
    assert np.mean(np.array(smooth) <= 0.05) <= 0.15
    assert (np.mean(np.array(new) <= 0.05, axis=0) <= 0.15).all()  # 6 of 40: at a true 5 %, more is 1 in 70


def test_profiles_that_differ_are_found_beside_saturation():
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        early = np.arange(20) < 10
        profile = rng.gamma(0.5, 2.0, (80, 20)) * np.where(IN_A[:, None] == early, 1.6, 0.4)
        found.append(beside(lost_at(rng, profile, (0.01, 0.15))[0], seed)[1])
    assert (np.array(found) <= 0.05).all()


def test_a_row_is_the_difference_beside_the_simulated_one():
    rng = np.random.default_rng(0)
    lost, _ = lost_at(rng, rng.gamma(0.5, 2.0, (80, 20)), (0.01, 0.15))
    lost[0] = 0  # nothing lost, so that it has no share
    rows = saturation_rows(
        dict.fromkeys(NAMES, ZERO_TO_ONE), shares, lost, np.full(80, END), GROUP, np.arange(80), Draws(1, 200)
    )
    values = shares(lost)
    for row, name, own in zip(rows, NAMES, values, strict=True):
        assert (row["quantity"], row["group"]) == (SATURATION.format(name), PAIR)
        assert row["estimate"] == pytest.approx(np.nanmean(own[IN_A]) - own[~IN_A].mean())
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["null_range_low"] < row["null"] < row["null_range_high"]
        assert (row["n"], row["clusters"]) == (79, 79)
    inside = [row["null_range_low"] <= row["estimate"] <= row["null_range_high"] for row in rows]
    assert inside == [row["p_value"] > 0.05 for row in rows]
    assert rows[0]["null"] > 0.03, "saturation alone makes the shares of the two groups differ"


def test_without_two_groups_there_is_nothing_to_hold_beside_and_with_nothing_lost_no_number():
    told = Told(np.array(["a"] * 6), np.arange(6), Draws(0, 100), Draws(0, 100))
    assert told.beside_saturation(np.ones((6, 2, 12)), np.full(6, 20)) == []
    told = Told(np.array(["a"] * 3 + ["b"] * 3), np.arange(6), Draws(0, 100), Draws(0, 100))
    rows = told.beside_saturation(np.concatenate([np.zeros((3, 2, 12)), np.ones((3, 2, 12))]), np.full(6, 20))
    assert len(rows) == 4 and all(np.isnan(row["estimate"]) for row in rows)


def table(nll, match, p_beyond):
    """A summary in which a difference is so by NLL and so by exact match: (estimate, low, high, p)."""
    rows = {}
    names = (NAMES[0].format("NLL rise"), NAMES[0].format("lost exact match"))
    for name, numbers in (
        *zip(names, (nll, match), strict=True),
        (SATURATION.format(names[1]), (*match[:3], p_beyond)),
    ):
        estimate, low, high, p = numbers
        rows[name, PAIR] = row_of() | {
            "estimate": estimate, "low": low, "high": high, "p_value": p, "null": 0.3, "n": 80, "clusters": 70,
        }  # fmt: skip
    return pd.DataFrame(rows.values(), index=pd.MultiIndex.from_tuples(rows), columns=list(COLUMNS))


ABOVE, BELOW, NEITHER, UNKNOWN = (0.2, 0.1, 0.3, 0.001), (-0.2, -0.3, -0.1, 0.001), (0.1, -0.1, 0.3, 0.4), (np.nan,) * 4


@pytest.mark.parametrize(
    ("nll", "match", "said"),
    [
        (BELOW, ABOVE, ("NLL rise it is smaller for memorized (-0.2 [-0.3", "match it is larger for memorized (0.2 [0.1, 0.3]")),
        (NEITHER, ABOVE, ("by NLL rise there is no significant difference (0.1 [-0.1, 0.3]", "it is larger for memorized")),
        (ABOVE, NEITHER, ("it is larger for memorized", "by lost exact match there is no significant difference")),
        (ABOVE, ABOVE, None),
        (NEITHER, NEITHER, None),
        (UNKNOWN, ABOVE, None),
    ],
)  # fmt: skip
def test_two_measures_disagree_where_one_is_significant_and_the_other_is_not_or_on_the_other_side(nll, match, said):
    notes = disagreements(table(nll, match, 0.6), NAMES)
    assert len(notes) == (said is not None)
    for words in said or ():
        assert words in notes[0]


@pytest.mark.parametrize(
    ("p_value", "words"),
    [(0.6, "is not significantly different from what saturation alone makes"), (0.01, "is smaller than saturation alone makes it"),
     (np.nan, "is not known")],
)  # fmt: skip
def test_whether_saturation_makes_the_difference_follows_from_its_own_row(p_value, words):
    assert words in disagreements(table(BELOW, ABOVE, p_value), NAMES)[0]


def test_a_summary_without_one_of_the_rows_says_nothing():
    whole = table(BELOW, ABOVE, 0.6)
    for name in whole.index:
        assert disagreements(whole.drop(name), NAMES) == []
