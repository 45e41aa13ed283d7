"""Whether two measurements of a model's heads go together: gradient and attention to rare tokens, attention and removal.

- *Rank correlation over heads*: Spearman's rho between two means per head. Null: heads permuted within their layers, which keeps
  what layers differ in, so that two measurements that both favour low layers are not called alike for that.
- *The head with most gradient*: chosen on one half of the clusters, ranked and scored by its attention to rare tokens on the other.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.choice import head_name, head_scores, largest, mean_measured
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Basis, Null, Row, beside, row_of
from localize.errors import SignatureError, caller, public
from localize.statistics import MINUS_ONE_TO_ONE, Range, choosing_half

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

CORRELATION = "rank correlation of gradient and rare-token score over heads"
RANK = "rare-token rank of the head with most gradient"
SCORE = "rare-token score of the head with most gradient"

FEWEST_HEADS = 3
"""With fewer there is no rank correlation worth the name."""

ROUNDING = 1e-12
"""Two rank correlations, or means of them, that differ by less are equal."""


@public
def head_agreement(
    signature: "MemorizationSignature",
    group: str | None = None,
    *,
    component: str | None = "W_V",
    query: str = "last_prefix",
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Whether the heads that carry most gradient are those that look at rare tokens.

    Args:
        signature: What was measured.
        group: One group, or None for each.
        component: Whose gradient: W_Q, W_K, W_V or W_O of a head, or None for the four together.
        query: Who looks: "last_prefix" or "continuation".
        seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
        resamples: Draws of each.

    Returns:
        Three rows per group, indexed by `quantity` and `group`, with the columns of all tables and `head`, `heads` (how many
        are ranked), `left_out` (how many have no score, because they attend evenly):

        - Spearman's rho over heads between mean gradient share and mean rare-token score; null: heads permuted within
          their layers. Noise in the means pulls rho toward 0, so that few paragraphs show less agreement than there is.
        - The head with most gradient, chosen on one half of the group's clusters: its rank by rare-token score on the
          other half, 1 the highest; null: a head taken at random, `p_value` the chance that it ranks as high.
        - Its score there, beside its own mismatched null; `p_value` by flipping the sign of whole clusters.

    Raises:
        SignatureError: If the group, component, query or a measurement is not there.

    Source:
        Stoehr et al. 2024 find one head (W_V of head 2, layer 1) both most salient and most rare-token. The test is ours.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    groups = signature.groups if group is None else (signature.known_group(group),)
    of_heads = "localize.rare_token_heads(model, paragraphs)"
    needed = {"rare_token_score": of_heads, "rare_token_null": of_heads}
    require(signature, {"head_gradient_share": "localize.gradients(model, paragraphs)"} | needed)
    dataset = signature.dataset
    share, (score, null) = gradient_shares(dataset, component), head_scores(dataset, query)
    group_of, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group_of == name] for name in groups})
    chose, rows = choosing_half(clusters, seed), []
    for name in groups:
        inside = group_of == name
        together = over_heads(share[inside], score[inside], clusters[inside], draws)
        told = {"group": name, "heads": together["heads"], "left_out": together["left_out"]}
        rows.append(told | {"quantity": CORRELATION, "head": ""} | together)
        scored = ~np.isnan(mean_measured(score[inside]))
        most = largest(np.where(scored, mean_measured(share[inside & chose]), np.nan))
        rest = inside & ~chose
        if most is None or not rest.any():
            rows += [told | {"quantity": quantity, "head": ""} | row_of() for quantity in (RANK, SCORE)]
            continue
        told["head"] = head_name(dataset, most)
        rows.append(told | {"quantity": RANK} | rank_among_heads(score[rest], most, clusters[rest], draws))
        own, other = score[rest][:, *most], null[rest][:, *most]
        rows.append(told | {"quantity": SCORE} | beside(own, other, clusters[rest], MINUS_ONE_TO_ONE, draws))
    return table_of(rows, ("quantity", "group"), ("head", "heads", "left_out"))


def gradient_shares(dataset: "xr.Dataset", component: str | None) -> Float[np.ndarray, "paragraph layer head"]:
    """Each head's share of the squared gradient: of one component, or of all attention components together.

    Raises:
        SignatureError: If there is no such component.
    """
    share = dataset["head_gradient_share"]
    if component is None:
        share = share.sum("attention_component", skipna=False)
    else:
        there = [str(name) for name in share["attention_component"].values]
        if component not in there:
            raise SignatureError(
                f"{caller()}: component={component!r} is not one of {', '.join(there)}, or None for all together."
            )
        share = share.sel(attention_component=component)
    return share.transpose("paragraph", "layer", "head").values.astype(float)


def over_heads(
    x: Float[np.ndarray, "paragraph layer head"],
    y: Float[np.ndarray, "paragraph layer head"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    """Spearman's rho over heads between the means of two measurements, with interval and null.

    Args:
        x: The one measurement; nan where it was not made.
        y: The other; a head that one of them lacks throughout is left out.
        clusters: The near-duplicate cluster of each paragraph.
        draws: Of bootstrap and permutation.

    Returns:
        A row whose interval is by bootstrap over clusters, and whose null is mean and central 95 % with heads permuted within
        layers, `p_value` two-sided, by distance from that mean; and `heads`, `left_out`.
    """
    means = mean_measured(x), mean_measured(y)
    known = ~np.isnan(means[0]) & ~np.isnan(means[1])
    counts = {"heads": int(known.sum()), "left_out": int((~known).sum())}
    if known.sum() < FEWEST_HEADS:
        return row_of(basis=Basis.of(clusters)) | counts
    pairs = np.stack([x[:, known], y[:, known]], axis=1)
    interval = draws.statistic(pairs, clusters, lambda means: spearman(means[:, 0], means[:, 1]))
    interval, layer = interval.within(MINUS_ONE_TO_ONE), np.nonzero(known)[0]
    null = permuted_within_layers(means[0][known], means[1][known], layer, float(interval.estimate), draws)
    return row_of(interval, null, Basis.of(clusters)) | counts


def spearman(x: Float[np.ndarray, "draw head"], y: Float[np.ndarray, "draw head"]) -> Float[np.ndarray, " draw"]:
    """Spearman's rho along the heads, those left out that are nan on either side; nan where a side is constant."""
    from scipy.stats import rankdata

    there = ~(np.isnan(x) | np.isnan(y))
    # What is missing sorts last, so that the ranks of the others are those without it.
    ranks = [np.where(there, rankdata(np.where(there, side, np.inf), axis=1), 0.0) for side in (x, y)]
    count = np.maximum(there.sum(1, keepdims=True), 1)
    x, y = (np.where(there, rank - rank.sum(1, keepdims=True) / count, 0.0) for rank in ranks)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.full(len(x), np.nan), where=scale > 0)


