"""Replacing the rarest prefix tokens: positions by hand and by search, numbers against plain passes over the changed text."""

from itertools import permutations

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.replace_rarest import positions_replaced, rarest_and_common, replace_rarest, replaced_prefixes
from localize.measure.substitutes import uniform_replacements
from localize.models.hooks import HookedModel
from localize.paragraphs.unigrams import unigram_counts

PREFIX, CONTINUATION = 24, 16
EXACT = 1e-12
VARIABLES = ("replaced_exact_match", "replaced_nll", "replaced_position")


@pytest.fixture
def paragraphs(tokens):
    """Four rows of 40 tokens: longer than the local window."""
    return lz.load_paragraphs(
        tokens[:4, : PREFIX + CONTINUATION], prefix_length=PREFIX, continuation_length=CONTINUATION
    )


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))


def numbers(signature):
    return np.stack([signature[name].values for name in VARIABLES])


def plain_recall(model, rows):
    """Exact match and mean NLL of each row's continuation, from all logits."""
    logits, wanted = model(rows[:, :-1])[:, PREFIX - 1 :], rows[:, PREFIX:]
    right = (logits.argmax(-1) == wanted).tolist()
    nll = -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0].mean(-1)
    return [row.index(False) if False in row else CONTINUATION for row in right], nll.tolist()


# Where


def test_the_rarest_are_paired_with_common_ones_as_near_as_can_be():
    #         0  1    2  3    4    5    6  7    8   9
    counts = [9, 500, 1, 400, 300, 200, 2, 100, 50, 3]
    rarest, common = rarest_and_common(np.array(counts), np.arange(10), 3)
    assert rarest.tolist() == [2, 6, 9]
    # More frequent than the median, 75: positions 1, 3, 4, 5, 7. 2 goes with 1 or 3, 6 with 5, 9 with 7.
    assert common[0] in (1, 3) and common[1:].tolist() == [5, 7]


def test_common_is_what_is_more_frequent_than_the_median_not_what_is_as_frequent():
    counts = np.array([1, 2, 5, 5, 5, 8, 9])
    assert rarest_and_common(counts, np.arange(7), 2).tolist() == [[0, 1], [5, 6]]
    assert rarest_and_common(counts, np.arange(7), 3) is None


def test_no_pairing_has_a_lesser_sum_of_distances():
    rng = np.random.default_rng(3)
    for _ in range(20):
        counts = rng.permutation(12)
        rarest, common = rarest_and_common(counts, np.arange(12), 3)
        assert sorted(counts[rarest]) == [0, 1, 2]
        assert (counts[common] > 5).all()
        assert len(set(common)) == 3
        assert (np.diff(rarest) > 0).all()
        searched = min(np.abs(rarest - np.array(other)).sum() for other in permutations(np.flatnonzero(counts > 5), 3))
        assert np.abs(rarest - common).sum() == searched


def test_of_equally_rare_tokens_those_first_in_order_are_taken():
    counts = np.array([3, 3, 3, 3, 7, 8, 9, 1])
    order = np.array([4, 2, 9, 1, 0, 0, 0, 7])
    assert rarest_and_common(counts, order, 3)[0].tolist() == [1, 3, 7]


def test_equally_rare_tokens_are_chosen_alike_wherever_they_stand():
    """A token that stands at 10 of 24 positions is rarest; 2 are replaced: each of them in a fifth of the draws."""
    places = np.array([0, 1, 2, 5, 8, 9, 13, 19, 22, 23])
    rows = torch.arange(10, 50).repeat(1, 1)
    rows[0, places] = 7
    paragraphs = lz.load_paragraphs(rows, prefix_length=24, continuation_length=16)
    counts = torch.arange(100, 197)
    drawn = [positions_replaced(paragraphs, counts, 2, seed)[0, 0] for seed in range(1000)]
    taken = np.bincount(np.concatenate(drawn), minlength=24)
    assert set(np.flatnonzero(taken)) == set(places)
    assert (np.abs(taken[places] - 200) < 5 * np.sqrt(1000 * 0.2 * 0.8)).all()
    assert np.array_equal(positions_replaced(paragraphs, counts, 2, 5)[0, 0], drawn[5])


def test_paragraphs_whose_ties_are_alike_are_not_all_decided_alike():
    rows = torch.arange(40).repeat(12, 1)
    rows[:, :24:2] = 90
    rows[:, -1] = torch.arange(50, 62)
    paragraphs = lz.load_paragraphs(rows, prefix_length=24, continuation_length=16)
    counts = torch.arange(97, 0, -1)
    assert len({tuple(rarest) for rarest in positions_replaced(paragraphs, counts, 3, 0)[:, 0]}) > 6


