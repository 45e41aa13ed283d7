"""The aim of an edit: each criterion just inside and just outside, on changes made by hand."""

import numpy as np
import pytest

import localize as lz
from localize.analysis.aim import ABOVE_NULL, BROUGHT_BACK, CRITERIA, FORGOTTEN, OTHERS, OWN, PERPLEXITY_RISE, missed
from localize.analysis.change import Change, edit_table
from localize.axes import ATTACKS
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

EACH, LENGTH = 10, 50
GROUPS = ("forget", "memorized", "not_memorized", "general")


@pytest.fixture
def change(make):
    """`change(said=, lost=, rise=, own=, groups=)`: ten paragraphs a group, of continuations of 50 tokens."""

    def made(said=50, lost=10, rise=1.0099, own=0.0199, groups=GROUPS):
        group = np.repeat(groups, EACH)

        def spread(name, total):  # the tokens dealt out unevenly over the group's paragraphs
            return np.where(group == name, (total + np.arange(len(group)) % EACH) // EACH, 0)

        exact = np.isin(group, ("forget", "memorized")) * LENGTH
        after = np.where(group == "forget", spread("forget", said), exact - spread("memorized", lost))
        nll = np.linspace(0.5, 1.5, len(group))
        moved = nll + np.where(group == "general", np.log(rise), 0.0) + np.where(group == "not_memorized", own, 0.0)
        sides = [
            make(
                group, {"exact_match": match, "nll": loss, "reference_exact_match": match, "reference_nll": loss}, model=model,
                tokens=np.arange(60 * len(group)).reshape(-1, 60), about={"continuation_length": LENGTH},
            )
            for match, loss, model in ((exact, nll, {}), (after, moved, {"weights_hash": "b" * 64}))
        ]  # fmt: skip
        return Change(*sides)

    return made


@pytest.fixture
def attacked(neo, make_rows):
    """`attacked(back, null)`: each text by an attack of its own."""

    def made(back=0.3, null=0.2):
        rows = make_rows(8).with_groups(["forget"] * 4 + ["never_trained"] * 4)
        shares = np.zeros((8, len(ATTACKS)))
        shares[np.arange(4), 1 + np.arange(4)], shares[np.arange(4, 8), 5] = back, null
        call = {"measurement": "resurface"}
        return labelled(
            neo, rows, recall_of(neo, rows), {"resurfaced_recall": shares}, call=call, axes={"attack": ATTACKS}
        )

    return made


def test_an_edit_just_inside_of_all_criteria_reaches_the_aim(change, attacked):
    aim = lz.edit_aim({"it": change()}, {"it": attacked()})
    assert aim.index.tolist() == [("it", name) for name in CRITERIA]
    assert aim["value"].tolist() == pytest.approx([0.1, 0.02, 0.0099, 0.0199, 0.3, 0.1])
    assert aim["most"].tolist() == [0.1, 0.02, 0.01, 0.02, 0.3, 0.1]
    assert aim["least"].tolist() == [-np.inf, -np.inf, -np.inf, -0.02, -np.inf, -np.inf]
    assert aim["reached"].all()
    assert missed(aim, "it") == []


@pytest.mark.parametrize(
    ("moved", "name", "told"),
    [
        ({"said": 51}, FORGOTTEN, "forgotten 0.102, allowed 0.1: try more --steps, a higher --c, a larger --fraction"),
        (
            {"lost": 11}, OTHERS,
            "other memorized 0.022, allowed 0.02: try a lower --c, a lower --learning-rate, --localizer ratio",
        ),
        (
            {"rise": 1.0101}, PERPLEXITY_RISE,
            "general perplexity 0.0101, allowed 0.01: try a lower --c, a lower --learning-rate, --localizer ratio",
        ),
        (
            {"own": 0.0201}, OWN,
            "own continuations 0.0201, allowed 0.02: try a lower --c, a lower --learning-rate, --localizer ratio",
        ),
        (
            {"own": -0.0201}, OWN,
            "own continuations -0.0201, allowed -0.02: try a lower --c, a lower --learning-rate, --localizer ratio",
        ),
        ({"back": 0.31, "null": 0.25}, BROUGHT_BACK, "brought back 0.31, allowed 0.3: try a lower --beta, a higher --stop-nll"),
        ({"null": 0.19}, ABOVE_NULL, "brought back, above never trained 0.11, allowed 0.1: try a lower --beta, a higher --stop-nll"),
    ],
)  # fmt: skip
def test_an_edit_just_outside_of_one_misses_that_one_and_is_told_what_to_try(change, attacked, moved, name, told):
    attack = {key: moved[key] for key in ("back", "null") if key in moved}
    aim = lz.edit_aim(
        {"it": change(**{key: moved[key] for key in moved if key not in attack})}, {"it": attacked(**attack)}
    )
    assert aim.index[~aim["reached"]].tolist() == [("it", name)]
    assert missed(aim, "it") == [told]


@pytest.mark.parametrize("moved", [{"said": 0}, {"lost": 0}, {"rise": 0.5}, {"own": -0.0199}])
def test_to_forget_more_and_to_lose_less_is_never_missed(change, moved):
    assert lz.edit_aim({"it": change(**moved)})["reached"].all()


def test_the_values_and_their_intervals_are_those_of_the_edits_table_in_shares(change):
    changes = {"one": [change(said=33), change(said=48, lost=4)], "other": change(lost=7)}
    aim, table = lz.edit_aim(changes, seed=3), edit_table(changes, seed=3)
    forget = table.loc[("one", "reference_exact_match", "forget")]
    row = aim.loc[("one", FORGOTTEN)]
    assert row["value"] == pytest.approx(forget["after"] / LENGTH) == pytest.approx((33 + 48) / 20 / LENGTH)
    assert [row["low"], row["high"]] == pytest.approx((forget["before"] + forget[["low", "high"]]) / LENGTH)
    lost = table.loc[("other", "exact_match", "memorized")]
    row = aim.loc[("other", OTHERS)]
    assert [row["value"], row["low"], row["high"]] == pytest.approx(-lost[["estimate", "high", "low"]] / LENGTH)
    assert row["low"] < row["value"] < row["high"]
    assert aim.loc[("one", OTHERS), "value"] == pytest.approx(0.5 * (10 + 4) / EACH / LENGTH)
    for name, quantity, group in ((PERPLEXITY_RISE, "perplexity", "general"), (OWN, "reference_nll", "not_memorized")):
        columns = ["estimate", "low", "high"]
        assert aim.loc[("one", name), ["value", "low", "high"]].tolist() == pytest.approx(
            table.loc[("one", quantity, group), columns].tolist()
        )


def test_what_was_not_measured_is_left_out_of_each_edit(change, attacked):
    changes = {"a": change(), "b": change(groups=("forget", "memorized"))}
    aim = lz.edit_aim(changes, {"a": attacked()})
    assert aim.loc["a"].index.tolist() == [*CRITERIA]
    assert aim.loc["b"].index.tolist() == [FORGOTTEN, OTHERS]
    assert aim.loc[("a", BROUGHT_BACK), "words"] == "share of a forgotten text that the worst attack brings back"


def test_of_an_edit_of_which_nothing_was_measured_nothing_is_told(change):
    aim = lz.edit_aim({"it": change(groups=("partial",))})
    assert aim.empty and aim.index.names == ["edit", "criterion"]
    assert missed(aim, "it") == []


@pytest.mark.parametrize(("lost", "reached"), [(450, True), (449, False)])
def test_an_edit_that_names_no_text_is_to_forget_all_that_is_memorized(change, lost, reached):
    aim = lz.edit_aim({"it": change(lost=lost, groups=("memorized", "not_memorized", "general"))})
    assert aim.index.tolist() == [("it", name) for name in (FORGOTTEN, PERPLEXITY_RISE, OWN)]
    assert aim.loc[("it", FORGOTTEN), "value"] == pytest.approx((500 - lost) / 500)
    assert bool(aim.loc[("it", FORGOTTEN), "reached"]) is reached


def test_no_edit_is_refused():
    with pytest.raises(lz.SignatureError, match=r"^edit_aim: changes is empty; at least one edit is needed\.$"):
        lz.edit_aim({})
