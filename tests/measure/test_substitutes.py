"""Each kind of replacement against what its name says."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import KINDS
from localize.keyed import keyed_integer
from localize.measure.substitutes import (
    NOTHING,
    frequency_matched,
    neutral_replacements,
    second_choices,
    uniform_replacements,
)
from localize.models.vocabulary import text_tokens

PREFIX, VOCAB = 24, 97


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens[:4], prefix_length=PREFIX, continuation_length=16)


def test_every_replacement_is_another_token_of_the_vocabulary_the_first_position_too(paragraphs):
    drawn = uniform_replacements(paragraphs, np.arange(VOCAB), 40, 0)
    assert (drawn != paragraphs.prefixes.numpy()[:, None]).all()
    assert (np.sort(np.unique(drawn)) == np.arange(VOCAB)).all()


def test_uniform_replacements_are_uniform_over_the_other_tokens(paragraphs):
    from scipy.stats import chisquare

    drawn = uniform_replacements(paragraphs, np.arange(VOCAB), 200, 0)
    shifted = (drawn - paragraphs.prefixes.numpy()[:, None]) % VOCAB
    assert chisquare(np.bincount(shifted.ravel(), minlength=VOCAB)[1:]).pvalue > 1e-3


def test_frequency_matched_replacements_are_the_nearest_in_the_order_of_counts(paragraphs):
    counts = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(2))  # all different: the count is the rank
    drawn = frequency_matched(paragraphs, np.arange(len(counts)), counts, 60, 0)
    own, others = counts[paragraphs.prefixes].numpy()[:, None], counts.numpy()[drawn]
    assert (others != own).all()
    inside = (own > 0) & (own < VOCAB - 1)
    assert (abs(others - own)[np.broadcast_to(inside, drawn.shape)] == 1).all()  # one neighbour on either side
    assert (abs(others - own) <= 2).all()  # at the ends both stand on one side
    assert {-1, 1} <= set((others - own).ravel().tolist())


def test_the_neighbours_in_a_large_vocabulary_are_32_on_either_side(paragraphs):
    counts = torch.arange(64 * 64)
    drawn = frequency_matched(paragraphs, np.arange(len(counts)), counts, 400, 0) - paragraphs.prefixes.numpy()[:, None]
    tokens = np.broadcast_to(paragraphs.prefixes.numpy()[:, None], drawn.shape)
    inside = tokens >= 32
    assert set(drawn[inside].tolist()) == {*range(-32, 0), *range(1, 33)}
    assert (drawn + tokens)[~inside].max() == 64


def test_equally_frequent_tokens_are_neighbours_in_an_order_that_the_seed_draws(paragraphs):
    counts = torch.zeros(VOCAB, dtype=torch.int64)
    counts[:10] = 1000
    drawn = [frequency_matched(paragraphs, np.arange(len(counts)), counts, 5, seed) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    common = paragraphs.prefixes.numpy()[:, None] < 10
    assert ((drawn[0] < 10) == common)[np.broadcast_to(common, drawn[0].shape)].mean() > 0.7


@torch.no_grad()
def test_second_choices_are_the_likeliest_others_in_order(hooked, paragraphs):
    chosen = second_choices(hooked, paragraphs, np.arange(VOCAB), 3, 2)
    assert (chosen[:, :, 0] == NOTHING).all()
    for row, tokens in enumerate(paragraphs.prefixes):
        for position in range(1, PREFIX):
            order = hooked(tokens[None, :position])[0, -1].argsort(descending=True)
            others = order[order != tokens[position]][:3]
            assert chosen[row, :, position].tolist() == others.tolist()


def test_neutral_replacements_are_the_commonest_others_in_order(paragraphs):
    counts = torch.bincount(paragraphs.tokens.flatten(), minlength=VOCAB)
    drawn = neutral_replacements(paragraphs, np.arange(VOCAB), counts, 3)
    order = sorted(range(VOCAB), key=lambda token: (-int(counts[token]), token))
    for row, tokens in enumerate(paragraphs.prefixes.tolist()):
        for position, token in enumerate(tokens):
            assert drawn[row, :, position].tolist() == [other for other in order if other != token][:3]


# A vocabulary that is padded past the tokenizer

HELD = np.array([*range(3, 60), 70, 80])
"""The ids that the tokenizer has: not 0, 1, 2, and little past 60."""


class Words:
    """A tokenizer with those ids, and one that the model has no row for."""

    def get_vocab(self):
        return {str(token): int(token) for token in [*HELD[::-1], VOCAB + 5]}

    def __call__(self, text, **options):
        raise NotImplementedError


@pytest.fixture
def padded(make_model):
    """A model that finds ids which no text holds the likeliest of all."""
    model = make_model("gpt2", tokenizer=Words())
    with torch.no_grad():
        model.hf.transformer.ln_f.bias.copy_(model.hf.lm_head.weight[90] * 1000)
    return model


def test_ids_are_those_of_the_tokenizer_within_the_vocabulary_else_all(make_model):
    assert text_tokens(make_model("gpt2", tokenizer=Words())).tolist() == HELD.tolist()
    for tokenizer in (None, lambda text: None):
        assert text_tokens(make_model("gpt2", tokenizer=tokenizer)).tolist() == list(range(VOCAB))
    embedded = lz.load_model()
    assert text_tokens(embedded).tolist() == list(range(embedded.vocab_size))


def test_special_and_added_tokens_are_drawn_too(make_model, tokenizer):
    import copy

    model = make_model("gpt2", vocab_size=400, tokenizer=copy.deepcopy(tokenizer))
    count = len(tokenizer)
    assert text_tokens(model).tolist() == list(range(count))
    model.tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    model.tokenizer.add_tokens(["<added>"])
    assert text_tokens(model).tolist() == list(range(count + 2))


def test_a_tokenizer_without_ids_of_the_model_is_refused(make_model, paragraphs, monkeypatch):
    monkeypatch.setattr(Words, "get_vocab", lambda self: {"a": 96, "b": 97, "c": 200})
    with pytest.raises(lz.ModelError) as caught:
        lz.perturb_prefix(make_model("gpt2", tokenizer=Words()), paragraphs)
    assert str(caught.value) == (
        "small gpt2: its tokenizer has 1 ids within the vocabulary, 0..96; another token to put in the place of one needs at least two."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_replacement_puts_what_no_text_holds(padded, paragraphs, kind):
    """Counts are highest where no text has a token, as in a corpus that another tokenizer read."""
    counts = torch.arange(VOCAB)
    signature = lz.perturb_prefix(padded, paragraphs, kinds=kind, draws=3, counts=counts)
    put = signature["replacement"].values.astype(int)
    put = put[..., 1:] if kind == "second_choice" else put
    assert np.isin(put, HELD).all()
    prefixes = paragraphs.prefixes.numpy()[:, None, None, -put.shape[-1] :]
    assert (put != prefixes).all()
    assert signature.dataset.attrs["calls"][0]["drawn_from"] == "the tokenizer's 59 of 97 ids"


def test_uniform_replacements_are_uniform_over_the_ids_whether_or_not_the_token_is_one(paragraphs):
    from scipy.stats import chisquare

    drawn = uniform_replacements(paragraphs, HELD, 200, 0)
    prefixes = np.broadcast_to(paragraphs.prefixes.numpy()[:, None], drawn.shape)
    own = np.isin(prefixes, HELD)
    assert 0 < own.mean() < 1
    place = np.searchsorted(HELD, drawn)
    shifted = (place - np.searchsorted(HELD, prefixes)) % len(HELD)
    assert chisquare(np.bincount(shifted[own], minlength=len(HELD))[1:]).pvalue > 1e-3
    assert chisquare(np.bincount(place[~own], minlength=len(HELD))).pvalue > 1e-3


def test_a_token_that_is_none_of_the_ids_has_the_neighbours_of_its_count(paragraphs):
    """All counts differ, so that each id's neighbours are the next rarer and the next commoner one."""
    counts = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(2))
    drawn = frequency_matched(paragraphs, HELD, counts, 60, 0)
    ranked = np.sort(counts.numpy()[HELD])
    for row, tokens in enumerate(paragraphs.prefixes.tolist()):
        for position, token in enumerate(tokens):
            own, found = int(counts[token]), set(counts.numpy()[drawn[row, :, position]].tolist())
            at = int(np.searchsorted(ranked, own))
            near = ranked[max(0, at - 1) : at + 2].tolist()
            if 1 <= at <= len(ranked) - 2:
                assert found == set(near) - {own}


