"""What commands say: lines and tables."""

import codecs
import io
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from localize.signature.signature import MemorizationSignature


PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": ".",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "…": "...",
    "→": "->",
    "‘": "'",
    "’": "'",
}
"""What stands for a sign that a terminal, or the file that takes its place, cannot hold."""


def spell_for_terminal() -> None:
    """From now on a sign that the output's encoding lacks is spelled in plain ones, instead of ending the command."""
    codecs.register_error("localize.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a test or a notebook has put there takes all signs
            stream.reconfigure(errors="localize.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Signs without a place in an encoding, in ASCII: by their names above, without their accents, or "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = []
    for sign in error.object[error.start : error.end]:
        bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
        spelled.append(PLAIN.get(sign) or bare or "?")
    return "".join(spelled), error.end


def quiet_libraries() -> None:
    """What libraries say while loading is no news to the user of a command; errors still are."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def say(text: str) -> None:
    """One line to the user, as it is: no markup is read in it."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def next_command(*arguments: str | Path) -> str:
    """A command of this suite, as a shell takes it."""
    return shlex.join(["localize", *map(str, arguments)])


WIDTHS = (14, 25, 24, 8, 9)
"""Of the columns of the fingerprint: a terminal of 80 has room for each number in one line."""


def _columns(cells: Sequence[str]) -> "Table":
    """One line of the fingerprint, its quantity in a line of its own above."""
    from rich.table import Table
    from rich.text import Text

    line = Table.grid()
    for width in WIDTHS:
        line.add_column(width=width)
    line.add_row(*(Text(cell.replace("< ", "<")) for cell in cells))
    return line


def print_summary(signature: "MemorizationSignature") -> None:
    """Groups as a table, and the fingerprint, a quantity after the other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from localize.analysis.html import signature_content

    content = signature_content(signature)
    length = content["paragraphs"]["continuation_length"]
    groups = Table(
        "group", "paragraphs", "effective clusters", f"exact match (of {length})", "NLL (nats/token)", title="Recall"
    )
    for g in content["groups"]:
        groups.add_row(*(Text(str(g[key])) for key in ("name", "paragraphs", "clusters", "exact_match", "nll")))
    console = Console(highlight=False)
    console.print(groups)
    if content["summary"]:
        console.print("\nWhat stands out, beside what nothing looks like", style="italic")
        console.print(_columns(("group", "estimate [95%]", "null [95%]", "p", "n / clusters")))
    for quantity, rows in groupby(content["summary"], key=itemgetter("quantity")):
        console.print()
        console.print(Text(quantity, "bold"))
        for row in rows:
            console.print(_columns([row[key] for key in ("group", "estimate", "null", "p", "size")]))
    for note in content["notes"]:
        console.print(f"Note: {note}", markup=False)
