"""Whether attribution patching, one gradient for all sites, tells what patching each of them does.

Inside each paragraph, over its sites. A head that matters in every paragraph is found by the estimate of any of them: so beside each
number stands how one paragraph's estimate agrees with the effects in paragraphs from other clusters.
"""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.patching import cells_of, chosen_labels, parts_measured, strength_sign
from localize.analysis.rows import DIFFERENCE, Row, beside
from localize.analysis.sentences import NOT_KNOWN, Wording, sentence
from localize.errors import public
from localize.statistics import MINUS_ONE_TO_ONE, UNBOUNDED, ZERO_TO_ONE

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

SPEARMAN = "Spearman's rho over sites"
PEARSON = "Pearson's r over sites"
SLOPE = "slope of the effect on the estimate"
SIGN = "share of sites with the same sign"
TOP_1 = "strongest site is the estimate's strongest"
TOP_5 = "strongest site is among the estimate's 5 strongest"
MEASURES = {
    SPEARMAN: MINUS_ONE_TO_ONE,
    PEARSON: MINUS_ONE_TO_ONE,
    SLOPE: UNBOUNDED,
    SIGN: ZERO_TO_ONE,
    TOP_1: ZERO_TO_ONE,
    TOP_5: ZERO_TO_ONE,
}
"""Where each can lie."""
TOP = {TOP_1: 1, TOP_5: 5}

BETTER = "agrees with the effects in its own paragraph more than with those in others"
NO_BETTER = "agrees with the effects in its own paragraph and in others alike: no significant difference"
WORSE = "agrees with the effects in other paragraphs more than with those in its own"
WORDING = Wording(BETTER, WORSE, NO_BETTER)

PAIRS_AT_ONCE = 2**20
"""How many pairs of paragraphs are held together: 8 MB a measure."""


