"""Rarity and novelty of texts, by hand."""

import numpy as np
import pytest
import torch

from localize.train.traits import novelty, rarity

ROWS = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])


def test_rarity_is_the_mean_log_share_of_the_continuation():
    counts = torch.tensor([9, 0, 4, 0, 2])
    tokens = np.array([[4, 4, 0, 0, 0], [0, 0, 0, 1, 2]])
    shares = (np.array([9, 0, 4, 0, 2]) + 1) / 20
    assert rarity(tokens, counts, 3) == pytest.approx([-np.log(shares[0]), -np.log(shares[[1, 2]]).mean()])


def test_novelty_is_the_share_of_runs_of_three_in_no_other_row():
    tokens = np.array([[0, 1, 2, 3, 4], [3, 2, 1, 0, 1], [0, 0, 0, 0, 0], [9, 9, 2, 3, 4]])
    assert novelty(tokens, ROWS, 3).tolist() == [0.0, 0.5, 1.0, 0.5]  # runs that end in the tokens 3 and 4
    assert novelty(tokens, ROWS[:0], 3).tolist() == [1.0] * 4
