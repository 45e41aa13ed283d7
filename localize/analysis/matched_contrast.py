"""The difference of two groups of paragraphs alike in loss or in confidence, for any variable that paragraphs have."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.alike import Alike, support_of
from localize.analysis.compare import per_paragraph, warn_of_few_clusters
from localize.analysis.rows import Basis, Null, row_of
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import SignatureError, caller, public
from localize.measurements import REGISTRY
from localize.signature.schema import range_of
from localize.statistics import false_discovery, matched_difference

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

LOSS, CONFIDENCE = "nll", "confidence"


@public
def matched_contrast(
    signature: "MemorizationSignature",
    variable: str,
    a: str = MEMORIZED,
    b: str = NOT_MEMORIZED,
    *,
    on: str = LOSS,
) -> "pd.DataFrame":
    """How two groups differ in a variable among paragraphs alike in loss, cell by cell.

    A variable that tells what was before a change beside it is its rise: of `perturbed_nll`, `ablated_nll`, `replaced_nll` what
    was added to the NLL.

    Args:
        signature: What was measured.
        variable: Any that paragraphs have; draws are averaged.
        a: The one group.
        b: The group subtracted from it.
        on: What paragraphs are matched on: "nll", the logarithm of their mean NLL, or "confidence", the logit of the mean probability
            of their continuation's tokens.

    Returns:
        A row for each cell, indexed by its axes, or a single one. Columns as in `summary`: the difference a - b with its interval,
        the central 95 % of it if there is none, `p_value`, `q_value` (Benjamini-Hochberg over the cells); and the column of
        what is matched on, what is left of it; `support`, the smaller share of a group that has counterparts in the other. nan
        without common support: memorized and other text often have none as whole paragraphs; see `beyond_loss` for tokens.

    Raises:
        SignatureError: If a group or the variable is not there, the variable is not measured per paragraph, or `on` is another.
    """
    from localize.analysis.tables import table_of

    a, b, dataset = signature.known_group(a), signature.known_group(b), signature.dataset
    if on not in (LOSS, CONFIDENCE):
        raise SignatureError(f"{caller()}: on={on!r} is not one of {LOSS}, {CONFIDENCE}.")
    values, possible = signature[variable].astype(float), range_of(dataset, variable)
    if (before := REGISTRY[variable].before) is not None:
        values, possible = (values - dataset[before]).rename(variable), possible.minus(range_of(dataset, before))
    values = per_paragraph(values)
    axes = [str(dim) for dim in values.dims[1:]]
    group, clusters = dataset["group"].values, dataset["cluster"].values
    in_a, in_b = group == a, group == b
    warn_of_few_clusters({a: clusters[in_a], b: clusters[in_b]})
    nll = dataset["token_nll"].values.astype(float)
    words = f"{on} of the paragraph"
    alike = Alike.in_loss(nll.mean(1), words) if on == LOSS else Alike.in_confidence(np.exp(-nll).mean(1), words)
    found = matched_difference(values.values, alike.on, in_a, in_b, clusters).within(possible)
    q_values = false_discovery(found.p_value)
    rows = []
    everyone = np.arange(len(group))
    for at in np.ndindex(*values.shape[1:]):
        cell = (slice(None), *at)
        labels = {axis: values[axis].values[place].item() for axis, place in zip(axes, at, strict=True)}
        told = {"variable": variable} | labels | {alike.column: np.nan, "support": 0.0}
        if np.isnan(found.difference.estimate[at]):
            rows.append(told | row_of(matched_on=words))
            continue
        there = ~np.isnan(values.values[cell])
        (one, own_one), (other, own_other) = (
            support_of(found.weights[cell], inside & there, alike, clusters, everyone) for inside in (in_a, in_b)
        )
        effective = min(one.effective_clusters, other.effective_clusters)
        basis = Basis(one.n + other.n, len(np.unique(clusters[found.weights[cell] > 0])), effective)
        null = Null.dealt(0.0, found.null_low[at], found.null_high[at], found.p_value[at], found.rough[at])
        told[alike.column] = own_one[alike.column] - own_other[alike.column]
        told["support"] = min(own_one["support"], own_other["support"])
        row = row_of(found.difference[at], null, basis, matched_on=words)
        rows.append(told | row | {"q_value": float(q_values[at])})
    return table_of(rows, ("variable", *axes), (alike.column, "support"))
