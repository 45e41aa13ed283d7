"""Choosing a head on some clusters, so that it can be scored on the others."""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.axes import MEMORIZED
from localize.errors import SignatureError
from localize.statistics import choosing_half

if TYPE_CHECKING:
    import xarray as xr


class StrongestHead(NamedTuple):
    """A head that scores furthest from its null.

    Attributes:
        layer: Its row.
        head: Its column.
        sign: 1 if it scores above its null, -1 if below.
    """

    layer: int
    head: int
    sign: int

    @property
    def at(self) -> tuple[int, int]:
        """Row and column."""
        return self.layer, self.head


def choosers(
    group: Shaped[np.ndarray, " paragraph"], clusters: Int[np.ndarray, " paragraph"], seed: int
) -> Bool[np.ndarray, " paragraph"]:
    """The paragraphs that choose a head: the memorized of `choosing_half`, where the groups have that name, else all of that half."""
    reference = group == MEMORIZED if MEMORIZED in group else np.ones(len(group), dtype=bool)
    return choosing_half(clusters, seed) & reference


def strongest_head(
    above: Float[np.ndarray, "paragraph layer head"], choosing: Bool[np.ndarray, " paragraph"]
) -> StrongestHead | None:
    """The head whose mean lies furthest from its null, on either side, over the paragraphs that choose.

    Args:
        above: Rare-token score less its mismatched null; nan where a head has none.
        choosing: As `choosers` gives them.

    Returns:
        None if nothing on that half has a score.
    """
    return strongest_of(mean_measured(above[choosing]))


def strongest_of(mean: Float[np.ndarray, "layer head"]) -> StrongestHead | None:
    """Where the largest value of either sign stands, nan left out; None if all are."""
    at = largest(np.abs(mean))
    return None if at is None else StrongestHead(*at, -1 if mean[at] < 0 else 1)


def mean_measured(values: Float[np.ndarray, "paragraph *cell"]) -> Float[np.ndarray, "*cell"]:
    """Mean over the paragraphs that were measured; nan where none was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a head that always attends evenly has no score
        return np.asarray(np.nanmean(values, axis=0))


def largest(values: Float[np.ndarray, "layer head"]) -> tuple[int, int] | None:
    """Where the largest value stands, nan left out; None if all are."""
    if np.isnan(values).all():
        return None
    layer, head = np.unravel_index(np.nanargmax(values), values.shape)
    return int(layer), int(head)


def head_scores(
    dataset: "xr.Dataset", query: str
) -> tuple[Float[np.ndarray, "paragraph layer head"], Float[np.ndarray, "paragraph layer head"]]:
    """Rare-token scores of one query and, beside them, their mismatched null.

    Raises:
        SignatureError: If no such query was measured, or no mismatched null.
    """
    score, null = dataset["rare_token_score"], dataset["rare_token_null"]
    for axis, wanted in (("query", query), ("null", "mismatched")):
        there = [str(name) for name in null[axis].values]
        if wanted not in there:
            raise SignatureError(f"signature: no {axis} {wanted!r} in rare_token_null; it has {', '.join(there)}.")
    axes = ("paragraph", "layer", "head")
    score, null = score.sel(query=query), null.sel(query=query, null="mismatched")
    return score.transpose(*axes).values.astype(float), null.transpose(*axes).values.astype(float)


def head_name(dataset: "xr.Dataset", at: tuple[int, int]) -> str:
    """ "L1.H2", from the indices of layer and head."""
    return f"L{dataset['layer'].values[at[0]]}.H{dataset['head'].values[at[1]]}"
