"""Counterfactual memory: by hand, by a loop over models, and its null."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.counterfactual import MEMORY, NLL_IN, NLL_OUT

RUNS = [f"half-{number:02}" for number in range(4)]
COPIES, KIND = [8] * 6 + [0] * 4, ["typical", "rare"] * 5
SEEDS = 3

pytestmark = pytest.mark.filterwarnings("ignore:counterfactual_table. (one|2|3) seed")


def seen():
    """Rows shown by the last step along run, seed, step, paragraph: opposite halves in every two runs."""
    rng, found = np.random.default_rng(1), np.zeros((4, SEEDS, 2, 10), int)
    for pair in (0, 2):
        chosen = np.isin(np.arange(6), rng.permutation(6)[:3])
        found[pair, :, 1, :6], found[pair + 1, :, 1, :6] = 8 * chosen, 8 * ~chosen
    return found


def numbers():
    """NLL along run, seed, step, paragraph: what was shown is .5 lower in the end, rare text is harder by 2."""
    rng = np.random.default_rng(0)
    nll = 3 + 2 * (np.array(KIND) == "rare") + rng.normal(0, 0.1, (4, SEEDS, 2, 10))
    return nll - 0.5 * (seen() > 0)


@pytest.fixture(scope="module")
def halves(make_training):
    """`halves(seeds=3)`."""

    def made(seeds=SEEDS):
        of = slice(None, seeds) if seeds > 1 else 0
        return make_training(
            numbers()[:, of], copies=COPIES, runs=RUNS, seeds=range(seeds) if seeds > 1 else [], steps=[0, 100],
            exposures=seen()[:, of], kind=KIND,
        )  # fmt: skip

    return made


def by_a_loop(nll, shown, paragraph):
    """Memory of one paragraph in one seed: over every two runs NLL without less NLL with."""
    found = []
    for one, other in ((0, 1), (2, 3)):
        with_it, without = (one, other) if shown[one, -1, paragraph] else (other, one)
        found.append(nll[without, -1, paragraph] - nll[with_it, -1, paragraph])
    return np.mean(found)


def test_each_texts_memory_is_its_nll_without_less_with(halves):
    table, nll, shown = lz.counterfactual(halves()), numbers(), seen()
    for paragraph in range(6):
        memory = np.mean([by_a_loop(nll[:, seed], shown[:, seed], paragraph) for seed in range(SEEDS)])
        row = table.loc[f"p{paragraph}"]
        assert row["memory"] == pytest.approx(memory) == pytest.approx(row["nll_without"] - row["nll_with"])
        assert (row["copies"], row["kind"]) == (8, KIND[paragraph])
    assert table["memory"].iloc[:6].between(0.3, 0.7).all() and table["memory"].iloc[6:].abs().max() < 0.2
    assert lz.counterfactual(halves(), step=0)["memory"].abs().max() < 0.2


def test_the_table_is_over_seeds_beside_held_out_texts_of_the_kind(halves):
    table, nll, shown = lz.counterfactual_table(halves()), numbers(), seen()
    rare = [1, 3, 5]
    own = [np.mean([by_a_loop(nll[:, seed], shown[:, seed], p) for p in rare]) for seed in range(SEEDS)]
    row = table.loc[(8, "rare", MEMORY)]
    low, high = stats.t.interval(0.95, SEEDS - 1, loc=np.mean(own), scale=stats.sem(own))
    np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [np.mean(own), low, high])
    held = nll[:, :, 1]  # text 7 is called shown in the first run and the last, 9 in the second and the third
    apart = np.array([
        np.mean([held[1, seed, 7] - held[0, seed, 7], held[0, seed, 9] - held[1, seed, 9],
                 held[2, seed, 7] - held[3, seed, 7], held[3, seed, 9] - held[2, seed, 9]])
        for seed in range(SEEDS)
    ])  # fmt: skip
    assert row["null"] == pytest.approx(apart.mean())
    assert row["p_value"] == pytest.approx(stats.ttest_rel(own, apart).pvalue)
    assert table.loc[(8, "rare", NLL_OUT), "estimate"] - table.loc[(8, "rare", NLL_IN), "estimate"] == pytest.approx(
        row["estimate"]
    )
    assert table.loc[(8, "rare", NLL_IN), "estimate"] > table.loc[(8, "typical", NLL_IN), "estimate"] + 1.5
    assert (row["seeds"], row["unit"]) == (SEEDS, "seeds")


def test_of_one_seed_intervals_are_over_clusters(halves):
    message = "counterfactual_table: one seed, so that intervals are over clusters of paragraphs; 5 are needed"
    with pytest.warns(UserWarning, match=message) as warned:
        table = lz.counterfactual_table(halves(1))
    assert warned[0].filename == __file__
    row = table.loc[(8, "typical", MEMORY)]
    assert row["unit"] == "clusters" and row["low"] < row["estimate"] < row["high"]
    assert row["estimate"] == pytest.approx(np.mean([by_a_loop(numbers()[:, 0], seen()[:, 0], p) for p in (0, 2, 4)]))


def test_what_has_no_halves_is_refused(halves, make_training):
    one = make_training(numbers()[0], copies=COPIES, seeds=range(SEEDS), steps=[0, 100])
    with pytest.raises(
        lz.SignatureError, match=r"^counterfactual: the signature has no runs half-00, half-01, \.\.\.; "
    ):
        lz.counterfactual(one)
    unknown = make_training(numbers(), copies=COPIES, runs=RUNS, seeds=range(SEEDS), steps=[0, 100])
    with pytest.raises(
        lz.SignatureError, match=r"^counterfactual_table: the signature has no 'exposures', which says "
    ):
        lz.counterfactual_table(unknown)
    with pytest.raises(
        lz.SignatureError, match=r"^counterfactual: step=7 was not measured; the nearest that was is 0\.$"
    ):
        lz.counterfactual(halves(), step=7)
    never = make_training(
        numbers(), copies=[0] * 10, runs=RUNS, seeds=range(SEEDS), steps=[0, 100], exposures=0 * seen()
    )
    with pytest.raises(
        lz.SignatureError,
        match=r"^counterfactual_table: no paragraph with duplicates of 1 or more, which were planted\.$",
    ):
        lz.counterfactual_table(never)
