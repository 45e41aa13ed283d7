"""What replacing a prefix's rarest tokens does to the continuation, beside as many common ones at like positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import OWN, REPLACED
from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import in_batches
from localize.measure.before import Before
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import check_changed, score
from localize.measure.substitutes import uniform_replacements
from localize.models.hooks import HookedModel
from localize.models.vocabulary import text_tokens, text_tokens_words
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import corpus_counts, counts_hash

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


RAREST = 3
"""How many of a prefix's tokens are replaced together."""


def rarest_and_common(
    counts: Int[np.ndarray, " prefix_position"], order: Int[np.ndarray, " prefix_position"], tokens: int
) -> Int[np.ndarray, "replaced token"] | None:
    """Where a prefix's rarest tokens stand, and where common ones that stand as near to them as can be.

    Common is what is more frequent than the prefix's median. The two are paired one to one, with the least sum of distances.

    Args:
        counts: Occurrences of each prefix token in the reference corpus.
        order: Among equally rare tokens (the same token standing twice, say) those with the smaller number are taken.
        tokens: How many of each, at most half of the prefix.

    Returns:
        Positions, those of the rarest in order, then those of the common tokens paired with them; None if fewer than `tokens`
        are more frequent than the median.
    """
    from scipy.optimize import linear_sum_assignment

    rarest = np.sort(np.lexsort((order, counts))[:tokens])
    common = np.flatnonzero(counts > np.median(counts))  # none of the rarest, which are in the lower half
    if len(common) < tokens:
        return None
    _, nearest = linear_sum_assignment(np.abs(rarest[:, None] - common))
    return np.stack([rarest, common[nearest]])


def tie_order(key: bytes, prefix_length: int, seed: int) -> Int[np.ndarray, " prefix_position"]:
    """Random numbers that decide among a prefix's equally rare tokens, keyed by seed, paragraph and position."""
    return np.array([keyed_integer(2**32, "rarest", seed, key, position) for position in range(prefix_length)])


def rarest_first(
    counts: Int[np.ndarray, "paragraph prefix_position"], hashes: Sequence[bytes], seed: int
) -> Int[np.ndarray, "paragraph prefix_position"]:
    """Positions from the rarest token to the commonest; equally rare ones in `tie_order`.

    Args:
        counts: Occurrences of each prefix token in the reference corpus.
        hashes: Of the paragraphs, which key the order of ties.
        seed: Of that order.
    """
    ties = np.array([tie_order(key, counts.shape[1], seed) for key in hashes])
    return np.lexsort((ties, counts), axis=1)


def positions_replaced(
    paragraphs: Paragraphs, counts: Int[Tensor, " vocab"], tokens: int, seed: int
) -> Int[np.ndarray, "paragraph replaced token"]:
    """`rarest_and_common` of every prefix, ties keyed by seed, paragraph and position; -1 where there are none.

    Raises:
        InputError: If there are none in any prefix.
    """
    chosen = np.full((len(paragraphs), len(REPLACED), tokens), -1)
    frequency = counts.cpu()[paragraphs.prefixes].numpy()
    for row, key in enumerate(paragraphs.hashes):
        pair = rarest_and_common(frequency[row], tie_order(key, paragraphs.prefix_length, seed), tokens)
        if pair is not None:
            chosen[row] = pair
    if (chosen < 0).all():
        raise InputError(
            f"{caller()}: {paragraphs.source}: no prefix has tokens={tokens} tokens more frequent than its median one; "
            "choose fewer, or count in a larger corpus (counts=)."
        )
    return chosen


def replaced_prefixes(
    prefixes: Int[np.ndarray, "paragraph prefix_position"],
    replacements: Int[np.ndarray, "paragraph draw prefix_position"],
    positions: Int[np.ndarray, "paragraph replaced token"],
) -> Int[np.ndarray, "paragraph replaced draw prefix_position"]:
    """The prefixes with the replacements at the positions, all of them at once."""
    changes = np.zeros((*positions.shape[:2], prefixes.shape[1]), dtype=bool)
    np.put_along_axis(changes, positions, True, axis=-1)
    return np.where(changes[:, :, None], replacements[:, None], prefixes[:, None, None])


