"""What a training tells: what copies taught, when texts were first recited, and what was forgotten."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.rows import is_rough, null_ends
from localize.analysis.training_tables import TrainingTable, training_tables
from localize.errors import SignatureError
from localize.report.evidence import ROUGH, SIZE, heard, size
from localize.report.tables import Column, Table, TableCell, between, chance, count, csv_of, rows_of, text

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

INDEX = {
    "copies": "copies", "window": "shown in", "quantity": "quantity", "text": "text", "training_arm": "arm", "kind": "kind", "sign": "sign",
    "among": "among texts", "set": "texts", "layer": "layer", "step": "step", "component": "weights", "exposure": "steps",
    "metric": "metric", "arm": "arm", "rows": "rows", "dtype": "weights", "parameters": "parameters", "gate": "sinks that are on",
}  # fmt: skip
PAIRS = (
    "Pair effects are of minimal pairs: the NLL in the twin run, where fresh rows stood in the place of the planted ones, less that in the "
    "planted run, nats per token; exact match in tokens. "
)
NOTES = {
    "arms": PAIRS
    + "The first arm's number stands beside each, and the difference to it, of the same paragraphs and seeds. ",
    "loss-change": "What these weights changed in the mean NLL of the texts, nats per token, negative where it fell, in steps that showed "
    "them, in others and in both; layer -1 is what lies outside the blocks. The null is held-out text at the same steps. ",
    "membership": "AUC: the share of pairs of a planted and a held-out text in which the planted one has the larger value; behind the "
    "whole prefix, and of the longest n-grams. The null is that of the same texts in the twin run, which was shown none of them; without "
    "a twin run it is chance, .5. ",
    "early-signs": "Spearman's rank correlations with what was learned in the end; of the fit also the share of the tenth of texts that it "
    "ranks first, read early, that is of the tenth learned most (chance: about .1). The null is what was learned, dealt out anew among "
    "the texts; q corrects for all signs. ",
    "sinks": "The gap is the NLL of held-out less that of planted texts, nats per token; gap closed is 1 less it over that of the standard "
    "arm, the first without sinks whose texts were repeated. Sinks that are on: all, each times its chance; none (dropped); the text's "
    "own; another text's. The null of NLL and gap is the standard arm's; of gap closed that of the arm whose masks were drawn anew at each "
    "showing. ",
    "units": "Of each text's best MLP units, in the planted run less in the twin run, which was never shown it; the null is that of "
    "held-out texts, which neither was shown. ",
    "capacity": "What the model holds of a set of uniform random rows, a lower bound: the bits of their law less the model's NLL, in bits, "
    "of all tokens but the first. The null is as many rows of the same law that were never shown. ",
    "facts": "A fact is known if every token of its value is the model's first choice; accuracy weighs each by how frequent it is. Beside "
    "each stands the arm that keeps as many at random; of that arm, and where there is none, facts that were never shown. ",
    "counterfactual": "NLL in models that were not trained on a text, and in those that were, nats per token; the null is of held-out "
    "texts of the same kind, dealt to the models in turn. ",
}
"""What must be known of a table; of the others what must be known of pairs."""


def last_model(training: "MemorizationSignature | None") -> "MemorizationSignature | None":
    """The first run and seed as they were in the end: what stands for a training where one model is asked for."""
    if training is None:
        return None
    labels = {axis: training[axis].values for axis in training.over_training}
    return training.at(**{axis: values[-1 if axis == "training_step" else 0].item() for axis, values in labels.items()})


def tables_of_training(training: "MemorizationSignature", key: str, seed: int) -> list[tuple[Table | None, list[str]]]:
    """The tables, and what must be known of them; what the signature does not hold is told."""
    return [
        _table(table, f"{key}-{table.name}" + f"-{number}" * bool(table.arm), seed)
        for number, table in enumerate(training_tables(training))
    ]


def _table(table: TrainingTable, key: str, seed: int) -> tuple[Table | None, list[str]]:
    try:
        found, notes = heard(lambda: table.make(seed=seed))
    except SignatureError as error:
        return None, [str(error)]
    caption = table.title + (f": {table.arm}" if table.arm else "")
    beside, of_arms = "difference" in found, table.name == "arms"
    note = NOTES.get(table.name, PAIRS + "The null is of held-out paragraphs. ") + ROUGH
    rows, names = [], [str(name) for name in found.index.names]
    for index, row in zip(found.index, found.to_dict("records"), strict=True):
        rough, null = is_rough(row), row["null"]
        rows.append(
            [
                *(count(int(at)) if name == "copies" else text(str(at)) for name, at in zip(names, index, strict=True)),
                between(row["estimate"], row["low"], row["high"], rough=rough),
                text("") if np.isnan(null) else between(null, *null_ends(row)),
                *([_apart(row)] if beside else ()),
                chance(row["p_value"], rough=rough), chance(row["q_value"], rough=rough),
                count(int(row["seeds"])), size(int(row["n"]), float(row["effective_clusters"])),
            ]
        )  # fmt: skip
    apart = [Column(f"less the {'first' if of_arms else 'null'} [95%]", True)] if beside else []
    columns = (
        *(Column(INDEX[name], name == "copies", wide=name in ("quantity", "metric")) for name in names),
        Column("estimate [95% interval]", True), Column("first arm [95%]" if of_arms else "null [95%]", True), *apart,
        Column("p", True), Column("q", True), Column("seeds", True), Column(SIZE, True),
    )  # fmt: skip
    return Table(key, caption, columns, rows_of(rows), csv_of(found), note, 24), notes


def _apart(row: dict[str, Any]) -> TableCell:
    """How far a number is from what stands beside it."""
    if np.isnan(row["difference"]):
        return text("")
    return between(row["difference"], row["difference_low"], row["difference_high"], rough=is_rough(row))
