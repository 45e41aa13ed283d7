"""What a model still says with one attention head's output taken away."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import OWN
from localize.errors import LocalizeError, caller, public
from localize.measure.batches import in_batches
from localize.measure.before import Before
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.reference_text import reference_text
from localize.measure.scoring import score
from localize.measure.unit_means import unit_means
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

MEAN: Final = "mean"
ZERO: Final = "zero"
PUT_IN_PLACE: Final = (MEAN, ZERO)
"""What an ablated head writes instead: its mean output, or nothing."""


def output_name(layer: int) -> str:
    """The activation that holds what a layer's heads read with their patterns, before W_O."""
    return f"blocks.{layer}.attn.hook_z"


@public
def head_means(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    *,
    weights: Float[Tensor, " paragraph"] | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "layer head d_head"]:
    """Each head's mean output z (before W_O), over all positions of all rows; summed in float64.

    Args:
        model: A hooked model.
        tokens: What the model reads; the prefix counts as the continuation does.
        weights: How much each row counts; all alike if left out.
        batch_size: Rows a forward pass.

    Returns:
        In the model's dtype, on its device.

    Raises:
        LocalizeError: If there are no tokens.
        ModelError: If the tokens do not fit the context or the vocabulary.
    """
    return unit_means(model, tokens, weights=weights, batch_size=batch_size, what="head means").heads


@public
def ablation_hooks(
    model: HookedModel,
    heads: Sequence[tuple[int, int]],
    means: Float[Tensor, "layer head d_head"] | None = None,
) -> dict[str, Hook]:
    """Hooks that take several heads out of a forward pass together: `model.forward(tokens, hooks=ablation_hooks(...))`.

    Args:
        model: A hooked model.
        heads: (layer, head) of each, 0-based.
        means: What takes the place of each head's output at every position, as `head_means` gives it; None for zero.

    Returns:
        One hook for each layer concerned.

    Raises:
        ModelError: If there is no such layer or head.
    """
    together: dict[int, list[int]] = {}
    for layer, head in heads:
        model.weight(layer, "W_O", head)  # raises where there is none
        together.setdefault(layer, []).append(head)

    def replace(layer: int, z: Tensor, name: str) -> Tensor:
        z = z.clone()
        z[:, :, together[layer]] = 0.0 if means is None else means[layer, together[layer]]
        return z

    return {output_name(layer): partial(replace, layer) for layer in together}


def ablated_streams(
    model: HookedModel,
    layer: int,
    z: Float[Tensor, "paragraph position head d_head"],
    resid: Float[Tensor, "paragraph position d_model"],
    means: Float[Tensor, "head d_head"],
    heads: Sequence[int],
    at_once: int,
) -> Iterator[tuple[Sequence[int], Float[Tensor, "paragraph some position d_model"]]]:
    """The stream after a layer's attention as it would be with each of some heads ablated, one at a time.

    Attention writes the sum of what its heads write, so taking one out is a difference of two products with its part of W_O;
    nothing is recomputed.

    Args:
        model: A hooked model.
        layer: The layer, 0-based.
        z: Its heads' outputs.
        resid: The stream after its attention, `hook_resid_mid`.
        means: What takes the place of each head's output.
        heads: The heads to take out.
        at_once: How many of them are given together.

    Yields:
        Some heads, and the stream without each.
    """
    w_o = split_heads(model.weight(layer, "W_O"), "W_O", model.n_heads)
    for start in range(0, len(heads), at_once):
        some = heads[start : start + at_once]
        change = torch.einsum("pthd,hdm->phtm", means[some] - z[:, :, some], w_o[some])
        yield some, resid[:, None] + change


@torch.no_grad()
def ablated_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    prefix_length: int,
    means: Float[Tensor, "layer head d_head"],
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    at_once: int = 1,
) -> tuple[Float[Tensor, "paragraph layer head"], Float[Tensor, "paragraph layer head"]]:
    """Exact match and mean NLL of the continuation with each head of some layers ablated, one at a time.

    One forward pass of the whole model; where it reaches the middle of a chosen layer, passes without each head branch off and
    go on to the end. What lies below is computed once, and one layer's activations are held at a time.

    Args:
        model: A hooked model.
        tokens: Prefix and continuation.
        prefix_length: How many of the positions are the prefix.
        means: What takes the place of each head's output, at every position.
        layers: The layers chosen, 0-based.
        heads: The heads chosen in each of them.
        at_once: Heads ablated in one forward pass, each giving as many rows as there are paragraphs.

    Returns:
        Exact match in tokens and NLL in nats per token, nan for a head that was not chosen, and where an NLL is not finite.
    """
    targets, read = tokens[:, prefix_length:], slice(prefix_length - 1, None)
    shape, precise = (len(tokens), model.n_layers, model.n_heads), torch.promote_types(model.dtype, torch.float32)
    exact_match, nll = (torch.full(shape, torch.nan, dtype=precise, device=tokens.device) for _ in range(2))
    outputs: dict[int, Tensor] = {}

    def keep(layer: int, z: Tensor, name: str) -> None:
        outputs[layer] = z

    def branch_off(layer: int, resid: Tensor, name: str) -> None:
        for some, streams in ablated_streams(model, layer, outputs.pop(layer), resid, means[layer], heads, at_once):
            states = model.resume(streams.flatten(0, 1), at=name, read=read)
            exact, loss = score(model, states, targets.repeat_interleave(len(some), dim=0))
            finite = loss.isfinite().all(1)  # a head may be what keeps a narrow dtype from overflowing
            exact_match[:, layer, some] = torch.where(finite, exact.to(precise), torch.nan).view(-1, len(some))
            nll[:, layer, some] = torch.where(finite, loss.mean(1), torch.nan).view(-1, len(some))

    hooks: dict[str, Hook] = {}
    for layer in layers:
        hooks[output_name(layer)] = partial(keep, layer)
        hooks[f"blocks.{layer}.hook_resid_mid"] = partial(branch_off, layer)
    model.final_states(tokens[:, :-1], hooks=hooks, read=read)
    return exact_match, nll