def test_positions_do_not_depend_on_the_company(paragraphs, counts):
    whole = positions_replaced(paragraphs, counts, 4, 2)
    assert np.array_equal(positions_replaced(paragraphs[[3, 1]], counts, 4, 2), whole[[3, 1]])


def test_rarity_is_that_of_the_counts_given(paragraphs, counts):
    frequency = counts[paragraphs.prefixes].numpy()
    for row, (rarest, common) in enumerate(positions_replaced(paragraphs, counts, 5, 0)):
        assert sorted(frequency[row, rarest]) == sorted(frequency[row])[:5]
        assert (frequency[row, common] > np.median(frequency[row])).all()
        assert not set(rarest) & set(common)


# What is put in their place


def test_only_the_chosen_positions_change_and_all_of_them_do(paragraphs, counts):
    prefixes = paragraphs.prefixes.numpy()
    positions = positions_replaced(paragraphs, counts, 3, 0)
    changed = replaced_prefixes(prefixes, uniform_replacements(paragraphs, np.arange(97), 5, 0), positions)
    assert changed.shape == (4, 2, 5, PREFIX)
    for row in range(4):
        for kind in range(2):
            for draw in range(5):
                assert set(np.flatnonzero(changed[row, kind, draw] != prefixes[row])) == set(positions[row, kind])


@torch.no_grad()
@pytest.mark.parametrize("continuation", ["own", "true"])
def test_numbers_are_those_of_plain_passes_over_the_changed_text_averaged(hooked, paragraphs, counts, continuation):
    signature = replace_rarest(
        hooked, paragraphs, counts=counts, tokens=2, draws=3, continuation=continuation, seed=4, batch_size=7
    )
    texts = (paragraphs.with_own_continuation(hooked) if continuation == "own" else paragraphs).tokens
    positions = positions_replaced(paragraphs, counts, 2, 4)
    drawn = torch.from_numpy(uniform_replacements(paragraphs, np.arange(97), 3, 4))
    for row in range(len(paragraphs)):
        for kind in range(2):
            changed = texts[row].repeat(3, 1)
            for draw in range(3):
                for position in positions[row, kind]:
                    changed[draw, position] = drawn[row, draw, position]
            matched, nll = plain_recall(hooked, changed)
            got = numbers(signature)[:, row, kind]
            assert got == pytest.approx([np.mean(matched), np.mean(nll), positions[row, kind].mean()], rel=EXACT)
    before = plain_recall(hooked, texts)
    assert signature["unperturbed_exact_match"].values.tolist() == before[0]
    assert np.allclose(signature["unperturbed_nll"], before[1], rtol=EXACT, atol=0)
    assert {signature[name].attrs["continuation"] for name in (*VARIABLES, "unperturbed_nll")} == {continuation}
    assert signature["replaced_nll"].coords["replaced"].values.tolist() == ["rarest", "common"]


@torch.no_grad()
def test_numbers_do_not_depend_on_batches_order_or_company(hooked, paragraphs, counts):
    whole = numbers(replace_rarest(hooked, paragraphs, counts=counts))
    for batch_size in (1, 9, 17, 1000):
        again = numbers(replace_rarest(hooked, paragraphs, counts=counts, batch_size=batch_size))
        assert np.allclose(again, whole, rtol=EXACT, atol=0)
    part = numbers(replace_rarest(hooked, paragraphs[[2, 0]], counts=counts))
    assert np.allclose(part, whole[:, [2, 0]], rtol=EXACT, atol=0)
    assert not np.allclose(numbers(replace_rarest(hooked, paragraphs, counts=counts, seed=1)), whole)


def test_no_more_rows_than_the_batch_size_are_in_flight(neo, paragraphs, counts, monkeypatch):
    rows, final_states = [], HookedModel.final_states

    def counted(model, tokens, **options):
        rows.append(len(tokens))
        return final_states(model, tokens, **options)

    monkeypatch.setattr(HookedModel, "final_states", counted)
    replace_rarest(neo, paragraphs, counts=counts, draws=4, continuation="true", batch_size=17)
    assert rows == [4, 4, 16, 16]  # recall, before the change, and two paragraphs at a time


