"""The table of doses: numbers by hand, intervals and p-values by scipy, AUCs by Mann and Whitney's U."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.draws import Draws
from localize.analysis.trainings import Trainings

COPIES = [0] * 6 + [2] * 4 + [8] * 4
WINDOWS = [(np.nan, np.nan)] * 6 + [(0, 0.25), (0, 0.25), (0.75, 1), (0.75, 1)] * 2
EARLY, LATE = "0-25 %", "75-100 %"
SEEDS = 5
SCHEDULE = {"steps": 100, "batch": 4, "stages": []}

pytestmark = pytest.mark.filterwarnings("ignore:dose_table. ")


def numbers(seeds=SEEDS, runs=2, paragraphs=14):
    """NLL along run, seed, step, paragraph; the first run has learned what was planted by the last of 3 steps."""
    rng = np.random.default_rng(0)
    nll = 3 + 0.3 * rng.normal(size=paragraphs) + 0.05 * rng.normal(size=(runs, seeds, 3, paragraphs))
    nll[0, :, 2] -= 0.02 * np.asarray(COPIES)
    return nll


@pytest.fixture(scope="module")
def paired(make_training):
    exact = np.random.default_rng(1).integers(0, 9, (2, SEEDS, 3, 14))
    return make_training(
        numbers(), exact, copies=COPIES, windows=WINDOWS, runs=["planted", "twin"], seeds=range(SEEDS), steps=[0, 50, 100],
        training=SCHEDULE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(paired):
    return lz.dose_table(paired)


def test_the_pair_effect_is_the_twins_nll_less_the_planted_runs_beside_that_of_held_out_paragraphs(table):
    nll = numbers()
    effect = nll[1, :, 2] - nll[0, :, 2]  # seed paragraph
    for (copies, window), rows in {
        (2, EARLY): [6, 7],
        (2, LATE): [8, 9],
        (8, EARLY): [10, 11],
        (8, LATE): [12, 13],
    }.items():
        row, own, held = table.loc[(copies, window, "pair effect")], effect[:, rows].mean(1), effect[:, :6].mean(1)
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=own.mean(), scale=stats.sem(own))
        np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [own.mean(), low, high])
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=held.mean(), scale=stats.sem(held))
        np.testing.assert_allclose(
            row[["null", "null_mean_low", "null_mean_high"]].astype(float), [held.mean(), low, high]
        )
        assert row["p_value"] == pytest.approx(stats.ttest_rel(own, held).pvalue)
        assert (row["n"], row["unit"], row["seeds"], row["matched_on"]) == (2, "seeds", SEEDS, "twin")
        assert row["estimate"] == pytest.approx(0.02 * copies, abs=0.06) and abs(row["null"]) < 0.1


def test_a_hand_case_of_two_seeds(make_training):
    nll = np.full((2, 2, 1, 2), 1.0)
    nll[0, 0, 0], nll[0, 1, 0] = (1.0, 0.5), (1.0, 0.3)  # held out, planted
    table = lz.dose_table(make_training(nll, copies=[0, 1], runs=["planted", "twin"], seeds=[7, 8]))
    row = table.loc[(1, "not told", "pair effect")]
    assert (row["estimate"], row["null"]) == (pytest.approx(0.6), 0.0)
    assert row["low"] == pytest.approx(0.6 - 12.7062 * 0.1, abs=1e-4) and row["high"] == pytest.approx(
        0.6 + 12.7062 * 0.1, abs=1e-4
    )
    assert row["rough"], "two seeds"


def test_another_step_is_told_when_asked_for(paired, table):
    early = lz.dose_table(paired, step=50)
    nll = numbers()
    own = (nll[1, :, 1] - nll[0, :, 1])[:, [10, 11]].mean()
    assert early.loc[(8, EARLY, "pair effect"), "estimate"] == pytest.approx(own)
    assert lz.dose_table(paired, step=100).equals(table)
    with pytest.raises(
        lz.SignatureError, match=r"^dose_table: step=60 was not measured; the nearest that was is 50\.$"
    ):
        lz.dose_table(paired, step=60)


def test_exact_match_is_the_planted_runs_beside_that_of_held_out_paragraphs(paired, table):
    exact = paired["exact_match"].values[0, :, 2].astype(float)
    row, own, held = table.loc[(8, LATE, "exact match")], exact[:, [12, 13]].mean(1), exact[:, :6].mean(1)
    assert (row["estimate"], row["null"]) == (pytest.approx(own.mean()), pytest.approx(held.mean()))
    assert row["p_value"] == pytest.approx(stats.ttest_rel(own, held).pvalue)
    assert row["low"] >= 0 and row["high"] <= 8


def u_auc(a, b):
    return stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))


def test_aucs_are_mann_and_whitneys_and_their_gain_is_taken_seed_by_seed(table):
    nll = numbers()
    effect, loss = nll[1, :, 2] - nll[0, :, 2], -nll[0, :, 2]
    rows = [6, 7]
    of_pair, of_loss = (np.array([u_auc(s[rows], s[:6]) for s in scores]) for scores in (effect, loss))
    for name, values, null in (
        ("AUC of the pair effect", of_pair, 0.5),
        ("AUC of the loss", of_loss, 0.5),
        ("AUC of the pair effect - AUC of the loss", of_pair - of_loss, 0.0),
    ):
        row = table.loc[(2, EARLY, name)]
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=values.mean(), scale=stats.sem(values))
        assert (row["estimate"], row["null"]) == (pytest.approx(values.mean()), null)
        bounds = (-1 if null == 0 else 0, 1)
        np.testing.assert_allclose([row["low"], row["high"]], np.clip([low, high], *bounds))
        assert row["p_value"] == pytest.approx(stats.ttest_1samp(values, null).pvalue)
        assert row["n"] == 8


def test_of_a_training_that_went_on_the_first_models_loss_is_taken_off(make_training):
    nll = numbers()
    axes = {
        "copies": COPIES,
        "windows": WINDOWS,
        "runs": ["planted", "twin"],
        "seeds": range(SEEDS),
        "steps": [0, 50, 100],
    }
    went_on = make_training(nll, nll * 0, training=SCHEDULE | {"start": "model"}, **axes)
    table = lz.dose_table(went_on)
    fall = nll[0, :, 0] - nll[0, :, 2]
    for (copies, window), rows in {(2, EARLY): [6, 7], (8, LATE): [12, 13]}.items():
        u = [stats.mannwhitneyu(fall[seed, rows], fall[seed, :6]).statistic / (len(rows) * 6) for seed in range(SEEDS)]
        assert table.loc[(copies, window, "AUC of the loss less the first model's")]["estimate"] == pytest.approx(
            np.mean(u)
        )
    later = make_training(nll, nll * 0, training=SCHEDULE | {"start": "model"}, **(axes | {"steps": [10, 50, 100]}))
    for signature in (make_training(nll, nll * 0, training=SCHEDULE, **axes), later):
        names = lz.dose_table(signature).index.get_level_values("quantity")
        assert "AUC of the loss less the first model's" not in names


def test_without_a_twin_held_out_paragraphs_are_compared_and_labels_dealt_out_over_clusters(make_training):
    nll = numbers()[0]
    signature = make_training(nll, copies=COPIES, windows=WINDOWS, seeds=range(SEEDS))
    table = lz.dose_table(signature)
    row = table.loc[(8, LATE, "unmatched gap")]
    own = nll[:, 2, :6].mean(1) - nll[:, 2, [12, 13]].mean(1)
    low, high = stats.t.interval(0.95, SEEDS - 1, loc=own.mean(), scale=stats.sem(own))
    np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [own.mean(), low, high])
    held, planted = np.isin(np.arange(14), range(6)), np.isin(np.arange(14), [12, 13])
    test = Draws(0).difference(nll[:, 2].mean(0), held, planted, np.arange(14))[1]
    np.testing.assert_allclose(
        row[["null", "null_range_low", "null_range_high", "p_value"]].astype(float),
        [0, test.null_low, test.null_high, test.p_value],
    )
    assert (row["n"], row["matched_on"]) == (8, "")
    assert set(table.index.get_level_values("quantity")) == {"unmatched gap", "exact match", "AUC of the loss"}


def test_of_one_seed_intervals_are_over_clusters_and_it_says_so(make_training):
    nll = numbers(seeds=1)[:, 0]
    exact, clusters = np.random.default_rng(1).integers(0, 9, nll.shape), np.arange(14) // 2 * 2
    signature = make_training(nll, exact, copies=COPIES, runs=["twin", "planted"][::-1], clusters=clusters)
    table, draws = lz.dose_table(signature), Draws(0)
    held, planted, effect = np.arange(14) < 6, np.arange(14) >= 10, nll[1, 2] - nll[0, 2]
    row, mean = table.loc[(8, "not told", "pair effect")], draws.mean(effect[planted], clusters[planted])
    assert (row["estimate"], row["low"], row["high"]) == (mean.estimate, mean.low, mean.high)
    assert row["p_value"] == draws.difference(effect, planted, held, clusters)[1].p_value
    assert set(table["unit"]) == {"clusters"} and set(table["seeds"]) == {1}
    assert table.loc[(8, "not told", "exact match"), "estimate"] == exact[0, 2, 10:].mean()
    of_pair, of_loss = u_auc(effect[planted], effect[held]), u_auc(-nll[0, 2, planted], -nll[0, 2, held])
    found = table.loc[(8, "not told")]["estimate"]
    assert found["AUC of the pair effect"] == pytest.approx(of_pair)
    assert found["AUC of the loss"] == pytest.approx(of_loss)
    assert found["AUC of the pair effect - AUC of the loss"] == pytest.approx(of_pair - of_loss)
    few, found = np.isin(np.arange(14), range(6, 10)), table.loc[(2, "not told")]["estimate"]
    of_pair, of_loss = u_auc(effect[few], effect[held]), u_auc(-nll[0, 2, few], -nll[0, 2, held])
    assert of_pair != of_loss
    assert found["AUC of the pair effect - AUC of the loss"] == pytest.approx(of_pair - of_loss)
    alone = lz.dose_table(make_training(nll[0], copies=COPIES, clusters=clusters)).loc[(8, "not told", "unmatched gap")]
    interval, test = draws.difference(nll[0, 2], held, planted, clusters)
    assert (alone["estimate"], alone["low"], alone["p_value"]) == (interval.estimate, interval.low, test.p_value)


def test_q_values_correct_each_quantity_for_all_levels(table):
    for _, rows in table.groupby(level="quantity"):
        rows = rows[rows["p_value"].notna()]
        assert len(rows) > 2
        np.testing.assert_allclose(rows["q_value"], stats.false_discovery_control(rows["p_value"]))


def test_few_seeds_and_few_paragraphs_without_a_twin_are_warned_of(make_training):
    nll = numbers()[0]
    with pytest.warns(UserWarning, match="^dose_table: ") as told:
        lz.dose_table(make_training(nll[:3], copies=COPIES, windows=WINDOWS, seeds=range(3)))
    assert [str(one.message) for one in told] == [
        "dose_table: 3 seeds; 5 are needed to tell what holds for other trainings.",
        "dose_table: few paragraphs (2 of 2 copies in 0-25 %, 2 of 8 copies in 0-25 %, 2 of 2 copies in 75-100 %, 2 of 8 copies in "
        "75-100 %) and no twin run; below 64, how hard they are outweighs what was learned.",
    ]
    assert all(one.filename == __file__ for one in told)
    with pytest.warns(
        UserWarning, match=r"^dose_table: one seed, so that intervals are over clusters of paragraphs; 5 are needed"
    ):
        lz.dose_table(make_training(numbers(seeds=1)[:, 0], copies=COPIES, runs=["planted", "twin"]))


@pytest.mark.filterwarnings("error")
def test_five_seeds_with_a_twin_are_not_warned_of(paired):
    assert len(lz.dose_table(paired, resamples=100)) == 20


def test_paragraphs_whose_copies_are_not_known_are_left_out(make_training):
    copies = np.array(COPIES, float)
    copies[[0, 13]] = np.nan
    nll = numbers()
    table = lz.dose_table(
        make_training(nll, copies=copies, windows=WINDOWS, runs=["planted", "twin"], seeds=range(SEEDS))
    )
    row, effect = table.loc[(8, LATE, "pair effect")], nll[1, :, 2] - nll[0, :, 2]
    assert (row["n"], row["estimate"]) == (1, pytest.approx(effect[:, 12].mean()))
    assert row["null"] == pytest.approx(effect[:, 1:6].mean())


def refusal(signature, function=lz.dose_table):
    with pytest.raises(lz.SignatureError) as error:
        function(signature)
    return str(error.value)


def test_what_is_not_over_training_or_does_not_tell_what_was_planted_is_refused_in_a_line(paired):
    from localize.signature.signature import MemorizationSignature as Signature

    asked = "; measurements at several steps of a training are needed."
    one = paired.at(training_run="planted", training_seed=0, training_step=-1)
    for function in (lz.dose_table, lz.first_recital, lz.recital_table, lz.forgetting_table):
        assert refusal(one, function) == f"{function.__name__}: the signature has no axis 'training_step'{asked}"
    dataset = paired.dataset
    assert refusal(Signature(dataset.drop_vars("duplicates"))) == (
        "dose_table: the signature has no coordinate 'duplicates' along the paragraphs; it says how many copies were planted."
    )
    assert refusal(Signature(dataset.drop_vars("nll"))) == (
        "dose_table: the signature has no 'nll'; measure it with localize.recall."
    )
    other = dataset.assign_coords(training_run=["first", "second"])
    assert refusal(Signature(other)) == "dose_table: no training_run='planted'; there are first, second."
    assert refusal(Signature(dataset.isel(paragraph=range(6, 14)))) == (
        "dose_table: no paragraph with duplicates of 0, which were held out; both are needed."
    )
    assert refusal(Signature(dataset.isel(paragraph=range(6)))) == (
        "dose_table: no paragraph with duplicates of 1 or more, which were planted; both are needed."
    )


def test_where_the_runs_stand_does_not_matter(paired, table):
    from localize.signature.signature import MemorizationSignature as Signature

    turned = Signature(paired.dataset.isel(training_run=[1, 0]))
    assert lz.dose_table(turned).equals(table)
    assert Trainings.of(turned).gap_name == "pair effect"
    alone = Signature(paired.dataset.isel(training_run=[0]))
    assert Trainings.of(alone).gap_name == "unmatched gap"
