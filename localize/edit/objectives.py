"""What an edit goes down: terms over sets of paragraphs, each a mean over their continuation tokens, in nats per token."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import softplus

from localize.measure.backward import Loss
from localize.measure.contrastive_gradients import reference_states
from localize.measure.loss import Losses, kl_gradient, nll_gradient
from localize.measure.scoring import finite_recall
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

Rows = Int[np.ndarray, " row"]


class Term(NamedTuple):
    """One part of an objective: `weight` times the mean over the paragraphs of their mean loss per token.

    Attributes:
        name: What its paragraphs are to the edit: "forget", "keep", ....
        paragraphs: Their prefixes and continuations, as they are in `tokens`.
        weight: Negative for a loss that is to rise.
        loss: Of chosen rows of the paragraphs.
    """

    name: str
    paragraphs: Paragraphs
    weight: float
    loss: Callable[[Rows], Loss]


def nll(name: str, paragraphs: Paragraphs, weight: float) -> Term:
    """The NLL of the paragraphs."""
    return Term(name, paragraphs, weight, lambda _: nll_gradient)


def divergence(model: HookedModel, name: str, paragraphs: Paragraphs, weight: float, batch_size: int) -> Term:
    """The divergence KL(model as it is now || model) of each next-token distribution."""
    reference = reference_states(model, paragraphs, batch_size)

    def of_rows(rows: Rows) -> Loss:
        def loss(hooked: HookedModel, states: Tensor, targets: Tensor, weights: Tensor) -> Losses:
            return kl_gradient(hooked, states, reference[torch.from_numpy(rows)].to(states.device), targets, weights)

        return loss

    return Term(name, paragraphs, weight, of_rows)


def negative_preference(
    model: HookedModel, name: str, paragraphs: Paragraphs, weight: float, beta: float, batch_size: int
) -> Term:
    """Negative preference optimization, per token: 2 / (beta T) log(1 + (p / p_0)^beta), p of all T tokens of a continuation.

    p_0 is of the model as it is now. There the gradient is that of -NLL; it fades as the continuation becomes unlikely, so that the
    term has a floor, 0, which -NLL has not.

    Source:
        Zhang et al. 2024, Negative Preference Optimization (arXiv 2404.05868), equation 3; divided here by T.
    """
    before = finite_recall(model, paragraphs, paragraphs.tokens, batch_size=batch_size).token_nll.sum(1)

    def of_rows(rows: Rows) -> Loss:
        def loss(hooked: HookedModel, states: Tensor, targets: Tensor, weights: Tensor) -> Losses:
            exact_match, of_token, pull = nll_gradient(hooked, states, targets, weights)
            log_ratio = torch.from_numpy(before[rows]).to(of_token) - of_token.sum(1)
            value = 2 / (beta * of_token.shape[1]) * softplus(beta * log_ratio)
            slope = -2 * torch.sigmoid(beta * log_ratio)
            return exact_match, value[:, None].expand_as(of_token), pull * slope[:, None, None].to(pull.dtype)

        return loss

    return Term(name, paragraphs, weight, of_rows)
