"""Attribution patching: what a patch would do to the NLL, to first order, of all activations from one backward pass."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.loss import nll_gradient
from localize.measure.patch_runs import Activations, Runs
from localize.models.hooks import HookedModel


def nll_gradients(
    model: HookedModel,
    runs: Runs,
    names: list[str],
    targets: Int[Tensor, "run read"],
    weights: Float[Tensor, "metric read"],
) -> list[Activations]:
    """The gradient of weighted sums of token NLLs by each run's own activations.

    Args:
        model: A hooked model.
        runs: Two runs whose activations are on the graph.
        names: The activations.
        targets: The tokens that the final states predict.
        weights: Of each token's NLL in the sum, one sum per metric.

    Returns:
        Per metric the gradient by each activation, by name, in nats per unit of it.
    """
    seen = [runs.activations[name] for name in names]
    gradients = []
    for weight in weights:
        pull = nll_gradient(model, runs.states.detach(), targets, weight.expand(targets.shape))[2]
        found = torch.autograd.grad(runs.states, seen, pull, retain_graph=True)
        gradients.append(dict(zip(names, found, strict=True)))
    return gradients


def estimated_effect(
    base: Float[Tensor, "run position *activation"],
    put: Float[Tensor, "run position *activation"],
    gradient: Float[Tensor, "run position *activation"],
) -> Float[Tensor, "run position *head"]:
    """The change of the NLL if one activation is replaced at one position, to first order in their difference.

    Args:
        base: An activation of the runs patched.
        put: The same of the runs that it is taken from.
        gradient: Of the NLL by the first.

    Returns:
        Nats, `(run, position)` or `(run, position, head)`.

    Source:
        Nanda 2023, attribution patching; Syed et al. 2023.
    """
    precise = torch.promote_types(base.dtype, torch.float32)
    return ((put.to(precise) - base.to(precise)) * gradient.to(precise)).sum(-1)
