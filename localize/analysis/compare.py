"""The difference of two groups, cell by cell, with interval, test and null."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from tqdm.auto import tqdm

from localize.analysis.choice import mean_measured
from localize.analysis.comparison import NUMBERS, Comparison
from localize.analysis.draws import Draws
from localize.analysis.rise import compared_of, has_rise, rise_of, rise_range
from localize.errors import SignatureError, caller, public, warn
from localize.measurements import AXES, REGISTRY
from localize.signature.schema import range_of
from localize.statistics import (
    Interval,
    PermutationTest,
    Range,
    auc,
    cluster_sums,
    effective_clusters,
    false_discovery,
    standardized_difference,
)
from localize.statistics.roughness import FEWEST

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

Cells = dict[str, Shaped[np.ndarray, " cell"]]
"""What is told of each cell, by name."""

FEW_CLUSTERS = 30
"""Below so many effective clusters, intervals and tests are told to be rough."""

MOST_CELLS = 3000
"""A variable of more cells is compared only if it is asked for by name: every cell is a test."""

PIECE = 1024
"""So many cells are compared between two steps of the progress bar."""

SHOW_AFTER = 2.0
"""Seconds after which a comparison shows a progress bar."""


def compared_variables(dataset: "xr.Dataset") -> list[str]:
    """What is compared unless told otherwise: measured per paragraph, with a mean that means something.

    Nulls and untrained models are left out: they stand beside a measurement and are none. So are ids of tokens, what was done to
    a paragraph, and what has more than `MOST_CELLS` cells once draws are averaged, such as a map over every position, layer and
    head. Asked for by name, these are compared all the same.
    """

    def meant(name: str) -> bool:
        values = dataset[name]
        return (
            values.dims[0] == "paragraph"
            and cell_count(values) <= MOST_CELLS
            and REGISTRY[name].role not in ("null", "set-up")
        )

    return [str(name) for name in dataset.data_vars if meant(str(name))]


def cell_count(values: "xr.DataArray") -> int:
    """How many cells a variable has once its draws are averaged."""
    return prod(size for dim, size in values.sizes.items() if dim != "paragraph" and not AXES[str(dim)].draws)


def draw_axes(values: "xr.DataArray") -> list[str]:
    """The axes of a variable that are averaged before paragraphs are compared."""
    return [str(dim) for dim in values.dims if AXES[str(dim)].draws]


def per_paragraph(values: "xr.DataArray") -> "xr.DataArray":
    """The variable with paragraphs first and its draws averaged.

    Raises:
        SignatureError: If it is not measured per paragraph.
    """
    if "paragraph" not in values.dims:
        raise SignatureError(
            f"{caller()}: {values.name} has axes {values.dims}; only what is measured per paragraph is compared."
        )
    if draws := draw_axes(values):
        values = values.mean(draws, keep_attrs=True)
    return values.transpose("paragraph", ...)


@public
def compare(
    signature: "MemorizationSignature",
    a: str,
    b: str,
    variables: str | Sequence[str] | None = None,
    *,
    rises: bool = True,
    seed: int = 0,
    resamples: int = 2000,
) -> "Comparison":
    """Difference of two groups' means, cell by cell, with what it would be if the labels meant nothing.

    What was measured after a change of model or prefix (a head removed, a token replaced, noise on weights) is compared as its
    *rise*: the level after less the level before, for all alike, so that exact match that is lost has a negative rise. Levels
    differ between groups before anything is changed.

    Args:
        signature: What was measured.
        a: The one group.
        b: The group subtracted from it.
        variables: One or several, whatever is measured per paragraph; None takes those whose mean means something and that
            have at most 3000 cells.
        rises: False compares levels after a change, with what they were before still in them.
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        `comparison[name]` is a Dataset over the variable's cells: `difference`, its 95 % interval `low` `high` by bootstrap
        over clusters, `p_value` by permutation of clusters, `q_value` (Benjamini-Hochberg over these cells), `null_range_low`
        `null_range_high` (central 95 % under permuted labels), `effect_size` (Hedges' g), `auc` (probability that a paragraph of
        a has the larger value), `mean_a`, `mean_b`, `rough`: fewer than 10 effective clusters, or too skewed for their
        number, so that the interval covers less than it says; and `n`, `clusters`, `effective_clusters`, of how many
        paragraphs the cell was measured; its attribute `compared` says "level" or "rise". `to_dataframe`, `strongest`, `save`
        tell all cells together.
        Draws are averaged first. Fewer than 30 effective clusters warn, and so do rough intervals.

    Raises:
        SignatureError: If a group or variable is not there, or what a variable asked for was before the change; of
            `variables=None` such are left out, with a warning.
    """
    a, b = signature.known_group(a), signature.known_group(b)
    if a == b:
        raise SignatureError(f"{caller()}: a and b are both {a!r}; two groups are needed.")
    names = _default_variables(signature.dataset, rises=rises) if variables is None else variables
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    if not names:
        raise SignatureError(f"{caller()}: variables is empty; the signature holds {', '.join(signature.variables)}.")
    arrays, possible = [], {}
    for name in names:
        level = signature[name]
        rise = rises and has_rise(name)
        arrays.append(rise_of(signature.dataset, name) if rise else level)
        possible[name] = (rise_range if rise else range_of)(signature.dataset, name)
    comparison = compare_groups(arrays, a, b, possible, Draws(seed, resamples))
    warn_of_rough_intervals(comparison)
    return comparison


def _default_variables(dataset: "xr.Dataset", *, rises: bool) -> list[str]:
    """`compared_variables`, but for those whose level before a change is not there to be subtracted."""
    names = compared_variables(dataset)
    without = [name for name in names if rises and has_rise(name) and REGISTRY[name].before not in dataset]
    if without:
        before = ", ".join(dict.fromkeys(str(REGISTRY[name].before) for name in without))
        warn(
            f"{caller()} leaves out {', '.join(without)}: the signature does not hold {before}, above which they rise; "
            "rises=False compares levels."
        )
    return [name for name in names if name not in without]


def compare_groups(
    arrays: "Sequence[xr.DataArray]", a: str, b: str, possible: Mapping[str, Range], draws: Draws
) -> Comparison:
    """Two groups held against each other in variables of one signature; see `MemorizationSignature.compare`."""
    arrays = [per_paragraph(array) for array in arrays]
    group, clusters = arrays[0]["group"].values, arrays[0]["cluster"].values
    in_a, in_b = group == a, group == b
    warn_of_few_clusters({a: clusters[in_a], b: clusters[in_b]})
    about = {
        "a": a,
        "b": b,
        "paragraphs": [int(in_a.sum()), int(in_b.sum())],
        "effective_clusters": [effective_clusters(clusters[in_a]), effective_clusters(clusters[in_b])],
        "seed": draws.seed,
        "resamples": draws.resamples,
        "paired": False,
    }

    def numbers(values: Float[np.ndarray, "paragraph cell"], apart: Range, family: int) -> Cells:
        interval, test = draws.difference(values, in_a, in_b, clusters, family)
        interval, test = interval.within(apart), test.within(apart)
        return {
            "difference": test.difference,
            "low": interval.low,
            "high": interval.high,
            "p_value": test.p_value,
            "null_range_low": test.null_low,
            "null_range_high": test.null_high,
            "effect_size": standardized_difference(values, in_a, in_b),
            "auc": auc(values, in_a, in_b),
            "mean_a": mean_measured(values[in_a]),
            "mean_b": mean_measured(values[in_b]),
            "rough": rough_cells(interval, test),
            **basis_of_cells(values, clusters, in_a | in_b),
        }

    apart = {name: values.minus(values) for name, values in possible.items()}
    return compared(arrays, numbers, apart, about)


def compared(
    arrays: "Sequence[xr.DataArray]",
    numbers: Callable[[Float[np.ndarray, "paragraph cell"], Range, int], Cells],
    possible: Mapping[str, Range],
    about: Mapping[str, Any],
) -> Comparison:
    """Every cell of these variables in numbers, a piece at a time, with labels.

    Args:
        arrays: What is compared, first axis `paragraph`.
        numbers: From some cells, where their difference can lie, and how many cells the variable has, to all that is told of each
            but for `q_value`.
        possible: Where the difference can lie, by variable: no end of an interval leaves it.
        about: Attributes of every result: `a`, `b`, `paired` among them.
    """
    results = {}
    total = sum(array[0].size for array in arrays)
    with tqdm(total=total, desc=caller(), unit="cell", delay=SHOW_AFTER, leave=False) as bar:
        for array in arrays:
            flat = array.values.astype(float).reshape(len(array), -1)
            pieces = []
            for start in range(0, flat.shape[1], PIECE):
                pieces.append(numbers(flat[:, start : start + PIECE], possible[str(array.name)], flat.shape[1]))
                bar.update(pieces[-1]["difference"].size)
            cells = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
            cells["q_value"] = false_discovery(cells["p_value"])
            results[str(array.name)] = _labelled(array, cells, about)
    return Comparison(results, about["a"], about["b"], paired=about["paired"])


def rough_cells(interval: Interval, *others: Interval | PermutationTest) -> Bool[np.ndarray, "*cell"]:
    """Whether any of a cell's intervals or p-values is not to be trusted."""
    judged = [one.rough for one in (interval, *others) if one.rough is not None]
    return np.logical_or.reduce([np.zeros(interval.low.shape, dtype=bool), *judged])


