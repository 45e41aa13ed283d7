"""Two signatures of paragraphs that correspond row by row: before and after an edit, a paragraph and its copy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import mean_measured
from localize.analysis.compare import (
    Cells,
    basis_of_cells,
    compared,
    compared_variables,
    per_paragraph,
    rough_cells,
    warn_of_few_clusters,
    warn_of_rough_intervals,
)
from localize.analysis.comparison import Comparison
from localize.analysis.draws import Draws
from localize.analysis.weight_units import unlike_units
from localize.errors import SignatureError, caller, public, warn
from localize.signature.schema import range_of
from localize.statistics import (
    Range,
    effective_clusters,
    pair_differences,
    paired_difference,
    share_rising,
)

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

AFTER, BEFORE = "after", "before"
ALL = "all paragraphs"


@public
def compare_paired(
    after: "MemorizationSignature",
    before: "MemorizationSignature",
    variables: str | Sequence[str] | None = None,
    *,
    group: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """How the same paragraphs differ between two signatures, cell by cell: after - before, pair by pair.

    Of a model before and after an edit; of paragraphs and their perturbed copies (`copies_of`); of two models.

    Args:
        after: The one side.
        before: What is subtracted from it: the same ids and clusters in the same order. Tokens may differ, as those of copies do.
        variables: One or several that both hold; None takes those whose mean means something and that have at most 3000 cells.
        group: Only the paragraphs of this group of `before`; None for all.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        As `MemorizationSignature.compare`, with `paired`: `difference` is the mean over pairs, `low` `high` its 95 % interval by
        bootstrap over clusters, `p_value` by flipping the signs of whole clusters, `null_range_low` `null_range_high` the
        central 95 % of the flipped means, `effect_size` the mean in the pairs' own standard deviations (Hedges' correction),
        `auc` the share of pairs that rise, ties counted half, `mean_a` and `mean_b` the means after and before of the pairs.
        Levels are compared, of every variable: the difference of the two sides is what is asked for. Draws are averaged first,
        on each side; a pair that one side lacks is left out of the cell; of an axis the labels that both have count. A warning
        tells where gradients of two models do not compare (see `gradients(attention_scale=)`).

    Raises:
        SignatureError: If ids or clusters differ, the group or a variable is not there, nothing is in both, or a variable is of
            another continuation on one side than on the other. Of `variables=None` such are left out, with a warning.
    """
    _check_rows(after, before)
    names = names_compared(after, before, variables)
    return compared_pairs(after, before, names, group, Draws(seed, resamples), (AFTER, BEFORE))


def compared_pairs(
    after: "MemorizationSignature",
    before: "MemorizationSignature",
    names: Sequence[str],
    group: str | None,
    draws: Draws,
    sides: tuple[str, str],
) -> Comparison:
    """What `compare_paired` gives, of rows that correspond; `sides` is what the two are called."""
    chosen = np.ones(len(before), dtype=bool)
    if group is not None:
        chosen = before.dataset["group"].values == before.known_group(group)
    clusters = before.dataset["cluster"].values[chosen]
    warn_of_few_clusters({group or ALL: clusters})
    effective = effective_clusters(clusters)
    about: Mapping[str, Any] = {
        "a": sides[0],
        "b": sides[1],
        "group": group or "",
        "paragraphs": [len(clusters), len(clusters)],
        "effective_clusters": [effective, effective],
        "seed": draws.seed,
        "resamples": draws.resamples,
        "paired": True,
    }

    arrays = [_sides(after[name][chosen], before[name][chosen]) for name in names]

    def numbers(rows: Float[np.ndarray, "row cell"], apart: Range, family: int) -> Cells:
        one, other = both_measured(*np.split(rows, 2))
        values = pair_differences(one, other)
        interval, test = draws.mean(values, clusters).within(apart), draws.sign_flip(values, clusters, family)
        return {
            "difference": test.difference,
            "low": interval.low,
            "high": interval.high,
            "p_value": test.p_value,
            "null_range_low": test.null_low,
            "null_range_high": test.null_high,
            "effect_size": paired_difference(values),
            "auc": share_rising(values),
            "mean_a": mean_measured(one),
            "mean_b": mean_measured(other),
            "rough": rough_cells(interval, test),
            **basis_of_cells(values, clusters, np.ones(len(values), dtype=bool)),
        }

    if unlike := unlike_units((after.dataset, before.dataset), names):
        warn(f"{caller()}: {unlike}.")
    apart = {name: range_of(after.dataset, name).minus(range_of(before.dataset, name)) for name in names}
    comparison = compared(arrays, numbers, apart, about)
    warn_of_rough_intervals(comparison)
    return comparison


def _sides(after: "xr.DataArray", before: "xr.DataArray") -> "xr.DataArray":
    """Both sides of a variable, one below the other, draws averaged; of an axis the labels that both have."""
    import xarray as xr

    sides = [per_paragraph(side) for side in (after, before)]
    # What a paragraph is called along its axis is checked already; other coordinates of it may differ.
    bare = [
        side.drop_vars([n for n, c in side.coords.items() if "paragraph" in c.dims]).astype(float) for side in sides
    ]
    one, other = xr.align(*bare, join="inner")
    if one.size == 0:
        raise SignatureError(f"{caller()}: {after.name} has no cell that both sides have measured.")
    return xr.concat([one, other], "paragraph").rename(after.name).assign_attrs(sides[0].attrs)


def both_measured(
    one: Float[np.ndarray, "*row cell"], other: Float[np.ndarray, "*row cell"]
) -> tuple[Float[np.ndarray, "*row cell"], Float[np.ndarray, "*row cell"]]:
    """Two sides, nan in both where one of them is."""
    missing = np.isnan(one) | np.isnan(other)
    return np.where(missing, np.nan, one), np.where(missing, np.nan, other)


def names_compared(
    after: "MemorizationSignature", before: "MemorizationSignature", variables: str | Sequence[str] | None
) -> list[str]:
    """What is compared: asked for, or in both and of one continuation."""
    ways = {
        name: [side[name].attrs.get("continuation", "") for side in (after, before)]
        for name in before.variables
        if name in after
    }
    if variables is not None:
        names = [variables] if isinstance(variables, str) else list(dict.fromkeys(variables))
        for name in names:
            for side, signature in ((AFTER, after), (BEFORE, before)):
                if name not in signature:
                    raise SignatureError(
                        f"{caller()}: no {name!r} {side}; that side holds {', '.join(signature.variables)}."
                    )
            if ways[name][0] != ways[name][1]:
                raise SignatureError(
                    f"{caller()}: {name} is of the {ways[name][0]} continuation after and of the {ways[name][1]} one "
                    "before; the same is needed."
                )
        return names
    shared = [name for name in compared_variables(before.dataset) if name in after]
    names = [name for name in shared if ways[name][0] == ways[name][1]]
    if not names:
        one, other = (", ".join(signature.variables) for signature in (after, before))
        raise SignatureError(
            f"{caller()}: nothing that is compared is in both, of one continuation: {one} after, {other} before."
        )
    if left_out := [name for name in shared if name not in names]:
        warn(f"{caller()} leaves out {', '.join(left_out)}: of another continuation before than after.")
    return names


def _check_rows(after: "MemorizationSignature", before: "MemorizationSignature") -> None:
    """Refuse, in one line, two signatures that are not of one model each, or whose rows do not correspond."""
    for side in (after, before):
        side.one_model(caller())
    if len(after) != len(before):
        raise SignatureError(
            f"{caller()}: {len(after)} paragraphs after and {len(before)} before; the same ones, in the same order, are needed."
        )
    for name, words in (("paragraph", "id"), ("cluster", "cluster")):
        one, other = (side.dataset[name].values for side in (after, before))
        differ = np.flatnonzero(one != other)
        if len(differ):
            row = differ[0]
            raise SignatureError(
                f"{caller()}: the {words} of row {row} is {one[row].item()!r} after and {other[row].item()!r} before; "
                "rows must correspond."
            )
