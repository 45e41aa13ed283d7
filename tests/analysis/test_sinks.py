"""What memorization sinks did: numbers by hand, intervals and paired tests by scipy."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.training_tables import training_tables
from localize.signature.signature import MemorizationSignature

GATES = ["all", "dropped", "own", "other"]
SEEDS, STEPS, PLANTED = 5, [0, 100], 3
TIED = {"kind": "hashed", "tied": True, "foreign": False}
SUNK = {"tied": TIED, "untied": TIED | {"tied": False}}

pytestmark = pytest.mark.filterwarnings("ignore:sink_table. one seed")


def numbers():
    """NLL along arm, seed, step, paragraph, gate: by chance, planted texts likelier."""
    rng = np.random.default_rng(0)
    nll = 2 + rng.normal(0, 0.1, (5, SEEDS, 2, 7, 4))
    nll[:, :, :, :PLANTED] -= np.array([1.0, 0.7, 1.0, 0.1, 0.2])[:, None, None, None, None]
    return nll


ARMS = ["standard", "tied", "untied", "once", "new"]


def with_sinks(make_training, join_arms, *, seeds=SEEDS, arms=ARMS, measured=True):
    """A training with these arms; `sink_nll` of each, as the watch of a recipe gives it."""
    parts, nll = {}, numbers()[:, :seeds]
    for arm in arms:
        of = nll[ARMS.index(arm)]
        copies = [1 if arm == "once" else 9] * PLANTED + [0] * 4
        sinks = {"sinks": SUNK[arm]} if arm in SUNK else {}
        windows = [(0.0, 1.0) if count else (np.nan, np.nan) for count in copies]
        own = of[..., 1] if seeds > 1 else of[0, ..., 1]
        part = make_training(
            own, copies=copies, steps=STEPS, seeds=range(seeds) if seeds > 1 else [], windows=windows,
            training={"steps": 100, "batch": 4, "stages": [{"name": "stage 0", "steps": 100}], **sinks},
            kind=["fresh" if arm == "new" else "typical"] * 7,
        )  # fmt: skip
        dims = (*part.dataset["nll"].dims, "gate")
        gated = of if arm in SUNK else np.repeat(of[..., 1:2], 4, -1)
        if measured:
            added = {"sink_nll": (dims, gated if seeds > 1 else gated[0])}
            part = MemorizationSignature(part.dataset.assign(added).assign_coords(gate=GATES))
        parts[arm] = part
    return join_arms(parts)


def of_seeds(arm, gate="dropped", step=1):
    """Mean NLL of planted and of held-out paragraphs, of each seed."""
    values = numbers()[ARMS.index(arm), :, step, :, GATES.index(gate)]
    return values[:, :PLANTED].mean(1), values[:, PLANTED:].mean(1)


def check(row, own, null=None):
    low, high = stats.t.interval(0.95, len(own) - 1, loc=own.mean(), scale=stats.sem(own))
    np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [own.mean(), low, high], rtol=1e-9)
    assert row["unit"] == "seeds" and row["seeds"] == len(own) and row["n"] == 7
    if null is None:
        assert np.isnan(row["null"]) and np.isnan(row["p_value"])
        return
    np.testing.assert_allclose(row["null"], np.mean(null), atol=1e-12)
    assert row["p_value"] == pytest.approx(stats.ttest_rel(own, null).pvalue, rel=1e-6)
    if np.any(null):
        np.testing.assert_allclose(row["difference"], (own - null).mean(), rtol=1e-9)


def test_each_number_stands_beside_its_null_paired_by_seed(make_training, join_arms):
    table = lz.sink_table(with_sinks(make_training, join_arms))
    planted, held_out = of_seeds("standard")
    gap = held_out - planted
    check(table.loc[("standard", "no sinks", "NLL, planted")], planted)
    check(table.loc[("standard", "no sinks", "gap")], gap)
    _, once = of_seeds("once")
    for arm in ("tied", "untied"):
        for gate in GATES:
            own, held = of_seeds(arm, gate)
            check(table.loc[(arm, gate, "NLL, planted")], own, planted)
            check(table.loc[(arm, gate, "NLL, held-out")], held, held_out)
            check(table.loc[(arm, gate, "gap")], held - own, gap)
            control = of_seeds("untied", gate)
            null = np.zeros(SEEDS) if arm == "untied" else 1 - (control[1] - control[0]) / gap
            check(table.loc[(arm, gate, "gap closed")], 1 - (held - own) / gap, null)
            check(table.loc[(arm, gate, "held-out NLL beyond each once")], held - once, np.zeros(SEEDS))
    check(table.loc[("new", "no sinks", "held-out NLL beyond each once")], of_seeds("new")[1] - once, np.zeros(SEEDS))
    told = {(arm, quantity) for arm, _, quantity in table.index}
    assert not {("standard", "gap closed"), ("once", "gap closed"), ("once", "held-out NLL beyond each once")} & told
    early = lz.sink_table(with_sinks(make_training, join_arms), step=0)
    check(early.loc[("tied", "own", "NLL, planted")], of_seeds("tied", "own", 0)[0], of_seeds("standard", step=0)[0])


def test_the_standard_arm_is_one_whose_texts_are_repeated_wherever_it_stands(make_training, join_arms):
    arms = ["once", "new", "tied", "standard"]
    table = lz.sink_table(with_sinks(make_training, join_arms, arms=arms))
    gap = np.subtract(*of_seeds("standard")[::-1])
    own, held = of_seeds("tied")
    check(table.loc[("tied", "dropped", "gap closed")], 1 - (held - own) / gap)  # no control, no null
    corrected = stats.false_discovery_control(table.xs("gap", level="quantity")["p_value"].dropna())
    np.testing.assert_allclose(table.xs("gap", level="quantity")["q_value"].dropna(), corrected)


def test_one_seed_gives_numbers_without_intervals(make_training, join_arms):
    with pytest.warns(UserWarning, match="sink_table: one seed, so that there are no intervals"):
        table = lz.sink_table(with_sinks(make_training, join_arms, seeds=1))
    row = table.loc[("tied", "dropped", "gap closed")]
    (own, held), standard = of_seeds("tied"), of_seeds("standard")
    closed = 1 - (held - own) / (standard[1] - standard[0])
    assert row["estimate"] == pytest.approx(closed[0])
    assert np.isnan(row["low"]) and np.isnan(row["p_value"])


def test_the_table_stands_with_those_of_a_training_that_has_it(make_training, join_arms):
    signature = with_sinks(make_training, join_arms)
    made = {(table.name, table.arm): table for table in training_tables(signature)}
    assert made[("sinks", "")].make(seed=0).equals(lz.sink_table(signature))
    plain = with_sinks(make_training, join_arms, measured=False)
    assert "sinks" not in {table.name for table in training_tables(plain)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"measured": False}, "no arm has memorization sinks that were measured; [sinks] in an arm"),
        ({"arms": ["standard", "once"]}, "no arm has memorization sinks that were measured; [sinks] in an arm"),
        ({"arms": ["once", "new", "tied"]}, "no arm without sinks whose texts were shown more than once; its gap is"),
    ],
)
def test_without_what_is_needed_it_says_so(make_training, join_arms, options, told):
    with pytest.raises(lz.SignatureError) as caught:
        lz.sink_table(with_sinks(make_training, join_arms, **options))
    assert str(caught.value).startswith(f"sink_table: {told}") and "\n" not in str(caught.value)
