"""Two small checkpoints of different depth and a file of token rows."""

import numpy as np
import pytest


@pytest.fixture
def files(make_model, tokens, tmp_path):
    """A folder with the checkpoints `deep` (GPT-Neo, 4 layers) and `flat` (GPT-2, 3 layers) and `rows.npy`, 6 x 60 tokens."""
    for name, family in (("deep", "gpt-neo"), ("flat", "gpt2")):
        make_model(family).hf.save_pretrained(tmp_path / name)
    np.save(tmp_path / "rows.npy", tokens.numpy())
    return tmp_path


@pytest.fixture
def grid(files):
    """Both models in float64, the rows as 30 + 20 tokens; gradients in blocks of 4 paragraphs, and two ablations."""
    return {
        "model": [{"source": str(files / name), "dtype": "float64"} for name in ("deep", "flat")],
        "paragraphs": [{"source": str(files / "rows.npy"), "prefix": 30, "continuation": 20}],
        "measure": [
            {"measurement": "gradients", "block": 4, "options": {"sets": False}},
            {"measurement": "ablation", "over": {"layers": [0, 1]}},
        ],
    }
