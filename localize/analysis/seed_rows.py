"""The rows of tables over training: means over paragraphs with intervals over seeds; of one seed, over clusters of paragraphs."""

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.choice import mean_measured
from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Basis, Null, Row, beside, differing, row_of
from localize.statistics import UNBOUNDED, Interval, Range, pair_differences
from localize.statistics.correction import false_discovery
from localize.statistics.seeds import seed_interval, seed_test


def mean_over(
    values: Float[np.ndarray, "seed *cell paragraph"],
    rows: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range = UNBOUNDED,
) -> Interval:
    """The mean over some paragraphs, with its interval over seeds; with one seed over clusters."""
    of_paragraph = np.moveaxis(values[..., rows], -1, 0)
    if len(values) > 1:
        return seed_interval(mean_measured(of_paragraph)).within(possible)
    return draws.mean(of_paragraph[:, 0], clusters[rows]).within(possible)


def row_beside(
    values: Float[np.ndarray, "seed paragraph"],
    rows: Bool[np.ndarray, " paragraph"],
    null_rows: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range = UNBOUNDED,
    *,
    matched_on: str = "",
) -> Row:
    """The mean over some paragraphs beside that of others, each with its interval; without others no null is told."""
    interval, basis = mean_over(values, rows, clusters, draws, possible), Basis.of(clusters[rows])
    if not null_rows.any():
        return row_of(interval, NO_NULL, basis, matched_on=matched_on)
    null = mean_over(values, null_rows, clusters, draws, possible)
    if len(values) > 1:
        own, other = (mean_measured(values[:, of].T) for of in (rows, null_rows))
        held_against = Null.measured(null, seed_test(pair_differences(own, other)))
    else:
        test = draws.difference(values[0], rows, null_rows, clusters)[1]
        held_against = Null.measured(null, test.p_value, test.rough)
    return row_of(interval, held_against, basis, matched_on=matched_on)


def row_in_twin(
    values: Float[np.ndarray, "seed paragraph"],
    twin: Float[np.ndarray, "seed paragraph"],
    rows: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range = UNBOUNDED,
) -> Row:
    """The mean over some paragraphs beside that of the same ones in the twin run, and their difference, each with its interval.

    Paragraphs that lack a number in one of the runs are left out of both, seed by seed.
    """
    moved = pair_differences(values, twin)
    values, twin = (np.where(np.isnan(moved), np.nan, of) for of in (values, twin))
    if len(values) == 1:
        return beside(values[0, rows], twin[0, rows], clusters[rows], possible, draws)
    own, other = (mean_over(of, rows, clusters, draws, possible) for of in (values, twin))
    of_seeds = mean_measured(moved[:, rows].T)
    null = Null.measured(other, seed_test(of_seeds))
    apart = seed_interval(of_seeds).within(possible.minus(possible))
    return row_of(own, null, Basis.of(clusters[rows])) | differing(apart)


def correct_by_quantity(rows: list[Row], column: str = "quantity") -> None:
    """Give each row the `q_value` of its p-value among those of the same quantity, or of another column's same value."""
    for value in {row[column] for row in rows}:
        family = [row for row in rows if row[column] == value]
        corrected = false_discovery(np.array([row["p_value"] for row in family]))
        for row, q_value in zip(family, corrected, strict=True):
            row["q_value"] = float(q_value)
