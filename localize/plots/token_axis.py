"""An axis of a paragraph's prefix: its tokens as labels that stand upright."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.plots.lettering import width_of
from localize.plots.theme import SMALL, Px, plain
from localize.plots.ticks import HIGH

if TYPE_CHECKING:
    import xarray as xr

LONGEST = 11
"""Letters of a token that a label has room for."""


def token_axis(texts: Sequence[str], width: Px, changed: int | None) -> tuple[dict[str, Any], Px]:
    """The x axis over these tokens, the changed one bold, and the room in px that it takes below the panel.

    Of more tokens than have room every second or third is labelled, the changed one among them.
    """
    count = len(texts)
    step = max(1, int(np.ceil(HIGH * count / width)))
    at = np.arange((changed or 0) % step, count, step)
    labels = [plain(texts[place], LONGEST) for place in at.tolist()]
    labels = [f"<b>{label}</b>" if place == changed else label for place, label in zip(at, labels, strict=True)]
    axis = {"tickvals": at, "ticktext": labels, "tickangle": -90, "range": [-0.5, count - 0.5]}
    axis["title"] = {"text": f"token of the prefix (positions 0 to {count - 1})"}
    return axis, max(width_of(label, SMALL) for label in labels) + 28


def changed_position(dataset: "xr.Dataset", row: int) -> int | None:
    """The position whose replacement changes a paragraph most, of one kind of replacement; None where none was tried."""
    if "copy_position" in dataset:
        return int(dataset["copy_position"].values[row])
    if "perturbed_exact_match" not in dataset:
        return None
    left = dataset["perturbed_exact_match"].isel(paragraph=row).mean("draw").values
    return int(np.nanargmin(left)) if np.isfinite(left).any() else None
