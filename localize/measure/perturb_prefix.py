"""What replacing a prefix token does to the continuation, and what the model says instead."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import KINDS, OWN
from localize.errors import InputError, LocalizeError, caller
from localize.measure.batches import in_batches
from localize.measure.before import Before
from localize.measure.copies import perturbed_copies
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import check_changed, token_scores
from localize.measure.substitutes import NOTHING, replacements_of
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues
from localize.models.vocabulary import text_tokens_words
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import corpus_counts, counts_hash

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 2**15}
"""Tokens fed together, at least, if there are so many: matrix products with fewer rows are slower."""

COUNTED = ("frequency", "neutral")
"""Kinds of replacement that depend on token counts."""


class Perturbed(NamedTuple):
    """What is left of continuations, with the prefix changed at one position after the other.

    Attributes:
        exact_match: Tokens, `(row, prefix_position)`.
        nll: Nats per token, `(row, prefix_position)`.
        wrong: After how many of the whole spans replaced each continuation token is not the likeliest, `(row, continuation_position)`.
    """

    exact_match: Int[Tensor, "row prefix_position"]
    nll: Float[Tensor, "row prefix_position"]
    wrong: Int[Tensor, "row continuation_position"]


@torch.no_grad()
def perturbed_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    replacements: Int[Tensor, "row prefix_position"],
    *,
    paragraph: Int[Tensor, " row"],
    span: int = 1,
) -> Perturbed:
    """Recall of continuations with the tokens from each prefix position on replaced, one position after the other.

    What stands before the first replaced token does not change: its keys and values are computed once per paragraph. Up to the first
    error the text decoded is the text asked for, so no decoding is needed.

    Args:
        model: A hooked model.
        tokens: Prefixes and continuations.
        replacements: The token put in the place of each prefix token; `NOTHING` leaves it.
        paragraph: Which paragraph each row of replacements belongs to.
        span: How many tokens, from each position on, are replaced together.

    Returns:
        One number per row and position; for the last `span - 1` positions, from which no whole span is left, zeros.
    """
    prefix_length = replacements.shape[1]
    places = prefix_length - span + 1
    rows, texts = len(replacements), tokens[paragraph]
    known = KeyValues()
    model.forward(tokens[:, :prefix_length], cache=known, read=slice(0, 0))
    put = torch.where(replacements == NOTHING, texts[:, :prefix_length], replacements)
    targets = texts[:, prefix_length:]
    exact_match = torch.zeros((rows, prefix_length), dtype=torch.int64, device=tokens.device)
    nll = torch.zeros(
        (rows, prefix_length), dtype=torch.promote_types(model.dtype, torch.float32), device=tokens.device
    )
    wrong = torch.zeros_like(targets)
    whole = whole_spans(replacements, span)
    first = 0
    while first < places:
        # Several positions share what comes before the first of them, where one alone feeds few tokens.
        together = min(places - first, -(-TOKENS_AT_ONCE[model.device.type] // (rows * (texts.shape[1] - first))))
        changed = texts[:, None, first:-1].repeat(1, together, 1)
        for index in range(together):
            changed[:, index, index : index + span] = put[:, first + index : first + index + span]
        states = model.final_states(
            changed.flatten(0, 1),
            cache=known.first(first).rows(paragraph.repeat_interleave(together)),
            read=slice(prefix_length - 1 - first, None),
        )
        right, loss = token_scores(model, states, targets.repeat_interleave(together, dim=0))
        right, at = right.unflatten(0, (rows, together)), slice(first, first + together)
        exact_match[:, at] = right.cumprod(-1).sum(-1)
        nll[:, at] = loss.mean(1).view(rows, together)
        wrong += (~right & whole[:, at, None]).sum(1)
        first += together
    return Perturbed(exact_match, nll, wrong)


@reads_inputs("paragraphs")
@torch.no_grad()
def perturb_prefix(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    kinds: str | Sequence[str] = "uniform",
    draws: int = 2,
    span: int = 1,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None = None,
    copy_positions: Sequence[int] | None = None,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """How much of the continuation is lost when a prefix token, the first one too, is replaced, and what is said instead.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs.
        kinds: What replaces a token, always one that the model's tokenizer has (`call` tells how many those are); one or several of
            "uniform", any other token alike; "frequency", one of those
            about as frequent; "second_choice", the likeliest other after the tokens before it; "neutral", the commonest other.
            Of the last two, draw d has the d-th likeliest or commonest, and the first token of a prefix has no second choice.
        draws: Replacements per kind and position; their spread is kept.
        span: How many tokens, from each position on, are replaced together.
        counts: Occurrences of each token in a reference corpus, for "frequency" and "neutral" (`unigram_counts`). None takes the
            training corpus's, where the model's folder has them, else those of the paragraphs themselves.
        copy_positions: Where the perturbed copy may be changed; None for the whole prefix. The last tokens before the continuation do
            most, because the next token hangs on them whatever is memorized: `range(40)` asks for what stands further back.
        continuation: "own" compares with what the model says greedily after the unchanged prefix: all of it is matched before, in
            every group, so that losses compare. "true" compares with the paragraphs' true text.
        seed: Seed of the replacements, which are keyed by it, the paragraph, the position and the draw.
        batch_size: Rows a forward pass, at least; a paragraph gives one for each kind and draw.

    Returns:
        - `perturbed_exact_match` (tokens), `perturbed_nll` (nats per token) and `replacement` (token ids), by the first position
          replaced; nan, and -1, where nothing can be put. `perturbed_token_error`: how often each continuation token comes out wrong.
        - Before the change `unperturbed_exact_match`, `unperturbed_nll`, `unperturbed_token_nll`, and the `unperturbed_tokens`
          themselves. Recall is attached.
        - The perturbed copy of each kind: `copy_position`, where the mean over draws of the exact match is lowest, among equals the
          NLL highest; `copy_tokens`, that prefix with the draw that does most there, and what the model then says greedily; and
          `copy_exact_match`, `copy_tokens_wrong`, `copy_edit_distance`, `copy_longest_run` of it. The position and the draw are
          chosen for their effect, so these are the extreme, not an average.

    Raises:
        InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for, a position
            lies outside the prefix, or nothing can be replaced.
        LocalizeError: If a number is below 1, the span longer than the prefix, or a word none of those allowed.

    Source:
        Stoehr et al. 2024, section 6. There: one draw, position 0 never changed, and the earliest of the most changed positions.
    """
    kinds = _checked(paragraphs, kinds, draws, span, batch_size)
    allowed = _allowed(paragraphs, copy_positions)
    prefix_length = paragraphs.prefix_length
    before = Before.measured(model, paragraphs, continuation)
    tokens = before.tokens
    counts, corpus = corpus_counts(model, paragraphs, counts)
    by_kind = [replacements_of(model, paragraphs, kind, draws, seed, counts, batch_size) for kind in kinds]
    replacements = np.stack(by_kind, axis=1)  # (paragraph, kind, draw, prefix_position)
    shape, put = replacements.shape, torch.from_numpy(replacements).flatten(0, 2)
    whole = whole_spans(put, span).view(shape).numpy()
    if not (whole & allowed).any(-1).all():
        raise InputError(
            f"{caller()}: {paragraphs.source}: nothing can be replaced at copy_positions={np.flatnonzero(allowed).tolist()}: no "
            f"span of {span} starts there, or nothing predicts the first token."
        )
    exact_match, nll = (np.empty((len(put), prefix_length), before.dtype) for _ in range(2))
    wrong = np.empty((len(put), paragraphs.continuation_length), np.int64)

    def work(rows: slice) -> None:
        paragraph, index = torch.unique(torch.arange(rows.start, rows.stop) // (shape[1] * draws), return_inverse=True)
        found = perturbed_recall(
            model,
            tokens[paragraph].to(model.device),
            put[rows].to(model.device),
            paragraph=index.to(model.device),
            span=span,
        )
        exact_match[rows], nll[rows], wrong[rows] = (part.cpu().numpy() for part in found)
        check_changed(model, [paragraphs.ids[row] for row in paragraph[index].tolist()], nll[rows])

    in_batches(work, len(put), batch_size, what="prefix perturbation", unit="prefix")
    exact_match, nll = (np.where(whole, values.reshape(shape), np.nan) for values in (exact_match, nll))
    left = np.where(allowed, exact_match, np.nan), np.where(allowed, nll, np.nan)
    arrays = {
        **before.arrays,
        **before.token_arrays,
        "perturbed_exact_match": exact_match,
        "perturbed_nll": nll,
        "perturbed_token_error": wrong.reshape(*shape[:3], -1).sum(2) / whole.sum((2, 3))[..., None],
        "replacement": replacements,
        **perturbed_copies(model, tokens, left[0], left[1], replacements, span, batch_size),
    }
    call = {
        "measurement": "perturb_prefix",
        "kinds": list(kinds),
        "draws": draws,
        "span": span,
        "copy_positions": np.flatnonzero(allowed).tolist(),
        "drawn_from": text_tokens_words(model),
        "seed": seed,
        "batch_size": batch_size,
    }
    if set(kinds) & set(COUNTED):
        call |= {"counts": corpus, "counts_hash": counts_hash(counts)}
    return labelled(
        model, paragraphs, before.recall, arrays, call=call, continuation=continuation, axes={"kind": kinds}
    )


def whole_spans(replacements: Int[Tensor, "row prefix_position"], span: int) -> Bool[Tensor, "row prefix_position"]:
    """From which positions on so many tokens can be replaced: inside the prefix, and by something."""
    whole = torch.zeros_like(replacements, dtype=torch.bool)
    whole[:, : replacements.shape[1] - span + 1] = (replacements != NOTHING).unfold(1, span, 1).all(-1)
    return whole


def _allowed(paragraphs: Paragraphs, positions: Sequence[int] | None) -> Bool[np.ndarray, " prefix_position"]:
    """Where the copy may be changed; raises where that is not in the prefix, or nowhere."""
    length, given = (
        paragraphs.prefix_length,
        np.asarray(range(paragraphs.prefix_length) if positions is None else positions),
    )
    if given.size == 0 or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= length:
        raise InputError(
            f"{caller()}: copy_positions={positions!r} must be whole numbers in 0..{length - 1}, the prefix of {paragraphs.source}."
        )
    return np.isin(np.arange(length), given)


def _checked(
    paragraphs: Paragraphs, kinds: str | Sequence[str], draws: int, span: int, batch_size: int
) -> tuple[str, ...]:
    """The kinds, each once and in the order asked for; raises where an argument is not allowed."""
    if not all(isinstance(number, Integral) and number >= 1 for number in (draws, span, batch_size)):
        raise LocalizeError(
            f"{caller()}: draws={draws!r}, span={span!r} and batch_size={batch_size!r} must be whole numbers of at least 1."
        )
    if span > paragraphs.prefix_length:
        raise InputError(
            f"{caller()}: span={span} must be at most {paragraphs.prefix_length}, the prefix length of {paragraphs.source}."
        )
    asked = tuple(dict.fromkeys([kinds] if isinstance(kinds, str) else list(kinds)))
    if not asked or set(asked) - set(KINDS):
        raise LocalizeError(f"{caller()}: kinds={kinds!r} must be one or several of {', '.join(KINDS)}.")
    return asked
