"""Recall against real decoding and against sums written out."""

import math

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.labels import groups_of
from localize.measure.recall import Recall, exact_match, measure_recall, token_nll
from localize.paragraphs.paragraphs import Paragraphs

PREFIX = 24


def decoded_match(model, row, prefix):
    """Greedy decoding, one whole forward pass per token, until the first error; and the smallest lead of a top logit on the way."""
    lead = math.inf
    for position in range(prefix, len(row)):
        logits = model(row[None, :position])[0, -1]
        first, second = logits.topk(2).values
        lead = min(lead, float(first - second))
        if int(logits.argmax()) != int(row[position]):
            return position - prefix, lead
    return len(row) - prefix, lead


@torch.no_grad()
def half_true(model, tokens):
    """Rows that the model recites for 0, 7, 14, ... tokens and not after, so that every exact match occurs."""
    rows = torch.cat([tokens[:, :PREFIX], model.continue_greedily(tokens[:, :PREFIX], tokens.shape[1] - PREFIX)], dim=1)
    for i, row in enumerate(rows):
        if (wrong := PREFIX + 7 * i) < len(row):
            row[wrong] = (row[wrong] + 1) % model.vocab_size
    return rows


@torch.no_grad()
def test_exact_match_is_what_greedy_decoding_gives(hooked, tokens):
    rows = half_true(hooked, tokens)
    recall = measure_recall(hooked, rows, PREFIX)
    decoded = [decoded_match(hooked, row, PREFIX) for row in rows]
    unequal = [i for i, (match, _) in enumerate(decoded) if match != recall.exact_match[i]]
    # In float64 only an exact tie could fall either way; there is none.
    assert all(lead > 1e-9 for _, lead in decoded)
    assert unequal == []
    assert recall.exact_match.tolist()[:3] == [0, 7, 14]


@torch.no_grad()
def test_exact_match_in_float32_differs_from_decoding_at_near_ties_only(hooked, tokens):
    hooked.hf.float()
    rows = half_true(hooked, tokens)
    recall = measure_recall(hooked, rows, PREFIX)
    decoded = [decoded_match(hooked, row, PREFIX) for row in rows]
    margin = 1e-4
    mismatches = [lead for (match, lead), got in zip(decoded, recall.exact_match, strict=True) if match != got]
    assert all(lead < margin for lead in mismatches)
    assert len(mismatches) <= sum(lead < margin for _, lead in decoded)


@torch.no_grad()
def test_nll_is_minus_log_of_the_softmax_one_position_before(hooked, tokens):
    recall = measure_recall(hooked, tokens, PREFIX)
    for row in range(2):
        for offset in (0, 5, tokens.shape[1] - PREFIX - 1):
            position = PREFIX + offset
            logits = hooked(tokens[row : row + 1, :position])[0, -1]
            by_hand = math.log(sum(math.exp(float(x)) for x in logits)) - float(logits[tokens[row, position]])
            assert recall.token_nll[row, offset] == pytest.approx(by_hand, rel=1e-10)


def test_exact_match_counts_up_to_the_first_error_and_not_beyond():
    targets = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    said = torch.tensor([[1, 2, 3, 4], [1, 0, 3, 4], [0, 2, 3, 4]])
    logits = torch.nn.functional.one_hot(said, 5).double()
    assert exact_match(logits, targets).tolist() == [4, 1, 0]
    assert token_nll(torch.zeros(3, 4, 5), targets) == pytest.approx(np.full((3, 4), math.log(5)))


def test_recall_is_the_same_for_any_batch_size(hooked, tokens):
    whole, single = (measure_recall(hooked, tokens, PREFIX, batch_size=size) for size in (64, 1))
    assert np.array_equal(whole.exact_match, single.exact_match)
    assert np.allclose(whole.token_nll, single.token_nll, rtol=1e-12)


def test_groups_follow_from_exact_match():
    paragraphs = Paragraphs(tokens=torch.arange(5 * 100).view(5, 100), prefix_length=50)
    recall = Recall(np.array([50, 49, 11, 10, 0]), np.zeros((5, 50)))
    assert groups_of(paragraphs, recall).tolist() == [
        "memorized",
        "partial",
        "partial",
        "not_memorized",
        "not_memorized",
    ]
    binned = paragraphs.with_em_bins([(0, 10), (11, 29), (30, 49), (50, 50)])
    assert groups_of(binned, recall).tolist() == ["EM 50", "EM 30-49", "EM 11-29", "EM 0-10", "EM 0-10"]
    labelled = paragraphs.with_groups("ababa")
    assert groups_of(labelled, recall).tolist() == list("ababa")


def test_own_continuations_are_matched_whole_and_recall_stays_that_of_the_true_text(hooked, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=36)
    own = paragraphs.with_own_continuation(hooked)
    assert measure_recall(hooked, own.tokens, PREFIX).exact_match.tolist() == [36] * len(own)
    truly, owned = lz.recall(hooked, paragraphs), lz.recall(hooked, own)
    assert np.array_equal(truly["exact_match"], owned["exact_match"])
    assert owned["exact_match"].attrs["continuation"] == "true"
    only_own = Paragraphs(tokens=own.tokens, prefix_length=PREFIX, continuation="own")
    assert lz.recall(hooked, only_own)["exact_match"].attrs["continuation"] == "own"
