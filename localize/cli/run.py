"""`localize run` and `localize show`."""

import inspect
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
from localize.cli.origin import code_of, command, hashes, save_tokenizer, save_told
from localize.cli.words import next_command, print_summary, say
from localize.errors import InputError
from localize.report.folder import REPORT_FILE, SIGNATURE_FILE, TOKENIZER_FOLDER, unfinished_words
from localize.storage import read_json

if TYPE_CHECKING:
    from localize.claims import Claim
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.signature import MemorizationSignature

MEASUREMENTS = ("gradients", "heads", "attention", "ablation", "replacement", "perturbation", "patching", "noise")
"""By their names in a sweep's grid, in the order in which they are made."""
LONG = ("noise",)
"""Those that are measured only when they are asked for."""
ON_OWN = ("ablation", "replacement", "perturbation", "patching", "noise")
"""Those that ask for the continuations that the model says itself."""
SEEDLESS = ("gradients", "attention", "ablation")
"""Those that draw nothing."""
FILES = (SIGNATURE_FILE, TOKENIZER_FOLDER, REPORT_FILE)
"""What a run, and the report of it, leave in a folder."""


@app.command()
def run(
    model: Model = None,
    paragraphs: Source = None,
    out: Out = Path("run"),
    measure: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(MEASUREMENTS)}; may be repeated. All but {', '.join(LONG)} if left out."),
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
    chosen = measure or [name for name in MEASUREMENTS if name not in LONG]
    if unknown := set(chosen) - set(MEASUREMENTS):
        raise InputError(f"--measure {min(unknown)}: not one of {', '.join(MEASUREMENTS)}.")
    check_numbers(draws=draws, batch_size=batch_size, sample=sample)
    mine = command("run", out, FILES, overwrite=overwrite)
    options = {"prefix": prefix, "continuation": continuation, "draws": draws, "seed": seed}
    mine.check(options | {"weights": weights, "dtype": dtype})
    hooked, read, whole = read_inputs(
        model, paragraphs, prefix=prefix, continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer,
        device=device, dtype=dtype, revision=revision, weights=weights,
    )  # fmt: skip
    from localize.code import module_of
    from localize.measure.rare_token_heads import check_rankable
    from localize.measure.replace_rarest import check_long_enough
    from localize.sweep.measurements import MEASUREMENTS as MEASURED

    if "heads" in chosen:
        check_rankable(read)
    if "replacement" in chosen:
        check_long_enough(read)
    say_inputs(hooked, read, whole)
    code = code_of(*(module_of(MEASURED[name].function) for name in MEASUREMENTS))
    with mine.claimed(options | hashes(hooked, read) | {"code": code}) as claim:
        signature = _measured(
            claim, hooked, read, [name for name in MEASUREMENTS if name in chosen], draws, seed, batch_size
        )
        save_tokenizer(out, hooked)
        print_summary(signature)
    say(f"Wrote {out / SIGNATURE_FILE}; next: {next_command('report', out)}")


def run_command(model: str | Path, paragraphs: str | Path | None, **given: Any) -> str:
    """`localize run` as a shell takes it, with the options that are given and are not what it takes by itself."""
    defaults = inspect.signature(run).parameters
    options = {name: str(value) for name, value in given.items() if value != defaults[name].default}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return next_command("run", model, *([] if paragraphs is None else [paragraphs]), *words)


def _measured(
    claim: "Claim",
    model: "HookedModel",
    paragraphs: "Paragraphs",
    chosen: list[str],
    draws: int,
    seed: int,
    batch_size: int | None,
) -> "MemorizationSignature":
    """What is chosen and not there yet, measured and saved one after the other, so that a failure of the next loses nothing."""
    from localize.signature.signature import load_signature
    from localize.sweep.measurements import MEASUREMENTS as MEASURED

    file = claim.command.folder / SIGNATURE_FILE
    signature = load_signature(file) if claim.kept and file.is_file() else None
    there = set() if signature is None else {call["measurement"] for call in signature.dataset.attrs["calls"]}
    missing = [name for name in chosen if MEASURED[name].function not in there]
    if claim.kept:
        say(
            f"{claim.command.folder} holds {len(chosen) - len(missing)} of these; to do: {', '.join(missing) or 'nothing'}."
        )
    size: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    of_own = [name for name in missing if name in ON_OWN]
    own = paragraphs.with_own_continuation(model) if of_own else paragraphs  # decoded once for all
    for name in missing:
        measure = MEASURED[name].call()
        more: dict[str, Any] = {} if name in SEEDLESS else {"seed": seed}
        if name == "perturbation":
            more |= {"draws": draws}
        if name == "patching":
            # The same copies, whichever of the two is asked for first.
            held = signature is not None and "copy_tokens" in signature
            more |= {
                "copies": signature if held else MEASURED["perturbation"].call()(model, own, draws=draws, seed=seed)
            }
        part = measure(model, own if name in ON_OWN else paragraphs, **more, **size)
        signature = save_told(part if signature is None else signature | part, file, claim.about(RUNNING))
    assert signature is not None  # a folder that is kept holds a first measurement, or it is missing
    return save_told(signature, file, claim.about(FINISHED))


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, a .zarr.zip file, or the store of a sweep.")],
) -> None:
    """Print the summary of a run, or the cells of a sweep."""
    if (folder / "zarr.json").is_file():
        from localize.cli.sweep import print_cells
        from localize.sweep.results import open_sweep

        print_cells(open_sweep(folder))
        return
    from localize.signature.signature import load_signature

    signature = load_signature(folder / SIGNATURE_FILE if folder.is_dir() else folder)
    print_summary(signature)
    record = folder / COMMAND_FILE
    if told := unfinished_words(read_json(record) if record.is_file() else signature.dataset.attrs.get("run", {})):
        say(f"Note: {told}")
