"""The command line: `localize run`, `localize show`, `localize train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localize.axes import FOLDED, RAW
from localize.errors import InputError, LocalizeError

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

app = typer.Typer(
    help="Where does a language model keep the paragraphs it can recite, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
MEASUREMENTS = ("gradients", "heads", "ablation", "replacement", "perturbation", "patching")
ON_OWN = ("ablation", "replacement", "perturbation", "patching")
"""Those that ask for the continuations that the model says itself."""
SIGNATURE_FILE = "signature.zarr.zip"
PAGE_FILE = "signature.html"
EMBEDDED_SAMPLE = 260
"""Of the embedded paragraphs: well over 100 memorized and 100 not, in about a minute on two cores."""


@app.command()
def run(
    model: Annotated[
        str | None, typer.Argument(help="Hub name or checkpoint folder; the embedded model if left out.")
    ] = None,
    paragraphs: Annotated[
        str | None, typer.Argument(help=".csv .jsonl .npy .pt; the embedded paragraphs if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("run"),
    measure: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(MEASUREMENTS)}; may be repeated. All if left out.")
    ] = None,
    prefix: Annotated[int, typer.Option(help="Prefix length, in tokens.")] = 50,
    continuation: Annotated[int, typer.Option(help="Continuation length, in tokens.")] = 50,
    draws: Annotated[int, typer.Option(help="Random replacements per prefix position.")] = 2,
    limit: Annotated[int | None, typer.Option(help="Take the first so many paragraphs.")] = None,
    sample: Annotated[
        int | None,
        typer.Option(help=f"Take so many, evenly spaced; {EMBEDDED_SAMPLE} of the embedded ones if left out."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer folder or hub name, if not beside the model.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the GPU where there is one.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    weights: Annotated[
        str, typer.Option(help=f"{RAW}, as they were trained, or {FOLDED}, processed as the paper's were.")
    ] = RAW,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(help="Paragraphs a pass; each measurement's own default if left out.")
    ] = None,
) -> None:
    """Measure paragraphs in a model; write DIR/signature.zarr.zip and DIR/signature.html."""
    chosen = measure or list(MEASUREMENTS)
    if unknown := set(chosen) - set(MEASUREMENTS):
        raise InputError(f"--measure {min(unknown)}: not one of {', '.join(MEASUREMENTS)}.")
    for option, value in (("--draws", draws), ("--batch-size", batch_size), ("--sample", sample)):
        if value is not None and value < 1:
            raise InputError(f"{option} {value}: must be at least 1.")
    if blocking := next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None):
        raise InputError(f"--out {out}: {'' if blocking == out else f'{blocking} '}is a file; a folder is needed.")
    from localize import (
        ablate,
        gradients,
        load_model,
        load_paragraphs,
        patch,
        perturb_prefix,
        rare_token_heads,
        replace_rarest,
    )
    from localize.measure.heads import check_rankable
    from localize.measure.replacement import check_long_enough

    quiet_libraries()
    hooked = load_model(model, tokenizer=tokenizer, device=device, dtype=dtype, weights=weights)
    read = load_paragraphs(paragraphs, hooked, prefix_length=prefix, continuation_length=continuation, limit=limit)
    if paragraphs is None and sample is None and limit is None:
        sample = EMBEDDED_SAMPLE
    whole = len(read)
    if sample is not None and sample < whole:
        read = read[[position * whole // sample for position in range(sample)]]
    read.check_fits(hooked)
    if "heads" in chosen:
        check_rankable(read)
    if "replacement" in chosen:
        check_long_enough(read)
    say(str(hooked))
    say(str(read) if len(read) == whole else f"{read}, {len(read)} of {whole} (--sample)")
    for line in read.skipped[:5]:
        say(f"  skipped {line}")
    if len(read.skipped) > 5:
        say(f"  ... and {len(read.skipped) - 5} more rows")
    size: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    own = read.with_own_continuation(hooked) if set(chosen) & set(ON_OWN) else read  # decoded once for all
    signature: MemorizationSignature | None = None
    jobs = {
        "gradients": lambda: gradients(hooked, read, **size),
        "heads": lambda: rare_token_heads(hooked, read, seed=seed, **size),
        "ablation": lambda: ablate(hooked, own, **size),
        "replacement": lambda: replace_rarest(hooked, own, seed=seed, **size),
        "perturbation": lambda: perturb_prefix(hooked, own, draws=draws, seed=seed, **size),
        "patching": lambda: patch(
            hooked, own, copies=signature if "perturbation" in chosen else None, seed=seed, **size
        ),
    }
    for name in MEASUREMENTS:
        if name in chosen:
            part = jobs[name]()
            signature = part if signature is None else signature | part
            # After each, so that a failure of the next loses nothing.
            signature.save(out / SIGNATURE_FILE)
    if signature is not None:
        write_page(signature, out / PAGE_FILE)
        print_summary(signature)
        say(f"Wrote {out / SIGNATURE_FILE} and {out / PAGE_FILE}")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or a .zarr.zip file.")],
) -> None:
    """Print the summary of a run."""
    from localize.signature.signature import load_signature

    print_summary(load_signature(folder / SIGNATURE_FILE if folder.is_dir() else folder))


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe (.toml); the embedded model's if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to make: checkpoint, tokenizer, paragraphs.")] = Path("trained"),
    corpus: Annotated[
        list[str] | None, typer.Option(help="Text files or folders of them, instead of the recipe's; may be repeated.")
    ] = None,
    planted: Annotated[str | None, typer.Option(help="Paragraphs file to plant from, instead of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a small model with planted paragraphs, from a recipe."""
    from dataclasses import replace

    from tqdm import tqdm

    from localize.resources import embedded
    from localize.train.recipe import read_recipe
    from localize.train.run import train_recipe

    quiet_libraries()
    read = read_recipe(recipe if recipe is not None else embedded("recipe.toml"))
    if corpus:
        read = replace(read, corpus=replace(read.corpus, source=tuple(corpus)))
    if planted is not None:
        read = replace(read, planted=replace(read.planted, source=planted))
    bar = tqdm(total=read.training.steps, unit="step", desc="tokenizer")

    def on_progress(stage: str, count: int, loss: float) -> None:
        if stage != "steps":
            bar.set_description(f"{stage} {count}" if count % 1000 == 0 else bar.desc.removesuffix(": "))
            return
        bar.set_description("training")
        bar.set_postfix_str(f"loss {loss:.3f} nats", refresh=False)
        bar.update()

    try:
        model = train_recipe(read, out, device=device, on_progress=on_progress)
    finally:
        bar.close()
    say(str(model))
    say(f"Wrote {out}; next: localize run {out} {out / 'paragraphs.jsonl'}")


