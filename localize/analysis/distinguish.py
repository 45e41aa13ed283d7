"""Whether two groups are told apart by how well a paragraph is recited, by the rest of its signature, and by that beyond how well."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm.auto import tqdm

from localize.analysis.compare import SHOW_AFTER, draw_axes, warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Basis, Null, Row, row_of
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import SignatureError, caller, public, warn
from localize.measurements import REGISTRY
from localize.statistics import MINUS_ONE_TO_ONE, ZERO_TO_ONE, effective_clusters
from localize.statistics.classification import (
    FEWEST_FOLDS,
    FOLDS,
    PENALTIES,
    REPEATS,
    HeldOut,
    cluster_folds,
    held_out,
    parts_of_groups,
)
from localize.statistics.permutation import relabelled_among_alike, relabellings
from localize.statistics.retrained import fixed_auc, retrained, retrained_auc
from localize.statistics.strata import strata_of_clusters

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

LOSS, WHERE = "loss", "where (all parts)"
TOGETHER = "loss + where"
ADDED = "loss + {}"

OWN = ("features_count", "repeat_low", "repeat_high")
"""The columns of this table that others do not have."""

AUC, GAIN = "AUC", "gain in AUC"
"""The quantities of the table."""

STRATA = 10
CLUSTERS_IN_A_STRATUM = 4
"""Of the group that has fewer there, as where paragraphs are matched on confidence."""

HARDLY_OVERLAPS = 0.95
"""AUC of the loss beyond which the groups have too little in common to ask what where adds."""

LEAST_LOSS = 1e-6
ROUNDING = 1e-9

Features = Float[np.ndarray, "paragraph feature"]


@public
def distinguish(
    signature: "MemorizationSignature",
    a: str = MEMORIZED,
    b: str = NOT_MEMORIZED,
    *,
    seed: int = 0,
    permutations: int = 200,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Whether two groups can be told apart by how well they are recited, by where, and by where beyond how well.

    A linear classifier (ridge regression) is trained on the clusters of all folds but two and judged on pairs from these two.

    Args:
        signature: What was measured.
        a: The one group; its paragraphs should score higher.
        b: The other.
        seed: Of folds, permutations and bootstrap.
        permutations: Labellings of each null.
        folds: Parts that the clusters are divided into, each pair of them held out once; fewer where a group has fewer clusters.
        repeats: How often they are divided anew; all numbers, those of the null too, are means over repeats.
        resamples: Draws of the bootstrap.

    Returns:
        Indexed by `quantity` and `features`: "loss" (NLL and its logarithm); a row per part measured: "gradients" (shares per
        component and head), "rare-token heads" (score, mass), "attention" (entropy, distance), "ablation", "replacement",
        "perturbation" (NLL rises per head, choice of tokens, prefix position), "patching" (effect per site);
        "where (all parts)"; "loss + gradients", ... and "loss + where".

        "AUC": of the pairs of an a and a b held out, the share in which a scores higher (chance is .5), with its 95 % interval
        by bootstrap over clusters of the scores, at least as wide as permuted labels spread it (`retrained`); `null` and its
        central 95 % and `p_value` (one-sided): labels permuted over clusters, choice of penalty and training run anew each
        time. "gain in AUC", of what is joined with the loss: AUC(loss + part) - AUC(loss), on the same pairs; its null permutes
        labels among clusters alike in loss (up to 10 strata of the range that both groups reach). Columns as in all tables,
        `features_count`, and `repeat_low`, `repeat_high`: the smallest and the largest estimate of a single repeat. `attrs` tell
        every choice made.

        The gain tests whether a part tells the groups apart among paragraphs alike in loss. It is asked only of those that
        have a counterpart in the other group (`attrs["alike_in_loss"]`); where the AUC of the loss is near 1 there is
        hardly one and hardly anything left to gain, so that no gain is no sign that where is the same, and an AUC of
        a part may be nothing but loss seen in another place. This warns. A gain can come from loss that its two features
        do not hold, such as the NLL of another continuation. A part that only a curved boundary finds is not found.
        The interval of a gain is always called rough: in simulations of 40 against 40 paragraphs it covered in 98 to 100 % where
        nothing was to be gained and in 75 % where something was, because whether the classifier takes the part up at all varies;
        its `p_value` holds. Fewer than 30 effective clusters warn.

    Raises:
        SignatureError: If a group is not there, or has fewer than 3 clusters.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    a, b = signature.known_group(a), signature.known_group(b)
    if a == b:
        raise SignatureError(f"{caller()}: a and b are both {a!r}; two groups are needed.")
    if permutations < 1:
        raise SignatureError(f"{caller()}: permutations={permutations} must be at least 1.")
    dataset = signature.dataset
    group = dataset["group"].values
    dataset = dataset.isel(paragraph=np.flatnonzero((group == a) | (group == b)))
    in_a, clusters = dataset["group"].values == a, dataset["cluster"].values
    used = _usable_folds(in_a, clusters, a, b, folds)
    loss, parts, said = loss_features(dataset), where_features(dataset), continuations(dataset)
    known = parts_known()
    warn_of_few_clusters({a: clusters[in_a], b: clusters[~in_a]})
    plain, alike, shared = _labellings(in_a, clusters, loss[:, 1], seed, permutations)
    labels = np.concatenate([plain, alike[1:]])
    fold = cluster_folds(in_a, clusters, seed=seed, folds=used, repeats=repeats)
    designs: dict[str, tuple[list[Features], Features | None]] = {LOSS: ([], loss)}
    designs |= {name: ([part], None) for name, part in parts.items()}
    if parts:
        designs[WHERE] = (list(parts.values()), None)
        designs |= {ADDED.format(name): ([part], loss) for name, part in parts.items()}
        designs[TOGETHER] = (list(parts.values()), loss)

    found: dict[str, HeldOut] = {}
    with tqdm(total=len(designs) * repeats, desc=caller(), unit="repeat", delay=SHOW_AFTER, leave=False) as bar:
        for name, (features, base) in designs.items():
            of_gain = labels if base is not None else plain
            found[name] = held_out(features, of_gain, fold, base=base, after_repeat=bar.update)

    loss_alone, basis, rows, gained = found[LOSS], Basis.of(clusters), [], []
    fewest = min(effective_clusters(clusters[members]) for members in (in_a, ~in_a))
    for name, (features, base) in designs.items():
        own, columns = found[name], [*features, *([] if base is None else [base])]
        told = {"features": name, "features_count": sum(part.shape[1] for part in columns)}
        numbers = own.auc[: len(plain)]
        interval = draws.pairs(own.wins, own.pairs, in_a, clusters)
        held = fixed_auc(own.ahead, plain)
        interval = retrained_auc(interval, numbers[1:], held[1:], fewest).within(ZERO_TO_ONE)
        rows.append(told | {"quantity": AUC} | _spread(own.by_repeat) | row_of(interval, _null(numbers), basis))
        if base is not None and features:
            gain = draws.pairs(own.wins - loss_alone.wins, own.pairs, in_a, clusters)
            gains = (own.auc - loss_alone.auc)[np.r_[0, len(plain) : len(labels)]]
            gains = gains if shared else gains[:1]
            held = fixed_auc(own.ahead, alike) - fixed_auc(loss_alone.ahead, alike)
            gain = retrained(gain, gains[1:], held[1 : len(gains)], fewest).within(MINUS_ONE_TO_ONE)
            gain = replace(gain, rough=np.asarray(True))
            by_repeat = _spread(own.by_repeat - loss_alone.by_repeat)
            gained.append(told | {"quantity": GAIN} | by_repeat | row_of(gain, _null(gains), basis))
    table = table_of([*rows, *gained], ("quantity", "features"), OWN)
    table.attrs = {
        "a": a,
        "b": b,
        "folds": used,
        "repeats": repeats,
        "permutations": len(plain) - 1,
        "resamples": resamples,
        "seed": seed,
        "continuation": {LOSS: said["nll"]} | {name: _said(said, known[name]) for name in parts},
        "variables": {LOSS: ["nll", "log nll"]} | {name: [v for v in known[name] if v in said] for name in parts},
        "paragraphs": [int(in_a.sum()), int((~in_a).sum())],
        "effective_clusters": [effective_clusters(clusters[in_a]), effective_clusters(clusters[~in_a])],
        "alike_in_loss": shared,
        "classifier": "ridge regression on labels of -1 and 1; features scaled, and missing ones set to their mean, by all "
        "rows; parts weigh alike; penalties averaged by the likelihood of what is left out",
        "penalties": list(PENALTIES),
        "auc_of": "pairs of an a and a b in the two folds held out",
        "null": "labels permuted over clusters, everything run anew",
        "gain_null": "labels permuted among clusters alike in loss, everything run anew",
    }
    _warn_of_little_overlap(table, a, b, shared, len(in_a))
    return table


def loss_features(dataset: "xr.Dataset") -> Features:
    """How well: the mean NLL of recall and its logarithm. Not the exact match, which makes the groups."""
    nll = dataset["nll"].values.astype(float)
    return np.stack([nll, np.log(np.maximum(nll, LEAST_LOSS))], axis=1)


def parts_known() -> dict[str, list[str]]:
    """What tells where, by part; of a change of model or prefix it is the rise, never the level."""
    found: dict[str, list[str]] = {}
    for variable in REGISTRY.values():
        if variable.part:
            found.setdefault(variable.part, []).append(variable.name)
    return found


def where_features(dataset: "xr.Dataset") -> dict[str, Features]:
    """What the dataset holds of each part, a row per paragraph, draws averaged; columns that nobody has are left out."""
    found = {}
    for part, names in parts_known().items():
        columns = [_column(dataset, name) for name in names if name in dataset]
        if not columns:
            continue
        features = np.concatenate(columns, axis=1)
        features = features[:, ~np.isnan(features).all(0)]
        if features.shape[1]:
            found[part] = features
    return found


def continuations(dataset: "xr.Dataset") -> dict[str, str]:
    """Which continuation each variable is of."""
    return {str(name): str(dataset[name].attrs.get("continuation", "")) for name in dataset.data_vars}


def _column(dataset: "xr.Dataset", name: str) -> Features:
    values = dataset[name].astype(float)
    if (before := REGISTRY[name].before) is not None:
        values = values - dataset[before].astype(float)
    values = values.mean(draw_axes(values))
    return values.transpose("paragraph", ...).values.reshape(dataset.sizes["paragraph"], -1)


def _said(said: dict[str, str], names: list[str]) -> str:
    return next(said[name] for name in names if name in said)


def _usable_folds(in_a: Bool[np.ndarray, " paragraph"], clusters: np.ndarray, a: str, b: str, folds: int) -> int:
    """As many folds as asked for, or as the group with fewer clusters has, with a warning."""
    if folds < FEWEST_FOLDS:
        raise SignatureError(f"{caller()}: folds={folds} must be at least {FEWEST_FOLDS}.")
    counts = {name: len(np.unique(clusters[members])) for name, members in ((a, in_a), (b, ~in_a))}
    name = min(counts, key=counts.__getitem__)
    if counts[name] < FEWEST_FOLDS:
        raise SignatureError(
            f"{caller()}: {name} has {counts[name]} clusters; at least {FEWEST_FOLDS} are needed in each group to hold some out."
        )
    if counts[name] < folds:
        warn(f"{caller()}: {name} has {counts[name]} clusters; {counts[name]} folds are made.")
    return min(folds, counts[name])


def _labellings(
    in_a: Bool[np.ndarray, " paragraph"],
    clusters: np.ndarray,
    log_loss: Float[np.ndarray, " paragraph"],
    seed: int,
    permutations: int,
) -> tuple[Bool[np.ndarray, "labelling paragraph"], Bool[np.ndarray, "alike_labelling paragraph"], int]:
    """Labels as they are, then permuted over all clusters; the same among clusters alike in loss; how many paragraphs have such."""
    parts, part = parts_of_groups(in_a, clusters)
    plain = relabellings(np.random.default_rng(seed), parts, permutations)
    alone = parts.only_a + parts.only_b
    means = (np.bincount(part, weights=log_loss, minlength=len(parts.counts)) / parts.counts)[:alone]
    stratum = loss_strata(means, np.arange(alone) < parts.only_a)
    alike = relabelled_among_alike(np.random.default_rng([seed, 23]), parts, stratum, permutations)
    moves = np.asarray(alike.any(0) & ~alike.all(0))
    return plain[:, part], alike[:, part], int(moves[part].sum())


def loss_strata(
    means: Float[np.ndarray, " cluster"], in_a: Bool[np.ndarray, " cluster"]
) -> Int[np.ndarray, " cluster"]:
    """Clusters alike in loss: up to 10 strata of the range that both groups reach, at least 4 clusters of each group in one."""
    if not (in_a.any() and (~in_a).any()):
        return np.arange(len(means))
    low, high = max(means[in_a].min(), means[~in_a].min()), min(means[in_a].max(), means[~in_a].max())
    inside = (means >= low) & (means <= high)
    fewest = min(int((inside & members).sum()) for members in (in_a, ~in_a))
    return strata_of_clusters(means, in_a, int(np.clip(fewest // CLUSTERS_IN_A_STRATUM, 1, STRATA)))


def _spread(by_repeat: Float[np.ndarray, " repeat"]) -> Row:
    """The smallest and the largest number of a repeat."""
    return {"repeat_low": float(by_repeat.min()), "repeat_high": float(by_repeat.max())}


def _null(numbers: Float[np.ndarray, " labelling"]) -> Null:
    """Mean and central 95 % of all labellings but the first, and the share of all, it included, that are as large as the first."""
    null = numbers[1:][~np.isnan(numbers[1:])]
    if len(null) == 0 or np.isnan(numbers[0]):
        return NO_NULL
    low, high = np.quantile(null, [0.025, 0.975])
    as_large = (null >= numbers[0] - ROUNDING).sum()
    return Null.dealt(null.mean(), low, high, (1 + as_large) / (1 + len(null)))


def _warn_of_little_overlap(table: "pd.DataFrame", a: str, b: str, shared: int, count: int) -> None:
    of_loss = float(table["estimate"].loc[AUC, LOSS])
    if len(table) > 1 and (max(of_loss, 1 - of_loss) > HARDLY_OVERLAPS or not shared):
        warn(
            f"{a} and {b} hardly overlap in loss (its AUC is {of_loss:.3f}; {shared} of {count} paragraphs have one of the other "
            "group beside them): what where tells beyond it cannot be judged."
        )
