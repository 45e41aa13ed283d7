"""`localize edit`: forget or rewrite some paragraphs, and see what else moved."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from localize.axes import FORGET, GENERAL, MEMORIZED, NEAR_DUPLICATE, NOT_MEMORIZED
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
from localize.cli.words import say
from localize.errors import InputError, LocalizeError
from localize.report.folder import EDITS_FILE, SIDES, write_json

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from localize.edit.masks import WeightMask
    from localize.edit.sets import EditSets
    from localize.edit.weight_edit import WeightEdit
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.change import Change
    from localize.signature.signature import MemorizationSignature

ACTIONS = ("unlearn", "rewrite", "zero")
TOLD = (
    ("reference_exact_match", FORGET),
    ("rewritten_exact_match", FORGET),
    ("token_accuracy", FORGET),
    ("exact_match", NEAR_DUPLICATE),
    ("reference_exact_match", MEMORIZED),
    ("reference_exact_match", NOT_MEMORIZED),
    ("perplexity", GENERAL),
)
"""The rows of an edit's table that the terminal shows."""


class Way(NamedTuple):
    """How edits are made, as the options say."""

    action: str
    method: str | None
    first: int | None
    fractions: tuple[float, ...]
    steps: int
    learning_rate: float
    c: float | None
    beta: float | None
    stop_at: float | None
    controls: bool

    def check(self) -> None:
        """Raise an error for what can be told before a model is loaded."""
        from localize.edit.masks import check_fraction
        from localize.edit.unlearn import METHODS

        if self.action not in ACTIONS:
            raise InputError(f"--action {self.action}: not one of {', '.join(ACTIONS)}.")
        if self.method is not None and self.method not in METHODS:
            raise InputError(f"--method {self.method}: not one of {', '.join(METHODS)}.")
        unused = {
            "unlearn": (),
            "rewrite": ("method", "first", "beta"),
            "zero": ("method", "first", "beta", "c", "stop_at"),
        }
        for option in unused[self.action]:
            if getattr(self, option) is not None:
                raise InputError(
                    f"--{option.replace('_', '-')}: means nothing to --action {self.action}; leave it out."
                )
        for fraction in self.fractions:
            check_fraction(fraction, "--fraction")

    def name(self, fraction: float) -> str:
        """Of an edit that is not a control."""
        return f"{'zeroed units' if self.action == 'zero' else 'top'} {100 * fraction:g} %"

    @property
    def names(self) -> tuple[str, ...]:
        """Of all edits that are not controls."""
        return tuple(self.name(fraction) for fraction in self.fractions)


@app.command()
def edit(
    model: Model = None,
    paragraphs: Source = None,
    out: Out = Path("edited"),
    action: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIONS)}.")] = "unlearn",
    method: Annotated[
        str | None, typer.Option(help="Of unlearn: contrastive, npo or gradient_difference; the first if left out.")
    ] = None,
    forget: Annotated[int, typer.Option(help="Forget so many paragraphs, each of another cluster.")] = 10,
    group: Annotated[
        str,
        typer.Option(
            help="The group that they are from; what the model says itself after their prefixes is forgotten."
        ),
    ] = MEMORIZED,
    paragraph: Annotated[
        list[str] | None, typer.Option(help="Id of a paragraph to forget, instead; may be repeated.")
    ] = None,
    first: Annotated[
        int | None, typer.Option(help="Of unlearn: the forget term is of the first so many continuation tokens.")
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(help="Share of the blocks' weights that may change; may be repeated. 0.01 if left out."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of AdamW, at most.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="Of each step.")] = 1e-3,
    c: Annotated[
        float | None,
        typer.Option(help="Weight of the forget set's term, the keep set's is 1; 0.1 for contrastive, else 1."),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Of npo: how soon its forget term fades; 0.1 if left out.")] = None,
    stop_at: Annotated[
        float | None, typer.Option(help="Stop at this exact match: of the forget set, or of the new text.")
    ] = None,
    controls: Annotated[
        bool, typer.Option(help="The same steps on random weights, on all, and on layers not named.")
    ] = True,
    repeats: Annotated[int, typer.Option(help="Deal the paragraphs out anew so many times.")] = 1,
    general: Annotated[
        str | None,
        typer.Option(help="Text for the perplexity: a file like the paragraphs'; generated for the embedded model."),
    ] = None,
    relearn: Annotated[
        int, typer.Option(help="Train the edited model on what it forgot for so many steps, and watch it come back.")
    ] = 0,
    export: Annotated[
        Path | None, typer.Option(help="Folder to make: the edited model as a checkpoint (the first repeat's).")
    ] = None,
    prefix: Prefix = 50,
    continuation: Continuation = 50,
    limit: Limit = None,
    sample: Sample = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="Seed of the first repeat; the next ones follow.")] = 0,
) -> None:
    """Edit some paragraphs out of a model; write the edits, their signatures before and after, a table and a figure."""
    started = perf_counter()
    check_options(out, forget=forget, steps=steps, repeats=repeats, sample=sample)
    if relearn < 0:
        raise InputError(f"--relearn {relearn}: must be at least 0.")
    way = Way(action, method, first, tuple(fraction or (0.01,)), steps, learning_rate, c, beta, stop_at, controls)
    way.check()
    from localize.models.saving import is_free

    if export is not None and not is_free(export):
        raise InputError(f"--export {export}: exists and is not an empty folder; a checkpoint is written to a new one.")
    from localize import evaluate_edit, load_paragraphs, unseen_paragraphs

    hooked, read, whole = read_inputs(
        model, paragraphs, prefix=prefix, continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer,
        device=device, dtype=dtype,
    )  # fmt: skip
    text = None
    if general is not None:
        text = load_paragraphs(general, hooked, prefix_length=prefix, continuation_length=continuation)
        text.check_fits(hooked)
    elif model is None:
        text = unseen_paragraphs(hooked, prefix_length=prefix, continuation_length=continuation)
    say_inputs(hooked, read, whole)
    results = Edited(out, way.names)
    for repeat in range(seed, seed + repeats):
        dealt = _dealt(hooked, read, forget, group, paragraph, repeat)
        gone, keep = (part.with_own_continuation(hooked) for part in (dealt.forget, dealt.keep))
        for label, job in _jobs(hooked, gone, keep, way, repeat).items():
            try:
                made = job()
                change = evaluate_edit(hooked, made, read, general=text, seed=repeat)
                runs = _relearned(hooked, made, label, gone, text, relearn) if relearn else {}
            except LocalizeError as error:
                results.failed.append(f"seed {repeat}, {label}: {error}")  # the others are still worth having
                say(results.failed[-1])
                continue
            say(f"seed {repeat}, {label}: {made!r}")
            results.add(label, repeat, made, change, runs)
            if export is not None and repeat == seed and label == way.names[0]:
                made.export(hooked, export)
                say(f"Wrote {export}; it loads as any checkpoint: localize run {export}")
    if results.changes:
        write_origin(out, hooked, perf_counter() - started)
    results.tell(seed)


