"""What `localize edit` edits: a model and its paragraphs, or a planted truth, and how each repeat deals the paragraphs out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from localize.axes import HEADS_PART, MEMORIZED
from localize.cli.edit_ways import ORACLE
from localize.cli.inputs import CONTINUATION, PREFIX, read_inputs
from localize.cli.words import quiet_libraries, say
from localize.errors import InputError
from localize.resources import EMBEDDED
from localize.truths.kinds import RECORD

if TYPE_CHECKING:
    from localize.edit.sets import EditSets
    from localize.localizers.localizer import Localizer
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.truths.truth import Truth

FORGET = 10
"""Paragraphs that are forgotten, if no number is asked for."""

PLANTED = "planted"
"""The group of a truth's texts."""

OF_PLAIN_MODELS = {
    "limit": None, "sample": None, "tokenizer": None, "revision": None, "dtype": "float32", "prefix": PREFIX, "continuation": CONTINUATION,
}  # fmt: skip
"""Options that mean nothing of a planted truth, which brings its texts and its model, as they are where they are left out."""


class Dealt(NamedTuple):
    """What one repeat edits.

    Attributes:
        model: The same in all repeats, but for "inj", of which each holds one text.
        paragraphs: By which the edit is judged, with those that it saw.
        sets: The paragraphs dealt out.
    """

    model: "HookedModel"
    paragraphs: "Paragraphs"
    sets: "EditSets"


class Subject(NamedTuple):
    """What is edited.

    Attributes:
        model: Of the first repeat.
        paragraphs: Likewise.
        whole: Of how many paragraphs these are.
        general: Text for the perplexity; None if there is none.
        fitted: The part of it that curvature is measured on, which no edit is judged by; None if none was set aside.
        known: Localizers that know the truth, by name.
        deal: The sets of a repeat, by its seed.
    """

    model: "HookedModel"
    paragraphs: "Paragraphs"
    whole: int
    general: "Paragraphs | None"
    fitted: "Paragraphs | None"
    known: "Mapping[str, Localizer]"
    deal: "Callable[[int], Dealt]"


class ToForget(NamedTuple):
    """Which paragraphs are forgotten: so many of a group, or those named."""

    forget: int
    group: str | None
    paragraph: tuple[str, ...]


def is_planted(model: str | None) -> bool:
    """Whether a model is a folder that `Truth.save` wrote."""
    return model is not None and (Path(model) / RECORD).is_file()


def read_subject(
    model: str | None, paragraphs: str | None, general: str | None, choice: ToForget, *, fits: bool, **reading: Any
) -> Subject:
    """Load what is edited.

    Args:
        model: As the command line has it.
        paragraphs: Likewise.
        general: Likewise.
        choice: What is forgotten.
        fits: Whether half of the general text is set aside, to measure curvature on.
        reading: Options of `read_inputs`.
    """
    if is_planted(model):
        assert model is not None
        subject = _planted(model, paragraphs, general, choice, reading)
    else:
        hooked, read, whole = read_inputs(model, paragraphs, **reading)
        text = _general(hooked, general, reading)
        subject = Subject(
            hooked, read, whole, text, None, {}, lambda seed: Dealt(hooked, read, _sets(hooked, read, choice, seed))
        )
    if not fits:
        return subject
    if subject.general is None:
        raise InputError("--action curvature: is measured on general text; name some: --general TEXT.csv.")
    clusters = np.unique(subject.general.clusters, return_inverse=True)[
        1
    ]  # of a part they are numbered as in the whole
    if clusters.max() == 0:
        raise InputError(
            f"--action curvature: {subject.general.source} is of one cluster of near-duplicates; two or more are needed, to measure "
            "it on and to judge by."
        )
    first = clusters % 2 == 0
    return subject._replace(fitted=subject.general[first], general=subject.general[~first])


def _general(model: "HookedModel", given: str | None, reading: "Mapping[str, Any]") -> "Paragraphs | None":
    """Text for the perplexity."""
    from localize import load_paragraphs, unseen_paragraphs

    lengths = {"prefix_length": reading["prefix"], "continuation_length": reading["continuation"]}
    if given is not None:
        text = load_paragraphs(given, model, **lengths)
        text.check_fits(model)
        return text
    return unseen_paragraphs(model, **lengths) if model.name == EMBEDDED else None


