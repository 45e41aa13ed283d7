"""How few prefix tokens hold what replacing them costs, and which: shares, Gini, place in the prefix, rarity; each with its null.

- *Share in the top 1, 3, 5 positions*: chosen on every second draw and scored on the others, both ways averaged. Null: positions
  permuted in each draw apart, which takes away that a position matters in every draw. A share chosen and scored on the same draws
  would be large for noise alone.
- *Gini over positions* of the effect, draws averaged. Null: as above, before averaging, because the Gini of a noisy mean is above 0.
  As noise differs between groups, what is above the mean of a paragraph's own null stands beside it: compare groups by that.
- *Share in the first half of the prefix*, its first position too. Null: positions permuted alike in all draws, which takes away only
  where in the prefix they stand.
- *The same of two groups, beside saturation alone*, for the lost exact match, which ends at the first error: what one profile of
  hazards makes of the difference when each paragraph has its own level. See `localize.analysis.saturation`.
- *Rank correlation with rarity*, inside each paragraph, draws averaged. Null: the same effect against the rarity of paragraphs of
  other clusters at the same positions, averaged over all of them.

Positions are permuted alike in all paragraphs of a cluster. Near-duplicates lose at the same places: permuted each apart, a share in
the first half that means nothing is found far too often.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.effects import PERTURB, effect_of, one_kind, placed, put_only
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Null, Row, null_beside, rows_of
from localize.analysis.saturation import DOES_NOT, SATURATES, saturation_rows
from localize.errors import SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, Range, cumulated_share, gini

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

EFFECTS = {"exact_match": SATURATES, "nll": DOES_NOT}
"""What a replacement is judged by, and its words."""

TOPS = (1, 3, 5)
TOP_POSITIONS = TOPS[-1]

SHARE = "share of the {} in the top {} position{}"
GINI = "Gini of the {} over positions"
ABOVE_NOISE = "Gini of the {} over positions, above its null"
HALF = "share of the {} in the first half of the prefix"
RARITY = "rank correlation of the {} with token rarity"

TIE = 1e-12
"""Two means of shares that differ by less are equal but for rounding."""

Measure = Callable[[Float[np.ndarray, "paragraph draw position"]], Float[np.ndarray, "quantity paragraph"]]


@public
def concentration(
    signature: "MemorizationSignature",
    kind: str | None = None,
    *,
    effect: str = "exact_match",
    counts: Any = None,
    seed: int = 0,
    resamples: int = 1000,
) -> "pd.DataFrame":
    """How few prefix tokens hold what replacing them costs, and which: early ones, rare ones?

    Args:
        signature: What was measured.
        kind: Of replacement; None takes the first that was measured.
        effect: What a replacement costs: "nll" (nats per token), or "exact_match" (tokens lost), which ends at the first wrong
            token and therefore saturates. What is gained counts as 0 in shares and Gini.
        counts: Occurrences of each token in a reference corpus (`unigram_counts`), for the link with rarity; None leaves it out.
        seed: Seed of bootstrap and permutations.
        resamples: Draws of each.

    Returns:
        Columns and index as in `summary`, rows per group and for the difference of the two main ones:

        - The share of the cost in the top 1, 3 and 5 positions, chosen on every second draw and scored on the others, both
          ways averaged. Null: positions permuted in each draw apart. nan with one draw.
        - The Gini coefficient over positions, draws averaged, with the same null; and how far it is above that null, which
          is what groups of different noise are compared by.
        - The share in the first half of the prefix, the first position too. Null: positions permuted alike in all draws.
        - Of the lost exact match each difference again, "beside saturation alone": `null` is the difference that one profile of
          hazards for both groups makes when each paragraph keeps its own level, `p_value` is against that.
        - Spearman's rho, inside each paragraph, between cost and rarity of the token replaced (of a span, its first). Null:
          the rarity of paragraphs from other clusters at the same positions; `p_value` by flipping the sign of clusters.

        Positions are permuted alike in all paragraphs of a cluster. Positions where nothing was put are left out.

    Raises:
        SignatureError: If the kind, effect or a measurement is not there, or `counts` does not cover the tokens.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    if effect not in EFFECTS:
        raise SignatureError(f"{caller()}: effect={effect!r} is not one of {', '.join(EFFECTS)}.")
    require(signature, dict.fromkeys((f"perturbed_{effect}", f"unperturbed_{effect}"), PERTURB))
    dataset = one_kind(signature.dataset, kind)
    change, words = effect_of(dataset, effect), EFFECTS[effect]
    rarity = None if counts is None else prefix_rarity(dataset, np.asarray(counts))
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    told = Told(group, clusters, draws, draws)
    lost = change.clip(min=0)
    rows = told.spread(words, lost) + told.first_half(HALF.format(words), lost)
    if effect == "exact_match":
        rows += told.beside_saturation(lost, dataset["unperturbed_exact_match"].values)
    if rarity is not None:
        rows += told.beside(RARITY.format(words), *rarity_link(change, rarity, clusters))
    return table_of(rows, ("quantity", "group"))


