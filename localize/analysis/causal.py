"""Whether removing heads confirms what their attention suggests.

That a head looks at rare tokens is a correlation. So the head that scores highest above its null is chosen on one half of the
clusters, and on the other half its removal is held against the removal of the other heads of its layer. And over all heads: do those
that score higher above their null cost more when they are gone?
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import head_name, head_scores, strongest_head
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.head_agreement import over_heads
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, Row, beside, side
from localize.errors import public
from localize.signature.schema import range_of
from localize.statistics import LEVEL, MINUS_ONE_TO_ONE, UNBOUNDED, choosing_half

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

SCORE = "rare-token score of head {}"
NLL_RISE = "NLL rise without head {}"
EXACT_MATCH_LOST = "exact match lost without head {}"
TOGETHER = "rank correlation of rare-token score and NLL rise over heads"

ABOVE = "scores above its null"
NOT_ABOVE = "does not score above its null: nothing to confirm"
CONFIRMED = "removal confirms: costs more than the layer's other heads"
UNCONFIRMED = "removal does not confirm: costs what the layer's other heads do, as far as can be told"
CONTRADICTED = "removal contradicts: costs less than the layer's other heads"
NOT_ASKED = "removal costs more, but the head does not score above its null"
NOT_ASKED_EITHER = "removal costs less, and the head does not score above its null"
UNKNOWN = "not known: not measured, or a single cluster"
GO_TOGETHER = "removal confirms: heads that score higher cost more"
GO_APART = "removal does not confirm: inside the null"
OPPOSED = "removal contradicts: heads that score higher cost less"


@public
def causal_check(
    signature: "MemorizationSignature", *, query: str = "last_prefix", seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """Whether removing heads confirms that attention to rare tokens matters, in numbers and in words.

    The head with the highest rare-token score above its mismatched null is chosen on one half of the clusters, as in
    `summary`, by the memorized paragraphs where there are any. All that is told of it is measured on the other half.

    Args:
        signature: What was measured.
        query: Who looks: "last_prefix" or "continuation".
        seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
        resamples: Draws of each.

    Returns:
        Four rows per group, indexed by `quantity` and `group`: of the chosen `head` its rare-token score beside its null,
        and its NLL rise (nats per token) and lost exact match (tokens) when it is removed beside the mean over the other
        heads of its layer (`null`). Each has `difference` with its 95 % interval by bootstrap over clusters and
        `p_value` by flipping the sign of whole clusters. And, over all heads and paragraphs, Spearman's rho between
        score above null and NLL rise; null: heads permuted within their layers. Other columns as in all
        tables; `verdict` says in words whether removal confirms the correlation. nan where a head was not removed.

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
    score, null = head_scores(dataset, query)
    rise, lost = removal_effects(dataset)
    exact_match = range_of(dataset, "ablated_exact_match")
    possible = {SCORE: MINUS_ONE_TO_ONE, NLL_RISE: UNBOUNDED, EXACT_MATCH_LOST: exact_match.minus(exact_match)}
    at = strongest_head(score - null, group, clusters, seed)
    chose, rows = choosing_half(clusters, seed), []
    for name in signature.groups:
        inside = group == name
        if at is not None:
            told, rest = {"group": name, "head": head_name(dataset, at)}, inside & ~chose
            pairs = {SCORE: (score[:, *at], null[:, *at])}
            pairs |= {NLL_RISE: with_control(rise, at), EXACT_MATCH_LOST: with_control(lost, at)}
            tested = {
                quantity: beside(own[rest], other[rest], clusters[rest], possible[quantity], draws)
                for quantity, (own, other) in pairs.items()
            }
            verdicts = _verdicts(*(tested[quantity] for quantity in pairs))
            for (quantity, row), verdict in zip(tested.items(), verdicts, strict=True):
                rows.append(told | row | {"quantity": quantity.format(told["head"]), "verdict": verdict})
        row = over_heads((score - null)[inside], rise[inside], clusters[inside], draws)
        rows.append(row | {"group": name, "head": "", "quantity": TOGETHER, "verdict": _together(row)})
    return table_of(rows, ("quantity", "group"), (*DIFFERENCE, "head", "verdict"))


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


def _verdicts(score: Row, rise: Row, lost: Row) -> tuple[str, str, str]:
    """What the three differences say, each by where its interval lies and whether chance alone would do as much."""
    sides = [side(row["difference_low"], row["difference_high"], row["p_value"]) for row in (score, rise, lost)]
    above = sides[0] == 1
    named = {
        0: UNCONFIRMED,
        -1: CONTRADICTED if above else NOT_ASKED_EITHER,
        None: UNKNOWN,
        1: CONFIRMED if above else NOT_ASKED,
    }
    first = UNKNOWN if sides[0] is None else ABOVE if sides[0] == 1 else NOT_ABOVE
    return first, named[sides[1]], named[sides[2]]


def _together(row: Row) -> str:
    if np.isnan(row["p_value"]):
        return UNKNOWN
    if row["p_value"] > LEVEL:
        return GO_APART
    return GO_TOGETHER if row["estimate"] > row["null"] else OPPOSED
