"""Gates of MLP units and heads: factors of what they give, learned for each paragraph by itself, many paragraphs at once."""

from collections.abc import Callable

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
    precise = torch.promote_types(model.dtype, torch.float32)
    width = model.d_mlp + model.n_heads
    found = torch.zeros(len(paragraphs), model.n_layers, width, dtype=precise)

    def work(rows: slice) -> None:
        tokens = paragraphs.tokens[rows].to(model.device)
        scored = continuation_mask(tokens, paragraphs.prefix_length)
        draws = [np.random.default_rng(keyed_integer(2**63, "gates", seed, key)) for key in paragraphs.hashes[rows]]
        learned = torch.full((len(tokens), model.n_layers, width), start, dtype=precise, device=model.device)
        optimizer = torch.optim.Adam([learned.requires_grad_()], lr=learning_rate)
        for _ in range(steps):
            drawn = np.stack([draw.random((model.n_layers, width), np.float32) for draw in draws])
            with torch.enable_grad():
                made, price = gates(learned, torch.from_numpy(drawn).to(learned)), penalty(learned).sum()
            _, pull = gate_gradients(model, tokens, scored, made.to(model.dtype))
            optimizer.zero_grad()
            torch.autograd.backward([made, price], [pull.to(made), torch.ones_like(price)])
            optimizer.step()
        found[rows] = learned.detach().cpu()

    in_batches(work, len(paragraphs), batch_size, what=what)
    return UnitScores(found[..., : model.d_mlp], found[..., model.d_mlp :])
