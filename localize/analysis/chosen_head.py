"""The head that scores furthest from its null, chosen on some clusters, and on the others what its score is held against.

Two nulls, each with the choice among the heads in it: token counts dealt out over the token types, and the best heads of models with
random weights. A head is called one that attends to rare, or to common, tokens if it is beyond both.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.analysis.choice import StrongestHead, choosers, head_name, head_scores, mean_measured, strongest_head
from localize.analysis.dealt_counts import dealt_scores
from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Basis, Null, Row, row_of
from localize.analysis.sentences import Wording, sentence
from localize.axes import MEMORIZED, QUERIES
from localize.statistics import LEVEL, MINUS_ONE_TO_ONE, choosing_half

if TYPE_CHECKING:
    import xarray as xr

SCORE = "rare-token score of head {}"
SCORES = ("rare_token_score_untrained", "rare_token_null_untrained")
UNTRAINED = "rare-token score above mismatched rarity of head {}"

FOUND = Wording(
    above="{head} attends to rare tokens, beyond {nulls}",
    below="{head} attends to common tokens and not to rare ones, beyond {nulls}",
    neither="no head found that attends to rare or common tokens: the strongest, {head}, is not beyond {nulls}",
)


@dataclass(frozen=True, eq=False)
class ChosenHead:
    """A head, who chose it, and on which paragraphs it is told.

    Attributes:
        strongest: Where it stands, and on which side of its null.
        name: "L1.H2".
        score: Rare-token scores of all heads.
        mismatched: The same attention against the rarity of other paragraphs.
        choosing: The paragraphs that chose it.
        told: Those of the other clusters.
        group: The group of each paragraph.
        clusters: The near-duplicate cluster of each.
    """

    strongest: StrongestHead
    name: str
    score: Float[np.ndarray, "paragraph layer head"]
    mismatched: Float[np.ndarray, "paragraph layer head"]
    choosing: Bool[np.ndarray, " paragraph"]
    told: Bool[np.ndarray, " paragraph"]
    group: Shaped[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " paragraph"]

    @classmethod
    def of(cls, dataset: "xr.Dataset", query: str, seed: int) -> "ChosenHead | None":
        """Choose it; None where no head has a score, or a single cluster cannot both choose and be told of."""
        score, mismatched = head_scores(dataset, query)
        group, clusters = dataset["group"].values, dataset["cluster"].values
        choosing = choosers(group, clusters, seed)
        strongest = strongest_head(score - mismatched, choosing)
        if strongest is None:
            return None
        name, told = head_name(dataset, strongest.at), ~choosing_half(clusters, seed)
        return cls(strongest, name, score, mismatched, choosing, told, group, clusters)

    def of_group(self, name: str) -> Bool[np.ndarray, " paragraph"]:
        """The paragraphs of a group that it is told on."""
        return self.told & (self.group == name)

    def dealt_nulls(self, dataset: "xr.Dataset", query: str, groups: tuple[str, ...], seed: int) -> dict[str, Null]:
        """For each group what its score is held against: its position's part, and counts dealt out over token types."""
        sets = [self.choosing, *(self.of_group(name) for name in groups)]
        dealt = dealt_scores(dataset, query, sets, seed)
        if dealt is None:
            return dict.fromkeys(groups, NO_NULL)
        position = [mean_measured(self.mismatched[inside])[self.strongest.at] for inside in sets]
        return {
            name: dealt.null_of_choice(self.strongest, 0, told, position[told]) for told, name in enumerate(groups, 1)
        }

    def score_rows(self, dataset: "xr.Dataset", query: str, groups: tuple[str, ...], draws: Draws) -> dict[str, Row]:
        """The score in each group beside counts dealt out."""
        nulls, rows = self.dealt_nulls(dataset, query, groups, draws.seed), {}
        for name in groups:
            inside = self.of_group(name)
            values, clusters = self.score[inside][:, *self.strongest.at], self.clusters[inside]
            rows[name] = row_of() if np.isnan(values).all() else row_of(
                draws.mean(values, clusters).within(MINUS_ONE_TO_ONE), nulls[name], Basis.of(clusters[~np.isnan(values)])
            )  # fmt: skip
        return rows