@torch.no_grad()
def replaced_recall(
    model: HookedModel,
    prefixes: Int[Tensor, "paragraph replaced draw prefix_position"],
    continuations: Int[Tensor, "paragraph continuation_position"],
) -> tuple[Float[Tensor, "paragraph replaced"], Float[Tensor, "paragraph replaced"]]:
    """Exact match (tokens) and NLL (nats per token) of the continuations after changed prefixes, mean over the draws."""
    changed = prefixes.flatten(0, 2)
    targets = continuations.repeat_interleave(len(changed) // len(continuations), dim=0)
    fed = torch.cat([changed, targets[:, :-1]], dim=1)
    states = model.final_states(fed, read=slice(changed.shape[1] - 1, None))
    exact, loss = score(model, states, targets)
    drawn = prefixes.shape[:3]
    return exact.to(loss.dtype).view(drawn).mean(-1), loss.mean(1).view(drawn).mean(-1)


def check_long_enough(paragraphs: Paragraphs, tokens: int = RAREST) -> None:
    """Raise an `InputError` unless a prefix has room for so many rare and as many common tokens."""
    if paragraphs.prefix_length < 2 * tokens:
        # The measurement is named in any case: whoever asks before it runs is told for which.
        raise InputError(
            f"replace_rarest: {paragraphs.source}: prefix_length={paragraphs.prefix_length} must be at least {2 * tokens} for "
            f"tokens={tokens}, to replace as many rare as common ones."
        )


@reads_inputs("paragraphs", check=check_long_enough)
@torch.no_grad()
def replace_rarest(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None = None,
    tokens: int = RAREST,
    draws: int = 4,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """How much of the continuation is lost when a prefix's rarest tokens, all at once, are replaced by random others.

    Beside it stands the loss when as many common tokens are: each more frequent than the prefix's median, and paired one to one
    with the rarest so that the distances between them are least in sum. What a head that looks at rare tokens would explain is
    the difference of the two.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs.
        counts: Occurrences of each token in a reference corpus (`unigram_counts`). None takes the training corpus's, where the
            model's folder has them, else those of the paragraphs themselves.
        tokens: How many prefix tokens are replaced. Among equally rare ones the choice is random, not by position.
        draws: Random replacements, averaged; those that `perturb_prefix` draws with the same seed.
        continuation: "own" compares with what the model says greedily after the unchanged prefix: all of it is matched before, in
            every group, so that losses compare. "true" compares with the paragraphs' true text.
        seed: Seed of choices and replacements, which are keyed by it, the paragraph, the position and the draw.
        batch_size: Rows a forward pass, a paragraph giving two for each draw.

    Returns:
        `replaced_exact_match` (tokens), `replaced_nll` (nats per token) and `replaced_position` (tokens), for the rarest and for
        common ones, and before the change `unperturbed_exact_match`, `unperturbed_nll`. Recall is attached. Nan for a prefix in
        which fewer than `tokens` are more frequent than its median, as where one token fills half of it.

    Raises:
        InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for, or their
            prefixes are shorter than twice `tokens` or all without common tokens.
        LocalizeError: If `counts` has not one entry per token of the vocabulary, `continuation` is none of the allowed words, or
            a number is below 1.

    Source:
        The causal side of Stoehr et al. 2024, section 5, which correlates attention with rarity; ours.
    """
    if min(tokens, draws, batch_size) < 1:
        raise LocalizeError(
            f"{caller()}: tokens={tokens}, draws={draws} and batch_size={batch_size} must all be at least 1."
        )
    check_long_enough(paragraphs, tokens)
    prefix_length = paragraphs.prefix_length
    before = Before.measured(model, paragraphs, continuation)
    texts = before.tokens
    counts, corpus = corpus_counts(model, paragraphs, counts)
    positions = positions_replaced(paragraphs, counts, tokens, seed)
    ids = text_tokens(model)
    comparable = np.flatnonzero(positions[:, 0, 0] >= 0)
    exact_match, nll, position = (np.full(positions.shape[:2], np.nan, before.dtype) for _ in range(3))
    position[comparable] = positions[comparable].mean(-1)

    def work(rows: slice) -> None:
        chosen = comparable[rows]
        replacements = uniform_replacements(paragraphs[chosen], ids, draws, seed)
        prefixes = replaced_prefixes(texts[chosen, :prefix_length].numpy(), replacements, positions[chosen])
        exact, loss = replaced_recall(
            model, torch.from_numpy(prefixes).to(model.device), texts[chosen, prefix_length:].to(model.device)
        )
        exact_match[chosen], nll[chosen] = exact.cpu().numpy(), loss.cpu().numpy()
        check_changed(model, [paragraphs.ids[row] for row in chosen], nll[chosen])

    in_batches(work, len(comparable), max(1, batch_size // (len(REPLACED) * draws)), what="rare-token replacement")
    arrays = {
        **before.arrays,
        "replaced_exact_match": exact_match,
        "replaced_nll": nll,
        "replaced_position": position,
    }
    call = {
        "measurement": "replace_rarest",
        "counts": corpus,
        "counts_hash": counts_hash(counts),
        "tokens": tokens,
        "draws": draws,
        "drawn_from": text_tokens_words(model),
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, before.recall, arrays, call=call, continuation=continuation)
