"""Is one text harder to unlearn than another, or only surer to begin with: three worlds, and the statistics' own functions."""

import numpy as np
import pytest

from localize.analysis.change import Change
from localize.analysis.edit_differences import MATCHED, OWN, edit_differences
from localize.analysis.rows import COLUMNS
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_permutation_difference, matched_difference

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

COUNT = 80
PAIR = "sure - unsure"


@pytest.fixture
def edits(make_dataset):
    """`edits(by_loss, by_text)`: two edits, each of which forgets half of 80 paragraphs; the first half starts from a lower NLL.

    The NLL rises by `by_loss` times the log of where it starts, and by `by_text` more for the first half.
    """

    def made(by_loss=0.0, by_text=0.0, seed=0, clusters=None, group="forget"):
        rng = np.random.default_rng(seed)
        first = np.arange(COUNT) < COUNT // 2
        before = np.exp(rng.normal(0, 0.6, COUNT) - 0.5 * first)
        rise = 6 + by_loss * np.log(before) + by_text * first + rng.normal(0, 0.3, COUNT)
        after, kept = before + rise, np.floor((20 - 2 * rise).clip(0, 20)).astype(int)
        changes = {}
        for name, forgotten in (("sure", first), ("unsure", ~first)):
            groups = np.where(forgotten, group, "memorized").tolist()
            sides = [
                make_dataset(
                    groups, {"nll": nll, "exact_match": match}, cluster=clusters, model=model,
                    tokens=np.arange(10 * COUNT).reshape(-1, 10),
                )
                for nll, match, model in ((before, np.full(COUNT, 20), {}), (after, kept, {"weights_hash": "b" * 64}))
            ]  # fmt: skip
            changes[name] = Change(*(MemorizationSignature(side) for side in sides))
        return changes, before, rise, first

    return made


def test_the_matched_difference_stands_first_and_both_are_the_statistics_own(edits):
    clusters = np.arange(COUNT) // 2 * 2 % 70
    changes, before, rise, first = edits(1.0, clusters=clusters)
    table = edit_differences(changes, seed=2, resamples=300)
    assert table.index.tolist() == [
        (name, PAIR) for one in ("nll", "exact_match") for name in (MATCHED.format(one), one)
    ]
    assert table.columns.tolist() == [*COLUMNS, *OWN]
    found = matched_difference(rise, np.log(before), first, ~first, clusters)
    matched, plain = table.loc[(MATCHED.format("nll"), PAIR)], table.loc[("nll", PAIR)]
    assert matched["estimate"] == pytest.approx(float(found.difference.estimate))
    assert [matched["low"], matched["high"], matched["p_value"]] == pytest.approx(
        [float(found.difference.low), float(found.difference.high), float(found.p_value)]
    )
    assert matched["matched_on"] == "NLL before the edit" and plain["matched_on"] == ""
    assert abs(matched["before"]) < abs(plain["before"]) / 2
    assert 0.5 < matched["support"] < 1 and plain["support"] == 1
    test = cluster_permutation_difference(rise, first, ~first, clusters, seed=2, permutations=300)
    assert plain["estimate"] == pytest.approx(rise[first].mean() - rise[~first].mean())
    assert plain["p_value"] == pytest.approx(float(test.p_value))
    assert plain["before"] == pytest.approx(before[first].mean() - before[~first].mean())
    assert plain["n"] == COUNT and plain["clusters"] == len(set(clusters.tolist()))


WORLDS = {
    "nothing": ((0.0, 0.0), ("no significant difference", "no significant difference")),
    "loss alone": ((2.0, 0.0), ("no significant difference", "sure is harder to unlearn than unsure: its NLL rises less")),
    "text": ((0.0, -1.0), ("sure is harder to unlearn than unsure: its NLL rises less",) * 2),
    "text, other way": ((0.0, 1.0), ("sure is easier to unlearn than unsure: its NLL rises more",) * 2),
}  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_the_verdict_is_what_the_world_is(edits, world):
    """At most one of ten worlds says something else of the matched difference, where nothing but loss or chance is there."""
    options, words = WORLDS[world]
    right = []
    for seed in range(10):
        verdicts = edit_differences(edits(*options, seed=seed)[0], resamples=200)["verdict"].tolist()[:2]
        right.append([verdict.startswith(f"{said} (") for verdict, said in zip(verdicts, words, strict=True)])
    assert (np.mean(right, axis=0) >= 0.8).all()


def test_who_loses_less_exact_match_is_harder_to_unlearn(edits):
    row = edit_differences(edits(0.0, -1.0)[0], resamples=200).loc[("exact_match", PAIR)]
    assert row["estimate"] > 0
    assert row["verdict"].startswith("sure is harder to unlearn than unsure: it loses less exact match (")


def test_repetitions_are_pooled_and_their_paragraphs_counted_once(edits):
    changes = edits(0.5)[0]
    twice = edit_differences({name: [change, change] for name, change in changes.items()}, resamples=200)
    once = edit_differences(changes, resamples=200)
    np.testing.assert_allclose(twice["estimate"].iloc[1::2], once["estimate"].iloc[1::2], rtol=1e-9)
    moved = (twice["estimate"] - once["estimate"]).abs() / (once["high"] - once["low"])
    assert (moved < 0.05).all(), "the penalty on the weights of what is matched is felt a little less by twice the rows"
    assert twice["n"].tolist() == once["n"].tolist()


def test_what_cannot_be_compared_is_told_in_one_line(edits):
    changes = edits()[0]
    for given, options, message in (
        ({"sure": changes["sure"]}, {}, "edit_differences: changes has 1 edits: sure; two are compared."),
        (changes, {"group": "general"}, "edit_differences: 'sure' has no group 'general'; it has forget, memorized."),
    ):
        with pytest.raises(SignatureError) as caught:
            edit_differences(given, **options)
        assert str(caught.value) == message
