"""Whether removing heads agrees with what their attention suggests.

That a head looks at rare tokens is a correlation. Do the heads that score higher above their null cost more when they are gone? The heads
are the sample: almost any two of them differ over paragraphs, so that one held against some others says nothing. The head whose score lies
furthest from its null is chosen on one half of the clusters; on the other half its cost is ranked among the heads of its layer and of
the model.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import head_scores
from localize.analysis.chosen_head import SCORE, ChosenHead, head_sentence, untrained_row
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.head_agreement import over_heads, rank_among_heads
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, Row, beside
from localize.analysis.sentences import Wording, sentence
from localize.errors import public
from localize.signature.schema import range_of
from localize.statistics import LEVEL, UNBOUNDED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

TOGETHER = "rank correlation of rare-token score and NLL rise over heads"
RANKS = {
    "in its layer": "rank in its layer by NLL rise without head {}",
    "in the model": "rank in the model by NLL rise without head {}",
}
NLL_RISE = "NLL rise without head {}"
EXACT_MATCH_LOST = "exact match lost without head {}"

CORRELATED = Wording(
    above="removal agrees: heads with a higher rare-token score cost more",
    below="removal disagrees: heads with a higher rare-token score cost less",
    neither="no evidence from removal: rare-token score and cost of the heads are not significantly correlated",
)
RANKED = "{head} ranks {rank:g} of {heads} {where} by what its removal costs"
COSTS_MORE = {
    1: Wording(above="", below=f"removal agrees: {RANKED}", neither=f"no evidence from removal: {RANKED}{{floor}}"),
    -1: Wording(
        above="",
        below=f"removal disagrees: {RANKED}, and attends to common tokens",
        neither=f"no evidence from removal: {RANKED}{{floor}}",
    ),
}
"""By the sign of the chosen head's score. Rank 1 costs most, so that a rank below that of a head taken at random costs more."""


