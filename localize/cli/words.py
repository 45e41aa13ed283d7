"""What commands say: lines and tables."""

import codecs
import io
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def print_summary(signature: "MemorizationSignature") -> None:
    """Groups and fingerprint, as two tables."""
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
    found = Table(
        "quantity",
        "group",
        "estimate [95%]",
        "null [95%]",
        "p",
        "n / clusters",
        title="What stands out, beside what nothing looks like",
    )
    last = ""
    for row in content["summary"]:
        quantity = "" if row["quantity"] == last else row["quantity"]
        last = row["quantity"]
        found.add_row(
            *(Text(cell) for cell in (quantity, row["group"], row["estimate"], row["null"], row["p"], row["size"]))
        )
    console = Console(highlight=False)
    console.print(groups)
    if content["summary"]:
        console.print(found)
    for note in content["notes"]:
        console.print(f"Note: {note}", markup=False)
