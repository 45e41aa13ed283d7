"""`localize scan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localize.cli.app import app
from localize.cli.inputs import (
    CONTINUATION,
    PREFIX,
    Continuation,
    Device,
    Dtype,
    Overwrite,
    Prefix,
    Revision,
    Tokenizer,
    check_choices,
    check_numbers,
)
from localize.cli.origin import command, typed
from localize.cli.run import run_command
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError, first_line
from localize.scan.filters import MAX_REPEATED, MIN_DISTINCT

if TYPE_CHECKING:
    from localize.scan.found import Found


@app.command()
def scan(
    model: Annotated[str, typer.Argument(help='Hub name or checkpoint folder; "embedded" for the embedded model.')],
    corpus: Annotated[
        str,
        typer.Argument(
            help=".txt .md .csv .jsonl (also .gz .zst) .parquet .npy, a folder of them, or a dataset's name, streamed."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; a killed scan goes on in it.")] = Path("found"),
    prefix: Prefix = PREFIX,
    continuation: Continuation = CONTINUATION,
    stride: Annotated[int | None, typer.Option(help="Tokens between windows; the continuation if left out.")] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Least exact match; the whole continuation if left out.")
    ] = None,
    min_distinct: Annotated[
        float, typer.Option(help="Set aside windows with a smaller share of distinct tokens.")
    ] = MIN_DISTINCT,
    max_repeated: Annotated[
        float, typer.Option(help="Set aside windows with a larger share of repeated tokens.")
    ] = MAX_REPEATED,
    keyword: Annotated[
        list[str] | None, typer.Option(help="Set aside windows with this word; may be repeated.")
    ] = None,
    matched: Annotated[
        bool, typer.Option("--matched", help="Also find a match that is not memorized for each.")
    ] = False,
    count: Annotated[bool, typer.Option(help="Count each window found at any place; a second reading.")] = True,
    split: Annotated[str, typer.Option(help="Of a dataset.")] = "train",
    text_field: Annotated[str | None, typer.Option(help="Of records; text, paragraph or content if left out.")] = None,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = "float32",
    batch_size: Annotated[int | None, typer.Option(help="Windows a pass; as many as fit, if left out.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find what a model recites in a corpus of any size; writes DIR/paragraphs.jsonl, which `localize run` takes."""
    from localize.scan.found import FILES, PARAGRAPHS_FILE

    check_numbers(prefix=prefix, continuation=continuation, stride=stride, batch_size=batch_size)
    command("scan", out, FILES, overwrite=overwrite).check({})
    check_choices(dtype, device)
    source = _corpus(corpus, split)
    quiet_libraries()
    from localize import load_model
    from localize.scan.scan import scan_corpus

    of = {"tokenizer": tokenizer, "revision": revision, "device": device, "dtype": dtype}
    hooked = load_model(model, **of)
    say(str(hooked))
    found = scan_corpus(
        hooked, source, out, prefix_length=prefix, continuation_length=continuation, stride=stride,
        threshold=threshold, min_distinct=min_distinct, max_repeated=max_repeated, keywords=keyword or (), matched=matched,
        count=count, text_field=text_field, batch_size=batch_size, overwrite=overwrite, command=typed(),
    )  # fmt: skip
    _print_found(found)
    if found.summary["distinct"] == found.summary["set_aside"]:
        say(_nothing(found))
        return
    given = {"prefix": prefix, "continuation": continuation, **of}
    say(f"Wrote {out / PARAGRAPHS_FILE}; next: {run_command(model, out / PARAGRAPHS_FILE, **given)}")


def _corpus(given: str, split: str) -> Any:
    """A path, or a dataset that is streamed."""
    from localize.paragraphs.records import CORPUS_FILES, kind_of

    if Path(given).exists():
        return given
    if kind_of(Path(given)) in CORPUS_FILES:
        raise InputError(f"corpus {given}: no such file or folder.")
    from datasets import load_dataset

    try:
        return load_dataset(given, split=split, streaming=True)
    except Exception as error:  # whatever the library says of a name or a connection, in one line
        raise InputError(
            f"corpus {given}: no such file, and no dataset that can be streamed ({first_line(error)})."
        ) from None


def _nothing(found: "Found") -> str:
    """What is said where nothing is found: what was left out, and the best match."""
    from localize.scan.found import SET_ASIDE_FILE

    s = found.summary
    left = [f"{s['set_aside']} set aside ({found.folder / SET_ASIDE_FILE})"] if s["set_aside"] else []
    left += [f"{s['not_reproduced']} not reproduced by a greedy decode"] if s["not_reproduced"] else []
    best, asked = s["best"], s["asked"]
    text = f": {best['text']!r}" if "text" in best else ""
    return (
        f"Nothing found{''.join(f', {what}' for what in left)}. The best match, in the teacher-forced pass, is {best['exact_match']} of "
        f"{asked['continuation']} tokens (threshold {asked['threshold']}), NLL {best['nll']:.2f}, at {best['id']} of "
        f"{best['source']}{text}"
    )


def _print_found(found: "Found") -> None:
    """Counts, and the first paragraphs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize.scan.found import PLAN_FILE

    s, length = found.summary, found.summary["asked"]["continuation"]
    counts = Table("", "count", title=f"Scan of {s['corpus']}")
    cells = s["exact_match"]
    for words, value in (
        ("windows scanned", s["windows"]),
        (f"  exact match 0 to {length // 5}", sum(cells[: length // 5 + 1])),
        (f"  exact match {length} (the whole continuation)", cells[length]),
        ("windows over the threshold", s["found"]),
        ("  distinct", s["distinct_windows"]),
        ("  not reproduced by a greedy decode (left out)", s["not_reproduced"]),
        ("spans of overlapping windows", s["spans"]),
        ("  distinct, of each one window", s["distinct"]),
        ("  set aside by the filters", s["set_aside"]),
        ("paragraphs found", s["distinct"] - s["set_aside"]),
        ("  clusters of near-duplicates", s["clusters"]),
        ("  effective clusters", s["effective_clusters"]),
        *([("matches that are not memorized", s["matched"])] if "matched" in s else []),
        *((f"  without: {why}", number) for why, number in s.get("unmatched", {}).items()),
        ("lines or records that could not be read", s["skipped"]),
        ("calls of the model, one after the other", s["model_calls"]),
        ("  had every window been decoded", s["model_calls_decoding_all"]),
    ):
        counts.add_row(Text(words), Text(f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"))
    Console(highlight=False).print(counts)
    for line in s["skipped_first"][:5]:
        say(f"  skipped {line}")
    if s["skipped"] > 5:
        say(f"  ... and {s['skipped'] - 5} more, in {found.folder / PLAN_FILE}")
