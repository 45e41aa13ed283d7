"""Where groups differ in lost exact match, and how much of that their different levels of hazard make alone.

Exact match ends at the first error, so that a replacement cannot lose more than all of it: it saturates. Where a continuation is lost
to nearly any replacement, all positions lose about alike, and where it withstands most, few lose anything: shares of positions differ
between two such groups though replacing does the same to both, only more often. The NLL goes on rising and does not saturate. So the
difference in lost exact match stands a second time, beside what it would be if both groups had one profile of hazards and each
paragraph kept its own level; see `localize.statistics.saturation`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.draws import Draws
from localize.analysis.rows import Basis, Null, Row, difference_name, main_pair, row_of
from localize.analysis.sentences import Wording, decision, sentence
from localize.axes import ordered_groups
from localize.statistics import Range
from localize.statistics.saturation import fitted

if TYPE_CHECKING:
    import pandas as pd

SATURATION = "{}, beside saturation alone"
"""Of a quantity, the difference beside what the groups' levels of hazard make of one and the same profile."""

SATURATES, DOES_NOT = "lost exact match", "NLL rise"

SIMULATIONS = 50

Lost = Float[np.ndarray, "paragraph draw position"]

APART = Wording("it is larger for {a}", "it is smaller for {a}", "there is no significant difference")
BEYOND = Wording(
    "larger than saturation alone makes it", "smaller than saturation alone makes it",
    "not significantly different from what saturation alone makes of one profile of hazards at the two groups' levels",
)  # fmt: skip
DISAGREE = (
    "The two measures disagree on the {what}: by {one} {first}, by {other} {second}. Exact match ends at the first error, so that text "
    "which is lost to nearly any replacement loses about alike at all positions; the NLL does not saturate. The difference by {other} "
    "is {beyond}."
)


def saturation_rows(
    quantities: Mapping[str, Range],
    measure: Callable[[Lost], Float[np.ndarray, "quantity paragraph"]],
    lost: Lost,
    before: Shaped[np.ndarray, " paragraph"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> list[Row]:
    """The differences of the main pair of groups beside those that saturation alone makes; nothing where there is no such pair.

    Each paragraph's number is held against its mean over simulations with the profile fitted to both groups and the paragraph's own
    level of hazard. What is left is compared between the groups with labels permuted over clusters: the p-value. The null is the
    difference of the simulated means, its range that of the permuted labels around it.

    Args:
        quantities: Their names, and where each can lie.
        measure: From the lost exact match to these quantities.
        lost: Tokens of exact match lost by each replacement, at least 0; nan where nothing was put.
        before: Exact match before.
        group: The group of each paragraph.
        clusters: The near-duplicate cluster of each.
        draws: Of bootstrap and permutation, and the seed of the simulations.
    """
    pair = main_pair(ordered_groups(str(name) for name in group))
    if pair is None:
        return []
    kept = np.flatnonzero(np.isin(group, pair))
    lost, before, clusters, in_a = lost[kept], before[kept].astype(float), clusters[kept], group[kept] == pair[0]
    hazards = fitted(lost, before, group[kept])
    alone = hazards.expected(measure, lost, before, clusters, seed=draws.seed, repeats=SIMULATIONS)
    rows = []
    for (quantity, possible), own, made in zip(quantities.items(), measure(lost), alone, strict=True):
        both = ~(np.isnan(own) | np.isnan(made))
        about = {"quantity": SATURATION.format(quantity), "group": difference_name(*pair)}
        if not (both[in_a].any() and both[~in_a].any()):
            rows.append(about | row_of())
            continue
        own, apart = np.where(both, own, np.nan), possible.minus(possible)
        middle = float(made[both & in_a].mean() - made[both & ~in_a].mean())
        interval, _ = draws.difference(own, in_a, ~in_a, clusters)
        _, test = draws.difference(own - made, in_a, ~in_a, clusters)
        null = Null.dealt(middle, middle + test.null_low, middle + test.null_high, test.p_value, test.rough)
        rows.append(about | row_of(interval.within(apart), null, Basis.of(clusters[both])))
    return rows


def disagreements(summary: "pd.DataFrame", quantities: Sequence[str]) -> list[str]:
    """Where the two measures of a replacement say different things of two groups, and why: a sentence or two for each such quantity.

    They disagree if one is significant and the other is not, or both are, on different sides.

    Args:
        summary: A table with the differences by both measures, and that beside saturation alone.
        quantities: Names, with braces where the measure's words stand.
    """
    rows = {key: dict(row) for key, row in zip(summary.index, summary.to_dict("records"), strict=True)}
    notes = []
    for name in quantities:
        smooth, match = (name.format(words) for words in (DOES_NOT, SATURATES))
        for group in [key[1] for key in rows if key[0] == smooth and " - " in key[1]]:
            one, other = rows[smooth, group], rows.get((match, group))
            beside = rows.get((SATURATION.format(match), group))
            if other is None or beside is None:
                continue
            sides = decision(one), decision(other)
            if None in sides or sides[0] == sides[1]:
                continue
            a = group.split(" - ")[0].replace("_", " ")
            first, second = (sentence(row, APART, a=a) for row in (one, other))
            beyond = sentence(beside, BEYOND, part="null")
            what = name.format("effect")
            notes.append(
                DISAGREE.format(what=what, one=DOES_NOT, other=SATURATES, first=first, second=second, beyond=beyond)
            )
    return notes
