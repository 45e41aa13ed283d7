"""Planting: training new units of a frozen model until each text's own ones, and nothing else, recite it."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.truths.routing import Routes
from localize.truths.texts import Split
from localize.truths.training import Schedule, continuation_nll, divergence, train

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
    rng = torch.Generator().manual_seed(seed)
    count = len(texts.planted)

    def losses() -> tuple[Float[Tensor, " text"], Float[Tensor, ""]]:
        off = torch.randperm(count, generator=rng)[: OWN_OFF_ROWS if routing == OWN else 0]
        aside = BACKGROUND_ROWS + OWN_OFF_ROWS - len(off)
        chosen = torch.randint(len(texts.background), (aside,), generator=rng)
        rows = [texts.planted.tokens, texts.background.tokens[chosen], texts.planted.tokens[off]]
        tokens = torch.cat(rows).to(model.device)
        routes = routes_of(count, aside, off, routing, rng)
        on_device = Routes(*(part.to(model.device) for part in (routes.on, routes.learns, routes.silent)))
        loudness: list[Tensor] = []
        states = model.final_states(tokens[:, :-1], hooks=extra.hooks(on_device, loudness))
        of_text = continuation_nll(model, states[:count], tokens[:count], texts.planted.prefix_length)
        apart = divergence(model, states[count:], tokens[count:])
        loss = of_text.sum() + schedule.divergence * apart.sum()
        if routing == OWN:
            loss = loss + schedule.silence * count * torch.stack(loudness).mean()
        return of_text, loss

    with model.frozen():
        yield from train(extra.parameters(), losses, extra.bound, schedule)


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
