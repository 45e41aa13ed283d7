"""`localize edit`: forget or rewrite some paragraphs, and see what else moved."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from localize.axes import MEMORIZED
from localize.cli.app import app
from localize.cli.edit_subject import FORGET, Subject, ToForget, is_planted, read_subject
from localize.cli.edit_ways import (
    ACTIONS,
    ALL,
    CURVATURE,
    FRACTION,
    ORACLE,
    RHO,
    WEIGHT_GRADIENT,
    Task,
    Way,
    jobs,
)
from localize.cli.edited import FILES, Edited
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
    check_choices,
    check_numbers,
    named,
    say_inputs,
)
from localize.cli.origin import command, digest_of, hashes, save_tokenizer
from localize.cli.run import run_command
from localize.cli.words import say
from localize.code import code_hash, code_of
from localize.errors import InputError, LocalizeError
from localize.localizers.registry import DEFAULT, get, names
from localize.paragraphs.readers import checked_kind
from localize.resources import EMBEDDED
from localize.storage import check_writable, is_free

if TYPE_CHECKING:
    from localize.edit.sets import EditSets
    from localize.edit.weight_edit import WeightEdit
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.signature import MemorizationSignature

CODE = tuple(
    f"localize.edit.{name}"
    for name in (
        "unlearn", "units", "subnet", "curvature", "evaluation", "prompts", "relearning", "resurfacing", "sets", "masks", "unit_masks",
        "budget",
    )
)  # fmt: skip
"""Modules that an edit and what is told of it depend on."""

ATTACKED = 10
"""Kept texts that an attack trains on, at most."""


@app.command()
def edit(
    model: Model = None,
    paragraphs: Source = None,
    out: Out = Path("edited"),
    action: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIONS)}.")] = "unlearn",
    localizer: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Whose top units' weights may change (of {WEIGHT_GRADIENT} top weights): one of {', '.join(names())}, or {ALL} "
            f"weights; of a planted truth {ORACLE} too. May be repeated. {DEFAULT} if left out."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Of unlearn: npo, contrastive or gradient_difference; may be repeated. npo if left out."),
    ] = None,
    forget: Annotated[int, typer.Option(help="Forget so many paragraphs, each of another cluster.")] = FORGET,
    group: Annotated[
        str | None,
        typer.Option(
            help=f"The group that they are from; what the model says itself after their prefixes is forgotten. {MEMORIZED} if left "
            "out, of a planted truth what was planted."
        ),
    ] = None,
    paragraph: Annotated[
        list[str] | None, typer.Option(help="Id of a paragraph to forget, instead; may be repeated.")
    ] = None,
    first: Annotated[
        int | None, typer.Option(help="Of unlearn: the forget term is of the first so many continuation tokens.")
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the blocks' weights that may change; may be repeated. If left out as many units as hold the texts, or "
            f"{FRACTION} of single weights and of what is zeroed."
        ),
    ] = None,
    rho: Annotated[
        list[float] | None,
        typer.Option(help=f"Of curvature: its share that is kept; may be repeated. {RHO} if left out."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of AdamW, at most; see unlearn for what is usual.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of each step; the fewer weights may change, the higher, if left out.")
    ] = None,
    per_step: Annotated[
        int | None, typer.Option(help="Paragraphs of each set that a step sees; of unlearn 64 if left out, else all.")
    ] = None,
    c: Annotated[
        float | None,
        typer.Option(help="Weight of the forget set's term, the keep set's is 1."),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Of npo: how soon its forget term fades; 0.05 if left out.")
    ] = None,
    stop_at: Annotated[
        float | None, typer.Option(help="Stop at this exact match: of the forget set, or of the new text.")
    ] = None,
    stop_nll: Annotated[
        float | None, typer.Option(help="Of unlearn: stop at this NLL of the forget set, nats per token.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            help="The same steps on as many random weights, on all, and on layers not named; of curvature random parts."
        ),
    ] = True,
    repeats: Annotated[int, typer.Option(help="Deal the paragraphs out anew so many times.")] = 1,
    general: Annotated[
        str | None,
        typer.Option(help="Text for the perplexity: a file like the paragraphs'; generated for the embedded model."),
    ] = None,
    relearn: Annotated[
        int, typer.Option(help="Train the edited model on what it forgot for so many steps, and watch it come back.")
    ] = 0,
    attack: Annotated[
        bool,
        typer.Option(
            help="Attack each edited model: other prompts, samples, rounding, training on kept text or on first words; see resurface."
        ),
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Folder to make: the edited model as a checkpoint (the first repeat's).")
    ] = None,
    prefix: Prefix = PREFIX,
    continuation: Continuation = CONTINUATION,
    limit: Limit = None,
    sample: Sample = None,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="Seed of the first repeat; the next ones follow.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Edit some paragraphs out of a model; write the edits, their signatures before and after, a table and a figure.

    The same command goes on where it was stopped, and more repeats are added to those that are there.
    """
    check_numbers(forget=forget, steps=steps, per_step=per_step, repeats=repeats, sample=sample)
    if relearn < 0:
        raise InputError(f"--relearn {relearn}: must be at least 0.")
    way = Way(
        action, tuple(localizer or ()), tuple(method or ()), tuple(fraction or ()), tuple(rho or ()), first, steps, learning_rate,
        per_step, c, beta, stop_at, stop_nll, controls,
    )  # fmt: skip
    if export is not None:
        if not is_free(export):
            raise InputError(
                f"--export {export}: exists and is not an empty folder; a checkpoint is written to a new one."
            )
        check_writable(export, f"--export {export}")
    mine = command("edit", out, FILES, overwrite=overwrite)
    options = {"prefix": prefix, "continuation": continuation, "forget": forget, "group": group, "paragraph": paragraph}
    options |= {
        "seed": seed,
        "relearn": relearn,
        "attack": attack,
        "dtype": dtype,
        **way._asdict(),
        "localizer": way.chosen_by,
    }
    mine.check(options)
    planted = is_planted(model)
    if not planted:  # a truth brings its own texts: beside these the embedded ones are asked for by name
        model, paragraphs = named(model, paragraphs)
    for file in (paragraphs, general):
        if file is not None and file != EMBEDDED:
            checked_kind(Path(file))
    check_choices(dtype, device)
    way.check(planted)
    subject = read_subject(
        model, paragraphs, general, ToForget(forget, group, tuple(paragraph or ())), fits=action == CURVATURE, prefix=prefix,
        continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision,
    )  # fmt: skip
    hooked, read, text = subject.model, subject.paragraphs, subject.general
    if attack and text is None:
        raise InputError(
            "--attack: text that was never trained is attacked alike, as the null; name some: --general TEXT.csv."
        )
    say_inputs(hooked, read, subject.whole)
    code = [*map(code_hash, CODE), *(code_of(get(name).function) for name in way.chosen_by if name in names())]
    asked = options | hashes(hooked, read) | {"code": digest_of(code)}
    asked |= {"general_hash": None if text is None else text.data_hash}
    from localize import load_edit

    with mine.claimed(asked) as claim:
        results = Edited(claim, way.names)
        if claim.kept:
            say(f"{out} holds {results.find_again()} edits of these, which are not made again.")
        for repeat in range(seed, seed + repeats):
            _make(subject, way, results, repeat, relearn, attack)
        if export is not None and (file := results.file_of(way.names[0], seed)) is not None:
            load_edit(file).export(subject.deal(seed).model, export)
            say(
                f"Wrote {export}; next: {run_command(export, paragraphs, prefix=read.prefix_length, continuation=read.continuation_length)}"
            )
        if results.changes:
            save_tokenizer(out, hooked)
        results.tell(seed)


