"""`localize run` and `localize show`."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localize.axes import FOLDED, RAW
from localize.cli.app import app
from localize.cli.inputs import (
    Continuation,
    Device,
    Dtype,
    Limit,
    Model,
    Out,
    Prefix,
    Sample,
    Source,
    Tokenizer,
    check_options,
    read_inputs,
    say_inputs,
)
from localize.cli.origin import write_origin
from localize.cli.words import print_summary, say
from localize.errors import InputError
from localize.report.folder import SIGNATURE_FILE

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

MEASUREMENTS = ("gradients", "heads", "attention", "ablation", "replacement", "perturbation", "patching", "noise")
LONG = ("noise",)
"""Those that are measured only when they are asked for."""
ON_OWN = ("ablation", "replacement", "perturbation", "patching", "noise")
"""Those that ask for the continuations that the model says itself."""


@app.command()
def run(
    model: Model = None,
    paragraphs: Source = None,
    out: Out = Path("run"),
    measure: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(MEASUREMENTS)}; may be repeated. All but {', '.join(LONG)} if left out."),
    ] = None,
    prefix: Prefix = 50,
    continuation: Continuation = 50,
    draws: Annotated[int, typer.Option(help="Random replacements per prefix position.")] = 2,
    limit: Limit = None,
    sample: Sample = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    dtype: Dtype = "float32",
    weights: Annotated[
        str, typer.Option(help=f"{RAW}, as they were trained, or {FOLDED}, processed as the paper's were.")
    ] = RAW,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(help="Paragraphs a pass; each measurement's own default if left out.")
    ] = None,
) -> None:
    """Measure paragraphs in a model; write DIR/signature.zarr.zip, which `localize report DIR` and `localize figures DIR` read."""
    started = perf_counter()
    chosen = measure or [name for name in MEASUREMENTS if name not in LONG]
    if unknown := set(chosen) - set(MEASUREMENTS):
        raise InputError(f"--measure {min(unknown)}: not one of {', '.join(MEASUREMENTS)}.")
    check_options(out, draws=draws, batch_size=batch_size, sample=sample)
    from localize import (
        ablate,
        gradients,
        noise,
        patch,
        perturb_prefix,
        prefix_attention,
        rare_token_heads,
        replace_rarest,
    )
    from localize.measure.heads import check_rankable
    from localize.measure.replacement import check_long_enough

    hooked, read, whole = read_inputs(
        model, paragraphs, prefix=prefix, continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer,
        device=device, dtype=dtype, weights=weights,
    )  # fmt: skip
    if "heads" in chosen:
        check_rankable(read)
    if "replacement" in chosen:
        check_long_enough(read)
    say_inputs(hooked, read, whole)
    size: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    own = read.with_own_continuation(hooked) if set(chosen) & set(ON_OWN) else read  # decoded once for all
    signature: MemorizationSignature | None = None
    jobs = {
        "gradients": lambda: gradients(hooked, read, **size),
        "heads": lambda: rare_token_heads(hooked, read, seed=seed, **size),
        "attention": lambda: prefix_attention(hooked, read, **size),
        "ablation": lambda: ablate(hooked, own, **size),
        "replacement": lambda: replace_rarest(hooked, own, seed=seed, **size),
        "perturbation": lambda: perturb_prefix(hooked, own, draws=draws, seed=seed, **size),
        "patching": lambda: patch(
            hooked, own, copies=signature if "perturbation" in chosen else None, seed=seed, **size
        ),
        "noise": lambda: noise(hooked, own, seed=seed, **size),
    }
    for name in MEASUREMENTS:
        if name in chosen:
            part = jobs[name]()
            signature = part if signature is None else signature | part
            # After each, so that a failure of the next loses nothing.
            signature.save(out / SIGNATURE_FILE)
    write_origin(out, hooked, perf_counter() - started)
    if signature is not None:
        print_summary(signature)
        say(f"Wrote {out / SIGNATURE_FILE}; next: localize report {out}")


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

    print_summary(load_signature(folder / SIGNATURE_FILE if folder.is_dir() else folder))
