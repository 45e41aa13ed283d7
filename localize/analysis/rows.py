"""The rows of a table of numbers: each with its interval, its null and how much it rests on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.analysis.draws import Draws
from localize.axes import MEMORIZED, NOT_MEMORIZED, ordered_groups
from localize.statistics import (
    LEVEL,
    ZERO_TO_ONE,
    Interval,
    Range,
    effective_clusters,
    pair_differences,
)

COLUMNS = (
    "estimate", "low", "high", "null", "null_mean_low", "null_mean_high", "null_range_low", "null_range_high", "p_value",
    "q_value", "rough", "n", "clusters", "effective_clusters", "matched_on",
)  # fmt: skip
"""Of every table, in this order."""

DIFFERENCE = ("difference", "difference_low", "difference_high")
"""Of tables in which something of the same paragraphs stands beside a number."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Null:
    """What nothing looks like, and the p-value against it; nan where there is none.

    Attributes:
        mean: Its mean.
        mean_low: Lower end of the 95 % interval of that mean, where it is one of measurements.
        mean_high: Upper end.
        range_low: 2.5 % quantile of its distribution, where labels, positions or signs are dealt out anew.
        range_high: 97.5 % quantile.
        p_value: Of the estimate, against it.
        rough: Whether that p-value, or the interval of the mean, is not to be trusted; None where neither was judged.
    """

    mean: Any = np.nan
    mean_low: Any = np.nan
    mean_high: Any = np.nan
    range_low: Any = np.nan
    range_high: Any = np.nan
    p_value: Any = np.nan
    rough: Any = None

    @classmethod
    def measured(cls, interval: Interval, p_value: Any, rough: Any = None) -> "Null":
        """A null that is measured as the estimate is: a mean and its interval, which can be rough as well as the p-value."""
        ends = {"mean_low": interval.low, "mean_high": interval.high}
        return cls(interval.estimate, **ends, p_value=p_value, rough=either_rough(interval.rough, rough))

    @classmethod
    def dealt(cls, mean: Any, low: Any, high: Any, p_value: Any, rough: Any = None) -> "Null":
        """A null that comes of dealing out anew: its mean and central 95 %."""
        return cls(mean, range_low=low, range_high=high, p_value=p_value, rough=rough)


NO_NULL = Null()


@dataclass(frozen=True)
class Basis:
    """What a number rests on.

    Attributes:
        n: Paragraphs measured, each counted once.
        clusters: Distinct clusters of near-duplicates among them.
        effective_clusters: How many equally large ones would tell as much.
    """

    n: int = 0
    clusters: int = 0
    effective_clusters: float = 0.0

    @classmethod
    def of(cls, clusters: Int[np.ndarray, " paragraph"]) -> "Basis":
        """From the cluster of each paragraph measured."""
        if not len(clusters):
            return cls()
        return cls(len(clusters), len(np.unique(clusters)), effective_clusters(clusters))


NOTHING = Interval(*(np.array(np.nan) for _ in range(3)))


def row_of(
    interval: Interval = NOTHING,
    null: Null = NO_NULL,
    basis: Basis = Basis(),
    *,
    matched_on: str = "",
) -> Row:
    """The numbers of one row of a table; without anything those of what could not be measured.

    It is rough if its interval or its p-value is, and missing there if neither was judged.

    Args:
        interval: The estimate and its ends.
        null: What it is held against.
        basis: What it rests on.
        matched_on: What the groups are matched on.
    """
    numbers = (
        interval.estimate, interval.low, interval.high, null.mean, null.mean_low, null.mean_high, null.range_low,
        null.range_high, null.p_value, np.nan,
    )  # fmt: skip
    own = None if np.isnan(interval.low) else interval.rough
    aside = null.rough if not np.isnan(null.p_value) or not np.isnan(null.mean_low) else None
    rest = (either_rough(own, aside), basis.n, basis.clusters, basis.effective_clusters, matched_on)
    return dict(zip(COLUMNS, (*map(float, numbers), *rest), strict=True))


def either_rough(one: Any, other: Any) -> bool | None:
    """Whether one of two judgements calls a number rough; None if neither was made."""
    made = [bool(rough) for rough in (one, other) if rough is not None]
    return any(made) if made else None


def is_rough(row: Mapping[str, Any]) -> bool:
    """Whether a row's interval or p-value is not to be trusted; a row that nobody judged is not called so."""
    return isinstance(row["rough"], bool | np.bool_) and bool(row["rough"])


