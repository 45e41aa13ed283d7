"""Metrics of how well texts are memorized, beside each other: what each tells, and which of them agree.

No single metric shows it all: exact match is blind to what is known but for a word, loss ranks what is hard first, a membership score
finds what no decoding recites.

- *Mean* of each metric in each group and the difference of two groups. Null of the difference: labels permuted over clusters.
- *AUC*: how surely a paragraph of the one group is told from one of the other by its larger value. Null: .5.
- *Rank correlation* of each pair of metrics over paragraphs. Null: one metric's values dealt out anew, whole clusters at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Basis, Null, Row, auc_row, difference_name, null_beside, row_of, rows_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.axes import MEMORIZED, NEVER_TRAINED, NOT_MEMORIZED, TRAINED
from localize.errors import SignatureError, caller, public
from localize.measurements import AXES, MEASUREMENTS, Variable, nulls_of
from localize.signature.schema import range_of
from localize.statistics import LEVEL, MINUS_ONE_TO_ONE, Range

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

MEAN, AUC, CORRELATION = "mean", "AUC", "rank correlation"
EVERY = "all"
"""The paragraphs of all groups together."""

SAME_ORDER = ("extraction_chance",)
"""Metrics that order paragraphs as another one does, so that they have a mean but no AUC and no rank of their own."""

PAIRS = ((MEMORIZED, NOT_MEMORIZED), (TRAINED, NEVER_TRAINED))
"""Groups that are told apart unless others are asked for, the more memorized first."""

FEWEST = 3
"""Clusters; with fewer there is no rank correlation worth the name."""

AT_ONCE = 2**22
"""Ranks of draws held at once."""

ROUNDING = 1e-9
"""Rank correlations that differ by less are equal; squares of ranks that are a smaller share of the cube of their number are 0."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric of each paragraph, larger where more is memorized.

    Attributes:
        variable: Where it stands in a signature.
        words: Its name, with the tokens given where it depends on them.
        unit: Of its values.
        values: One number per paragraph.
        possible: Where they can lie at all.
        null: What each value is where nothing is memorized; None where that is not known.
    """

    variable: str
    words: str
    unit: str
    values: Float[np.ndarray, " paragraph"]
    possible: Range
    null: Float[np.ndarray, " paragraph"] | None = None


@public
def memory_table(
    signature: "MemorizationSignature",
    a: str | None = None,
    b: str | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """What each metric of memorization says of each group, and how surely it tells memorized text from other text.

    Args:
        signature: Holds `localize.memory`, of one model.
        a: The group that should be more memorized; None takes `memorized` against `not_memorized`, or `planted` against
            `never_trained`, where they are there.
        b: The group that it is held against; given if `a` is.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `metric` ("Min-K%", "ROUGE-L, 8 tokens given", ...), `quantity` and `group`, columns as in all tables and
        `variable`, `unit`. "mean": a row per group and one for the difference a - b, with 95 % intervals by bootstrap over clusters;
        p of the difference by labels permuted over clusters. The share of sampled n-grams that stand in the rows has that of the true
        continuation as its null, p by signs flipped over clusters; the others' means have none. "AUC", of a and b: the share of their
        pairs in which the a has the larger value, ties half; null .5, p that of mean ranks; nan where a group has none. `q_value`
        corrects for all metrics.

        A larger value is more memory throughout. Where groups follow from exact match, as they do unless labels say otherwise,
        exact match tells them apart by construction: groups that say what was trained on judge metrics. Fewer than 30 effective
        clusters warn.

    Raises:
        SignatureError: If the signature lacks the measurement, or a group is not there.

    Source:
        Metrics beside each other by their AUC: Hubble (arXiv 2510.19811).
    """
    from localize.analysis.tables import table_of

    measured(signature)
    dataset, draws, rows = signature.dataset, Draws(seed, resamples), []
    pair = groups_told(signature, a, b)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    for metric in metrics_of(dataset):
        about = {"metric": metric.words, "variable": metric.variable, "unit": metric.unit}
        null = partial(_null_of, metric, clusters, draws)
        means = rows_of(MEAN, metric.values, group, clusters, draws, null, metric.possible, pair=pair)
        rows += [about | row for row in means]
        if pair is not None and metric.variable not in SAME_ORDER:
            named = {"quantity": AUC, "group": difference_name(*pair), "unit": "share of pairs"}
            rows.append(about | named | told_apart(metric, group, clusters, pair, draws))
    correct_by_quantity(rows)
    return table_of(rows, ("metric", "quantity", "group"), ("variable", "unit"))


@public
def memory_agreement(
    signature: "MemorizationSignature", group: str | None = None, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """Which metrics of memorization put paragraphs in the same order, and which do not.

    Args:
        signature: Holds `localize.memory`, of one model.
        group: One group; "all" for the paragraphs of all groups together, whose differences all metrics see; None for these and each.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `metric`, `other` and `group`, columns as in all tables: Spearman's rho over the paragraphs that have all metrics, with
        its 95 % interval by bootstrap over clusters, ranked anew in every draw; null 0, its central 95 % and two-sided p with one
        metric's values dealt out anew, clusters kept together; `q_value` corrects for all pairs of a group. nan where a metric is
        the same for all paragraphs, or there are fewer than 3 clusters. Fewer than 30 effective clusters warn.

        In simulations of normal values with a rho of 0, .5 or .9 and 30 to 100 clusters, single paragraphs or three alike or of 1 to 20,
        the interval held rho in 95 to 100 %. p <= .05 came in 2 to 6 % where rho was 0, in 9 % with clusters of 1 to 20, which do not
        fit into one another's places: p is rough where it is <= .05 and the interval holds 0.

    Raises:
        SignatureError: If the signature lacks the measurement or the group.
    """
    from localize.analysis.tables import table_of

    measured(signature)
    groups = (
        (EVERY, *signature.groups) if group is None else (group if group == EVERY else signature.known_group(group),)
    )
    of, clusters = signature.dataset["group"].values, signature.dataset["cluster"].values
    metrics = [metric for metric in metrics_of(signature.dataset) if metric.variable not in SAME_ORDER]
    values, draws, rows = np.stack([metric.values for metric in metrics], axis=1), Draws(seed, resamples), []
    complete = ~np.isnan(values).any(1)
    warn_of_few_clusters({name: clusters[complete & ((of == name) | (name == EVERY))] for name in groups})
    for name in groups:
        inside = complete & ((of == name) | (name == EVERY))
        found = agreement_rows(values[inside], clusters[inside], draws)
        named = [{"quantity": CORRELATION, "group": name} | row for row in found]
        for row, (i, j) in zip(named, pairs_of(len(metrics)), strict=True):
            row |= {"metric": metrics[i].words, "other": metrics[j].words}
        correct_by_quantity(named)
        rows += named
    return table_of(rows, ("metric", "other", "group"))


def _null_of(
    metric: Metric, clusters: Int[np.ndarray, " paragraph"], draws: Draws, chosen: Bool[np.ndarray, " paragraph"]
) -> Null:
    """What a group's mean is held against: its null where each value has one."""
    if metric.null is None:
        return NO_NULL
    return null_beside(metric.values, metric.null, clusters, draws, metric.possible, chosen)


