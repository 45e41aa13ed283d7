"""Sets of equal size: disjoint, as large as the smallest group, and drawn by seed and text alone."""

import numpy as np
import pytest

from localize.errors import LocalizeError
from localize.measure.equal_sets import sets_of

GROUPS = np.array(["many"] * 23 + ["few"] * 5 + ["some"] * 9)
HASHES = tuple(f"text {number}".encode() for number in range(37))


def drawn(groups=GROUPS, hashes=HASHES, sizes="equal", draws=3, seed=0):
    return sets_of(groups, hashes, sizes=sizes, draws=draws, seed=seed)


def texts(sets, name, hashes=HASHES):
    """What each set of a group holds."""
    return [frozenset(hashes[row] for row in sets.rows(one)) for one in sets.drawn(name)]


def test_sets_are_disjoint_and_as_large_as_the_smallest_group():
    sets = drawn()
    assert sets.names == ("many", "few", "some")
    assert sets.sizes.tolist() == [5] * 5
    assert sets.group.tolist() == [0, 0, 0, 1, 2]
    for one, group in enumerate(sets.group):
        assert (GROUPS[sets.rows(one)] == sets.names[group]).all()
    assert (sets.of == -1).sum() == 37 - 25
    assert {name: values.tolist() for name, values in sets.arrays().items()} == {
        "set_size": [5, 5, 5],
        "set_count": [3, 1, 1],
    }


def test_all_takes_each_group_whole():
    sets = drawn(sizes="all")
    assert sets.sizes.tolist() == [23, 5, 9] and (sets.of >= 0).all()
    assert sets.arrays()["set_size"].tolist() == [23, 5, 9]


def test_who_is_drawn_follows_from_seed_and_text_and_not_from_the_order_of_paragraphs():
    order = np.random.default_rng(0).permutation(37)
    shuffled = tuple(HASHES[row] for row in order)
    turned = drawn(GROUPS[order], shuffled)
    for name in ("many", "few", "some"):
        assert texts(drawn(), name) == texts(turned, name, shuffled)
    assert texts(drawn(), "many") != texts(drawn(seed=1), "many")


def test_who_else_is_measured_moves_no_paragraph_before_another():
    whole, without = drawn(draws=1), drawn(GROUPS[:28], HASHES[:28], draws=1)
    assert texts(whole, "many") == texts(without, "many", HASHES[:28])


def test_a_paragraph_is_drawn_as_often_as_any_other():
    counts = sum((drawn(draws=1, seed=seed).of == 0).astype(int) for seed in range(400))[:23]
    assert counts.mean() == pytest.approx(400 * 5 / 23)
    assert np.abs(counts - counts.mean()).max() < 4 * np.sqrt(400 * 5 / 23)


def test_no_group_has_no_set():
    assert drawn(np.array([], dtype=str), ()).names == ()


@pytest.mark.parametrize(("options", "message"), [({"sizes": "one"}, "set_sizes='one' is not one of equal, all."),
                                                  ({"draws": 0}, "set_draws=0 must be at least 1.")])  # fmt: skip
def test_sets_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(LocalizeError, match=message.replace(".", r"\.")):
        drawn(**options)
