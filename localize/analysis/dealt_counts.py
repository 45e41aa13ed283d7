"""Rare-token scores against counts dealt out over the token types: which tokens a head likes stays, that they are rare ones goes.

A head that likes some tokens and dislikes others, whatever their rarity, scores in every paragraph alike, since the same few common
tokens fill a text: paragraphs are many, token types that matter few (a handful make up half of the score of most heads). So the types are
the sample here. In each deal every type gets the count of another one, the same in all paragraphs.

Common types have extreme counts and stand in every text, which no deal keeps. The mean score under deals is therefore too narrow a null:
of 400 simulated heads with a normal liking per type, reading the embedded paragraphs, 18 % got p <= .05. What is compared is the score over
its standard error by token type, taken anew for each deal (6 % of 800 heads; 7 % where common types are liked and disliked more).

A deal keeps where each type stands, so that a type's place in a text (first words, full stops) goes with its new count.

Source:
    Types as the sample: Clark 1973, The language-as-fixed-effect fallacy. A permuted correlation over its standard error: DiCiccio and
    Romano 2017, Robust permutation tests for correlation and regression coefficients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from localize.analysis.choice import StrongestHead, strongest_of
from localize.analysis.rows import NO_NULL, Null
from localize.statistics import MINUS_ONE_TO_ONE
from localize.statistics.ranges import within

if TYPE_CHECKING:
    import xarray as xr

NEEDED = ("attention_rank", "prefix_counts")
"""Variables without which nothing can be dealt out."""

DEALS = 400
"""Of the counts over the token types."""

TIE = 1e-9
"""Two scores over their errors that differ by less are equal but for rounding."""


@dataclass(frozen=True, eq=False)
class DealtScores:
    """Scores above position by the counts as they are, in row 0, and as they are dealt out.

    Attributes:
        score: Mean over the paragraphs of a set; above position: less what the position of each token alone gives.
        error: Its standard error by token type; 0 where nothing was scored.
    """

    score: Float[np.ndarray, "deal set layer head"]
    error: Float[np.ndarray, "deal set layer head"]

    @property
    def ratio(self) -> Float[np.ndarray, "deal set layer head"]:
        """Score over error; 0 where nothing was scored."""
        return np.divide(self.score, self.error, out=np.zeros_like(self.score), where=self.error > 0)

    def p_values(self, told: int) -> Float[np.ndarray, "layer head"]:
        """Of each head by itself, two-sided, on one of the sets; nan where nothing was scored."""
        ratio = np.abs(self.ratio[:, told])
        as_far = (ratio >= ratio[0] - TIE).mean(0)  # the counts as they are among them
        return np.where(self.error[0, told] > 0, as_far, np.nan)

    def ends(self, told: int) -> Float[np.ndarray, "end layer head"]:
        """Central 95 % of each head's null on one of the sets, in the unit of the score."""
        return np.quantile(self.ratio[1:, told], [0.025, 0.975], axis=0) * self.error[0, told]

    def null_of_choice(self, chosen: StrongestHead, choosing: int, told: int, position: float) -> Null:
        """What the strongest head of one set scores on another, chosen under every deal as it was by the counts as they are.

        Args:
            chosen: The head that was chosen by the counts as they are.
            choosing: On which set.
            told: On which set it is told.
            position: What the position of its tokens alone gives it there, which is added.

        Returns:
            A null in the direction in which the head was chosen, with a p-value that the choice among heads is part of.
        """
        error = self.error[0, told][chosen.at]
        if not error > 0:
            return NO_NULL
        ratio, best = self.ratio[:, told], [strongest_of(mean) for mean in self.score[:, choosing]]
        null = np.array(
            [one.sign * row[one.at] for one, row in zip(best[1:], ratio[1:], strict=True) if one is not None]
        )
        observed = chosen.sign * ratio[0][chosen.at]
        p_value = (1 + (null >= observed - TIE).sum()) / (1 + len(null))
        spread = chosen.sign * error * np.array([null.mean(), *np.quantile(null, [0.025, 0.975])])
        middle, low, high = within(position + spread, MINUS_ONE_TO_ONE)
        return Null.dealt(middle, min(low, high), max(low, high), p_value)


def dealt_scores(
    dataset: "xr.Dataset", query: str, sets: Sequence[Bool[np.ndarray, " paragraph"]], seed: int, deals: int = DEALS
) -> DealtScores | None:
    """Scores of every head on some sets of paragraphs, by the counts as they are and dealt out; None where ranks were not kept.

    Args:
        dataset: Of a signature.
        query: Who looks.
        sets: Masks of paragraphs, none in two of them. All share the deals.
        seed: Of the deals.
        deals: How many.
    """
    if not set(NEEDED) <= set(dataset) or not any(inside.any() for inside in sets):
        return None
    of_set = np.full(dataset.sizes["paragraph"], -1)
    for number, inside in enumerate(sets):
        of_set[inside] = number
    used = of_set >= 0
    ranks = dataset["attention_rank"].sel(query=query).transpose("paragraph", "layer", "head", "prefix_position").values
    counts = dataset["prefix_counts"].values
    tokens = dataset["tokens"].values[
        :, : counts.shape[1]
    ]  # of all paragraphs, so that the deals do not depend on the sets
    _, first, types = np.unique(tokens, return_index=True, return_inverse=True)
    of_type = np.tile(counts.ravel()[first], (1 + deals, 1))
    of_type[1:] = np.random.default_rng([seed, 17]).permuted(of_type[1:], axis=1)
    types = types.reshape(tokens.shape)[used]
    return scores_by_deal(ranks[used].astype(float), types, of_type, of_set[used], len(sets))