def measured(signature: "MemorizationSignature") -> None:
    """Raise a `SignatureError` unless the metrics were measured, of one model."""
    require(signature, {"min_k": "localize.memory(model, paragraphs)"})


def metrics_of(dataset: "xr.Dataset") -> list[Metric]:
    """All metrics that hold a number, in the order of their declaration and by the tokens given or the length of n-grams."""
    found = []
    for variable, words, array in arrays_of(dataset):
        nulls = (_alongside(dataset[name], array) for name in nulls_of(variable.name) if name in dataset)
        possible, values = range_of(dataset, variable.name), array.values.astype(float)
        found.append(Metric(variable.name, words, variable.unit, values, possible, next(nulls, None)))
    return found


def _alongside(null: "xr.DataArray", array: "xr.DataArray") -> Float[np.ndarray, " paragraph"]:
    """A metric's null at the place of an axis of its own at which the metric is."""
    return null.sel({axis: array[axis].item() for axis in null.dims if axis not in array.dims}).values.astype(float)


def arrays_of(dataset: "xr.Dataset") -> "Iterator[tuple[Variable, str, xr.DataArray]]":
    """Each metric that holds a number, with its words and without an axis of its own; those of trainings are left."""
    for variable in MEASUREMENTS["memory"].variables:
        if variable.name not in dataset or variable.role != "measured":
            continue
        array, axis = dataset[variable.name], next((dim for dim in variable.dims if dim != "paragraph"), None)
        parts = {variable.label: array}
        if axis is not None:
            counted = AXES[axis].counted or "{}"
            parts = {f"{variable.label}, {counted.format(at)}": array.sel({axis: at}) for at in array[axis].values}
        yield from ((variable, words, part) for words, part in parts.items() if bool(part.notnull().any()))


def groups_told(signature: "MemorizationSignature", a: str | None, b: str | None) -> tuple[str, str] | None:
    """The two groups that metrics are to tell apart, the more memorized first; None where there are no such.

    Raises:
        SignatureError: If only one is given, one is not there, or both are the same.
    """
    if a is None and b is None:
        return next((pair for pair in PAIRS if set(pair) <= set(signature.groups)), None)
    if a is None or b is None or a == b:
        raise SignatureError(
            f"{caller()}: a={a!r} and b={b!r}; two groups are needed, of {', '.join(signature.groups)}."
        )
    return signature.known_group(a), signature.known_group(b)