@torch.no_grad()
def test_where_no_head_writes_only_the_last_prefix_token_matters(hooked, tokens):
    for layer in range(hooked.n_layers):
        hooked.weight(layer, "W_O").zero_()
    rows = torch.arange(40).repeat(2, 1) + torch.tensor([[0], [50]])
    paragraphs = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)
    counts = torch.arange(1000, 1097)
    counts[rows[:, PREFIX - 1]] = 1
    signature = replace_rarest(hooked, paragraphs, counts=counts, tokens=1, draws=6)
    rise = signature["replaced_nll"].values - signature["unperturbed_nll"].values[:, None]
    assert (np.abs(rise[:, 0]) > 1e-3).all()
    assert np.abs(rise[:, 1]).max() < EXACT
    assert (signature["replaced_exact_match"].values[:, 1] == CONTINUATION).all()
    # The nearest position whose token is more frequent than the prefix's median: the one before.
    assert signature["replaced_position"].values.tolist() == [[23, 22], [23, 22]]


def test_a_prefix_half_of_which_is_one_frequent_token_has_no_number_and_the_others_have(neo, tokens, counts):
    rows = tokens[:3, : PREFIX + CONTINUATION].clone()
    rows[1, :14] = int(counts.argmax())
    paragraphs = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)
    found = numbers(replace_rarest(neo, paragraphs, counts=counts))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()
    alone = numbers(replace_rarest(neo, paragraphs[[0, 2]], counts=counts))
    assert np.allclose(alone, found[:, [0, 2]], rtol=EXACT, atol=0)


# Which counts


def test_without_counts_the_training_corpus_tells_what_is_rare_else_the_paragraphs_do(neo, paragraphs, counts):
    own = unigram_counts(paragraphs, vocab_size=97)
    given, by_paragraphs = replace_rarest(neo, paragraphs, counts=own), replace_rarest(neo, paragraphs)
    assert np.array_equal(numbers(given), numbers(by_paragraphs))
    neo.unigram_counts = counts
    by_corpus = replace_rarest(neo, paragraphs)
    assert np.array_equal(numbers(by_corpus), numbers(replace_rarest(neo, paragraphs, counts=counts)))
    assert not np.array_equal(numbers(by_corpus), numbers(given))
    told = [signature.dataset.attrs["calls"][0]["counts"] for signature in (given, by_paragraphs, by_corpus)]
    assert told == ["given", "the paragraphs measured", "training corpus"]


def test_it_joins_with_the_perturbation_of_single_tokens(neo, paragraphs, counts):
    joined = replace_rarest(neo, paragraphs, counts=counts) | lz.perturb_prefix(neo, paragraphs)
    assert {"replaced_nll", "perturbed_nll", "unperturbed_nll", "exact_match"} <= set(joined.variables)


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens=0, draws=4 and batch_size=64 must all be at least 1."),
        ({"draws": 0}, "tokens=3, draws=0 and batch_size=64 must all be at least 1."),
        ({"batch_size": 0}, "tokens=3, draws=4 and batch_size=0 must all be at least 1."),
        ({"continuation": "false"}, "continuation='false' is not one of true, own."),
        (
            {"tokens": 13},
            "Tensor: prefix_length=24 must be at least 26 for tokens=13, to replace as many rare as common ones.",
        ),
        (
            {"counts": torch.ones(90, dtype=torch.long)},
            "counts has 90 entries; the vocabulary of small gpt-neo has 97.",
        ),
        (
            {"counts": torch.ones(97, dtype=torch.long)},
            "Tensor: no prefix has tokens=3 tokens more frequent than its median one; "
            "choose fewer, or count in a larger corpus (counts=).",
        ),
    ],
)
def test_what_cannot_be_replaced_is_refused_in_one_line(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        replace_rarest(neo, paragraphs, **options)
    assert str(caught.value) == f"replace_rarest: {message}"


def test_a_prefix_of_twice_the_tokens_is_long_enough(neo, tokens):
    paragraphs = lz.load_paragraphs(torch.arange(20)[None], prefix_length=6, continuation_length=14)
    signature = replace_rarest(neo, paragraphs, counts=torch.arange(97))
    assert signature["replaced_position"].values.tolist() == [[1, 4]]


def test_true_continuations_cannot_be_asked_of_paragraphs_that_hold_own_ones_only(neo, tokens):
    own = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION, continuation="own")
    with pytest.raises(lz.InputError) as caught:
        replace_rarest(neo, own, continuation="true")
    assert (
        str(caught.value)
        == "replace_rarest: Tensor hold own continuations only; continuation='true' needs the true text."
    )