@reads_inputs("paragraphs", "reference")
@torch.no_grad()
def ablate(
    model: HookedModel,
    paragraphs: Paragraphs,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    *,
    to: str = MEAN,
    reference: Paragraphs | None = None,
    continuation: str = OWN,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """How much of the continuation is lost when one attention head, each by turns, is taken out of the model.

    The head's output (z, before W_O) is replaced at every position, prefix and continuation alike. Zero also takes away what the
    head writes whatever the text, which later layers count on; the mean leaves that and takes away what depends on the text.

    Args:
        model: A hooked model; its weights are left as they are.
        paragraphs: The paragraphs.
        layers: The layer or layers whose heads are ablated, 0-based; None for all.
        heads: The head or heads ablated in each of these layers, 0-based; None for all.
        to: "mean" replaces a head's output by its mean over all positions of the reference text. "zero" replaces it by zero.
        reference: Paragraphs over which the mean is taken, clusters of near-duplicates alike; a number then depends on its own
            paragraph alone. None takes general text, generated and never seen by the embedded model, the same for every group
            and run; where the model has no tokenizer that can read it, the paragraphs measured, so that a number depends on its
            company. Which it was, with its hash, stands in the provenance. A mean over other text is another measurement.
        continuation: "own" compares with what the whole model says greedily after the prefix: all of it is matched before, in
            every group, so that losses compare. "true" compares with the paragraphs' true text.
        batch_size: Rows a forward pass; a paragraph gives one for every head ablated in it.

    Returns:
        `ablated_exact_match` (tokens) and `ablated_nll` (nats per token), nan for heads not chosen, and before the change
        `unperturbed_exact_match`, `unperturbed_nll`. Recall is attached.

    Raises:
        ModelError: If there is no such layer or head.
        InputError: If paragraphs or reference do not fit the model, or hold only own continuations where true ones are asked for.
        LocalizeError: If no head is chosen, or `to` or `continuation` is none of the allowed words.
    """
    layers, heads = _chosen(model, layers, heads)
    if to not in PUT_IN_PLACE:
        raise LocalizeError(f"{caller()}: to={to!r} is not one of {', '.join(PUT_IN_PLACE)}.")
    if batch_size < 1:
        raise LocalizeError(f"{caller()}: batch_size={batch_size} must be at least 1.")
    before = Before.measured(model, paragraphs, continuation)
    means = torch.zeros((model.n_layers, model.n_heads, model.d_head), dtype=model.dtype, device=model.device)
    told = ""
    if to == MEAN:
        text = reference_text(model, paragraphs, before.tokens, reference)
        means, told = head_means(model, text.tokens, weights=text.weights, batch_size=batch_size), text.name
    shape = (len(paragraphs), model.n_layers, model.n_heads)
    exact_match, nll = (np.empty(shape, before.dtype) for _ in range(2))
    at_once = max(1, batch_size // len(paragraphs))

    def work(rows: slice) -> None:
        exact, loss = ablated_recall(
            model, before.tokens[rows].to(model.device), paragraphs.prefix_length, means, layers, heads, at_once=at_once
        )
        exact_match[rows], nll[rows] = exact.cpu().numpy(), loss.cpu().numpy()

    in_batches(work, len(paragraphs), batch_size, what="ablation")
    arrays = {
        **before.arrays,
        "ablated_exact_match": exact_match,
        "ablated_nll": nll,
    }
    call = {
        "measurement": "ablate",
        "layers": layers,
        "heads": heads,
        "to": to,
        "reference": told,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, before.recall, arrays, call=call, continuation=continuation)


def _chosen(
    model: HookedModel, layers: int | Sequence[int] | None, heads: int | Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """Layers and heads asked for, each once and in order; raises where there is no such, or none."""
    layers, heads = _listed(layers, model.n_layers), _listed(heads, model.n_heads)
    if not layers or not heads:
        raise LocalizeError(f"{caller()}: layers={layers} and heads={heads} choose no head; None chooses all.")
    for layer in layers:
        for head in heads:
            model.weight(layer, "W_O", head)  # raises where there is none
    return layers, heads


def _listed(given: int | Sequence[int] | None, count: int) -> list[int]:
    """One number, some, or None for all of `count`, each once and in order."""
    numbers = range(count) if given is None else [given] if isinstance(given, int | np.integer) else given
    return sorted({int(number) for number in numbers})
