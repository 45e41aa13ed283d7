"""`localize bench`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localize.cli.app import app
from localize.cli.benched import print_gates, print_results
from localize.cli.inputs import (
    CONTINUATION,
    PREFIX,
    Continuation,
    Device,
    Overwrite,
    Prefix,
    Revision,
    Tokenizer,
    check_numbers,
    read_inputs,
    say_inputs,
)
from localize.cli.origin import command, digest_of, hashes, typed
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError
from localize.report.folder import REPORT_FILE

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.truths.truth import Truth

DEFAULT = "route,control-none,control-random,layer,inj"
RESULTS_FILE, FIGURE_FILE, LAYERS_FILE, TRUTHS = "results.json", "bench.json", "layers.json", "truths"
EVERY = 10**9
"""Of the paragraphs: all of them are the pool."""


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Option(help="Hub name or checkpoint folder; the embedded model if left out.")
    ] = None,
    texts: Annotated[
        str | None, typer.Option(help="Pool of paragraphs to plant from; the embedded ones if left out.")
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a truth planted in the model, or of a training with [sinks] slices, instead of planting; may be repeated."
        ),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(help=f"Of {DEFAULT},heads: what to plant. If left out all but heads, or nothing beside --truth."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="A truth of each kind for each: 0,1,2.")] = "0",
    localizers: Annotated[str, typer.Option(help="cheap, all, or names: ratio,norm.")] = "cheap",
    units: Annotated[
        int | None, typer.Option(help="Of each text and layer, for route and its controls; 8 if left out.")
    ] = None,
    planted: Annotated[int | None, typer.Option(help="Texts to plant in each truth; 16 if left out, of inj 8.")] = None,
    deletion: Annotated[
        bool,
        typer.Option("--del", help="Also zero each localizer's best units of texts that the model recites by itself."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("bench"),
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder in which planted truths are kept and found again; truths in --out if left out."),
    ] = None,
    prefix: Prefix = PREFIX,
    continuation: Continuation = CONTINUATION,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Score localizers on planted truths; write results.json, which others can add to, figures and a report page."""
    check_numbers(prefix=prefix, continuation=continuation, units=units, planted=planted)
    named = [] if truth and kinds is None else _split(kinds or DEFAULT)
    numbers = _numbers(seeds)
    mine = command("bench", out, (RESULTS_FILE, FIGURE_FILE, LAYERS_FILE, REPORT_FILE), overwrite=overwrite)
    options = {
        "kinds": named, "seeds": numbers, "localizers": localizers, "units": units, "planted": planted, "deletion": deletion,
        "truths": [str(folder.resolve()) for folder in truth or ()],
    }  # fmt: skip
    mine.check(options)
    trained = [folder for folder in truth or () if _is_training(folder)]
    if trained and len(trained) == len(truth or ()) and not named and model is None and texts is None:
        quiet_libraries()
        given = _read_truths(trained, device)
        hooked, pool, whole = given[0].base, given[0].paragraphs, len(given[0].paragraphs)
        assert hooked is not None  # of a training it is the model without its sinks
    else:
        hooked, pool, whole = read_inputs(
            model, texts, prefix=prefix, continuation=continuation, limit=None, sample=EVERY, tokenizer=tokenizer, device=device,
            dtype="float32", revision=revision,
        )  # fmt: skip
        given = None
    from localize.bench.run import bench as run_bench
    from localize.bench.run import chosen_localizers
    from localize.code import code_of

    chosen = chosen_localizers(localizers)
    say_inputs(hooked, pool, whole)
    given = _read_truths(truth or (), device, hooked) if given is None else given
    code = digest_of(code_of(function) for function in (run_bench, *(one.function for one in chosen)))
    with mine.claimed(options | hashes(hooked, pool) | {"code": code}):
        results = run_bench(
            hooked, pool, named, seeds=numbers, units=units, texts=planted, truths=given, localizers=chosen, deletion=deletion,
            cache=cache or out / TRUTHS, on_line=say, on_truths=print_gates,
        )  # fmt: skip
        results.save(out / RESULTS_FILE)
        print_results(results)
        from localize import plots
        from localize.report.bench import bench_figures, write_bench_report

        drawn = plots.save(bench_figures(results), out, formats=(), widths=("page",))
        write_bench_report(results, out / REPORT_FILE, command=typed())
    wrote = ", ".join([str(out / RESULTS_FILE), *(path.name for path in drawn)])
    say(f"Wrote {wrote} and {REPORT_FILE} in {results.about['seconds']:.0f} s")


def _is_training(folder: Path) -> bool:
    """Whether a folder holds what `localize train` wrote, and no truth."""
    from localize.models.gates import GATES_FILE
    from localize.train.run import RECIPE_FILE
    from localize.truths.kinds import RECORD

    return not (folder / RECORD).is_file() and any((folder / name).is_file() for name in (GATES_FILE, RECIPE_FILE))


def _read_truths(folders: Sequence[Path], device: str | None, model: "HookedModel | None" = None) -> "list[Truth]":
    """The truths of these folders; those that were planted must be in this model."""
    from localize.bench.planted import check_base
    from localize.truths.loading import load_truth
    from localize.truths.slices import sink_truths

    found = []
    for folder in folders:
        there = sink_truths(folder, device=device) if _is_training(folder) else (load_truth(folder, device=device),)
        if model is not None:
            for one in there:
                check_base(one, model, f"--truth {folder}")
        found += there
    return found


def _split(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _numbers(given: str) -> list[int]:
    try:
        return [int(number) for number in _split(given)]
    except ValueError:
        raise InputError(f"--seeds {given}: whole numbers are needed, such as 0,1.") from None
