"""The groups of a signature as figures show them: words, colour, rows, mean and interval."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from localize.axes import ordered_groups
from localize.errors import LocalizeError, caller
from localize.plots.theme import LONGEST_NAME, group_style, plain
from localize.signature.schema import range_of
from localize.statistics import Interval, cluster_bootstrap, effective_clusters
from localize.statistics.ranges import UNBOUNDED, Range

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature


@dataclass(frozen=True, eq=False)
class Group:
    """One group of paragraphs.

    Attributes:
        name: As in the signature.
        words: Its name, safe to show, cut to the room that a title has.
        colour: Its colour, `#rrggbb`.
        symbol: Its marker.
        rows: Which paragraphs are in it.
        clusters: The cluster of each of these.
    """

    name: str
    words: str
    colour: str
    symbol: str
    rows: Bool[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " member"]

    @property
    def size(self) -> str:
        """Paragraphs and clusters: "n = 442, 70 clusters, effectively 16"."""
        clusters, effective = len(np.unique(self.clusters)), effective_clusters(self.clusters)
        told = f"n = {len(self.clusters)}, {clusters} cluster{'s' * (clusters != 1)}"
        return told + (f", effectively {effective:.0f}" if round(effective) < clusters else "")

    @property
    def label(self) -> str:
        """Name and size, for the legend."""
        return f"{plain(self.name, 2 * LONGEST_NAME)} ({self.size})"

    def mean(self, values: Real[np.ndarray, "paragraph *cell"]) -> Float[np.ndarray, "*cell"]:
        """Mean over the group, missing values left out; nan where all are missing."""
        chosen = values[self.rows].astype(np.float64)
        count = (~np.isnan(chosen)).sum(0)
        return np.where(count > 0, np.nansum(chosen, axis=0) / np.maximum(count, 1), np.nan)

    def interval(self, values: Real[np.ndarray, "paragraph *cell"], seed: int, possible: Range = UNBOUNDED) -> Interval:
        """Mean over the group and its 95 % interval by bootstrap over clusters, inside of what is possible."""
        return cluster_bootstrap(values[self.rows].astype(np.float64), self.clusters, seed=seed).within(possible)


def groups_of(signature: "MemorizationSignature") -> list[Group]:
    """The signature's groups in its order."""
    dataset = signature.dataset
    return labelled_groups(dataset["group"].values.astype(str), dataset["cluster"].values)


def labelled_groups(labels: np.ndarray, clusters: Int[np.ndarray, " paragraph"]) -> list[Group]:
    """The groups of paragraphs with these labels, those of recall first."""
    names = ordered_groups(labels.tolist())
    styles = {name: group_style(name, names) for name in names}
    return [Group(n, plain(n), *styles[n], labels == n, clusters[labels == n]) for n in names]


def require(signature: "MemorizationSignature", names: tuple[str, ...], measurement: str) -> None:
    """Raise a `LocalizeError` that names what to measure, unless the signature holds all these variables, of one model."""
    signature.one_model(caller())
    missing = [name for name in names if name not in signature]
    if missing:
        raise LocalizeError(f"{caller()}: the signature has no {missing[0]!r}; measure it with {measurement}.")


def continuation_words(signature: "MemorizationSignature", name: str) -> str:
    """Which continuation a variable is of: "own continuation"."""
    which = signature[name].attrs.get("continuation")
    return f"{which} continuation" if which else "continuation not told"


def change_range(dataset: "xr.Dataset", name: str, sign: float) -> Range:
    """Where `sign` times the change of `name` by a replacement can lie."""
    sides = [range_of(dataset, f"{side}_{name}") for side in ("perturbed", "unperturbed")]
    return sides[0].minus(sides[1]) if sign > 0 else sides[1].minus(sides[0])
