"""The folder of `localize edit`: every edit written when it is made, and found again by the same command."""

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import FORGET, GENERAL, MEMORIZED, NEAR_DUPLICATE, NEVER_TRAINED, NOT_MEMORIZED
from localize.claims import FINISHED
from localize.cli.origin import save_told
from localize.cli.words import say
from localize.errors import LocalizeError
from localize.report.folder import EDITS_FILE, REPORT_FILE, SIDES, TOKENIZER_FOLDER
from localize.storage import read_json, replacing, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from plotly.graph_objects import Figure

    from localize.analysis.change import Change
    from localize.claims import Claim
    from localize.edit.weight_edit import WeightEdit
    from localize.signature.signature import MemorizationSignature

TABLE_FILE, ATTACKS_FILE, AIM_FILE = "changes.csv", "attacks.csv", "aim.csv"
FIGURE_FILE, RELEARNING_FILE, RESURFACING_FILE = "editing.html", "relearning.html", "resurfacing.html"
FILES = (
    "*-seed*.safetensors", "*-seed*.zarr.zip", EDITS_FILE, TABLE_FILE, AIM_FILE, FIGURE_FILE, RELEARNING_FILE, ATTACKS_FILE,
    RESURFACING_FILE, TOKENIZER_FOLDER, REPORT_FILE,
)  # fmt: skip
"""What edits, and the report of them, leave in a folder."""

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


@dataclass
class Edited:
    """What was made so far; each edit is written at once, so that a later failure loses nothing.

    Attributes:
        claim: Of the folder.
        asked: Names of the edits that are not controls.
        changes: What each edit changed, by its name, a repeat after the other.
        relearned: How fast what it forgot came back, in the first repeat.
        attacked: What attacks brought back, by the edit's name, a repeat after the other.
        failed: What could not be made.
        files: What was written, as `read_results` reads it.
    """

    claim: "Claim"
    asked: tuple[str, ...]
    changes: "dict[str, list[Change]]" = field(default_factory=dict)
    relearned: "dict[str, MemorizationSignature]" = field(default_factory=dict)
    attacked: "dict[str, list[MemorizationSignature]]" = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    files: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"edits": [], "relearned": [], "attacked": []}
    )

    @property
    def out(self) -> Path:
        """The folder."""
        return self.claim.command.folder

    def find_again(self) -> int:
        """Take up what the folder holds; gives how many edits that are."""
        from localize.report.folder import read_results

        if (self.out / EDITS_FILE).is_file():
            there = read_results(self.out)
            self.changes, self.relearned = dict(there.changes), dict(there.relearned)
            self.attacked = {label: list(runs) for label, runs in there.attacked.items()}
            self.files = read_json(self.out / EDITS_FILE)
        return len(self.files["edits"])

    def file_of(self, label: str, repeat: int) -> Path | None:
        """The edit's file, if it was made."""
        names = (edit["edit"] for edit in self.files["edits"] if (edit["label"], edit["seed"]) == (label, repeat))
        return next((self.out / name for name in names), None)

    def add(
        self,
        label: str,
        repeat: int,
        made: "WeightEdit",
        change: "Change",
        runs: "dict[str, MemorizationSignature]",
        attacked: "MemorizationSignature | None",
    ) -> None:
        """Write one edit and what it did."""
        name = f"{_slug(label)}-seed{repeat}"
        sides = {side: f"{name}-{side}.zarr.zip" for side in SIDES}
        made.save(self.out / f"{name}.safetensors")
        told = self.claim.about(FINISHED)  # of this edit; the next one's may still be missing
        save_told(change.before, self.out / sides["before"], told)
        save_told(change.after, self.out / sides["after"], told)
        for of, signature in runs.items():
            file = f"{_slug(of)}-seed{repeat}-relearned.zarr.zip"
            save_told(signature, self.out / file, told)
            if of not in self.relearned:
                self.files["relearned"].append({"label": of, "seed": repeat, "file": file})
                self.relearned[of] = signature
        if attacked is not None:
            save_told(attacked, self.out / (file := f"{name}-attacked.zarr.zip"), told)
            self.files["attacked"].append({"label": label, "seed": repeat, "file": file})
            self.attacked.setdefault(label, []).append(attacked)
        about = {"label": label, "seed": repeat, "control": label not in self.asked, "edit": f"{name}.safetensors"}
        self.files["edits"].append(about | sides)
        write_json(self.out / EDITS_FILE, self.files)  # last: what it tells of is there
        self.changes.setdefault(label, []).append(change)

    def tell(self, seed: int) -> None:
        """Write and print the tables, draw them, and raise an error if an edit could not be made."""
        from localize import edit_aim, edit_table, plots, resurfacing_table
        from localize.analysis.aim import aim_words
        from localize.plots.figures.resurfacing import without_controls

        if not self.changes:
            raise LocalizeError(self.failed[0])
        controls = [label for label in self.changes if label not in self.asked]
        with warnings.catch_warnings(record=True) as notes:
            table = edit_table(self.changes, seed=seed)
        with warnings.catch_warnings(record=True):  # the same notes
            aim = edit_aim(self.changes, self.attacked, seed=seed)
            attacks = resurfacing_table(self.attacked, seed=seed) if self.attacked else None
        for file, rows in ((TABLE_FILE, table), (AIM_FILE, aim), (ATTACKS_FILE, attacks)):
            if rows is not None:
                with replacing(self.out / file) as beside:
                    rows.to_csv(beside)
        _print(table)
        if attacks is not None:
            _print_attacks(attacks)
        for note in dict.fromkeys(str(note.message) for note in notes):
            say(f"Note: {note}")
        for label, signature in self.relearned.items():
            by_step = signature.where(group="taught")["relearned_exact_match"].mean("paragraph").values
            say(f"seed {seed}, {label}: exact match step by step {' '.join(f'{value:.1f}' for value in by_step)}")
        self._draw(FIGURE_FILE, lambda: plots.editing(self.changes, controls=controls))
        if self.attacked:
            shown = without_controls(self.attacked, controls)
            self._draw(RESURFACING_FILE, lambda: plots.resurfacing(shown, seed=seed))
        if self.relearned:
            self._draw(RELEARNING_FILE, lambda: plots.relearning(self.relearned))
        say(f"Wrote {self.out}: edits, signatures before and after, tables and figures")
        for label in aim.index.unique("edit"):
            if label not in controls:
                say(f"{label}: {aim_words(aim, label)}.")
        if self.failed:
            raise LocalizeError(f"{len(self.failed)} edits could not be made; the first: {self.failed[0]}")

    def _draw(self, file: str, make: "Callable[[], Figure]") -> None:
        """Write a figure; where it cannot be drawn say why, and leave none of an earlier run."""
        with warnings.catch_warnings(record=True):
            try:
                _write_figure(self.out / file, make())
            except LocalizeError as error:  # the tables are there
                (self.out / file).unlink(missing_ok=True)
                say(f"No {file}: {error}")