def permuted_within_layers(
    x: Float[np.ndarray, " head"],
    y: Float[np.ndarray, " head"],
    layer: Int[np.ndarray, " head"],
    observed: float,
    draws: Draws,
) -> Null:
    """Rho when heads change places inside their layers, and the p-value against it.

    Args:
        x: One number per head, heads in the order of their layers.
        y: Another, which is permuted.
        layer: The layer of each head, ascending.
        observed: Rho as it is.
        draws: Of the permutations.
    """
    rng = np.random.default_rng([draws.seed, 13])
    # A random number below 1 on top of the layer: sorting leaves every head in its layer.
    order = (layer + rng.random((draws.resamples, len(layer)))).argsort(axis=1)
    null = spearman(np.broadcast_to(x, order.shape), y[order])
    if np.isnan(observed) or np.isnan(null).all():
        return NO_NULL
    centre = null.mean()
    as_far = (np.abs(null - centre) >= np.abs(observed - centre) - ROUNDING).sum()
    low, high = np.quantile(null, [0.025, 0.975])
    return Null.dealt(centre, low, high, (1 + as_far) / (1 + draws.resamples))


def rank_among_heads(
    score: Float[np.ndarray, "paragraph layer head"],
    at: tuple[int, int],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    """The rank of one head's mean score, 1 the highest and ties their mean, beside that of a head taken at random.

    `p_value` is the share of heads that score at least as high: the chance that a head taken at random ranks so high.
    """

    def ranks(means: Float[np.ndarray, "draw layer head"]) -> Float[np.ndarray, " draw"]:
        higher, equal = _higher_and_equal(means, at)
        return np.where(np.isnan(means[:, *at]), np.nan, higher + (equal + 1) / 2)

    interval = draws.statistic(score, clusters, ranks)
    mean = mean_measured(score)
    heads = int((~np.isnan(mean)).sum())
    basis = Basis.of(clusters)
    if np.isnan(interval.estimate):
        return row_of(basis=basis) | {"heads": heads}
    higher, equal = _higher_and_equal(mean[None], at)
    chance = np.arange(1.0, heads + 1)
    low, high = np.quantile(chance, [0.025, 0.975])
    null = Null.dealt(chance.mean(), low, high, (higher + equal)[0] / heads)
    return row_of(interval.within(Range(1, heads)), null, basis) | {"heads": heads}


def _higher_and_equal(
    means: Float[np.ndarray, "draw layer head"], at: tuple[int, int]
) -> tuple[Int[np.ndarray, " draw"], Int[np.ndarray, " draw"]]:
    """How many heads score higher than one of them, and how many as high, itself among them."""
    flat, own = means.reshape(len(means), -1), means[:, *at][:, None]
    apart = flat - own
    return (apart > ROUNDING).sum(1), (np.abs(apart) <= ROUNDING).sum(1)
