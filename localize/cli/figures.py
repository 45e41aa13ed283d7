"""`localize figures`."""

import html
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localize.cli.app import app
from localize.cli.inputs import Overwrite
from localize.cli.origin import command
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError, LocalizeError
from localize.storage import replacing

if TYPE_CHECKING:
    from localize.plots.catalogue import Drawn
    from localize.report.folder import CommandResults

FORMATS, WIDTHS = ("svg", "pdf", "png"), ("page", "column")
CAPTIONS_FILE = "captions.md"
FILES = tuple(f"{place}*.{kind}" for place in ("", "*/") for kind in (*FORMATS, "json", "md"))
"""What it leaves in a folder, and in one for each of several results."""


@app.command()
def figures(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of `localize run`, `localize edit` or `localize train`, or .zarr.zip files."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the figures; of several runs, a folder in it for each.")] = Path(
        "figs"
    ),
    format: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(FORMATS)}, or none for plotly's JSON alone; may be repeated. All if left out."
        ),
    ] = None,
    width: Annotated[
        list[str] | None,
        typer.Option(help="page (7 in) or column (3.5 in); may be repeated. Both if left out."),
    ] = None,
    paragraph: Annotated[
        str | None,
        typer.Option(help="Id of the paragraph that some figures are of; the first of the first group if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of bootstraps and permutations.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw every figure of a run, of edits or of trainings, for a paper: SVG, PDF, PNG and JSON at page and column width, with captions."""
    formats, widths = format or list(FORMATS), width or list(WIDTHS)
    for option, given, allowed in (("format", formats, (*FORMATS, "none")), ("width", widths, WIDTHS)):
        if unknown := set(given) - set(allowed):
            raise InputError(f"--{option} {min(unknown)}: not one of {', '.join(allowed)}.")
    if "none" in formats and len(formats) > 1:
        raise InputError("--format none: leaves no other format; give it alone.")
    mine = command("figures", out, FILES, overwrite=overwrite)
    asked = {
        "results": [str(folder.resolve()) for folder in folders]
    }  # drawn anew, they are these results' all the same
    mine.check(asked)
    quiet_libraries()
    from localize.report.folder import read_results

    results = [read_results(folder) for folder in folders]
    places = {out if len(results) == 1 else out / name: one for name, one in _named(results).items()}
    drawn = {}
    with warnings.catch_warnings(record=True) as notes:
        for place, one in places.items():
            say(f"Drawing the figures of {one.path}")
            drawn[place] = _figures(one, paragraph, seed)
    for note in dict.fromkeys(str(note.message) for note in notes):
        say(f"Note: {note}")
    with mine.claimed(asked):
        for place, entries in drawn.items():
            _write_captions(place / CAPTIONS_FILE, entries)
        count = _save(drawn, [kind for kind in formats if kind != "none"], widths)
    say(
        f"Wrote {count} files of {sum(map(len, drawn.values()))} figures to {out}; their captions are in {CAPTIONS_FILE}"
    )


def _named(results: "list[CommandResults]") -> "dict[str, CommandResults]":
    """Each by its name, a second one of the same name with a number behind it."""
    found: dict[str, CommandResults] = {}
    for one in results:
        name, number = one.name, 2
        while name in found:
            name, number = f"{one.name}-{number}", number + 1
        found[name] = one
    return found


def _figures(results: "CommandResults", paragraph: str | None, seed: int) -> "dict[str, Drawn]":
    """Of the signature, and of edits; a folder may hold both."""
    from localize.plots.catalogue import edit_figures_of, figures_of, training_figures_of

    found = {}
    if results.training is not None:
        found |= training_figures_of(results.training, seed=seed)
    if results.signature is not None:
        found |= figures_of(results.signature, tokenizer=results.tokenizer, paragraph=paragraph, seed=seed)
    elif paragraph is not None:
        raise InputError(
            f"--paragraph {paragraph}: {results.path} holds edits, which have no figures of one paragraph."
        )
    return found | edit_figures_of(results.changes, results.controls, results.relearned, results.attacked, seed=seed)


def _save(drawn: "Mapping[Path, Mapping[str, Drawn]]", formats: list[str], widths: list[str]) -> int:
    """Write all files with a progress bar; gives how many there are."""
    from tqdm.auto import tqdm

    from localize import plots
    from localize.measure import batches

    total = sum(map(len, drawn.values())) * len(widths) * (len(formats) + 1)
    written = 0
    with tqdm(total=total, desc="figures", unit="file", delay=batches.SHOW_AFTER, leave=False) as bar:

        def told(_: Path) -> None:
            bar.update()

        for place, entries in drawn.items():
            try:
                written += len(plots.save(entries, place, formats, widths, on_progress=told))
            except LocalizeError:
                bar.close()  # the error is the last line
                raise
    return written


def _write_captions(path: Path, entries: "Mapping[str, Drawn]") -> None:
    """Title and caption of each figure, as Markdown that a paper's draft can take over."""
    parts = ["# Figures\n"]
    for name, entry in entries.items():
        parts.append(f"## {name}\n\n**{_escaped(entry.title)}.** {_escaped(entry.caption)}\n")
    with replacing(path) as beside:
        beside.write_text("\n".join(parts), encoding="utf-8")


def _escaped(words: str) -> str:
    """Nothing in it is markup: names of groups are the user's."""
    return "".join(f"\\{c}" if c in "\\`*_[]#|" else c for c in html.escape(words, quote=False))
