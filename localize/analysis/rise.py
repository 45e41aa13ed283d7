"""What a change of model or prefix does to a number: the level after it, less the level before."""

from typing import TYPE_CHECKING

import numpy as np

from localize.errors import SignatureError, caller
from localize.measurements import REGISTRY
from localize.signature.schema import range_of
from localize.statistics import Range, pair_differences

if TYPE_CHECKING:
    import xarray as xr

LEVEL_OF, RISE_OF = "level", "rise"
"""What of a variable is compared: it itself, or how far it lies above what it was before the change."""


def has_rise(name: str) -> bool:
    """Whether a variable is a level after a change."""
    return REGISTRY[name].before is not None


def rise_of(dataset: "xr.Dataset", name: str) -> "xr.DataArray":
    """A variable less its level before the change, after - before for all: exact match that is lost has a negative rise.

    Raises:
        SignatureError: If the level before is not there.
    """
    after, before = dataset[name], REGISTRY[name].before
    if before not in dataset:
        raise SignatureError(
            f"{caller()}: {name} is compared as its rise over {before}, which the signature does not hold; rises=False compares levels."
        )
    level = dataset[before].broadcast_like(after).transpose(*after.dims)
    moved = pair_differences(after.values.astype(np.float64), level.values.astype(np.float64))
    return after.copy(data=moved).assign_attrs(compared=RISE_OF)


def rise_range(dataset: "xr.Dataset", name: str) -> Range:
    """Where a rise can lie."""
    return range_of(dataset, name).minus(range_of(dataset, str(REGISTRY[name].before)))


def compared_of(told: "xr.Dataset | xr.DataArray") -> str:
    """What of a variable is compared: "level" or "rise"."""
    return told.attrs.get("compared", LEVEL_OF)


def with_rise(words: str, compared: str) -> str:
    """The name or label of a variable, with what of it is compared.

    >>> with_rise("ablated_nll", "rise")
    'rise of ablated_nll'
    """
    return f"rise of {words}" if compared == RISE_OF else words
