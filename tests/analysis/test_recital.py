"""First recitals by hand, and their shares and medians by copies."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.draws import Draws
from localize.analysis.recital import half_reached

W = 8  # the whole continuation
STEPS = [0, 10, 20, 40]
# step by step of each paragraph: held out twice, then four planted ones
EXACT = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, W, W, W], [0, 0, W, 7], [W, 3, W, W], [0, 7, 7, 7]]).T
SEEN = np.array([[0] * 4, [0] * 4, [0, 2, 4, 8], [0, 1, 5, 5], [0, 2, 3, 4], [0, 2, 4, 8]]).T
COPIES = [0, 0, 8, 8, 4, 8]

pytestmark = pytest.mark.filterwarnings("ignore:recital_table. ")


@pytest.fixture(scope="module")
def one(make_training):
    return make_training(1 + EXACT * 0.0, EXACT, copies=COPIES, steps=STEPS, exposures=SEEN)


def test_the_first_whole_recital_what_was_seen_by_then_and_when_it_is_lost(one):
    table = lz.first_recital(one)
    assert table.index.names == ["paragraph"]
    nan = np.nan
    expected = {
        "first_step": [nan, nan, 10, 20, 0, nan],
        "after_step": [nan, nan, 0, 10, nan, nan],
        "exposures": [nan, nan, 2, 5, 0, nan],
        "lost_step": [nan, nan, nan, 40, 10, nan],
        "recited_at_end": [0, 0, 1, 0, 1, 0],
        "copies": COPIES,
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(table[name].to_numpy(float), values, err_msg=name)
    assert table["group"].tolist() == ["never_trained"] * 2 + ["planted"] * 4
    assert table["window"].tolist() == [""] * 2 + ["not told"] * 4


def test_runs_and_seeds_have_rows_of_their_own(make_training):
    exact = np.zeros((2, 3, 4, 6), int)
    exact[0, 1] = EXACT
    signature = make_training(exact + 1.0, exact, copies=COPIES, steps=STEPS, runs=["planted", "twin"], seeds=[3, 5, 9])
    table = lz.first_recital(signature)
    assert table.index.names == ["training_run", "training_seed", "paragraph"] and len(table) == 36
    assert table["first_step"].notna().sum() == 3 and table["exposures"].isna().all()
    assert table.loc[("planted", 5, "p3"), "first_step"] == 20
    seeds_alone = make_training(exact[0] + 1.0, exact[0], copies=COPIES, steps=STEPS, seeds=[3, 5, 9])
    assert lz.first_recital(seeds_alone).index.names == ["training_seed", "paragraph"]


def test_shares_and_medians_by_copies(one):
    table, draws, clusters = lz.recital_table(one), Draws(0), np.arange(6)
    rows = table.loc[(8, "not told")]["estimate"]
    assert rows["share ever recited"] == pytest.approx(2 / 3)
    assert rows["share recited at the end"] == pytest.approx(1 / 3)
    assert rows["median first step"] == 20, "half of three are two: by step 20"
    assert rows["median exposures by then"] == 5
    row, ever = table.loc[(8, "not told", "share ever recited")], np.array([0.0, 0, 1, 1, 1, 0])
    assert (row["null"], row["n"]) == (0.0, 3)
    test = draws.difference(ever, np.isin(np.arange(6), [2, 3, 5]), np.arange(6) < 2, clusters)[1]
    assert row["p_value"] == test.p_value


def test_over_seeds_the_interval_is_students_and_a_seed_that_never_gets_there_leaves_no_median(make_training):
    exact = np.stack([EXACT] * 5)
    exact[1:3, 1, 3] = W  # here already at step 10
    signature = make_training(exact + 1.0, exact, copies=COPIES, steps=STEPS, seeds=range(5))
    row = lz.recital_table(signature).loc[(8, "not told", "median first step")]
    firsts = np.array([20.0, 10, 10, 20, 20])
    low, high = stats.t.interval(0.95, 4, loc=firsts.mean(), scale=stats.sem(firsts))
    np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [16, low, high])
    exact[0, :, 3] = 0  # in this seed one of three is recited
    signature = make_training(exact + 1.0, exact, copies=COPIES, steps=STEPS, seeds=range(5))
    table = lz.recital_table(signature).loc[(8, "not told")]
    assert np.isnan(table.loc["median first step", "estimate"])
    assert table.loc["share ever recited", "estimate"] == pytest.approx((4 * 2 / 3 + 1 / 3) / 5)


def test_half_is_reached_at_the_first_place_with_a_half_or_more():
    shares = np.array([[0.0, 0.5, 0.9], [0.1, 0.2, 0.5], [0.0, 0.1, 0.49]])
    np.testing.assert_array_equal(half_reached(shares, np.array([0, 7, 9])), [7, 9, np.nan])


def test_without_held_out_paragraphs_there_is_no_null(make_training):
    signature = make_training(EXACT[:, 2:] + 1.0, EXACT[:, 2:], copies=COPIES[2:], steps=STEPS)
    table = lz.recital_table(signature)
    assert table["null"].isna().all() and table.loc[(8, "not told", "share ever recited"), "estimate"] == pytest.approx(
        2 / 3
    )
    assert "median exposures by then" not in table.index.get_level_values("quantity")
