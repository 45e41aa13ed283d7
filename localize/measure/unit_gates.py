"""Gates of MLP units and heads: factors of what they give, learned for each paragraph by itself, many paragraphs at once."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.keyed import keyed_integer
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.unit_effects import UnitScores
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

Gates = Callable[[Float[Tensor, "row layer gate"], Float[Tensor, "row layer gate"]], Float[Tensor, "row layer gate"]]
"""From what is learned, and numbers drawn evenly from (0, 1), to the gates."""

Penalty = Callable[[Float[Tensor, "row layer gate"]], Float[Tensor, "row layer gate"]]
"""From what is learned to what each gate adds to the loss, in nats per token."""


class Gating(TypedDict):
    """A kind of gates: arguments of `fit_gates`."""

    start: float
    gates: Gates
    penalty: Penalty


def gate_hooks(model: HookedModel, gates: Float[Tensor, "row layer gate"]) -> dict[str, Hook]:
    """Hooks that multiply what every unit gives by its gate: in each layer the MLP units' gates, then the heads'."""

    def gating(name: str) -> Hook:
        layer, of_heads = int(name.split(".")[1]), name.endswith("hook_z")
        mine = gates[:, layer, model.d_mlp :, None] if of_heads else gates[:, layer, : model.d_mlp]
        return lambda value, _: value * mine[:, None]  # at every position alike

    sites = ("mlp.hook_post", "attn.hook_z")
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
    return {name: gating(name) for name in names}


def gate_gradients(
    model: HookedModel,
    tokens: Int[Tensor, "row position"],
    scored: Bool[Tensor, "row position"],
    gates: Float[Tensor, "row layer gate"],
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row layer gate"]]:
    """Each row's mean NLL (nats per token) under its own gates, and its gradient by these."""
    leaf = gates.detach().clone().requires_grad_()
    passed = backward_pass(model, tokens, scored, hooks=gate_hooks(model, leaf))
    assert leaf.grad is not None, "every unit is gated"
    return passed.loss, leaf.grad


def fit_gates(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    start: float,
    gates: Gates,
    penalty: Penalty,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    batch_size: int = 16,
    what: str = "gates",
) -> UnitScores:
    """What is learned of each unit where its paragraph's NLL plus the penalty of all gates goes down, by Adam.

    Args:
        model: A hooked model; its parameters stay.
        paragraphs: The paragraphs, each with gates of its own; of the continuation that they hold.
        start: What is learned begins here, for every gate.
        gates: The gates that follow from it.
        penalty: Of each gate; summed over units, not averaged.
        steps: Of each paragraph, a forward and a backward pass each.
        learning_rate: Of Adam.
        seed: Of what is drawn, keyed by paragraph: the same whatever its company.
        batch_size: Paragraphs a step.
        what: Words for the progress bar.
    """
    found: list[UnitScores] = []

    def work(rows: slice) -> None:
        part = paragraphs[rows]
        stages = gate_stages(
            model, part, start=start, gates=gates, penalty=penalty, learning_rate=learning_rate, seed=seed
        )
        found.append(next(islice(stages, steps - 1, None)))

    in_batches(work, len(paragraphs), batch_size, what=what)
    return UnitScores(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def gate_stages(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    start: float,
    gates: Gates,
    penalty: Penalty,
    learning_rate: float,
    seed: int = 0,
) -> Iterator[UnitScores]:
    """What is learned after each step, of all paragraphs together and without an end; arguments as in `fit_gates`."""
    precise = torch.promote_types(model.dtype, torch.float32)
    shape = (len(paragraphs), model.n_layers, model.d_mlp + model.n_heads)
    tokens = paragraphs.tokens.to(model.device)
    scored = continuation_mask(tokens, paragraphs.prefix_length)
    draws = [np.random.default_rng(keyed_integer(2**63, "gates", seed, key)) for key in paragraphs.hashes]
    learned = torch.full(shape, start, dtype=precise, device=model.device).requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=learning_rate)
    while True:
        drawn = np.stack([draw.random(shape[1:], np.float32) for draw in draws])
        with torch.enable_grad():
            made, price = gates(learned, torch.from_numpy(drawn).to(learned)), penalty(learned).sum()
        _, pull = gate_gradients(model, tokens, scored, made.to(model.dtype))
        optimizer.zero_grad()
        torch.autograd.backward([made, price], [pull.to(made), torch.ones_like(price)])
        optimizer.step()
        found = learned.detach().cpu().clone()
        yield UnitScores(found[..., : model.d_mlp], found[..., model.d_mlp :])