def basis_of_cells(
    values: Float[np.ndarray, "paragraph cell"],
    clusters: Int[np.ndarray, " paragraph"],
    chosen: Bool[np.ndarray, " paragraph"],
) -> Cells:
    """How many of the chosen paragraphs each cell is measured of, and in how many clusters; see `rows.Basis`."""
    counts = cluster_sums(values, clusters, chosen).counts
    n, squares = counts.sum(0), (counts**2).sum(0)
    return {"n": n, "clusters": (counts > 0).sum(0), "effective_clusters": n**2 / np.maximum(squares, 1)}


def _labelled(array: "xr.DataArray", cells: Cells, about: Mapping[str, Any]) -> "xr.Dataset":
    """The numbers of one variable's cells, with its axes and what was compared."""
    from localize.analysis.result_dataset import ResultDataset

    dims, shape = array.dims[1:], array.shape[1:]
    coords = {name: c for name, c in array.coords.items() if "paragraph" not in c.dims}
    named = {name: array.attrs.get(name, "") for name in ("unit", "continuation")}
    attrs = {"variable": str(array.name), **named, "compared": compared_of(array), **about}
    return ResultDataset({name: (dims, cells[name].reshape(shape)) for name in NUMBERS}, coords=coords, attrs=attrs)


def warn_of_rough_intervals(comparison: Comparison) -> None:
    """Say once of how many cells the interval cannot be trusted."""
    rough = sum(
        int((comparison[name]["rough"] & comparison[name]["low"].notnull()).sum()) for name in comparison.variables
    )
    if rough:
        warn(
            f"rough intervals in {rough} of {len(comparison)} cells: fewer than {FEWEST:.0f} effective clusters, or too skewed "
            "for their number; `rough` marks them."
        )


def warn_of_few_clusters(clusters: dict[str, np.ndarray]) -> None:
    """Warn of groups whose paragraphs are too near to one another to count as many."""
    effective = {group: effective_clusters(values) for group, values in clusters.items()}
    if few := {group: n for group, n in effective.items() if n < FEW_CLUSTERS}:
        told = ", ".join(f"{group} {n:.1f} of {len(clusters[group])} paragraphs" for group, n in few.items())
        warn(f"few effective clusters ({told}); below {FEW_CLUSTERS}, only large differences are found.")
