"""A benchmark as one HTML file that needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from localize.bench import tables as numbers
from localize.bench.planted import CONTROLS
from localize.plots.catalogue import Drawn
from localize.plots.figures import bench as recall_figure
from localize.plots.figures import named_layers as layer_figure
from localize.report.page import BENCH_SCRIPTS, static_page
from localize.report.run import Figure
from localize.report.tables import Column, Table, TableCell, between, count, csv_of, number, rows_of, text
from localize.storage import replacing

if TYPE_CHECKING:
    from localize.bench.results import BenchResults

CONTROL_NOTE = (
    "Recall at |truth| with 95% intervals by bootstrap over texts, chance behind it in brackets; texts of several seeds count one by one. "
    "k: units planted for a text in each layer (layer: times the number of layers, all in its one layer; inj: units whose weights are "
    "written to). "
    "Truths that fail a gate are not here, and kinds of truth are never pooled. ~ marks rough intervals: too few texts, or too skewed."
)


def write_bench_report(results: "BenchResults", path: Path, *, command: str, seed: int = 0) -> Path:
    """Write the page of a benchmark: gates, localizers, layers and gradient maps, power, DEL, and the figure.

    Args:
        results: Of `localize.bench`.
        path: Of the file.
        command: Which command made it.
        seed: Of bootstraps.
    """
    drawn = [Figure.of(one) for one in bench_figures(results, seed=seed).values()]
    about = results.about
    lead = (
        f"{counted(len(results.localizers), 'localizer')} on {counted(len(results.truths), 'truth')} planted in {about['model']['name']}: "
        "which units keep a text is known, because it was put there."
    )
    failed = [
        f"{truth.words}: fails {', '.join(truth.failed)}"
        + ("." if truth.name in CONTROLS else ", so that nothing is ranked on it.")
        for truth in results.truths
        if truth.failed
    ]
    content = {
        "name": "Localizers on planted truths", "lead": lead, "notes": failed,
        "facts_of": [("Made", _facts(about, ("localize", "torch", "made", "device", "threads", "cores", "seconds"))),
                  ("Model", _facts(about["model"], ("name", "family", "layers", "heads", "d_model", "d_mlp", "weights_hash"))),
                  ("Paragraphs", _facts(about["paragraphs"], ("source", "count", "prefix_length", "continuation_length", "data_hash"))),
                  ("Settings", [(key, setting_words(value)) for key, value in about["settings"].items()])],
        "tables": bench_tables(results, seed=seed),
    }  # fmt: skip
    page = static_page("bench.html", BENCH_SCRIPTS, "Localizers on planted truths", command, drawn, content)
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8", newline="\n")
    return path


def bench_figures(results: "BenchResults", *, seed: int = 0) -> dict[str, Drawn]:
    """All figures that there is something for, by the name of their files: without a truth that passed its gates there is none."""
    found = {}
    if not results.table().empty:
        figure = recall_figure.bench(results, seed=seed)
        found["bench"] = Drawn("bench", recall_figure.TITLE_WORDS, recall_figure.CAPTION, figure)
    if (name := layer_figure.drawn_localizer(results)) is not None:
        figure = layer_figure.named_layers(results, name, seed=seed)
        found["layers"] = Drawn("layers", layer_figure.TITLE_WORDS, layer_figure.CAPTION, figure)
    return found


def bench_tables(results: "BenchResults", *, seed: int = 0) -> list[Table]:
    """All tables of the page that have rows."""
    made = [
        _gates(results.gates()),
        _localizers(results.table(seed=seed)),
        _layers(numbers.layer_table(results)),
        _maps(numbers.map_table(results, seed=seed)),
        _power(numbers.power_table(results)),
        _deletion(numbers.deletion_table(results, seed=seed)),
        _words(results.localizers),
    ]
    return [table for table in made if table.rows]


def counted(number: int, word: str) -> str:
    """ "1 truth", "5 truths"."""
    return f"{number} {word}{'s' * (number != 1)}"


def setting_words(value: Any) -> str:
    """A setting as it is said: a list by commas; what was left out is the usual."""
    if value is None:
        return "usual"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _facts(of: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(of[name])) for name in names if name in of]


def _gates(frame: pd.DataFrame) -> Table:
    rows = [
        [text(r.truth), text(r.gate), number(r.value), text(f"{r.low:.3g} to {r.high:.3g}"), text("yes" if r.passed else "NO"),
         text(r.words)]
        for r in numbers.each_row(frame)
    ]  # fmt: skip
    columns = (
        Column("truth"),
        Column("gate"),
        Column("value", True),
        Column("must lie in"),
        Column("passed"),
        Column("what it is", wide=True),
    )
    return Table(
        "gates", "Gates", columns, rows_of(rows), csv_of(frame, index=False), "A truth that fails one is not ranked on."
    )


def _localizers(frame: pd.DataFrame) -> Table:
    def share(row: Any, what: str, chance: str = "") -> TableCell:
        ends = (getattr(row, f"{what}{end}") for end in ("", "_low", "_high"))
        cell = between(*ends, rough=getattr(row, f"{what}_rough"))
        beside = getattr(row, chance) if chance else float("nan")
        return cell if beside != beside else TableCell(f"{cell.text} ({beside:.3f})", cell.value)

    rows = [
        [text(r.truth), count(r.units), text(r.localizer), share(r, "recall", "chance"), share(r, "within", "chance_within"),
         share(r, "nominal", "chance_nominal"), share(r, "auroc"), share(r, "taken"), number(r.cost, 0), number(1000 * r.seconds, 1),
         count(r.texts), text(r.seeds)]
        for r in numbers.each_row(frame)
    ]  # fmt: skip
    heads = ("recall, global (chance)", "within reserved units (chance)", "nominal units (chance)", "AUROC", "NLL taken, of the truth's",
             "cost (forward passes a text)", "time (ms a text)", "texts")  # fmt: skip
    columns = (
        Column("truth"),
        Column("k", True),
        Column("localizer"),
        *(Column(head, True) for head in heads),
        Column("seeds"),
    )
    return Table("localizers", "Localizers", columns, rows_of(rows), csv_of(frame, index=False), CONTROL_NOTE)


def _layers(frame: pd.DataFrame) -> Table:
    rows = [
        [text(r.by), between(r.right, r.low, r.high), number(r.chance, 2), count(r.texts), text(r.layers_named)]
        for r in numbers.each_row(frame)
    ]
    columns = (
        Column("by"),
        Column("share of texts whose layer is named [95%]", True),
        Column("chance", True),
        Column("texts", True),
        Column("layers named (texts)"),
    )
    note = (
        "Each text is kept in one layer, which is known. A map of weight gradients tells sensitivity, not where a text is kept. Intervals "
        "are Clopper and Pearson's."
    )
    return Table("layers", "Which layer is named", columns, rows_of(rows), csv_of(frame, index=False), note)


def _maps(frame: pd.DataFrame) -> Table:
    rows = [
        [
            count(r.stored_in),
            count(r.layer),
            between(r.ratio, r.low, r.high, rough=r.rough),
            number(r.share),
            number(r.held_out_share),
            count(r.texts),
        ]
        for r in numbers.each_row(frame)
    ]
    heads = (
        "texts kept in layer",
        "gradient of layer",
        "share over held-out text's",
        "share",
        "share, held-out text",
        "texts",
    )
    note = (
        "Each layer's share of the squared gradient of the MLPs (W_in and W_out), over that of held-out text in the same model, with 95% "
        "intervals by bootstrap over texts. ~ marks rough intervals: too few texts, or too skewed."
    )
    columns = tuple(Column(head, True) for head in heads)
    return Table(
        "maps", "Gradient maps of texts kept in one layer", columns, rows_of(rows), csv_of(frame, index=False), note
    )


def _power(frame: pd.DataFrame) -> Table:
    rows = [
        [text(r.truth), count(r.units), number(r.live_units, 1), text(r.localizer), between(r.found, r.low, r.high),
         number(r.taken), count(r.texts)]
        for r in numbers.each_row(frame)
    ]  # fmt: skip
    columns = (Column("truth"), Column("k", True), Column("live units a text", True), Column("localizer"), Column("places found", True),
               Column("mean NLL taken", True), Column("texts", True))  # fmt: skip
    note = (
        f"Found: zeroing as many of the best units as the text has live ones raises its NLL by at least {numbers.FOUND:g} of what zeroing "
        "these does. Intervals are Clopper and Pearson's."
    )
    return Table(
        "power", "How often a place of this size is found", columns, rows_of(rows), csv_of(frame, index=False), note
    )


def _deletion(frame: pd.DataFrame) -> Table:
    ends = ("own", "others", "held_out", "over_random")
    rows = [
        [text(r["localizer"]), number(100 * r["share"], 1), count(r["units"]),
         *(between(r[e], r[f"{e}_low"], r[f"{e}_high"]) for e in ends),
         number(r["still_recited"], 2), count(r["texts"])]
        for r in frame.to_dict("records")
    ]  # fmt: skip
    heads = (
        "% of units zeroed",
        "units",
        "own NLL",
        "other recited text",
        "held-out text",
        "own, over random units",
        "still recited",
        "texts",
    )
    columns = (Column("localizer"), *(Column(head, True) for head in heads))
    note = "Rise of the NLL in nats per token when each localizer's best units for a text that the model recites by itself are zeroed."
    return Table("deletion", "DEL: natural memory", columns, rows_of(rows), csv_of(frame, index=False), note)


def _words(localizers: Mapping[str, Mapping[str, str]]) -> Table:
    rows = [[text(name), text(of["words"]), text(of["source"])] for name, of in localizers.items()]
    return Table(
        "words",
        "What the localizers are",
        (Column("name"), Column("scores", wide=True), Column("source", wide=True)),
        rows_of(rows),
    )
