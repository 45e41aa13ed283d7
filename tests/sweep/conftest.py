"""Two small checkpoints of different depth and a file of token rows."""

import shutil

import numpy as np
import pytest


@pytest.fixture(scope="session")
def made(make_model, tmp_path_factory):
    """A folder with the checkpoints `deep` (GPT-Neo, 4 layers) and `flat` (GPT-2, 3 layers) and `rows.npy`, 6 x 60 tokens."""
    folder = tmp_path_factory.mktemp("made")
    for name, family in (("deep", "gpt-neo"), ("flat", "gpt2")):
        make_model(family).hf.save_pretrained(folder / name)
    np.save(folder / "rows.npy", np.random.default_rng(0).integers(0, 97, (6, 60)))
    return folder


@pytest.fixture
def files(made, tmp_path):
    """The same in a folder of the test's own."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def make_grid():
    """`make_grid(folder)`: both models in float64, the rows as 30 + 20 tokens; gradients in blocks of 4 paragraphs, and two ablations."""
    return lambda folder: {
        "model": [{"source": str(folder / name), "dtype": "float64"} for name in ("deep", "flat")],
        "paragraphs": [{"source": str(folder / "rows.npy"), "prefix": 30, "continuation": 20}],
        "measure": [
            {"measurement": "gradients", "block": 4, "options": {"sets": False}},
            {"measurement": "ablate", "over": {"layers": [0, 1]}},
        ],
    }


@pytest.fixture
def grid(files, make_grid):
    """The grid of the test's own files."""
    return make_grid(files)
