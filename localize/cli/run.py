"""`localize run` and `localize show`."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localize.axes import FOLDED, RAW
from localize.claims import COMMAND_FILE, FINISHED, RUNNING
from localize.cli.app import app
from localize.cli.inputs import (
    CONTINUATION,
    PREFIX,
    Continuation,
    Device,
    Dtype,
    Limit,
    Model,
    Out,
    Overwrite,
    Prefix,
    Revision,
    Sample,
    Source,
    Tokenizer,
    check_numbers,
    read_inputs,
    say_inputs,
)
from localize.cli.origin import command, digest_of, hashes, save_tokenizer, save_told
from localize.cli.words import next_command, print_summary, say
from localize.code import code_of
from localize.errors import InputError
from localize.measurements import MEASUREMENTS, Measurement, asked_names, measurement_named
from localize.report.folder import REPORT_FILE, SIGNATURE_FILE, TOKENIZER_FOLDER, unfinished_words
from localize.storage import read_json

if TYPE_CHECKING:
    from localize.claims import Claim
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.signature import MemorizationSignature

DEFAULT = tuple(name for name in asked_names() if MEASUREMENTS[name].by_default)
FILES = (SIGNATURE_FILE, TOKENIZER_FOLDER, REPORT_FILE)
"""What a run, and the report of it, leave in a folder."""


@app.command()
def run(
    model: Model = None,
    paragraphs: Source = None,
    out: Out = Path("run"),
    measure: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(asked_names())}; may be repeated. If left out: {', '.join(DEFAULT)}."),
    ] = None,
    prefix: Prefix = PREFIX,
    continuation: Continuation = CONTINUATION,
    draws: Annotated[int, typer.Option(help="Random replacements per prefix position.")] = 2,
    limit: Limit = None,
    sample: Sample = None,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = "float32",
    weights: Annotated[
        str, typer.Option(help=f"{RAW}, as they were trained, or {FOLDED}, processed as the paper's were.")
    ] = RAW,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(help="Paragraphs a pass; each measurement's own default if left out.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure paragraphs in a model; write DIR/signature.zarr.zip, which `localize report DIR` and `localize figures DIR` read.

    A folder that holds measurements of the same is added to: what is there is not measured again.
    """
    chosen = _chosen(measure or DEFAULT)
    check_numbers(draws=draws, batch_size=batch_size, sample=sample)
    mine = command("run", out, FILES, overwrite=overwrite)
    options = {"prefix": prefix, "continuation": continuation, "draws": draws, "seed": seed}
    mine.check(options | {"weights": weights, "dtype": dtype})
    hooked, read, whole = read_inputs(
        model, paragraphs, prefix=prefix, continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer,
        device=device, dtype=dtype, revision=revision, weights=weights,
    )  # fmt: skip
    for measurement in chosen:
        if (check := getattr(measurement.call(), "check", None)) is not None:
            check(read)
    say_inputs(hooked, read, whole)
    code = digest_of(code_of(MEASUREMENTS[name].call()) for name in asked_names())
    with mine.claimed(options | hashes(hooked, read) | {"code": code}) as claim, hooked.unchanged():
        signature = _measured(claim, hooked, read, chosen, {"draws": draws, "seed": seed, "batch_size": batch_size})
        save_tokenizer(out, hooked)
        print_summary(signature)
    say(f"Wrote {out / SIGNATURE_FILE}; next: {next_command('report', out)}")


def run_command(model: str | Path, paragraphs: str | Path | None, **given: Any) -> str:
    """`localize run` as a shell takes it, with the options that are given and are not what it takes by itself."""
    defaults = inspect.signature(run).parameters
    options = {name: str(value) for name, value in given.items() if value != defaults[name].default}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return next_command("run", model, *([] if paragraphs is None else [paragraphs]), *words)


def _chosen(names: Sequence[str]) -> list[Measurement]:
    """The measurements asked for, each once and in the order in which they are made."""
    found = {name: measurement_named(name) for name in names}
    if unknown := [name for name, measurement in found.items() if measurement is None]:
        raise InputError(f"--measure {min(unknown)}: not one of {', '.join(asked_names())}.")
    return [measurement for measurement in MEASUREMENTS.values() if measurement in found.values()]


def _measured(
    claim: "Claim",
    model: "HookedModel",
    paragraphs: "Paragraphs",
    chosen: list[Measurement],
    given: dict[str, Any],
) -> "MemorizationSignature":
    """What is chosen and not there yet, measured and saved one after the other, so that a failure of the next loses nothing."""
    from localize.signature.signature import load_signature

    file = claim.command.folder / SIGNATURE_FILE
    signature = load_signature(file) if claim.kept and file.is_file() else None
    there = set() if signature is None else {call["measurement"] for call in signature.dataset.attrs["calls"]}
    missing = [one for one in chosen if one.name not in there]
    if claim.kept:
        words = ", ".join(one.name for one in missing) or "nothing"
        say(f"{claim.command.folder} holds {len(chosen) - len(missing)} of these; to do: {words}.")
    of_own = any(one.of_own(one.defaults()) for one in missing)
    own = paragraphs.with_own_continuation(model) if of_own else paragraphs  # decoded once for all
    for one in missing:
        on = own if one.of_own(one.defaults()) else paragraphs
        options = _options(one, given)
        if one.builds_on is not None:
            argument, name = one.builds_on
            earlier = MEASUREMENTS[name]
            # The same copies, whichever of the two is asked for first.
            held = signature is not None and all(variable.name in signature for variable in earlier.variables)
            options[argument] = signature if held else earlier.call()(model, on, **_options(earlier, given, size=False))
        part = one.call()(model, on, **options)
        signature = save_told(part if signature is None else signature | part, file, claim.about(RUNNING))
    assert signature is not None  # a folder that is kept holds a first measurement, or it is missing
    return save_told(signature, file, claim.about(FINISHED))


def _options(measurement: Measurement, given: dict[str, Any], *, size: bool = True) -> dict[str, Any]:
    """What a measurement takes of the command's options."""
    taken = {"seed", *measurement.takes, *(("batch_size",) if size else ())} & measurement.parameters().keys()
    return {name: value for name, value in given.items() if name in taken and value is not None}


@app.command()
def show(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run or of trainings, a .zarr.zip file, or the store of a sweep.")
    ],
) -> None:
    """Print the summary of a run, what copies taught in trainings, or the cells of a sweep."""
    if (folder / "zarr.json").is_file():
        from localize.cli.sweep import print_cells
        from localize.sweep.results import open_sweep

        print_cells(open_sweep(folder))
        return
    from localize.report.folder import read_signature

    signature = read_signature(folder)
    if signature.over_training:
        from localize.cli.trained import print_training

        print_training(signature, folder)
        return
    print_summary(signature)
    record = folder / COMMAND_FILE
    if told := unfinished_words(read_json(record) if record.is_file() else signature.dataset.attrs.get("run", {})):
        say(f"Note: {told}")
