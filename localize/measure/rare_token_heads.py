"""Which attention heads look at the rare tokens of a prefix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import NULLS, QUERIES
from localize.errors import InputError, LocalizeError, caller, public
from localize.keyed import keyed_integer
from localize.measure.attention import average_ranks, spearman
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.looking import LAST_PREFIX, Looks, View, look, views
from localize.measure.partners import check_clusters, mismatched
from localize.measure.scoring import check_finite, recall_in_passing, score
from localize.measure.summed import RankSums
from localize.measure.untrained_heads import rows_scored, untrained_scores
from localize.models.hooks import HookedModel
from localize.models.key_values import visible_keys
from localize.models.untrained import untrained as untrained_twin
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import corpus_counts, counts_hash

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

SCORES = {
    "rare_token_score": "rare_token_null",
    "rare_token_kendall": "rare_token_kendall_null",
    "rare_token_mass": "rare_token_mass_null",
}
"""Each with the name of its null, in the order of `View.scores`."""

UNTRAINED = ("rare_token_score_untrained", "rare_token_null_untrained")
"""Score and mismatched null in models of random weights."""


@public
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
            f"{caller()}: query={query} must lie in 2..{positions - 1}, because the pattern has {positions} positions "
            "and at least two earlier keys are compared."
        )
    seen = visible_keys(1, query + 1, window, pattern.device)[0, :query]
    if int(seen.sum()) < 2:
        raise LocalizeError(f"{caller()}: the window shows fewer than two earlier keys; no rank correlation exists.")
    return spearman(pattern[:, :, query, :query][..., seen], -counts[:, None, :query][..., seen])[..., 0]


def check_rankable(paragraphs: Paragraphs) -> None:
    """Raise an `InputError` unless there are two earlier tokens to rank, and two clusters for the null."""
    if paragraphs.prefix_length < 3:
        raise InputError(
            f"{paragraphs.source}: prefix_length={paragraphs.prefix_length} must be at least 3 for rare_token_heads, "
            "to rank two earlier tokens."
        )
    check_clusters(paragraphs, null_of="rare_token_heads")


def orders(
    hashes: Sequence[bytes], length: int, draws: int, seed: int
) -> Float[np.ndarray, "paragraph draw prefix_position"]:
    """Random numbers whose order permutes a prefix or any part of it, keyed by seed, paragraph and draw."""
    keys = [[keyed_integer(2**32, "permute", seed, key, draw) for draw in range(draws)] for key in hashes]
    return np.array([[np.random.default_rng(key).random(length) for key in row] for row in keys])


@dataclass(frozen=True)
class Rarities:
    """By whose token counts a paragraph's attention is scored: its own, those of its partners, and its own permuted.

    Attributes:
        counts: Of each paragraph's prefix tokens.
        partners: Indices of paragraphs from other clusters.
        hashes: Of the paragraphs, which key the permutations.
        seed: Of the permutations.
    """

    counts: Int[Tensor, "paragraph prefix_position"]
    partners: Int[np.ndarray, "paragraph draw"]
    hashes: Sequence[bytes]
    seed: int

    def of(self, rows: slice, device: torch.device) -> Callable[[View], Int[Tensor, "paragraph rarity key"]]:
        """For some paragraphs what gives the counts in a view: the own ones first, then the partners', then permuted ones."""
        draws, length = self.partners.shape[1], self.counts.shape[1]
        order = torch.from_numpy(orders(self.hashes[rows], length, draws, self.seed)).to(device)
        own = self.counts[rows, None].to(device)
        others = self.counts[torch.from_numpy(self.partners[rows])].to(device)

        def seen(view: View) -> Int[Tensor, "paragraph rarity key"]:
            mine, theirs, drawn = (part[..., view.keys] for part in (own, others, order))
            return torch.cat([mine, theirs, mine.expand_as(drawn).gather(-1, drawn.argsort(-1))], dim=1)

        return seen


def beside_nulls(
    view: View, looks: Looks, twin: Looks | None, counts: Int[Tensor, "paragraph rarity key"], rarest: int
) -> tuple[Float[Tensor, "score paragraph layer head"], Float[Tensor, "score paragraph null layer head"]]:
    """`SCORES` by the own counts, and each of `NULLS`, without the last of them where there is no untrained twin.

    Args:
        view: What is scored.
        looks: The model's.
        twin: The untrained model's.
        counts: As `Rarities.of` gives them.
        rarest: How many tokens the mass is on.
    """
    scores = view.scores(looks, counts, rarest)
    mismatched_scores, permuted = scores[..., 1:].chunk(2, dim=-1)
    nulls = [mismatched_scores.nanmean(-1), permuted.nanmean(-1)]
    if twin is not None:
        nulls.append(view.scores(twin, counts[:, :1], rarest)[..., 0])
    return scores[..., 0], torch.stack(nulls, dim=2)


