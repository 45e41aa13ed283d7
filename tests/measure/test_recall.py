"""What the recall of paragraphs tells: their groups, and whose continuation it is of."""

import numpy as np
import torch

import localize as lz
from localize.measure.labels import groups_of
from localize.measure.scoring import Recall, measure_recall
from localize.paragraphs.paragraphs import Paragraphs

PREFIX = 24


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
