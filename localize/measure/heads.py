"""Which attention heads look at the rare tokens of a prefix."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.errors import InputError, LocalizeError
from localize.keyed import keyed_integer
from localize.measure.batches import in_batches
from localize.measure.labels import labelled
from localize.measure.recall import recall_of
from localize.models.hooks import HookedModel, visible_keys
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import unigram_counts

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


def average_ranks(values: Float[Tensor, "*row item"] | Int[Tensor, "*row item"]) -> Float[Tensor, "*row item"]:
    """0-based ranks along the last axis, ties given the mean of their ranks, as float32 (exact for fewer than 2^23 items)."""
    one, other = values[..., :, None], values[..., None, :]
    smaller, equal = (one > other).sum(-1), (one == other).sum(-1)
    return smaller + (equal - 1) / 2


def spearman(x: Float[Tensor, "*#row item"], y: Float[Tensor, "*#row item"]) -> Float[Tensor, "*out"]:
    """Spearman's rho along the last axis, in float64; nan where either side is constant. Leading axes broadcast."""
    x, y = (average_ranks(side).double() for side in (x, y))
    x, y = (side - side.mean(-1, keepdim=True) for side in (x, y))
    scale = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return torch.where(scale > 0, (x * y).sum(-1) / scale, torch.nan)


def rare_token_scores(
    pattern: Float[Tensor, "paragraph head query key"],
    counts: Int[Tensor, "paragraph key"],
    *,
    query: int,
    window: int | None = None,
) -> Float[Tensor, "paragraph head"]:
    """How strongly each head attends to the rare tokens before `query`.

    Spearman's rho between the attention that position `query` pays to each earlier token and that token's rarity in the
    corpus, inside one paragraph: +1 if rarer always means more attention, 0 if unrelated, -1 if reversed.

    Args:
        pattern: Attention probabilities; each row sums to 1 over `key`.
        counts: Occurrences of each token in the reference corpus.
        query: The looking position, 0-based; the keys compared are those of `0 .. query - 1` that it sees.
        window: How many tokens a local layer's query sees, itself among them; None if all.

    Returns:
        One dimensionless score per paragraph and head, in [-1, 1]. A head that attends evenly scores nan, never a number
        that looks like evidence.

    Raises:
        LocalizeError: If fewer than two earlier keys are seen from `query`, or it is past the end.

    Source:
        Stoehr et al. 2024, section 5. There attention is summed per rank over the corpus, which favours low ranks; here
        each paragraph is ranked by itself.
    """
    positions = pattern.shape[2]
    if not 2 <= query < positions:
        raise LocalizeError(
            f"rare_token_scores: query={query} must lie in 2..{positions - 1}, because the pattern has {positions} positions "
            "and at least two earlier keys are compared."
        )
    seen = visible_keys(1, query + 1, window, pattern.device)[0, :query]
    return _scores(pattern[:, :, query, :query], counts[:, :query], seen)


def _scores(
    attention: Float[Tensor, "paragraph head key"], counts: Int[Tensor, "*paragraph key"], seen: Bool[Tensor, " key"]
) -> Float[Tensor, "paragraph head"]:
    if int(seen.sum()) < 2:
        raise LocalizeError(
            "rare_token_scores: the window shows fewer than two earlier keys; no rank correlation exists."
        )
    return spearman(attention[..., seen], -counts[..., None, seen].to(attention.dtype))


def check_rankable(paragraphs: Paragraphs) -> None:
    """Raise an `InputError` unless there are two earlier tokens to rank, and two clusters for the null."""
    if paragraphs.prefix_length < 3:
        raise InputError(
            f"{paragraphs.source}: prefix_length={paragraphs.prefix_length} must be at least 3 for rare_token_heads, "
            "to rank two earlier tokens."
        )
    if len(np.unique(paragraphs.clusters)) < 2:
        raise InputError(
            f"{paragraphs.source}: {len(paragraphs)} paragraph(s) in one cluster of near-duplicates; "
            "the null of rare_token_heads needs at least two clusters."
        )


