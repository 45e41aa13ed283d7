"""`localize train`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from localize.axes import TRAINED
from localize.cli.app import app
from localize.cli.inputs import Overwrite, check_numbers
from localize.cli.origin import typed
from localize.cli.run import run_command
from localize.cli.words import next_command, quiet_libraries, say
from localize.errors import InputError
from localize.resources import embedded
from localize.storage import check_writable
from localize.train.recipe import WATCHED_FILE, read_recipe


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe (.toml); the embedded model's if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to make: checkpoint, tokenizer, paragraphs.")] = Path("trained"),
    corpus: Annotated[
        list[str] | None, typer.Option(help="Text files or folders of them, instead of the recipe's; may be repeated.")
    ] = None,
    planted: Annotated[str | None, typer.Option(help="Paragraphs file to plant from, instead of the recipe's.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train so many models, of the seeds from the recipe's on, and join what is watched."),
    ] = None,
    replay: Annotated[
        float | None,
        typer.Option(
            help="Share of the last stage's rows that are rows of the stages before, instead of the recipe's."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Train a small model with planted paragraphs, from a recipe; what was stopped goes on, with the same bits in the end."""
    check_numbers(seeds=seeds)
    check_writable(out, f"--out {out}")
    read = read_recipe(recipe if recipe is not None else embedded("recipe.toml"))
    quiet_libraries()
    from tqdm import tqdm

    from localize.train.run import PARAGRAPHS_FILE, train_recipe

    if corpus:
        read = replace(read, corpus=replace(read.corpus, source=tuple(corpus)))
    if planted is not None:
        read = replace(read, planted=replace(read.planted, source=planted))
    if seeds is not None:
        read = replace(read, seeds=seeds)
    if replay is not None:
        if len(read.stage) < 2:
            raise InputError(
                f"--replay {replay}: the recipe has no stage before its last, whose rows could be shown again."
            )
        read = replace(read, stage=(*read.stage[:-1], replace(read.stage[-1], replay=replay)))
    several = read.seeds * len(read.runs)
    bar = tqdm(total=read.steps * several, unit="step", desc="tokenizer")
    begun, shown = -1, ""

    def on_progress(stage: str, count: int, loss: float) -> None:
        nonlocal begun, shown
        if stage == "tokenizer":
            begun, shown = begun + 1, ""
        which = f" {begun + 1} of {several}" if several > 1 else ""
        if stage != "steps":
            bar.set_description(f"{stage}{which}")
            return
        bar.set_description(f"training{which}")
        bar.set_postfix_str(f"loss {loss:.3f} nats{shown}", refresh=False)
        bar.update(begun * read.steps + count - bar.n)

    def on_log(line: Mapping[str, Any]) -> None:
        nonlocal shown
        if f"nll_{TRAINED}" in line:
            shown = f", planted {line[f'nll_{TRAINED}']:.3f}, EM {line[f'exact_match_{TRAINED}']:.1f}"

    try:
        model = train_recipe(
            read, out, device=device, overwrite=overwrite, command=typed(), on_progress=on_progress, on_log=on_log
        )
    finally:
        bar.close()
    say(str(model))
    if several > 1:
        told = f" and {WATCHED_FILE}, what was watched in all; next: {next_command('report', out)}"
        say(f"Wrote {out}: {several} trainings" + told * bool(read.watch.every))
        return
    lengths = {"prefix": read.training.prefix, "continuation": read.training.row_tokens - read.training.prefix}
    say(f"Wrote {out}; next: {run_command(out, out / PARAGRAPHS_FILE, **lengths)}")
