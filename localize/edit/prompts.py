"""Prompts that ask for a continuation in other ways than its prefix does."""

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import PROMPTS
from localize.keyed import keyed_integer
from localize.measure.scoring import check_changed, measure_tokens
from localize.measure.substitutes import place_among
from localize.models.hooks import HookedModel
from localize.models.vocabulary import text_tokens
from localize.paragraphs.paragraphs import Paragraphs


def said(right: Bool[np.ndarray, "paragraph token"]) -> Float[np.ndarray, " paragraph"]:
    """The share of the tokens that is right before the first error."""
    return right.cumprod(1).mean(1)


def prompted_recall(
    model: HookedModel,
    paragraphs: Paragraphs,
    right: Bool[np.ndarray, "paragraph token"],
    draws: int,
    seed: int,
    batch_size: int,
) -> dict[str, Float[np.ndarray, " paragraph"]]:
    """The share of the tokens asked for that is said before the first error, behind each of PROMPTS.

    Args:
        model: A hooked model.
        paragraphs: What is asked for.
        right: Whether each continuation token is the likeliest after the true ones before it.
        draws: Random tokens tried where one of the prompt is changed.
        seed: Of these.
        batch_size: Paragraphs a pass.
    """
    tokens, prefix, length = paragraphs.recall_tokens, paragraphs.prefix_length, right.shape[1]
    ids = text_tokens(model)

    def said_behind(texts: Int[Tensor, "paragraph position"], prefix: int) -> Float[np.ndarray, " paragraph"]:
        flags, nll = measure_tokens(model, texts, prefix, batch_size=batch_size)
        check_changed(model, paragraphs.ids, nll)
        return said(flags)

    changed = [said_behind(one_changed(paragraphs, ids, draw, seed), prefix) for draw in range(draws)]
    dropped = prefix // 2
    by_prompt = {
        "as_is": said(right),
        "one_changed": np.mean(changed, axis=0),
        # a prefix of one token has no second half
        "second_half": said_behind(tokens[:, dropped:], prefix - dropped),
        "fifth_given": said(right[:, length // 5 :]),
        "half_given": said(right[:, length // 2 :]),
    }
    return {prompt: by_prompt[prompt] for prompt in PROMPTS}


def one_changed(
    paragraphs: Paragraphs, ids: Int[np.ndarray, " token"], draw: int, seed: int
) -> Int[Tensor, "paragraph position"]:
    """The paragraphs, each with one random prefix token replaced by another of the ids (see `text_tokens`)."""
    tokens = paragraphs.recall_tokens.clone()
    for row, digest in enumerate(paragraphs.hashes):
        at = keyed_integer(paragraphs.prefix_length, "prompt position", seed, digest, draw)
        place, there = (int(part[0]) for part in place_among(ids, tokens[row, at : at + 1].numpy()))
        shift = there + keyed_integer(len(ids) - there, "prompt token", seed, digest, draw)
        tokens[row, at] = int(ids[(place + shift) % len(ids)])
    return tokens
