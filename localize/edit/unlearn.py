"""Making a model forget chosen paragraphs, or say something else in their place, by steps on chosen weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from localize.axes import FORGET
from localize.edit.descent import Steps, Value, edited
from localize.edit.masks import WeightMask, choose_weights
from localize.edit.objectives import Term, divergence, negative_preference, nll
from localize.edit.sets import begun, check_apart, rewritten_to
from localize.edit.weight_edit import WeightEdit
from localize.errors import LocalizeError, caller
from localize.measure.inputs import reads_inputs
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

KEEP = "keep"
METHODS = {"contrastive": 0.1, "npo": 1.0, "gradient_difference": 1.0}
"""Ways to unlearn, each with the weight of its forget term where none is asked for: that of its source."""


@reads_inputs("forget", "keep")
def unlearn(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    mask: WeightMask | None = None,
    *,
    method: str = "contrastive",
    c: float | None = None,
    beta: float = 0.1,
    first: int | None = None,
    steps: int = 20,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    stop_at: float | None = None,
    batch_size: int = 16,
    per_step: int | None = None,
    seed: int = 0,
) -> WeightEdit:
    """Raise the NLL of the forget set's continuations, and hold the keep set's, by a few steps on chosen weights.

    The objective that is lowered is c F + K. Both are means over paragraphs of the mean over continuation tokens, in nats per token:

    ==================== ========================================== ==============================================
    method               F, of the forget set                       K, of the keep set
    ==================== ========================================== ==============================================
    contrastive          -NLL                                       KL(model as it was || model), per token
    npo                  NPO with beta: -NLL that fades, see source KL(model as it was || model), per token
    gradient_difference  -NLL                                       NLL
    ==================== ========================================== ==============================================

    Args:
        model: A hooked model. It stays as it is, to the bit: `edit.applied(model)` or `edit.apply(model)` changes it.
        forget: Paragraphs to forget; of their `tokens`, so true continuations unless they were given own ones.
        keep: Paragraphs whose continuations the model should go on saying; own ones hold what it says itself.
        mask: The only weights that may change; None for all of the blocks' components. See `top_weights`, `choose_weights`.
        method: "contrastive", "npo" or "gradient_difference".
        c: Weight of the forget term, above 0; None for that of the method's source, see below.
        beta: How soon the forget term of "npo" fades, per nat of the whole continuation; above 0.
        first: The forget term is of the first so many continuation tokens alone, and so is the exact match of `stop_at` and the log;
            None for all of them. A few are enough to stop a recital where it begins; see `evaluate_edit` for what stays behind them.
        steps: Of AdamW, at most; they see both sets whole, unless `per_step` is given.
        learning_rate: Of each step.
        weight_decay: Decoupled, and of the mask's weights alone.
        stop_at: Stop as soon as the forget set's mean exact match (tokens) is at most this; None takes all steps. Every step must see
            the whole set.
        batch_size: Paragraphs a backward pass.
        per_step: Paragraphs of each set that a step sees, drawn anew; None for all.
        seed: Of that draw.

    Returns:
        What changed. `call["log"]` tells both terms' values and exact match before each step and after the last, of the paragraphs
        that the step saw.

    Raises:
        InputError: If the sets overlap, share near-duplicates, or do not fit the model.
        LocalizeError: If an option is out of range, the mask is empty or of another model, a loss is not finite (the step is told),
            or nothing changed.

    Source:
        "contrastive" (c = 0.1): Stoehr et al. 2024. "gradient_difference" (c = 1): Liu et al. 2022. "npo" (c = 1): Zhang et
        al. 2024.
    """
    if method not in METHODS:
        raise LocalizeError(f"{caller()}: method={method!r} is not one of {', '.join(METHODS)}.")
    c = METHODS[method] if c is None else c
    _check_positive(c=c, beta=beta)
    how = Steps(steps, learning_rate, weight_decay, batch_size, per_step, seed)
    how.check()
    _check_stop(stop_at, per_step, len(forget))
    check_apart(model, forget, keep)
    if first is not None and (not isinstance(first, int) or not 1 <= first <= forget.continuation_length):
        raise LocalizeError(
            f"{caller()}: first={first} must be a whole number in 1..{forget.continuation_length}, the continuation's tokens."
        )
    said = forget if first is None else begun(forget, first)
    npo, plain = method == "npo", method == "gradient_difference"
    forgotten = negative_preference(model, FORGET, said, c, beta, batch_size) if npo else nll(FORGET, said, -c)
    kept = nll(KEEP, keep, 1.0) if plain else divergence(model, KEEP, keep, 1.0, batch_size)
    options: dict[str, Any] = {"measurement": "unlearn", "method": method, "c": c, "first": first}
    if npo:
        options["beta"] = beta
    enough = None if stop_at is None else Enough(stop_at, lambda value: value.exact_match <= stop_at, "at most")
    return _go(model, mask, [forgotten, kept], how, options, enough, forget)


@reads_inputs("keep")
def rewrite(
    model: HookedModel,
    pairs: "tuple[Paragraphs, Paragraphs | MemorizationSignature]",
    keep: Paragraphs,
    mask: WeightMask | None = None,
    *,
    c: float = 1.0,
    steps: int = 20,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    stop_at: float | None = None,
    batch_size: int = 16,
    per_step: int | None = None,
    seed: int = 0,
    kind: str | None = None,
) -> WeightEdit:
    """Teach another continuation after the prefixes of chosen paragraphs, and hold the keep set's, by a few steps on chosen weights.

    The objective that is lowered is c NLL(new) + KL(keep): means over paragraphs of the mean over continuation tokens, in nats per
    token. A new token is taught after the prefix and the new tokens before it, never in the context of the old text.

    Args:
        model: A hooked model; it stays as it is.
        pairs: Paragraphs, and the copies whose continuations are taught after *their* prefixes: row by row other `Paragraphs` of the
            same lengths, or the signature that `perturb_prefix` gave for them (its perturbed copies).
        keep: Paragraphs whose continuations the model should go on saying.
        mask: The only weights that may change; None for all.
        c: Weight of the new text's NLL, above 0.
        steps: As in `unlearn`, like the options that follow.
        learning_rate: Of each step.
        weight_decay: Decoupled, and of the mask's weights alone.
        stop_at: Stop as soon as the new text's mean exact match (tokens) is at least this; None takes all steps.
        batch_size: Paragraphs a backward pass.
        per_step: Paragraphs of each set that a step sees; None for all.
        seed: Of that draw.
        kind: Which copies of a signature, where it holds several kinds.

    Returns:
        What changed.

    Raises:
        InputError: If a copy's continuation is the paragraph's own, the pairs do not match, or as `unlearn` raises it.
        LocalizeError: As in `unlearn`.

    Source:
        Stoehr et al. 2024; there the pairs are shuffled, and new tokens follow the old text.
    """
    _check_positive(c=c)
    how = Steps(steps, learning_rate, weight_decay, batch_size, per_step, seed)
    how.check()
    forget, copies = pairs
    _check_stop(stop_at, per_step, len(forget))
    new = rewritten_to(model, forget, copies, kind)
    check_apart(model, forget, keep)
    terms = [nll("new", new, c), divergence(model, KEEP, keep, 1.0, batch_size)]
    enough = None if stop_at is None else Enough(stop_at, lambda value: value.exact_match >= stop_at, "at least")
    taught = {digest.hex(): row for digest, row in zip(forget.hashes, new.continuations.tolist(), strict=True)}
    return _go(model, mask, terms, how, {"measurement": "rewrite", "c": c, "new": taught}, enough, forget)


class Enough(NamedTuple):
    """When to stop.

    Attributes:
        stop_at: Exact match of the first term's paragraphs, tokens.
        reached: Whether a value is that far.
        words: "at most" or "at least".
    """

    stop_at: float
    reached: Callable[[Value], bool]
    words: str


def _go(
    model: HookedModel,
    mask: WeightMask | None,
    terms: Sequence[Term],
    how: Steps,
    options: Mapping[str, Any],
    enough: Enough | None,
    forget: Paragraphs,
) -> WeightEdit:
    """Take the steps; the call tells the options and which paragraphs were forgotten and kept."""
    first, keep = terms
    mask = choose_weights(model) if mask is None else mask
    call = {
        **options,
        **how._asdict(),
        "stop_at": None if enough is None else enough.stop_at,
        "masked": len(mask),
        "of": mask.total,
        "forget": [digest.hex() for digest in forget.hashes],
        "keep": [digest.hex() for digest in keep.paragraphs.hashes],
    }

    def stop(step: int, values: Mapping[str, Value]) -> bool:
        if enough is None or not enough.reached(value := values[first.name]):
            return False
        if step == 0:
            raise LocalizeError(
                f"{caller()}: the exact match of the {first.name} set is {value.exact_match:g} before the first step, "
                f"{enough.words} stop_at={enough.stop_at:g}; there is nothing to do."
            )
        return True

    return edited(model, mask, terms, how, call=call, stop=stop)


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise LocalizeError(f"{caller()}: {name}={value} must be finite and above 0.")


def _check_stop(stop_at: float | None, per_step: int | None, count: int) -> None:
    if stop_at is None:
        return
    if not math.isfinite(stop_at):
        raise LocalizeError(f"{caller()}: stop_at={stop_at} must be a number of tokens.")
    if per_step is not None and per_step < count:
        raise LocalizeError(
            f"{caller()}: stop_at={stop_at:g} asks for the exact match of all {count} paragraphs, of which a step sees "
            f"per_step={per_step}; per_step must be as large, or stop_at None."
        )
