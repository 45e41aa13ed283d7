"""What every command reads: a model and paragraphs, the embedded ones where none are named."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localize.axes import DTYPES, FOLDED, RAW
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError, ModelError
from localize.paragraphs.readers import FORMATS, checked_kind
from localize.paragraphs.records import kind_of
from localize.resources import EMBEDDED

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

PREFIX, CONTINUATION = 50, 50
"""Tokens of a paragraph's two parts, if nothing else is said."""

EMBEDDED_SAMPLE = 260
"""Of the embedded paragraphs: well over 100 memorized and 100 not, in about a minute on two cores."""

Model = Annotated[
    str | None, typer.Argument(help='Hub name or checkpoint folder; the embedded model if left out or "embedded".')
]
Source = Annotated[
    str | None,
    typer.Argument(
        help=".csv .jsonl (also .gz .zst) .parquet .npy .pt; may stand alone; the embedded paragraphs if left out."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Prefix = Annotated[int, typer.Option(help="Prefix length, in tokens.")]
Continuation = Annotated[int, typer.Option(help="Continuation length, in tokens.")]
Limit = Annotated[int | None, typer.Option(help="Take the first so many paragraphs.")]
Sample = Annotated[
    int | None, typer.Option(help=f"Take so many, evenly spaced; {EMBEDDED_SAMPLE} of the embedded ones if left out.")
]
Tokenizer = Annotated[str | None, typer.Option(help="Tokenizer folder or hub name, if not beside the model.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub's model; none for a folder.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace this command's results in the folder, if they were asked for otherwise."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; the GPU where there is one.")]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")]


def check_numbers(**at_least_one: int | None) -> None:
    """Raise an `InputError` if a number is below 1."""
    for option, value in at_least_one.items():
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} {value}: must be at least 1.")


def named(model: str | None, paragraphs: str | None) -> tuple[str | None, str | None]:
    """The two arguments: None for what is embedded, and a lone file of paragraphs for the embedded model's."""
    if paragraphs is None and model is not None and kind_of(Path(model)) in FORMATS:
        model, paragraphs = None, model
    return (None if model == EMBEDDED else model), (None if paragraphs == EMBEDDED else paragraphs)


def check_choices(dtype: str, device: str | None, weights: str = RAW) -> None:
    """Raise a `ModelError` for what no model can be loaded as; torch, which takes seconds to load, says the rest."""
    for option, given, allowed in (("dtype", dtype, DTYPES), ("weights", weights, (RAW, FOLDED))):
        if given not in allowed:
            raise ModelError(f"{option}={given!r} is not one of {', '.join(allowed)}.")
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ModelError(f"device={device!r} is not one of cpu, cuda, cuda:0, ....")


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
    revision: str | None = None,
    weights: str = RAW,
) -> "tuple[HookedModel, Paragraphs, int]":
    """Model, paragraphs, and of how many these are."""
    model, paragraphs = named(model, paragraphs)
    if paragraphs is not None:
        checked_kind(Path(paragraphs))
    check_choices(dtype, device, weights)
    quiet_libraries()
    from localize import load_model, load_paragraphs

    hooked = load_model(model, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision, weights=weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="paragraphs ")  # what it warns of is told with them, by `say_inputs`
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
