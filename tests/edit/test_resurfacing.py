"""Attacks on an edit: each against training written out, real samples, or the model as it is."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTACKS, PROMPTS
from localize.edit.resurfacing import longest_match

PREFIX, LENGTH = 24, 40
STEPS, RATE, BEGUN = 3, 3e-3, 5


@pytest.fixture
def texts(neo):
    """Four paragraphs that the model says itself, and eight of random tokens."""
    tokens = torch.randint(0, 97, (12, LENGTH), generator=torch.Generator().manual_seed(9))
    tokens[:4, PREFIX:] = neo.continue_greedily(tokens[:4, :PREFIX], LENGTH - PREFIX)
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture
def forgotten(neo, texts):
    """An edit of two of them."""
    return lz.unlearn(
        neo, texts[:2], texts[[8, 9]], lz.top_weights(neo, texts[:2], 0.01), steps=6, learning_rate=3e-3, c=1.0
    )


def attacked(model, edit, texts, **options):
    options = {"steps": STEPS, "learning_rate": RATE, "begun": BEGUN, "draws": 1} | options
    return lz.resurface(model, edit, texts[:2], texts[4:6], texts[[2, 3, 6]], **options)


def share(model, tokens, first=PREFIX):
    """Tokens right before the first error, of those from `first` on."""
    right = model(tokens)[:, first - 1 : -1].argmax(-1) == tokens[:, first:]
    return right.int().cumprod(1).double().mean(1).numpy()


def loss_of(tokens):
    def objective(moved):
        logits = moved.hf(tokens).logits[:, PREFIX - 1 : -1]
        return cross_entropy(logits.flatten(0, 1), tokens[:, PREFIX:].flatten())

    return objective


def test_what_is_trained_on_comes_out_as_of_steps_written_out(neo, texts, forgotten, by_hand):
    found = attacked(neo, forgotten, texts)["resurfaced_recall"]
    everything = lz.choose_weights(neo)
    largest = lz.top_weights(neo, texts[:2], len(forgotten) / everything.total)
    assert len(largest) == len(forgotten)
    with forgotten.applied(neo):
        edited = neo.copied()
    both = texts[[0, 1, 4, 5]].tokens
    others = texts[[2, 3, 6]].tokens
    for attack, mask in (("relearned_others", everything), ("relearned_others_largest", largest)):
        moved = by_hand(edited, loss_of(others), mask, STEPS, RATE)
        assert np.allclose(found.sel(attack=attack), share(moved, both)), attack
    for rows in ([0, 1], [2, 3]):
        moved = by_hand(edited, loss_of(both[rows][:, : PREFIX + BEGUN]), everything, STEPS, RATE)
        expected = share(moved, both[rows], PREFIX + BEGUN)
        assert np.allclose(found.sel(attack="relearned_begun")[rows], expected)
    rounded = edited.copied()
    with torch.no_grad():
        for layer, component in everything.shapes:
            weight = rounded.weight(layer, component)
            weight.copy_(weight.half().to(weight.dtype))
    assert np.allclose(found.sel(attack="float16"), share(rounded, both))


def test_where_nothing_was_forgotten_every_attack_finds_the_text_and_none_finds_the_other(neo, texts):
    before = {name: neo.weight(*name).clone() for name in [(0, "W_in")]}
    mask = lz.choose_weights(neo, layers=0, components="W_in")
    values = {(0, "W_in"): before[0, "W_in"].flatten()}
    moved = {(0, "W_in"): values[0, "W_in"] * (1 + 1e-15)}
    nothing = lz.WeightEdit.of(mask, values, moved, {"measurement": "by hand", "forget": [], "keep": []})
    found = attacked(neo, nothing, texts, learning_rate=1e-12)
    forget, null = (found.where(group=name)["resurfaced_recall"] for name in ("forget", "never_trained"))
    told = [attack for attack in ATTACKS if attack not in ("one_changed", "second_half", "best_of_samples")]
    assert np.all(forget.sel(attack=told) == 1) and np.all(null.sel(attack=told) < 0.5)
    both = texts[[0, 1, 4, 5]]
    change = lz.evaluate_edit(neo, lz.unlearn(neo, texts[:2], texts[[8, 9]], steps=1), texts, draws=1)
    prompted = change.before["prompted_recall"][[0, 1, 4, 5]]
    assert tuple(prompted["prompt"].values) == PROMPTS == ATTACKS[: len(PROMPTS)]
    assert np.allclose(prompted, found["resurfaced_recall"].values[:, : len(PROMPTS)])
    assert found["exact_match"].values.tolist() == lz.recall(neo, both)["exact_match"].values.tolist()


def test_the_longest_match_is_that_of_real_samples():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, (3, 8))
    right = rng.random((20000, 10, 3, 8)) < p  # (draw, sample, paragraph, token)
    longest = right.cumprod(3).sum(3).max(1)
    assert np.allclose(longest_match(-np.log(p), 10), longest.mean(0), atol=4 * longest.std() / 20000**0.5)


def test_what_is_certain_is_said_whole_and_what_is_impossible_not_at_all():
    assert longest_match(np.array([[0.0, 0.0, np.inf]]), 100) == pytest.approx([2.0])


def test_the_model_is_as_it_was_to_the_bit(neo, texts, forgotten):
    hashed = neo.weights_hash()
    found = attacked(neo, forgotten, texts)
    assert neo.weights_hash() == hashed
    assert found.dataset.attrs["model"]["weights_hash"] != hashed  # what was attacked is the edited model
    assert found["group"].values.tolist() == ["forget"] * 2 + ["never_trained"] * 2


def test_a_near_duplicate_among_the_others_is_refused_and_options_out_of_range(neo, texts, forgotten):
    with pytest.raises(
        lz.InputError, match=r"resurface: others: '.*' is a near-duplicate of '.*', which was to be forgotten"
    ):
        lz.resurface(neo, forgotten, texts[:2], texts[4:6], texts[[1, 2]])
    for options, told in (
        ({"begun": 16}, "resurface: begun=16 must lie in 1..15, of the continuation's tokens some are asked for."),
        ({"samples": 0}, "resurface: samples=0 must be at least 1."),
        ({"steps": 0}, "resurface: steps=0 must be a whole number of at least 1."),
    ):
        with pytest.raises(lz.LocalizeError) as caught:
            attacked(neo, forgotten, texts, **options)
        assert str(caught.value) == told


def test_texts_that_the_edit_was_not_to_forget_are_refused(neo, texts, forgotten):
    with pytest.raises(lz.InputError) as caught:
        lz.resurface(neo, forgotten, texts[1:3], texts[4:6], texts[[3, 6]])
    assert str(caught.value) == "resurface: forget: '2' is none of the 2 paragraphs that the edit was to forget."
