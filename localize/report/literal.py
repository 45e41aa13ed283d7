"""Text of others put into a page so that it stays text: control characters seen, scripts and markup harmless."""

import hashlib
import json
import re
import unicodedata
from typing import Any

from markupsafe import Markup

from localize.plots.token_text import HIDDEN

LONGEST_ID = 120
"""Characters of an id that a page shows, and that a link to it holds."""

SEPARATORS = {"Zs", "Zl", "Zp"}
WHITE = "\t\n\r\f\v"

IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""What could end a script element, and how JSON writes it instead."""


def readable(text: object) -> str:
    """The text on one line: white space as one space, what cannot be seen or would turn the direction as its code point.

    >>> readable("a\\n b\\u202e")
    'a b⟨U+202E⟩'
    """
    return " ".join("".join(_shown(letter) for letter in str(text)).split())


def _shown(letter: str) -> str:
    category = unicodedata.category(letter)
    if letter in WHITE or category in SEPARATORS:
        return " "
    return f"⟨U+{ord(letter):04X}⟩" if category in HIDDEN else letter


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and "…"."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def link_name(name: str) -> str:
    """What the address of a paragraph holds: its id, or of a long one its beginning and a hash that tells it from others."""
    shown = readable(name)
    if shown == name and len(name) <= LONGEST_ID:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{shown[: LONGEST_ID - 11]}~{digest}"


def script_json(content: Any) -> Markup:
    """JSON that may stand inside a script element: ASCII, so no line separators either, and none of it can end the element."""
    written = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Safe as it stands: letters that HTML could read are gone.
    return Markup(re.sub("[<>&]", lambda found: IN_SCRIPT[found[0]], written))
