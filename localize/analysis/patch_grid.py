"""What patching does at every site: mean, interval, null, test and share of the gap, of each group and in each direction."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.compare import rough_cells, warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.patching import MEASURE, PARTS, cells_of, chosen_labels, gap_of, over, strength_sign
from localize.analysis.rows import Basis
from localize.errors import SignatureError, caller, public
from localize.statistics import false_discovery, pair_differences

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

WITHOUT_UNIT = ("share", "share_low", "share_high", "p_value", "q_value", "rough")

DRAWS_TIMES_CELLS = 2**20
"""How many numbers of a bootstrap of shares are held at once: 8 MB, of a few."""


@public
def patching(
    signature: "MemorizationSignature",
    part: str = "head",
    *,
    metric: str = "first_changed",
    seed: int = 0,
    resamples: int = 2000,
) -> "xr.Dataset":
    """What patching does at every site, of each group and in each direction.

    Args:
        signature: What was measured.
        part: "head" for q, k, v, z of each head, "stream" for what is of a whole layer.
        metric: Judged by "first_changed" or "continuation".
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Per group, direction and site `effect` (NLL change, nats per token), its `null` (as large a change in a random
        direction; ends `null_mean_low`, `null_mean_high`) and their `difference`, each with its 95 % interval by bootstrap over
        clusters; `p_value` of no difference by flipping the sign of whole clusters, `q_value` (Benjamini-Hochberg over all that
        is returned); `rough`, whether an interval or p is not to be trusted; `share` of the gap between the two runs (ratio of
        means) with its interval. nan for what was not patched.

    Raises:
        SignatureError: If the part, metric or a measurement is not there.
    """
    from localize.analysis.result_dataset import ResultDataset

    draws = Draws(seed, resamples)
    if part not in PARTS:
        raise SignatureError(f"{caller()}: part={part!r} is not one of {', '.join(PARTS)}.")
    require(signature, {f"{part}_patch_{name}": MEASURE for name in ("effect", "null")})
    dataset, groups = signature.dataset, signature.groups
    chosen_labels(dataset, "metric", metric)
    directions = chosen_labels(dataset, "direction", None)
    group, clusters, gap = dataset["group"].values, dataset["cluster"].values, gap_of(dataset, metric)
    warn_of_few_clusters({name: clusters[group == name] for name in groups})
    cells: dict[str, list[np.ndarray]] = {}
    for name in groups:
        inside = group == name
        for direction in directions:
            effect, null = (
                cells_of(dataset, what, part, direction=direction, metric=metric)[inside] for what in ("effect", "null")
            )
            sign = strength_sign(direction)
            found = grid_cells(effect, null, gap[inside], clusters[inside], sign, draws)
            for what, values in found.items():
                cells.setdefault(what, []).append(values)
    shape = (len(groups), len(directions), *(dataset.sizes[dim] for dim in PARTS[part]))
    arrays = {what: np.stack(values).reshape(shape) for what, values in cells.items()}
    arrays["q_value"] = false_discovery(arrays["p_value"])
    measured = ~np.isnan(gap)
    attrs = {
        "variable": f"{part}_patch_effect",
        "metric": metric,
        "continuation": dataset[f"{part}_patch_effect"].attrs.get("continuation", ""),
        "paragraphs": [int((measured & (group == name)).sum()) for name in groups],
        "effective_clusters": [Basis.of(clusters[measured & (group == name)]).effective_clusters for name in groups],
        "seed": seed,
        "resamples": resamples,
    }
    dims = ("group", "direction", *PARTS[part])
    coords = {dim: dataset[dim].values for dim in dims[1:]} | {"group": list(groups)}
    units = {what: "" if what in WITHOUT_UNIT else "nats per token" for what in arrays}
    return ResultDataset(
        {what: (dims, values, {"unit": units[what]}) for what, values in arrays.items()}, coords, attrs
    )


def grid_cells(
    effect: Float[np.ndarray, "paragraph *cell"],
    null: Float[np.ndarray, "paragraph *cell"],
    gap: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    sign: float,
    draws: Draws,
) -> dict[str, Shaped[np.ndarray, "*cell"]]:
    """Mean effect, mean null, their difference and the share of the gap of every site, with intervals and p-values."""
    moved = pair_differences(effect, null)
    own, other, apart = (draws.mean(values, clusters) for values in (effect, null, moved))
    test = draws.sign_flip(moved, clusters)
    rough = rough_cells(own, other, apart, test)
    share = _grid_shares(sign * effect.reshape(len(effect), -1), gap, clusters, draws).reshape(3, *effect.shape[1:])
    return {
        "effect": own.estimate,
        "low": own.low,
        "high": own.high,
        "null": other.estimate,
        "null_mean_low": other.low,
        "null_mean_high": other.high,
        "difference": apart.estimate,
        "difference_low": apart.low,
        "difference_high": apart.high,
        "p_value": test.p_value,
        "rough": rough,
        "share": share[0],
        "share_low": share[1],
        "share_high": share[2],
    }


def _grid_shares(
    strength: Float[np.ndarray, "paragraph site"],
    gap: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> Float[np.ndarray, "end site"]:
    """Mean strength over mean gap and the ends of its interval, some sites at a time."""
    ends = np.full((3, strength.shape[1]), np.nan)
    there = ~np.isnan(gap) & ~np.isnan(strength).all(1)
    strength, gap, clusters = strength[there], gap[there], clusters[there]
    if not there.any():
        return ends
    at_once = max(1, DRAWS_TIMES_CELLS // draws.resamples)

    def over_gap(means: Float[np.ndarray, "draw 2 site"]) -> Float[np.ndarray, "draw site"]:
        return over(means[:, 0], means[:, 1])

    for start in range(0, strength.shape[1], at_once):
        some = strength[:, start : start + at_once]
        pairs = np.stack([some, np.where(np.isnan(some), np.nan, gap[:, None])], axis=1)
        interval = draws.statistic(pairs, clusters, over_gap)
        ends[:, start : start + at_once] = interval.estimate, interval.low, interval.high
    return ends
