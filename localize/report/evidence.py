"""What stands out in a run, as tables: every number with its interval, its null in words, and its p-value."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from localize.analysis.distinguish import AUC, GAIN
from localize.analysis.html import ROUGH, summary_notes
from localize.analysis.rise import with_rise
from localize.analysis.rows import is_rough, main_pair, null_ends, row_of
from localize.analysis.saturation import SATURATION
from localize.analysis.summary import null_words
from localize.axes import RECALL_GROUPS, ordered_groups
from localize.errors import SignatureError
from localize.measurements import REGISTRY
from localize.report.tables import (
    Column,
    Table,
    TableCell,
    between,
    chance,
    count,
    csv_of,
    group_words,
    number,
    range_of,
    rows_of,
    small,
    text,
)

if TYPE_CHECKING:
    from localize.report.folder import CommandResults
    from localize.signature.signature import MemorizationSignature

PERMUTED = "groups dealt out at random"
SATURATED = "one profile of hazards, each paragraph's own level"
NO_DIFFERENCE = "no difference (a landmark, no test)"
SIZE = "paragraphs (effective clusters)"
CENTRAL = "central 95% of the null"

SHOWN = 12
"""Rows of a long table that are shown at first."""

Made = TypeVar("Made")


def heard(make: Callable[[], Made]) -> tuple[Made, list[str]]:
    """What a function gives, and what it warned of, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = make()
    return made, list(
        dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    )


def summary_table(signature: "MemorizationSignature", key: str, seed: int) -> tuple[Table, list[str]]:
    """The fingerprint, and what must be known of it."""
    summary, notes = heard(lambda: signature.summary(seed=seed))
    notes = notes + summary_notes(signature, summary)
    rows = []
    for (quantity, group), row in zip(summary.index, summary.to_dict("records"), strict=True):
        rows.append(
            [
                text(quantity), text(group_words(group)), between(row["estimate"], row["low"], row["high"], rough=is_rough(row)),
                between(row["null"], *null_ends(row)), text(held_against(quantity, group, null_ends(row)[0])),
                chance(row["p_value"], rough=is_rough(row)), size(int(row["n"]), float(row["effective_clusters"])),
            ]
        )  # fmt: skip
    columns = (
        Column("quantity", wide=True), Column("group"), Column("estimate [95% interval]", True),
        Column("null [95%, of its mean or range]", True), Column("what the null is", wide=True), Column("p", True), Column(SIZE, True),
    )  # fmt: skip
    caption = "The signature in a few numbers, beside what nothing looks like"
    note = (
        "Groups are dealt out, and intervals drawn, by whole clusters of near-duplicates. A head is chosen on other clusters than shown. "
        "Ends of a null: of a group, the 95% interval of its mean (positions permuted: its central 95%); of a difference, the central 95% "
        f"of the null. {ROUGH}"
    )
    return Table(f"{key}-summary", caption, columns, rows_of(rows), csv_of(summary), note), notes


def size(paragraphs: int, clusters: float) -> TableCell:
    """How many paragraphs a number rests on, and as how many clusters these count."""
    return TableCell(f"{paragraphs:,} ({clusters:.0f})", float(paragraphs))


def quantity_words(quantity: str) -> str:
    """A quantity of the table of edits, with its unit; of a prompt, which one."""
    name, _, prompt = quantity.partition(", ")
    if name not in REGISTRY:
        return quantity
    variable = REGISTRY[name]
    return f"{variable.label}{', ' * bool(prompt)}{prompt.replace('_', ' ')} ({variable.unit})"


def held_against(quantity: str, group: str, low: float) -> str:
    """What a row of the summary is held against; without an interval, `low` is nan, a difference is held against none."""
    if " - " in group:
        if quantity.endswith(SATURATION.format("")):
            return SATURATED
        return NO_DIFFERENCE if math.isnan(low) else PERMUTED
    return null_words(quantity)


def strongest_table(signature: "MemorizationSignature", key: str, seed: int) -> tuple[Table | None, list[str]]:
    """The cells of all variables in which the two main groups differ most surely."""
    pair = main_pair(ordered_groups(signature.groups))
    if pair is None:
        return None, []
    comparison, notes = heard(lambda: signature.compare(*pair, seed=seed))
    found = comparison.strongest(len(comparison)).drop_duplicates("variable").dropna(subset="estimate")
    a, b = (group_words(name) for name in pair)
    rows = [
        [
            text(f"{with_rise(row['variable'], row['compared'])} ({row['unit']})"), text(row["cell"]),
            between(row["estimate"], row["low"], row["high"], None, rough=is_rough(row)),
            range_of(row["null_range_low"], row["null_range_high"]), small(row["mean_a"]), small(row["mean_b"]),
            number(row["effect_size"], 2), number(row["auc"], 2), chance(row["q_overall"], rough=is_rough(row)),
        ]
        for row in found.to_dict("records")
    ]  # fmt: skip
    columns = (
        Column("variable (unit)", wide=True), Column("cell"), Column("difference [95% interval]", True),
        Column(CENTRAL, True), Column(f"mean, {a}", True), Column(f"mean, {b}", True), Column("effect size (std)", True),
        Column("AUC", True), Column("q", True),
    )  # fmt: skip
    by_recall = (
        " These groups follow from exact match: it differs by construction." if set(pair) <= set(RECALL_GROUPS) else ""
    )
    note = (
        f"Of each variable the cell that differs most surely, of {len(comparison):,} cells in all (the CSV has all, and their p). They "
        "are chosen among many, so their sizes are on average too large; q allows for the choice (Benjamini-Hochberg over all cells)."
        f"{by_recall} Null: {PERMUTED} to whole clusters, 95% of the differences that this gives. AUC: how often a paragraph of {a} "
        f"has the larger number; 0.5 where nothing differs. A rise is the level after a change less the level before. {ROUGH}"
    )
    caption, csv = f"Where {a} and {b} differ most surely", csv_of(comparison.to_dataframe(), index=False)
    return Table(f"{key}-strongest", caption, columns, rows_of(rows), csv, note, SHOWN), notes