def mismatched(paragraphs: Paragraphs, draws: int, seed: int) -> Int[np.ndarray, "paragraph draw"]:
    """For each paragraph some others, drawn evenly from the paragraphs of other clusters, keyed by seed, paragraph and draw.

    Raises:
        InputError: If all paragraphs are in one cluster.
    """
    check_rankable(paragraphs)
    clusters = paragraphs.clusters
    others = {cluster: np.flatnonzero(clusters != cluster) for cluster in np.unique(clusters)}
    return np.array(
        [
            [others[cluster][keyed_integer(len(others[cluster]), "mismatch", seed, key, draw)] for draw in range(draws)]
            for cluster, key in zip(clusters, paragraphs.hashes, strict=True)
        ]
    )


@torch.no_grad()
def rare_token_heads(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    counts: Int[Tensor, " vocab"] | None = None,
    null_draws: int = 8,
    seed: int = 0,
    batch_size: int = 32,
) -> "MemorizationSignature":
    """For every head, whether the last prefix position attends to the prefix's rare tokens.

    Beside each score stands what the same attention scores against the rarity profiles of paragraphs from other clusters, which
    keeps position (recency, the pull of the first token) and takes the content away.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; only their prefixes are read.
        counts: Occurrences of each token in a reference corpus (`unigram_counts`). None takes the training corpus's, where the
            model's folder has them, else those of the paragraphs themselves.
        null_draws: Mismatched paragraphs per paragraph, averaged.
        seed: Seed of those draws.
        batch_size: Paragraphs a forward pass.

    Returns:
        `rare_token_score` and `rare_token_null`, Spearman's rho in [-1, 1], nan where attention or rarity is constant; local layers
        are scored on the keys they see. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, are one cluster, so that there is no null, or have a prefix shorter
            than three tokens.
        LocalizeError: If `counts` has not one entry per token of the vocabulary.

    Source:
        Stoehr et al. 2024, section 5; rank correlation inside each paragraph and the mismatched null are ours.
    """
    check_rankable(paragraphs)
    if null_draws < 1:
        raise LocalizeError(f"rare_token_heads: null_draws={null_draws} must be at least 1.")
    recall = recall_of(model, paragraphs)
    partners = mismatched(paragraphs, null_draws, seed)
    corpus = "given"
    if counts is None:
        corpus = "training corpus" if model.unigram_counts is not None else "the paragraphs measured"
        counts = model.unigram_counts
    if counts is None:
        counts = unigram_counts(paragraphs, vocab_size=model.vocab_size)
    if len(counts) != model.vocab_size:
        raise LocalizeError(
            f"rare_token_heads: counts has {len(counts)} entries; the vocabulary of {model.name} has {model.vocab_size}."
        )
    query = paragraphs.prefix_length - 1
    frequency = counts[paragraphs.prefixes[:, :query]]  # (paragraph, key)
    shape = (len(paragraphs), model.n_layers, model.n_heads)
    score, null = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    names = {f"blocks.{layer}.attn.hook_pattern": layer for layer in range(model.n_layers)}
    visible = {
        layer: visible_keys(1, query + 1, model.window(layer))[0, :query].to(model.device) for layer in names.values()
    }

    def work(rows: slice) -> None:
        own = frequency[rows].to(model.device)
        others = frequency[torch.from_numpy(partners[rows])].to(model.device)  # (paragraph, draw, key)

        def on_pattern(pattern: Tensor, name: str) -> None:
            layer = names[name]
            attention = pattern[:, :, query, :query]
            score[rows, layer] = _scores(attention, own, visible[layer]).cpu().numpy()
            mismatched_scores = [_scores(attention, others[:, draw], visible[layer]) for draw in range(null_draws)]
            null[rows, layer] = torch.stack(mismatched_scores).nanmean(0).cpu().numpy()

        model.forward(
            paragraphs.prefixes[rows].to(model.device), hooks=dict.fromkeys(names, on_pattern), read=slice(-1, None)
        )

    in_batches(work, len(paragraphs), batch_size, what="heads")
    call = {
        "measurement": "rare_token_heads",
        "counts": corpus,
        "null_draws": null_draws,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, {"rare_token_score": score, "rare_token_null": null}, call=call)
