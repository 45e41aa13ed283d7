"""What `localize bench` prints: gates, what localizers find, and which layer is named."""

from re import sub
from typing import TYPE_CHECKING

from localize.cli.words import say

if TYPE_CHECKING:
    import pandas as pd

    from localize.bench.results import BenchResults


def print_gates(results: "BenchResults") -> None:
    """The gates table, and which truths are not ranked on."""
    from localize.bench.tables import each_row

    frame = results.gates()
    _print("Gates", ["truth", "gate", "value", "must lie in", "passed"], [
        [row.truth, row.gate, f"{row.value:.3f}", f"{row.low:.3g} to {row.high:.3g}", "yes" if row.passed else "NO"]
        for row in each_row(frame)
    ])  # fmt: skip


def print_results(results: "BenchResults") -> None:
    """What localizers find, which layer is named, and DEL, where these were made."""
    from localize.bench.planted import CONTROLS
    from localize.bench.tables import SUMMED, VOTED, deletion_table, each_row, layer_table, power_table
    from localize.localizers import DEFAULT

    for truth in results.truths:
        if truth.failed:
            ranked = "" if truth.name in CONTROLS else "; nothing is ranked on it"
            say(f"{truth.words}: fails {', '.join(truth.failed)}{ranked}.")
    table = results.table()
    for _, frame in [] if table.empty else table.groupby(["truth", "units"], sort=False):
        if frame["truth"].iloc[0] in CONTROLS:
            _say_control(frame)
        else:
            _print_localizers(frame)
    for row in each_row(power_table(results)):
        if row.localizer == DEFAULT:
            say(
                f"A place of {row.live_units:.0f} units ({row.truth}, k = {row.units}): {DEFAULT} finds it in a share of "
                f"{_interval(row.found, row.low, row.high)} of {row.texts} texts."
            )
    layers = layer_table(results)
    if not layers.empty:
        told = [row for row in each_row(layers) if not row.by.endswith(SUMMED)]
        title = f"Which layer is named, by the vote of a localizer's best units or by gradient maps; chance {told[0].chance:.3f}"
        _print(title, ["by", "right [95%]", "layers named"], [
            [row.by.removesuffix(VOTED), _interval(row.right, row.low, row.high), row.layers_named] for row in told
        ])  # fmt: skip
    _print("DEL: rise of the NLL (nats per token)", ["units", "localizer", "own", "other recited", "held out", "still recited"], [
        [str(row.units), row.localizer, *(_interval(getattr(row, e), getattr(row, f"{e}_low"), getattr(row, f"{e}_high"))
                                          for e in ("own", "others", "held_out")), f"{row.still_recited:.2f}"]
        for row in each_row(deletion_table(results))
    ])  # fmt: skip


def _print_localizers(frame: "pd.DataFrame") -> None:
    """A kind of truth: the best localizer first."""
    from localize.bench.tables import each_row

    rows = each_row(frame)
    chance, within = rows[0].chance, rows[0].chance_within
    has_within = within == within
    heads = ["localizer", "all units", *(["planted units"] if has_within else []), "cost", "ms"]
    beside = f"{chance:.3f} among all units" + (f", {within:.3f} among the planted" if has_within else "")
    words = f"{rows[0].truth}, k = {rows[0].units}, {max(row.texts for row in rows)} texts"
    title = f"{words}: recall at |truth| [95%]; chance {beside}; cost in forward passes a text"
    _print(title, heads, [
        [row.localizer, _interval(row.recall, row.recall_low, row.recall_high),
         *([_interval(row.within, row.within_low, row.within_high)] if has_within else []),
         f"{row.cost:,.0f}", f"{1000 * row.seconds:,.0f}"]
        for row in rows
    ])  # fmt: skip


def _say_control(frame: "pd.DataFrame") -> None:
    """That no text has a place in a control, told by the highest of all localizers."""
    from localize.bench.tables import each_row
    from localize.bench.upper_bound import ORACLE

    tried = [row for row in each_row(frame) if row.localizer != ORACLE]
    if not tried:
        return
    best = max(tried, key=lambda row: row.within)
    say(
        f"{best.truth}, {best.texts} texts, in which none has a place of its own: the highest recall among the planted units is "
        f"{_interval(best.within, best.within_low, best.within_high)}, of {best.localizer}; chance {best.chance_within:.3f}."
    )


def _interval(middle: float, low: float, high: float) -> str:
    """With ends as short as they can be, so that two intervals and a long name fit into 80 columns: 0.990 [.975, 1]."""
    if middle != middle:
        return "."
    ends = (sub(r"^(-?)0(?=\.)", r"\1", f"{end:.3f}".removesuffix(".000")) for end in (low, high))
    return f"{middle:.3f} [{', '.join(ends)}]"


def _print(title: str, heads: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    say(title)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        of_numbers = head in ("value", "cost", "ms", "units", "still recited")
        table.add_column(head, justify="right" if of_numbers else "left", no_wrap=head != "by")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