@dataclass
class Edited:
    """What was made so far; each edit is written at once, so that a later failure loses nothing.

    Attributes:
        out: The folder.
        asked: Names of the edits that are not controls.
        changes: What each edit changed, by its name, a repeat after the other.
        relearned: How fast what it forgot came back, in the first repeat.
        failed: What could not be made.
        files: What was written, as `read_results` reads it.
    """

    out: Path
    asked: tuple[str, ...]
    changes: "dict[str, list[Change]]" = field(default_factory=dict)
    relearned: "dict[str, MemorizationSignature]" = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"edits": [], "relearned": []})

    def add(
        self, label: str, repeat: int, made: "WeightEdit", change: "Change", runs: "dict[str, MemorizationSignature]"
    ) -> None:
        """Write one edit and what it did."""
        name = f"{_slug(label)}-seed{repeat}"
        sides = {side: f"{name}-{side}.zarr.zip" for side in SIDES}
        made.save(self.out / f"{name}.safetensors")
        change.before.save(self.out / sides["before"])
        change.after.save(self.out / sides["after"])
        about = {"label": label, "seed": repeat, "control": label not in self.asked, "edit": f"{name}.safetensors"}
        self.files["edits"].append(about | sides)
        for of, signature in runs.items():
            file = f"{_slug(of)}-seed{repeat}-relearned.zarr.zip"
            signature.save(self.out / file)
            if of not in self.relearned:
                self.files["relearned"].append({"label": of, "seed": repeat, "file": file})
                self.relearned[of] = signature
        write_json(self.out / EDITS_FILE, self.files)  # after each, so that a failure of the next loses nothing
        self.changes.setdefault(label, []).append(change)

    def tell(self, seed: int) -> None:
        """Write and print the table, draw it, and raise an error if an edit could not be made."""
        from localize import edit_table, plots
        from localize.storage import replacing

        if not self.changes:
            raise LocalizeError(self.failed[0])
        controls = [label for label in self.changes if label not in self.asked]
        with warnings.catch_warnings(record=True) as notes:
            table = edit_table(self.changes, seed=seed)
            with replacing(self.out / "changes.csv") as beside:
                table.to_csv(beside)
            _write_figure(self.out / "editing.html", plots.editing(self.changes, controls=controls))
        _print(table)
        for note in dict.fromkeys(str(note.message) for note in notes):
            say(f"Note: {note}")
        if self.relearned:
            _write_figure(self.out / "relearning.html", plots.relearning(self.relearned))
        for label, signature in self.relearned.items():
            by_step = signature.where(group="taught")["relearned_exact_match"].mean("paragraph").values
            say(f"seed {seed}, {label}: exact match step by step {' '.join(f'{value:.1f}' for value in by_step)}")
        say(f"Wrote {self.out}: edits, signatures before and after, changes.csv and editing.html")
        if self.failed:
            raise LocalizeError(f"{len(self.failed)} edits could not be made; the first: {self.failed[0]}")