def blank(model: HookedModel, count: int, prefix_length: int, nulls: Sequence[str]) -> dict[str, np.ndarray]:
    """What is measured per paragraph, nan until it is."""
    cells = (len(QUERIES), model.n_layers, model.n_heads)
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    looks = ("attention_entropy", "attention_distance")
    names = [*SCORES, *looks, *(f"{name}_untrained" for name in looks if NULLS[2] in nulls)]
    arrays: dict[str, np.ndarray] = {name: np.full((count, *cells), np.nan, dtype) for name in names}
    arrays["attention_rank"] = np.full((count, *cells, prefix_length), np.nan, np.float32)
    return arrays | {name: np.full((count, len(nulls), *cells), np.nan, dtype) for name in SCORES.values()}


def write_scores(
    arrays: dict[str, np.ndarray],
    rows: slice,
    view: View,
    own: Float[Tensor, "score paragraph layer head"],
    nulls: Float[Tensor, "score paragraph null layer head"],
) -> None:
    """Put what `beside_nulls` gives where it belongs."""
    for (name, null_name), values, beside in zip(SCORES.items(), own.cpu().numpy(), nulls.cpu().numpy(), strict=True):
        arrays[name][rows, view.query, view.layers] = values
        arrays[null_name][rows, :, view.query, view.layers] = beside


def write_ranks(arrays: dict[str, np.ndarray], rows: slice, view: View, looks: Looks) -> None:
    """Put where it belongs how the keys of a view rank by the attention that they get."""
    ranks = average_ranks(view.compared(looks)).cpu().numpy()
    into = arrays["attention_rank"][rows, view.query]
    layers, keys = np.array(view.layers), view.keys.cpu().numpy()
    into[np.ix_(np.arange(len(into)), layers, np.arange(into.shape[2]), keys)] = ranks


def write_looks(arrays: dict[str, np.ndarray], rows: slice, looks: Looks, suffix: str) -> None:
    """Put entropy and distance where they belong."""
    arrays[f"attention_entropy{suffix}"][rows] = looks.entropy.transpose(0, 1).cpu().numpy()
    arrays[f"attention_distance{suffix}"][rows] = looks.distance.transpose(0, 1).cpu().numpy()


