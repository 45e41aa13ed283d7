"""What weight noise and replaced prefix tokens do, beside the control that was measured with them: is the choice worth more than chance?

Noise on the weights with the largest gradients stands beside as much noise on as many random weights; tokens replaced in an order that
claims to know which of them matter, beside as many in random order. Both on the same paragraphs, so that the differences are paired.
The rise in NLL comes first: exact match ends at the first error, and saturates.
"""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, Basis, Null, Row, differing, either_rough, row_of
from localize.analysis.saturation import DOES_NOT, SATURATES
from localize.analysis.sentences import Wording, sentence
from localize.axes import RANDOM, ordered_groups
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.statistics import Range, false_discovery, pair_differences

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

LOSSES = {DOES_NOT: ("nll", 1.0), SATURATES: ("exact_match", -1.0)}
"""Of each quantity, what it is a change of, and which sign makes a loss of it positive."""

OWN = (*DIFFERENCE, "verdict")
"""The columns of these tables that others do not have."""

NOISED = Wording(
    "more is lost than with as many random weights noised", "less is lost than with as many random weights noised",
    "no significant difference from as many random weights noised",
)  # fmt: skip
REPLACED = Wording(
    "more is lost than in random order",
    "less is lost than in random order",
    "no significant difference from random order",
)


@public
def noise_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """What noise on the weights with the largest gradients costs, beside as much noise on as many random weights.

    Args:
        signature: Holds `localize.noise`, with its control.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity` (the rise in NLL, in nats per token, then the lost exact match, in tokens), `group`, `chosen_by` (whose
        gradients chose the weights), `weights_noised` and `strength`. `estimate` is the mean, draws averaged, then paragraphs,
        `null` that of the control, each with its 95 % interval by bootstrap over clusters; `difference` is the paired difference of
        the two, `p_value` that of flipping its sign for whole clusters, `q_value` over all rows (Benjamini-Hochberg); `verdict`
        says by difference and q whether the choice is worth more than chance. A strength of 0 is left out. Paragraphs whose noised
        NLL is no finite number in a draw are left out there; `n` counts the others.

    Raises:
        SignatureError: If the noise or its control was not measured.
    """
    dataset = _measured(signature, "noised", "localize.noise(model, paragraphs)")
    labels = [str(name) for name in dataset["chosen_by"].values]
    if RANDOM not in labels or len(labels) < 2:
        raise SignatureError(
            f"{caller()}: noise was put on the weights chosen by {', '.join(labels)}; a group's and {RANDOM!r} are needed."
        )
    dataset = dataset.sel(strength=dataset["strength"] > 0)
    return _table(
        signature, dataset, "noised", "noise_draw", ("chosen_by", "weights_noised", "strength"), NOISED, seed, resamples
    )


@public
def corruption_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """What replacing more and more prefix tokens costs in an order that claims to know which matter, beside random order.

    Args:
        signature: Holds `localize.corrupt_prefix`, with the random order.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `group`, `order` and `tokens_replaced`; columns as of `noise_table`. Where all tokens of the prefix are
        replaced the orders are one, and differ by nothing.

    Raises:
        SignatureError: If the corruption or the random order was not measured.
    """
    dataset = _measured(signature, "corrupted", "localize.corrupt_prefix(model, paragraphs)")
    labels = [str(name) for name in dataset["order"].values]
    if RANDOM not in labels or len(labels) < 2:
        raise SignatureError(
            f"{caller()}: tokens were replaced in the order {', '.join(labels)}; {RANDOM!r} and another one are needed."
        )
    return _table(
        signature, dataset, "corrupted", "corruption_draw", ("order", "tokens_replaced"), REPLACED, seed, resamples
    )


def _measured(signature: "MemorizationSignature", changed: str, by: str) -> "xr.Dataset":
    """The dataset, if it holds both quantities before and after."""
    names = [f"{when}_{what}" for what, _ in LOSSES.values() for when in (changed, "unperturbed")]
    require(signature, dict.fromkeys(names, by))
    return signature.dataset


def _table(
    signature: "MemorizationSignature",
    dataset: "xr.Dataset",
    changed: str,
    draw: str,
    axes: Sequence[str],
    wording: Wording,
    seed: int,
    resamples: int,
) -> "pd.DataFrame":
    """The rows of every quantity, label, cell and group; the first of `axes` is the one that has the control."""
    from localize.analysis.tables import table_of

    draws, rows = Draws(seed, resamples), []
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    labels = [str(name) for name in dataset[axes[0]].values]
    cells = [
        dict(zip(axes[1:], at, strict=True)) for at in product(*(dataset[axis].values.tolist() for axis in axes[1:]))
    ]
    for quantity, (what, sign) in LOSSES.items():
        moved = sign * (dataset[f"{changed}_{what}"].astype(float) - dataset[f"unperturbed_{what}"])
        values = moved.mean(draw, skipna=False).transpose("paragraph", *axes).values
        values = values.reshape(len(group), len(labels), len(cells))
        level = range_of(dataset, f"unperturbed_{what}")
        control = values[:, labels.index(RANDOM)]
        for place, label in enumerate(labels):
            if label != RANDOM:
                keys = [{"quantity": quantity, axes[0]: label} | cell for cell in cells]
                rows += _beside_control(keys, values[:, place], control, group, clusters, draws, level.minus(level))
    for row, q in zip(rows, false_discovery(np.array([row["p_value"] for row in rows])), strict=True):
        row["q_value"] = float(q)
        row["verdict"] = sentence(row, wording, part="difference", p="q_value")
    return table_of(rows, ("quantity", "group", *axes), OWN)


def _beside_control(
    keys: Sequence[dict[str, Any]],
    own: Float[np.ndarray, "paragraph cell"],
    control: Float[np.ndarray, "paragraph cell"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range,
) -> list[Row]:
    """A row per group and cell: its mean, the control's, and their paired difference."""
    moved, rows = pair_differences(own, control), []
    both = ~np.isnan(moved)
    own, control = (np.where(both, values, np.nan) for values in (own, control))
    for name in ordered_groups(str(name) for name in group):
        inside = group == name
        there, of_group = both[inside], clusters[inside]
        interval, aside = (draws.mean(values[inside], of_group).within(possible) for values in (own, control))
        apart = draws.mean(moved[inside], of_group).within(possible.minus(possible))
        test = draws.sign_flip(moved[inside], of_group)
        for cell, key in enumerate(keys):
            paired = either_rough(None if test.rough is None else test.rough[cell], apart[cell].rough)
            null = Null.measured(aside[cell], test.p_value[cell], paired)
            row = row_of(interval[cell], null, Basis.of(of_group[there[:, cell]]))
            rows.append(key | {"group": name} | row | differing(apart[cell]))
    return rows
