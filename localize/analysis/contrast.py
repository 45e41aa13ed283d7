"""The contrast of two groups' profiles: how far each cell's share of the gradient differs, and by what factor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.compare import compare_groups, per_paragraph
from localize.analysis.draws import Draws
from localize.errors import SignatureError, caller, public
from localize.measurements import REGISTRY
from localize.signature.schema import range_of
from localize.statistics import Range

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

OF_RATIO = ("log_ratio", "log_ratio_low", "log_ratio_high", "log_ratio_null_low", "log_ratio_null_high")
OF_A_WHOLE = ("gradient_share", "head_gradient_share")
"""All cells of a paragraph sum to 1 at most."""

WITHOUT_UNIT = ("p_value", "q_value", "effect_size")


@public
def contrast(
    signature: "MemorizationSignature",
    a: str,
    b: str,
    variable: str = "gradient_share",
    *,
    over: str | Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> "xr.Dataset":
    """How two groups' profiles differ, cell by cell: by how much, and by what factor.

    A profile is the mean over a group's paragraphs of a variable of at least 0, best a share: absolute gradients follow
    the loss, which is several times larger for text that is not memorized.

    Args:
        signature: What was measured.
        a: The one group.
        b: The group that it is held against.
        variable: What is contrasted: "gradient_share", "head_gradient_share" or another variable that is never negative.
        over: Axes to sum over first: "component" gives the profile over layers.
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Per cell `profile_a`, `profile_b`; `difference` (a - b) with its 95 % interval `low` `high` by bootstrap over
        clusters and the central 95 % under permuted labels, `null_low` `null_high`; `log_ratio` (log profile_a -
        log profile_b, nats) with `log_ratio_low` `log_ratio_high` and `log_ratio_null_low` `log_ratio_null_high`, the
        log ratios that the null's differences are; `p_value` of equal profiles, `q_value` (Benjamini-Hochberg over the
        cells) and `effect_size` (Hedges' g of the difference). The log ratio is nan where a profile is 0. Attributes say
        variable, unit, groups, paragraphs, effective clusters, seed. Fewer than 30 effective clusters warn.

    Raises:
        SignatureError: If a group, variable or axis is not there, or the variable can be negative.
    """
    draws = Draws(seed, resamples)
    a, b = signature.known_group(a), signature.known_group(b)
    values, possible = signature[variable], range_of(signature.dataset, variable)
    _check_has_ratio(str(values.name))
    plain = per_paragraph(values)
    values = _summed(plain, over)
    values = values.clip(min=0, keep_attrs=True)  # the schema allows for rounding below 0
    name, parts = str(values.name), plain[0].size // values[0].size
    possible = Range(possible.low * parts, possible.high * (1 if name in OF_A_WHOLE else parts))
    contrast = compare_groups([values], a, b, {name: possible}, draws)[name]
    array, group, clusters = values.values.astype(float), values["group"].values, values["cluster"].values
    in_a, in_b = group == a, group == b
    ratio = draws.log_ratio(array, in_a, in_b, clusters)
    null = _ratio_null(array, in_a, in_b, contrast["null_low"].values, contrast["null_high"].values)
    cells = dict(zip(OF_RATIO, (ratio.estimate, ratio.low, ratio.high, *null), strict=True))
    contrast = contrast.rename(mean_a="profile_a", mean_b="profile_b")
    contrast = contrast.assign({name: (contrast["difference"].dims, cell) for name, cell in cells.items()})
    ordered = ["profile_a", "profile_b", "difference", "low", "high", "null_low", "null_high", *OF_RATIO, *WITHOUT_UNIT]
    contrast = contrast[ordered]
    del contrast.attrs["paired"]
    for name in ordered:
        contrast[name].attrs["unit"] = (
            "nats" if name in OF_RATIO else "" if name in WITHOUT_UNIT else contrast.attrs["unit"]
        )
    return contrast


def _check_has_ratio(name: str) -> None:
    low = REGISTRY[name].low
    if low is None or low < 0:
        raise SignatureError(
            f"{caller()}: {name} can be negative, so that two groups of it have no ratio; "
            "a variable of at least 0 is needed, such as gradient_share."
        )


def _summed(values: "xr.DataArray", over: str | Sequence[str] | None) -> "xr.DataArray":
    """The sum over some of the cells' axes; nan where a part of it was not measured."""
    names = [] if over is None else [over] if isinstance(over, str) else list(over)
    axes = [str(dim) for dim in values.dims if dim != "paragraph"]
    for name in names:
        if name not in axes:
            raise SignatureError(
                f"{caller()}: over={name!r} is no axis of the cells of {values.name}; it has {', '.join(axes) or 'none'}."
            )
    return values.sum(names, skipna=False, keep_attrs=True) if names else values


def _ratio_null(
    values: Float[np.ndarray, "paragraph *cell"],
    in_a: Bool[np.ndarray, " paragraph"],
    in_b: Bool[np.ndarray, " paragraph"],
    *null: Float[np.ndarray, "*cell"],
) -> list[Float[np.ndarray, "*cell"]]:
    """The log ratios that differences under permuted labels are, with the mean of both groups together held.

    Permuting labels moves paragraphs between the groups and leaves their common mean where it is, and that mean with a
    difference fixes both groups' means. The observed difference becomes the observed log ratio, so that it lies beyond
    the one null exactly where it lies beyond the other. Infinite where the difference would leave a group nothing.
    """
    count_a, count_b = ((~np.isnan(values[rows])).sum(0) for rows in (in_a, in_b))
    measured = np.maximum(count_a + count_b, 1)
    common = np.nansum(values[in_a | in_b], axis=0) / measured
    ratios = []
    for difference in null:
        a, b = common + count_b / measured * difference, common - count_a / measured * difference
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(np.maximum(a, 0)) - np.log(np.maximum(b, 0))
        ratios.append(np.where(common > 0, ratio, np.nan))
    return ratios