@reads_inputs("paragraphs", check=check_rankable)
@torch.no_grad()
def rare_token_heads(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None = None,
    null_draws: int = 8,
    rarest: int = 5,
    untrained: bool = True,
    untrained_models: int = 19,
    seed: int = 0,
    batch_size: int = 32,
) -> "MemorizationSignature":
    """For every head, whether it looks at the prefix's rare tokens, and how widely and how far back it looks at all.

    Who looks is the last token of the prefix, at the tokens before it, and, averaged, those of the continuation, at all of the
    prefix. Beside each score stand three nulls. "mismatched": the same attention against the rarity of paragraphs from other
    clusters, which keeps position (recency, the pull of the first token) and takes the content away. "permuted": against the
    paragraph's own rarity, permuted among the tokens seen, which takes position away as well and is too lenient alone.
    "untrained": what a model of the same shape with random weights scores, by the paragraph's own rarity.

    None of them takes away that a head likes some tokens and dislikes others, whatever their rarity, and a few common ones fill most
    of a text. So how every head ranks the tokens is kept too, with their counts: analyses deal these out anew over the token types.
    And the best of many heads is held against the best of several models of random weights.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; their continuations are those that look.
        counts: Occurrences of each token in a reference corpus (`unigram_counts`). None takes the training corpus's, where the
            model's folder has them, else those of the paragraphs themselves, equal paragraphs counted once.
        null_draws: Mismatched paragraphs, and permutations, per paragraph; scores are averaged over them.
        rarest: How many tokens count as the rarest in `rare_token_mass`.
        untrained: Whether to measure untrained models; one at a time is in memory beside the model.
        untrained_models: How many of them the best heads are taken from. Each reads the prefixes of up to 128 paragraphs, the
            memorized where there are any. Of n models p is 1 / (n + 1) at the least.
        seed: Seed of the draws and of the untrained weights.
        batch_size: Paragraphs a forward pass; the numbers are the same for any, up to rounding.

    Returns:
        `rare_token_score` (Spearman's rho), `rare_token_kendall` (tau-b), both in [-1, 1] and positive where rarer tokens get
        more attention, and `rare_token_mass` (share of attention, which is larger where fewer tokens are seen: hold it against
        its null), each with its null; `attention_entropy` (nats) and `attention_distance` (tokens), over all that is seen,
        and those of the twin as `_untrained`; `attention_rank`, how the prefix tokens seen rank by the attention that they get, and
        `prefix_counts`, how often each stands in the corpus; `rare_token_score_untrained`, the scores in each of the untrained
        models, and `rare_token_null_untrained`, their mismatched null; and the paper's `summed_rank_correlation` of each group,
        negative where rarer tokens get more, with what even attention gives, `summed_rank_correlation_uniform`. Local layers are
        scored on what they see. Nan where there is nothing to score: attention or rarity is constant, or fewer than two tokens
        are seen. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, are one cluster, so that there is no null, or have a prefix shorter
            than three tokens.
        LocalizeError: If `counts` has not one entry per token of the vocabulary, or `null_draws`, `rarest` or `untrained_models` is
            below 1.

    Source:
        Stoehr et al. 2024, section 5: the summed correlation. Rank correlation inside each paragraph and the nulls are ours.
    """
    check_rankable(paragraphs)
    if null_draws < 1 or rarest < 1:
        raise LocalizeError(f"{caller()}: null_draws={null_draws} and rarest={rarest} must both be at least 1.")
    if untrained_models < 1:
        raise LocalizeError(
            f"{caller()}: untrained_models={untrained_models} must be at least 1; untrained=False measures none."
        )
    recall, in_passing = recall_in_passing(model, paragraphs)
    counts, corpus = corpus_counts(model, paragraphs, counts)
    counts, prefix_length = counts.cpu(), paragraphs.prefix_length
    partners = mismatched(paragraphs, null_draws, seed)
    of_prefix = counts[paragraphs.prefixes]
    rarities = Rarities(of_prefix, partners, paragraphs.hashes, seed)
    twin, nulls = (untrained_twin(model, seed), NULLS) if untrained else (None, NULLS[:2])
    arrays = blank(model, len(paragraphs), prefix_length, nulls)
    sums = RankSums(model.n_layers, model.n_heads, prefix_length - 1)
    seen_by = views(model, prefix_length, paragraphs.tokens.shape[1])

    def work(rows: slice) -> None:
        tokens, counts_in = paragraphs.tokens[rows].to(model.device), rarities.of(rows, model.device)
        looks, states = look(model, tokens, prefix_length)
        twin_looks = look(twin, tokens, prefix_length)[0] if twin is not None else None
        for view in seen_by:
            write_scores(arrays, rows, view, *beside_nulls(view, looks, twin_looks, counts_in(view), rarest))
            write_ranks(arrays, rows, view, looks)
        write_looks(arrays, rows, looks, "")
        if twin_looks is not None:
            write_looks(arrays, rows, twin_looks, "_untrained")
        if in_passing:
            recall.fill(rows, *score(model, states, tokens[:, prefix_length:]))
        last = [view for view in seen_by if view.query == LAST_PREFIX]
        summands = [(view.layers, view.attention(looks).cpu(), counts_in(view)[:, 0].cpu()) for view in last]
        for summand in summands:  # only now, so that a batch that ran out of memory half-way has added nothing
            sums.add(*summand, groups_of(paragraphs[rows], recall.rows(rows)))

    in_batches(work, len(paragraphs), batch_size, what="heads")
    check_finite(model, paragraphs, recall)
    sets, summed, uniform = sums.correlations()
    arrays |= {"summed_rank_correlation": summed, "summed_rank_correlation_uniform": uniform}
    arrays["prefix_counts"] = of_prefix.numpy()
    if untrained:
        twin = None  # one untrained model at a time is in memory
        scored = rows_scored(groups_of(paragraphs, recall), paragraphs.hashes, seed)
        both = untrained_scores(
            model, paragraphs, of_prefix, partners, seen_by,
            rows=scored, models=untrained_models, seed=seed, batch_size=batch_size,
        )  # fmt: skip
        arrays |= dict(zip(UNTRAINED, both, strict=True))
    call = {
        "measurement": "rare_token_heads",
        "counts": corpus,
        "counts_hash": counts_hash(counts),
        "null_draws": null_draws,
        "rarest": rarest,
        "untrained": untrained,
        "untrained_models": untrained_models,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": sets, "null": nulls})
