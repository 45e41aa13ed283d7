"""What a training tells in the terminal."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from localize.cli.words import say
from localize.errors import SignatureError

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


def print_training(signature: "MemorizationSignature") -> None:
    """What copies taught, and what is left of what was shown early; what must be known of the tables stands below them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize import dose_table, forgetting_table
    from localize.report.evidence import heard

    dataset = signature.dataset
    sizes = ", ".join(f"{dataset.sizes[axis]} of {axis}" for axis in signature.over_training)
    say(f"{dataset.attrs['model']['name']}: {len(signature)} paragraphs over training ({sizes})")
    notes: list[str] = []
    for title, make in (("What copies taught", dose_table), ("What is left of what was shown early", forgetting_table)):
        try:
            found, told = heard(partial(make, signature))
        except SignatureError as error:
            notes.append(str(error))
            continue
        notes += told
        names = [str(name) for name in found.index.names]
        shown = Table(*names, "estimate [95%]", "null", "p", "over", title=title)
        for index, row in zip(found.index, found.to_dict("records"), strict=True):
            known = not np.isnan(row["low"])
            value = f"{row['estimate']:.3f}" + f" [{row['low']:.3f}, {row['high']:.3f}]" * known
            null, p = (f"{row[name]:.3f}" if not np.isnan(row[name]) else "." for name in ("null", "p_value"))
            over = (
                f"{int(row['seeds'])} seeds" if row["unit"] == "seeds" else f"{row['effective_clusters']:.0f} clusters"
            )
            shown.add_row(*(Text(str(cell)) for cell in (*index, value, null, p, over)))
        Console(highlight=False).print(shown)
    for note in dict.fromkeys(notes):
        say(f"Note: {note}")
