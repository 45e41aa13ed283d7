"""Training a small model from scratch: one loop, the same bits for one seed, batch size and thread count."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from localize.errors import LocalizeError
from localize.models.hooks import HookedModel
from localize.train.recipe import Shape, Training


def build_model(shape: Shape, vocab_size: int, seed: int) -> HookedModel:
    """An untrained model of this shape, on the CPU; the initial weights follow from the seed."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
    from transformers.models.gpt_neo.configuration_gpt_neo import GPTNeoConfig
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoForCausalLM

    # The same function as gelu_new, in one kernel instead of eight.
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "activation_function": "gelu_pytorch_tanh",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if shape.family == "gpt2":
            drops: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
            size: dict[str, Any] = {
                "n_embd": shape.d_model,
                "n_layer": shape.layers,
                "n_head": shape.heads,
                "n_positions": shape.context,
            }
            return HookedModel(GPT2LMHeadModel(GPT2Config(**common, **drops, **size)), name="untrained gpt2")
        kinds = [shape.attention[layer % len(shape.attention)] for layer in range(shape.layers)]
        config = GPTNeoConfig(
            **common,
            hidden_size=shape.d_model,
            num_layers=shape.layers,
            num_heads=shape.heads,
            max_position_embeddings=shape.context,
            window_size=shape.window,
            attention_types=[[[kind], 1] for kind in kinds],
        )
        return HookedModel(GPTNeoForCausalLM(config), name="untrained gpt-neo")


def learning_rate(step: int, training: Training) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    progress = (step - training.warmup) / max(1, training.steps - training.warmup)
    return training.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model: HookedModel,
    rows: Int[Tensor, "row position"],
    training: Training,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train in place on `rows`, in their order, `training.batch` at a time.

    Args:
        model: The model; its weights change.
        rows: Token rows, `steps * batch` of them, one paragraph each.
        training: Steps, batch and optimizer settings.
        on_step: Called with the step and its loss.

    Returns:
        The loss of every step, in nats per token.

    Raises:
        LocalizeError: If a loss is not a finite number, or no gradient can be computed.
    """
    model.check_differentiable()
    decayed = [p for p in model.hf.parameters() if p.ndim > 1]
    others = [p for p in model.hf.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)
    losses = []
    for step in range(training.steps):
        tokens = rows[step * training.batch : (step + 1) * training.batch].to(model.device)  # (batch, position)
        logits = model.forward(tokens[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.hf.parameters(), training.clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, training)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise LocalizeError(
                f"training: the loss of step {step} is {losses[-1]}; lower learning_rate={training.learning_rate}."
            )
        if on_step is not None:
            on_step(step, losses[-1])
    return losses
