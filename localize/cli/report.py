"""`localize report`."""

from pathlib import Path
from typing import Annotated

import typer

from localize.cli.app import app
from localize.cli.origin import typed
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError
from localize.report.folder import report_file
from localize.storage import check_writable


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of `localize run`, `localize edit` or `localize train`, or .zarr.zip files."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; report.html in the first folder if left out.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    max_paragraphs: Annotated[
        int, typer.Option(help="Paragraphs to show one by one, of all runs together; of more, as many of each group.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of bootstraps, permutations and the choice of paragraphs.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace whatever file lies there.")] = False,
) -> None:
    """Make one HTML file of one or several runs: evidence, figures, tables and paragraphs; it opens without a network."""
    if max_paragraphs < len(folders):
        raise InputError(
            f"--max-paragraphs {max_paragraphs}: must be at least {len(folders)}, one for each of the runs."
        )
    if out is not None and out.is_dir():
        raise InputError(f"--out {out}: is a folder; the name of a file is needed.")
    if missing := next((folder for folder in folders if not folder.exists()), None):
        raise InputError(f"{missing}: no such folder; one that `localize run` or `localize edit` wrote is needed.")
    place = report_file(folders[0]) if out is None else out
    check_writable(place.parent, f"--out {place}")
    quiet_libraries()
    from localize.report.page import check_report, write_report

    if not overwrite:
        check_report(place, folders)

    written = write_report(
        list(folders), place, title=title, max_paragraphs=max_paragraphs, seed=seed, command=typed()
    )  # fmt: skip
    say(f"Wrote {written} ({written.stat().st_size / 1e6:.1f} MB); it opens in a browser, without a network.")