def untrained_row(dataset: "xr.Dataset", query: str, name: str, draws: Draws) -> Row | None:
    """The strongest head's score above mismatched rarity beside those of the strongest heads of models with random weights.

    All are chosen and told on the same paragraphs: those that the untrained models read.

    Args:
        dataset: Of a signature.
        query: Who looks; untrained models were measured from the last prefix token alone.
        name: The group that they are told on.
        draws: Of the bootstrap, and the seed of the half that chooses.

    Returns:
        A row with `head`, `sign` and `models`; p is the share of models, this one among them, whose strongest head reaches as far in
        the direction in which it was chosen. None where that was not measured.
    """
    if not set(SCORES) <= set(dataset) or query != QUERIES[0]:
        return None
    axes = ("untrained_model", "paragraph", "layer", "head")
    scores, nulls = (dataset[which].transpose(*axes).values.astype(float) for which in SCORES)
    untrained = scores - nulls
    there = ~np.isnan(untrained).all((0, 2, 3))
    group, clusters = dataset["group"].values, dataset["cluster"].values
    choosing = choosers(group, clusters, draws.seed) & there
    told = ~choosing_half(clusters, draws.seed) & (group == name) & there
    score, mismatched = head_scores(dataset, query)
    own = _told(score - mismatched, choosing, told)
    reached = [each[1] for each in (_told(above, choosing, told) for above in untrained) if each is not None]
    if own is None or not reached:
        return None
    (at, sign), observed = (own[0].at, own[0].sign), own[1]
    p_value = (1 + (np.array(reached) >= observed).sum()) / (1 + len(reached))
    low, high = np.sort(sign * np.quantile(reached, [0.025, 0.975]))
    null = Null.dealt(sign * np.mean(reached), low, high, p_value)
    values = (score - mismatched)[told][:, *at]
    interval = draws.mean(values, clusters[told]).within(MINUS_ONE_TO_ONE.minus(MINUS_ONE_TO_ONE))
    row = row_of(interval, null, Basis.of(clusters[told][~np.isnan(values)]))
    return row | {"head": head_name(dataset, at), "sign": sign, "models": len(reached)}


def _told(
    above: Float[np.ndarray, "paragraph layer head"],
    choosing: Bool[np.ndarray, " paragraph"],
    told: Bool[np.ndarray, " paragraph"],
) -> tuple[StrongestHead, float] | None:
    """The strongest head on some paragraphs, and its mean on others in the direction in which it was chosen."""
    chosen = strongest_head(above, choosing)
    mean = np.nan if chosen is None else mean_measured(above[told])[chosen.at]
    return None if chosen is None or np.isnan(mean) else (chosen, chosen.sign * float(mean))


def reference_groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    """The groups that sentences about the chosen head are of: the memorized, which chose it, or each where there is no such group."""
    return (MEMORIZED,) if MEMORIZED in groups else groups


def head_sentence(name: str, score: Row, untrained: Row | None) -> str:
    """Whether the head attends to rare or to common tokens: beyond both nulls, or, where only one was measured, beyond that.

    The p-value is the larger of the two, as both must be passed.
    """
    p_values = {"counts dealt out over token types": score["p_value"]}
    if untrained is not None:
        least, count = 1 / (1 + untrained["models"]), untrained["models"]
        floor = f", {least:.3f} at the least" if least > LEVEL / 5 else ""
        p_values[f"the strongest heads of {count} models with random weights"] = untrained["p_value"]
    else:
        floor = ""
    known = {words: p for words, p in p_values.items() if not np.isnan(p)}
    nulls = " and ".join(f"{words} (p = {p:.3f}{floor if 'random' in words else ''})" for words, p in known.items())
    return sentence(
        score | {"p_value": max(known.values(), default=np.nan)}, FOUND, part="null", head=name, nulls=nulls
    )
