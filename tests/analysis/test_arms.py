"""Arms beside each other: numbers by hand, differences of the same paragraphs and seeds, p-values by scipy."""

import numpy as np
import pytest
from scipy import stats

import localize as lz

COPIES = {"few": [0, 0, 0, 1, 1, 0, 0], "many": [0, 0, 0, 9, 9, 0, 0]}
STAGE = [0, 0, 0, 0, 0, 1, 1]
STAGES = [{"name": "old", "steps": 50}, {"name": "new", "steps": 50}]
STEPS, SEEDS = [0, 50, 100], 5

pytestmark = pytest.mark.filterwarnings("ignore:arm_table. (one|2) seed")


def numbers():
    """NLL along arm, run, seed, step, paragraph."""
    return 3 + np.random.default_rng(0).normal(0, 0.3, (2, 2, SEEDS, len(STEPS), len(STAGE)))


@pytest.fixture(scope="module")
def of_arms(make_training, join_arms):
    """`of_arms(seeds=5, twin=True)`."""

    def made(seeds=SEEDS, twin=True):
        nll = numbers()[:, :, :seeds]
        nll = nll if twin else nll[:, 0]
        nll = nll if seeds > 1 else nll[..., 0, :, :]
        parts = {}
        for at, (arm, copies) in enumerate(COPIES.items()):
            part = make_training(
                nll[at], copies=copies, steps=STEPS, seeds=range(seeds) if seeds > 1 else [], stage=STAGE,
                runs=["planted", "twin"] if twin else [], windows=[(0.0, 0.5) if c else (np.nan, np.nan) for c in copies],
                training={"steps": 100, "batch": 4, "stages": STAGES},
            )  # fmt: skip
            parts[arm] = part
        return join_arms(parts)

    return made


def test_each_quantity_stands_beside_the_same_of_the_first_arm(of_arms):
    table, nll = lz.arm_table(of_arms()), numbers()
    last, shift = nll[:, 0, :, 2], nll[:, 0, :, 2] - nll[:, 0, :, 1]
    cost, effect = nll[:, 0, :, 2] - nll[:, 1, :, 2], nll[:, 1, :, 2] - nll[:, 0, :, 2]
    wanted = {
        ("NLL", "held-out, old"): last[..., :3], ("NLL", "held-out, new"): last[..., 5:], ("NLL", "planted"): last[..., 3:5],
        ("NLL since new began", "held-out, old"): shift[..., :3], ("pair effect", "planted"): effect[..., 3:5],
        ("NLL beyond the twin's", "held-out, old"): cost[..., :3],
        ("NLL beyond the twin's", "held-out, new"): cost[..., 5:],
    }  # fmt: skip
    told = set(zip(table.index.get_level_values(0), table.index.get_level_values(1), strict=True))
    assert told == {*wanted, ("exact match", "planted")}
    for key, values in wanted.items():
        few, many = values.mean(-1)
        first, second = table.loc[(*key, "few")], table.loc[(*key, "many")]
        assert np.isnan(first["null"]) and np.isnan(first["difference"]) and np.isnan(first["p_value"])
        for row, own in ((first, few), (second, many)):
            low, high = stats.t.interval(0.95, SEEDS - 1, loc=own.mean(), scale=stats.sem(own))
            np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [own.mean(), low, high])
        less = many - few
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=less.mean(), scale=stats.sem(less))
        ends = second[["difference", "difference_low", "difference_high"]].astype(float)
        np.testing.assert_allclose(ends, [less.mean(), low, high])
        assert second["null"] == pytest.approx(few.mean())
        assert second["p_value"] == pytest.approx(stats.ttest_rel(many, few).pvalue)
        assert (second["seeds"], second["n"]) == (SEEDS, values.shape[-1])


def test_p_values_of_a_quantity_are_corrected_for_all_arms_and_texts(of_arms):
    table = lz.arm_table(of_arms())
    own = table.loc["NLL"].dropna(subset="p_value")
    np.testing.assert_allclose(own["q_value"], stats.false_discovery_control(own["p_value"]))


def test_rows_stand_arm_beside_arm(of_arms):
    index = lz.arm_table(of_arms()).index
    assert index.names == ["quantity", "text", "training_arm"]
    assert [arm for _, _, arm in index] == ["few", "many"] * (len(index) // 2)


def test_another_step_is_told_when_asked_for(of_arms):
    table, nll = lz.arm_table(of_arms(), step=50), numbers()
    assert table.loc[("NLL", "held-out, old", "many"), "estimate"] == pytest.approx(nll[1, 0, :, 1, :3].mean())
    assert "NLL since new began" not in table.index.get_level_values(0), "it had not begun"


def test_without_a_twin_the_gap_is_unmatched_and_of_one_seed_intervals_are_over_clusters(of_arms):
    table, nll = lz.arm_table(of_arms(1, twin=False)), numbers()[:, 0, 0, 2]
    gap = nll[1, :3].mean() - nll[1, 3:5].mean()
    assert table.loc[("unmatched gap", "planted", "many"), "estimate"] == pytest.approx(gap)
    row = table.loc[("NLL", "held-out, old", "many")]
    assert row["difference"] == pytest.approx((nll[1] - nll[0])[:3].mean())
    assert np.isnan(row["p_value"]) and row["seeds"] == 1


def test_held_out_text_of_another_stage_is_no_null_of_the_planted(of_arms):
    table, nll = lz.dose_table(of_arms().at(training_arm="many")), numbers()
    effect = nll[1, 1, :, 2] - nll[1, 0, :, 2]
    assert table.loc[(9, "0-50 %", "pair effect"), "null"] == pytest.approx(effect[:, :3].mean())


def test_what_has_no_arms_and_what_has_several_is_told_apart(of_arms):
    signature = of_arms()
    with pytest.raises(lz.SignatureError, match=r"^dose_table: the signature is of the arms few, many; choose one, "):
        lz.dose_table(signature)
    with pytest.raises(lz.SignatureError, match=r"^arm_table: the signature has no axis 'training_arm'; "):
        lz.arm_table(signature.at(training_arm="few"))
    with pytest.raises(lz.SignatureError, match=r"^arm_table: step=7 was not measured; the nearest that was is 0\.$"):
        lz.arm_table(signature, step=7)
