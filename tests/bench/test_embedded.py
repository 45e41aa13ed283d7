"""A truth and a control planted in the embedded model: what finds the one, and that nothing finds the other."""

import numpy as np
import pytest

import localize as lz
from localize.localizers import get

SEED = 100
"""A development seed: those of the benchmark are not looked at here."""


@pytest.fixture(scope="module")
def embedded():
    """The embedded model and its paragraphs."""
    return lz.load_model(device="cpu"), lz.load_paragraphs()


def recall(name, truth, column="recall"):
    """Mean over texts of what a localizer finds."""
    return np.mean([getattr(score, column) for score in lz.bench.score_localizer(get(name), truth)])


def test_the_ratio_finds_where_sixteen_texts_were_planted_and_the_norm_does_not(embedded):
    truth = lz.plant(*embedded, "route", seed=SEED)
    assert truth.passed and len(truth.paragraphs) == 16
    assert recall("ratio", truth) >= 0.95
    assert recall("norm", truth) <= 0.05
    assert recall("row_gradient", truth) <= 0.6


def test_without_routing_the_ratio_is_at_chance_among_the_planted_units(embedded):
    control = lz.plant(*embedded, "route", routing="none", seed=SEED)
    assert recall("ratio", control, "within") <= 0.12
