"""K-FAC: the two factors of a weight matrix's curvature on text, from what its map receives and what is asked of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from localize.keyed import keyed_integer
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.loss import Losses, drawn_gradient
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


class Factors(NamedTuple):
    """Second moments over positions, in at least float32, on the model's device.

    Attributes:
        inputs: A = E[x x^T] of what a linear map receives.
        outputs: G = E[d d^T] of the gradient of the summed NLL of a row's tokens by what the map gives there, nats per unit.
    """

    inputs: Float[Tensor, "input input"]
    outputs: Float[Tensor, "output output"]


def curvature_factors(
    model: HookedModel,
    text: Paragraphs,
    cells: Sequence[tuple[int, str]],
    *,
    seed: int = 0,
    batch_size: int = 16,
) -> dict[tuple[int, str], Factors]:
    """The factors of some (layer, component), over all positions of a text.

    The gradients are of the NLL of tokens that the model itself draws at each position, so that G (x) A is of the Fisher matrix.

    Args:
        model: A hooked model; its parameters get no gradient.
        text: General text; whole rows are read, prefix and continuation alike.
        cells: The weight matrices.
        seed: Of the tokens drawn, which are keyed by row and position: the same in batches of any size.
        batch_size: Rows a backward pass.

    Source:
        Martens and Grosse 2015 (arXiv 1503.05671).
    """
    wanted = set(cells)
    precise = torch.promote_types(model.dtype, torch.float32)
    shapes = {cell: model.weight(*cell).shape for cell in cells}
    total = {cell: Factors(*(torch.zeros(n, n, dtype=precise, device=model.device) for n in shape))
             for cell, shape in shapes.items()}  # fmt: skip
    tokens, asked = text.tokens, text.tokens.shape[1] - 1
    uniform = np.stack([
        np.random.default_rng(keyed_integer(2**63, "drawn tokens", seed, digest)).random(asked) for digest in text.hashes
    ])  # fmt: skip

    def work(rows: slice) -> None:
        found: dict[tuple[int, str], Factors] = {}

        def on_linear(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            if (layer, component) in wanted:
                x, d = x[:, :asked].flatten(0, 1).to(precise), d[:, :asked].flatten(0, 1).to(precise)
                found[layer, component] = Factors(x.T @ x, d.T @ d)

        def loss(hooked: HookedModel, states: Tensor, targets: Tensor, weights: Tensor) -> Losses:
            # weights are 1 / asked: the summed NLL of a row is asked times their mean
            drawn = torch.from_numpy(uniform[rows]).to(states.device)
            return drawn_gradient(hooked, states, drawn, targets, weights * asked)

        batch = tokens[rows].to(model.device)
        backward_pass(model, batch, continuation_mask(batch, 1), on_linear=on_linear, loss=loss)
        for cell, parts in found.items():  # added once a batch has gone through: one that did not fit is done again
            for sums, part in zip(total[cell], parts, strict=True):
                sums += part

    in_batches(work, len(text), batch_size, what="curvature")
    count = len(text) * asked
    return {cell: Factors(*(sums / count for sums in parts)) for cell, parts in total.items()}