def distinguish_table(signature: "MemorizationSignature", key: str, seed: int) -> tuple[Table | None, list[str]]:
    """How well the groups are told apart by each part of the signature, alone and on top of the loss."""
    pair = main_pair(ordered_groups(signature.groups))
    if pair is None:
        return None, []
    try:
        found, notes = heard(lambda: signature.distinguish(*pair, seed=seed))
    except SignatureError as error:  # too few clusters to hold some out
        return None, [str(error)]
    numbers, rows = found.to_dict("index"), []
    for (quantity, name), alone in numbers.items():
        if quantity == AUC:
            gain = numbers.get((GAIN, name), row_of())
            rows.append([text(name), *told_apart(alone), *told_apart(gain), count(alone["features_count"])])
    columns = (
        Column("told by", wide=True), Column("AUC [95% interval]", True), Column(f"null [{CENTRAL}]", True), Column("p", True),
        Column("gain in AUC over the loss [95% interval]", True), Column("null of the gain [same]", True), Column("p of the gain", True),
        Column("numbers used", True),
    )  # fmt: skip
    a, b = (group_words(name) for name in pair)
    note = (
        f"A linear classifier trained on some clusters tells {a} from {b} on others. AUC 1: always right, 0.5: guessing. Null: the same "
        f"with {PERMUTED} to whole clusters. The gain is what loss and part together tell beyond the loss alone; its null deals the groups "
        f"out among clusters alike in loss. Where the loss alone tells nearly all, there is hardly a gain to be had. {ROUGH}"
    )
    return Table(
        f"{key}-distinguish", f"Can {a} be told from {b}, and by what?", columns, rows_of(rows), csv_of(found), note
    ), notes


def told_apart(row: Mapping[str, Any]) -> tuple[TableCell, TableCell, TableCell]:
    """Estimate, null and p of a row."""
    null = between(row["null"], row["null_range_low"], row["null_range_high"])
    rough = is_rough(row)
    return between(row["estimate"], row["low"], row["high"], rough=rough), null, chance(row["p_value"], rough=rough)


def aim_table(results: "CommandResults", key: str, seed: int) -> tuple[Table, list[str]]:
    """Whether each edit forgets what it names and nothing else."""
    from localize.analysis.aim import edit_aim

    found, _ = heard(
        lambda: edit_aim(results.changes, results.attacked, seed=seed)
    )  # the notes are those of the changes
    rows = []
    for (edit, criterion), row in zip(found.index, found.to_dict("records"), strict=True):
        control = " (control)" if edit in results.controls else ""
        allowed = f"at most {row['most']:g}" if math.isinf(row["least"]) else f"{row['least']:g} to {row['most']:g}"
        rows.append([
            text(f"{edit}{control}"), text(criterion), between(row["value"], row["low"], row["high"], None), text(allowed),
            text("yes" if row["reached"] else "no"), text(row["words"]),
        ])  # fmt: skip
    columns = (
        Column("edit"), Column("criterion"), Column("value [95% interval]", True), Column("allowed"), Column("reached"),
        Column("what it is", wide=True),
    )  # fmt: skip
    note = "Where an edit that is no control misses a criterion, the command's last lines say what to try."
    return Table(
        f"{key}-aim",
        "Do the edits hit what they name, and nothing else?",
        columns,
        rows_of(rows),
        csv_of(found),
        note,
        24,
    ), []


def edits_table(results: "CommandResults", key: str, seed: int) -> tuple[Table, list[str]]:
    """What each edit changed in each group, beside the same with signs flipped."""
    from localize.analysis.change import edit_table

    found, notes = heard(lambda: edit_table(results.changes, seed=seed))
    repeated = bool((found["repetitions"] > 1).any())
    rows = []
    for (edit, quantity, group), row in zip(found.index, found.to_dict("records"), strict=True):
        control = " (control)" if edit in results.controls else ""
        rows.append(
            [
                text(f"{edit}{control}"), text(quantity_words(quantity)), text(group_words(group)), small(row["before"]),
                small(row["after"]), between(row["estimate"], row["low"], row["high"], None, rough=is_rough(row)),
                range_of(row["null_range_low"], row["null_range_high"]), chance(row["p_value"], rough=is_rough(row)),
                chance(row["q_value"], rough=is_rough(row)),
                size(int(row["n"]), float(row["effective_clusters"])), *([count(row["repetitions"])] if repeated else []),
            ]
        )  # fmt: skip
    columns = (
        Column("edit"), Column("quantity (unit)"), Column("group"), Column("before", True), Column("after", True),
        Column("change [95% interval]", True), Column(CENTRAL, True), Column("p", True), Column("q", True),
        Column(SIZE, True), *([Column("repeats", True)] if repeated else []),
    )  # fmt: skip
    note = (
        "The change of a perplexity is relative (0.1: 10% more). Null: the signs of whole clusters flipped, 95% of the mean changes that "
        f"this gives. q corrects p for all rows. {ROUGH}"
    )
    return Table(f"{key}-edits", "What the edits changed", columns, rows_of(rows), csv_of(found), note, 24), notes
