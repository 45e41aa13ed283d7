"""Which activations the NLL of chosen tokens hangs on: per layer, head and position."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from localize.axes import SITES
from localize.errors import InputError, caller
from localize.measure.backward import Passed, backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import check_finite, recall_in_passing, recall_of
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
def activation_gradients(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    at: int | Sequence[int] | Int[np.ndarray, " paragraph"] | Bool[np.ndarray, "paragraph position"] | None = None,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """How strongly the chosen tokens' mean NLL depends on each head's q, k, v and z and on the residual stream, per position.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; tokens are chosen from the continuation they hold or from the prefix.
        at: Whose NLL: None for all of the continuation; a position of the paragraph, one for all or one each (such as the first
            token that a perturbation changed); or a mask. Nothing predicts position 0.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.

    Returns:
        `activation_gradient`, the L2 norm over a head's dimensions of the gradient by q, k, v (before scores are taken) and z (before
        W_O), and `residual_gradient`, that by the stream that enters each layer; nats per activation unit, at least 0, exactly 0
        at positions that cannot matter: the last token asked for and what follows it. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, or a chosen position is not one of theirs.

    Source:
        Stoehr et al. 2024, section 4: q, k, v of one token's NLL. z and the residual stream: ours.
    """
    if at is None:
        scored = continuation_mask(paragraphs.tokens, paragraphs.prefix_length)
        recall, filling = recall_in_passing(model, paragraphs)
    else:
        scored = chosen_tokens(paragraphs, at)
        recall, filling = recall_of(model, paragraphs), False
    count, length = paragraphs.tokens.shape
    precise = torch.promote_types(model.dtype, torch.float32)
    by_head = torch.zeros(count, model.n_layers, len(SITES), model.n_heads, length, dtype=precise)
    by_stream = torch.zeros(count, model.n_layers, length, dtype=precise)

    def work(rows: slice) -> None:
        def keep(into: Tensor) -> Hook:
            def on_activation(value: Tensor, _: str) -> None:
                def on_gradient(gradient: Tensor) -> None:
                    # (row, position), or (row, position, head)
                    norms = torch.linalg.vector_norm(gradient, dim=-1, dtype=precise).cpu()
                    into[..., : norms.shape[1]] = norms.movedim(1, -1)

                value.register_hook(on_gradient)

            return on_activation

        hooks = {
            f"blocks.{layer}.attn.hook_{site}": keep(by_head[rows, layer, s])
            for layer in range(model.n_layers)
            for s, site in enumerate(SITES)
        } | {f"blocks.{layer}.hook_resid_pre": keep(by_stream[rows, layer]) for layer in range(model.n_layers)}

        def on_scored(passed: Passed) -> None:
            if filling:
                recall.fill(rows, passed.exact_match, passed.token_loss)

        tokens = paragraphs.tokens[rows].to(model.device)
        backward_pass(model, tokens, scored[rows].to(model.device), on_scored=on_scored, hooks=hooks)

    in_batches(work, count, batch_size, what="activation gradients")
    check_finite(model, paragraphs, recall)
    call = {"measurement": "activation_gradients", "at": _told(scored, at), "batch_size": batch_size}
    arrays = {"activation_gradient": by_head, "residual_gradient": by_stream}
    return labelled(model, paragraphs, recall, arrays, call=call)


def chosen_tokens(
    paragraphs: Paragraphs,
    at: int | Sequence[int] | Int[np.ndarray, " paragraph"] | Bool[np.ndarray, "paragraph position"],
) -> Bool[Tensor, "paragraph position"]:
    """Positions as a mask.

    Raises:
        InputError: If one is outside 1 .. last, there is not one per paragraph, or a paragraph has none.
    """
    count, length = paragraphs.tokens.shape
    given = np.asarray(at)
    if given.dtype == bool:
        if given.shape != (count, length) or not given.any(1).all() or given[:, 0].any():
            raise InputError(
                f"{caller()}: a mask of shape {given.shape} for {count} paragraphs of {length} tokens; it must have "
                f"their shape and choose at least one of the tokens 1..{length - 1} of each, never token 0."
            )
        return torch.from_numpy(given)
    if given.dtype.kind not in "iu" or given.shape not in ((), (count,)):
        raise InputError(
            f"{caller()}: at has shape {given.shape} and dtype {given.dtype}; "
            f"a position, or one whole number for each of the {count} paragraphs, is needed."
        )
    if given.min() < 1 or given.max() >= length:
        worst = given.min() if given.min() < 1 else given.max()
        raise InputError(f"{caller()}: at={int(worst)} must lie in 1..{length - 1}; nothing predicts token 0.")
    return torch.from_numpy(np.broadcast_to(given, (count,))[:, None] == np.arange(length))


def _told(scored: Tensor, at: object) -> str:
    """The chosen tokens in a few words, for the provenance."""
    if at is None:
        return "the continuation"
    positions = scored.nonzero()[:, 1].tolist()
    return f"{scored.sum(1).max()} token(s) a paragraph, positions {min(positions)} to {max(positions)}"
