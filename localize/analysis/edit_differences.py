"""Whether one text is harder to unlearn than another, or only started from another loss."""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.alike import LEAST_LOSS
from localize.analysis.change import Changes, Pooled, repetitions_of
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.rows import Basis, Null, Row, difference_name, row_of
from localize.analysis.sentences import Wording, sentence
from localize.axes import FORGET
from localize.errors import SignatureError, caller, public
from localize.statistics import Range, matched_difference, pair_differences

if TYPE_CHECKING:
    import pandas as pd

MATCHED = "{}, matched on the NLL before"
BEFORE = "NLL before the edit"
"""What is matched on."""

OWN = ("before", "support", "verdict")
"""The columns of this table that others do not have."""

STARTS = {
    "nll": "nll",
    "exact_match": "nll",
    "reference_nll": "reference_nll",
    "reference_exact_match": "reference_nll",
}
"""The quantities compared, and the NLL before the edit that each is matched on: that of the same continuation."""

RISES = Wording(
    "{a} is easier to unlearn than {b}: its NLL rises more", "{a} is harder to unlearn than {b}: its NLL rises less",
    "no significant difference",
)  # fmt: skip
FALLS = Wording(
    "{a} is harder to unlearn than {b}: it loses less exact match", "{a} is easier to unlearn than {b}: it loses more exact match",
    "no significant difference",
)  # fmt: skip


@public
def edit_differences(changes: Changes, *, group: str = FORGET, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """Whether what one edit changed is more than what another did, among paragraphs that started from like losses.

    Text that is said with little confidence loses its exact match to almost any step, and its NLL starts from another place: "memorized
    text is harder to unlearn" may be "surer to begin with". So every difference stands twice, matched on the NLL before first.

    Args:
        changes: Two edits by name, each a `Change` or several repetitions, of one set of paragraphs: one that forgets memorized text,
            say, and one that forgets other text.
        group: What the paragraphs compared are to both edits.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity` and `group` ("a - b"): the change of `nll` (nats per token), of `exact_match` (tokens), and the same of
        what the unedited model says (`reference_...`), as far as all changes hold them. `estimate` is the mean change of the first
        edit's paragraphs less that of the second's, with its 95 % interval by bootstrap over clusters; the null is of labels permuted
        over clusters, where matched among clusters alike in the NLL before (on a logarithmic scale, see
        `localize.statistics.matched_difference`). `before` is what the two differed in before, in the quantity itself; `support` the
        smaller of the two shares that have a counterpart; `verdict` what the row says.

    Raises:
        SignatureError: If there are not two edits, they are not of one set of paragraphs, or one lacks the group.
    """
    from localize.analysis.tables import table_of

    edits = repetitions_of(changes)
    if len(edits) != 2:
        raise SignatureError(f"{caller()}: changes has {len(edits)} edits: {', '.join(edits)}; two are compared.")
    repetitions_of({" and ".join(edits): [change for given in edits.values() for change in given]})  # of one set
    a, b = edits
    sides = []
    for name, given in edits.items():
        pooled = Pooled.of(given)
        if group not in pooled.groups:
            raise SignatureError(f"{caller()}: {name!r} has no group {group!r}; it has {', '.join(pooled.groups)}.")
        sides.append((pooled, pooled.group == group))
    warn_of_few_clusters({name: pooled.clusters[own] for name, (pooled, own) in zip(edits, sides, strict=True)})
    draws, rows = Draws(seed, resamples), []
    for quantity, start in STARTS.items():
        if all({quantity, start} <= set(pooled.quantities) for pooled, _ in sides):
            rows += _differences(sides, quantity, start, (a, b), draws)
    return table_of(rows, ("quantity", "group"), OWN)


def _differences(
    sides: list[tuple[Pooled, np.ndarray]], quantity: str, start: str, names: tuple[str, str], draws: Draws
) -> list[Row]:
    """The difference of two edits' changes in one quantity, matched and plain."""
    before, after, on = (
        np.concatenate([pooled.values[side, own, pooled.quantities.index(name)] for pooled, own in sides])
        for side, name in ((0, quantity), (1, quantity), (0, start))
    )
    clusters = np.concatenate([pooled.clusters[own] for pooled, own in sides])
    ids = np.concatenate([pooled.paragraph[own] for pooled, own in sides])
    in_a = np.arange(len(before)) < sides[0][1].sum()
    pooled = sides[0][0]
    at = pooled.quantities.index(quantity)
    possible = Range(np.asarray(pooled.possible.low)[at], np.asarray(pooled.possible.high)[at])
    moved, apart = pair_differences(after, before), possible.minus(possible)
    wording = FALLS if quantity.endswith("exact_match") else RISES
    about = {"group": difference_name(*names)}

    def told(row: Row, name: str, weights: tuple[np.ndarray, np.ndarray], support: float) -> Row:
        middle = [
            float(w @ before[side]) if w.sum() > 0 else np.nan for w, side in zip(weights, (in_a, ~in_a), strict=True)
        ]
        verdict = sentence(row, wording, a=names[0].replace("_", " "), b=names[1].replace("_", " "))
        return about | row | {"quantity": name, "before": middle[0] - middle[1], "support": support, "verdict": verdict}

    found = matched_difference(moved, np.log(np.maximum(on, LEAST_LOSS)), in_a, ~in_a, clusters).within(possible)
    used = found.weights > 0
    support = float(min(used[in_a].mean(), used[~in_a].mean()))
    null = Null.dealt(0.0, found.null_low, found.null_high, found.p_value, found.rough)
    matched = row_of(found.difference, null, _basis(ids, clusters, used), matched_on=BEFORE)
    interval, test = draws.difference(moved, in_a, ~in_a, clusters)
    interval, test = interval.within(apart), test.within(apart)
    null = Null.dealt(0.0, test.null_low, test.null_high, test.p_value, test.rough)
    plain = row_of(interval, null, _basis(ids, clusters, ~np.isnan(moved)))
    there = [~np.isnan(moved[side]) for side in (in_a, ~in_a)]
    even = tuple(known / max(known.sum(), 1) for known in there)
    return [
        told(matched, MATCHED.format(quantity), (found.weights[in_a], found.weights[~in_a]), support),
        told(plain, quantity, (even[0], even[1]), 1.0),
    ]


def _basis(ids: np.ndarray, clusters: np.ndarray, used: np.ndarray) -> Basis:
    """What a number rests on, each paragraph counted once."""
    basis = Basis.of(clusters[used])
    return Basis(len(np.unique(ids[used])), basis.clusters, basis.effective_clusters)