def told_apart(
    metric: Metric, group: np.ndarray, clusters: Int[np.ndarray, " paragraph"], pair: tuple[str, str], draws: Draws
) -> Row:
    """The AUC of a metric, of the paragraphs that have it; nan where a group has none."""
    judged = np.isin(group, pair) & ~np.isnan(metric.values)
    in_a = group[judged] == pair[0]
    if in_a.all() or not in_a.any():
        return row_of()
    return auc_row(metric.values[judged], in_a, clusters[judged], draws)


def pairs_of(count: int) -> Iterator[tuple[int, int]]:
    """Each pair of different places once, in the order of `np.triu_indices`."""
    return ((i, j) for i in range(count) for j in range(i + 1, count))


def agreement_rows(
    values: Float[np.ndarray, "paragraph metric"], clusters: Int[np.ndarray, " paragraph"], draws: Draws
) -> list[Row]:
    """Spearman's rho of each pair of metrics, with interval and null."""
    pairs, basis = np.triu_indices(values.shape[1], 1), Basis.of(clusters)
    if basis.clusters < FEWEST:
        return [row_of(basis=basis) for _ in pairs[0]]
    # Each paragraph is a cell, so that the mean of cells is how often each was drawn.
    interval = draws.statistic(
        np.eye(len(values)) * len(values), clusters, lambda drawn: rank_correlations(values, drawn)[:, *pairs]
    ).within(MINUS_ONE_TO_ONE)
    null = dealt_correlations(values, clusters, draws)[:, *pairs]
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    as_far = (np.abs(null) >= np.abs(interval.estimate) - ROUNDING).sum(0)
    p_value = (1 + as_far) / (1 + len(null))
    contradicted = (p_value <= LEVEL) & (interval.low <= 0) & (interval.high >= 0)
    return [
        row_of(interval[at], Null.dealt(0.0, low[at], high[at], p_value[at], contradicted[at]), basis)
        if np.isfinite(interval.estimate[at])
        else row_of(basis=basis)
        for at in range(len(p_value))
    ]


def rank_correlations(
    values: Float[np.ndarray, "paragraph metric"], times: Float[np.ndarray, "draw paragraph"]
) -> Float[np.ndarray, "draw metric metric"]:
    """Spearman's rho of all pairs of metrics, for each draw of paragraphs; nan where a metric is constant in it.

    Args:
        values: The metrics.
        times: How often each paragraph is there, up to a factor.
    """
    size = max(1, AT_ONCE // values.size)
    parts = (times[start : start + size] for start in range(0, len(times), size))
    return np.concatenate([correlated(midranks(values, part) * np.sqrt(part)[..., None]) for part in parts])


def midranks(
    values: Float[np.ndarray, "paragraph metric"], times: Float[np.ndarray, "draw paragraph"]
) -> Float[np.ndarray, "draw paragraph metric"]:
    """The rank of each paragraph among those drawn, ties their mean, less the mean rank."""
    ranks = np.empty((*times.shape, values.shape[1]))
    for metric, of_metric in enumerate(values.T):
        place, count = np.unique(of_metric, return_inverse=True, return_counts=True)[1:]
        order = np.argsort(of_metric, kind="stable")
        tied = np.add.reduceat(times[:, order], np.cumsum(count) - count, axis=1)
        ranks[..., metric] = (np.cumsum(tied, axis=1) - tied / 2)[:, place]
    weight = times / times.sum(1, keepdims=True)
    return ranks - np.einsum("dp,dpm->dm", weight, ranks)[:, None]


def dealt_correlations(
    values: Float[np.ndarray, "paragraph metric"], clusters: Int[np.ndarray, " paragraph"], draws: Draws
) -> Float[np.ndarray, "draw metric metric"]:
    """Rho of each metric and another that is dealt out anew: clusters change places, their paragraphs stay next to each other."""
    order = np.argsort(clusters, kind="stable")
    ranks = midranks(values, np.ones((1, len(values))))[0, order]
    squares = (ranks**2).sum(0)
    known = squares > ROUNDING * len(ranks) ** 3
    unit = np.divide(ranks, np.sqrt(squares), out=np.zeros_like(ranks), where=known)
    sizes = np.unique(clusters, return_counts=True)[1]
    rng, blocks = np.random.default_rng([draws.seed, 31]), np.split(np.arange(len(ranks)), np.cumsum(sizes)[:-1])
    dealt = (np.concatenate([blocks[at] for at in rng.permutation(len(blocks))]) for _ in range(draws.resamples))
    return np.stack([unit.T @ unit[places] for places in dealt])


def correlated(centred: Float[np.ndarray, "draw paragraph metric"]) -> Float[np.ndarray, "draw metric metric"]:
    """Cosines of columns of ranks; nan where one is 0 but for rounding."""
    products = np.swapaxes(centred, 1, 2) @ centred
    squares = np.diagonal(products, axis1=1, axis2=2)
    scale = np.sqrt(np.where(squares > ROUNDING * centred.shape[1] ** 3, squares, np.nan))
    return products / (scale[:, :, None] * scale[:, None, :])
