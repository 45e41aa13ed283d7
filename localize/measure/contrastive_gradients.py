"""Gradients of the paper's contrastive objective, -c NLL(forget) + KL(keep), at the model or some steps away from it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from localize.axes import COMPONENTS, MEMORIZED, NOT_MEMORIZED, TERMS
from localize.errors import LocalizeError, caller
from localize.measure.backward import Loss
from localize.measure.batches import in_batches
from localize.measure.gradient_size import Sizes
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.loss import Losses, kl_gradient
from localize.measure.scoring import recall_of
from localize.measure.set_gradients import Weights, set_gradients
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules, weight_view
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

EMPTY_KEEP_TERM = (
    "empty: at the model itself the divergence from the model is 0 and smallest, so its gradient is 0 and "
    "the objective's is that of -c NLL(forget) alone; take steps"
)


@reads_inputs("paragraphs")
def contrastive_gradients(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    forget: str = MEMORIZED,
    keep: str = NOT_MEMORIZED,
    c: float = 0.1,
    steps: int = 0,
    learning_rate: float = 1e-5,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """The gradient of -c NLL(forget) + KL(keep), and of either term, after some steps down that objective.

    NLL is the mean over the forget set's continuation tokens, KL the mean over the keep set's of the divergence of the moved model's
    next-token distribution from the model's own, both in nats per token. Without a step the second term has no gradient, which
    the result says under `keep_term`: what is drawn as a contrast is then the plain NLL gradient.

    Args:
        model: A hooked model; it stays as it is, steps are taken in a copy.
        paragraphs: Both sets among them; others are not used.
        forget: The group whose NLL is raised.
        keep: The group on which the model should say the same.
        c: Weight of the first term, above 0.
        steps: Of AdamW over all paragraphs of both sets, without decay, on the blocks' six components.
        learning_rate: Of these steps, above 0.
        batch_size: Paragraphs a backward pass.

    Returns:
        `contrastive_gradient_max`, `contrastive_gradient_norm` and the same per head, along `term`: objective, forget
        (-c NLL), keep (KL); nats per weight unit. The call tells both terms' values at each step. Recall is attached.

    Raises:
        LocalizeError: If a group has no paragraph, both are the same, or `c`, `steps` or `learning_rate` is out of range.

    Source:
        Stoehr et al. 2024, section 4; there without a step, so that the second term plays no part.
    """
    if not (0 < c < math.inf and steps >= 0 and 0 < learning_rate < math.inf):
        raise LocalizeError(
            f"{caller()}: c={c} and learning_rate={learning_rate} must be finite and above 0, steps={steps} at least 0."
        )
    recall = recall_of(model, paragraphs)
    group = groups_of(paragraphs, recall)
    if forget == keep or not {forget, keep} <= set(group.tolist()):
        raise LocalizeError(
            f"{caller()}: forget={forget!r} and keep={keep!r} must be two of the groups, "
            f"{', '.join(sorted(set(group.tolist())))}."
        )
    forget_set, keep_set = (paragraphs[np.flatnonzero(group == name)] for name in (forget, keep))
    reference = reference_states(model, keep_set, batch_size)
    moved = model.copied() if steps else model
    optimizer = torch.optim.AdamW(_component_parameters(moved), lr=learning_rate, weight_decay=0.0) if steps else None
    told: list[dict[str, float]] = []
    for step in range(steps + 1):
        terms, values = _terms(moved, forget_set, keep_set, reference, batch_size, c)
        told.append(values)
        if optimizer is not None and step < steps:
            _set_gradients(moved, terms)
            optimizer.step()
    call: dict[str, Any] = {
        "measurement": "contrastive_gradients",
        "forget": forget,
        "keep": keep,
        "c": c,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "keep_term": f"{told[-1]['kl']:.3g} nats per token" if steps else EMPTY_KEEP_TERM,
        "values": told,
    }
    return labelled(model, paragraphs, recall, _sizes(model, terms), call=call)


def _component_parameters(model: HookedModel) -> list[Tensor]:
    """The weights that hold the components, each once."""
    modules = [linear_modules(block, model.family)[name][0] for block in model.blocks for name in COMPONENTS]
    return list({id(module.weight): module.weight for module in modules}.values())


def _set_gradients(model: HookedModel, terms: dict[str, Weights]) -> None:
    """Put the objective's gradient where an optimizer reads it."""
    for parameter in _component_parameters(model):
        parameter.grad = torch.zeros_like(parameter)
    for (layer, component), forget in terms["forget"].items():
        weight_view(model, layer, component, grad=True).copy_(forget + terms["keep"][layer, component])


@torch.no_grad()
def reference_states(
    model: HookedModel, paragraphs: Paragraphs, batch_size: int
) -> Float[Tensor, "paragraph continuation_position d_model"]:
    """What the unembedding makes a model's distributions over the continuations' tokens of, on the CPU: what KL is held against."""
    states = torch.empty(len(paragraphs), paragraphs.continuation_length, model.d_model, dtype=model.dtype)

    def work(rows: slice) -> None:
        tokens = paragraphs.tokens[rows, :-1].to(model.device)
        states[rows] = model.final_states(tokens, read=slice(paragraphs.prefix_length - 1, None)).cpu()

    in_batches(work, len(paragraphs), batch_size, what="reference")
    return states


def _terms(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    reference: Float[Tensor, "paragraph continuation_position d_model"],
    batch_size: int,
    c: float,
) -> tuple[dict[str, Weights], dict[str, float]]:
    """The gradients of -c NLL(forget) and of KL(keep), and the two means in nats per token."""

    def divergence(rows: slice) -> Loss:
        def loss(hooked: HookedModel, states: Tensor, targets: Tensor, weights: Tensor) -> Losses:
            return kl_gradient(hooked, states, reference[rows].to(states.device), targets, weights)

        return loss

    of_forget = set_gradients(model, forget, np.zeros(len(forget), int), batch_size=batch_size, what="forget set")
    of_keep = set_gradients(
        model, keep, np.zeros(len(keep), int), batch_size=batch_size, what="keep set", loss=divergence
    )
    for matrix in of_forget.by_set[0].values():
        matrix.mul_(-c)
    values = {"nll": float(of_forget.loss.mean()), "kl": float(of_keep.loss.mean())}
    return {"forget": of_forget.by_set[0], "keep": of_keep.by_set[0]}, values


def _sizes(model: HookedModel, terms: dict[str, Weights]) -> dict[str, Tensor]:
    """Sizes of the objective's gradient and of either term's."""
    sizes = Sizes(model, len(TERMS))
    for (layer, component), forget in terms["forget"].items():
        keep = terms["keep"][layer, component]
        for row, matrix in enumerate((forget + keep, forget, keep)):
            sizes.fill_formed(row, layer, component, matrix)
    return {f"contrastive_{name}": values for name, values in sizes.arrays.items()}
