"""The same texts in two runs of a training: the one that was shown them, and its twin, which never saw them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import mean_measured
from localize.analysis.compare import (
    Cells,
    basis_of_cells,
    compared,
    per_paragraph,
    rough_cells,
)
from localize.analysis.comparison import Comparison
from localize.analysis.draws import Draws
from localize.analysis.paired import both_measured, compared_pairs, names_compared
from localize.analysis.trainings import check_one_arm, warn_of_few_seeds
from localize.axes import TRAINED, TWIN
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.statistics import Range, effective_clusters, pair_differences, paired_difference, share_rising
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature


@public
def compare_runs(
    signature: "MemorizationSignature",
    variables: str | Sequence[str] | None = None,
    *,
    a: str = TRAINED,
    b: str = TWIN,
    group: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """How the same paragraphs differ between two runs of a training, cell by cell: what being shown them did, and nothing else.

    The twin began with the same weights and was shown the same rows but the planted ones, so that a paragraph's difficulty, its place in
    the language and all that training does to any text are in both. What groups of different texts cannot be matched on is equal here.

    Args:
        signature: Over `training_run`, and `training_seed` where there are several, of one step: `signature.at(training_step=-1)`.
        variables: One or several; None takes those whose mean means something and that have at most 3000 cells.
        a: The one run.
        b: The run that is subtracted.
        group: Only the paragraphs of this group; None for "planted" where there is such a group, else for all. "never_trained" is the
            null: neither run was shown them.
        seed: Of bootstrap and sign flips, of one seed.
        resamples: Draws of each.

    Returns:
        As `compare_paired`. Of two or more seeds each gives one number, the mean over paragraphs of a - b, and these are what is told of:
        `low` `high` by Student's t, `p_value` of the paired t-test, `null_range_low` `null_range_high` the central 95 % of that test's
        null, `effect_size` in the seeds' own standard deviations (Hedges' correction), `auc` the share of seeds in which a is larger.
        It tells what other trainings would give for these paragraphs. Of one seed it is over clusters of paragraphs.

    Raises:
        SignatureError: If the signature is of one run or several steps, has no such run, group or variable.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    one, other = _runs(signature, a, b)
    if group is None:
        group = TRAINED if TRAINED in signature.groups else None
    draws, seeds = Draws(seed, resamples), _seeds(one)
    first, second = (side if not seeds else side.at(training_seed=seeds[0]) for side in (one, other))
    names = names_compared(first, second, variables)
    if len(seeds) < 2:
        return compared_pairs(first, second, names, group, draws, (a, b))
    warn_of_few_seeds(len(seeds))
    return _over_seeds(one, other, names, group, (a, b))


def _runs(
    signature: "MemorizationSignature", a: str, b: str
) -> tuple["MemorizationSignature", "MemorizationSignature"]:
    """Both runs, of one step."""
    over = signature.over_training
    if "training_arm" in over:
        check_one_arm(signature)
    if "training_run" not in over:
        raise SignatureError(f"{caller()}: the signature has no axis 'training_run'; a training with a twin is needed.")
    if "training_step" in over:
        raise SignatureError(f"{caller()}: the signature is over several steps; choose one: .at(training_step=-1).")
    runs = [str(run) for run in signature["training_run"].values]
    for run in (a, b):
        if run not in runs:
            raise SignatureError(f"{caller()}: no run {run!r}; there are {', '.join(runs)}.")
    if a == b:
        raise SignatureError(f"{caller()}: a and b are both {a!r}; two runs are needed.")
    return signature.at(training_run=a), signature.at(training_run=b)


def _seeds(signature: "MemorizationSignature") -> list[int]:
    over = signature.over_training
    return [int(label) for label in signature["training_seed"].values] if "training_seed" in over else []


def _over_seeds(
    one: "MemorizationSignature",
    other: "MemorizationSignature",
    names: Sequence[str],
    group: str | None,
    runs: tuple[str, str],
) -> Comparison:
    """Each seed's mean difference, and what these tell."""
    dataset = one.dataset
    chosen = np.ones(len(one), dtype=bool) if group is None else dataset["group"].values == one.known_group(group)
    clusters, seeds = dataset["cluster"].values[chosen], dataset.sizes["training_seed"]
    effective = effective_clusters(clusters)
    about: Mapping[str, Any] = {
        "a": runs[0], "b": runs[1], "group": group or "", "paragraphs": [len(clusters)] * 2,
        "effective_clusters": [effective] * 2, "seeds": seeds, "paired": True,
    }  # fmt: skip

    def numbers(rows: Float[np.ndarray, "row cell"], apart: Range, family: int) -> Cells:
        sides = rows.reshape(2, seeds, len(clusters), -1)
        first, second = both_measured(*sides)
        moved = pair_differences(first, second)
        of_seeds = mean_measured(np.moveaxis(moved, 1, 0))
        interval = seed_interval(of_seeds)
        reach = interval.high - interval.estimate
        interval = interval.within(apart)
        return {
            "difference": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "p_value": seed_test(of_seeds),
            "null_range_low": -reach,
            "null_range_high": reach,
            "effect_size": paired_difference(of_seeds),
            "auc": share_rising(of_seeds),
            "mean_a": mean_measured(mean_measured(np.moveaxis(first, 1, 0))),
            "mean_b": mean_measured(mean_measured(np.moveaxis(second, 1, 0))),
            "rough": rough_cells(interval),
            **basis_of_cells(mean_measured(moved), clusters, np.ones(len(clusters), dtype=bool)),
        }

    arrays = [_rows(one, other, name, chosen) for name in names]
    apart = {name: (possible := range_of(dataset, name)).minus(possible) for name in names}
    return compared(arrays, numbers, apart, about)


def _rows(
    one: "MemorizationSignature", other: "MemorizationSignature", name: str, chosen: np.ndarray
) -> "xr.DataArray":
    """Both runs of a variable one below the other, in each seed below seed, its paragraphs; draws averaged."""
    import xarray as xr

    parts = []
    for side in (one, other):
        for at in range(side.dataset.sizes["training_seed"]):
            part = per_paragraph(side[name].isel(training_seed=at, drop=True))[chosen]
            parts.append(part.drop_vars([n for n, c in part.coords.items() if "paragraph" in c.dims]).astype(float))
    attrs = parts[0].attrs
    return xr.concat(parts, "paragraph").rename(name).assign_attrs(attrs)
