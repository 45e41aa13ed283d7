"""Gradients of the mean NLL of sets of paragraphs: one matrix per set and component, in which paragraphs can cancel."""

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from localize.measure.backward import Loss, backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.loss import nll_gradient
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

Weights = dict[tuple[int, str], Float[Tensor, "input output"]]
"""A matrix for each (layer, component)."""


class SetSums:
    """Sums of the gradients of some sets' paragraphs, on the model's device: one copy of the blocks' weights per set.

    What a batch adds counts once `commit` is called, so that a batch that runs out of memory half-way adds nothing; on a CPU,
    where none is tried again, it is added at once.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[Hashable, int, str], Tensor] = {}
        self._batch: dict[tuple[Hashable, int, str], Tensor] = {}

    def add(
        self,
        members: Mapping[Hashable, Bool[Tensor, " paragraph"]],
        layer: int,
        component: str,
        x: Float[Tensor, "paragraph position input"],
        d: Float[Tensor, "paragraph position output"],
    ) -> None:
        """Add the gradients of each set's rows."""
        precise = torch.promote_types(x.dtype, torch.float32)
        room = self._sums if x.device.type == "cpu" else self._batch
        for name, chosen in members.items():
            if not bool(chosen.any()):
                continue
            rows = slice(None) if bool(chosen.all()) else chosen
            left, right = (side[rows].flatten(0, 1).to(precise) for side in (x, d))
            key = (name, layer, component)
            if key in room:
                room[key].addmm_(left.T, right)
            else:
                room[key] = left.T @ right

    def commit(self) -> None:
        """Count what the last batch added."""
        for key, part in self._batch.items():
            self._sums[key] = self._sums[key].add_(part) if key in self._sums else part
        self._batch = {}

    def discard(self) -> None:
        """Forget what an unfinished batch added."""
        self._batch = {}

    def sums(self, name: Hashable) -> Weights:
        """One set's sums; nothing is copied."""
        return {(layer, component): sum_ for (set_, layer, component), sum_ in self._sums.items() if set_ == name}


class SetGradients(NamedTuple):
    """What a backward pass over all paragraphs gives for sets of them.

    Attributes:
        by_set: For each set the gradient of the mean over its paragraphs of their mean loss, in nats per weight unit, on the
            model's device.
        loss: Each paragraph's mean loss, nats per token.
        exact_match: Each paragraph's, tokens.
    """

    by_set: dict[Hashable, Weights]
    loss: Float[np.ndarray, " paragraph"]
    exact_match: Int[np.ndarray, " paragraph"]


def set_gradients(
    model: HookedModel,
    paragraphs: Paragraphs,
    labels: Shaped[np.ndarray, " paragraph"],
    *,
    batch_size: int = 16,
    what: str = "set gradients",
    show: bool = True,
    loss: Callable[[slice], Loss] = lambda _: nll_gradient,
    cells: Container[tuple[int, str]] | None = None,
) -> SetGradients:
    """The gradient of each set's mean loss: one copy of the blocks' weights per set.

    Args:
        model: A hooked model; its weights and their `.grad` stay as they are.
        paragraphs: Of their continuations, true or own.
        labels: The set of each paragraph.
        batch_size: Paragraphs a backward pass.
        what: Words for the progress bar.
        show: Whether there is one.
        loss: What is differentiated for some of the paragraphs; the NLL if left out.
        cells: The matrices (layer, component) wanted; all if left out.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.
    """
    paragraphs.check_fits(model)
    names = list(dict.fromkeys(labels.tolist()))
    sums, losses, exact_match = SetSums(), np.zeros(len(paragraphs)), np.zeros(len(paragraphs), np.int64)

    def work(rows: slice) -> None:
        sums.discard()
        members = {name: torch.from_numpy(labels[rows] == name).to(model.device) for name in names}
        tokens = paragraphs.tokens[rows].to(model.device)
        scored = continuation_mask(tokens, paragraphs.prefix_length)

        def add(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            if cells is None or (layer, component) in cells:
                sums.add(members, layer, component, x, d)

        passed = backward_pass(model, tokens, scored, on_linear=add, loss=loss(rows))
        losses[rows] = passed.loss.double().cpu().numpy()
        exact_match[rows] = passed.exact_match.cpu().numpy()
        sums.commit()

    in_batches(work, len(paragraphs), batch_size, what=what, show=show)
    by_set = {name: sums.sums(name) for name in names}
    for name, weights in by_set.items():
        for matrix in weights.values():
            matrix.div_(int((labels == name).sum()))
    return SetGradients(by_set, losses, exact_match)


def cancellation(
    norms: Float[Tensor, "paragraph layer component"], members: Sequence[int], of_mean: Float[Tensor, "layer component"]
) -> tuple[Float[Tensor, "layer component"], Float[Tensor, "layer component"]]:
    """How much of a set's gradients cancels in their mean, and how much would if they were at right angles.

    Args:
        norms: L2 norm of each paragraph's gradient.
        members: The set's paragraphs.
        of_mean: Norm of the mean gradient.

    Returns:
        1 - |mean gradient| / mean |gradient|: 0 if all point the same way, 1 if nothing is left; and 1 - sqrt(sum |g|^2) / sum |g|,
        for n gradients of one length 1 - 1 / sqrt(n). nan where all gradients are 0.
    """
    of_set = norms[list(members)].double()
    total = of_set.sum(0)
    left = len(of_set) * of_mean.double() / total
    unrelated = of_set.square().sum(0).sqrt() / total
    return (1 - left).clamp(min=0).to(norms.dtype), (1 - unrelated).to(norms.dtype)
