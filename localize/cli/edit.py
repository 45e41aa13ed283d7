"""`localize edit`: forget or rewrite some paragraphs, and see what else moved."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from localize.axes import MEMORIZED
from localize.cli.app import app
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
    read_inputs,
    say_inputs,
)
from localize.cli.origin import command, digest_of, hashes, save_tokenizer
from localize.cli.run import run_command
from localize.cli.words import say
from localize.code import code_hash, code_of
from localize.errors import InputError, LocalizeError, called_as
from localize.localizers.registry import DEFAULT, get, names
from localize.paragraphs.readers import checked_kind
from localize.resources import EMBEDDED
from localize.storage import check_writable, is_free

if TYPE_CHECKING:
    from localize.edit.masks import WeightMask
    from localize.edit.sets import EditSets
    from localize.edit.weight_edit import WeightEdit
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.signature import MemorizationSignature

CODE = tuple(
    f"localize.edit.{name}"
    for name in ("unlearn", "units", "evaluation", "prompts", "relearning", "resurfacing", "sets", "masks")
)
"""Modules that an edit and what is told of it depend on."""

ACTIONS = ("unlearn", "rewrite", "zero")
WEIGHT_GRADIENT = "weight_gradient"
"""The localizer whose weights are edited if none is named."""
NAMED = {None: "zeroed units", WEIGHT_GRADIENT: "top"}
"""What edits are called by another name than their localizer's; without one units are zeroed."""


ATTACKED = 10
"""Kept texts that an attack trains on, at most."""


class Way(NamedTuple):
    """How edits are made, as the options say."""

    action: str
    localizer: str | None
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
        """Raise an error for what can be told before a model is loaded, and what needs no torch before that."""
        if self.action not in ACTIONS:
            raise InputError(f"--action {self.action}: not one of {', '.join(ACTIONS)}.")
        if self.localizer is not None and self.localizer not in names():
            raise InputError(f"--localizer {self.localizer}: not one of {', '.join(names())}.")
        from localize.edit.masks import check_fraction
        from localize.edit.unlearn import METHODS

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
        if self.action == "zero" and self.localizer == WEIGHT_GRADIENT:
            raise InputError(
                f"--localizer {self.localizer}: scores single weights; --action zero takes one that scores units."
            )
        with called_as("--fraction"):
            for fraction in self.fractions:
                check_fraction(fraction)

    def name(self, fraction: float) -> str:
        """Of an edit that is not a control."""
        return f"{NAMED.get(self.localizer, self.localizer)} {100 * fraction:g} %"

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
    localizer: Annotated[
        str | None,
        typer.Option(
            help=f"Whose top weights may change, or top units' weights: one of {', '.join(names())}; {WEIGHT_GRADIENT} if left out. "
            f"Of --action zero {DEFAULT}."
        ),
    ] = None,
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
    check_numbers(forget=forget, steps=steps, repeats=repeats, sample=sample)
    if relearn < 0:
        raise InputError(f"--relearn {relearn}: must be at least 0.")
    if localizer is None and action != "zero":
        localizer = WEIGHT_GRADIENT
    way = Way(
        action, localizer, method, first, tuple(fraction or (0.01,)), steps, learning_rate, c, beta, stop_at, controls
    )
    if export is not None:
        if not is_free(export):
            raise InputError(
                f"--export {export}: exists and is not an empty folder; a checkpoint is written to a new one."
            )
        check_writable(export, f"--export {export}")
    mine = command("edit", out, FILES, overwrite=overwrite)
    options = {"prefix": prefix, "continuation": continuation, "forget": forget, "group": group, "paragraph": paragraph}
    options |= {"seed": seed, "relearn": relearn, "attack": attack, "dtype": dtype, **way._asdict()}
    mine.check(options)
    model, paragraphs = named(model, paragraphs)
    for file in (paragraphs, general):
        if file is not None:
            checked_kind(Path(file))
    check_choices(dtype, device)
    way.check()
    hooked, read, whole = read_inputs(
        model, paragraphs, prefix=prefix, continuation=continuation, limit=limit, sample=sample, tokenizer=tokenizer,
        device=device, dtype=dtype, revision=revision,
    )  # fmt: skip
    text = _general(hooked, general, prefix, continuation)
    if attack and text is None:
        raise InputError(
            "--attack: text that was never trained is attacked alike, as the null; name some: --general TEXT.csv."
        )
    say_inputs(hooked, read, whole)
    code = [*map(code_hash, CODE), code_of(get(localizer or DEFAULT).function)]
    asked = options | hashes(hooked, read) | {"code": digest_of(code)}
    asked |= {"general_hash": None if text is None else text.data_hash}
    from localize import load_edit

    with mine.claimed(asked) as claim:
        results = Edited(claim, way.names)
        if claim.kept:
            say(f"{out} holds {results.find_again()} edits of these, which are not made again.")
        for repeat in range(seed, seed + repeats):
            _make(
                hooked,
                read,
                text,
                way,
                results,
                partial(_dealt, hooked, read, forget, group, paragraph),
                repeat,
                relearn,
                attack,
            )
        if export is not None and (file := results.file_of(way.names[0], seed)) is not None:
            load_edit(file).export(hooked, export)
            say(f"Wrote {export}; next: {run_command(export, paragraphs, prefix=prefix, continuation=continuation)}")
        if results.changes:
            save_tokenizer(out, hooked)
        results.tell(seed)


