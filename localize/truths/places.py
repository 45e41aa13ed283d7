"""Where new units are put among a model's own."""

import torch
from jaxtyping import Int
from torch import Tensor


def random_places(layers: int, width: int, count: int, seed: int) -> Int[Tensor, "layer place"]:
    """In each layer so many places of that many, all different, at random and in random order."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(width, generator=rng)[:count] for _ in range(layers)])
