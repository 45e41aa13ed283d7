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
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.axes import MEMORIZED, NOT_MEMORIZED, QUERIES, REPLACED, ordered_groups
from localize.signature.causal import NLL_RISE, SCORE, removal_effects, with_control
from localize.signature.choice import choosing_half, head_name, head_scores, strongest_head
from localize.signature.compare import warn_of_few_clusters
from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    cumulated_share,
    effective_clusters,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

TOP_POSITIONS = 5
NULL_DRAWS = 200


def fingerprint(signature: "MemorizationSignature", *, seed: int) -> "pd.DataFrame":
    """One row per number and group, and one for the difference of the two main groups.

    Returns:
        Columns `estimate`, `low`, `high` (95 % by bootstrap over clusters), `null`, `null_low`, `null_high` (what nothing looks like),
        `p_value` (against that null), `paragraphs`, `effective_clusters`; indexed by `quantity` and `group`.
    """
    import pandas as pd

    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    rows: list[dict[str, Any]] = []
    if "head_gradient_max" in signature and "gradient_max" in signature:
        share = low_layer_share(dataset)
        lower = dataset.sizes["layer"] // 2 / dataset.sizes["layer"]
        rows += _rows(
            "low-layer share of the gradient", share, group, clusters, seed, lambda _: (lower, np.nan, np.nan, np.nan)
        )
    if "rare_token_score" in signature:
        rows += _head_rows(dataset, seed)
    if "replaced_nll" in signature:
        rows += _replacement_rows(dataset, seed)
    if "perturbed_exact_match" in signature:
        drop = exact_match_drop(dataset)
        for name, measure, draw_by_draw in (
            (f"perturbation effect in the top {TOP_POSITIONS} positions", top_share, True),
            ("perturbation effect in the first half", first_half_share, False),
        ):
            share, null = measure(drop), _permuted(drop, clusters, measure, seed, draw_by_draw=draw_by_draw)
            of_group = partial(_null_of, share, null)
            rows += _rows(name, share, group, clusters, seed, of_group)
    columns = ["quantity", "group", *_COLUMNS]
    return pd.DataFrame(rows, columns=columns).set_index(["quantity", "group"])


_COLUMNS = ("estimate", "low", "high", "null", "null_low", "null_high", "p_value", "paragraphs", "effective_clusters")


