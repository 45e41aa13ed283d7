"""What a training tells in the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.cli.words import say
from localize.errors import SignatureError

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature


def print_training(signature: "MemorizationSignature", folder: Path) -> None:
    """Its tables, of several arms the one of all; what must be known of them stands below."""
    from rich.console import Console

    from localize.analysis.training_tables import training_tables
    from localize.report.evidence import heard

    dataset = signature.dataset
    sizes = ", ".join(f"{dataset.sizes[axis]} of {axis}" for axis in signature.over_training)
    say(f"{dataset.attrs['model']['name']}: {len(signature)} paragraphs over training ({sizes})")
    notes: list[str] = []
    for table in training_tables(signature):
        if table.arm:
            continue
        try:
            found, told = heard(table.make)
        except SignatureError as error:
            notes.append(str(error))
            continue
        notes += told
        if len(found):
            Console(highlight=False).print(_in_columns(table.title, found))
    for note in dict.fromkeys(notes):
        say(f"Note: {note}")
    if signature.arms:
        say(f"Each arm has a folder of its own: localize show {folder / next(iter(signature.arms))}")


def _in_columns(title: str, found: "pd.DataFrame") -> Any:
    """A table as it is printed; its null in the column of that name, which is the first arm where arms are told."""
    from rich.table import Table
    from rich.text import Text

    beside = "difference" in found
    names = [str(name) for name in found.index.names]
    apart = f"less the {'first' if 'training_arm' in names else 'null'} [95%]"
    shown = Table(*names, "estimate [95%]", apart if beside else "null", "p", "over", title=title)
    for index, row in zip(found.index, found.to_dict("records"), strict=True):
        value = _with_ends(row["estimate"], row["low"], row["high"])
        if beside:
            null = _with_ends(*(row[f"difference{end}"] for end in ("", "_low", "_high")))
        else:
            null = _with_ends(row["null"], np.nan, np.nan)
        p = "." if np.isnan(row["p_value"]) else f"{row['p_value']:.3f}"
        over = f"{int(row['seeds'])} seeds" if row["seeds"] > 1 else f"{row['effective_clusters']:.0f} clusters"
        shown.add_row(*(Text(str(cell)) for cell in (*index, value, null, p, over)))
    return shown


def _with_ends(value: float, low: float, high: float) -> str:
    """ "1.234 [1.200, 1.300]", "." for what is not there."""
    if np.isnan(value):
        return "."
    return f"{value:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
