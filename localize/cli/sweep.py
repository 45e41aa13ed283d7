"""`localize sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localize.cli.app import app
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError, LocalizeError
from localize.storage import read_toml

if TYPE_CHECKING:
    from rich.table import Table

    from localize.sweep.results import Sweep


@app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(help="Grid (.toml): models, paragraphs, measurements, options; trainings.")],
    out: Annotated[str, typer.Option(help="Store: a folder, or a URL that fsspec opens, s3://...")] = "sweep.zarr",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and what they cost; measure nothing.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine; one, this one, if left out.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each of them; the cores divided, if left out.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="A dask scheduler, tcp://host:8786.")] = None,
    resource: Annotated[
        list[str] | None, typer.Option(help="NAME=AMOUNT that a worker must offer, GPU=1; may be repeated.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also do again what failed before.")] = False,
) -> None:
    """Measure a grid of models, paragraphs and options, or train one of recipes; go on where an earlier run stopped."""
    read_toml(grid, "grid")  # what is wrong with the file itself is told before anything is loaded
    quiet_libraries()
    from localize.sweep.run import run_sweep

    if dry_run:
        _print_plan(grid, out)
        return
    done = run_sweep(
        grid, out, workers=workers, threads=threads, scheduler=scheduler, resources=_amounts(resource), retry=retry, on_line=say
    )  # fmt: skip
    print_cells(done)
    if failed := [cell for cell in done.cells().to_dict("records") if cell["status"] == "failed"]:
        first = failed[0]
        raise LocalizeError(
            f"{len(failed)} of {len(done.cells())} cells failed; the first, {first['model']} / {first['paragraphs']} / "
            f"{first['measure']}: {first['error']}. The others are kept; --retry does these again."
        )


def print_cells(done: "Sweep") -> None:
    """One row per cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "paragraphs", "measurement", "status", "done", "seconds", title=f"Sweep {done.path}")
    _fold(table)
    last = None
    for cell in done.cells().to_dict("records"):
        pair = (cell["model"], cell["paragraphs"])
        named, last = pair if pair != last else ("", ""), pair
        count = f"{cell['done']} of {cell['of']}"
        shown = (*named, cell["measure"], cell["status"], count, f"{cell['seconds']:.1f}")
        table.add_row(*(Text(str(value)) for value in shown))
    Console(highlight=False).print(table)


def _fold(table: "Table") -> None:
    """Let long names go on in the next line: none is cut."""
    for column in table.columns:
        column.overflow = "fold"


def _print_plan(path: Path, out: str) -> None:
    """The cells of a grid, what they cost, and how long that takes here."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize.sweep.dry_run import dry_run

    rows = dry_run(path, out)
    table = Table("model", "paragraphs", "measurement", "units", "to do", "passes", "TFLOP", "about (s)")
    _fold(table)
    for row in rows:
        shown = (
            row.model,
            row.paragraphs,
            row.measure,
            row.units,
            row.missing,
            f"{row.passes:,.0f}",
            f"{row.teraflop:,.2f}",
        )
        table.add_row(*(Text(str(value)) for value in shown), f"{row.seconds:,.0f}")
    Console(highlight=False).print(table)
    say(
        f"{len(rows)} cells, {sum(row.missing for row in rows)} units to do, about {sum(row.seconds for row in rows):,.0f} s on one "
        "process here. Passes: forward passes of a paragraph in what is to do; time: these, at the rate of a short batch."
    )


def _amounts(given: list[str] | None) -> dict[str, float]:
    """`["GPU=1"]` as a mapping."""
    amounts = {}
    for text in given or []:
        name, _, amount = text.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            raise InputError(f"--resource {text}: must be NAME=AMOUNT, such as GPU=1.") from None
    return amounts
