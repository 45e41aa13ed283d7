"""Tokens are chosen as a user says, or by how near their NLL is to a level."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.errors import LocalizeError
from localize.measure.chosen_tokens import chosen_mask, nearest_tokens

PREFIX, CONTINUATION = 24, 6


@pytest.fixture
def paragraphs():
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 97, (2, PREFIX + CONTINUATION)))
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)


def test_places_and_masks_say_the_same(paragraphs):
    mask = np.zeros((2, CONTINUATION), bool)
    mask[0, [1, 4]], mask[1, 5] = True, True
    expected = np.concatenate([np.zeros((2, PREFIX), bool), mask], axis=1)
    for tokens in (mask, torch.from_numpy(mask), [[4, 1], [5]], [np.array([1, 4]), (5, 5)]):
        assert chosen_mask(tokens, paragraphs).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0]], "tokens has 1 rows; it must have 2, one for each paragraph."),
        (np.ones((2, 4), bool), "tokens is a mask of shape (2, 4); it must be (2, 6), one entry for each token of a continuation."),
        ([[0], [6]], "tokens has 6 for paragraph '1'; places in its continuation are 0..5."),
        ([[0], [0.5]], "tokens has 0.5 for paragraph '1'; places in its continuation are 0..5."),
        ([[0], []], "tokens chooses none of paragraph '1'; at least one of each is needed."),
    ],
    ids=["rows", "shape", "past the end", "no place", "none"],
)  # fmt: skip
def test_what_chooses_nothing_that_is_there_is_refused(paragraphs, tokens, message):
    with pytest.raises(LocalizeError) as told:
        chosen_mask(tokens, paragraphs.with_groups(["a", "b"]))
    assert str(told.value).endswith(message.replace("'1'", repr(paragraphs.ids[1])))


def test_the_nearest_are_those_of_a_loop():
    nll = np.exp(np.random.default_rng(1).normal(-2, 2, (40, 12)))
    for size in (1, 3):
        found = nearest_tokens(nll, 0.1, size, reach=3.0)
        for row in range(40):
            away = [max(value / 0.1, 0.1 / value) for value in nll[row]]
            order = sorted(range(12), key=lambda place, away=away: away[place])[:size]
            assert found[row].tolist() == (order if away[order[-1]] <= 3.0 else [-1] * size)
    assert 0 < (found[:, 0] < 0).sum() < 40


def test_of_equally_near_ones_the_first_is_taken_and_nothing_is_far_from_zero_loss():
    assert nearest_tokens(np.array([[0.2, 0.1, 0.1]]), 0.1, 1, reach=2.0).tolist() == [[1]]
    assert nearest_tokens(np.array([[0.0, 0.0]]), 0.1, 1, reach=2.0).tolist() == [[-1]]
    assert nearest_tokens(np.array([[0.1, 0.1]]), 0.1, 3, reach=2.0).tolist() == [[-1, -1, -1]]
