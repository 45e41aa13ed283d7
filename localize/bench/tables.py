"""Tables of a benchmark: gates, localizers, layers, gradient maps, power, DEL; intervals by bootstrap over texts."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from localize.bench.deletion import RANDOM
from localize.bench.layer_maps import STATISTICS
from localize.bench.planted import CONTROLS, TRAINED
from localize.bench.scoring import TextScore
from localize.statistics import ZERO_TO_ONE, Interval, cluster_bootstrap, cluster_bootstrap_difference

if TYPE_CHECKING:
    from localize.bench.results import BenchedTruth, BenchResults

FOUND = 0.9
"""A place is found if zeroing what was found takes as much of what zeroing the place itself takes."""
SHARES = ("recall", "within", "nominal", "auroc", "taken")
EDGES = ("low", "high")
VOTED, SUMMED = ": vote of the best units", ": sum of scores"
"""How a localizer names a layer."""


def gates_table(results: "BenchResults") -> pd.DataFrame:
    """A row for each truth and gate: what must hold, the value, its range, whether it passed."""
    rows = [
        {"truth": truth.words, "gate": gate.name, "value": gate.value, "low": gate.low, "high": gate.high,
         "passed": gate.passed, "words": gate.words}
        for truth in results.truths for gate in truth.gates
    ]  # fmt: skip
    return pd.DataFrame(rows)


def localizer_table(results: "BenchResults", *, seed: int = 0, by_seed: bool = False) -> pd.DataFrame:
    """A row for each kind and size of truth and each localizer, the best first; truths that fail a gate, but for controls, are left out.

    Means over texts with 95 % intervals by bootstrap over texts. Texts of several seeds count one by one, a text of one seed as
    another than the same text of another seed, because it is planted in other units: the intervals are for other texts, not for
    other models. `lowest_seed` and `highest_seed` are the means of single seeds. Kinds are never pooled.

    Args:
        results: Of `localize.bench`.
        seed: Of the bootstrap.
        by_seed: A row for each seed instead.
    """
    rows: list[dict[str, Any]] = []
    for (kind, units), truths in _families(results):
        for name in dict.fromkeys(score.localizer for truth in truths for score in truth.scores):
            of_seed = [
                (truth.settings["seed"], [score for score in truth.scores if score.localizer == name])
                for truth in truths
            ]
            of_seed = [(number, scores) for number, scores in of_seed if scores]
            parts = [([number], scores) for number, scores in of_seed] if by_seed else [
                ([number for number, _ in of_seed], [score for _, scores in of_seed for score in scores])
            ]  # fmt: skip
            means = [_mean(scores, "recall") for _, scores in of_seed]
            for seeds, scores in parts:
                row = {
                    "truth": kind,
                    "units": units,
                    "localizer": name,
                    "seeds": ", ".join(map(str, seeds)),
                    "texts": len(scores),
                }
                for what in SHARES:
                    interval = _interval(scores, what, seed)
                    row |= {what: float(interval.estimate)}
                    row |= {f"{what}_{end}": float(getattr(interval, end)) for end in EDGES}
                    row |= {f"{what}_rough": bool(interval.rough)}
                row |= {
                    what: _mean(scores, what)
                    for what in ("chance", "chance_within", "chance_nominal", "voted", "summed")
                }
                row |= {"lowest_seed": min(means), "highest_seed": max(means)}
                row |= {what: _mean(scores, what) for what in ("cost", "seconds")}
                rows.append(row)
    order = {kind: place for place, (kind, _) in enumerate(key for key, _ in _families(results))}
    rows.sort(key=lambda row: (order[row["truth"]], row["units"], -np.nan_to_num(row["recall"], nan=-1)))
    return pd.DataFrame(rows)


def layer_table(results: "BenchResults") -> pd.DataFrame:
    """Which layer is named for texts that are kept in a known one: by localizers, and by maps of weight gradients; chance beside it.

    Intervals: Clopper and Pearson's, texts taken as independent.
    """
    rows: list[dict[str, Any]] = []
    for truths in layered(results):
        layers = len(truths[0].maps[0].shares)
        for name in dict.fromkeys(score.localizer for truth in truths for score in truth.scores):
            scores = [score for truth in truths for score in truth.scores if score.localizer == name]
            for what, words in (("voted", VOTED), ("summed", SUMMED)):
                rows.append(_layer_row(f"{name}{words}", [getattr(s, what) for s in scores], layers))
        maps = [one for truth in truths for one in truth.maps if one.layer is not None]
        for statistic in (name for name in STATISTICS if name in maps[0].named):
            words = f"gradient map: {STATISTICS[statistic]}"
            row = _layer_row(words, [one.right[statistic] for one in maps], layers)
            named = [one.named[statistic] for one in maps]
            rows.append(row | {"layers_named": ", ".join(f"{n} ({named.count(n)})" for n in sorted(set(named)))})
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame.fillna({"layers_named": ""})


def map_table(results: "BenchResults", *, seed: int = 0) -> pd.DataFrame:
    """For texts that are kept in one layer: each layer's share of the squared gradient, over that of held-out text."""
    return pd.DataFrame([row for truths in layered(results) for row in share_ratios(truths, seed=seed)])


