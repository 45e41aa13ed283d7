"""One paragraph of a signature: which row it is, and the tokens that were measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from localize.axes import OWN
from localize.errors import LocalizeError

if TYPE_CHECKING:
    import xarray as xr

UNKNOWN = -1
"""Stands for a token of the model's own continuation that the signature does not hold."""


def row_of(dataset: "xr.Dataset", paragraph: int | str, caller: str) -> int:
    """Where a paragraph stands, by number or by id.

    Raises:
        LocalizeError: If there is none.
    """
    ids = [str(name) for name in dataset["paragraph"].values]
    if isinstance(paragraph, str):
        if paragraph not in ids:
            known = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            raise LocalizeError(f"{caller}: no paragraph {paragraph!r}; the ids are {known}.")
        return ids.index(paragraph)
    if not 0 <= paragraph < len(ids):
        raise LocalizeError(f"{caller}: paragraph={paragraph} must lie in 0..{len(ids) - 1}, or be an id.")
    return paragraph


def measured_tokens(
    dataset: "xr.Dataset", row: int, variable: str, own: Sequence[int] | None, caller: str
) -> Int[np.ndarray, " position"]:
    """Prefix and the continuation that a variable was measured on; `UNKNOWN` where the signature does not hold the tokens.

    Up to its exact match the model's own continuation is the true one.

    Args:
        dataset: Of a signature.
        row: The paragraph.
        variable: Whose continuation.
        own: The model's own continuation, or None; a coordinate `own_tokens` says it too.
        caller: The figure that asks, named in errors.

    Raises:
        LocalizeError: If `own` has another length than the continuation, or the signature has no tokens.
    """
    if "tokens" not in dataset.coords:
        raise LocalizeError(f"{caller}: the signature has no tokens; measure it again.")
    tokens = dataset["tokens"].transpose("paragraph", "position").values[row].astype(np.int64)
    prefix = int(dataset.attrs["paragraphs"]["prefix_length"])
    length = len(tokens) - prefix
    if own is not None and len(own) != length:
        raise LocalizeError(f"{caller}: own has {len(own)} tokens; the continuation has {length}.")
    which, recalled = (dataset[name].attrs.get("continuation") for name in (variable, "exact_match"))
    if which == recalled:
        return tokens
    if which == OWN and own is None and "own_tokens" in dataset.coords:
        own = dataset["own_tokens"].transpose("paragraph", ...).values[row][-length:].tolist()
    known = tokens.copy()
    if which == OWN and own is not None:
        known[prefix:] = own
    else:
        known[prefix + (int(dataset["exact_match"].values[row]) if which == OWN else 0) :] = UNKNOWN
    return known
