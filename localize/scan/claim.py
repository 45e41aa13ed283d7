"""What a folder of a scan holds: written first, compared whenever it is entered again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.errors import InputError, LocalizeError
from localize.models.tokenizer import tokenizer_hash
from localize.scan.found import PLAN_FILE
from localize.storage import replacing

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.scan.corpus import Corpus
    from localize.scan.options import Options

FORMAT = 2
"""Of the parts, and of how a window's numbers come about: raised where either changes, so that no part of another code is used."""

SHOWN = 60
"""Signs of a value in an error."""


def claim(folder: Path, model: "HookedModel", corpus: "Corpus", text_field: str | None, options: "Options") -> None:
    """Write what is scanned into a new folder; in one with results, see that it is the same.

    All that a finding depends on stands in it: weights, dtype, tokenizer, text field, options, `FORMAT`, and the corpus's content (of a
    stream, which is read only once, what it knows of itself: its content is held to what each part has recorded, see `Rows`). The
    device, the batch size and the number of threads do not: they change rounding alone.

    Raises:
        LocalizeError: If the folder holds another scan, or something else.
    """
    asked = {
        "format": FORMAT,
        "weights_hash": model.weights_hash(),
        "dtype": str(model.dtype),
        "tokenizer": tokenizer_hash(model.tokenizer),
        **asdict(options),
        "text_field": text_field,
        "corpus": corpus.fingerprint(),
    }
    mine = json.loads(json.dumps(asked))
    path = folder / PLAN_FILE
    if path.is_file():
        there = _asked_there(path)
        if there != mine:
            key, before, now = _difference(there, mine)
            raise LocalizeError(
                f"scan {folder}: holds a scan with {key} = {_short(before)}, and {_short(now)} is asked for; choose another --out, or "
                "remove it."
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise LocalizeError(f"scan {folder}: something else is there; a new or a scan's folder is needed.")
    with replacing(path) as beside:
        beside.write_text(json.dumps({"asked": mine}, indent=1) + "\n", encoding="utf-8")


def _asked_there(path: Path) -> dict[str, Any]:
    """What the folder was asked for."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["asked"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not what a scan writes ({error!r}); remove the folder, or choose another --out."
        ) from None


def _difference(there: dict[str, Any], mine: dict[str, Any], within: str = "") -> tuple[str, Any, Any]:
    """The first entry that differs, by its names from outside in: "corpus.files.a.txt", with both values."""
    key = next(key for key in [*mine, *there] if there.get(key) != mine.get(key) or (key in there) != (key in mine))
    before, now = there.get(key), mine.get(key)
    if isinstance(before, dict) and isinstance(now, dict):
        return _difference(before, now, f"{within}{key}.")
    return f"{within}{key}", before, now


def _short(value: Any) -> str:
    told = json.dumps(value)
    return told if len(told) <= SHOWN else told[: SHOWN - 3] + "..."
