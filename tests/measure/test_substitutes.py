"""Each kind of replacement against what its name says."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.substitutes import (
    NOTHING,
    frequency_matched,
    neutral_replacements,
    second_choices,
    uniform_replacements,
)

PREFIX, VOCAB = 24, 97


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens[:4], prefix_length=PREFIX, continuation_length=16)


def test_every_replacement_is_another_token_of_the_vocabulary_the_first_position_too(paragraphs):
    drawn = uniform_replacements(paragraphs, VOCAB, 40, 0)
    assert (drawn != paragraphs.prefixes.numpy()[:, None]).all()
    assert (np.sort(np.unique(drawn)) == np.arange(VOCAB)).all()


def test_uniform_replacements_are_uniform_over_the_other_tokens(paragraphs):
    from scipy.stats import chisquare

    drawn = uniform_replacements(paragraphs, VOCAB, 200, 0)
    shifted = (drawn - paragraphs.prefixes.numpy()[:, None]) % VOCAB
    assert chisquare(np.bincount(shifted.ravel(), minlength=VOCAB)[1:]).pvalue > 1e-3


def test_frequency_matched_replacements_are_the_nearest_in_the_order_of_counts(paragraphs):
    counts = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(2))  # all different: the count is the rank
    drawn = frequency_matched(paragraphs, counts, 60, 0)
    own, others = counts[paragraphs.prefixes].numpy()[:, None], counts.numpy()[drawn]
    assert (others != own).all()
    inside = (own > 0) & (own < VOCAB - 1)
    assert (abs(others - own)[np.broadcast_to(inside, drawn.shape)] == 1).all()  # one neighbour on either side
    assert (abs(others - own) <= 2).all()  # at the ends both stand on one side
    assert {-1, 1} <= set((others - own).ravel().tolist())


def test_the_neighbours_in_a_large_vocabulary_are_32_on_either_side(paragraphs):
    counts = torch.arange(64 * 64)
    drawn = frequency_matched(paragraphs, counts, 400, 0) - paragraphs.prefixes.numpy()[:, None]
    tokens = np.broadcast_to(paragraphs.prefixes.numpy()[:, None], drawn.shape)
    inside = tokens >= 32
    assert set(drawn[inside].tolist()) == {*range(-32, 0), *range(1, 33)}
    assert (drawn + tokens)[~inside].max() == 64


def test_equally_frequent_tokens_are_neighbours_in_an_order_that_the_seed_draws(paragraphs):
    counts = torch.zeros(VOCAB, dtype=torch.int64)
    counts[:10] = 1000
    drawn = [frequency_matched(paragraphs, counts, 5, seed) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    common = paragraphs.prefixes.numpy()[:, None] < 10
    assert ((drawn[0] < 10) == common)[np.broadcast_to(common, drawn[0].shape)].mean() > 0.7


@torch.no_grad()
def test_second_choices_are_the_likeliest_others_in_order(hooked, paragraphs):
    chosen = second_choices(hooked, paragraphs, 3, 2)
    assert (chosen[:, :, 0] == NOTHING).all()
    for row, tokens in enumerate(paragraphs.prefixes):
        for position in range(1, PREFIX):
            order = hooked(tokens[None, :position])[0, -1].argsort(descending=True)
            others = order[order != tokens[position]][:3]
            assert chosen[row, :, position].tolist() == others.tolist()


def test_neutral_replacements_are_the_commonest_others_in_order(paragraphs):
    counts = torch.bincount(paragraphs.tokens.flatten(), minlength=VOCAB)
    drawn = neutral_replacements(paragraphs, counts, 3)
    order = sorted(range(VOCAB), key=lambda token: (-int(counts[token]), token))
    for row, tokens in enumerate(paragraphs.prefixes.tolist()):
        for position, token in enumerate(tokens):
            assert drawn[row, :, position].tolist() == [other for other in order if other != token][:3]
