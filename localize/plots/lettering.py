"""How wide text is, and where its lines end."""

import html
import re
import unicodedata

from localize.plots.theme import Px

WIDTHS = {
    "'": 19, "ijl": 22, "|": 26, " !,./:;I[\\]ft·": 28, "()-`r{}": 33, '"': 36, "*": 39, "^": 47, "Jcksvxyz": 50,
    "#$0123456789?L_abdeghnopqu–": 56, "+<=>~−": 58, "FTZ": 61, "&ABEKPSVXY": 67, "CDHNRUw": 72, "GOQ": 78, "Mm": 83,
    "%": 89, "W": 94, "@…": 100,
}  # fmt: skip
"""Letters by their width in per cent of the size of the type: Arial's, rounded, and those of Liberation Sans, its twin."""

OF_LETTER = {letter: width for letters, width in WIDTHS.items() for letter in letters}
OTHER, WIDE = 60, 100
"""Widths of what is not listed, and of ideographs and the like."""

BOLD = 1.08
"""How much wider bold letters are."""

SUB, SUBSCRIPT = 0.7, re.compile(r"<sub>(.*?)</sub>")
"""The size of subscripts."""

TAG, BREAK, PIECE = re.compile(r"<[^>]*>"), "<br>", re.compile(r"<[^>]*>|&[^;\s]{1,8};|.", re.DOTALL)


def width_of(text: str, size: Px) -> float:
    """Width in px of the longest line of what plotly shows: tags take no room, an entity that of its letter."""
    return max(_line_width(line, size) for line in text.split(BREAK))


def _line_width(line: str, size: Px) -> float:
    bold, small = BOLD if "<b>" in line else 1.0, (1 - SUB) * sum(map(_words_width, SUBSCRIPT.findall(line)))
    return bold * size / 100 * (_words_width(line) - small)


def _words_width(words: str) -> int:
    return sum(map(_letter_width, html.unescape(TAG.sub("", words))))


def _letter_width(letter: str) -> int:
    return OF_LETTER.get(letter) or (WIDE if unicodedata.east_asian_width(letter) in "WF" else OTHER)


def wrapped(text: str, width: Px, size: Px) -> str:
    """The text with a `<br>` wherever a line would be wider than `width` px; words longer than a line are cut.

    A line that is there already ends where it ended. Tags must not reach from one line to the next.
    """
    return BREAK.join(line for whole in text.split(BREAK) for line in _lines(whole, width, size))


def _lines(text: str, width: Px, size: Px) -> list[str]:
    lines = [""]
    for word in re.split(r" (?![^<]*>)", text):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if _line_width(longer, size) <= width:
            lines[-1] = longer
            continue
        parts = _cut(word, width, size)
        lines += parts if lines[-1] else []
        if not lines[0]:
            lines = parts
    return lines


def _cut(word: str, width: Px, size: Px) -> list[str]:
    """A word in pieces no wider than a line; tags and entities stay whole."""
    parts = [""]
    for piece in PIECE.findall(word):
        if parts[-1] and _line_width(parts[-1] + piece, size) > width:
            parts.append("")
        parts[-1] += piece
    return parts


def line_count(text: str) -> int:
    """Lines that plotly shows."""
    return text.count(BREAK) + 1
