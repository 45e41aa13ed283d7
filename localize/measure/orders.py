"""In which order, and up to how many together, a prefix's tokens are replaced."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from torch import Tensor

from localize.axes import ORDERS
from localize.keyed import keyed_integer
from localize.measure.replace_rarest import rarest_first
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature

RANDOM, RAREST, EFFECT, FIRST, LAST = ORDERS


def numbers_up_to(prefix_length: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ...: the powers of two, what lies halfway between two of them, and the whole prefix."""
    doubled = {start * 2**power for start in (1, 3) for power in range(prefix_length.bit_length())}
    return sorted({number for number in doubled if number < prefix_length} | {prefix_length})


def ranks_of(order: Int[np.ndarray, "row prefix_position"]) -> Int[np.ndarray, "row prefix_position"]:
    """When each position's turn comes, 0 first, given the positions in their order."""
    return order.argsort(axis=1)


def random_ranks(
    hashes: Sequence[bytes], draws: Int[np.ndarray, " row"], prefix_length: int, seed: int
) -> Int[np.ndarray, "row prefix_position"]:
    """A permutation of the prefix for each row, keyed by seed, paragraph, position and draw."""
    keys = [
        [keyed_integer(2**32, "corrupt", seed, key, position, int(draw)) for position in range(prefix_length)]
        for key, draw in zip(hashes, draws, strict=True)
    ]
    return ranks_of(np.array(keys).argsort(axis=1, kind="stable"))


def effect_order(perturbation: MemorizationSignature) -> Int[np.ndarray, "paragraph prefix_position"]:
    """Positions from the one whose own replacement loses most exact match, mean over draws; among equals most NLL gained.

    By uniform replacements where the perturbation holds them, else by all its kinds; last come positions where nothing was put.
    """
    dataset = perturbation.dataset
    lost = dataset["unperturbed_exact_match"] - dataset["perturbed_exact_match"]
    risen = dataset["perturbed_nll"] - dataset["unperturbed_nll"]
    kinds = [str(kind) for kind in dataset["kind"].values]
    chosen = ["uniform"] if "uniform" in kinds else kinds
    axes = ("paragraph", "prefix_position")
    lost, risen = (
        effect.sel(kind=chosen).mean(("kind", "draw")).transpose(*axes).fillna(-np.inf).values
        for effect in (lost, risen)
    )
    return np.lexsort((-risen, -lost), axis=1)


def fixed_ranks(
    orders: Sequence[str],
    paragraphs: Paragraphs,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None,
    perturbation: MemorizationSignature | None,
    seed: int,
) -> dict[str, Int[np.ndarray, "paragraph prefix_position"]]:
    """Ranks by the orders that are the same for every draw."""
    forwards = np.tile(np.arange(paragraphs.prefix_length), (len(paragraphs), 1))
    ranks = {FIRST: forwards, LAST: forwards[:, ::-1]}
    if RAREST in orders:
        assert isinstance(counts, Tensor), "corpus_counts gives them"
        frequency = counts.cpu()[paragraphs.prefixes].numpy()
        ranks[RAREST] = ranks_of(rarest_first(frequency, paragraphs.hashes, seed))
    if EFFECT in orders:
        assert perturbation is not None, "checked with the orders"
        ranks[EFFECT] = ranks_of(effect_order(perturbation))
    return ranks
