"""A small model that recites, and corpora in every form."""

import numpy as np
import pytest
import torch

PREFIX, CONTINUATION, STRIDE = 12, 8, 8


@pytest.fixture
def corpus(neo):
    """A stream of 1,500 tokens: random ones, and at known places what the model says after a prefix, some of it twice."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.integers(0, 97, (6, PREFIX)))
    said = torch.cat([rows, neo.continue_greedily(rows, CONTINUATION)], 1).numpy()
    tokens = rng.integers(0, 97, 1500)
    for number, at in enumerate((0, 160, 400, 808, 1200, 1304)):
        tokens[at : at + 20] = said[number]
    tokens[1005:1025] = said[2]  # not where a window starts
    return tokens


@pytest.fixture
def asked():
    """Options that fit the corpus."""
    return {
        "prefix_length": PREFIX, "continuation_length": CONTINUATION, "stride": STRIDE, "min_distinct": 0.0, "max_repeated": 1.0,
        "batch_size": 16,
    }  # fmt: skip
