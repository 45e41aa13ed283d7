"""What a page tells of one run: facts, tables, figures and paragraphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from localize import __version__
from localize.analysis.change import Change
from localize.errors import InputError
from localize.plots.catalogue import Drawn, edit_figures_of, figures_of, training_figures_of
from localize.report.drawn import figure_json
from localize.report.evidence import aim_table, distinguish_table, edits_table, heard, strongest_table, summary_table
from localize.report.facts import (
    data_facts,
    groups_table,
    left_out,
    measurements_table,
    model_facts,
    skipped_rows,
    surroundings_table,
    variables_table,
)
from localize.report.folder import CommandResults
from localize.report.literal import script_json
from localize.report.paragraphs import Sampling, paragraph_content
from localize.report.tables import Table, group_words
from localize.report.training import last_model, tables_of_training
from localize.signature.signature import MemorizationSignature

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure as the page holds it.

    Attributes:
        title: What is seen.
        caption: What the reader must know.
        file: What it is called when saved, without a suffix.
        width: In px.
        height: In px.
        drawn: By plotly.
    """

    title: str
    caption: str
    file: str
    width: int
    height: int
    drawn: "go.Figure"

    @classmethod
    def of(cls, drawn: Drawn) -> "Figure":
        """From the catalogue."""
        layout = drawn.figure.layout
        size = int(np.ceil(layout.width or 700)), int(np.ceil(layout.height or 450))
        return cls(drawn.title, drawn.caption, drawn.name, *size, drawn.figure)

    @property
    def json(self) -> Markup:
        """What plotly draws, for the page."""
        return figure_json(self.drawn)


@dataclass(frozen=True, eq=False)
class Run:
    """All that a page tells of one run; every text in it as it was given, still to be escaped.

    Attributes:
        key: What its ids begin with.
        name: What it is called.
        lead: In one sentence.
        command: What was typed.
        model: Facts of the model.
        data: Facts of the paragraphs.
        skipped: What was said of rows left out.
        groups: Their sizes and recall.
        measurements: What was measured, with which options.
        left_out: What was not measured.
        notes: What must be known of the evidence.
        evidence: What stands out.
        figures: All there are.
        sampled: How many paragraphs are shown of how many.
        paragraphs: These, as JSON.
        variables: All that is held.
        provenance: Where it comes from.
        surroundings: What computed it.
    """

    key: str
    name: str
    lead: str
    command: str
    model: list[tuple[str, str]]
    data: list[tuple[str, str]]
    skipped: list[str]
    groups: Table
    measurements: Table
    left_out: str
    notes: list[str]
    evidence: list[Table]
    figures: list[Figure]
    sampled: str
    paragraphs: Markup
    variables: Table
    provenance: list[tuple[str, str]]
    surroundings: Table

    @property
    def tables(self) -> list[Table]:
        """All of its tables."""
        return [self.groups, self.measurements, *self.evidence, self.variables, self.surroundings]

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Its sections: place and words."""
        figures = [("figures", "Figures")] if self.figures else []
        return [
            ("asked", "What was asked"), ("evidence", "What stands out"), *figures, ("paragraphs", "Paragraphs"),
            ("held", "What is held"), ("provenance", "Provenance"),
        ]  # fmt: skip


def run_of(results: CommandResults, name: str, key: str, asked: Sampling) -> Run:
    """Work out what the page tells of one run.

    Args:
        results: Of a run, of edits, or of trainings.
        name: What the page calls it.
        key: What its ids begin with.
        asked: How many paragraphs, and the seed.

    Raises:
        InputError: If there is nothing to tell.
    """
    edited = _first_edit(results)
    signature = results.signature or (edited.before if edited else last_model(results.training))
    if signature is None:
        raise InputError(
            f"{results.path}: holds no results; one that a finished `localize run` or `localize edit` wrote is needed."
        )
    evidence, notes = _evidence(results, signature, key, asked.seed)
    notes = [results.unfinished, *notes] if results.unfinished else notes
    drawn, more = heard(lambda: _drawn(results, asked.seed))
    dataset = signature.dataset
    calls: list[dict[str, Any]] = [*dataset.attrs["calls"], *(edited.after.dataset.attrs["calls"] if edited else ())]
    content = paragraph_content(signature, results.tokenizer, asked, None if results.signature else edited)
    names = signature.groups if results.signature or edited is None else edited.groups
    return Run(
        key=key,
        name=name,
        lead=_lead(signature, names),
        command=results.command,
        model=model_facts(dataset.attrs["model"]),
        data=data_facts(dataset),
        skipped=skipped_rows(dataset),
        groups=groups_table(signature, key, names),
        measurements=measurements_table(calls, key),
        left_out=left_out(calls) if results.signature else "",
        notes=[_sentence(note, names) for note in dict.fromkeys(notes + more)],
        evidence=evidence,
        figures=[Figure.of(each) for each in drawn],
        sampled=_sampled(content, asked.seed),
        paragraphs=script_json(content),
        variables=variables_table(signature, key),
        provenance=_provenance(results, signature, asked),
        surroundings=surroundings_table(calls, key),
    )


def _sentence(note: str, groups: Sequence[str]) -> str:
    """A warning as it stands in a text, with the groups' names in words."""
    for group in groups:
        note = note.replace(group, group_words(group))
    return note[:1].upper() + note[1:].replace("`", "")


