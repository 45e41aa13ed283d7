"""Both families, one after the other; and the oracle of gradients' cosines."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.models.parameters import weight_view

PREFIX, LENGTH = 24, 60
"""Of `clustered`."""


@pytest.fixture(params=["neo", "gpt2"])
def hooked(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def clustered(tokens):
    rows = torch.cat([tokens, tokens[:2]])
    rows[6:, -1] = (rows[6:, -1] + 1) % 97  # near-duplicates of the first two
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX).with_groups("aaabbbaa")


def flattened(model, rows):
    """The gradient of the rows' mean NLL, `(layer, component)` to a vector."""
    model.hf.zero_grad()
    logits = model(rows)[:, PREFIX - 1 : -1]
    cross_entropy(logits.flatten(0, 1), rows[:, PREFIX:].flatten()).backward()
    found = {
        (layer, c): weight_view(model, layer, name, grad=True).flatten().clone()
        for layer in range(model.n_layers)
        for c, name in enumerate(COMPONENTS)
    }
    model.hf.zero_grad()
    return found


def cosines(one, other):
    return {cell: float(cosine_similarity(one[cell], other[cell], dim=0)) for cell in one}