def _dealt(
    model: "HookedModel", paragraphs: "Paragraphs", count: int, group: str, ids: list[str] | None, seed: int
) -> "EditSets":
    """The sets of one repeat: paragraphs of a group drawn by the seed, or those named."""
    from localize import edit_sets
    from localize.edit.sets import EditSets, deal_kept
    from localize.measure.labels import groups_of
    from localize.measure.recall import recall_of

    if not ids:
        return edit_sets(model, paragraphs, forget=count, group=group, seed=seed)
    if unknown := [name for name in ids if name not in paragraphs.ids]:
        raise InputError(f"--paragraph {unknown[0]}: no such id among the {len(paragraphs)} paragraphs.")
    chosen = np.isin(paragraphs.ids, ids)
    free = ~np.isin(paragraphs.clusters, paragraphs.clusters[chosen])
    if free.sum() < 2:
        raise InputError(
            f"--paragraph: the {len(ids)} named leave {free.sum()} in other clusters; two or more are needed."
        )
    rest = paragraphs[free]
    kept = deal_kept(rest, groups_of(rest, recall_of(model, rest)), 0.5, seed)
    return EditSets(paragraphs[chosen], rest[kept], None)


def _jobs(
    model: "HookedModel", forget: "Paragraphs", keep: "Paragraphs", way: Way, seed: int
) -> "dict[str, Callable[[], WeightEdit]]":
    """The edits asked for by their names, and their controls by theirs, still to be made."""
    from localize import rewrite, unlearn, zero_units

    if way.action == "zero":
        return {way.name(x): partial(zero_units, model, forget, keep, x) for x in way.fractions}
    how: dict[str, Any] = {"steps": way.steps, "learning_rate": way.learning_rate, "stop_at": way.stop_at, "c": way.c}
    how |= {"method": way.method, "beta": way.beta, "first": way.first}
    how = {option: value for option, value in how.items() if value is not None}
    masks = _masks(model, forget, way, seed)
    if way.action == "unlearn":
        return {label: partial(unlearn, model, forget, keep, mask, **how) for label, mask in masks.items()}
    pairs = _pairs(model, forget, seed)
    return {label: partial(rewrite, model, pairs, keep, mask, **how) for label, mask in masks.items()}


def _masks(model: "HookedModel", forget: "Paragraphs", way: Way, seed: int) -> "dict[str, WeightMask]":
    """A mask for each fraction and, if asked for, what it is held against; all weights are that once."""
    from localize import mask_controls, top_weights

    masks = {}
    for fraction in way.fractions:
        mask = masks[way.name(fraction)] = top_weights(model, forget, fraction)
        for label, control in mask_controls(model, forget, mask, seed=seed).items() if way.controls else ():
            masks["all" if label == "all" else f"{label} {100 * fraction:g} %"] = control
    return masks


def _pairs(model: "HookedModel", forget: "Paragraphs", seed: int) -> "tuple[Paragraphs, Paragraphs]":
    """The paragraphs and what the model says with one prefix token replaced; those that it says all the same are left out."""
    import torch

    from localize import perturb_prefix

    copies = torch.from_numpy(
        perturb_prefix(model, forget, draws=1, seed=seed)["copy_tokens"].values[:, 0].copy()
    ).long()
    other = (copies[:, forget.prefix_length :] != forget.continuations).any(1).numpy()
    for row in np.flatnonzero(~other):
        say(f"  {forget.ids[row]!r} is said with any prefix token replaced: it has no other text to be taught")
    if not other.any():
        raise InputError(
            "--action rewrite: no paragraph changes when one of its prefix tokens does; there is nothing to teach."
        )
    said = replace(forget, tokens=copies, true_tokens=None, texts=None)
    return forget[other], said[other]


def _slug(label: str) -> str:
    """A file's name: "top 0.1 %" as "top-0.1"."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def _relearned(
    model: "HookedModel", made: "WeightEdit", label: str, forget: "Paragraphs", text: "Paragraphs | None", steps: int
) -> "dict[str, MemorizationSignature]":
    """The edited model taught what it forgot, and beside it as much text that it never saw."""
    from localize import relearn as taught

    with made.applied(model):
        runs = {f"{label}, forgotten": taught(model, forget, steps=steps)}
        if text is not None:
            runs[f"{label}, never seen"] = taught(model, text[: len(forget)], steps=steps)
    return runs


def _write_figure(path: Path, figure: "Figure") -> None:
    """One offline page."""
    from localize.storage import replacing

    with replacing(path) as beside:
        beside.write_text(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8")


def _print(table: "pd.DataFrame") -> None:
    """The rows that say whether the edit did what it should, and nothing else."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("edit", "group", "quantity", "before", "after", "change [95%]", "n", title="What moved")
    for label in table.index.unique("edit"):
        for quantity, group in TOLD:
            if (label, quantity, group) not in table.index:
                continue
            row = table.loc[(label, quantity, group)]
            digits = "{:.1f}" if "match" in quantity else "{:.3f}"
            cells = [digits.format(row[column]) for column in ("before", "after")]
            change = " ".join(digits.format(row[c]) for c in ("change",)) + (
                f" [{digits.format(row['low'])}, {digits.format(row['high'])}]"
            )
            shown.add_row(
                *(Text(str(cell)) for cell in (label, group, quantity, *cells, change, int(row["paragraphs"])))
            )
    Console(highlight=False).print(shown)