@dataclass(frozen=True)
class Told:
    """Rows of a table on some paragraphs.

    Attributes:
        group: The group of each paragraph.
        clusters: The near-duplicate cluster of each.
        draws: Of bootstrap and label permutation.
        moves: Of the permutations of positions.
    """

    group: Shaped[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " paragraph"]
    draws: Draws
    moves: Draws

    @property
    def masks(self) -> Bool[np.ndarray, "group paragraph"]:
        """Which paragraphs each group holds."""
        return np.stack([self.group == name for name in np.unique(self.group)])

    def permuted(self, lost: Float[np.ndarray, "paragraph draw position"], measure: Measure, each: bool) -> "Permuted":
        """`measure` with positions permuted, in each draw apart or alike in all."""
        return permuted(lost, self.clusters, self.masks, measure, self.moves, draw_by_draw=each)

    def against(
        self,
        quantity: str,
        values: Float[np.ndarray, " paragraph"],
        means: Float[np.ndarray, "null group"],
        possible: Range = ZERO_TO_ONE,
    ) -> list[Row]:
        """Rows of a quantity, a share unless told, whose group means are held against those of permuted positions."""
        null = partial(null_of, values, means, self.masks)
        return rows_of(quantity, values, self.group, self.clusters, self.draws, null, possible)

    def beside(
        self, quantity: str, own: Float[np.ndarray, " paragraph"], other: Float[np.ndarray, " paragraph"]
    ) -> list[Row]:
        """Rows of a correlation of which every paragraph has a null of its own."""
        null = partial(null_beside, own, other, self.clusters, self.draws, MINUS_ONE_TO_ONE)
        return rows_of(quantity, own, self.group, self.clusters, self.draws, null, MINUS_ONE_TO_ONE)

    def spread(self, words: str, lost: Float[np.ndarray, "paragraph draw position"]) -> list[Row]:
        """The shares of the top positions, and the Gini over positions, as it is and above what noise has."""
        tops = tops_of(lost)
        names = [top_name(words, top) for top in tops] + [GINI.format(words)]
        measure = partial(shares_and_gini, tops=tops)
        values, nothing = measure(lost), self.permuted(lost, measure, True)
        rows = []
        for index, name in enumerate(names):
            rows += self.against(name, values[index], nothing.means[:, index])
        noise = nothing.centre[-1] if np.ptp(nothing.means[:, -1], axis=0).max() > TIE else np.full(len(lost), np.nan)
        above_noise = nothing.means[:, -1] - mean_inside(noise, self.masks)
        return rows + self.against(ABOVE_NOISE.format(words), values[-1] - noise, above_noise, MINUS_ONE_TO_ONE)

    def beside_saturation(
        self,
        lost: Float[np.ndarray, "paragraph draw position"],
        before: Shaped[np.ndarray, " paragraph"],
        tops: Sequence[int] | None = None,
    ) -> list[Row]:
        """The differences in the shares of the top positions and of the first half beside those that saturation alone makes."""
        tops = tops_of(lost) if tops is None else tops
        names = [*(top_name(SATURATES, top) for top in tops), HALF.format(SATURATES)]

        def measure(some: Float[np.ndarray, "paragraph draw position"]) -> Float[np.ndarray, "quantity paragraph"]:
            return np.concatenate([_top_shares(put_only(some), tops), first_half_share(some)[None]])

        quantities = dict.fromkeys(names, ZERO_TO_ONE)
        return saturation_rows(quantities, measure, lost, before, self.group, self.clusters, self.draws)

    def top(self, quantity: str, lost: Float[np.ndarray, "paragraph draw position"]) -> list[Row]:
        """The share of the top positions alone."""
        nothing = self.permuted(lost, lambda some: top_share(some)[None], True)
        return self.against(quantity, top_share(lost), nothing.means[:, 0])

    def first_half(self, quantity: str, lost: Float[np.ndarray, "paragraph draw position"]) -> list[Row]:
        """The share of the first half of the prefix."""
        nothing = self.permuted(lost, lambda some: first_half_share(some)[None], False)
        return self.against(quantity, first_half_share(lost), nothing.means[:, 0])


