"""Which activations carry what a changed prefix token changes: those of one run put into the other."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Final

import torch
from jaxtyping import Float
from torch import Tensor

from localize.axes import DIRECTIONS, KINDS, OWN, PATCH_METRICS, SITES, STREAMS
from localize.errors import InputError, LocalizeError, caller, public, warn
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.pairs import pairs_from
from localize.measure.patch_effects import CHANGED, NULL, WHERE, PatchPlan, Results, patch_pair
from localize.measure.perturb_prefix import perturb_prefix
from localize.measure.scoring import recall_of
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

WITHIN_CACHE: Final = {"cpu": 1024, "cuda": 2**20}
"""Tokens of patched rows carried on together, at most; the batch size bounds them too. On a CPU what its cache holds of one layer."""


@public
def patch_hooks(
    activations: Mapping[str, Float[Tensor, "paragraph position *activation"]],
    *,
    positions: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
) -> dict[str, Hook]:
    """Hooks that put another run's activations into a forward pass: `model.forward(tokens, hooks=patch_hooks(activations))`.

    Args:
        activations: By name, as `run_with_cache` gives them for texts of the same length.
        positions: The position or positions patched, 0-based; None for all.
        heads: The head or heads patched, where an activation has them (q, k, v, z); None for all.

    Returns:
        One hook for each activation.

    Raises:
        LocalizeError: If heads are chosen of an activation that has none, or whose first axes are not row and position; and, in the
            forward pass, if its shape is another or a position or head lies outside it.
    """
    asked_by = caller()  # a hook that is called later is called by somebody else
    at = slice(None) if positions is None else [positions] if isinstance(positions, int) else list(positions)
    chosen = [heads] if isinstance(heads, int) else heads
    for name in activations:
        has_heads = name.rpartition(".")[2] in {f"hook_{site}" for site in SITES}
        if name.endswith(("hook_attn_scores", "hook_pattern")) or (chosen is not None and not has_heads):
            raise LocalizeError(
                f"{caller()}: {name!r} cannot be patched by position{'' if chosen is None else ' and head'}; "
                f"{'any activation but patterns can' if chosen is None else 'those of heads can, hook_q, hook_k, hook_v, hook_z'}."
            )

    def put(value: Tensor, name: str) -> Tensor:
        given, patched = activations[name], value.clone()
        outside = [place for place in (at if isinstance(at, list) else []) if not 0 <= place < value.shape[1]]
        outside += [head for head in chosen or [] if not 0 <= head < value.shape[2]]
        if given.shape != value.shape or outside:
            raise LocalizeError(
                f"{asked_by}: {name!r} is {tuple(value.shape)} in this run and {tuple(given.shape)} in what is put in"
                f"{f', and {outside[0]} lies outside it' if outside else ''}; rows, positions and heads must be the same."
            )
        for head in [slice(None)] if chosen is None else chosen:
            index = (slice(None), at) if chosen is None else (slice(None), at, head)
            patched[index] = given[index]
        return patched

    return dict.fromkeys(activations, put)


@reads_inputs("paragraphs")
@torch.no_grad()
def patch(
    model: HookedModel,
    paragraphs: Paragraphs,
    copies: "Paragraphs | MemorizationSignature | None" = None,
    *,
    kind: str | None = None,
    sites: Sequence[str] = SITES,
    streams: Sequence[str] = STREAMS,
    metrics: Sequence[str] = ("first_changed",),
    at: str = CHANGED,
    directions: Sequence[str] = DIRECTIONS,
    layers: int | Sequence[int] | None = None,
    null: bool = True,
    estimate: bool = True,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """How far one activation, taken from the run of a corrupted copy or put into it, moves the NLL of what the paragraph goes on with.

    The corrupted run reads the same tokens with one prefix token replaced; both are fed the clean continuation. Denoising patches
    the corrupted run with what the clean one computes, and an activation that carries the key lowers the NLL; noising does the
    reverse. `clean_nll` and `corrupted_run_nll` are what an effect is to be measured by.

    Small effects need float32: in half precision most of a head's are rounding.

    Args:
        model: A hooked model; its weights are left as they are.
        paragraphs: The paragraphs.
        copies: What `perturb_prefix` gave for these paragraphs, whose perturbed copies are taken; or paragraphs that are, row by
            row, the same with one prefix token replaced; None perturbs here, at the position where it does most.
        kind: The replacement whose copies are taken, where `copies` holds several; None for the first.
        sites: Activations patched of each head by itself: q, k, v, z.
        streams: Activations patched of a whole layer: attn_out, mlp_out, and resid, the stream that enters it.
        metrics: "first_changed" judges by the NLL of the first token that the copy goes on differently with, "continuation" by
            the mean NLL.
        at: "changed" patches at the position whose token differs, "all" at all positions together, "each" at one after the other.
        directions: "denoising", "noising".
        layers: The layer or layers patched, 0-based; None for all.
        null: Whether to patch, beside the other run's activation, one as far from the own in a random direction: what any change of
            that size does. Not for `at="each"`.
        estimate: Whether to estimate the same effects by one backward pass.
        continuation: "own" judges by what the model says greedily after the prefix, in every group alike. "true" by the paragraphs'
            true text: then the first token in which the copy differs may be one that the clean run does not say either.
        seed: Of the null's directions, which are keyed by it, the paragraph, the direction, the part and the layer; and of the
            replacements, where none are given.
        batch_size: As many whole texts' worth of patched rows are in flight at most, or one row.

    Returns:
        `head_patch_effect` and `stream_patch_effect`, with `.._null` and `.._estimate`; for `at="each"` `head_patch_map` and
        `stream_patch_map`, with `.._estimate_map`, which are 0 at positions that cannot matter. All are changes of the NLL in nats
        (per token), nan for what was not asked for, and by the first changed token where no token changes. Beside them
        `patch_position`, `patch_target`, `clean_nll`, `corrupted_run_nll` and the `unperturbed_tokens` of the clean run. Recall is
        attached.

    Raises:
        InputError: If the copies are not these paragraphs' with one prefix token replaced, do not fit the model, or a word is none of
            those allowed.
        ModelError: If there is no such layer.

    Source:
        Stoehr et al. 2024, section 6; attribution patching: Nanda 2023. The null: ours.
    """
    chosen = range(model.n_layers) if layers is None else layers if isinstance(layers, Sequence) else [layers]
    if not all(isinstance(number, Integral) for number in (*chosen, batch_size)):
        raise LocalizeError(f"{caller()}: layers={layers!r} and batch_size={batch_size!r} must be whole numbers.")
    plan = PatchPlan(
        parts=_known("sites", sites, SITES) + _known("streams", streams, STREAMS),
        metrics=_known("metrics", metrics, PATCH_METRICS),
        at=at,
        directions=_known("directions", directions, DIRECTIONS),
        layers=tuple(sorted({int(layer) for layer in chosen})),
        null=null,
        estimate=estimate,
        seed=seed,
    )
    _check(model, plan, batch_size)
    if copies is None:
        words = kind or KINDS[0]
        copies = perturb_prefix(
            model, paragraphs, kinds=words, continuation=continuation, seed=seed, batch_size=batch_size
        )
    pairs, told = pairs_from(model, paragraphs, copies, kind, continuation)
    recall = recall_of(model, paragraphs)
    results = Results.empty(model, pairs, plan)
    at_once = min(WITHIN_CACHE[model.device.type], batch_size * pairs.clean.shape[1])

    def work(rows: slice) -> None:
        nonlocal at_once
        for row in range(rows.start, rows.stop):
            measured = partial(patch_pair, model, pairs, row, paragraphs.prefix_length, paragraphs.hashes[row], plan)
            at_once = _halving(lambda tokens, measured=measured: measured(tokens, results), at_once)

    in_batches(work, len(paragraphs), 1, what="patching", unit="pair")
    arrays = {
        "unperturbed_tokens": pairs.clean,
        "patch_position": pairs.position,
        "patch_target": pairs.target,
        **results.variables(),
    }
    call = {
        "measurement": "patch",
        "copies": told,
        "sites": [part for part in plan.parts if part in SITES],
        "streams": [part for part in plan.parts if part in STREAMS],
        "at": at,
        "directions": plan.directions,
        "layers": plan.layers,
        "null": NULL in plan.measured,
        "estimate": estimate,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(
        model, paragraphs, recall, arrays, call=call, continuation=continuation, axes={"metric": plan.metrics}
    )


def _known(what: str, given: str | Sequence[str], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The words given, each once and in the order of those allowed."""
    words = [given] if isinstance(given, str) else list(given or ())
    for word in words:
        if word not in allowed:
            raise InputError(f"{caller()}: {what}: {word!r} is not one of {', '.join(allowed)}.")
    return tuple(word for word in allowed if word in words)


def _check(model: HookedModel, plan: PatchPlan, batch_size: int) -> None:
    """Raise where nothing is asked for, or something that there is not."""
    if plan.at not in WHERE:
        raise InputError(f"{caller()}: at={plan.at!r} is not one of {', '.join(WHERE)}.")
    if not (plan.parts and plan.metrics and plan.directions and plan.layers):
        raise InputError(
            f"{caller()}: nothing is asked for; at least one site or stream, metric, direction and layer is needed."
        )
    for layer in plan.layers:
        model.weight(layer, "W_O")  # raises where there is none
    if batch_size < 1:
        raise LocalizeError(f"{caller()}: batch_size={batch_size} must be at least 1.")


def _halving(work: Callable[[int], None], tokens_at_once: int) -> int:
    """Do some work with at most so many tokens at once, or half as many where memory runs out; gives what was enough."""
    while True:
        try:
            work(tokens_at_once)
        except torch.OutOfMemoryError:
            if tokens_at_once == 1:
                raise
            tokens_at_once //= 2
            torch.cuda.empty_cache()
            warn(f"patching: out of memory; going on with {tokens_at_once} tokens at once.")
            continue
        return tokens_at_once
