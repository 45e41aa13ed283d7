"""Tokens as readable text: spaces and line breaks to be seen, split characters as their bytes, nothing that hides or turns text."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

from localize.errors import LocalizeError, caller

SPACE, LINE, TAB = "␣", "⏎", "⇥"
SEEN = {" ": SPACE, "\n": LINE, "\t": TAB, "\r": "␍"}
"""Marks that stand for white space."""

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
"""Unicode categories shown as their code point: control characters, those that turn the direction, invisible ones."""

REPLACED = "�"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_texts(ids: Iterable[int], tokenizer: Any) -> list[str]:
    """What each token id stands for, made visible; without a tokenizer the ids themselves.

    Args:
        ids: Token ids; a negative one is not known and stands as "·".
        tokenizer: Of transformers or tokenizers, or a model that has one as `.tokenizer`, or None.

    Raises:
        LocalizeError: If `tokenizer` cannot decode.
    """
    reader = getattr(tokenizer, "tokenizer", tokenizer)
    if tokenizer is not None and not callable(getattr(reader, "decode", None)):
        kind = type(tokenizer).__name__
        raise LocalizeError(
            f"{caller()}: tokenizer is of type {kind}, which cannot decode; give model.tokenizer, or None to see token ids."
        )
    return ["·" if token < 0 else str(token) if reader is None else visible(_decoded(reader, token)) for token in ids]


def visible(text: str) -> str:
    """The text with marks for white space and code points for what cannot be seen.

    >>> visible(" the\\n")
    '␣the⏎'
    """
    shown = "".join(SEEN.get(c) or (f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in HIDDEN else c) for c in text)
    # A mark that sits on the letter before it needs one of its own.
    return "◌" + shown if shown and unicodedata.category(shown[0]).startswith("M") else shown


def _decoded(tokenizer: Any, token: int) -> str:
    """One token as text; bytes that are no character as ⟨E2 82⟩, what has no text as its piece or number."""
    text = str(tokenizer.decode([token]))
    if text and REPLACED not in text:
        return text
    piece = _piece(tokenizer, token)
    if piece is None:
        return text or f"⟨{token}⟩"
    found = BYTE_PIECE.fullmatch(piece)
    if found:
        return f"⟨{found[1].upper()}⟩"
    if all(c in _byte_of() for c in piece) and piece:
        return _with_bytes(bytes(_byte_of()[c] for c in piece))
    return text or piece


def _piece(tokenizer: Any, token: int) -> str | None:
    """The token as the tokenizer stores it."""
    if callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
        return tokenizer.convert_ids_to_tokens([token])[0]
    return tokenizer.id_to_token(token) if callable(getattr(tokenizer, "id_to_token", None)) else None


def _with_bytes(raw: bytes) -> str:
    """UTF-8 as far as it goes; bytes that belong to no whole character in hexadecimal."""
    shown = raw.decode("utf-8", errors="surrogateescape")
    parts = re.split("([\udc80-\udcff]+)", shown)
    return "".join(
        "⟨" + " ".join(f"{ord(c) - 0xDC00:02X}" for c in part) + "⟩" if number % 2 else part
        for number, part in enumerate(parts)
    )


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level BPE stands for, as in GPT-2: printable ones for themselves, the others from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