def scores_by_deal(
    ranks: Float[np.ndarray, "paragraph layer head key"],
    types: Int[np.ndarray, "paragraph key"],
    counts: Int[np.ndarray, "deal type"],
    of_set: Int[np.ndarray, " paragraph"],
    sets: int,
) -> DealtScores:
    """Spearman's rho of attention and rarity less the position's part, summed by token type, for each deal of the counts.

    Of a paragraph p the score is sum_k a[p, k] r[p, k] with unit ranks a of the attention and r of the rarity. Above position it is
    sum_k a[p, k] (r[p, k] - mean of r[., k] over the set's paragraphs). What belongs to one type is its part of the set's score; the
    root of the sum of the parts' squares is the error. A type that fills m of a paragraph's K keys draws their mean rank toward its
    own: for the error its keys there count K / (K - m) times, as if ranked among the other types' alone.

    Args:
        ranks: Of each key by the attention that it gets; nan where it is not scored, in a layer's heads alike.
        types: The token type of each key.
        counts: Of each type, as it is in row 0 and as dealt out in the others.
        of_set: The set of each paragraph.
        sets: How many there are.
    """
    size = np.bincount(of_set, minlength=sets)
    shape = (len(counts), sets, *ranks.shape[1:3])
    score, error = np.zeros((2, *shape))
    codes = of_set[:, None] * counts.shape[1] + types
    members = np.eye(sets)[of_set].T / np.maximum(size, 1)[:, None]  # (set, paragraph): a product with it is a mean
    for layers, keys in seen_alike(ranks):
        own = unit_ranks(ranks[:, layers][..., keys])  # (paragraph, layer, head, key)
        own = own.transpose(0, 3, 1, 2).reshape(-1, len(layers) * ranks.shape[2])  # (paragraph key, layer head)
        parts_of, first = _summing(codes[:, keys], counts.shape[1], sets)
        alone = _among_others(types[:, keys])
        for deal, of_type in enumerate(counts):
            rarity = unit_ranks(-of_type[types[:, keys]].astype(float))
            rarity -= (members @ rarity)[of_set]
            parts, apart = (
                parts_of @ (own * by.reshape(-1, 1)) for by in (rarity, alone * rarity)
            )  # (set type, layer head)
            for into, values in ((score, parts), (error, apart**2)):
                sums = np.add.reduceat(np.vstack([values, np.zeros(values.shape[1])]), first)
                into[deal][:, layers] = sums.reshape(sets, len(layers), -1)
    scale = np.where(size > 0, size, np.inf)[:, None, None]  # of an empty set nothing is left
    return DealtScores(score / scale, np.sqrt(error) / scale)


def _among_others(types: Int[np.ndarray, "paragraph key"]) -> Float[np.ndarray, "paragraph key"]:
    """K / (K - m) for a key whose type stands m times among its paragraph's K keys; 1 where there is no other type."""
    size = types.shape[1]
    _, code, times = np.unique(
        types + (types.max() + 1) * np.arange(len(types))[:, None], return_inverse=True, return_counts=True
    )
    same = times[code].reshape(types.shape)
    return np.where(same < size, size / np.maximum(size - same, 1), 1.0)


def _summing(codes: Int[np.ndarray, "paragraph key"], types: int, sets: int) -> tuple:
    """A matrix that sums over the keys of each set and type, and the row at which each set starts."""
    from scipy.sparse import csr_matrix

    found, row = np.unique(codes, return_inverse=True)
    matrix = csr_matrix((np.ones(codes.size), (row.ravel(), np.arange(codes.size))), shape=(len(found), codes.size))
    return matrix, np.searchsorted(found, np.arange(sets) * types)


def seen_alike(
    ranks: Float[np.ndarray, "paragraph layer head key"],
) -> Iterator[tuple[Int[np.ndarray, " layer"], Int[np.ndarray, " key"]]]:
    """Layers whose heads are scored on the same keys, with these; layers that see none are left out."""
    seen = ~np.isnan(ranks).all((0, 2))
    for mask in np.unique(seen, axis=0):
        if mask.any():
            yield np.flatnonzero((seen == mask).all(1)), np.flatnonzero(mask)


def unit_ranks(values: Num[np.ndarray, "*row item"]) -> Float[np.ndarray, "*row item"]:
    """Ranks along the last axis, centred and scaled to length 1: the product of two is Spearman's rho; 0 where all are equal."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2
    length = np.sqrt((ranks**2).sum(-1, keepdims=True))
    return np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
