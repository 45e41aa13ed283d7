"""Known facts and the accuracy that they give: by hand, beside facts kept at random, and of a training that selects them."""

import math

import numpy as np
import pytest
from scipy import stats

import localize as lz

SET = {
    "source": "facts",
    "rows": 6,
    "vocab": 4,
    "row_tokens": 4,
    "predicted_tokens": 2,
    "exponent": 1.0,
    "ambiguous_bits": 0.0,
}
COPIES = [5] * 6 + [0] * 4
FREQUENCY = np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]) / (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6)
ARMS = {"all": ("", 0), "random": ("random", 3), "loss": ("loss", 3)}

pytestmark = pytest.mark.filterwarnings("ignore:facts_table. (one|2) seed")


def numbers(seeds=5):
    """NLL and exact match along (arm, seed, step, paragraph)."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1.4, (3, seeds, 2, 10)), rng.integers(0, 3, (3, seeds, 2, 10))


def told(select, keep):
    kept = [{"select": "", "keep": 0}, {"select": select, "keep": keep}]
    return {"steps": 20, "set": SET | {"kept": kept}, "parameters": 50, "dtype": "float32"}


@pytest.fixture(scope="module")
def of_arms(make_training, join_arms):
    """`of_arms(seeds=5, names=...)`."""

    def made(seeds=5, names=tuple(ARMS)):
        nll, exact = numbers(seeds)
        nll, exact = (of if seeds > 1 else of[:, 0] for of in (nll, exact))
        return join_arms(
            {
                arm: make_training(
                    nll[at], exact[at], copies=COPIES, steps=[0, 20], seeds=range(seeds) if seeds > 1 else [], training=told(*ARMS[arm])
                )
                for at, arm in enumerate(ARMS)
                if arm in names
            }
        )  # fmt: skip

    return made


def by_hand(arm):
    """Known facts, accuracy and bits per parameter of each seed at the last step, and of facts never shown."""
    nll, exact = (of[list(ARMS).index(arm), :, 1] for of in numbers())
    known = exact == 2
    bits = np.maximum(2 * (2 - nll / math.log(2)), 0)
    own = known[:, :6].sum(1), (known[:, :6] * FREQUENCY).sum(1), bits[:, :6].sum(1) / 50
    return own, (6 * known[:, 6:].mean(1), known[:, 6:].mean(1), 6 * bits[:, 6:].mean(1) / 50)


QUANTITIES = ("known facts", "accuracy, weighted by frequency", "bits per parameter")


@pytest.mark.parametrize("arm", ARMS)
def test_each_arm_stands_beside_facts_kept_at_random_and_that_beside_facts_never_shown(of_arms, arm):
    table, (own, never) = lz.facts_table(of_arms()).xs((arm, 20), level=("arm", "step")), by_hand(arm)
    random = by_hand("random")[0]
    for quantity, values, none, other in zip(QUANTITIES, own, never, random, strict=True):
        row, null = table.loc[quantity], none if arm == "random" else other
        low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
        np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [values.mean(), low, high])
        assert row["null"] == pytest.approx(null.mean())
        less = values - null
        low, high = stats.t.interval(0.95, 4, loc=less.mean(), scale=stats.sem(less))
        ends = row[["difference", "difference_low", "difference_high"]].astype(float)
        np.testing.assert_allclose(ends, [less.mean(), low, high])
        assert row["p_value"] == pytest.approx(stats.ttest_rel(values, null).pvalue)
        assert row["matched_on"] == ("facts never shown" if arm == "random" else "facts kept at random")
        assert (row["kept"], row["selected_by"]) == (ARMS[arm][1] or 6, ARMS[arm][0])
        assert (row["rows"], row["parameters"], row["seeds"], row["n"]) == (6, 50, 5, 6)


def test_without_such_an_arm_the_null_is_facts_never_shown(of_arms):
    row = lz.facts_table(of_arms(names=("all", "loss"))).loc[("loss", 20, "known facts")]
    assert row["null"] == pytest.approx(by_hand("loss")[1][0].mean()) and row["matched_on"] == "facts never shown"


def test_all_steps_are_told_if_asked_for_and_p_values_are_corrected_for_all(of_arms):
    table = lz.facts_table(of_arms(), None)
    assert list(dict.fromkeys(table.index.get_level_values("step"))) == [0, 20]
    for quantity in QUANTITIES:
        rows = table.xs(quantity, level="quantity")
        np.testing.assert_allclose(rows["q_value"], stats.false_discovery_control(rows["p_value"]))


def test_where_all_is_known_accuracy_is_one_whatever_the_law(make_training):
    for exponent in (0.0, 2.0):
        law = {"set": told("", 0)["set"] | {"exponent": exponent}}
        signature = make_training(
            np.zeros((2, 2, 10)), np.full((2, 2, 10), 2), copies=COPIES, steps=[0, 20], seeds=[0, 1], training=told("", 0) | law
        )  # fmt: skip
        table = lz.facts_table(signature).loc[("", 20)]
        assert table.loc["known facts", "estimate"] == 6 and table.loc[QUANTITIES[1], "estimate"] == pytest.approx(1)
        assert table.loc[QUANTITIES[2], "estimate"] == pytest.approx(6 * 4 / 50)


def test_of_one_seed_a_difference_has_no_ends(of_arms):
    with pytest.warns(UserWarning, match="facts_table: one seed, so that intervals are over facts; 5 are needed"):
        table = lz.facts_table(of_arms(1))
    row = table.loc[("loss", 20, "known facts")]
    assert np.isfinite(row["difference"]) and np.isnan(row["difference_low"]) and np.isnan(row["p_value"])
    assert row["low"] <= row["estimate"] <= row["high"]


def test_another_corpus_is_refused(make_training):
    signature = make_training(
        np.ones((2, 10)), copies=COPIES, training=told("", 0) | {"set": SET | {"source": "uniform"}}
    )
    with pytest.raises(lz.SignatureError) as caught:
        lz.facts_table(signature)
    assert str(caught.value) == (
        "facts_table: trained on corpus 'uniform'; a training with corpus source = 'facts' is needed."
    )
