"""Some tokens of each continuation: those that a user names, and sets of tokens near a level of NLL."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.errors import LocalizeError, caller
from localize.paragraphs.paragraphs import Paragraphs

ChosenTokens = np.ndarray | Tensor | Sequence[Any]
"""A mask (paragraph, token of the continuation), or the places of each paragraph's tokens in it, from 0 on."""

LEAST_NLL = 1e-9
"""An NLL that is smaller, in nats, is rounding of 0, which has no logarithm."""


def chosen_mask(tokens: ChosenTokens, paragraphs: Paragraphs) -> Bool[Tensor, "paragraph position"]:
    """Which tokens of whole paragraphs are chosen.

    Raises:
        LocalizeError: If there are not as many rows as paragraphs, a row chooses no token, or one that is not there.
    """
    count, length = len(paragraphs), paragraphs.continuation_length
    if len(tokens) != count:
        raise LocalizeError(f"{caller()}: tokens has {len(tokens)} rows; it must have {count}, one for each paragraph.")
    mask = np.zeros((count, length), bool)
    given = tokens.cpu().numpy() if isinstance(tokens, Tensor) else tokens
    if isinstance(given, np.ndarray) and given.dtype == bool:
        if given.shape != mask.shape:
            raise LocalizeError(
                f"{caller()}: tokens is a mask of shape {given.shape}; it must be {mask.shape}, "
                "one entry for each token of a continuation."
            )
        mask = given
    else:
        for row, places in enumerate(given):
            for place in places:
                if not isinstance(place, Integral) or not 0 <= int(place) < length:
                    raise LocalizeError(
                        f"{caller()}: tokens has {place!r} for paragraph {paragraphs.ids[row]!r}; "
                        f"places in its continuation are 0..{length - 1}."
                    )
                mask[row, int(place)] = True
    if not mask.any(1).all():
        row = int(np.flatnonzero(~mask.any(1))[0])
        raise LocalizeError(
            f"{caller()}: tokens chooses none of paragraph {paragraphs.ids[row]!r}; at least one of each is needed."
        )
    before = np.zeros((count, paragraphs.prefix_length), bool)
    return torch.from_numpy(np.concatenate([before, mask], axis=1))


def nearest_tokens(
    nll: Float[np.ndarray, "paragraph token"], level: float, size: int, reach: float
) -> Int[np.ndarray, "paragraph size"]:
    """For each paragraph the `size` tokens whose NLL is nearest to a level, as a ratio; -1 where one is further than `reach` times.

    >>> nearest_tokens(np.array([[0.001, 0.09, 0.2, 0.15], [2.0, 3.0, 0.1, 4.0]]), 0.1, 2, reach=3.0)
    array([[ 1,  3],
           [-1, -1]])

    Args:
        nll: Of each token, in nats.
        level: In nats.
        size: Tokens a set; of equally near ones the first.
        reach: At least 1: neither this many times the level nor this part of it is exceeded.
    """
    if size > nll.shape[1]:
        return np.full((len(nll), size), -1)
    away = np.abs(np.log(np.maximum(nll.astype(float), LEAST_NLL)) - np.log(level))
    nearest = np.argsort(away, axis=1, kind="stable")[:, :size]
    furthest = np.take_along_axis(away, nearest[:, -1:], 1)
    return np.where(furthest <= np.log(reach), nearest, -1)
