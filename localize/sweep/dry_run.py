"""What a sweep would do and about what it would cost, without measuring or training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError
from localize.sweep.bench import Bench
from localize.sweep.grid import Grid, read_grid
from localize.sweep.plan import ModelAndSet, make_plan
from localize.sweep.store import SweepStore
from localize.sweep.training_cells import TrainingCell
from localize.train.recipe import Recipe

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

TIMED = 16
"""Paragraphs whose forward pass is timed."""
TIMED_STEPS = 3
"""Of a training; as many before them warm up."""


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

    def time_pass(pair: ModelAndSet, model: "HookedModel", paragraphs: "Paragraphs") -> None:
        from localize.measure.scoring import measure_recall

        few = paragraphs.tokens[:TIMED]
        for _ in range(2):  # the first one warms up
            started = perf_counter()
            measure_recall(model, few, paragraphs.prefix_length, show=False)
        rates[pair.path] = (perf_counter() - started) / len(few)

    cells = make_plan(grid if isinstance(grid, Grid) else read_grid(grid), Bench(), time_pass)
    store = _store(out)
    rows, timed = [], dict[str, tuple[float, int]]()
    for cell in cells:
        if isinstance(cell, TrainingCell):
            rows.append(_of_training(cell, store, timed))
            continue
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


def _of_training(cell: TrainingCell, store: SweepStore | None, timed: dict[str, tuple[float, int]]) -> Planned:
    """What a training costs, for each row that it is shown three forward passes: by the time of a few steps, made once for each shape."""
    recipe, about = cell.recipe, cell.about()
    missing = int(store is None or not store.recorded(cell, failed=False))
    shape = repr((recipe.model, recipe.corpus.vocab, replace(recipe.training, steps=0)))
    if shape not in timed:
        timed[shape] = _timed_steps(recipe)
    seconds, parameters = timed[shape]
    passes = 3.0 * recipe.steps * recipe.training.batch * missing
    teraflop = passes * 2.0 * parameters * recipe.training.row_tokens / 1e12
    names = about["model"], about["paragraphs"], about["measure"]
    return Planned(*names, cell.hash, 1, missing, passes, teraflop, recipe.steps * seconds * missing)


def _timed_steps(recipe: Recipe) -> tuple[float, int]:
    """Seconds that a step takes here, on random rows, and the model's parameters, of as large a vocabulary as is asked for."""
    import torch

    from localize.models.load import load_model
    from localize.train.loop import Trainer, build_model

    start, training = recipe.model.start, replace(recipe.training, steps=2 * TIMED_STEPS)
    model = build_model(recipe.model, recipe.corpus.vocab, 0) if start is None else load_model(start)
    model.hf.to(dtype=getattr(torch, training.dtype))
    draws = torch.Generator().manual_seed(0)
    rows = torch.randint(model.vocab_size, (training.steps * training.batch, training.row_tokens), generator=draws)
    trainer, threads = Trainer(model, rows, [training]), torch.get_num_threads()
    torch.set_num_threads(training.threads)
    try:
        for _ in range(TIMED_STEPS):  # these warm up
            trainer.step()
        started = perf_counter()
        for _ in range(TIMED_STEPS):
            trainer.step()
        took = (perf_counter() - started) / TIMED_STEPS
    finally:
        torch.set_num_threads(threads)
    return took, sum(p.numel() for p in model.hf.parameters())


def _store(out: str | Path) -> SweepStore | None:
    """The store, if there is one."""
    try:
        return SweepStore(out)
    except LocalizeError as error:
        if "no sweep is there" in str(error):
            return None
        raise