def _make(subject: Subject, way: Way, results: Edited, repeat: int, relearn: int, attack: bool) -> None:
    """The edits of one repeat that are not there yet; one that fails leaves the others."""
    from localize import evaluate_edit

    model, paragraphs, sets = subject.deal(repeat)
    text = subject.general
    gone, keep = (part.with_own_continuation(model) for part in (sets.forget, sets.keep))
    task = Task(model, gone, keep, repeat, subject.known, subject.fitted)
    for label, job in jobs(task, way).items():
        if results.file_of(label, repeat) is not None:
            continue
        try:
            made = job()
            change = evaluate_edit(model, made, paragraphs, general=text, seed=repeat)
            runs = _relearned(model, made, label, gone, text, relearn) if relearn else {}
            attacked = _attacked(model, made, sets, text, repeat) if attack and text is not None else None
        except LocalizeError as error:
            results.failed.append(f"seed {repeat}, {label}: {error}")  # the others are still worth having
            say(results.failed[-1])
            continue
        say(f"seed {repeat}, {label}: {made!r}")
        results.add(label, repeat, made, change, runs, attacked)


def _relearned(
    model: "HookedModel", made: "WeightEdit", label: str, forget: "Paragraphs", text: "Paragraphs | None", steps: int
) -> "dict[str, MemorizationSignature]":
    """The edited model taught what it forgot, and beside it as much text that the unedited one does not recite."""
    from localize import relearn as taught

    other = None if text is None else text[_unrecited(model, text)[: len(forget)]]
    with made.applied(model):
        runs = {f"{label}, forgotten": taught(model, forget, steps=steps)}
        if other is not None:
            runs[f"{label}, not recited"] = taught(model, other, steps=steps)
    return runs


def _attacked(
    model: "HookedModel", made: "WeightEdit", sets: "EditSets", text: "Paragraphs", seed: int
) -> "MemorizationSignature":
    """What attacks bring back: kept text that is recited like what was forgotten is what is trained on."""
    from localize import resurface
    from localize.measure.labels import groups_of
    from localize.measure.scoring import recall_of

    group, asked = (
        groups_of(replace(part, groups=None, em_bins=None), recall_of(model, part)) for part in (sets.keep, sets.forget)
    )
    alike = np.flatnonzero(np.isin(group, asked))[:ATTACKED]
    others = sets.keep[alike] if len(alike) else sets.keep[: min(ATTACKED, len(sets.keep))]
    never_trained = text[_unrecited(model, text)[: len(sets.forget)]]
    return resurface(model, made, sets.forget, never_trained, others, seed=seed)


def _unrecited(model: "HookedModel", text: "Paragraphs") -> "np.ndarray":
    """Which paragraphs the model does not say before any edit: what a text is called is measured, not taken from its file's name."""
    from localize.measure.labels import NOT_MEMORIZED_SHARE
    from localize.measure.scoring import recall_of

    rows = np.flatnonzero(recall_of(model, text).exact_match <= NOT_MEMORIZED_SHARE * text.continuation_length)
    if len(rows) == 0:
        raise InputError(
            f"--relearn: all {len(text)} paragraphs of {text.source} are recited; text that is not is needed beside."
        )
    return rows
