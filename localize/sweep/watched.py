"""The trainings of a sweep as one signature."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError, warn
from localize.signature.signature import SCHEMA_VERSION, MemorizationSignature
from localize.signature.stacking import joined_arms, nested
from localize.signature.storage import fixed_width

if TYPE_CHECKING:
    import xarray as xr


def watched_training(
    where: str, cells: "Sequence[tuple[Mapping[str, Any], xr.Dataset | None]]"
) -> MemorizationSignature:
    """What was watched, of all seeds and runs, at every place of a grid where all are finished.

    Args:
        where: What errors and warnings begin with.
        cells: What the store tells of each training, and what it holds of it; None of what is not finished.

    Raises:
        LocalizeError: If no place is finished.
        SignatureError: If the places have not the paragraphs in common.
    """
    places: dict[str, dict[tuple[str, int], xr.Dataset | None]] = {}
    varied: dict[str, dict[str, Any]] = {}
    for cell, dataset in cells:
        told = cell["training"]
        places.setdefault(told["arm"], {})[told["run"], told["seed"]] = dataset
        varied[told["arm"]] = told["varied"]
    finished = {
        arm: nested(
            ("training_run", "training_seed"), {at: _signature(one) for at, one in held.items() if one is not None}
        )
        for arm, held in places.items()
        if all(one is not None for one in held.values())
    }
    if not finished:
        raise LocalizeError(f"{where}: no training is finished in all its seeds and runs; see cells().")
    if left := [arm for arm in places if arm not in finished]:
        warn(
            f"{where}: {len(left)} of {len(places)} places left out, of which not all seeds and runs are finished: {'; '.join(left)}."
        )
    if list(finished) == [""]:
        return finished[""]
    return joined_arms(finished, varied)


def _signature(dataset: "xr.Dataset") -> MemorizationSignature:
    texts = [name for name in dataset.coords if dataset[name].dtype.kind == "T"]
    dataset = fixed_width(dataset, texts)
    dataset.attrs = {"schema": SCHEMA_VERSION, **dataset.attrs}
    return MemorizationSignature(dataset.drop_encoding())
