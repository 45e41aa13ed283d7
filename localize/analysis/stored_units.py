"""What the scores of units and heads say of where texts are stored: how concentrated, in which layers, in which head.

- *Share of the scores above 0 in the best units*: how much of the sum over all MLP units a paragraph's best k hold. Of many units the
  best score high whatever they do, so null: the untrained twin's, chosen alike.
- *Mean score of the best units*, and what *other texts score at these*: descriptions. The level of a score falls with the text's own
  loss, so that it compares neither with other groups' nor with the twin's; and other units would have been chosen for the other texts.
- *Share of the best units in a layer*, and in the lower half of the layers: each of them has a vote. Null: the votes of the twin's best
  units. Other texts' votes are the other group's; even votes are a landmark.
- *Share of the best head* in the sum of the heads' scores above 0: chosen on one half of the clusters, told on the other. Null: the
  twin's best head, chosen alike.

Differences between groups are *in total*: where groups differ in loss, what a gradient ranks differs too, and nothing here is matched.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.choice import choosers, head_name, largest, mean_measured
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Null, Row, difference_name, main_pair, null_beside, rows_of
from localize.analysis.sentences import Wording, sentence
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, ZERO_TO_ONE, Range
from localize.statistics.correction import false_discovery
from localize.statistics.ranking import ranked

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

AT_MOST_ONE = Range(-np.inf, 1.0)

UNITS = 16
"""How many of a paragraph's best units are told, unless another number is asked for."""

HELD = "share of the scores above 0 in the best {} units"
TOP = "mean score of the best {} units"
ELSEWHERE = "mean score of other texts at a text's best {} units"
IN_LAYER = "share of the best {} units in layer {}"
LOW_HALF = "share of the best {} units in the lower half of the layers"
HEAD = "share of the heads' scores above 0 in head {}"

HELD_WORDS = Wording(
    "the best {units} units hold more of the scores of {a} than of {b}",
    "the best {units} units hold less of the scores of {a} than of {b}",
    "no significant difference between {a} and {b} in what the best {units} units hold of the scores",
)
HEIGHT_WORDS = Wording(
    "the best {units} units of {a} lie in lower layers than those of {b}",
    "the best {units} units of {a} lie in higher layers than those of {b}",
    "no significant difference between {a} and {b} in the layers of their best {units} units",
)
LAYER_WORDS = Wording(
    "more of the best {units} units of {a} than of {b} lie in layer {layer}",
    "fewer of the best {units} units of {a} than of {b} lie in layer {layer}",
    "no significant difference between {a} and {b} in the best {units} units' share of layer {layer}",
)
HEAD_WORDS = Wording(
    "head {head} has more of the heads' scores than the best head of random weights",
    "head {head} has less of the heads' scores than the best head of random weights",
    "no evidence that head {head} has more of the heads' scores than the best head of random weights",
)


