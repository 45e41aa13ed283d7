"""What takes the place of a prefix token: any token, one about as frequent, what the model would rather say, or a common one."""

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import in_batches
from localize.measure.scoring import logit_pieces
from localize.models.hooks import HookedModel
from localize.models.vocabulary import text_tokens
from localize.paragraphs.paragraphs import Paragraphs

NOTHING = -1
"""Stands where there is nothing to put."""

NEIGHBOURS = 32
"""Tokens on either side, in the order of frequency, that are about as frequent; a 64th of a small vocabulary."""


def uniform_replacements(
    paragraphs: Paragraphs, ids: Int[np.ndarray, " token"], draws: int, seed: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """For every prefix token, `draws` others, uniform over the ids (see `text_tokens`); keyed by seed, paragraph, position, draw."""
    place, there = place_among(ids, paragraphs.prefixes.numpy())
    drawn = _drawn("replace", paragraphs, len(ids) - there, draws, seed)
    return ids[drawn + (there[:, None] & (drawn >= place[:, None]))]


def place_among(
    ids: Int[np.ndarray, " token"], tokens: Int[np.ndarray, "*shape"]
) -> tuple[Int[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """Where tokens stand, or would stand, among ascending ids, and whether they are there."""
    place = np.searchsorted(ids, tokens)
    return place, ids[place.clip(max=len(ids) - 1)] == tokens


def frequency_matched(
    paragraphs: Paragraphs, ids: Int[np.ndarray, " token"], counts: Int[Tensor, " vocab"], draws: int, seed: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """For every prefix token, `draws` others about as frequent in a corpus: uniform over its neighbours in the order of counts.

    Tokens that are equally frequent, as those never seen, stand in an order drawn by the seed.
    """
    every, prefixes = counts.cpu().numpy(), paragraphs.prefixes.numpy()
    counted = every[ids]
    place, there = place_among(ids, prefixes)
    shuffled = np.random.default_rng([seed, 17]).permutation(len(counted))
    order = shuffled[np.argsort(counted[shuffled], kind="stable")]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    near = min(NEIGHBOURS, max(1, len(order) // 64))
    span = min(2 * near, len(order) - 1)  # as many neighbours at the ends of the order as within
    # A token that is none of the ids stands where its count would.
    beside = np.searchsorted(counted[order], every[prefixes])
    own = np.where(there, rank[place.clip(max=len(ids) - 1)], beside)[:, None]
    lowest = (own - near).clip(0, len(order) - 1 - span)
    drawn = lowest + _drawn("frequency", paragraphs, span + ~there, draws, seed)
    return ids[order[drawn + (there[:, None] & (drawn >= own))]]


def second_choices(
    model: HookedModel, paragraphs: Paragraphs, ids: Int[np.ndarray, " token"], draws: int, batch_size: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """For every prefix token but the first, which of the ids the model finds likeliest in its place: draw d has the d-th likeliest other.

    Nothing predicts the first token: `NOTHING` stands there.
    """
    prefixes = paragraphs.prefixes
    outside = torch.ones(model.vocab_size, dtype=torch.bool, device=model.device)
    outside[torch.from_numpy(ids).to(model.device)] = False
    chosen = np.full((len(paragraphs), draws, paragraphs.prefix_length), NOTHING)

    def work(rows: slice) -> None:
        tokens = prefixes[rows].to(model.device)
        states = model.final_states(tokens[:, :-1]).flatten(0, 1)
        wanted, found = tokens[:, 1:].flatten(), []
        for piece in logit_pieces(model, len(states)):
            logits = model.hf.lm_head(states[piece]).clone()
            logits.scatter_(1, wanted[piece, None], -torch.inf).masked_fill_(outside, -torch.inf)
            found.append(logits.topk(draws, dim=1).indices)
        shape = (len(tokens), tokens.shape[1] - 1, draws)
        chosen[rows, :, 1:] = torch.cat(found).view(shape).transpose(1, 2).cpu().numpy()

    if paragraphs.prefix_length > 1:
        in_batches(work, len(paragraphs), batch_size, what="second choices")
    return chosen


def neutral_replacements(
    paragraphs: Paragraphs, ids: Int[np.ndarray, " token"], counts: Int[Tensor, " vocab"], draws: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """For every prefix token a common other: draw d has the d-th commonest of the ids in the corpus but the token itself."""
    commonest = ids[np.argsort(-counts.cpu().numpy()[ids], kind="stable")[: draws + 1]]
    prefixes = paragraphs.prefixes.numpy()
    own = np.where(commonest == prefixes[..., None], np.arange(draws + 1), draws + 1).min(
        -1
    )  # its place, or past the end
    draw = np.arange(draws)[:, None]
    return commonest[draw + (draw >= own[:, None])]


def replacements_of(
    model: HookedModel,
    paragraphs: Paragraphs,
    kind: str,
    draws: int,
    seed: int,
    counts: Int[Tensor, " vocab"],
    batch_size: int,
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """The replacements of one of `KINDS`.

    Raises:
        LocalizeError: If the vocabulary has fewer other tokens than there are draws of a kind that gives each draw another.
        InputError: If nothing can be replaced, because a prefix of one token has no second choice.
    """
    ids = text_tokens(model)
    if kind in ("second_choice", "neutral") and draws >= len(ids):
        raise LocalizeError(
            f"{caller()}: draws={draws} must be at most {len(ids) - 1} for {kind}, which gives each draw another token."
        )
    if kind == "uniform":
        return uniform_replacements(paragraphs, ids, draws, seed)
    if kind == "frequency":
        return frequency_matched(paragraphs, ids, counts, draws, seed)
    if kind == "second_choice":
        if paragraphs.prefix_length == 1:
            raise InputError(
                f"{caller()}: {paragraphs.source}: a prefix of 1 token has no second choice; nothing predicts the first token."
            )
        return second_choices(model, paragraphs, ids, draws, batch_size)
    return neutral_replacements(paragraphs, ids, counts, draws)


def _drawn(
    what: str, paragraphs: Paragraphs, below: Int[np.ndarray, "paragraph prefix_position"], draws: int, seed: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """An integer in `0 .. below - 1` for each, keyed by seed, paragraph, position and draw."""
    drawn = np.empty((len(paragraphs), draws, paragraphs.prefix_length), dtype=np.int64)
    for row, (key, limits) in enumerate(zip(paragraphs.hashes, below.tolist(), strict=True)):
        for draw in range(draws):
            for position, limit in enumerate(limits):
                drawn[row, draw, position] = keyed_integer(limit, what, seed, key, position, draw)
    return drawn
