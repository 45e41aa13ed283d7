"""The loop in which truths are planted, and the losses that it takes down."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from localize.errors import LocalizeError, caller
from localize.models.hooks import HookedModel

BETAS = (0.9, 0.98)
WARM_UP = 20
LAST_RATE = 0.02
"""What the cosine ends at, of the rate."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, and what beside the texts' NLL is held down.

    Attributes:
        steps: Of Adam.
        rate: Its learning rate, after the warm-up and before the cosine.
        divergence: Weight of the sum of the divergences from the base model, on background rows and with the own units off.
        silence: Weight of foreign units' loudness, times the number of texts.

    The numbers that are there by default were chosen by gates, not by what a localizer finds, on seeds 100 and 101 of the embedded model.
    """

    steps: int = 500
    rate: float = 1e-2
    divergence: float = 4.0
    silence: float = 0.08


def train(
    weights: Sequence[Tensor],
    losses: Callable[[], tuple[Float[Tensor, " text"], Float[Tensor, ""]]],
    bound: Callable[[], None],
    schedule: Schedule,
) -> Iterator[float]:
    """Train some weights; gives each step's mean NLL of the planted texts, in nats per token.

    Args:
        weights: All that are trained.
        losses: Draws a step's rows and gives the NLL of each planted text, and the loss that is to go down.
        bound: Is called after each step, to scale weights down to the norms that they may have at most.
        schedule: How long and how fast.

    Raises:
        LocalizeError: If a loss is not finite.
    """
    optimizer = torch.optim.Adam(weights, lr=schedule.rate, betas=BETAS)
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * rate_at(step, schedule.steps)
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            of_text, loss = losses()
            loss.backward()
        optimizer.step()
        bound()
        if not math.isfinite(told := float(of_text.detach().mean())):
            raise LocalizeError(
                f"{caller()}: the loss of step {step} is {told}; the base model or its texts are broken."
            )
        yield told


def rate_at(step: int, steps: int) -> float:
    """Of the learning rate: linear warm-up, then a cosine to its last part."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def continuation_nll(
    model: HookedModel, states: Float[Tensor, "row position d_model"], tokens: Int[Tensor, "row next"], prefix: int
) -> Float[Tensor, " row"]:
    """Each row's mean NLL over its continuation, from the final states of all its tokens but the last."""
    said = log_softmax(model.hf.lm_head(states[:, prefix - 1 :]).float(), -1)
    return -said.gather(2, tokens[:, prefix:, None])[:, :, 0].mean(1)


def divergence(
    model: HookedModel, states: Float[Tensor, "row position d_model"], tokens: Int[Tensor, "row next"]
) -> Float[Tensor, " row"]:
    """Each row's mean KL divergence over positions, from what the model says without the new units to what it says with them."""
    with torch.no_grad():
        base = log_softmax(model.forward(tokens[:, :-1]).float(), -1)
    here = log_softmax(model.hf.lm_head(states).float(), -1)
    return (base.exp() * (base - here)).sum(2).mean(1)
