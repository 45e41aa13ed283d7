"""Training a small model from scratch: one loop, the same bits for one seed, batch size and thread count."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from localize.errors import LocalizeError
from localize.models.activations import Hook
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
    """Linear warm-up, then a cosine down to a tenth, or the same on; of the steps of one stage."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - training.warmup) / max(1, training.steps - training.warmup)
    return training.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


class Trainer:
    """A training between two of its steps: it goes on from any of them to the same weights, bit for bit on a CPU.

    Args:
        model: Trained in place.
        rows: Token rows, in their order, of all stages; each step takes `batch` of them, one paragraph each.
        stages: Steps and schedule of each stage; batch and the optimizer's settings are the first one's.
        anew: Steps before which the model goes back to the weights that it has now, its optimizer to what it was.
        given: Tokens of a row that it is not trained to say: the first, which nothing predicts, or the key of a fact.
        hooks: The hooks of the forward pass of some of the rows, given their tokens and the number of the first; None for none.
        bound: Called after each step, to scale weights down to the norms that they may have at most; None for none.

    Attributes:
        model: What is trained.
        done: Steps made so far.
        losses: The loss of each of them, in nats per token.

    Raises:
        LocalizeError: If no gradient can be computed.
    """

    def __init__(
        self,
        model: HookedModel,
        rows: Int[Tensor, "row position"],
        stages: Sequence[Training],
        anew: Collection[int] = (),
        given: int = 1,
        hooks: Callable[[Int[Tensor, "row position"], int], Mapping[str, Hook]] | None = None,
        bound: Callable[[], None] | None = None,
    ):
        model.check_differentiable()
        self.model, self._rows, self._stages, self._given, self._hooks = model, rows, stages, given, hooks
        self._bound = bound
        self.done, self.losses = 0, list[float]()
        self._first = first = stages[0]
        named = dict(model.hf.named_parameters())
        self._named = named
        self._anew = frozenset(anew)
        self._untrained = {name: p.detach().clone() for name, p in named.items()} if anew else {}
        decayed, others = ([p for p in named.values() if (p.ndim > 1) == wanted] for wanted in (True, False))
        groups = [{"params": decayed, "weight_decay": first.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=first.learning_rate, betas=(0.9, 0.95), fused=True)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self._stages)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        before = 0
        for stage in self._stages:
            if self.done < before + stage.steps:
                return learning_rate(self.done - before, stage)
            before += stage.steps
        return 0.0

    def step(self) -> float:
        """Make one step; its loss in nats per token.

        Raises:
            LocalizeError: If the loss is not a finite number.
        """
        batch = self._first.batch
        if self.done in self._anew:
            self._start_again()
        tokens = self._rows[self.done * batch : (self.done + 1) * batch].to(self.model.device)  # (batch, position)
        hooks = None if self._hooks is None else self._hooks(tokens, self.done * batch)
        logits = self.model.forward(tokens[:, :-1], hooks=hooks)[:, self._given - 1 :]
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, self._given :].flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.hf.parameters(), self._first.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        self._optimizer.step()
        if self._bound is not None:
            self._bound()
        found = loss.item()
        if not math.isfinite(found):
            raise LocalizeError(
                f"training: the loss of step {self.done} is {found}; lower learning_rate={self._first.learning_rate}."
            )
        self.losses.append(found)
        self.done += 1
        return found

    def show(self, step: int, rows: Int[Tensor, "row position"]) -> None:
        """Train on these rows from a step on, in the place of as many that it was made with."""
        first = step * self._first.batch
        self._rows = torch.cat([self._rows[:first], rows, self._rows[first + len(rows) :]])

    def _start_again(self) -> None:
        """Go back to the first weights."""
        with torch.no_grad():
            for name, weight in self._untrained.items():
                self._named[name].copy_(weight)
        self._optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, beside the rows, by name."""
        told = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, weight in self._named.items():
            told[f"weight.{name}"] = weight.detach()
            for key, value in self._optimizer.state.get(weight, {}).items():
                told[f"{key}.{name}"] = value
        return {name: value.contiguous() for name, value in told.items()}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` gave.

        Raises:
            LocalizeError: If it is that of another model.
        """
        with torch.no_grad():
            for name, weight in self._named.items():
                if (saved := state.get(f"weight.{name}")) is None or saved.shape != weight.shape:
                    raise LocalizeError(
                        f"training: the state to go on from has no {name} of shape {tuple(weight.shape)}."
                    )
                weight.copy_(saved)
                kept = {
                    key: state[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in state
                }
                if kept:
                    self._optimizer.state[weight] = {
                        key: value.clone().to(weight.device if key != "step" or weight.is_cuda else "cpu")
                        for key, value in kept.items()
                    }
        self.losses = state["losses"].tolist()
        self.done = len(self.losses)


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
    trainer = Trainer(model, rows, (training,))
    while trainer.done < trainer.steps:
        loss = trainer.step()
        if on_step is not None:
            on_step(trainer.done - 1, loss)
    return trainer.losses