def test_replacements_of_an_unpadded_vocabulary_are_those_of_the_vocabulary_itself(paragraphs):
    """By the formula: the draw, one further from the token itself on."""
    drawn = uniform_replacements(paragraphs, np.arange(VOCAB), 3, 7)
    for row, (key, tokens) in enumerate(zip(paragraphs.hashes, paragraphs.prefixes.tolist(), strict=True)):
        for draw in range(3):
            for position, token in enumerate(tokens):
                expected = keyed_integer(VOCAB - 1, "replace", 7, key, position, draw)
                assert drawn[row, draw, position] == expected + (expected >= token)


def test_other_measurements_draw_from_the_same_ids(padded, paragraphs, monkeypatch):
    """Whatever the model is shown of a paragraph's prefix beyond its own tokens."""
    own, shown = set(paragraphs.tokens.unique().tolist()), set()
    real = padded.final_states

    def watched(tokens, **options):
        shown.update(tokens.unique().tolist())
        return real(tokens, **options)

    monkeypatch.setattr(padded, "final_states", watched)
    counts = torch.bincount(paragraphs.tokens.flatten(), minlength=VOCAB)
    for measure in (lz.corrupt_prefix, lz.replace_rarest):
        found = measure(padded, paragraphs, continuation="true", counts=counts, draws=20)
        assert found.dataset.attrs["calls"][0]["drawn_from"] == "the tokenizer's 59 of 97 ids"
    assert len(shown - own) > 0
    assert shown - own <= set(HELD.tolist())
