"""`localize train`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from localize.cli.app import app
from localize.cli.inputs import Overwrite
from localize.cli.origin import typed
from localize.cli.run import run_command
from localize.cli.words import quiet_libraries, say
from localize.resources import embedded
from localize.storage import check_writable
from localize.train.recipe import read_recipe


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe (.toml); the embedded model's if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to make: checkpoint, tokenizer, paragraphs.")] = Path("trained"),
    corpus: Annotated[
        list[str] | None, typer.Option(help="Text files or folders of them, instead of the recipe's; may be repeated.")
    ] = None,
    planted: Annotated[str | None, typer.Option(help="Paragraphs file to plant from, instead of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Train a small model with planted paragraphs, from a recipe."""
    check_writable(out, f"--out {out}")
    read = read_recipe(recipe if recipe is not None else embedded("recipe.toml"))
    quiet_libraries()
    from tqdm import tqdm

    from localize.train.run import PARAGRAPHS_FILE, train_recipe

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
        model = train_recipe(read, out, device=device, overwrite=overwrite, command=typed(), on_progress=on_progress)
    finally:
        bar.close()
    say(str(model))
    lengths = {"prefix": read.training.prefix, "continuation": read.training.row_tokens - read.training.prefix}
    say(f"Wrote {out}; next: {run_command(out, out / PARAGRAPHS_FILE, **lengths)}")