def tops_of(lost: Float[np.ndarray, "paragraph draw position"]) -> list[int]:
    """The numbers of top positions that are fewer than all."""
    return [top for top in TOPS if top < placed(lost)[1].sum()]


def top_name(words: str, top: int = TOP_POSITIONS) -> str:
    """What the share of an effect in so many top positions is called."""
    return SHARE.format(words, top, "s" if top > 1 else "")


def top_share(
    drop: Float[np.ndarray, "paragraph draw position"], top: int = TOP_POSITIONS
) -> Float[np.ndarray, " paragraph"]:
    """Share of the loss at the `top` positions, chosen on every second draw and scored on the others, both ways averaged.

    Positions that tie share what they score. nan with a single draw, which cannot choose and score at once, with no more positions
    than that, where all is in the top, or where nothing is lost.
    """
    return _top_shares(put_only(drop), [top])[0]


def _top_shares(
    drop: Float[np.ndarray, "paragraph draw position"], tops: Sequence[int]
) -> Float[np.ndarray, "top paragraph"]:
    if drop.shape[1] < 2 or max(tops, default=0) >= drop.shape[2]:
        return np.full((len(tops), len(drop)), np.nan)
    halves = drop[:, ::2].mean(1), drop[:, 1::2].mean(1)  # (paragraph, position)
    both_ways = [cumulated_share(*pair)[:, list(tops)].T for pair in (halves, halves[::-1])]
    return np.mean(both_ways, axis=0)


def shares_and_gini(
    drop: Float[np.ndarray, "paragraph draw position"], *, tops: Sequence[int]
) -> Float[np.ndarray, "quantity paragraph"]:
    """The share in each number of top positions, and last the Gini coefficient over positions of the mean over draws."""
    put = put_only(drop)
    return np.concatenate([_top_shares(put, tops), gini(put.mean(1))[None]])


def first_half_share(drop: Float[np.ndarray, "paragraph draw position"]) -> Float[np.ndarray, " paragraph"]:
    """Share of the loss in the first half of the prefix; nan where nothing is lost."""
    draws, positions = placed(drop)
    early = np.arange(len(positions)) < len(positions) // 2
    loss = drop[:, draws].mean(1)
    part, whole = (loss[:, chosen].sum(1) for chosen in (positions & early, positions))
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


@dataclass(frozen=True)
class Permuted:
    """What is left of some quantities when positions change places.

    Attributes:
        means: Of each permutation, over the paragraphs of a group that have the quantity; nan where none has.
        centre: Of each paragraph, over the permutations.
    """

    means: Float[np.ndarray, "null quantity group"]
    centre: Float[np.ndarray, "quantity paragraph"]


def permuted(
    drop: Float[np.ndarray, "paragraph draw position"],
    clusters: Int[np.ndarray, " paragraph"],
    masks: Bool[np.ndarray, "group paragraph"],
    measure: Measure,
    draws: Draws,
    *,
    draw_by_draw: bool,
) -> Permuted:
    """Quantities with positions permuted: alike in all paragraphs of a cluster, which lose much at the same places.

    Draw by draw takes away that a position loses much in every draw, as it must for what is chosen on some draws and scored on
    others. Alike in all draws takes away only where in the prefix it stands. A position where nothing was put keeps its place.

    Args:
        drop: What each replacement costs.
        clusters: The near-duplicate cluster of each paragraph.
        masks: The groups.
        measure: From the costs to the quantities.
        draws: Of the permutations.
        draw_by_draw: Whether each draw is permuted apart.
    """
    rng = np.random.default_rng([draws.seed, 7])
    _, cluster = np.unique(clusters, return_inverse=True)
    places = np.flatnonzero(placed(drop)[1])
    count, apart = int(cluster.max()) + 1, drop.shape[1] if draw_by_draw else 1
    means, total = [], 0.0
    for _ in range(draws.resamples):
        order = rng.random((count, apart, len(places))).argsort(axis=-1)[cluster]  # (paragraph, draw or 1, place)
        moved = drop.copy()
        moved[..., places] = np.take_along_axis(
            drop[..., places], np.broadcast_to(order, (*drop.shape[:2], len(places))), -1
        )
        values = measure(moved)
        means.append(np.stack([mean_inside(row, masks) for row in values]))
        total = total + values
    return Permuted(np.stack(means), np.asarray(total / draws.resamples))


