"""The rows of a table of numbers per group: each with its interval, its null and how much it rests on."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.axes import MEMORIZED, NOT_MEMORIZED, ordered_groups
from localize.statistics import (
    Range,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    effective_clusters,
    pair_differences,
)

COLUMNS = ("estimate", "low", "high", "null", "null_low", "null_high", "p_value", "paragraphs", "effective_clusters")

Null = tuple[float, float, float, float]
"""Mean, 2.5 % and 97.5 % quantile of what nothing looks like, and the p-value against it."""

NO_NULL: Null = (np.nan, np.nan, np.nan, np.nan)

RESAMPLES = 2000


def rows_of(
    quantity: str,
    values: Float[np.ndarray, " paragraph"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
    null: Callable[[np.ndarray], Null],
    possible: Range,
    *,
    pair: tuple[str, str] | None = None,
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """A row per group, and one for the difference of two of them under permuted labels.

    Args:
        quantity: Its name in the table.
        values: One number per paragraph; nan where it has none.
        group: The group of each paragraph.
        clusters: The near-duplicate cluster of each.
        seed: Of bootstrap and permutation.
        null: What a group's paragraphs, given as a mask, are held against.
        possible: Where the quantity can lie at all.
        pair: The groups whose difference is told; None takes the main pair, if there is one.
        resamples: Draws of each.
    """
    names = ordered_groups(str(name) for name in group)
    rows: list[dict[str, Any]] = []
    draws: dict[str, Any] = {"seed": seed, "resamples": resamples}
    for name in names:
        chosen = group == name
        interval = cluster_bootstrap(values[chosen], clusters[chosen], **draws).within(possible)
        ends = (float(interval.estimate), float(interval.low), float(interval.high))
        rows.append(row_of(quantity, name, (*ends, *null(chosen)), values, chosen, clusters))
    if (pair := pair or main_pair(names)) is not None:
        in_a, in_b = group == pair[0], group == pair[1]
        apart = possible.minus(possible)
        interval = cluster_bootstrap_difference(values, in_a, in_b, clusters, **draws).within(apart)
        test = cluster_permutation_difference(values, in_a, in_b, clusters, seed=seed, permutations=resamples)
        test = test.within(apart)
        numbers = (interval.estimate, interval.low, interval.high, 0.0, test.null_low, test.null_high, test.p_value)
        name = difference_name(*pair)
        rows.append(row_of(quantity, name, tuple(float(n) for n in numbers), values, in_a | in_b, clusters))
    return rows


def row_of(
    quantity: str,
    group: str,
    numbers: tuple[float, ...],
    values: Float[np.ndarray, " paragraph"],
    chosen: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
) -> dict[str, Any]:
    """One row: seven numbers, and how many paragraphs and effective clusters they rest on."""
    measured = chosen & ~np.isnan(values)
    effective = effective_clusters(clusters[measured]) if measured.any() else 0.0
    return {"quantity": quantity, "group": group} | dict(
        zip(COLUMNS, (*numbers, int(measured.sum()), effective), strict=True)
    )


def difference_name(a: str, b: str) -> str:
    """What the difference of two groups is called in the column of groups."""
    return f"{a} - {b}"


def main_pair(groups: tuple[str, ...]) -> tuple[str, str] | None:
    """The two groups whose difference is told: memorized and not memorized, or the only two there are."""
    if MEMORIZED in groups and NOT_MEMORIZED in groups:
        return MEMORIZED, NOT_MEMORIZED
    return (groups[0], groups[1]) if len(groups) == 2 else None


def null_beside(
    values: Float[np.ndarray, " paragraph"],
    nulls: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    seed: int,
    possible: Range,
    chosen: Bool[np.ndarray, " paragraph"],
    *,
    resamples: int = RESAMPLES,
) -> Null:
    """A group's null that every paragraph has one of, with its interval; p of the paired difference, signs flipped by cluster."""
    inside = cluster_bootstrap(nulls[chosen], clusters[chosen], seed=seed, resamples=resamples).within(possible)
    test = cluster_sign_flip(
        pair_differences(values, nulls)[chosen], clusters[chosen], seed=seed, permutations=resamples
    )
    return (float(inside.estimate), float(inside.low), float(inside.high), float(test.p_value))
