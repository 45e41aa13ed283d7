"""Rows of a table for two groups among what is alike in something: confidence, or loss."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.analysis.rows import NO_NULL, Basis, Null, Row, difference_name, row_of
from localize.statistics import Range, matched_difference

LEAST_LOSS = 1e-9
"""An NLL that is smaller, in nats, is rounding of 0, which has no logarithm."""

MOST_CERTAIN = 1 - 1e-6
"""Probabilities nearer to 0 or 1 are one."""


@dataclass(frozen=True, eq=False)
class Alike:
    """What rows of two groups are matched on.

    Attributes:
        words: What it is.
        column: The column that tells the mean of it among what is compared.
        shown: Of each row, in its own unit.
        on: The same on a scale on which equal steps count alike.
    """

    words: str
    column: str
    shown: Float[np.ndarray, " row"]
    on: Float[np.ndarray, " row"]

    @classmethod
    def in_loss(cls, nll: Float[np.ndarray, " row"], words: str) -> "Alike":
        """Matched on an NLL's logarithm."""
        return cls(words, "nll", nll, np.log(np.maximum(nll, LEAST_LOSS)))

    @classmethod
    def in_confidence(cls, confidence: Float[np.ndarray, " row"], words: str) -> "Alike":
        """Matched on a probability's logit."""
        inside = confidence.clip(1 - MOST_CERTAIN, MOST_CERTAIN)
        return cls(words, "confidence", confidence, np.log(inside) - np.log1p(-inside))


def matched_rows(
    quantity: str,
    values: Float[np.ndarray, " row"],
    group: Shaped[np.ndarray, " row"],
    clusters: Int[np.ndarray, " row"],
    pair: tuple[str, str],
    possible: Range,
    alike: Alike,
    paragraph: Int[np.ndarray, " row"] | None = None,
) -> list[Row]:
    """A row per group and one for their difference, on the common support: what has a counterpart.

    Args:
        quantity: Its name in the table.
        values: One number per paragraph, or per token or set of tokens.
        group: The group of each.
        clusters: The near-duplicate cluster of each.
        pair: The groups compared.
        possible: Where the values can lie at all.
        alike: What they are matched on.
        paragraph: Which paragraph each row is of; None if each is one.
    """
    masks = [(group == name) & ~np.isnan(values) & ~np.isnan(alike.on) for name in pair]
    paragraph = np.arange(len(values)) if paragraph is None else paragraph
    names, about = (*pair, difference_name(*pair)), {"quantity": quantity, "verdict": ""}
    found = None
    if all(mask.any() for mask in masks):
        found = matched_difference(values, alike.on, masks[0], masks[1], clusters).within(possible)
    if found is None or np.isnan(found.difference.estimate):
        nothing = {alike.column: np.nan, "support": 0.0} | row_of(matched_on=alike.words)
        return [about | {"group": name} | nothing for name in names]
    sides = [support_of(found.weights, mask, alike, clusters, paragraph) for mask in masks]
    (one, own_one), (other, own_other) = sides
    used = found.weights > 0
    effective = min(one.effective_clusters, other.effective_clusters)
    both = Basis(one.n + other.n, len(np.unique(clusters[used])), effective)
    own = {
        alike.column: own_one[alike.column] - own_other[alike.column],
        "support": min(own_one["support"], own_other["support"]),
    }
    null = Null.dealt(0.0, found.null_low, found.null_high, found.p_value, found.rough)
    told = (
        (found.mean_a, NO_NULL, one, own_one), (found.mean_b, NO_NULL, other, own_other), (found.difference, null, both, own),
    )  # fmt: skip
    return [
        about | {"group": name} | columns | row_of(interval, against, basis, matched_on=alike.words)
        for name, (interval, against, basis, columns) in zip(names, told, strict=True)
    ]


def support_of(
    weights: Float[np.ndarray, " row"],
    inside: Bool[np.ndarray, " row"],
    alike: Alike,
    clusters: Int[np.ndarray, " row"],
    paragraph: Int[np.ndarray, " row"],
) -> tuple[Basis, dict[str, float]]:
    """How much of a group has a counterpart: in paragraphs, in effective clusters as they are weighted, as a share of its rows."""
    used = inside & (weights > 0)
    weights = weights[used]
    of_cluster = np.bincount(np.unique(clusters[used], return_inverse=True)[1], weights=weights)
    effective = float(of_cluster.sum() ** 2 / (of_cluster**2).sum())
    basis = Basis(len(np.unique(paragraph[used])), len(of_cluster), effective)
    return basis, {alike.column: float(weights @ alike.shown[used]), "support": float(used.sum() / inside.sum())}