def mean_inside(
    values: Float[np.ndarray, " paragraph"], masks: Bool[np.ndarray, "group paragraph"]
) -> Float[np.ndarray, " group"]:
    """Mean over the paragraphs of each group that have a value; nan where none has."""
    there = masks & ~np.isnan(values)
    count = there.sum(1)
    return np.where(count > 0, np.where(there, values, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def null_of(
    values: Float[np.ndarray, " paragraph"],
    means: Float[np.ndarray, "null group"],
    masks: Bool[np.ndarray, "group paragraph"],
    chosen: Bool[np.ndarray, " paragraph"],
) -> Null:
    """A group's mean under permuted positions; p is two-sided, by distance from the mean of the null.

    nan where positions cannot change the number, as with the Gini of a single draw.
    """
    at = int(np.flatnonzero((masks == chosen).all(1))[0])
    means, observed = means[:, at], float(mean_inside(values, masks)[at])
    if np.isnan(observed) or np.ptp(means) <= TIE:
        return NO_NULL
    centre = means.mean()
    further = np.abs(means - centre) >= np.abs(observed - centre) - TIE
    low, high = np.quantile(means, [0.025, 0.975])
    return Null.dealt(centre, low, high, (1 + further.sum()) / (1 + len(means)))


def prefix_rarity(dataset: "xr.Dataset", counts: Shaped[np.ndarray, "..."]) -> Int[np.ndarray, "paragraph position"]:
    """How rare each prefix token is: its count in the corpus, negative.

    Raises:
        SignatureError: If the signature holds no tokens, or the counts are not whole numbers, one per token of the vocabulary.
    """
    if "tokens" not in dataset.coords:
        raise SignatureError(f"{caller()}: counts is given, but the signature has no coordinate 'tokens' to look up.")
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise SignatureError(
            f"{caller()}: counts is {counts.dtype} of shape {counts.shape}; "
            "it must be whole numbers, one for each token of the vocabulary."
        )
    tokens = dataset["tokens"].transpose("paragraph", "position").values[:, : dataset.sizes["prefix_position"]]
    if tokens.max() >= len(counts):
        raise SignatureError(
            f"{caller()}: counts has {len(counts)} entries, but a prefix holds token {tokens.max()}; "
            "it must have one for each token of the vocabulary."
        )
    return -counts[tokens].astype(np.int64)


def rarity_link(
    change: Float[np.ndarray, "paragraph draw position"],
    rarity: Int[np.ndarray, "paragraph position"],
    clusters: Int[np.ndarray, " paragraph"],
) -> tuple[Float[np.ndarray, " paragraph"], Float[np.ndarray, " paragraph"]]:
    """Spearman's rho over positions between effect, draws averaged, and rarity; and the mean over other clusters' rarities.

    Rho is the product of ranks that are centred and of length 1, so that the mean over all partners is one product with their mean
    profile. nan where effect or rarity is the same everywhere, and, of the second, where there is no other cluster.
    """
    draws, positions = placed(change)
    effect, profile = (_unit_ranks(part[:, positions]) for part in (change[:, draws].mean(1), rarity.astype(float)))
    _, cluster = np.unique(clusters, return_inverse=True)
    known = ~np.isnan(profile).any(1)
    sums, counts = (
        np.zeros((cluster.max() + 1, profile.shape[1])),
        np.bincount(cluster[known], minlength=cluster.max() + 1),
    )
    np.add.at(sums, cluster[known], profile[known])
    others, count = (sums.sum(0) - sums)[cluster], (counts.sum() - counts)[cluster]
    mean = np.divide(others, count[:, None], out=np.full_like(others, np.nan), where=count[:, None] > 0)
    return (effect * profile).sum(1), np.where(known, (effect * mean).sum(1), np.nan)


def _unit_ranks(values: Float[np.ndarray, "paragraph position"]) -> Float[np.ndarray, "paragraph position"]:
    """Ranks along the positions, centred and of length 1; nan where all are equal or one is nan."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1, nan_policy="propagate")
    ranks = ranks - ranks.mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1, keepdims=True))
    return np.divide(ranks, length, out=np.full_like(ranks, np.nan), where=length > 0)