@public
def patch_agreement(
    signature: "MemorizationSignature",
    *,
    metric: str | None = None,
    direction: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Whether attribution patching, one gradient for all sites, tells what patching each of them does.

    Args:
        signature: What was measured.
        metric: "first_changed", "continuation", or None for all there are.
        direction: "denoising", "noising", or None for both.
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Six rows for heads and for streams, each direction, metric and group, indexed by `quantity`, `part`, `direction`,
        `metric`, `group`. Over the sites inside each paragraph, then a mean over paragraphs: Spearman's rho, Pearson's r, the
        slope of the effect on the estimate, the share of sites of the same sign, and whether the strongest site is the
        estimate's strongest, or among its 5. `null`: one paragraph's estimate with the effects in paragraphs from other
        clusters of its group, on average over all of them, which keeps what all paragraphs share. Other columns as in
        `causal_check`, and `sites`, how many are compared.

    Raises:
        SignatureError: If the metric, direction or a measurement is not there.

    Source:
        Nanda 2023; Syed et al. 2023. The null: ours.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    parts, dataset = parts_measured(signature, "estimate"), signature.dataset
    directions = chosen_labels(dataset, "direction", direction)
    metrics = chosen_labels(dataset, "metric", metric)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    rows: list[Row] = []
    for part, way, judged in product(parts, directions, metrics):
        estimate, exact = (
            strength_sign(way) * cells_of(dataset, name, part, direction=way, metric=judged)
            for name in ("estimate", "effect")
        )
        if np.isnan(exact).all():
            continue  # not asked for
        estimate, exact = (values.reshape(len(values), -1) for values in (estimate, exact))
        for name in signature.groups:
            inside = group == name
            found, sites = site_agreement(estimate[inside], exact[inside], clusters[inside])
            told = {"part": part, "direction": way, "metric": judged, "group": name, "sites": sites}
            for quantity, (own, other) in found.items():
                row = beside(own, other, clusters[inside], MEASURES[quantity], draws)
                rows.append(told | row | {"quantity": quantity, "verdict": verdict(quantity, row)})
    index = ("quantity", "part", "direction", "metric", "group")
    return table_of(rows, index, (*DIFFERENCE, "sites", "verdict"))


def site_agreement(
    estimate: Float[np.ndarray, "paragraph site"],
    exact: Float[np.ndarray, "paragraph site"],
    clusters: Int[np.ndarray, " paragraph"],
) -> tuple[dict[str, tuple[Float[np.ndarray, " paragraph"], Float[np.ndarray, " paragraph"]]], int]:
    """Each of `MEASURES`, of a paragraph's estimate with its own effects, and on average with those from other clusters.

    Args:
        estimate: Estimated effects, the strongest the largest.
        exact: Effects as they are.
        clusters: The near-duplicate cluster of each paragraph.

    Returns:
        Both of each measure, nan for a paragraph that lacks an effect at a site which others have, and where a row is constant;
        and the number of sites compared.
    """
    asked = ~np.isnan(exact).all(0) & ~np.isnan(estimate).all(0)
    estimate, exact = estimate[:, asked], exact[:, asked]
    there = np.flatnonzero(~np.isnan(estimate).any(1) & ~np.isnan(exact).any(1))
    found = {name: (np.full(len(exact), np.nan), np.full(len(exact), np.nan)) for name in MEASURES}
    sites = int(asked.sum())
    if not len(there) or not sites:
        return found, sites
    estimate, exact, clusters = estimate[there], exact[there], clusters[there]
    sides, at_once = Sides(exact), max(1, PAIRS_AT_ONCE // len(there))
    for start in range(0, len(there), at_once):
        rows = np.arange(start, min(start + at_once, len(there)))
        others = clusters[rows, None] != clusters
        for name, pairs in pair_measures(estimate[rows], sides).items():
            own, other = found[name]
            own[there[rows]] = pairs[np.arange(len(rows)), rows]
            other[there[rows]] = _mean_where(pairs, others & ~np.isnan(pairs))
    return found, sites


class Sides:
    """What is worked out once of some paragraphs' estimates or effects.

    Attributes:
        centred: Less their mean over sites.
        unit: The same at length 1; nan where constant.
        ranked: Their ranks, so.
        signs: Where they are positive, zero, negative.
        strongest: The site that does most.
    """

    def __init__(self, values: Float[np.ndarray, "paragraph site"]):
        self.centred = centred(values)
        self.unit = at_length_one(self.centred)
        self.ranked = at_length_one(centred(ranks(values, "average")))
        self.signs = [np.sign(values) == sign for sign in (1, 0, -1)]
        self.strongest = values.argmax(1)


def pair_measures(
    estimate: Float[np.ndarray, "row site"], exact: Sides
) -> dict[str, Float[np.ndarray, "row paragraph"]]:
    """Every measure between every row of estimates and the effects of every paragraph."""
    own, sites = Sides(estimate), estimate.shape[1]
    squares = (own.centred**2).sum(1, keepdims=True)
    moves = own.centred @ exact.centred.T
    same = sum(a.astype(float) @ b.T.astype(float) for a, b in zip(own.signs, exact.signs, strict=True))
    measures = {
        SPEARMAN: (own.ranked @ exact.ranked.T).clip(-1, 1),
        PEARSON: (own.unit @ exact.unit.T).clip(-1, 1),
        SLOPE: np.divide(moves, squares, out=np.full(moves.shape, np.nan), where=squares > 0),
        SIGN: same / sites,
    }
    # Sites that tie in the estimate for the last places share them.
    upto, below = ranks(estimate, "max"), ranks(estimate, "min") - 1
    for name, top in TOP.items():
        share = ((top - (sites - upto)) / (upto - below)).clip(0, 1)
        measures[name] = np.where(np.isnan(exact.unit[:, 0]), np.nan, share[:, exact.strongest])
    return measures


def centred(values: Float[np.ndarray, "paragraph site"]) -> Float[np.ndarray, "paragraph site"]:
    """Each row less its mean; exactly 0 where all are equal, although their mean may be rounded."""
    constant = (values == values[:, :1]).all(1, keepdims=True)
    return np.where(constant, 0.0, values - values.mean(1, keepdims=True))


def at_length_one(values: Float[np.ndarray, "paragraph site"]) -> Float[np.ndarray, "paragraph site"]:
    """Centred rows over their L2 norm; nan where there is no spread."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.full(values.shape, np.nan), where=length > 0)


def ranks(values: Float[np.ndarray, "paragraph site"], ties: str) -> Float[np.ndarray, "paragraph site"]:
    """Ranks along each row from 1, the smallest; ties by scipy's word for them."""
    from scipy.stats import rankdata

    return rankdata(values, method=ties, axis=1).astype(float)


def _mean_where(
    values: Float[np.ndarray, "row paragraph"], chosen: Bool[np.ndarray, "row paragraph"]
) -> Float[np.ndarray, " row"]:
    """Mean of the chosen ones; nan where there are none."""
    count = chosen.sum(1)
    total = np.where(chosen, values, 0.0).sum(1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def verdict(quantity: str, row: Row) -> str:
    """What a difference from other paragraphs says; a slope has 1 to be held against, and no verdict."""
    if quantity == SLOPE:
        return ""
    return NOT_KNOWN if np.isnan(row["p_value"]) else sentence(row, WORDING, part="difference")
