"""From final states to the losses of the tokens they predict, and those losses' gradients by the states.

Logits are formed, used and overwritten a few rows at a time: whole, with their gradient, they would be by far the largest arrays.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.recall import logit_pieces
from localize.models.hooks import HookedModel

Losses = tuple[
    Int[Tensor, " paragraph"], Float[Tensor, "paragraph position"], Float[Tensor, "paragraph position d_model"]
]
"""Exact match in tokens, each token's loss in nats, and the weighted sum's gradient in nats per unit of state."""


@torch.no_grad()
def nll_gradient(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    targets: Int[Tensor, "paragraph position"],
    weights: Float[Tensor, "paragraph position"],
) -> tuple[Int[Tensor, " paragraph"], Float[Tensor, "paragraph position"], Float[Tensor, "paragraph position d_model"]]:
    """Exact match, token NLL and the gradient of the weighted sum of token NLLs by the final states, as `score` goes about it.

    Args:
        model: A hooked model.
        states: What the unembedding makes logits of.
        targets: The tokens that these predict.
        weights: Of each token's NLL in the sum.

    Returns:
        Exact match in tokens, NLL in nats, gradient in nats per unit of state.
    """
    rows, wanted, weight = states.flatten(0, 1), targets.flatten(), weights.flatten()
    right, nll, pull = [], [], torch.empty_like(rows)
    for piece in logit_pieces(model, len(rows)):
        logits, target = model.hf.lm_head(rows[piece]), wanted[piece, None]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        right.append(logits.max(-1).indices == target[:, 0])
        normalizer = logits.logsumexp(-1, keepdim=True)
        nll.append((normalizer - logits.gather(-1, target))[:, 0])
        by_logits = logits.sub_(normalizer).exp_()  # probabilities; in place, because nothing else here is as large
        by_logits.scatter_add_(-1, target, by_logits.new_full(target.shape, -1.0))
        by_states = by_logits.to(states.dtype) @ model.hf.lm_head.weight
        torch.mul(by_states, weight[piece, None], out=pull[piece])
    matched = torch.cat(right).view(targets.shape).cumprod(-1).sum(-1)
    return matched, torch.cat(nll).view(targets.shape), pull.view(states.shape)


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
    rows, other, wanted, weight = states.flatten(0, 1), reference.flatten(0, 1), targets.flatten(), weights.flatten()
    right, divergence, pull = [], [], torch.empty_like(rows)
    for piece in logit_pieces(model, len(rows)):
        logits, before = (model.hf.lm_head(side[piece]) for side in (rows, other))
        precise = torch.promote_types(logits.dtype, torch.float32)
        right.append(logits.max(-1).indices == wanted[piece])
        logs, logs_before = (side.to(precise).log_softmax(-1) for side in (logits, before))
        likely = logs_before.exp()
        divergence.append((likely * (logs_before - logs)).sum(-1))
        by_states = (logs.exp() - likely).to(states.dtype) @ model.hf.lm_head.weight
        torch.mul(by_states, weight[piece, None], out=pull[piece])
    matched = torch.cat(right).view(targets.shape).cumprod(-1).sum(-1)
    return matched, torch.cat(divergence).view(targets.shape), pull.view(states.shape)
