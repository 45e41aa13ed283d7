"""What every command reads: a model and paragraphs, the embedded ones where none are named."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localize.axes import RAW
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

EMBEDDED_SAMPLE = 260
"""Of the embedded paragraphs: well over 100 memorized and 100 not, in about a minute on two cores."""

Model = Annotated[str | None, typer.Argument(help="Hub name or checkpoint folder; the embedded model if left out.")]
Source = Annotated[str | None, typer.Argument(help=".csv .jsonl .npy .pt; the embedded paragraphs if left out.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Prefix = Annotated[int, typer.Option(help="Prefix length, in tokens.")]
Continuation = Annotated[int, typer.Option(help="Continuation length, in tokens.")]
Limit = Annotated[int | None, typer.Option(help="Take the first so many paragraphs.")]
Sample = Annotated[
    int | None, typer.Option(help=f"Take so many, evenly spaced; {EMBEDDED_SAMPLE} of the embedded ones if left out.")
]
Tokenizer = Annotated[str | None, typer.Option(help="Tokenizer folder or hub name, if not beside the model.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; the GPU where there is one.")]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")]


def check_options(out: Path, **at_least_one: int | None) -> None:
    """Raise an `InputError` if a number is below 1, or the folder for the results cannot be one."""
    for option, value in at_least_one.items():
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} {value}: must be at least 1.")
    if blocking := next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None):
        raise InputError(f"--out {out}: {'' if blocking == out else f'{blocking} '}is a file; a folder is needed.")


def read_inputs(
    model: str | None,
    paragraphs: str | None,
    *,
    prefix: int,
    continuation: int,
    limit: int | None,
    sample: int | None,
    tokenizer: str | None,
    device: str | None,
    dtype: str,
    weights: str = RAW,
) -> "tuple[HookedModel, Paragraphs, int]":
    """Model, paragraphs, and of how many these are."""
    from localize import load_model, load_paragraphs

    quiet_libraries()
    hooked = load_model(model, tokenizer=tokenizer, device=device, dtype=dtype, weights=weights)
    read = load_paragraphs(paragraphs, hooked, prefix_length=prefix, continuation_length=continuation, limit=limit)
    if paragraphs is None and sample is None and limit is None:
        sample = EMBEDDED_SAMPLE
    whole = len(read)
    if sample is not None and sample < whole:
        read = read.spaced(sample)
    read.check_fits(hooked)
    return hooked, read, whole


def say_inputs(model: "HookedModel", paragraphs: "Paragraphs", whole: int) -> None:
    """Tell what was read, and what was not."""
    say(str(model))
    say(str(paragraphs) if len(paragraphs) == whole else f"{paragraphs}, {len(paragraphs)} of {whole} (--sample)")
    for line in paragraphs.skipped[:5]:
        say(f"  skipped {line}")
    if len(paragraphs.skipped) > 5:
        say(f"  ... and {len(paragraphs.skipped) - 5} more rows")