def _sets(model: "HookedModel", paragraphs: "Paragraphs", choice: ToForget, seed: int) -> "EditSets":
    """The sets of one repeat: paragraphs of a group drawn by the seed, or those named."""
    from localize import edit_sets
    from localize.edit.sets import EditSets, deal_kept
    from localize.measure.labels import groups_of
    from localize.measure.scoring import recall_of

    ids = choice.paragraph
    if not ids:
        return edit_sets(model, paragraphs, forget=choice.forget, group=choice.group or MEMORIZED, seed=seed)
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


def _planted(
    folder: str, paragraphs: str | None, general: str | None, choice: ToForget, reading: "Mapping[str, Any]"
) -> Subject:
    """A planted truth: its texts are forgotten, and other paragraphs may be named beside them."""
    from localize import load_truth
    from localize.bench.upper_bound import oracle

    for option, default in OF_PLAIN_MODELS.items():
        if reading[option] != default:
            raise InputError(f"--{option}: means nothing of a planted truth; leave it out.")
    quiet_libraries()
    truth = load_truth(folder, device=reading["device"])
    if truth.part == HEADS_PART:
        raise InputError(
            f"{folder}: its texts are planted in new heads, which are no part of a checkpoint: not edited."
        )
    if not truth.passed:
        failed = ", ".join(gate.name for gate in truth.gates if not gate.passed)
        raise InputError(f"{folder}: the truth fails a gate ({failed}); what edits do to it says nothing.")
    if truth.injected is not None and choice not in (ToForget(FORGET, None, ()), ToForget(1, None, ())):
        raise InputError(
            f"--forget, --group, --paragraph: each model of {folder} holds one text, which is forgotten; leave them out."
        )
    base = truth.model or truth.base
    assert base is not None
    if general is None:
        judged, text = truth.others[::2], truth.others[1::2]
    else:
        judged, text = truth.others, _alike(general, base, truth)
    if paragraphs is not None:
        judged = _beside(judged, _alike(paragraphs, base, truth), truth)
    elif truth.injected is not None:
        raise InputError(
            f"{folder}: each of its models holds one text; name paragraphs that the model recites, to judge edits by."
        )
    known = {ORACLE: oracle(truth)}
    first = _joined(truth.paragraphs, judged, base)

    def deal(seed: int) -> Dealt:
        if truth.injected is None:
            return Dealt(base, first, _sets(base, first, choice._replace(group=choice.group or PLANTED), seed))
        row = seed % len(truth.paragraphs)
        injected = truth.injected.model(base, row)
        read = _joined(truth.paragraphs[[row]], judged, injected)
        return Dealt(injected, read, _sets(injected, read, ToForget(1, PLANTED, ()), seed))

    return Subject(base, first, len(first), text, None, known, deal)


def _alike(file: str, model: "HookedModel", truth: "Truth") -> "Paragraphs":
    """A file's paragraphs, or the embedded ones, of the lengths of the truth's texts."""
    from localize import load_paragraphs

    prefix, continuation = truth.paragraphs.prefix_length, truth.paragraphs.continuation_length
    return load_paragraphs(file, model, prefix_length=prefix, continuation_length=continuation)


def _joined(planted: "Paragraphs", judged: "Paragraphs", model: "HookedModel") -> "Paragraphs":
    """Planted texts in their group, others in that of their recall."""
    from localize.measure.labels import groups_of
    from localize.measure.scoring import recall_of
    from localize.paragraphs.joined import joined

    both = joined(planted, judged)
    groups = groups_of(both, recall_of(model, both)).astype(object)
    groups[: len(planted)] = PLANTED
    return both.with_groups(groups.tolist())


def _beside(judged: "Paragraphs", given: "Paragraphs", truth: "Truth") -> "Paragraphs":
    """Given paragraphs that are near none of the truth's, after those that it brings."""
    from localize.paragraphs.joined import joined

    names = [f"given {name}" for name in given.ids]
    mine = joined(joined(truth.paragraphs, truth.others), replace(given, ids=tuple(names)))
    own = len(truth.paragraphs) + len(truth.others)
    free = ~np.isin(mine.clusters[own:], mine.clusters[:own])
    if not free.all():
        say(f"{(~free).sum()} of {len(given)} paragraphs of {given.source} are near the truth's own, and left out.")
    return joined(judged, given[free], ids=[name for name, is_free in zip(names, free, strict=True) if is_free])
