"""The difference of two groups, cell by cell, with interval, test and null."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from localize.errors import SignatureError
from localize.signature.choice import mean_measured
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

NOT_COMPARED = ("replacement", "replaced_position", "patch_position", "patch_target")
"""What was done to a paragraph, not what came of it."""


def compared_variables(dataset: "xr.Dataset") -> list[str]:
    """What is compared unless told otherwise: measured per paragraph, with a mean that means something.

    Nulls and untrained models are left out: they stand beside a measurement and are none. So is what has a cell for
    every position, layer and head: tens of thousands of tests. Asked for by name, these are compared all the same.
    """

    def meant(name: str) -> bool:
        dims = dataset[name].dims
        return (
            dims[0] == "paragraph"
            and "position" not in dims
            and not {"head", "prefix_position"} <= set(dims)
            and name not in NOT_COMPARED
            and not name.endswith(("_null", "_untrained"))
        )

    return [str(name) for name in dataset.data_vars if meant(str(name))]


def per_paragraph(values: "xr.DataArray", caller: str) -> "xr.DataArray":
    """The variable with paragraphs first and its draws averaged.

    Raises:
        SignatureError: If it is not measured per paragraph.
    """
    if "paragraph" not in values.dims:
        raise SignatureError(
            f"{caller}: {values.name} has axes {values.dims}; only what is measured per paragraph is compared."
        )
    if draws := [axis for axis in ("draw", "corruption_draw", "noise_draw") if axis in values.dims]:
        values = values.mean(draws, keep_attrs=True)
    return values.transpose("paragraph", ...)


def compare_groups(values: "xr.DataArray", a: str, b: str, *, seed: int, resamples: int) -> "xr.Dataset":
    """The comparison of one variable; see `MemorizationSignature.compare`."""
    import xarray as xr

    values = per_paragraph(values, "compare")
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
        "mean_a": mean_measured(array[in_a]),
        "mean_b": mean_measured(array[in_b]),
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


def warn_of_few_clusters(clusters: dict[str, np.ndarray]) -> None:
    """Warn of groups whose paragraphs are too near to one another to count as many."""
    effective = {group: effective_clusters(values) for group, values in clusters.items()}
    if few := {group: n for group, n in effective.items() if n < FEW_CLUSTERS}:
        told = ", ".join(f"{group} {n:.1f} of {len(clusters[group])} paragraphs" for group, n in few.items())
        warnings.warn(
            f"few effective clusters ({told}); below {FEW_CLUSTERS}, intervals and p-values are rough.", stacklevel=3
        )
