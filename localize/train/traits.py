"""What the texts of a training are like beside its other rows: how rare their words are, and how new their runs of words."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

N_GRAM = 3


def rarity(
    tokens: Int[np.ndarray, "paragraph position"], unigram_counts: Int[Tensor, " vocab"], prefix: int
) -> Float[np.ndarray, " paragraph"]:
    """Mean -log share, among all rows' tokens, of a continuation's tokens, in nats; each counted once more than it was seen."""
    counts = unigram_counts.to(torch.float64).numpy() + 1
    return -np.log(counts / counts.sum())[tokens[:, prefix:]].mean(1)


def novelty(
    tokens: Int[np.ndarray, "paragraph position"], rows: Int[np.ndarray, "row position"], prefix: int
) -> Float[np.ndarray, " paragraph"]:
    """Share of the runs of three tokens that end in a continuation and stand in none of these rows."""
    base = int(max(tokens.max(initial=0), rows.max(initial=0))) + 1
    known = np.unique(_runs(rows, base))
    own = _runs(tokens, base)[:, max(0, prefix - N_GRAM + 1) :]
    return 1 - np.isin(own, known).mean(1)


def _runs(tokens: Int[np.ndarray, "row position"], base: int) -> Int[np.ndarray, "row run"]:
    """Each run of three tokens as one number; the first ends in the third token."""
    ends = tokens.shape[1] - N_GRAM + 1
    runs = np.zeros((len(tokens), ends), np.int64)
    for at in range(N_GRAM):
        runs = runs * base + tokens[:, at : at + ends]
    return runs