def _general(model: "HookedModel", given: str | None, prefix: int, continuation: int) -> "Paragraphs | None":
    """Text for the perplexity."""
    from localize import load_paragraphs, unseen_paragraphs

    if given is not None:
        text = load_paragraphs(given, model, prefix_length=prefix, continuation_length=continuation)
        text.check_fits(model)
        return text
    if model.name == EMBEDDED:
        return unseen_paragraphs(model, prefix_length=prefix, continuation_length=continuation)
    return None


def _make(
    model: "HookedModel",
    paragraphs: "Paragraphs",
    text: "Paragraphs | None",
    way: Way,
    results: Edited,
    deal: "Callable[[int], EditSets]",
    repeat: int,
    relearn: int,
    attack: bool,
) -> None:
    """The edits of one repeat that are not there yet; one that fails leaves the others."""
    from localize import evaluate_edit

    dealt = deal(repeat)
    gone, keep = (part.with_own_continuation(model) for part in (dealt.forget, dealt.keep))
    for label, job in _jobs(model, gone, keep, way, repeat).items():
        if results.file_of(label, repeat) is not None:
            continue
        try:
            made = job()
            change = evaluate_edit(model, made, paragraphs, general=text, seed=repeat)
            runs = _relearned(model, made, label, gone, text, relearn) if relearn else {}
            attacked = _attacked(model, made, dealt, text, repeat) if attack and text is not None else None
        except LocalizeError as error:
            results.failed.append(f"seed {repeat}, {label}: {error}")  # the others are still worth having
            say(results.failed[-1])
            continue
        say(f"seed {repeat}, {label}: {made!r}")
        results.add(label, repeat, made, change, runs, attacked)


def _dealt(
    model: "HookedModel", paragraphs: "Paragraphs", count: int, group: str, ids: list[str] | None, seed: int
) -> "EditSets":
    """The sets of one repeat: paragraphs of a group drawn by the seed, or those named."""
    from localize import edit_sets
    from localize.edit.sets import EditSets, deal_kept
    from localize.measure.labels import groups_of
    from localize.measure.scoring import recall_of

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
        scores = get(way.localizer or DEFAULT)(model, forget, keep)
        return {way.name(x): partial(zero_units, model, forget, keep, x, scores=scores) for x in way.fractions}
    how: dict[str, Any] = {"steps": way.steps, "learning_rate": way.learning_rate, "stop_at": way.stop_at, "c": way.c}
    how |= {"method": way.method, "beta": way.beta, "first": way.first}
    how = {option: value for option, value in how.items() if value is not None}
    masks = _masks(model, forget, keep, way, seed)
    if way.action == "unlearn":
        return {label: partial(unlearn, model, forget, keep, mask, **how) for label, mask in masks.items()}
    pairs = _pairs(model, forget, seed)
    return {label: partial(rewrite, model, pairs, keep, mask, **how) for label, mask in masks.items()}


def _masks(
    model: "HookedModel", forget: "Paragraphs", keep: "Paragraphs", way: Way, seed: int
) -> "dict[str, WeightMask]":
    """A mask for each fraction and, if asked for, what it is held against; all weights are that once."""
    from localize import mask_controls
    from localize.edit.unit_masks import localized_mask

    assert way.localizer is not None, "zeroing needs no mask"
    masks, scores = {}, get(way.localizer)(model, forget, keep)
    for fraction in way.fractions:
        mask = masks[way.name(fraction)] = localized_mask(model, scores, fraction)
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
    model: "HookedModel", made: "WeightEdit", dealt: "EditSets", text: "Paragraphs", seed: int
) -> "MemorizationSignature":
    """What attacks bring back: kept text of the kind of what was forgotten is what is trained on."""
    from localize import resurface
    from localize.measure.labels import groups_of
    from localize.measure.scoring import recall_of

    group = groups_of(dealt.keep, recall_of(model, dealt.keep))
    asked = groups_of(dealt.forget, recall_of(model, dealt.forget))
    alike = np.flatnonzero(np.isin(group, asked))[:ATTACKED]
    others = dealt.keep[alike] if len(alike) else dealt.keep[: min(ATTACKED, len(dealt.keep))]
    never_trained = text[_unrecited(model, text)[: len(dealt.forget)]]
    return resurface(model, made, dealt.forget, never_trained, others, seed=seed)


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
