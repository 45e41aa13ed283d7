"""Planting: training new units of a frozen model until each text's own ones, and nothing else, recite it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from localize.errors import LocalizeError, caller
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.truths.routing import Routes
from localize.truths.texts import Split

OWN, NONE, RANDOM = ROUTINGS = ("own", "none", "random")
"""Routed to each text's own units; the controls: not at all, and in half of the rows half of all units, drawn anew for each row."""


@runtime_checkable
class Extra(Protocol):
    """New units, by text, and what they add to a forward pass."""

    def parameters(self) -> list[Tensor]:
        """All weights that are trained."""
        ...

    def bound(self) -> None:
        """Scale weights down to the norms that they may have at most."""
        ...

    def hooks(self, routes: Routes, loudness: list[Tensor]) -> dict[str, Hook]:
        """Hooks that add the units, and fill in how loud those are that should be silent."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, and what beside the texts' NLL is held down.

    Attributes:
        steps: Of Adam.
        rate: Its learning rate, after the warm-up and before the cosine.
        divergence: Weight of the sum of the divergences from the base model, on background rows and with the own units off.
        silence: Weight of foreign units' loudness, times the number of texts.
    """

    steps: int = 300
    rate: float = 1e-2
    divergence: float = 1.0
    silence: float = 0.08


BETAS = (0.9, 0.98)
WARM_UP = 20
LAST_RATE = 0.02
"""What the cosine ends at, of the rate."""
BACKGROUND_ROWS = 8
OWN_OFF_ROWS = 4


def planted_losses(
    model: HookedModel, extra: Extra, texts: Split, routing: str, schedule: Schedule, seed: int
) -> Iterator[float]:
    """Train the new units; gives each step's mean NLL of the planted texts, in nats per token.

    A step sees every planted text, some background rows, and, where routed, some planted texts with their own units off. A planted
    row has on: in half of the rows its own units alone, in a quarter all, in a quarter its own and a random half of the others'.

    Raises:
        LocalizeError: If a loss is not finite.
    """
    optimizer = torch.optim.Adam(extra.parameters(), lr=schedule.rate, betas=BETAS)
    rng = torch.Generator().manual_seed(seed)
    count = len(texts.planted)
    with model.frozen():
        for step in range(schedule.steps):
            off = torch.randperm(count, generator=rng)[: OWN_OFF_ROWS if routing == OWN else 0]
            aside = BACKGROUND_ROWS + OWN_OFF_ROWS - len(off)
            chosen = torch.randint(len(texts.background), (aside,), generator=rng)
            tokens = torch.cat([texts.planted.tokens, texts.background.tokens[chosen], texts.planted.tokens[off]]).to(
                model.device
            )
            routes = routes_of(count, aside, off, routing, rng)
            loudness: list[Tensor] = []
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate * rate_at(step, schedule.steps)
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                on_device = Routes(*(part.to(model.device) for part in (routes.on, routes.learns, routes.silent)))
                states = model.final_states(tokens[:, :-1], hooks=extra.hooks(on_device, loudness))
                of_text = continuation_nll(model, states[:count], tokens[:count], texts.planted.prefix_length)
                apart = divergence(model, states[count:], tokens[count:])
                loss = of_text.sum() + schedule.divergence * apart.sum()
                if routing == OWN:
                    loss = loss + schedule.silence * count * torch.stack(loudness).mean()
                loss.backward()
            optimizer.step()
            extra.bound()
            if not math.isfinite(told := float(of_text.detach().mean())):
                raise LocalizeError(
                    f"{caller()}: the loss of step {step} is {told}; the base model or its texts are broken."
                )
            yield told


def routes_of(count: int, background: int, off: Int[Tensor, " row"], routing: str, rng: torch.Generator) -> Routes:
    """Of the planted rows, the background rows and the planted rows whose own units are off, in this order."""
    rows = count + background + len(off)
    own = torch.eye(count)
    on = torch.ones(rows, count)
    if routing == NONE:
        return Routes(on, on, torch.zeros(rows, count))
    halves = halved(rows, count, rng)
    kind = torch.rand(count, generator=rng)[:, None]
    if routing == RANDOM:  # a half of all units, or all, as in the model that is exported
        on[:count] = torch.where(kind < 0.5, halves[:count], on[:count])
        return Routes(on, on, torch.zeros(rows, count))
    # own alone, all, or own and half of the others
    on[:count] = torch.where(kind < 0.5, own, torch.where(kind < 0.75, on[:count], torch.maximum(own, halves[:count])))
    on[count + background :] = 1 - own[off]
    learns = torch.cat([own, on[count:]])
    silent = torch.cat([1 - own, torch.ones(background, count), 1 - own[off]])
    return Routes(on, learns, silent)


def halved(rows: int, count: int, rng: torch.Generator) -> Float[Tensor, "row text"]:
    """A random half of the texts, anew in every row."""
    return (torch.rand(rows, count, generator=rng).argsort(1) < count // 2).float()


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