def low_layer_share(dataset: "xr.Dataset") -> Float[np.ndarray, " paragraph"]:
    """Share of the lower half of the layers in the sum over cells of max |gradient|, per paragraph."""
    layers = layer_sums(dataset)
    return layers[:, : layers.shape[1] // 2].sum(1) / layers.sum(1)


def layer_sums(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph layer"]:
    """max |gradient| summed over a layer's cells: every head of the attention components, and the two of the MLP."""
    heads = dataset["head_gradient_max"].sum(["attention_component", "head"])
    mlp = dataset["gradient_max"].sel(component=["W_in", "W_out"]).sum("component")
    return (heads + mlp).transpose("paragraph", "layer").values.astype(float)


def exact_match_drop(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph draw position"]:
    """Tokens of exact match lost by each replacement, at least 0."""
    lost = dataset["unperturbed_exact_match"] - dataset["perturbed_exact_match"]
    return lost.transpose("paragraph", "draw", "prefix_position").values.clip(min=0).astype(float)


def top_share(
    drop: Float[np.ndarray, "paragraph draw position"], top: int = TOP_POSITIONS
) -> Float[np.ndarray, " paragraph"]:
    """Share of the loss at the `top` positions, chosen on every second draw and scored on the others, both ways averaged.

    Positions that tie share what they score. nan with a single draw, which cannot choose and score at once, or where nothing is lost.
    """
    if drop.shape[1] < 2:
        return np.full(len(drop), np.nan)
    halves = drop[:, ::2].mean(1), drop[:, 1::2].mean(1)  # (paragraph, position)
    both_ways = [cumulated_share(*pair)[:, top] for pair in (halves, halves[::-1])]
    return np.mean(both_ways, axis=0)


def first_half_share(drop: Float[np.ndarray, "paragraph draw position"]) -> Float[np.ndarray, " paragraph"]:
    """Share of the loss in the first half of the prefix; nan where nothing is lost."""
    loss = drop.mean(1)
    return _ratio(loss[:, : loss.shape[1] // 2].sum(1), loss.sum(1))


def _ratio(
    part: Float[np.ndarray, " paragraph"], whole: Float[np.ndarray, " paragraph"]
) -> Float[np.ndarray, " paragraph"]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


Null = tuple[float, float, float, float]
"""Mean, 2.5 % and 97.5 % quantile of what nothing looks like, and the p-value against it."""


def _permuted(
    drop: Float[np.ndarray, "paragraph draw position"],
    clusters: Int[np.ndarray, " paragraph"],
    measure: Callable[[np.ndarray], np.ndarray],
    seed: int,
    *,
    draw_by_draw: bool,
) -> Float[np.ndarray, "null paragraph"]:
    """The measure with positions permuted: alike in all paragraphs of a cluster, which lose much at the same places.

    Draw by draw takes away that a position loses much in every draw, as it must for what is chosen on some draws and scored on
    others. Alike in all draws takes away only where in the prefix it stands.
    """
    rng = np.random.default_rng([seed, 7])
    _, cluster = np.unique(clusters, return_inverse=True)
    count, draws, positions = int(cluster.max()) + 1, drop.shape[1] if draw_by_draw else 1, drop.shape[2]
    nulls = []
    for _ in range(NULL_DRAWS):
        order = rng.random((count, draws, positions)).argsort(axis=-1)[cluster]  # (paragraph, draw or 1, position)
        nulls.append(measure(np.take_along_axis(drop, np.broadcast_to(order, drop.shape), axis=-1)))
    return np.stack(nulls)


def _null_of(
    share: Float[np.ndarray, " paragraph"], null: Float[np.ndarray, "null paragraph"], chosen: np.ndarray
) -> Null:
    """A group's mean under permuted positions; p is two-sided, by distance from the mean of the null."""
    measured = chosen & ~np.isnan(share)
    if not measured.any():
        return (np.nan, np.nan, np.nan, np.nan)
    means = np.nanmean(null[:, measured], axis=1)
    centre = means.mean()
    further = np.abs(means - centre) >= np.abs(share[measured].mean() - centre)
    low, high = np.quantile(means, [0.025, 0.975])
    return (float(centre), float(low), float(high), float((1 + further.sum()) / (1 + len(means))))


def _rows(
    quantity: str,
    values: Float[np.ndarray, " paragraph"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
    null: Callable[[np.ndarray], Null],
) -> list[dict[str, Any]]:
    """A row per group, and one for the difference of the two main groups under permuted labels."""
    names = ordered_groups(str(name) for name in group)
    rows = []
    for name in names:
        chosen = group == name
        interval = cluster_bootstrap(values[chosen], clusters[chosen], seed=seed)
        ends = (float(interval.estimate), float(interval.low), float(interval.high))
        rows.append(_row(quantity, name, (*ends, *null(chosen)), values, chosen, clusters))
    if (pair := main_pair(names)) is not None:
        in_a, in_b = group == pair[0], group == pair[1]
        interval = cluster_bootstrap_difference(values, in_a, in_b, clusters, seed=seed)
        test = cluster_permutation_difference(values, in_a, in_b, clusters, seed=seed)
        numbers = (interval.estimate, interval.low, interval.high, 0.0, test.null_low, test.null_high, test.p_value)
        name = f"{pair[0]} - {pair[1]}"
        rows.append(_row(quantity, name, tuple(float(n) for n in numbers), values, in_a | in_b, clusters))
    return rows


def _row(
    quantity: str, group: str, numbers: tuple, values: np.ndarray, chosen: np.ndarray, clusters: np.ndarray
) -> dict[str, Any]:
    measured = chosen & ~np.isnan(values)
    effective = effective_clusters(clusters[measured]) if measured.any() else 0.0
    return {"quantity": quantity, "group": group} | dict(
        zip(_COLUMNS, (*numbers, int(measured.sum()), effective), strict=True)
    )


def main_pair(groups: tuple[str, ...]) -> tuple[str, str] | None:
    """The two groups whose difference is told: memorized and not memorized, or the only two there are."""
    if MEMORIZED in groups and NOT_MEMORIZED in groups:
        return MEMORIZED, NOT_MEMORIZED
    return (groups[0], groups[1]) if len(groups) == 2 else None


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
        of_group = partial(_beside, values[scored], nulls[scored], clusters[scored], seed)
        name = quantity.format(head_name(dataset, at))
        rows += _rows(name, values[scored], group[scored], clusters[scored], seed, of_group)
    return rows


def _replacement_rows(dataset: "xr.Dataset", seed: int) -> list[dict[str, Any]]:
    """What replacing the rarest prefix tokens costs, beside as many common ones at like positions."""
    rise = dataset["replaced_nll"] - dataset["unperturbed_nll"]
    rarest, common = (rise.sel(replaced=which).values.astype(float) for which in REPLACED)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    of_group = partial(_beside, rarest, common, clusters, seed)
    return _rows("NLL rise with the rarest tokens replaced", rarest, group, clusters, seed, of_group)


def _beside(
    values: Float[np.ndarray, " paragraph"],
    nulls: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
    chosen: np.ndarray,
) -> Null:
    """A group's null with its interval, and p of the paired difference, signs flipped by cluster."""
    inside = cluster_bootstrap(nulls[chosen], clusters[chosen], seed=seed)
    test = cluster_sign_flip((values - nulls)[chosen], clusters[chosen], seed=seed)
    return (float(inside.estimate), float(inside.low), float(inside.high), float(test.p_value))