@public
def causal_check(
    signature: "MemorizationSignature", *, query: str = "last_prefix", seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """Whether removing heads agrees that attention to rare tokens matters, in numbers and in words.

    The head whose rare-token score lies furthest from its mismatched null, on either side, is chosen on one half of the clusters, as in
    `summary`, by the memorized paragraphs where there are any. All that is told of it is measured on the other half.

    Args:
        signature: What was measured.
        query: Who looks: "last_prefix" or "continuation".
        seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
        resamples: Draws of each.

    Returns:
        Rows indexed by `quantity` and `group`; `verdict` says in words what each tells, from its own numbers.

        - First, for each group, Spearman's rho over all heads and paragraphs between score above null and NLL rise: the main verdict.
          Null: heads permuted within their layers.
        - The rank of the chosen `head` by its NLL rise in its layer, and in the model, 1 the costliest. Null: a head taken at random;
          `p_value` is the share of heads that cost as much, so that of 8 heads it is .125 at the least.
        - Its rare-token score, beside counts dealt out over the token types, with the choice among heads in the null.
        - Its NLL rise (nats per token) and lost exact match (tokens) beside the mean over the other heads of its layer (`null`), with
          their `difference` over paragraphs. This describes the head; it has no verdict and no p-value, since nearly any two heads
          differ.

        Intervals are by bootstrap over clusters. nan where a head was not removed.

    Raises:
        SignatureError: If the query or a measurement is not there.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    heads, ablate = "localize.rare_token_heads(model, paragraphs)", "localize.ablate(model, paragraphs)"
    removed = ("ablated_nll", "ablated_exact_match", "unperturbed_nll", "unperturbed_exact_match")
    needed = {"rare_token_score": heads, "rare_token_null": heads} | dict.fromkeys(removed, ablate)
    require(signature, needed)
    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    rows = [
        {"group": name, "head": ""} | row
        for name, row in together_rows(dataset, query, signature.groups, draws).items()
    ]
    for row in rows:
        row["verdict"] = sentence(row, CORRELATED, part="null")
    chosen = ChosenHead.of(dataset, query, seed)
    if chosen is not None:
        scores = chosen.score_rows(dataset, query, signature.groups, draws)
        for name in signature.groups:
            of_group = [*rank_rows(chosen, dataset, name, draws)]
            verdict = head_sentence(chosen.name, scores[name], untrained_row(dataset, query, name, draws))
            of_group.append(scores[name] | {"quantity": SCORE.format(chosen.name), "verdict": verdict})
            of_group += _described(chosen, dataset, name, draws)
            rows += [row | {"group": name, "head": chosen.name} for row in of_group]
    return table_of(rows, ("quantity", "group"), (*DIFFERENCE, "head", "verdict"))


def together_rows(dataset: "xr.Dataset", query: str, groups: tuple[str, ...], draws: Draws) -> dict[str, Row]:
    """Rank correlation over heads of score above null and NLL rise, in each group."""
    score, null = head_scores(dataset, query)
    group, clusters, rise = dataset["group"].values, dataset["cluster"].values, removal_effects(dataset)[0]
    rows = {}
    for name in groups:
        inside = group == name
        rows[name] = over_heads((score - null)[inside], rise[inside], clusters[inside], draws) | {"quantity": TOGETHER}
    return rows


def rank_rows(chosen: ChosenHead, dataset: "xr.Dataset", name: str, draws: Draws) -> list[Row]:
    """How the chosen head ranks by what its removal costs, in its layer and in the model, with the verdict in words."""
    rise, inside = removal_effects(dataset)[0], chosen.of_group(name)
    layer, head, sign = chosen.strongest
    among = {"in its layer": (rise[:, [layer]], (0, head)), "in the model": (rise, (layer, head))}
    rows = []
    for where, (effect, at) in among.items():
        row = rank_among_heads(effect[inside], at, chosen.clusters[inside], draws)
        heads, least = row["heads"], 1 / max(row["heads"], 1)
        floor = f", where p is {least:.3f} at the least" if least > LEVEL else ""
        words = {"head": chosen.name, "rank": row["estimate"], "heads": heads, "where": where, "floor": floor}
        verdict = sentence(row, COSTS_MORE[sign], part="null", **words)
        rows.append(row | {"quantity": RANKS[where].format(chosen.name), "verdict": verdict})
    return rows


def _described(chosen: ChosenHead, dataset: "xr.Dataset", name: str, draws: Draws) -> list[Row]:
    """What the chosen head's removal costs beside the mean over the other heads of its layer."""
    exact_match, inside = range_of(dataset, "ablated_exact_match"), chosen.of_group(name)
    possible = {NLL_RISE: UNBOUNDED, EXACT_MATCH_LOST: exact_match.minus(exact_match)}
    rows = []
    for (quantity, ends), effect in zip(possible.items(), removal_effects(dataset), strict=True):
        own, others = with_control(effect[inside], chosen.strongest.at)
        row = beside(own, others, chosen.clusters[inside], ends, draws)
        rows.append(row | {"quantity": quantity.format(chosen.name), "p_value": np.nan, "verdict": ""})
    return rows


def removal_effects(
    dataset: "xr.Dataset",
) -> tuple[Float[np.ndarray, "paragraph layer head"], Float[np.ndarray, "paragraph layer head"]]:
    """NLL rise (nats per token) and exact match lost (tokens) when each head is removed; nan for one that was not."""
    rise = dataset["ablated_nll"] - dataset["unperturbed_nll"]
    lost = dataset["unperturbed_exact_match"] - dataset["ablated_exact_match"]
    rise, lost = (effect.transpose("paragraph", "layer", "head").values.astype(float) for effect in (rise, lost))
    return rise, lost


def with_control(
    effect: Float[np.ndarray, "paragraph layer head"], at: tuple[int, int]
) -> tuple[Float[np.ndarray, " paragraph"], Float[np.ndarray, " paragraph"]]:
    """One head's effect, and the mean over the other heads of its layer that were removed."""
    layer, head = at
    others = np.delete(effect[:, layer], head, axis=1)
    count = (~np.isnan(others)).sum(1)
    mean = np.where(count > 0, np.nansum(others, axis=1) / np.maximum(count, 1), np.nan)
    return effect[:, layer, head], mean
