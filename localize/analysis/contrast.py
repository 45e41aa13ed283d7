"""The contrast of two groups' profiles: which cells differ by more than the others do, and by what factor.

The cells of a paragraph's profile are parts of a whole. If one cell's gradient grows, every other cell's share falls: with 1 of 24
cells truly larger, a test of each share calls nearly all 24 different. So what is tested is each cell against the typical cell: the
log ratio of the two, in each paragraph. A share, and a ratio of shares, tells what part of the whole a cell has; it cannot tell
whether that cell changed or another one did.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.choice import mean_measured
from localize.analysis.compare import compare_groups, per_paragraph
from localize.analysis.draws import Draws
from localize.errors import SignatureError, caller, public
from localize.measurements import REGISTRY
from localize.signature.schema import range_of
from localize.statistics import UNBOUNDED, Interval, Range
from localize.statistics.composition import relative_logs

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

RELATIVE, RATIO, DIFFERENCE = "relative_log_ratio", "log_ratio", "difference"
"""What is told of a cell: against the typical cell, which is tested; and its own share in the two groups, as factor and difference,
which describe."""

OF_A_WHOLE = ("gradient_share", "head_gradient_share")
"""All cells of a paragraph sum to 1 at most."""

TESTED = (
    "null_range_low", "null_range_high", "p_value", "q_value", "effect_size", "rough", "n", "clusters", "effective_clusters",
)  # fmt: skip
"""What is told of the test, beside estimate and interval."""

IN_NATS = (RELATIVE, RATIO, "null_range")
IN_UNIT = (DIFFERENCE, "profile")
"""How the names of what has a unit begin."""


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
    """How two groups' profiles differ, cell by cell: which cells stand out against the typical one, and by what factor.

    A profile is the mean over a group's paragraphs of a variable of at least 0 with several cells, such as a share. Shares sum to
    1: where one cell's grows, all others fall. What is tested is therefore the *relative log ratio*: in each paragraph the log of
    a cell over the typical cell, a geometric mean of those cells whose difference between the groups is like most others'. It is
    0 for a cell that did what the typical cell did, whatever another cell does, as long as about three quarters of the cells did
    so; that the typical cell itself is as large in both groups, no share can tell. Simulated with 109 and 136 paragraphs and 24
    cells, 5 % of the cells that did nothing are significant, be 0, 1, 6 or 9 others larger; with 15 clusters a group 5 to 7 %
    with up to 6 others larger, and 24 % with 9 (`tests/benchmarks/calibration_contrast.py`). `difference` and `log_ratio`
    describe the shares, and have no test.

    Args:
        signature: What was measured.
        a: The one group.
        b: The group that it is held against.
        variable: What is contrasted: "gradient_share", "head_gradient_share" or another variable that is never negative.
        over: Axes to sum over first: "component" gives the profile over layers.
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Per cell `relative_log_ratio` (a - b, nats) with its 95 % interval `relative_log_ratio_low`, `relative_log_ratio_high` by
        bootstrap over clusters, its central 95 % under permuted labels `null_range_low`, `null_range_high`, `p_value`, `q_value`
        (Benjamini-Hochberg over the cells), `effect_size` (Hedges' g), `rough`, `n`, `clusters`, `effective_clusters`, all of
        this log ratio; and `reference_weight`, how much the cell counts in the typical one. To describe: `profile_a`,
        `profile_b`; `difference` (a - b) and `log_ratio` (log profile_a - log profile_b, nats), each with `..._low` and
        `..._high`. Logs are nan where a group has nothing above 0; a single 0 counts as .65 of the cell's smallest value above
        0. Attributes say variable, unit, groups, paragraphs, effective clusters, seed. Fewer than 30 effective clusters warn.

    Raises:
        SignatureError: If a group, variable or axis is not there, the variable can be negative, or only one cell is left.

    Source:
        Additive log ratios: Aitchison 1986. The robust reference: see `localize.statistics.composition.typical_weights`.
    """
    draws = Draws(seed, resamples)
    a, b = signature.known_group(a), signature.known_group(b)
    values, possible = signature[variable], range_of(signature.dataset, variable)
    _check_has_ratio(str(values.name))
    plain = per_paragraph(values)
    values = _summed(plain, over)
    values = values.clip(min=0, keep_attrs=True)  # the schema allows for rounding below 0
    name, parts = str(values.name), plain[0].size // values[0].size
    if values[0].size == 1:
        raise SignatureError(f"{caller()}: {name} has a single cell here, which no other is held against; compare it.")
    possible = Range(possible.low * parts, possible.high * (1 if name in OF_A_WHOLE else parts))
    array, group, clusters = values.values.astype(float), values["group"].values, values["cluster"].values
    in_a, in_b = group == a, group == b
    logs, weights = relative_logs(array.reshape(len(array), -1), in_a, in_b)
    tested = compare_groups([values.copy(data=logs.reshape(array.shape))], a, b, {name: UNBOUNDED}, draws)[name]
    plain_difference = draws.difference(array, in_a, in_b, clusters)[0].within(possible.minus(possible))
    dims = tested["difference"].dims
    cells = {
        **_ends(RELATIVE, Interval(*(tested[end].values for end in ("difference", "low", "high")))),
        **{told: tested[told].values for told in TESTED},
        "reference_weight": weights.reshape(array.shape[1:]),
        "profile_a": mean_measured(array[in_a]),
        "profile_b": mean_measured(array[in_b]),
        **_ends(DIFFERENCE, plain_difference),
        **_ends(RATIO, draws.log_ratio(array, in_a, in_b, clusters)),
    }
    contrast = tested.drop_vars(list(tested.data_vars)).assign({told: (dims, cell) for told, cell in cells.items()})
    for told in cells:
        unit = "nats" if told.startswith(IN_NATS) else contrast.attrs["unit"] if told.startswith(IN_UNIT) else ""
        contrast[told].attrs["unit"] = unit
    for told in ("paired", "compared"):
        del contrast.attrs[told]
    return contrast


def _ends(name: str, interval: Interval) -> dict[str, np.ndarray]:
    """An estimate under its name, and the ends of its interval under its name and theirs."""
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


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
