"""Sentences say what their row supports, with its numbers, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Basis, Null, beside, row_of, rows_of
from localize.analysis.sentences import NOT_KNOWN, Wording, decision, sentence
from localize.statistics import UNBOUNDED, Interval

WORDING = Wording("{a} is higher", "{a} is lower", "no significant difference")
DECIDED = {1: "memorized is higher", -1: "memorized is lower", 0: "no significant difference", None: NOT_KNOWN}


def row(estimate=0.2, low=0.1, high=0.3, p=0.01, *, null=0.0, rough=False):
    interval = Interval(*(np.array(number) for number in (estimate, low, high)), rough=np.array(rough))
    return row_of(interval, Null.dealt(null, -0.05, 0.05, p), Basis(245, 96, 40.0))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (row(), 1), (row(-0.2, -0.3, -0.1), -1), (row(p=0.06), 0), (row(low=-0.1), 0), (row(low=np.nan, high=np.nan), None),
        (row(p=np.nan), 1), (row(p=0.05), 1),
    ],
    ids=["above", "below", "p too large", "interval holds 0", "no interval", "no p: the interval alone", "p at the level"],
)  # fmt: skip
def test_interval_and_test_decide_together(numbers, expected):
    assert decision(numbers) == expected
    assert sentence(numbers, WORDING, a="memorized").startswith(DECIDED[expected])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (row(null=0.5), -1),
        (row(null=0.1), 1),
        (row(null=0.5, p=0.06), 0),
        (row(p=np.nan), None),
        (row(null=np.nan), None),
    ],
)
def test_against_a_null_the_p_value_decides_and_the_side_is_that_of_the_nulls_mean(numbers, expected):
    assert decision(numbers, "null") == expected


def test_a_q_value_decides_where_it_is_asked():
    numbers = row() | {"q_value": 0.2}
    assert (decision(numbers), decision(numbers, p="q_value")) == (1, 0)
    assert "q = 0.200" in sentence(numbers, WORDING, p="q_value", a="memorized")


def test_a_difference_is_told_by_its_own_interval():
    rng = np.random.default_rng(0)
    own, clusters = rng.normal(1, 0.1, 40), np.arange(40)
    numbers = beside(own, own + 0.5 + rng.normal(0, 0.1, 40), clusters, UNBOUNDED, Draws(0, 200))
    assert (decision(numbers), decision(numbers, "difference")) == (1, -1)
    told = sentence(numbers, WORDING, part="difference", unit="nats", a="memorized")
    difference, low, high = (numbers[f"difference{end}"] for end in ("", "_low", "_high"))
    assert told == (
        f"memorized is lower ({difference:.3g} [{low:.3g}, {high:.3g}] nats, p = 0.005; 40 paragraphs in 40 clusters)"
    )


def test_the_sentence_has_estimate_interval_p_and_size():
    assert sentence(row(p=0.0004), WORDING, a="memorized") == (
        "memorized is higher (0.2 [0.1, 0.3], p < 0.001; 245 paragraphs in 96 clusters)"
    )
    assert sentence(row(p=0.2, null=0.25), WORDING, part="null", unit="tokens") == (
        "no significant difference (0.2 [0.1, 0.3] tokens, null 0.25, p = 0.200; 245 paragraphs in 96 clusters)"
    )


def test_a_rough_row_says_so_and_one_that_nobody_judged_does_not():
    assert sentence(row(rough=True), WORDING, a="a").endswith("; rough)")
    unjudged = row() | {"rough": pd.NA}
    assert "rough" not in sentence(unjudged, WORDING, a="a")


def test_what_was_not_measured_has_no_numbers():
    assert sentence(row_of(), WORDING) == NOT_KNOWN


@pytest.mark.parametrize("effect", [0.0, 1.5], ids=["no effect", "true effect"])
def test_over_simulated_groups_a_sentence_claims_what_is_there_and_seldom_what_is_not(effect):
    rng, group, clusters = np.random.default_rng(3), np.repeat(["a", "b"], 30), np.arange(60)
    said = []
    for _ in range(200):
        values = rng.normal(size=60) + effect * (group == "a")
        numbers = rows_of("q", values, group, clusters, Draws(0, 100), lambda _: NO_NULL, UNBOUNDED)[-1]
        said.append(sentence(numbers, WORDING, a="a"))
        assert said[-1].startswith("no significant") == (
            numbers["p_value"] > 0.05 or numbers["low"] <= 0 <= numbers["high"]
        )
    claimed = np.mean([words.startswith("a is higher") for words in said])
    assert claimed >= 0.95 if effect else claimed <= 0.06
    assert all(effect == 0 or not words.startswith("a is lower") for words in said)
