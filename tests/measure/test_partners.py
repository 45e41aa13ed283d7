"""Whom a paragraph is held against: paragraphs of other clusters."""

import numpy as np

import localize as lz
from localize.measure.partners import mismatched


def test_partners_come_from_other_clusters_and_do_not_depend_on_the_order(tokens):
    rows = tokens.repeat(2, 1)
    rows[6:, -1] = (rows[6:, -1] + 1) % 97  # near-duplicates of the first six
    paragraphs = lz.load_paragraphs(rows, prefix_length=40, continuation_length=20)
    partners = mismatched(paragraphs, 20, 0)
    assert not (paragraphs.clusters[partners] == paragraphs.clusters[:, None]).any()
    assert len(np.unique(partners)) == 12
    assert np.array_equal(mismatched(paragraphs, 5, 0), partners[:, :5])
