"""One or several runs as one HTML file that needs no network."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from localize import __version__
from localize.analysis.weight_units import unlike_units
from localize.errors import LocalizeError
from localize.report.bundle import bundle_for
from localize.report.folder import CommandResults, read_results, report_file
from localize.report.literal import cut, readable, script_json
from localize.report.paragraphs import Sampling, palettes
from localize.report.policy import content_policy
from localize.report.run import Figure, Run, run_of
from localize.report.together import run_numbers, side_by_side
from localize.signature.signature import MemorizationSignature
from localize.storage import replacing

SCRIPTS = ("page.js", "tables.js", "figures.js", "list.js", "tokens.js", "start.js")
BENCH_SCRIPTS = ("page.js", "tables.js", "figures.js", "bench.js")
MOST = 500
"""Paragraphs shown one by one if not told otherwise."""

LONGEST_TITLE = 200
HEAD = 4000
"""Characters of a page in which it says what it is of."""

Given = CommandResults | MemorizationSignature | str | Path
"""What a run may be given as: what was read, what was measured, or where it lies."""


def report(
    results: Given | Sequence[Given],
    path: str | Path | None = None,
    *,
    title: str | None = None,
    max_paragraphs: int = MOST,
    seed: int = 0,
) -> Path:
    """Write one HTML file: what was asked, what stands out, every figure, sortable tables and the paragraphs themselves.

    It opens in any browser without a network, runs no script but its own, and shows every text of others as text.

    Args:
        results: A folder that `localize run` or `localize edit` wrote, a signature's file, a signature, or a list of these.
        path: Of the file; None is `report.html` in the first folder, or beside the first file.
        title: Of the page.
        max_paragraphs: Shown one by one, of all runs together: of more, as many of each group are drawn. Tables and figures are
            of all paragraphs.
        seed: Of bootstraps, permutations and that draw.

    Returns:
        The path of the file.

    Raises:
        LocalizeError: If there is no result, `max_paragraphs` is below 1, or no path follows from what is given.
        InputError: If a folder holds no results.
        SignatureError: If a signature is damaged.
    """
    call = f"localize.report(..., max_paragraphs={max_paragraphs}, seed={seed})"
    return write_report(results, path, title=title, max_paragraphs=max_paragraphs, seed=seed, command=call)


def write_report(
    results: Given | Sequence[Given],
    path: str | Path | None,
    *,
    title: str | None,
    max_paragraphs: int,
    seed: int,
    command: str,
) -> Path:
    """As `report`, told which command made the page."""
    listed = [results] if isinstance(results, CommandResults | MemorizationSignature | str | Path) else list(results)
    if not listed:
        raise LocalizeError("report: results is empty; at least one run is needed.")
    if max_paragraphs < len(listed):
        raise LocalizeError(
            f"report: max_paragraphs={max_paragraphs} must be at least {len(listed)}, one for each of the runs."
        )
    read = [_read(given, number) for number, given in enumerate(listed)]
    place = _place(listed, read, path)
    asked = Sampling(max_paragraphs // len(read), seed)
    runs = [
        run_of(each, name, f"r{number}", asked)
        for number, (each, name) in enumerate(zip(read, _names(read), strict=True))
    ]
    unlike = unlike_units(each.signature.dataset for each in read if each.signature is not None)
    page = page_of(runs, title or _title(runs), command, sources_of([each.path for each in read]), unlike)
    with replacing(place) as beside:
        beside.write_text(page, encoding="utf-8", newline="\n")
    return place


def sources_of(paths: Sequence[Path]) -> str:
    """What tells whether two reports are of the same results: a digest of where these lie."""
    return sha256("\n".join(str(path.resolve()) for path in paths).encode()).hexdigest()


def check_report(place: Path, paths: Sequence[Path]) -> None:
    """Raise a `LocalizeError` if something else lies there than a report of the same results, which may be made anew."""
    if not place.exists():
        return
    with place.open(encoding="utf-8", errors="replace") as file:
        head = file.read(HEAD)
    if f'<meta name="localize-report" content="{sources_of(paths)}">' not in head:
        what = "a report of other results" if 'name="localize-report"' in head else "something else"
        raise LocalizeError(f"report: {place} holds {what}; choose another --out, or --overwrite replaces it.")


def page_of(runs: Sequence[Run], title: str, command: str, sources: str, unlike: str = "") -> str:
    """The page itself; `unlike` tells what of several runs does not compare."""
    together = side_by_side([(run.name, run_numbers((run.groups, *run.evidence))) for run in runs], unlike)
    figures = [figure for run in runs for figure in run.figures]
    tables = [table for run in runs for table in run.tables] + ([together] if together else [])
    content = {
        "sources": sources,
        "runs": runs,
        "together": together,
        "tables": tables,
        "palettes": script_json(palettes()),
    }
    return static_page("report.html", SCRIPTS, title, command, figures, content)


def static_page(
    template: str, scripts: Sequence[str], title: str, command: str, figures: Sequence[Figure], content: dict[str, Any]
) -> str:
    """A page of a template, with what every page holds: policy, style, scripts, and its tables as files to save.

    Args:
        template: Its name.
        scripts: Names of the scripts that it runs.
        title: Of the page.
        command: Which command made it.
        figures: All that it draws.
        content: What the template shows beside; its "tables" can be saved.
    """
    script, plotly = _script(scripts), bundle_for(figure.drawn for figure in figures)
    shared = {
        "title": cut(readable(title), LONGEST_TITLE),
        "made": f"Made on {datetime.now(UTC):%Y-%m-%d} by localize {__version__}.",
        "command": command,
        "figures": figures,
        "policy": Markup(content_policy([script, plotly])),
        "style": Markup(_template_text("style.css")),
        "script": Markup(script),
        "plotly": Markup(plotly),
        "csv": script_json({table.name: table.csv for table in content["tables"] if table.csv}),
    }
    return _environment().get_template(template).render(shared | content)


def _read(given: Given, number: int) -> CommandResults:
    if isinstance(given, CommandResults):
        return given
    if isinstance(given, MemorizationSignature):
        name = str(given.dataset.attrs["model"]["name"])
        return CommandResults(Path(name.replace("/", "-") or f"run {number + 1}"), given)
    return read_results(given)


def _place(listed: Sequence[Given], read: Sequence[CommandResults], path: str | Path | None) -> Path:
    """Where the file goes."""
    if path is not None:
        place = Path(path)
        if place.is_dir():
            raise LocalizeError(f"report: {place} is a folder; the name of a file is needed.")
        return place
    if isinstance(listed[0], MemorizationSignature):
        raise LocalizeError("report: path=None needs a folder or a file to lie in; give a signature's report a path.")
    return report_file(read[0].path)


def _names(read: Sequence[CommandResults]) -> list[str]:
    """What each run is called, told apart by its folder where two have one name."""
    names = [readable(each.name) for each in read]
    wider = [n if names.count(n) == 1 else readable(str(each.path)) for n, each in zip(names, read, strict=True)]
    return [cut(n if wider.count(n) == 1 else f"{n} ({number})", 80) for number, n in enumerate(wider, start=1)]


def _title(runs: Sequence[Run]) -> str:
    return f"Memorization report: {runs[0].name}" if len(runs) == 1 else f"Memorization report of {len(runs)} runs"


@cache
def _environment() -> Environment:
    """Templates that escape all they are given, and show what cannot be seen in it."""
    return Environment(
        loader=PackageLoader("localize.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script(names: Sequence[str]) -> str:
    return '"use strict";\n' + "\n".join(_template_text(name) for name in names)


@cache
def _template_text(name: str) -> str:
    return files("localize.report").joinpath("templates", name).read_text(encoding="utf-8")
