"""From final states to the losses of the tokens they predict, and those losses' gradients by the states.

Logits are formed, used and overwritten a few rows at a time: whole, with their gradient, they would be by far the largest arrays.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.scoring import logit_pieces
from localize.models.hooks import HookedModel

Losses = tuple[
    Int[Tensor, " paragraph"], Float[Tensor, "paragraph position"], Float[Tensor, "paragraph position d_model"]
]
"""Exact match in tokens, each token's loss in nats, and the weighted sum's gradient in nats per unit of state."""


PieceLoss = Callable[[slice, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a piece of rows, their logits (its own, in at least float32) and targets to each loss and its gradient by the logits."""


@torch.no_grad()
def nll_gradient(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    targets: Int[Tensor, "paragraph position"],
    weights: Float[Tensor, "paragraph position"],
) -> Losses:
    """Exact match, token NLL and the gradient of the weighted sum of token NLLs by the final states, as `score` goes about it.

    Args:
        model: A hooked model.
        states: What the unembedding makes logits of.
        targets: The tokens that these predict.
        weights: Of each token's NLL in the sum.

    Returns:
        Exact match in tokens, NLL in nats, gradient in nats per unit of state.
    """

    return _by_pieces(model, states, targets, weights, lambda _, logits, target: _nll_of(logits, target))


@torch.no_grad()
def drawn_gradient(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    uniform: Float[Tensor, "paragraph position"],
    targets: Int[Tensor, "paragraph position"],
    weights: Float[Tensor, "paragraph position"],
) -> Losses:
    """NLL of tokens that are drawn from what the model says at each position, and its gradient, as `nll_gradient` goes about it.

    Args:
        model: A hooked model.
        states: What the unembedding makes logits of.
        uniform: A random number in [0, 1) for each token: that is drawn at which the cumulative probability passes it.
        targets: The tokens that come next: what exact match is counted on.
        weights: Of each drawn token's NLL in the sum.

    Returns:
        Exact match, the drawn tokens' NLL and the gradient.
    """
    at = uniform.flatten()[:, None]

    def nll(piece: slice, logits: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
        drawn = torch.searchsorted(cumulative, at[piece] * cumulative[:, -1:], right=True)
        return _nll_of(logits, drawn.clamp(max=logits.shape[1] - 1))

    return _by_pieces(model, states, targets, weights, nll)


@torch.no_grad()
def kl_gradient(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    reference: Float[Tensor, "paragraph position d_model"],
    targets: Int[Tensor, "paragraph position"],
    weights: Float[Tensor, "paragraph position"],
) -> Losses:
    """The divergence KL(reference || model) of each next-token distribution, and its gradient, as `nll_gradient` goes about it.

    Args:
        model: A hooked model.
        states: What the unembedding makes logits of.
        reference: The same of the reference, which has the same unembedding.
        targets: The tokens that come next: what exact match is counted on.
        weights: Of each token's divergence in the sum.

    Returns:
        Exact match, divergence and gradient.
    """
    other = reference.flatten(0, 1)

    def divergence(piece: slice, logits: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        before = model.hf.lm_head(other[piece]).to(logits.dtype)
        logs, logs_before = (side.log_softmax(-1) for side in (logits, before))
        likely = logs_before.exp()
        return (likely * (logs_before - logs)).sum(-1), logs.exp() - likely

    return _by_pieces(model, states, targets, weights, divergence)


def _nll_of(logits: Float[Tensor, "row vocab"], target: Int[Tensor, "row 1"]) -> tuple[Tensor, Tensor]:
    """NLL of each row's target, and its gradient by the logits, which takes their place."""
    normalizer = logits.logsumexp(-1, keepdim=True)
    of_token = normalizer - logits.gather(-1, target)
    by_logits = logits.sub_(normalizer).exp_()  # probabilities; in place, because nothing else here is as large
    return of_token[:, 0], by_logits.scatter_add_(-1, target, by_logits.new_full(target.shape, -1.0))


def _by_pieces(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    targets: Int[Tensor, "paragraph position"],
    weights: Float[Tensor, "paragraph position"],
    loss: PieceLoss,
) -> Losses:
    """Exact match, each token's loss, and the weighted sum's gradient by the states."""
    rows, wanted, weight = states.flatten(0, 1), targets.flatten(), weights.flatten()
    right, losses, pull = [], [], torch.empty_like(rows)
    for piece in logit_pieces(model, len(rows)):
        logits = model.hf.lm_head(rows[piece])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        right.append(logits.max(-1).indices == wanted[piece])
        of_token, by_logits = loss(piece, logits, wanted[piece, None])
        losses.append(of_token)
        by_states = by_logits.to(states.dtype) @ model.hf.lm_head.weight
        torch.mul(by_states, weight[piece, None], out=pull[piece])
    exact_match = torch.cat(right).view(targets.shape).cumprod(-1).sum(-1)
    return exact_match, torch.cat(losses).view(targets.shape), pull.view(states.shape)
