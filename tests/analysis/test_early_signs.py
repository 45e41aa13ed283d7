"""Signs early in a training: rank correlations by scipy, the fit by a loop, and what nothing looks like."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.early_signs import (
    CAUGHT,
    CORRELATION,
    FOLDS,
    PENALTY,
    TOGETHER,
    caught,
    centred_ranks,
    held_out_fit,
    top_tenth,
)

COPIES = np.array([0] * 10 + [2] * 20 + [8] * 20)
STEPS, SEEDS = [0, 5, 10, 50, 100], 5
TRAIT = np.random.default_rng(3).normal(size=50)
PLANTED = COPIES > 0

pytestmark = pytest.mark.filterwarnings("ignore:early_signs. (one|2) seed")


def numbers():
    """NLL along run, seed, step, paragraph: what is learned in the end follows copies, and within a level the trait."""
    rng = np.random.default_rng(0)
    nll = 3 + 0.1 * rng.normal(size=50) + 0.01 * rng.normal(size=(2, SEEDS, len(STEPS), 50))
    nll[0, :, 4] -= 0.1 * COPIES + 0.05 * TRAIT * PLANTED
    nll[0, :, 2] -= 0.02 * COPIES
    return nll


@pytest.fixture(scope="module")
def paired(make_training):
    return make_training(
        numbers(), copies=COPIES, windows=[(0.0, 1.0) if c else (np.nan, np.nan) for c in COPIES], steps=STEPS,
        runs=["planted", "twin"], seeds=range(SEEDS), training={"steps": 100, "batch": 4, "stages": []},
        traits={"rarity": TRAIT, "novelty": np.zeros(50)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(paired):
    return lz.early_signs(paired, resamples=200)


def test_rank_correlations_are_scipys_at_the_last_step_by_a_tenth_of_the_training(table):
    nll = numbers()
    learned = (nll[1] - nll[0])[:, 4][:, PLANTED]
    for sign, early in (
        ("NLL early", nll[0, :, 2]), ("fall of the NLL", nll[0, :, 0] - nll[0, :, 2]), ("pair effect early", (nll[1] - nll[0])[:, 2]),
        ("rarity of its words", np.tile(TRAIT, (SEEDS, 1))), ("copies", np.tile(COPIES, (SEEDS, 1))),
    ):  # fmt: skip
        own = [stats.spearmanr(early[seed, PLANTED], learned[seed]).statistic for seed in range(SEEDS)]
        row = table.loc[(CORRELATION, sign, "all planted")]
        assert row["estimate"] == pytest.approx(np.mean(own))
        if np.ptp(own) < 1e-9:
            continue
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=np.mean(own), scale=stats.sem(own))
        np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [np.mean(own), low, high], rtol=1e-6)
        assert (row["step"], row["seeds"], row["unit"], row["n"]) == (10, SEEDS, "seeds", 40)


def test_signs_are_read_at_the_share_asked_for(paired):
    assert set(lz.early_signs(paired, 0.06, resamples=5)["step"]) == {5}
    assert set(lz.early_signs(paired, 0.5, resamples=5)["step"]) == {50}


def test_within_levels_copies_drop_out_and_what_never_varies_is_no_sign(table):
    alike = table.loc[CORRELATION].xs("planted alike", level="among")
    assert list(alike.index) == ["rarity of its words", "NLL early", "fall of the NLL", "pair effect early", TOGETHER]
    assert alike.loc["rarity of its words", "estimate"] > 0.9 and alike.loc["rarity of its words", "p_value"] < 0.01
    assert abs(alike.loc["pair effect early", "estimate"]) < 0.3
    assert table.loc[(CORRELATION, "copies", "all planted"), "p_value"] < 0.01
    nulls = table.loc[[CORRELATION], ["null_range_low", "null_range_high"]].astype(float)
    assert (nulls["null_range_low"] < 0.05).all() and (nulls["null_range_high"] > -0.05).all()
    assert (nulls.abs() < 0.6).all(axis=None)
    assert alike.loc[TOGETHER, "estimate"] > 0.8


def test_the_pooled_correlation_within_levels_is_that_of_ranks_within_each(table):
    nll = numbers()
    learned, early = (nll[1] - nll[0])[0, 4, PLANTED], nll[0, 0, 2, PLANTED]
    ranks = [np.concatenate([stats.rankdata(v[:20]) - 10.5, stats.rankdata(v[20:]) - 10.5]) for v in (learned, early)]
    level = np.repeat([0, 1], 20)
    ours = [centred_ranks(v[None], level)[0] for v in (learned, early)]
    np.testing.assert_allclose(np.corrcoef(*ours)[0, 1], np.corrcoef(*ranks)[0, 1])


def test_each_text_is_predicted_from_others_alone():
    rng = np.random.default_rng(5)
    signs, target, fold = rng.normal(size=(2, 30, 3)), rng.normal(size=(2, 30)), np.arange(30) % FOLDS
    found = held_out_fit(signs, target, fold)
    for seed in range(2):
        for text in range(30):
            x, y = signs[seed, fold != fold[text]], target[seed, fold != fold[text]]
            weights = np.linalg.inv(x.T @ x + PENALTY * np.eye(3)) @ x.T @ y
            assert found[seed, text] == pytest.approx(signs[seed, text] @ weights)
    changed = target.copy()
    changed[:, 7] += 100
    np.testing.assert_allclose(held_out_fit(signs, changed, fold)[:, 7], found[:, 7])


def test_the_tenth_flagged_is_of_each_level_and_ties_share_the_last_places():
    level = np.repeat([0, 1, 2], [20, 12, 3])
    values = np.arange(35.0)[None]
    assert np.flatnonzero(top_tenth(values, level)[0]).tolist() == [18, 19, 31, 34]
    values[0, 16:20] = 16, 99, 18, 18  # two places, of which two texts share the second
    assert top_tenth(values, level)[0, 16:20].tolist() == [0, 1, 0.5, 0.5]
    one = np.zeros(20, np.int64)
    truth, right, half, wrong = (
        np.arange(20.0)[None],
        np.arange(20.0)[None] ** 3,
        np.arange(20.0)[None],
        -np.arange(20.0)[None],
    )
    half[0, 0] = 18.5
    assert [float(caught(guess, truth, one)[0]) for guess in (right, half, wrong)] == [1, 0.5, 0]


def test_ties_count_as_places_drawn_at_random():
    rng = np.random.default_rng(7)
    guess, truth, level = rng.integers(4, size=(1, 30)), rng.integers(5, size=(1, 30)), np.repeat([0, 1], 15)

    def drawn(values):
        return {
            int(at) for one in (0, 1)
            for at in sorted(np.flatnonzero(level == one), key=lambda i: (values[0, i], rng.random()))[-2:]
        }  # fmt: skip

    tried = [len(drawn(guess) & drawn(truth)) / 4 for _ in range(20_000)]
    assert float(caught(guess.astype(float), truth.astype(float), level)[0]) == pytest.approx(np.mean(tried), abs=0.01)


def test_a_warning_is_held_against_chance_and_what_is_dealt_out_anew(table):
    """By a loop: fit, flag a tenth, look how many are of the tenth learned most."""
    row = table.loc[(CAUGHT, TOGETHER, "all planted")]
    assert row["chance"] == pytest.approx(0.1)
    assert row["null"] == pytest.approx(0.1, abs=0.03)
    nll, own = numbers(), []
    learned = (nll[1] - nll[0])[:, 4][:, PLANTED]
    early = [
        np.tile(COPIES, (SEEDS, 1)),
        np.tile(TRAIT, (SEEDS, 1)),
        nll[0, :, 2],
        nll[0, :, 0] - nll[0, :, 2],
        (nll[1] - nll[0])[:, 2],
    ]
    whole = np.zeros(40, np.int64)
    ranks = np.stack([centred_ranks(np.asarray(sign, float)[:, PLANTED], whole) for sign in early], -1)
    fold = np.random.default_rng(0).permutation(40) % FOLDS
    fitted = held_out_fit(ranks, centred_ranks(learned, whole), fold)
    for seed in range(SEEDS):
        flagged, most = (set(np.argsort(values[seed])[-4:].tolist()) for values in (fitted, learned))
        own.append(len(flagged & most) / 4)
    assert row["estimate"] == pytest.approx(np.mean(own))
    assert row["null_range_low"] <= row["null"] <= row["null_range_high"] <= 1
    most = [top_tenth(values[None], whole)[0] for values in learned]  # 4 places; copies leave 20 texts tied for them
    assert table.loc[(CAUGHT, "copies", "all planted"), "estimate"] == pytest.approx(
        np.mean([one[20:].sum() / 20 for one in most])
    )
    fall = centred_ranks(
        (nll[0, :, 2] - nll[0, :, 0])[:, PLANTED], whole
    )  # of the opposite sign: the ones that fell least
    towards = np.sign(np.mean([stats.spearmanr(*pair).statistic for pair in zip(fall, learned, strict=True)]))
    wanted = np.mean([top_tenth(towards * one[None], whole)[0] @ top / 4 for one, top in zip(fall, most, strict=True)])
    assert table.loc[(CAUGHT, "fall of the NLL", "all planted"), "estimate"] == pytest.approx(wanted)
    alike = table.loc[(CAUGHT, TOGETHER, "planted alike")]
    assert alike["estimate"] > 0.5 and alike["p_value"] < 0.01
    assert alike["chance"] == pytest.approx(0.1)


def test_p_values_are_corrected_for_all_signs_of_the_same_texts(table):
    for among in ("all planted", "planted alike"):
        family = table.xs(among, level="among")
        np.testing.assert_allclose(family["q_value"], stats.false_discovery_control(family["p_value"].astype(float)))


def test_signs_that_tell_nothing_are_rarely_called_something(make_training):
    """What was learned is noise: about a twentieth of all p-values lie below .05, and the fit flags a tenth of the tenth."""
    p_values, shares = [], []
    for draw in range(12):
        rng = np.random.default_rng(draw)
        signature = make_training(
            5 + rng.uniform(size=(2, SEEDS, 3, 50)), copies=COPIES, steps=[0, 10, 100], runs=["planted", "twin"], seeds=range(SEEDS),
            training={"steps": 100, "batch": 4, "stages": []}, traits={"rarity": TRAIT},
        )  # fmt: skip
        found = lz.early_signs(signature, resamples=99)
        independent = [name for name in found.loc[CORRELATION].index.get_level_values("sign") if "NLL" not in name]
        p_values += found.loc[CORRELATION].loc[independent]["p_value"].tolist()
        shares.append(found.loc[CAUGHT]["estimate"].mean())
    assert np.mean(np.array(p_values) < 0.05) < 0.2
    assert np.mean(shares) == pytest.approx(0.1, abs=0.04)


def test_a_sign_that_tells_few_texts_apart_is_rough(make_training):
    def found(new):
        return lz.early_signs(
            make_training(
                numbers(), copies=COPIES, steps=STEPS, runs=["planted", "twin"], seeds=range(SEEDS), traits={"novelty": new},
                training={"steps": 100, "batch": 4, "stages": []},
            ), resamples=5,
        ).xs("share of new runs of words", level="sign")["rough"]  # fmt: skip

    four, five = np.zeros(50), np.zeros(50)
    four[[11, 12, 31, 32]] = five[[11, 12, 31, 32, 33]] = 1
    assert found(four).all() and not found(five).any()


def test_a_sign_that_runs_the_other_way_flags_its_lowest_texts(make_training, table):
    turned = lz.early_signs(
        make_training(
            numbers(), copies=COPIES, steps=STEPS, runs=["planted", "twin"], seeds=range(SEEDS), traits={"rarity": -TRAIT},
            training={"steps": 100, "batch": 4, "stages": []},
        ), resamples=5,
    )  # fmt: skip
    for quantity, sign in ((CORRELATION, -1), (CAUGHT, 1)):
        at = (quantity, "rarity of its words", "planted alike")
        assert turned.loc[at, "estimate"] == pytest.approx(sign * table.loc[at, "estimate"])
    assert table.loc[at, "estimate"] > 0.5


def test_a_single_training_has_no_interval_and_says_so(paired):
    with pytest.warns(UserWarning, match="early_signs: one seed, so that there are no intervals; 5 are needed"):
        found = lz.early_signs(paired.at(training_seed=0), resamples=20)
    assert found[["low", "high"]].isna().all(axis=None) and found["p_value"].notna().all()


def test_what_cannot_be_told_is_refused(paired):
    for share in (0.0, 1.0, -0.1, 10.0, float("nan")):
        with pytest.raises(lz.LocalizeError) as caught:
            lz.early_signs(paired, share)
        assert str(caught.value) == f"early_signs: share={share} must lie between 0 and 1, a part of the training."
    with pytest.raises(
        lz.SignatureError,
        match=r"^early_signs: nothing was measured in the first 2% of 100 steps; the first .* is 5\.$",
    ):
        lz.early_signs(paired, 0.02)
