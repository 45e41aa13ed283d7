"""`localize report`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from localize.cli.app import app
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of `localize run` or `localize edit`, or .zarr.zip files.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; report.html in the first folder if left out.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    max_paragraphs: Annotated[
        int, typer.Option(help="Paragraphs to show one by one, of all runs together; of more, as many of each group.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of bootstraps, permutations and the choice of paragraphs.")] = 0,
) -> None:
    """Make one HTML file of one or several runs: evidence, figures, tables and paragraphs; it opens without a network."""
    if max_paragraphs < len(folders):
        raise InputError(
            f"--max-paragraphs {max_paragraphs}: must be at least {len(folders)}, one for each of the runs."
        )
    if out is not None and (blocking := next((p for p in out.parents if p.exists() and not p.is_dir()), None)):
        raise InputError(f"--out {out}: {blocking} is a file; a folder is needed.")
    if out is not None and out.is_dir():
        raise InputError(f"--out {out}: is a folder; the name of a file is needed.")
    quiet_libraries()
    from localize.report.page import write_report

    written = write_report(
        list(folders), out, title=title, max_paragraphs=max_paragraphs, seed=seed, command=shlex.join(["localize", *sys.argv[1:]])
    )  # fmt: skip
    say(f"Wrote {written} ({written.stat().st_size / 1e6:.1f} MB); it opens in a browser, without a network.")