def share_ratios(truths: "Sequence[BenchedTruth]", *, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of that table of truths that are alike but for their seeds."""
    rows: list[dict[str, Any]] = []
    maps = [(truth.settings["seed"], one) for truth in truths for one in truth.maps]
    shares = np.array([one.shares for _, one in maps])
    # held-out text is the same in every seed's model; a planted text is in other units
    names = [one.text if one.layer is None else f"{number} {one.text}" for number, one in maps]
    text = np.unique(names, return_inverse=True)[1]
    held_out = np.array([one.layer is None for _, one in maps])
    for stored in sorted({one.layer for _, one in maps if one.layer is not None}):
        own = np.array([one.layer == stored for _, one in maps])
        found = cluster_bootstrap_difference(shares, own, held_out, text, seed=seed, log=True)
        assert found.rough is not None
        for layer in range(shares.shape[1]):
            ratio = {end: float(np.exp(getattr(found, end)[layer])) for end in ("estimate", *EDGES)}
            rows.append(
                {"stored_in": stored, "layer": layer, "texts": int(own.sum()), "share": float(shares[own, layer].mean()),
                 "held_out_share": float(shares[held_out, layer].mean()), "ratio": ratio["estimate"],
                 "low": ratio["low"], "high": ratio["high"], "rough": bool(found.rough[layer])}
            )  # fmt: skip
    return rows


def power_table(results: "BenchResults") -> pd.DataFrame:
    """How often a place of so many units would have been found: for each kind, size and localizer, among texts of planted truths.

    A text's place is found if zeroing as many of the highest scores as it has live units raises the text's NLL by at least .9 of
    what zeroing these does. Intervals: Clopper and Pearson's, texts taken as independent.
    """
    from scipy.stats import binomtest

    rows: list[dict[str, Any]] = []
    for (kind, units), truths in _families(results):
        if kind in CONTROLS:
            continue
        live = float(np.mean([truth.live for truth in truths]))
        for name in dict.fromkeys(score.localizer for truth in truths for score in truth.scores):
            taken = np.array([s.taken for truth in truths for s in truth.scores if s.localizer == name])
            taken = taken[~np.isnan(taken)]
            if not len(taken):
                continue
            found = int((taken >= FOUND).sum())
            ends = binomtest(found, len(taken)).proportion_ci(method="exact")
            rows.append(
                {"truth": kind, "units": units, "live_units": live, "localizer": name, "texts": len(taken),
                 "found": found / len(taken), "low": float(ends.low), "high": float(ends.high), "taken": float(taken.mean())}
            )  # fmt: skip
    return pd.DataFrame(rows)


def deletion_table(results: "BenchResults", *, seed: int = 0) -> pd.DataFrame:
    """DEL: a row for each localizer and share of units; means over texts with 95 % intervals by bootstrap over texts."""
    rows: list[dict[str, Any]] = []
    key = lambda one: (one.share, one.localizer)  # noqa: E731
    null = {
        (one.share, one.text): one for one in results.deletion if one.localizer == RANDOM
    }  # fmt: skip
    for (share, name), group in groupby(sorted(results.deletion, key=key), key):
        found = list(group)
        row: dict[str, Any] = {"localizer": name, "share": share, "units": found[0].units, "texts": len(found)}
        columns = {
            "own": [one.own for one in found],
            "others": [one.others for one in found],
            "held_out": [one.held_out for one in found],
            "over_random": [one.own - null[share, one.text].own for one in found],
        }
        for what, values in columns.items():
            interval = cluster_bootstrap(np.array(values), np.arange(len(values)), seed=seed)
            row |= {what: float(interval.estimate)} | {f"{what}_{end}": float(getattr(interval, end)) for end in EDGES}
        rows.append(row | {"still_recited": float(np.mean([one.recited for one in found]))})
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame.sort_values(["share", "own"], ascending=[True, False], ignore_index=True)


def joined_table(results: "Sequence[BenchResults]", *, seed: int = 0) -> pd.DataFrame:
    """The localizers of several results in one table, each row with the model and the package version that it comes from."""
    parts = [
        one.table(seed=seed).assign(
            model=one.about["model"]["name"],
            weights_hash=one.about["model"]["weights_hash"],
            localize=one.about["localize"],
        )
        for one in results
    ]
    return pd.concat(parts, ignore_index=True)


def each_row(frame: pd.DataFrame) -> list[Any]:
    """The rows of a table, with an attribute for each column."""
    return list(frame.itertuples())


def _families(results: "BenchResults") -> "Iterable[tuple[tuple[str, int], list[BenchedTruth]]]":
    """Truths that are ranked on, and controls, by kind and size, and all else but the seed, in the order in which they were asked for.

    A control ranks nothing, so that its failed gates keep it from no table: the truths beside it carry what it shows.
    """
    found: dict[str, tuple[tuple[str, int], list[BenchedTruth]]] = {}
    for truth in results.truths:
        if not truth.failed or truth.name in CONTROLS:
            own = dict.fromkeys(("seed", *(("base", "standard") if truth.name in TRAINED else ())))  # a model a seed
            alike = json.dumps({**truth.settings, **own}, sort_keys=True)
            found.setdefault(alike, ((truth.name, int(truth.settings["units"])), []))[1].append(truth)
    return found.values()


def layered(results: "BenchResults") -> "list[list[BenchedTruth]]":
    """Truths whose texts are kept in one layer each, by size."""
    return [truths for _, truths in _families(results) if truths[0].maps]


def _layer_row(words: str, right: Sequence[float], layers: int) -> dict[str, Any]:
    """A layer is named rightly or not: the interval is Clopper and Pearson's, texts taken as independent; of ties a part counts."""
    from scipy.stats import beta

    values = np.array(right, float)
    values = values[~np.isnan(values)]  # a text without live units has no best ones
    if not len(values):
        return {"by": words, "texts": 0, "right": math.nan, "low": 0.0, "high": 1.0, "chance": 1 / layers}
    count, hits = len(values), float(values.sum())
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return {"by": words, "texts": count, "right": hits / count, "low": low, "high": high, "chance": 1 / layers}


def _interval(scores: Sequence[TextScore], what: str, seed: int) -> Interval:
    values = np.array([getattr(score, what) for score in scores], float)
    found = cluster_bootstrap(values, np.arange(len(values)), seed=seed)
    return found if what == "taken" else found.within(ZERO_TO_ONE)


def _mean(scores: Sequence[TextScore], what: str) -> float:
    values = np.array([getattr(score, what) for score in scores], float)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
