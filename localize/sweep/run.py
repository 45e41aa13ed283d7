"""Run a sweep: plan it, do what is missing, write as it comes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from localize.claims import kept_words
from localize.errors import LocalizeError
from localize.measure.batches import SHOW_AFTER
from localize.sweep.bench import Bench
from localize.sweep.engines import Engine, InProcess, OnCluster, Unit, local_pool, scheduler_at
from localize.sweep.grid import Grid, read_grid
from localize.sweep.plan import Cell, make_plan
from localize.sweep.results import Sweep, open_sweep
from localize.sweep.store import SweepStore, writing
from localize.sweep.training_cells import TrainingCell

if TYPE_CHECKING:
    from distributed import Client


def run_sweep(
    grid: str | Path | Mapping[str, Any] | Grid,
    out: str | Path,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: "str | Client | None" = None,
    resources: Mapping[str, float] | None = None,
    retry: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> Sweep:
    """Measure and train everything that a grid asks for and the store does not hold yet.

    Every pair of a model and a paragraph set starts with recall; then come the measurements, and last the trainings. A number is reused
    only if weights, paragraphs, options (of a training its recipe and files) and the code that it depends on are the same, by hash. A
    killed run goes on where it stopped.

    Args:
        grid: A TOML file, a mapping, or what `read_grid` gave; see there.
        out: A folder, or a URL that fsspec opens ("s3://bucket/sweep.zarr"). Other processes can read it meanwhile.
        workers: Processes on this machine; None measures in this one. Needs the extra `cluster`.
        threads: Of torch in each of these; None divides the cores.
        scheduler: Address of a dask scheduler ("tcp://host:8786"), or a dask client, as `dask-jobqueue` and `dask-cuda` give them;
            its workers must see the same files and have the same package.
        resources: What a worker must offer for a unit, such as `{"GPU": 1}`.
        retry: Also do again what raised an error before.
        on_line: Told what is done and what failed, a line each.

    Returns:
        The sweep, open for reading.

    Raises:
        InputError: If the grid, a model or a paragraph set cannot be used; nothing is measured then.
        LocalizeError: If another process writes to the store, it is of another version, the disk is full, or no scheduler answers.
    """
    if workers is not None and workers < 1:
        raise LocalizeError(f"run_sweep: workers={workers} must be at least 1.")
    if workers is not None and scheduler is not None:
        raise LocalizeError("run_sweep: both workers and scheduler are given; one of them is needed.")
    asked = grid if isinstance(grid, Grid) else read_grid(grid)
    say = on_line or (lambda line: None)
    bench = Bench()
    with writing(out) as store:
        cells = make_plan(asked, bench, store.prepare)
        store.describe(cells, asked.document)
        missing = missing_units(store, cells, retry=retry)
        total = sum(1 for cell in cells for _ in cell.units())
        say(f"{total - len(missing)} of {total} units are there; {len(missing)} to do.")
        try:
            if missing:
                with _engine(bench, workers, threads, scheduler, resources) as engine:
                    _do(store, engine, missing, say)
        except KeyboardInterrupt as error:
            error.add_note(kept_words(out))
            raise
    return open_sweep(out)


def missing_units(
    store: SweepStore, cells: Sequence[Cell | TrainingCell], *, retry: bool
) -> list[tuple[Unit, Cell | TrainingCell]]:
    """What is not finished, in the plan's order; what failed only on request."""
    missing = []
    for cell in cells:
        there = store.recorded(cell, failed=not retry)
        missing += [(unit, cell) for unit in cell.units() if unit.rows not in there]
    return missing


def _do(
    store: SweepStore, engine: Engine, missing: list[tuple[Unit, Cell | TrainingCell]], say: Callable[[str], None]
) -> None:
    """Write every outcome as it comes."""
    cell_of = {unit.words: cell for unit, cell in missing}
    failed = 0
    with tqdm(total=len(missing), desc="sweep", unit="unit", delay=SHOW_AFTER) as bar:
        for outcome in engine.outcomes([unit for unit, _ in missing]):
            store.write(cell_of[outcome.unit.words], outcome)
            if outcome.error:
                failed += 1
                bar.set_postfix_str(f"{failed} failed", refresh=False)
                say(f"failed: {outcome.unit.words}: {outcome.error}")
            bar.update()


@contextmanager
def _engine(
    bench: Bench,
    workers: int | None,
    threads: int | None,
    scheduler: "str | Client | None",
    resources: Mapping[str, float] | None,
) -> Iterator[Engine]:
    """Whoever was asked for, for as long as it is needed."""
    if workers is not None:
        with local_pool(workers, threads) as client:
            yield OnCluster(client, resources)
    elif isinstance(scheduler, str):
        with scheduler_at(scheduler) as client:
            yield OnCluster(client, resources)
    elif scheduler is not None:
        yield OnCluster(scheduler, resources)
    else:
        yield InProcess(bench)
