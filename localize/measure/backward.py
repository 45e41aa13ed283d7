"""One batched backward pass with frozen parameters: what each linear map received and what was asked of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from localize.errors import LocalizeError, caller
from localize.measure.loss import Losses, nll_gradient
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules

OnLinear = Callable[
    [int, str, Float[Tensor, "paragraph position input"], Float[Tensor, "paragraph position output"]], None
]
"""Called with layer, component, a linear map's inputs x and the loss's gradients d by its outputs.

A row's weight gradient is the sum over positions of x_t d_t^T, an `(input, output)` matrix.
"""


Loss = Callable[[HookedModel, Tensor, Tensor, Tensor], Losses]
"""From model, final states, targets and weights to exact match, each token's loss and the weighted sum's gradient by the states."""


class Passed(NamedTuple):
    """What a backward pass saw of the tokens from the first one scored to the last.

    Attributes:
        exact_match: Tokens right before the first error, of those.
        token_loss: NLL of each token, or what else was differentiated, in nats.
        loss: Mean over each row's scored tokens, nats per token.
    """

    exact_match: Int[Tensor, " paragraph"]
    token_loss: Float[Tensor, "paragraph scored_position"]
    loss: Float[Tensor, " paragraph"]


def continuation_mask(
    tokens: Int[Tensor, "paragraph position"], prefix_length: int, lengths: Int[Tensor, " paragraph"] | None = None
) -> Bool[Tensor, "paragraph position"]:
    """Which tokens are a continuation's: those from `prefix_length` on, up to each row's length where rows are padded."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    inside = position >= prefix_length
    if lengths is None:
        return inside.expand(tokens.shape)
    return inside & (position < lengths.to(tokens.device)[:, None])


def backward_pass(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    scored: Bool[Tensor, "paragraph position"],
    *,
    on_linear: OnLinear | None = None,
    on_scored: Callable[[Passed], None] | None = None,
    hooks: Mapping[str, Hook] | None = None,
    loss: Loss = nll_gradient,
) -> Passed:
    """The gradient of each row's mean NLL over its scored tokens, for all rows at once; no row's loss depends on another's.

    Args:
        model: A hooked model; its parameters get no gradient.
        tokens: Rows, padded on the right with any token where they are shorter.
        scored: The tokens whose NLL counts, at least one a row, the first token of a row excluded: nothing predicts it.
        on_linear: Is handed x and d of every component, the last layer's first, and keeps what it needs.
        on_scored: Is told exact match and NLL before the backward pass begins.
        hooks: Of the forward pass, by name; an activation met there is on the graph.
        loss: What is differentiated, where it is not the NLL: called as `nll_gradient` is.

    Returns:
        Exact match and NLL, from the same pass.

    Raises:
        LocalizeError: If a row has no scored token, its first token is one, or no gradient can be computed.
    """
    model.check_differentiable()
    if not bool(scored.any(1).all()) or bool(scored[:, 0].any()):
        row = int(torch.where(scored[:, 0] | ~scored.any(1))[0][0])
        raise LocalizeError(
            f"{caller()}: row {row} has {'its first token' if bool(scored[row, 0]) else 'no token'} scored; "
            f"at least one of the tokens 1..{tokens.shape[1] - 1} is needed, and nothing predicts the first."
        )
    asked = scored.any(0).nonzero()[:, 0]
    first, last = int(asked[0]), int(asked[-1])
    weights = scored[:, first : last + 1].to(torch.promote_types(model.dtype, torch.float32))
    weights = weights / weights.sum(1, keepdim=True)
    given = dict(hooks or {})

    def start(value: Tensor, name: str) -> Tensor | None:
        value.requires_grad_()
        return given[name](value, name) if name in given else None

    with model.frozen(), torch.enable_grad(), _watching(model, on_linear):
        states = model.final_states(tokens[:, :last], hooks={**given, "hook_embed": start}, read=slice(first - 1, None))
        exact, of_token, pull = loss(model, states.detach(), tokens[:, first : last + 1], weights)
        passed = Passed(exact, of_token, (weights * of_token).sum(1))
        if on_scored is not None:
            on_scored(passed)
        states.backward(pull)
    return passed


@contextmanager
def _watching(model: HookedModel, on_linear: OnLinear | None) -> Iterator[None]:
    """Inside, a backward pass hands over x and d of every component."""

    if on_linear is None:
        yield
        return

    def watch(layer: int, module: nn.Module, parts: dict[str, int]) -> Callable[[], None]:
        def on_forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()

            def on_backward(d: Tensor) -> None:
                width = d.shape[-1] // len(parts)
                for component, part in parts.items():
                    on_linear(layer, component, x, d[..., part * width : (part + 1) * width])

            output.register_hook(on_backward)

        return module.register_forward_hook(on_forward).remove

    removals = []
    try:
        for layer, block in enumerate(model.blocks):
            by_module: dict[nn.Module, dict[str, int]] = {}
            for component, (module, part) in linear_modules(block, model.family).items():
                by_module.setdefault(module, {})[component] = part
            removals += [watch(layer, module, parts) for module, parts in by_module.items()]
        yield
    finally:
        for remove in removals:
            remove()
