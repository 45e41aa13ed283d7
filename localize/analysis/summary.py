"""The fingerprint of memorization in a few numbers, each with its interval and its null.

- *Low-layer share*: how much of a paragraph's gradient, summed over cells (heads of W_Q W_K W_V W_O, and W_in, W_out) as max |g|,
  lies in the lower half of the layers. Null of the difference between groups: labels permuted over clusters; beside a single group
  stands what a profile even over layers has, which is a landmark, not a test.
- *Strongest rare-token head*: chosen on one half of the clusters, scored on the other. Null: the same head's attention against the
  rarity of paragraphs from other clusters. And, where heads were removed, the *NLL rise without it*, on the same half: beside it stands
  what removing the other heads of its layer costs, because a score is a correlation. In NLL, because text that is said with less
  confidence loses its exact match to almost any change.
- *NLL rise with the rarest tokens replaced*; beside it as many common ones at like positions.
- *Perturbation effect in the top 5 positions*, and *in the first half of the prefix*: the share of the lost exact match. The top positions
  are chosen on some draws and scored on the others. Null: positions permuted, for the top positions in each draw apart.
- *Lost exact match, first position left out*, which the paper never replaces; and, of the two main groups, the *share of tokens made
  wrong, matched on each token's confidence* before the change: "harder to corrupt" may be "surer to begin with". See
  `localize.analysis.matching`.
- *Share of the gap restored by a head activation*: of the rise in NLL by a changed token, what putting that one activation of the
  unchanged run in takes back. The activation is each group's strongest, chosen on one half of the clusters and told on the other; null:
  as large a change in a random direction.
"""

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.causal import NLL_RISE, SCORE, removal_effects, with_control
from localize.analysis.choice import head_name, head_scores, strongest_head
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.concentration import TOP_POSITIONS, Told
from localize.analysis.effects import exact_match_drop
from localize.analysis.matching import lost_match_rows
from localize.analysis.patching import SHARE, patch_table
from localize.analysis.rows import COLUMNS, RESAMPLES, null_beside, rows_of
from localize.axes import DIRECTIONS, QUERIES, REPLACED
from localize.statistics import MINUS_ONE_TO_ONE, UNBOUNDED, ZERO_TO_ONE
from localize.statistics.clusters import choosing_half

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

RESTORED = "share of the gap restored by head activation {}"

NULL_DRAWS = 200
"""Permutations of positions."""


def summary(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """The fingerprint in a few numbers, for each group and their difference; see `localize.analysis.summary`."""
    import pandas as pd

    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    rows: list[dict[str, Any]] = []
    if "head_gradient_max" in signature and "gradient_max" in signature:
        share = low_layer_share(dataset)
        lower = dataset.sizes["layer"] // 2 / dataset.sizes["layer"]
        null = (lower, np.nan, np.nan, np.nan)
        rows += rows_of("low-layer share of the gradient", share, group, clusters, seed, lambda _: null, ZERO_TO_ONE)
    if "rare_token_score" in signature:
        rows += _head_rows(dataset, seed)
    if "replaced_nll" in signature:
        rows += _replacement_rows(dataset, seed)
    if "perturbed_exact_match" in signature:
        told = Told(group, clusters, seed, RESAMPLES, NULL_DRAWS)
        drop = exact_match_drop(dataset)
        rows += told.top(f"perturbation effect in the top {TOP_POSITIONS} positions", drop)
        rows += told.first_half("perturbation effect in the first half", drop)
        rows += lost_match_rows(dataset, seed)
    if "head_patch_null" in signature and "first_changed" in signature["head_patch_null"]["metric"]:
        rows += _patch_rows(signature, seed)
    return pd.DataFrame(rows, columns=["quantity", "group", *COLUMNS]).set_index(["quantity", "group"])


def low_layer_share(dataset: "xr.Dataset") -> Float[np.ndarray, " paragraph"]:
    """Share of the lower half of the layers in the sum over cells of max |gradient|, per paragraph."""
    layers = layer_sums(dataset)
    return layers[:, : layers.shape[1] // 2].sum(1) / layers.sum(1)


def layer_sums(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph layer"]:
    """max |gradient| summed over a layer's cells: every head of the attention components, and the two of the MLP."""
    heads = dataset["head_gradient_max"].sum(["attention_component", "head"])
    mlp = dataset["gradient_max"].sel(component=["W_in", "W_out"]).sum("component")
    return (heads + mlp).transpose("paragraph", "layer").values.astype(float)


def _head_rows(dataset: "xr.Dataset", seed: int) -> list[dict[str, Any]]:
    """The head that scores highest above its mismatched null on one half of the clusters, scored on the other half.

    Who looks is the last token of the prefix. Where heads were removed, what its removal costs follows, beside what removing the
    other heads of its layer does.
    """
    score, null = head_scores(dataset, QUERIES[0])
    group, clusters = dataset["group"].values, dataset["cluster"].values
    at = strongest_head(score - null, group, clusters, seed)
    if at is None:
        return []
    pairs = {SCORE: (score[:, *at], null[:, *at])}
    if "ablated_nll" in dataset:
        pairs[NLL_RISE] = with_control(removal_effects(dataset)[0], at)
    scored, rows = ~choosing_half(clusters, seed), []
    for quantity, (values, nulls) in pairs.items():
        possible = MINUS_ONE_TO_ONE if quantity == SCORE else UNBOUNDED
        of_group = partial(null_beside, values[scored], nulls[scored], clusters[scored], seed, possible)
        name = quantity.format(head_name(dataset, at))
        rows += rows_of(name, values[scored], group[scored], clusters[scored], seed, of_group, possible)
    return rows


def _patch_rows(signature: "MemorizationSignature", seed: int) -> list[dict[str, Any]]:
    """How much of what a changed token raises the NLL by each group's strongest head activation restores."""
    if DIRECTIONS[0] not in signature["head_patch_null"]["direction"]:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few clusters: told above
        table = patch_table(signature, direction=DIRECTIONS[0], seed=seed)
    found = table.xs(SHARE.format("head activation"), level="quantity").reset_index()
    return [
        {"quantity": RESTORED.format(row["site"]), **{name: row[name] for name in ("group", *COLUMNS)}}
        for row in found.to_dict("records")
        if row["site"]
    ]


def _replacement_rows(dataset: "xr.Dataset", seed: int) -> list[dict[str, Any]]:
    """What replacing the rarest prefix tokens costs, beside as many common ones at like positions."""
    rise = dataset["replaced_nll"] - dataset["unperturbed_nll"]
    rarest, common = (rise.sel(replaced=which).values.astype(float) for which in REPLACED)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    of_group = partial(null_beside, rarest, common, clusters, seed, UNBOUNDED)
    return rows_of("NLL rise with the rarest tokens replaced", rarest, group, clusters, seed, of_group, UNBOUNDED)
