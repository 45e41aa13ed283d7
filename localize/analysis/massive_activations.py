"""Massive activations: in which layers a few activations dwarf all others, beside a model with random weights.

- *Largest over median activation* of a layer's stream. Null: the untrained twin's, paired, signs of clusters flipped.
- *Share of paragraphs with a massive activation*: one above 100 and above 1,000 times the median. Null: what the twin's would be; it has
  none where its ratio is below.
"""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Null, Row, null_beside, rows_of
from localize.errors import LocalizeError, caller, public
from localize.statistics import UNBOUNDED, ZERO_TO_ONE

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

LEAST, TIMES = 100.0, 1000.0
"""An activation is massive above both: in activation units, and in medians of its layer."""

RATIO, MASSIVE = "largest over median activation", "share of paragraphs with a massive activation"
LARGEST_RATIO = f"{RATIO}, of all layers"
"""In the layer in which a paragraph's is largest."""


@public
def massive_activation_table(
    signature: "MemorizationSignature",
    *,
    least: float = LEAST,
    times: float = TIMES,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """In which layers activations are massive, for each group, and where these are.

    Args:
        signature: With `massive_activations`.
        least: Activation units that a massive one exceeds.
        times: Medians of its layer that it exceeds, too.
        seed: Of bootstrap, permutation and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `layer` and `group`, columns as in `summary` and `largest`, the largest activation of any paragraph
        (activation units), `dimension` and `position`, where the largest one is in most paragraphs, and `same_place`, the share of
        paragraphs in which it is in that dimension. The null is the untrained twin's.

    Raises:
        LocalizeError: If `least` or `times` is not above 0.
        SignatureError: If the activations were not measured.

    Source:
        Sun et al. 2024 (arXiv 2402.17762).
    """
    from localize.analysis.tables import table_of

    for name, value in (("least", least), ("times", times)):
        if not value > 0:
            raise LocalizeError(f"{caller()}: {name}={value} must be above 0.")
    measured(signature)
    dataset, draws, rows = signature.dataset, Draws(seed, resamples), list[Row]()
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    ratio, largest = (dataset[name].values.astype(float) for name in ("activation_ratio", "largest_activation"))
    massive = ((ratio > times) & (largest > least)).astype(float)
    twin = (
        dataset["activation_ratio_untrained"].values.astype(float) if "activation_ratio_untrained" in dataset else None
    )
    for at, layer in enumerate(dataset["layer"].values.tolist()):
        null = _no_null if twin is None else partial(
            null_beside, ratio[:, at], twin[:, at], clusters, draws, UNBOUNDED
        )  # fmt: skip
        told = rows_of(RATIO, ratio[:, at], group, clusters, draws, null, UNBOUNDED)
        told += rows_of(MASSIVE, massive[:, at], group, clusters, draws, _no_null, ZERO_TO_ONE)
        for row in told:
            chosen = group == row["group"]
            rows.append(row | {"layer": int(layer)} | _where(signature, at, chosen))
    return table_of(rows, ("quantity", "layer", "group"), ("largest", "dimension", "position", "same_place"))


def measured(signature: "MemorizationSignature") -> None:
    """Raise a `SignatureError` unless the activations were measured, of one model."""
    require(signature, {"activation_ratio": "localize.massive_activations(model, paragraphs)"})


def largest_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """The largest ratio of all layers, beside the largest of the twin's."""
    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    own, twin = (
        dataset[name].values.astype(float).max(1) for name in ("activation_ratio", "activation_ratio_untrained")
    )
    null = partial(null_beside, own, twin, clusters, draws, UNBOUNDED)
    return rows_of(LARGEST_RATIO, own, group, clusters, draws, null, UNBOUNDED)


def _no_null(_: np.ndarray) -> Null:
    return NO_NULL


def _where(signature: "MemorizationSignature", at: int, chosen: np.ndarray) -> Row:
    """The largest activation of a layer, and where it is in most of these paragraphs; of a difference nothing."""
    if not chosen.any():
        return {"largest": np.nan, "dimension": -1, "position": -1, "same_place": np.nan}
    dataset = signature.dataset
    dimensions, positions = (
        dataset[f"largest_{name}"].values[chosen, at].tolist() for name in ("dimension", "position")
    )
    (dimension, count), (position, _) = (Counter(of).most_common(1)[0] for of in (dimensions, positions))
    largest = float(dataset["largest_activation"].values[chosen, at].max())
    return {"largest": largest, "dimension": dimension, "position": position, "same_place": count / len(dimensions)}
