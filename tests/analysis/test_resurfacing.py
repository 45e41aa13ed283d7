"""The table of attacks: means, the null, the difference, and the worst of each text."""

import numpy as np
import pytest

import localize as lz
from localize.axes import ATTACKS
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of


@pytest.fixture
def attacked(neo, make_rows):
    """`attacked(shares, seed)`: a signature of as many forgotten as never trained texts with these shares."""

    def make(shares, first=0):
        rows = make_rows(first + len(shares))[list(range(first, first + len(shares)))]
        half = len(shares) // 2
        rows = rows.with_groups(["forget"] * half + ["never_trained"] * (len(shares) - half))
        arrays = {"resurfaced_recall": np.asarray(shares, float)}
        return labelled(
            neo, rows, recall_of(neo, rows), arrays, call={"measurement": "resurface"}, axes={"attack": ATTACKS}
        )

    return make


def test_each_attack_has_what_came_back_the_null_and_their_difference(attacked):
    shares = np.random.default_rng(0).uniform(0.1, 0.2, (8, len(ATTACKS)))
    shares[:4] += 0.5
    table = lz.resurfacing_table({"top": attacked(shares)})
    assert table.index.names == ["edit", "attack", "group"]
    for at, attack in enumerate(ATTACKS):
        rows = table.loc["top"].loc[attack]
        assert rows.loc["forget", "estimate"] == pytest.approx(shares[:4, at].mean())
        assert rows.loc["never_trained", "estimate"] == pytest.approx(shares[4:, at].mean())
        difference = rows.loc["forget - never_trained"]
        assert difference["estimate"] == pytest.approx(shares[:4, at].mean() - shares[4:, at].mean())
        assert difference["low"] > 0 and difference["n"] == 8


def test_the_worst_is_taken_text_by_text_of_both_groups(attacked):
    shares = np.zeros((4, len(ATTACKS)))
    shares[0, 1], shares[1, 7], shares[2, 3] = 0.6, 0.8, 0.1
    rows = lz.resurfacing_table({"top": attacked(shares)}).loc["top"].loc["worst"]
    assert rows.loc["forget", "estimate"] == pytest.approx(0.7)
    assert rows.loc["never_trained", "estimate"] == pytest.approx(0.05)


def test_runs_of_one_edit_are_pooled_and_a_text_of_two_runs_is_one_cluster(attacked):
    shares = np.random.default_rng(0).uniform(0, 1, (4, len(ATTACKS)))
    apart = lz.resurfacing_table({"top": [attacked(shares), attacked(shares, first=4)]}).loc["top"].loc["as_is"]
    twice = lz.resurfacing_table({"top": [attacked(shares), attacked(shares)]}).loc["top"].loc["as_is"]
    assert (apart.loc["forget", "n"], apart.loc["forget", "clusters"]) == (4, 4)
    assert (twice.loc["forget", "n"], twice.loc["forget", "clusters"]) == (4, 2)


def test_what_holds_no_attacks_is_refused(neo, make_rows):
    with pytest.raises(lz.SignatureError, match="'top' does not hold resurfaced_recall; "):
        lz.resurfacing_table({"top": lz.recall(neo, make_rows(3))})
    with pytest.raises(lz.SignatureError, match="runs is empty"):
        lz.resurfacing_table({})
