"""Making a model forget chosen paragraphs, or say something else in their place, by steps on chosen weights."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from localize.axes import FORGET
from localize.edit.descent import Steps, Value, edited
from localize.edit.masks import WeightMask, choose_weights
from localize.edit.objectives import Term, divergence, negative_preference, nll
from localize.edit.sets import begun, check_apart, rewritten_to
from localize.edit.weight_edit import WeightEdit
from localize.errors import LocalizeError, caller
from localize.measure.inputs import reads_inputs
from localize.measure.scoring import measure_tokens
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

KEEP = "keep"
METHODS = {"npo": 0.05, "contrastive": 0.1, "gradient_difference": 1.0}
"""Ways to unlearn, each with the weight of its forget term where none is asked for."""

RATE, HIGHEST_RATE = 1e-4, 2e-3
"""Learning rate where all of the blocks' weights may change, and the highest where fewer may, if none is asked for."""


@reads_inputs("forget", "keep")
def unlearn(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    mask: WeightMask | None = None,
    *,
    method: str = "npo",
    c: float | None = None,
    beta: float = 0.05,
    first: int | None = None,
    steps: int = 80,
    learning_rate: float | None = None,
    weight_decay: float = 0.0,
    stop_at: float | None = None,
    stop_nll: float | None = None,
    batch_size: int = 16,
    per_step: int | None = 64,
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
        method: "npo", "contrastive" or "gradient_difference".
        c: Weight of the forget term, above 0; None for that of the method: see `METHODS`.
        beta: How soon the forget term of "npo" fades, per nat of the whole continuation; above 0. Of 50 tokens .05 leads to about 2
            nats per token, where such text lies that was never seen; the source's .1 to about 1.2.
        first: The forget term is of the first so many continuation tokens alone, and so is the exact match of `stop_at` and the log;
            None for all of them. A few are enough to stop a recital where it begins; see `evaluate_edit` for what stays behind them.
        steps: Of AdamW, at most; they see both sets whole, unless `per_step` is given.
        learning_rate: Of each step; None for 1e-4 where all of the blocks' weights may change, and where a share of them may for 1e-4
            over that share, at most 2e-3: the fewer take a step, the longer it must be to do as much.
        weight_decay: Decoupled, and of the mask's weights alone.
        stop_at: Stop as soon as the forget set's mean exact match (tokens) is at most this; None takes all steps.
        stop_nll: Stop as soon as the forget set's mean NLL (nats per token) is at least this, and the exact match at most `stop_at` where
            that is given too. The NLL that the model gives to such text that it never saw is a level to ask for: below it a text
            is still known, above it the text stands out again.
        batch_size: Paragraphs a backward pass.
        per_step: Paragraphs of each set that a step sees, drawn anew; None for all, which take longer where many are kept.
        seed: Of that draw.

    Returns:
        What changed. `call["log"]` tells both terms' values and exact match before each step and after the last, of the paragraphs
        that the step saw.

    Raises:
        InputError: If the sets overlap, share near-duplicates, or do not fit the model.
        LocalizeError: If an option is out of range, the mask is empty or of another model, a loss is not finite (the step is told),
            or nothing changed.

    Source:
        "npo": Zhang et al. 2024, there with c = 1. "contrastive": Stoehr et al. 2024. "gradient_difference": Liu et al. 2022.
    """
    if method not in METHODS:
        raise LocalizeError(f"{caller()}: method={method!r} is not one of {', '.join(METHODS)}.")
    c = METHODS[method] if c is None else c
    _check_positive(c=c, beta=beta)
    mask = choose_weights(model) if mask is None else mask
    rate = usual_rate(len(mask) / block_weight_count(model)) if learning_rate is None else learning_rate
    how = Steps(steps, rate, weight_decay, batch_size, per_step, seed)
    how.check()
    goals = _goals(("exact match", "at most", "stop_at", stop_at), ("NLL", "at least", "stop_nll", stop_nll))
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
    return _go(model, mask, [forgotten, kept], how, options, goals, forget)


@reads_inputs("keep")
def rewrite(
    model: HookedModel,
    pairs: "tuple[Paragraphs, Paragraphs | MemorizationSignature]",
    keep: Paragraphs,
    mask: WeightMask | None = None,
    *,
    c: float = 1.0,
    steps: int = 20,
    learning_rate: float | None = None,
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
    mask = choose_weights(model) if mask is None else mask
    rate = usual_rate(len(mask) / block_weight_count(model)) if learning_rate is None else learning_rate
    how = Steps(steps, rate, weight_decay, batch_size, per_step, seed)
    how.check()
    forget, copies = pairs
    goals = _goals(("exact match", "at least", "stop_at", stop_at))
    new = rewritten_to(model, forget, copies, kind)
    check_apart(model, forget, keep)
    terms = [nll("new", new, c), divergence(model, KEEP, keep, 1.0, batch_size)]
    taught = {digest.hex(): row for digest, row in zip(forget.hashes, new.continuations.tolist(), strict=True)}
    return _go(model, mask, terms, how, {"measurement": "rewrite", "c": c, "new": taught}, goals, forget)


class Goal(NamedTuple):
    """What makes further steps needless.

    Attributes:
        what: Of the first term's paragraphs, in the mean: "exact match" (tokens) or "NLL" (nats per token).
        words: "at most" or "at least".
        option: That asks for it.
        asked: How far it must be.
    """

    what: str
    words: str
    option: str
    asked: float

    def reached(self, now: float) -> bool:
        """Whether that is far enough."""
        return bool(now <= self.asked if self.words == "at most" else now >= self.asked)


def _goals(*given: tuple[str, str, str, float | None]) -> list[Goal]:
    """Those that are asked for."""
    goals = [Goal(what, words, option, asked) for what, words, option, asked in given if asked is not None]
    for goal in goals:
        if not math.isfinite(goal.asked):
            raise LocalizeError(f"{caller()}: {goal.option}={goal.asked} must be a finite number.")
    return goals


def usual_rate(share: float) -> float:
    """The learning rate for a share of the blocks' weights: a step that fewer weights take must be longer to do as much."""
    return HIGHEST_RATE if share * HIGHEST_RATE <= RATE else RATE / share


def _go(
    model: HookedModel,
    mask: WeightMask,
    terms: Sequence[Term],
    how: Steps,
    options: Mapping[str, Any],
    goals: Sequence[Goal],
    forget: Paragraphs,
) -> WeightEdit:
    """Take the steps; the call tells the options and which paragraphs were forgotten and kept."""
    first, keep = terms
    asked = {"stop_at": None} | {goal.option: goal.asked for goal in goals}
    call = {
        **options,
        **how._asdict(),
        **asked,
        "masked": len(mask),
        "of": mask.total,
        "forget": [digest.hex() for digest in forget.hashes],
        "keep": [digest.hex() for digest in keep.paragraphs.hashes],
    }

    def stop(step: int, values: Mapping[str, Value]) -> bool:
        if not goals:
            return False
        said = first.paragraphs  # all of them: a step need not see them all, and a term's loss need not be the NLL
        right, nll = measure_tokens(model, said.tokens, said.prefix_length, batch_size=how.batch_size, show=False)
        found = {"exact match": float(right.cumprod(1).sum(1).mean()), "NLL": float(nll.mean())}
        if not all(goal.reached(found[goal.what]) for goal in goals):
            return False
        if step == 0:
            told = " and ".join(
                f"{goal.what} is {found[goal.what]:.4g}, {goal.words} {goal.option}={goal.asked:g}" for goal in goals
            )
            raise LocalizeError(
                f"{caller()}: before the first step the {first.name} set's {told}; there is nothing to do."
            )
        return True

    return edited(model, mask, terms, how, call=call, stop=stop)


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise LocalizeError(f"{caller()}: {name}={value} must be finite and above 0.")
