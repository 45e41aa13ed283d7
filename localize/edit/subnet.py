"""Zeroing single weights by scores that are learned: a baseline that knows both what to forget and what to hold."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import FORGET
from localize.edit.descent import (
    ChosenWeights,
    Steps,
    check_losses,
    gradient,
    logged,
    weights_put_back,
)
from localize.edit.masks import check_fraction, choose_weights, largest_exactly
from localize.edit.objectives import nll
from localize.edit.sets import check_apart
from localize.edit.unlearn import KEEP
from localize.edit.weight_edit import WeightEdit
from localize.errors import LocalizeError, caller
from localize.measure.batches import SHOW_AFTER
from localize.measure.inputs import reads_inputs
from localize.measurements.declaration import plain_value
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@reads_inputs("forget", "keep")
def balanced_subnet(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    fraction: float = 0.01,
    *,
    steps: int = 20,
    learning_rate: float = 0.01,
    c: float = 1.0,
    batch_size: int = 16,
    per_step: int | None = None,
    seed: int = 0,
) -> WeightEdit:
    """Zero the weights without which the forget set's NLL rises most and the keep set's least, by a score learned for each.

    The weights are frozen. A weight w acts as w (1 - m), m being 1 for the share `fraction` of the blocks' weights with the highest
    scores s. The objective that is lowered is -c NLL(forget) + NLL(keep), means over paragraphs of the mean over continuation tokens,
    in nats per token. A step of m has no slope, so that m stands for s where a gradient is taken (straight-through):
    dJ/ds = -w dJ/d(w (1 - m)), also of weights that act. At the end the weights with the highest scores are zeroed.

    Args:
        model: A hooked model; it stays as it is, to the bit.
        forget: Paragraphs to forget; of their `tokens`.
        keep: Paragraphs to hold; of their `tokens`.
        fraction: Of the blocks' weights that are zeroed, in (0, 1]; rounded to whole weights, at least 1.
        steps: Of Adam, of the scores.
        learning_rate: Of each step. The first scores are drawn evenly from +-1 / sqrt(d_model).
        c: Weight of the forget term, above 0.
        batch_size: Paragraphs a backward pass.
        per_step: Paragraphs of each set that a step sees, drawn anew; None for all.
        seed: Of the first scores, and of that draw.

    Returns:
        What changed: exactly that many weights, except for those that were 0 before. `call["log"]` tells both terms' NLL and exact
        match with the weights zeroed that have the highest scores before each step, and after the last.

    Raises:
        InputError: If the sets overlap, share near-duplicates, or do not fit the model.
        LocalizeError: If an option is out of range, or a loss is not finite.

    Source:
        BalancedSubnet: Sakarvadia et al. 2024 (arXiv 2410.02159); there of the MLPs' matrices, each ranked by itself, in mixed batches
        and with SGD. Scores by straight-through: Ramanujan et al. 2020 (arXiv 1911.13299).
    """
    check_fraction(fraction)
    if not 0 < c < math.inf:
        raise LocalizeError(f"{caller()}: c={c} must be finite and above 0.")
    how = Steps(steps, learning_rate, batch_size=batch_size, per_step=per_step, seed=seed)
    how.check()
    check_apart(model, forget, keep)
    everything = choose_weights(model)
    count = max(1, round(fraction * len(everything)))
    terms, log = [nll(FORGET, forget, -c), nll(KEEP, keep, 1.0)], []
    with weights_put_back(model, everything) as chosen:
        weights = chosen.read()
        scores = first_scores(weights, model.d_model, seed).requires_grad_()
        optimizer = torch.optim.Adam([scores], lr=learning_rate)
        with tqdm(total=steps, desc=caller(), unit="step", delay=SHOW_AFTER, leave=False) as bar:
            for step in range(steps + 1):
                _drop(chosen, weights, scores, count)
                slope, told = gradient(model, chosen, terms, how, step)
                check_losses(told, how, step)
                log.append(logged(step, told))
                if step < steps:
                    scores.grad = slope.mul_(weights).neg_()
                    optimizer.step()
                    bar.update()
        after = chosen.by_cell()
    call = {
        "measurement": "balanced_subnet", "fraction": fraction, "steps": steps, "learning_rate": learning_rate, "c": c,
        "batch_size": batch_size, "per_step": per_step, "seed": seed, "masked": count, "of": len(everything),
        "forget": [digest.hex() for digest in forget.hashes], "keep": [digest.hex() for digest in keep.hashes], "log": log,
    }  # fmt: skip
    return WeightEdit.of(everything, chosen.before, after, {name: plain_value(value) for name, value in call.items()})


def first_scores(weights: Float[Tensor, " weight"], d_model: int, seed: int) -> Float[Tensor, " weight"]:
    """Scores before the first step, drawn evenly from +-1 / sqrt(d_model): the same on every device."""
    drawn = torch.rand(len(weights), generator=torch.Generator().manual_seed(seed))
    return ((2 * drawn - 1) / d_model**0.5).to(weights)


@torch.no_grad()
def _drop(
    chosen: ChosenWeights, weights: Float[Tensor, " weight"], scores: Float[Tensor, " weight"], count: int
) -> None:
    """Leave the model with all of the weights but those with the highest scores."""
    chosen.write(weights.index_fill(0, largest_exactly(scores, count), 0.0))