def rows_of(
    quantity: str,
    values: Float[np.ndarray, " paragraph"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    null: Callable[[np.ndarray], Null],
    possible: Range,
    *,
    pair: tuple[str, str] | None = None,
) -> list[Row]:
    """A row per group, and one for the difference of two of them under permuted labels.

    Args:
        quantity: Its name in the table.
        values: One number per paragraph; nan where it has none.
        group: The group of each paragraph.
        clusters: The near-duplicate cluster of each.
        draws: Of bootstrap and permutation.
        null: What a group's paragraphs, given as a mask, are held against.
        possible: Where the quantity can lie at all.
        pair: The groups whose difference is told; None takes the main pair, if there is one.
    """
    names, measured = ordered_groups(str(name) for name in group), ~np.isnan(values)
    rows: list[Row] = []
    for name in names:
        chosen = group == name
        interval = draws.mean(values[chosen], clusters[chosen]).within(possible)
        basis = Basis.of(clusters[chosen & measured])
        rows.append({"quantity": quantity, "group": name} | row_of(interval, null(chosen), basis))
    if (pair := pair or main_pair(names)) is not None:
        in_a, in_b = group == pair[0], group == pair[1]
        apart, basis = possible.minus(possible), Basis.of(clusters[(in_a | in_b) & measured])
        interval, test = draws.difference(values, in_a, in_b, clusters)
        interval, test = interval.within(apart), test.within(apart)
        permuted = Null.dealt(0.0, test.null_low, test.null_high, test.p_value, test.rough)
        rows.append({"quantity": quantity, "group": difference_name(*pair)} | row_of(interval, permuted, basis))
    return rows


def null_beside(
    values: Float[np.ndarray, " paragraph"],
    nulls: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range,
    chosen: Bool[np.ndarray, " paragraph"],
) -> Null:
    """A group's null that every paragraph has one of, with its interval; p of the paired difference, signs flipped by cluster."""
    inside = draws.mean(nulls[chosen], clusters[chosen]).within(possible)
    test = draws.sign_flip(pair_differences(values, nulls)[chosen], clusters[chosen])
    return Null.measured(inside, test.p_value, test.rough)


def pair_wins(
    values: Float[np.ndarray, " paragraph"], in_a: Bool[np.ndarray, " paragraph"]
) -> Float[np.ndarray, "a b"]:
    """Whether the a of each pair of an a and another paragraph has the larger value; ties count half."""
    a, b = values[in_a][:, None], values[~in_a]
    return (a > b) + (a == b) / 2


def auc_row(
    values: Float[np.ndarray, " paragraph"],
    in_a: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    """How surely a paragraph of a is told from one of the others by its larger value: chance is .5; p is that of mean ranks."""
    from scipy.stats import rankdata

    wins = pair_wins(values, in_a)
    interval = draws.pairs(wins, np.ones(wins.shape), in_a, clusters).within(ZERO_TO_ONE)
    test = draws.difference(rankdata(values), in_a, ~in_a, clusters)[1]
    return row_of(interval, Null(0.5, p_value=test.p_value, rough=test.rough), Basis.of(clusters))


def beside(
    own: Float[np.ndarray, " paragraph"],
    other: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    possible: Range,
    draws: Draws,
) -> Row:
    """A mean, what stands beside it, and their paired difference, each with its interval; p by flipping signs of clusters.

    Only paragraphs with both count. The null and its ends are the mean and the interval of `other`. No end leaves what is possible.
    """
    both = ~(np.isnan(own) | np.isnan(other))
    if not both.any():
        return row_of() | differing(NOTHING)
    own, other, clusters = own[both], other[both], clusters[both]
    moved = pair_differences(own, other)
    interval, aside = (draws.mean(side, clusters).within(possible) for side in (own, other))
    apart = draws.mean(moved, clusters).within(possible.minus(possible))
    test = draws.sign_flip(moved, clusters)
    return row_of(interval, Null.measured(aside, test.p_value, test.rough), Basis.of(clusters)) | differing(apart)


def differing(apart: Interval) -> Row:
    """The columns that tell how far a number is from what stands beside it."""
    return dict(zip(DIFFERENCE, map(float, (apart.estimate, apart.low, apart.high)), strict=True))


def null_ends(row: Row) -> tuple[float, float]:
    """The ends that a row's null has: of its mean's interval, else of its distribution; nan if neither."""
    kind = "range" if np.isnan(row["null_mean_low"]) else "mean"
    return row[f"null_{kind}_low"], row[f"null_{kind}_high"]


def side(low: float, high: float, p_value: float) -> int | None:
    """Where a difference lies: above 0, below it, or not told from it (0); None if not known.

    An interval from few clusters can miss 0 where no test could reject it, so both are asked; the interval alone where p is nan.
    """
    if np.isnan(low):
        return None
    if p_value > LEVEL:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def difference_name(a: str, b: str) -> str:
    """What the difference of two groups is called in the column of groups."""
    return f"{a} - {b}"


def main_pair(groups: tuple[str, ...]) -> tuple[str, str] | None:
    """The two groups whose difference is told: memorized and not memorized, or the only two there are."""
    if MEMORIZED in groups and NOT_MEMORIZED in groups:
        return MEMORIZED, NOT_MEMORIZED
    return (groups[0], groups[1]) if len(groups) == 2 else None