def quiet_libraries() -> None:
    """What libraries say while loading is no news to the user of a command; errors still are."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def say(text: str) -> None:
    """One line to the user, as it is: no markup is read in it."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def write_page(signature: "MemorizationSignature", path: Path) -> None:
    """The figure and the tables as one offline page."""
    from localize import plots
    from localize.signature.html import signature_page
    from localize.storage import replacing

    figure = plots.signature(signature).to_html(
        full_html=False,
        include_plotlyjs=True,
        config={"displayModeBar": False},  # its buttons would lie on the legend
    )
    with replacing(path) as beside:
        beside.write_text(signature_page(signature, figure), encoding="utf-8")


def print_summary(signature: "MemorizationSignature") -> None:
    """Groups and fingerprint, as two tables."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize.signature.html import signature_content

    content = signature_content(signature)
    length = content["paragraphs"]["continuation_length"]
    groups = Table(
        "group", "paragraphs", "effective clusters", f"exact match (of {length})", "NLL (nats/token)", title="Recall"
    )
    for g in content["groups"]:
        groups.add_row(*(Text(str(g[key])) for key in ("name", "paragraphs", "clusters", "exact_match", "nll")))
    found = Table(
        "quantity",
        "group",
        "estimate [95%]",
        "null [95%]",
        "p",
        "n / clusters",
        title="What stands out, beside what nothing looks like",
    )
    last = ""
    for row in content["summary"]:
        quantity = "" if row["quantity"] == last else row["quantity"]
        last = row["quantity"]
        found.add_row(
            *(Text(cell) for cell in (quantity, row["group"], row["estimate"], row["null"], row["p"], row["size"]))
        )
    console = Console(highlight=False)
    console.print(groups)
    if content["summary"]:
        console.print(found)
    for note in content["notes"]:
        console.print(f"Note: {note}", markup=False)


def main() -> None:
    """Run the command line: what a user's input causes is told in one line, with exit code 2."""
    try:
        app(standalone_mode=True)
    except LocalizeError as error:
        sys.stderr.write(f"localize: {' '.join(str(error).splitlines())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("localize: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