@public
def stored_units_table(
    signature: "MemorizationSignature", units: int = UNITS, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """How concentrated the scores of units are, in which layers the best ones lie, and which head scores best.

    Args:
        signature: With `stored_units`.
        units: How many of each paragraph's best units are looked at; at most 64, as many as are kept of the untrained twin.
        seed: Of bootstrap, permutation and the choice of a head.
        resamples: Draws of each.

    Returns:
        Rows indexed by `quantity`, `layer` (-1 where it is of none) and `group`, with the main groups' difference, columns as in
        `summary` and `even`, the share of a layer if all had alike. Quantities: see `localize.analysis.stored_units`. `q_value`
        corrects the p-values of all layers and groups. Without the untrained twin there is no null.

    Raises:
        SignatureError: If stored units were not measured, or `units` is out of range.
    """
    from localize.analysis.tables import table_of

    require(signature, {"unit_score": "localize.stored_units(model, paragraphs)"})
    dataset, draws = signature.dataset, Draws(seed, resamples)
    kept = dataset.sizes.get("unit_rank", 64)
    most = min(kept, dataset.sizes["layer"] * dataset.sizes["unit"])
    if not 1 <= units <= most:
        raise SignatureError(f"{caller()}: units={units!r} must lie in 1..{most}.")
    group, clusters = (dataset[name].values for name in ("group", "cluster"))
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    levels = {TOP: best(dataset, units)[0].mean(1), ELSEWHERE: others_scores(dataset, units)}
    described = [
        row
        for quantity, values in levels.items()
        for row in _with_twin(quantity.format(units), values, None, dataset, draws, UNBOUNDED)
        if row["group"] in signature.groups
    ]
    by_layer = low_half_rows(dataset, draws, units) + layer_rows(dataset, draws, units)
    rows = held_rows(dataset, draws, units) + described + by_layer + head_rows(dataset, draws)
    return table_of(({"layer": -1, "even": np.nan} | row for row in rows), ("quantity", "layer", "group"), ("even",))


def held_rows(dataset: "xr.Dataset", draws: Draws, units: int) -> list[Row]:
    """How much of a paragraph's scores above 0 its best units hold, beside the untrained twin's."""
    score, total = best(dataset, units)[0], dataset["unit_score"].clip(min=0).sum(["layer", "unit"], skipna=False)
    held, twin = _share(score, total.values.astype(float)), None
    if "unit_score_sum_untrained" in dataset:
        beside = _twin(dataset, units)
        assert beside is not None
        twin = _share(beside[0], dataset["unit_score_sum_untrained"].values.astype(float))
    return _with_twin(HELD.format(units), held, twin, dataset, draws, ZERO_TO_ONE)


def low_half_rows(dataset: "xr.Dataset", draws: Draws, units: int) -> list[Row]:
    """How many of the best units lie in the lower half of the layers."""
    half = dataset.sizes["layer"] // 2
    low, twin = (
        None if of is None else of[:, :half].sum(1) for of in (votes(dataset, units), twin_votes(dataset, units))
    )
    assert low is not None
    return _with_twin(LOW_HALF.format(units), low, twin, dataset, draws, ZERO_TO_ONE)


def layer_rows(dataset: "xr.Dataset", draws: Draws, units: int) -> list[Row]:
    """Each layer's share of the best units, p-values corrected for all of them."""
    own, twin, rows = votes(dataset, units), twin_votes(dataset, units), []
    for at, layer in enumerate(dataset["layer"].values.tolist()):
        beside = None if twin is None else twin[:, at]
        told = _with_twin(IN_LAYER.format(units, layer), own[:, at], beside, dataset, draws, ZERO_TO_ONE)
        rows += [{"layer": layer, "even": 1 / own.shape[1]} | row for row in told]
    for row, q_value in zip(rows, false_discovery(np.array([row["p_value"] for row in rows])), strict=True):
        row["q_value"] = float(q_value)
    return rows


def head_rows(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """The head with the largest share on one half of the clusters, told on the other, beside the twin's best one."""
    chosen = best_head(dataset, draws.seed)
    if chosen is None:
        return []
    at, told = chosen
    part = dataset.isel(paragraph=np.flatnonzero(told))
    share, twin = head_shares(part)[:, *at], None
    if "head_score_untrained" in dataset:
        other = best_head(dataset, draws.seed, "head_score_untrained")
        twin = None if other is None else head_shares(part, "head_score_untrained")[:, *other[0]]
    return _with_twin(HEAD.format(head_name(dataset, at)), share, twin, part, draws, AT_MOST_ONE)


def best_head(
    dataset: "xr.Dataset", seed: int, name: str = "head_score"
) -> tuple[tuple[int, int], Bool[np.ndarray, " paragraph"]] | None:
    """The head with the largest mean share on the clusters that choose, and the paragraphs of the others; None without either."""
    group, clusters = (dataset[of].values for of in ("group", "cluster"))
    choosing = choosers(group, clusters, seed)
    told = ~np.isin(clusters, clusters[choosing])
    at = largest(mean_measured(head_shares(dataset, name)[choosing])) if choosing.any() else None
    return None if at is None or not told.any() else (at, told)


def best(
    dataset: "xr.Dataset", units: int
) -> tuple[Float[np.ndarray, "paragraph rank"], Int[np.ndarray, "paragraph rank"]]:
    """The highest scores of each paragraph from the best one down, and where they stand among all units; nan where there is none."""
    scores = dataset["unit_score"].transpose("paragraph", "layer", "unit").values.astype(float)
    flat = scores.reshape(len(scores), -1)
    order = ranked(flat)[:, :units]
    return np.take_along_axis(flat, order, axis=1), order


def votes(dataset: "xr.Dataset", units: int) -> Float[np.ndarray, "paragraph layer"]:
    """The share of each paragraph's best units that lies in each layer; nan where there is no score."""
    score, order = best(dataset, units)
    return _shares(np.where(np.isnan(score), -1, order // dataset.sizes["unit"]), dataset.sizes["layer"])


def twin_votes(dataset: "xr.Dataset", units: int) -> Float[np.ndarray, "paragraph layer"] | None:
    """The same of the untrained twin; None where there is none."""
    twin = _twin(dataset, units)
    return None if twin is None else _shares(twin[1], dataset.sizes["layer"])


def others_scores(dataset: "xr.Dataset", units: int) -> Float[np.ndarray, " paragraph"]:
    """What the paragraphs of other clusters score on average at each paragraph's best units; nan where there are none."""
    scores = dataset["unit_score"].transpose("paragraph", "layer", "unit").values
    flat, order, clusters = scores.reshape(len(scores), -1), best(dataset, units)[1], dataset["cluster"].values
    found = np.full(len(flat), np.nan)
    for row, places in enumerate(order):
        if (other := clusters != clusters[row]).any():
            found[row] = flat[:, places][other].mean(dtype=float)
    return found


def stored_notes(signature: "MemorizationSignature") -> list[str]:
    """In which layers the best units of the two main groups lie, and what the best head has of the scores, in sentences."""
    dataset, draws = signature.dataset, Draws(0)
    if "unit_score" not in signature:
        return []
    pair, units, notes = main_pair(signature.groups), told_units(dataset), []
    if pair is not None:
        names, difference = {"a": pair[0], "b": pair[1], "units": units}, difference_name(*pair)
        for rows, wording in ((held_rows, HELD_WORDS), (low_half_rows, HEIGHT_WORDS)):
            (row,) = (row for row in rows(dataset, draws, units) if row["group"] == difference)
            notes.append(sentence(row, wording, **names))
        told = [row for row in layer_rows(dataset, draws, units) if row["group"] == difference]
        found = [row for row in told if not np.isnan(row["q_value"])]
        if found:
            most = max(found, key=lambda row: abs(row["estimate"]))
            notes.append(sentence(most, LAYER_WORDS, p="q_value", layer=most["layer"], **names))
    for row in head_rows(dataset, draws):
        if row["group"] == (pair[0] if pair else signature.groups[0]):
            notes.append(f"{row['group']}: {sentence(row, HEAD_WORDS, part='null', head=row['quantity'].split()[-1])}")
    return [f"Stored units, in total: {note}.".replace("not_memorized", "not memorized") for note in notes]


def told_units(dataset: "xr.Dataset") -> int:
    """`UNITS`, or as many as there are."""
    return min(UNITS, dataset.sizes["layer"] * dataset.sizes["unit"])


def _twin(
    dataset: "xr.Dataset", units: int
) -> tuple[Float[np.ndarray, "paragraph rank"], Int[np.ndarray, "paragraph rank"]] | None:
    if "unit_score_untrained" not in dataset:
        return None
    names = ("unit_score_untrained", "unit_layer_untrained")
    score, layer = (dataset[name].transpose("paragraph", "unit_rank").values[:, :units] for name in names)
    return score.astype(float), layer


def _shares(layer: Int[np.ndarray, "paragraph rank"], layers: int) -> Float[np.ndarray, "paragraph layer"]:
    shares = (layer[:, :, None] == np.arange(layers)).mean(1)
    return np.where((layer < 0).any(1, keepdims=True), np.nan, shares)


def head_shares(dataset: "xr.Dataset", name: str = "head_score") -> Float[np.ndarray, "paragraph layer head"]:
    """Each head's score over the sum of the paragraph's scores above 0; nan where none is."""
    scores = dataset[name].transpose("paragraph", "layer", "head").values.astype(float)
    total = scores.clip(min=0).sum((1, 2), keepdims=True)
    return np.divide(scores, total, out=np.full(scores.shape, np.nan), where=total > 0)


def _share(
    best: Float[np.ndarray, "paragraph rank"], total: Float[np.ndarray, " paragraph"]
) -> Float[np.ndarray, " paragraph"]:
    """What the best units hold of a sum of scores above 0; nan where none is."""
    held = best.clip(min=0).sum(1)
    return np.divide(held, total, out=np.full(held.shape, np.nan), where=total > 0)


def _with_twin(
    quantity: str,
    values: Float[np.ndarray, " paragraph"],
    twin: Float[np.ndarray, " paragraph"] | None,
    dataset: "xr.Dataset",
    draws: Draws,
    possible: Range,
) -> list[Row]:
    """A row per group beside the untrained twin's numbers of the same paragraphs, and the main groups' difference."""
    group, clusters = dataset["group"].values, dataset["cluster"].values

    def no_null(_: np.ndarray) -> Null:
        return NO_NULL

    null = no_null if twin is None else partial(null_beside, values, twin, clusters, draws, possible)
    return rows_of(quantity, values, group, clusters, draws, null, possible)
