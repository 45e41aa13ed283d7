"""One paragraph of a signature: which row it is, and the tokens that were measured."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from localize.axes import OWN
from localize.errors import LocalizeError, caller

if TYPE_CHECKING:
    import xarray as xr

UNKNOWN = -1
"""Stands for a token of the model's own continuation that the signature does not hold."""


def row_of(dataset: "xr.Dataset", paragraph: int | str) -> int:
    """Where a paragraph stands, by number or by id.

    Raises:
        LocalizeError: If there is none.
    """
    ids = [str(name) for name in dataset["paragraph"].values]
    if isinstance(paragraph, str):
        if paragraph not in ids:
            known = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            raise LocalizeError(f"{caller()}: no paragraph {paragraph!r}; the ids are {known}.")
        return ids.index(paragraph)
    if not 0 <= paragraph < len(ids):
        raise LocalizeError(f"{caller()}: paragraph={paragraph} must lie in 0..{len(ids) - 1}, or be an id.")
    return paragraph


def loss_variable(dataset: "xr.Dataset") -> str:
    """The token NLL of the continuation that a perturbation compares with, or else of recall."""
    return "unperturbed_token_nll" if "unperturbed_token_nll" in dataset else "token_nll"


def measured_tokens(dataset: "xr.Dataset", row: int, variable: str) -> Int[np.ndarray, " position"]:
    """Prefix and the continuation that a variable was measured on; `UNKNOWN` where the signature does not hold the tokens.

    Up to its exact match the model's own continuation is the true one; the rest is known where the prefix was perturbed or patched.

    Args:
        dataset: Of a signature.
        row: The paragraph.
        variable: Whose continuation.

    Raises:
        LocalizeError: If the signature has no tokens.
    """
    if "tokens" not in dataset.coords:
        raise LocalizeError(f"{caller()}: the signature has no tokens; measure it again.")
    which, recalled = (dataset[name].attrs.get("continuation") for name in (variable, "exact_match"))
    told = dataset.get("unperturbed_tokens", dataset["tokens"])
    whose = which if told.attrs.get("continuation") == which and which != recalled else recalled
    tokens = (dataset["tokens"] if whose == recalled else told).transpose("paragraph", "position").values[row]
    known = tokens.astype(np.int64)
    if which != whose:
        prefix = int(dataset.attrs["paragraphs"]["prefix_length"])
        known[prefix + (int(dataset["exact_match"].values[row]) if which == OWN else 0) :] = UNKNOWN
    return known
