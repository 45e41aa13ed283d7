"""What replacing a prefix token costs, as plain arrays, nan where nothing was put."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.errors import SignatureError, caller

if TYPE_CHECKING:
    import xarray as xr

PERTURB = "localize.perturb_prefix(model, paragraphs)"
"""What measures it."""


def one_kind(dataset: "xr.Dataset", kind: str | None) -> "xr.Dataset":
    """What was measured with one kind of replacement, without the axis; None is the first kind.

    Raises:
        SignatureError: If the kind was not measured.
    """
    kinds = [str(name) for name in dataset["kind"].values]
    if kind is not None and kind not in kinds:
        raise SignatureError(f"{caller()}: kind={kind!r} was not measured; the signature has {', '.join(kinds)}.")
    return dataset.isel(kind=0 if kind is None else kinds.index(kind))


def effect_of(dataset: "xr.Dataset", effect: str) -> Float[np.ndarray, "paragraph draw position"]:
    """Exact match lost (tokens, at least 0) or NLL rise (nats per token, of either sign) of one kind's replacements."""
    change = dataset[f"perturbed_{effect}"] - dataset[f"unperturbed_{effect}"]
    values = change.transpose("paragraph", "draw", "prefix_position").values.astype(float)
    return (-values).clip(min=0) if effect == "exact_match" else values


def placed(
    drop: Float[np.ndarray, "paragraph draw position"],
) -> tuple[Bool[np.ndarray, " draw"], Bool[np.ndarray, " position"]]:
    """The draws and the positions in which anything was put: nothing is the second choice for the first token."""
    there = ~np.isnan(drop)
    return np.asarray(there.any((0, 2))), np.asarray(there.any((0, 1)))


def put_only(
    drop: Float[np.ndarray, "paragraph draw position"],
) -> Float[np.ndarray, "paragraph put_draw put_position"]:
    """Without the draws and positions in which nothing was put in any paragraph."""
    draws, positions = placed(drop)
    return drop[:, draws][:, :, positions]