def _first_edit(results: CommandResults) -> Change | None:
    """The edit whose paragraphs are shown: the first that is no control."""
    for label, changes in results.changes.items():
        if label not in results.controls:
            return changes[0]
    return next((changes[0] for changes in results.changes.values()), None)


def _evidence(
    results: CommandResults, signature: MemorizationSignature, key: str, seed: int
) -> tuple[list[Table], list[str]]:
    """Tables of what stands out, and what must be known of them."""
    found: list[tuple[Table | None, list[str]]] = []
    if results.signature is not None:
        found += [make(signature, key, seed) for make in (summary_table, strongest_table, distinguish_table)]
    if results.changes:
        found += [make(results, key, seed) for make in (aim_table, edits_table)]
    if results.training is not None:
        found += tables_of_training(results.training, key, seed)
    tables = [table for table, _ in found if table is not None and table.rows]
    return tables, [note for _, notes in found for note in notes]


def _drawn(results: CommandResults, seed: int) -> list[Drawn]:
    figures: dict[str, Drawn] = {}
    if results.signature is not None:
        figures |= figures_of(results.signature, tokenizer=results.tokenizer, seed=seed)
    if results.changes or results.relearned or results.attacked:
        figures |= edit_figures_of(results.changes, results.controls, results.relearned, results.attacked, seed=seed)
    if results.training is not None:
        figures |= training_figures_of(results.training, seed=seed)
    return list(figures.values())


def _lead(signature: MemorizationSignature, names: tuple[str, ...]) -> str:
    attrs, group = signature.dataset.attrs, signature.dataset["group"].values
    about, model = attrs["paragraphs"], attrs["model"]
    groups = ", ".join(f"{int((group == name).sum()):,} {group_words(name)}" for name in names)
    length = f"{about['prefix_length']} + {about['continuation_length']}"
    return (
        f"{len(signature):,} paragraphs of {length} tokens ({groups}) in {model['name']}: {model['family']}, "
        f"{model['layers']} layers × {model['heads']} heads."
    )


def _sampled(content: dict[str, Any], seed: int) -> str:
    """How many paragraphs are shown of how many."""
    if content["count"] == content["of"]:
        return f"All {content['of']:,} paragraphs of the run."
    shown = [
        f"{content['group'].count(number):,} of {group['of']:,} {group['words']}"
        for number, group in enumerate(content["groups"])
    ]
    return (
        f"{content['count']:,} of {content['of']:,} paragraphs are shown here, as many of each group as there is room for, drawn with "
        f"seed {seed}: {', '.join(shown)}. Tables and figures are of all."
    )


def _provenance(results: CommandResults, signature: MemorizationSignature, asked: Sampling) -> list[tuple[str, str]]:
    attrs = signature.dataset.attrs
    return [
        ("read from", str(results.path)),
        ("schema", str(attrs["schema"])),
        ("model", f"{attrs['model']['name']}, weights {attrs['model']['weights_hash']}"),
        ("paragraphs", f"{attrs['paragraphs']['source']}, data {attrs['paragraphs']['data_hash']}"),
        ("this page", f"localize {__version__}, seed {asked.seed}"),
    ]