def _slug(label: str) -> str:
    """A file's name: "top 0.1 %" as "top-0.1"."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def _write_figure(path: Path, figure: "Figure") -> None:
    """One offline page."""
    from localize.storage import replacing

    with replacing(path) as beside:
        beside.write_text(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8")


def _print_attacks(table: "pd.DataFrame") -> None:
    """What each attack brings back, and what of text that was never trained."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize.analysis.resurfacing import WORST

    shown = Table(
        "edit", "attack", "forgotten", "never trained", "difference [95%]", title="What attacks bring back (share)"
    )
    for edit in table.index.unique("edit"):
        means = table.loc[edit].xs(FORGET, level="group")["estimate"]
        strongest = str(means.drop(["as_is", WORST]).idxmax())
        for attack in ("as_is", strongest, WORST):
            rows = table.loc[edit].loc[attack]
            apart = rows.loc[f"{FORGET} - {NEVER_TRAINED}"]
            told = [f"{rows.loc[group, 'estimate']:.3f}" for group in (FORGET, NEVER_TRAINED)]
            difference = f"{apart['estimate']:.3f} [{apart['low']:.3f}, {apart['high']:.3f}]"
            shown.add_row(*(Text(cell) for cell in (edit, attack.replace("_", " "), *told, difference)))
    Console(highlight=False).print(shown)
    say(f"All attacks stand in {ATTACKS_FILE}; worst: of each text the attack that brings most of it back.")


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
            change, low, high = (digits.format(row[column]) for column in ("estimate", "low", "high"))
            told = (label, group, quantity, *cells, f"{change} [{low}, {high}]", int(row["n"]))
            shown.add_row(*(Text(str(cell)) for cell in told))
    Console(highlight=False).print(shown)
