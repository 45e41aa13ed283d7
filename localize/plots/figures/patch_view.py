"""What of the patching a figure shows: one group, one metric, one or both directions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.axes import DIRECTIONS
from localize.errors import LocalizeError, caller
from localize.plots.groups import Group, groups_of, require
from localize.statistics import Interval, cluster_bootstrap

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

HEADS, STREAMS = "head_patch_effect", "stream_patch_effect"
LEFT, HALF_WIDTH, HALF_STEP = 80, 240, 352
"""Where panels stand in px, two side by side."""

METRIC_WORDS = {"first_changed": "first changed token", "continuation": "mean over the continuation"}
STREAM_WORDS = {"attn_out": "attention output", "mlp_out": "MLP output", "resid": "residual stream, entering"}


@dataclass(frozen=True)
class PatchView:
    """What of the patching is drawn.

    Attributes:
        dataset: Of one metric, its axis gone.
        group: The group of paragraphs.
        directions: Those drawn, each in a column or row of its own.
        seed: Of the bootstrap, and of the half of the clusters that chooses.
    """

    dataset: "xr.Dataset"
    group: Group
    directions: tuple[str, ...]
    seed: int

    def values(self, name: str, direction: str) -> Float[np.ndarray, "member *cell"]:
        """A variable of the group's paragraphs, one direction."""
        array = self.dataset[name].sel(direction=direction).transpose("paragraph", ...)
        return array.values[self.group.rows].astype(np.float64)

    def mean(self, name: str, direction: str) -> Float[np.ndarray, "*cell"]:
        """Mean over the group's pairs, those that were not measured left out."""
        return self.interval(self.values(name, direction)).estimate

    def interval(
        self, values: Float[np.ndarray, "member *cell"], chosen: Bool[np.ndarray, " member"] | None = None
    ) -> Interval:
        """Mean over the group's pairs, or over those chosen, with its 95 % interval."""
        rows = np.ones(len(values), dtype=bool) if chosen is None else chosen
        return cluster_bootstrap(values[rows], self.group.clusters[rows], seed=self.seed)

    def whole(self, direction: str) -> float:
        """Mean change of the NLL when everything is patched: one run turned into the other."""
        change = self.dataset["clean_nll"].values - self.dataset["corrupted_run_nll"].values
        return float(self.group.mean(change)) * (1 if direction == DIRECTIONS[0] else -1)


def view_of(
    signature: "MemorizationSignature",
    group: str | None,
    metric: str | None,
    direction: str | None,
    seed: int,
) -> PatchView:
    """What was asked for, or the first of each.

    Raises:
        LocalizeError: If it was not measured.
    """
    if HEADS not in signature and STREAMS not in signature:
        require(signature, (STREAMS,), "localize.patch(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    dataset = measured_only(dataset.sel(metric=metric_of(dataset, metric)))
    directions = tuple(str(name) for name in dataset["direction"].values)
    known = {"group": signature.groups, "direction": directions}
    for word, value in (("group", group), ("direction", direction)):
        if value is not None and value not in known[word]:
            raise LocalizeError(f"{caller()}: {word}={value!r} is not one of {', '.join(known[word])}.")
    chosen = next(g for g in groups if group is None or g.name == group)
    return PatchView(dataset, chosen, directions if direction is None else (direction,), seed)


def measured_only(dataset: "xr.Dataset") -> "xr.Dataset":
    """Without the directions, sites and streams that were not asked for, which hold nothing but nan."""
    for dim in ("direction", "site", "stream"):
        if dim in dataset.dims:
            names = [name for name in (HEADS, STREAMS) if name in dataset and dim in dataset[name].dims]
            found = [dataset[name].notnull().any([d for d in dataset[name].dims if d != dim]).values for name in names]
            dataset = dataset.isel({dim: np.flatnonzero(np.any(found, axis=0))}) if found else dataset
    return dataset


def metric_of(dataset: "xr.Dataset", metric: str | None) -> str:
    """The metric asked for, or the first measured.

    Raises:
        LocalizeError: If it was not measured.
    """
    metrics = [str(name) for name in dataset["metric"].values]
    if metric is not None and metric not in metrics:
        raise LocalizeError(f"{caller()}: metric={metric!r} was not measured; the signature has {', '.join(metrics)}.")
    return metrics[0] if metric is None else metric
