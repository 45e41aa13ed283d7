"""What a sweep would do and about what it would cost, without measuring."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError
from localize.sweep.bench import Bench
from localize.sweep.grid import Grid, read_grid
from localize.sweep.plan import Pair, make_plan
from localize.sweep.store import SweepStore

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

TIMED = 16
"""Paragraphs whose forward pass is timed."""


@dataclass(frozen=True)
class Planned:
    """One cell.

    Attributes:
        model: Its name.
        paragraphs: Its name.
        measure: Its name.
        hash: Of all that its numbers depend on.
        units: Units of work.
        missing: Those that the store does not hold.
        passes: About how many forward passes of a paragraph the missing ones take.
        teraflop: These in 10^12 floating-point operations: two for each weight and token.
        seconds: About how long these take here, in one process.
    """

    model: str
    paragraphs: str
    measure: str
    hash: str
    units: int
    missing: int
    passes: float
    teraflop: float
    seconds: float


def dry_run(grid: str | Path | Mapping[str, Any] | Grid, out: str | Path) -> list[Planned]:
    """The cells of a grid, in order, with what is missing in the store and its cost.

    Raises:
        InputError: As `run_sweep` does.
    """
    rates: dict[str, float] = {}

    def time_pass(pair: Pair, model: "HookedModel", paragraphs: "Paragraphs") -> None:
        from localize.measure.scoring import measure_recall

        few = paragraphs.tokens[:TIMED]
        for _ in range(2):  # the first one warms up
            started = perf_counter()
            measure_recall(model, few, paragraphs.prefix_length, show=False)
        rates[pair.path] = (perf_counter() - started) / len(few)

    cells = make_plan(grid if isinstance(grid, Grid) else read_grid(grid), Bench(), time_pass)
    store = _store(out)
    rows = []
    for cell in cells:
        units = list(cell.units())
        done = store.recorded(cell, failed=False) if store is not None else set()
        missing = [unit for unit in units if unit.rows not in done]
        passes = cell.passes * sum(last - first for first, last in (unit.rows for unit in missing)) / cell.pair.count
        set_ = cell.pair.paragraphs
        operations = 2.0 * cell.pair.facts["parameters"] * (set_.prefix + set_.continuation)
        names = cell.pair.model.name, set_.name, cell.measure.name
        cost = passes, passes * operations / 1e12, passes * rates[cell.pair.path]
        rows.append(Planned(*names, cell.hash, len(units), len(missing), *cost))
    return rows


def _store(out: str | Path) -> SweepStore | None:
    """The store, if there is one."""
    try:
        return SweepStore(out)
    except LocalizeError as error:
        if "no sweep is there" in str(error):
            return None
        raise
