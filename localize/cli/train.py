"""`localize train`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from localize.cli.app import app
from localize.cli.inputs import Overwrite, check_numbers
from localize.cli.origin import typed
from localize.cli.run import run_command
from localize.cli.words import next_command, quiet_libraries, say
from localize.errors import InputError
from localize.resources import embedded
from localize.storage import check_writable
from localize.train.reading import read_recipe
from localize.train.recipe import WATCHED_FILE, Recipe


@app.command()
def train(
    recipe: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Recipes (.toml), each into a folder of its own if there are several; the embedded model's if left out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to make: checkpoint, tokenizer, paragraphs.")] = Path("trained"),
    corpus: Annotated[
        list[str] | None, typer.Option(help="Text files or folders of them, instead of the recipe's; may be repeated.")
    ] = None,
    planted: Annotated[str | None, typer.Option(help="Paragraphs file to plant from, instead of the recipe's.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train so many models, of the seeds from the recipe's on, and join what is watched."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Train a small model with planted paragraphs, from a recipe; what was stopped goes on, with the same bits in the end."""
    check_numbers(seeds=seeds)
    check_writable(out, f"--out {out}")
    files = recipe or [embedded("recipe.toml")]
    places = {file: out if len(files) == 1 else out / file.stem for file in files}
    if len(set(places.values())) < len(files):
        raise InputError("recipes: two have the same name; each is trained into a folder of its name.")
    asked = {place: _asked(read_recipe(file), corpus, planted, seeds) for file, place in places.items()}
    quiet_libraries()
    for place, one in asked.items():
        _train(one, place, device=device, overwrite=overwrite)


def _asked(recipe: Recipe, corpus: list[str] | None, planted: str | None, seeds: int | None) -> Recipe:
    """A recipe with what stands in the command instead of its own, in all of its arms."""

    def changed(one: Recipe) -> Recipe:
        if corpus:
            one = replace(one, corpus=replace(one.corpus, source=tuple(corpus)))
        if planted is not None:
            one = replace(one, planted=replace(one.planted, source=planted))
        return one if seeds is None else replace(one, seeds=seeds)

    arms = {name: changed(arm) for name, arm in recipe.arms.items()}
    return replace(changed(replace(recipe, arms={})), arms=arms)


def _costs(recipe: Recipe) -> list[str]:
    """What following the loss change costs, known before anything is trained: a line, or one for each arm where they differ."""
    from localize.train.loss_change import StepCost

    if not recipe.watch.loss_change:
        return []
    rows = {name: (arm.watched_paragraphs, arm.training.batch) for name, arm in (recipe.arms or {"": recipe}).items()}
    words = {name: StepCost(count, count / batch).words for name, (count, batch) in rows.items()}
    if len(set(words.values())) == 1:
        return [f"Loss change: {next(iter(words.values()))}."]
    return [f"Loss change of {name}: {told}." for name, told in words.items()]


def _train(recipe: Recipe, out: Path, *, device: str, overwrite: bool) -> None:
    """One recipe, and what comes next."""
    from localize.train.run import PARAGRAPHS_FILE, train_recipe

    for cost in _costs(recipe):
        say(cost)
    say(str(train_recipe(recipe, out, device=device, overwrite=overwrite, command=typed())))
    if recipe.trained_models > 1:
        told = f" and {WATCHED_FILE}, what was watched in all; next: {next_command('report', out)}"
        say(f"Wrote {out}: {recipe.trained_models} trainings" + told * bool(recipe.watch.every))
        return
    lengths = {"prefix": recipe.prefix, "continuation": recipe.training.row_tokens - recipe.prefix}
    say(f"Wrote {out}; next: {run_command(out, out / PARAGRAPHS_FILE, **lengths)}")
