"""What a folder of results tells of where it comes from: the command, and the tokenizer that its texts are read with."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from localize import __version__
from localize.report.folder import COMMAND_FILE, TOKENIZER_FOLDER, write_json

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


def write_origin(out: Path, model: "HookedModel", seconds: float) -> None:
    """Write the command as it was typed, when it ended and how long it took; and the model's tokenizer, if it has one."""
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(out / TOKENIZER_FOLDER)
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    command = shlex.join(["localize", *sys.argv[1:]])
    write_json(
        out / COMMAND_FILE,
        {"command": command, "localize": __version__, "ended": ended, "seconds": round(seconds, 1)},
    )
