"""The difference of two groups, cell by cell, with interval, test and null."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from localize.errors import SignatureError
from localize.statistics import (
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    effective_clusters,
    false_discovery,
    standardized_difference,
)

if TYPE_CHECKING:
    import xarray as xr

FEW_CLUSTERS = 30
"""Below so many effective clusters, intervals and tests are told to be rough."""


def compared_variables(dataset: "xr.Dataset") -> list[str]:
    """What is measured per paragraph and has a mean that means something."""
    return [str(n) for n, v in dataset.data_vars.items() if v.dims[0] == "paragraph" and n != "replacement"]


def compare_groups(values: "xr.DataArray", a: str, b: str, *, seed: int, resamples: int) -> "xr.Dataset":
    """The comparison of one variable; see `MemorizationSignature.compare`."""
    import xarray as xr

    if "paragraph" not in values.dims:
        raise SignatureError(
            f"compare: {values.name} has axes {values.dims}; only what is measured per paragraph is compared."
        )
    if "draw" in values.dims:
        values = values.mean("draw", keep_attrs=True)
    values = values.transpose("paragraph", ...)
    array, group, clusters = values.values.astype(float), values["group"].values, values["cluster"].values
    in_a, in_b = group == a, group == b
    warn_of_few_clusters({a: clusters[in_a], b: clusters[in_b]})
    interval = cluster_bootstrap_difference(array, in_a, in_b, clusters, seed=seed, resamples=resamples)
    test = cluster_permutation_difference(array, in_a, in_b, clusters, seed=seed, permutations=resamples)
    cells = {
        "difference": test.difference,
        "low": interval.low,
        "high": interval.high,
        "p_value": test.p_value,
        "q_value": false_discovery(test.p_value),
        "null_low": test.null_low,
        "null_high": test.null_high,
        "effect_size": standardized_difference(array, in_a, in_b),
        "mean_a": _mean(array[in_a]),
        "mean_b": _mean(array[in_b]),
    }
    dims = values.dims[1:]
    coords = {name: c for name, c in values.coords.items() if "paragraph" not in c.dims}
    attrs = {
        "variable": str(values.name),
        "unit": values.attrs.get("unit", ""),
        "continuation": values.attrs.get("continuation", ""),
        "a": a,
        "b": b,
        "paragraphs": [int(in_a.sum()), int(in_b.sum())],
        "effective_clusters": [effective_clusters(clusters[in_a]), effective_clusters(clusters[in_b])],
        "seed": seed,
        "resamples": resamples,
    }
    return xr.Dataset({name: (dims, np.asarray(cell)) for name, cell in cells.items()}, coords=coords, attrs=attrs)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over paragraphs of what was measured; nan where nothing was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=0))


def warn_of_few_clusters(clusters: dict[str, np.ndarray]) -> None:
    """Warn of groups whose paragraphs are too near to one another to count as many."""
    effective = {group: effective_clusters(values) for group, values in clusters.items()}
    if few := {group: n for group, n in effective.items() if n < FEW_CLUSTERS}:
        told = ", ".join(f"{group} {n:.1f} of {len(clusters[group])} paragraphs" for group, n in few.items())
        warnings.warn(
            f"few effective clusters ({told}); below {FEW_CLUSTERS}, intervals and p-values are rough.", stacklevel=3
        )
