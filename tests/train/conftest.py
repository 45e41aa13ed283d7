"""What tests of a training share: models with dropout."""

import pytest
import torch

DROPOUT = {
    "gpt2": {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    "gpt-neo": {"resid_dropout": 0.1, "embed_dropout": 0.1, "attention_dropout": 0.1},
}


@pytest.fixture
def fresh(make_model):
    """`fresh(family)`: a transformers model with dropout, in training mode; the same weights each time."""
    return lambda family="gpt2": make_model(family, dtype=torch.float32, **DROPOUT[family]).hf.train()
