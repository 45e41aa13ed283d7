"""Paragraphs beside corrupted copies of them that differ in one prefix token: what patching goes between."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.errors import InputError, caller
from localize.measure.continuation import continued
from localize.measure.earlier import call_of, check_perturbation
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature


class Pairs(NamedTuple):
    """Clean and corrupted runs, row by row: the same tokens but for one of the prefix.

    Attributes:
        clean: Prefix and continuation `(paragraph, position)`.
        corrupted: The same with one prefix token replaced `(paragraph, position)`: the continuation fed is the clean one's.
        position: Where they differ `(paragraph,)`.
        target: First continuation position at which the copy's own tokens are others, -1 where none is `(paragraph,)`.
    """

    clean: Int[Tensor, "paragraph position"]
    corrupted: Int[Tensor, "paragraph position"]
    position: Int[np.ndarray, " paragraph"]
    target: Int[np.ndarray, " paragraph"]


def paired(
    tokens: Int[Tensor, "paragraph position"],
    copies: Int[Tensor, "paragraph position"],
    prefix_length: int,
    ids: tuple[str, ...],
) -> Pairs:
    """Each paragraph with its corrupted copy.

    Args:
        tokens: The paragraphs, prefix and continuation.
        copies: Row by row the same prefix with one token replaced, and what is said after it.
        prefix_length: How many of the positions are the prefix.
        ids: The paragraphs' names, for errors.

    Raises:
        InputError: If a copy's prefix differs in no token, or in several.
    """
    differs = (tokens != copies).numpy()
    in_prefix, said = differs[:, :prefix_length], differs[:, prefix_length:]
    changed = in_prefix.sum(1)
    if (changed != 1).any():
        row = int(np.flatnonzero(changed != 1)[0])
        places = ", ".join(map(str, np.flatnonzero(in_prefix[row])))
        raise InputError(
            f"{caller()}: the copy of paragraph {ids[row]!r} (row {row}) differs from it in {changed[row]} prefix tokens"
            f"{f', at positions {places}' if places else ''}; exactly one is needed."
        )
    position = in_prefix.argmax(1)
    target = np.where(said.any(1), prefix_length + said.argmax(1), -1)
    row, at = torch.arange(len(tokens)), torch.from_numpy(position)
    corrupted = tokens.clone()
    corrupted[row, at] = copies[row, at]
    return Pairs(tokens, corrupted, position, target)


def pairs_from(
    model: HookedModel,
    paragraphs: Paragraphs,
    copies: object,
    kind: str | None,
    continuation: str,
) -> tuple[Pairs, dict[str, Any]]:
    """The paragraphs paired with copies that were given, and what tells where these come from.

    Raises:
        InputError: If the copies do not belong to these paragraphs and this model, or differ in other than one prefix token.
        LocalizeError: If `continuation` is none of the allowed words.
    """
    tokens = continued(model, paragraphs, continuation)
    if isinstance(copies, MemorizationSignature):
        said, told = copies_held(model, paragraphs, copies, kind, continuation)
        return paired(tokens, said, paragraphs.prefix_length, paragraphs.ids), told
    if not isinstance(copies, Paragraphs):
        raise InputError(
            f"{caller()}: copies is a {type(copies).__name__}; Paragraphs, or a signature of perturb_prefix, is needed."
        )
    if kind is not None:
        raise InputError(f"{caller()}: kind={kind!r} chooses among the copies of a signature; these are {copies!r}.")
    if copies.tokens.shape != paragraphs.tokens.shape or copies.prefix_length != paragraphs.prefix_length:
        raise InputError(
            f"{caller()}: the copies are {copies!r} and the paragraphs {paragraphs!r}; one copy of the same prefix and continuation "
            "length is needed for each paragraph."
        )
    copies.check_fits(model)
    said = continued(model, copies, continuation)
    return paired(tokens, said, paragraphs.prefix_length, paragraphs.ids), {
        "source": copies.source,
        "data_hash": copies.data_hash,
    }


def copies_held(
    model: HookedModel,
    paragraphs: Paragraphs,
    signature: MemorizationSignature,
    kind: str | None,
    continuation: str,
) -> tuple[Int[Tensor, "paragraph position"], dict[str, Any]]:
    """The copies that a signature of `perturb_prefix` holds, of its first kind of replacement or the one asked for."""
    check_perturbation(model, paragraphs, signature, continuation, name="copies")
    kinds = [str(name) for name in signature["copy_tokens"]["kind"].values]
    if kind is not None and kind not in kinds:
        raise InputError(f"{caller()}: kind={kind!r} is not one of those copied, {', '.join(kinds)}.")
    chosen = kinds.index(kind) if kind is not None else 0
    said = torch.from_numpy(signature["copy_tokens"].values[:, chosen].astype(np.int64))
    return said, {**call_of(signature), "kind": kinds[chosen]}
