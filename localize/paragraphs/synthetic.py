"""English-like paragraphs of our own invention, for training and planting.

Each paragraph belongs to a genre (its sentence templates) and a topic (its words), and is
strewn with invented names, codes, dates and amounts: the language can be learned in general,
a paragraph only in particular. A paragraph follows from (seed, index, genre, topic) alone.

The templates stand in `genres/<genre>.txt`, one sentence a line, openings after `> `:

    {noun} {noun+s}         a word of that category, and its plural
    {verb} {verb+s} {verb+ed} {verb+en} {verb+ing}   a verb, "he mends", past, participle, -ing
    {thing} {stuff} {act} {person} {site}            categories whose words the topic supplies
    {name} {place} {code} {date} {amount} ...        invented anew at each use (`invention.py`)
    {P} {L} {M} {K} {I}     invented once, the same through the whole paragraph (`_CAST`)
    [clause]                there or not, evenly
    [this|that|]            one of these, evenly; they nest

The words stand in `lexicon/`, each category from common to rare, and are drawn with
Zipf-Mandelbrot weights 1 / (rank + 1). Every topic moves the ranks a little, to favour words
of its own. "a" becomes "an" where the next word asks for it.
"""

import random
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from itertools import accumulate
from typing import Any, TypeAlias, TypeVar

from localize.errors import LocalizeError, caller, public
from localize.paragraphs.inflection import inflected, lemma
from localize.paragraphs.invention import INVENTIONS

GENRES: tuple[str, ...] = (
    "licence",
    "news",
    "recipe",
    "changelog",
    "letter",
    "encyclopaedia",
    "minutes",
    "fieldnotes",
    "manual",
)
MIN_WORDS = 65

_VERBS = frozenset(("act", "say", "go", "handle", "decide", "grant", "adjust", "fix", "occur", "tell", "store"))
_CAST = {"P": "name", "Q": "name", "L": "place", "M": "place", "K": "code", "I": "ident"}
_JOINT = {"changelog": "\n- "}
_SPARE_SPACE = re.compile(r" +(?=[ ,.;:?!])")
_NEEDS_AN = re.compile(r"(?<![\w./-])([Aa]) (?=(?!ewe|eu|one\b|use|usu|uni[oqtv])[aeiouAEIO]|hour|honest|heir)")
_TEMPLATE_PART = re.compile(r"(\{[^{}]+\}|[\[\]|])")


@dataclass(frozen=True)
class SyntheticParagraph:
    """One invented paragraph and the kind of text it is.

    Attributes:
        text: The paragraph, `MIN_WORDS` words or a sentence more; only a changelog holds newlines.
        genre: One of `GENRES`; it decides the sentence templates.
        topic: One of `topics(genre)`; it decides which words fill them.
    """

    text: str
    genre: str
    topic: str


@public
def synthetic_paragraph(
    seed: int, index: int, *, genre: str | None = None, topic: str | None = None
) -> SyntheticParagraph:
    """The paragraph at `index` in the endless series that `seed` names.

    The same arguments give the same text on every platform, in any order, in any shard.
    A held-out match of a planted paragraph is the call with its genre and topic and an
    index that was never planted: same style, other fills.

    Args:
        seed: Names the series; any integer.
        index: Place in the series, 0 or more.
        genre: One of `GENRES`; drawn evenly if None (among those that know `topic`).
        topic: One of `topics(genre)`; drawn evenly if None.

    Returns:
        The paragraph. Asking for the genre and topic that would be drawn changes nothing.

    Raises:
        LocalizeError: If `index` is negative, or `genre` or `topic` unknown.
    """
    if index < 0:
        raise LocalizeError(f"{caller()}: index={index} must be 0 or more, a place in the series.")
    kind = _stable_random("kind", seed, index)
    if genre is None:
        genre = _pick(_genres_with(topic), kind.random())
    known = topics(genre)
    if topic is None:
        topic = _pick(known, kind.random())
    elif topic not in known:
        raise LocalizeError(f"{caller()}: topic={topic!r} of genre {genre!r} must be one of {_listed(known)}.")
    draw = _stable_random("text", seed, index, genre, topic).random
    return SyntheticParagraph(_write(_style(genre, topic), draw), genre, topic)


@public
def synthetic_paragraphs(count: int, *, seed: int, start: int = 0) -> Iterator[SyntheticParagraph]:
    """Paragraphs `start .. start + count - 1` of the series `seed`, genres and topics mixed.

    Args:
        count: Number of paragraphs, 0 or more.
        seed: Names the series.
        start: Index of the first one, 0 or more; shards begin at different starts.

    Raises:
        LocalizeError: If `count` or `start` is negative.
    """
    if count < 0 or start < 0:
        raise LocalizeError(f"{caller()}: count={count} and start={start} must both be 0 or more.")
    return (synthetic_paragraph(seed, index) for index in range(start, start + count))


@public
def topics(genre: str) -> tuple[str, ...]:
    """The topics that `genre` is written about.

    Raises:
        LocalizeError: If `genre` is not one of `GENRES`.
    """
    if genre not in GENRES:
        raise LocalizeError(f"{caller()}: genre={genre!r} must be one of {_listed(GENRES)}.")
    return _genre_file(genre)[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


_T = TypeVar("_T")


def _pick(options: Sequence[_T], uniform: float) -> _T:
    """The option that a uniform number in [0, 1) falls on."""
    return options[int(uniform * len(options))]


def _stable_random(*key: object) -> random.Random:
    """A generator that depends on `key` alone; only its `.random()` is used, which no version changes."""
    digest = blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _genres_with(topic: str | None) -> tuple[str, ...]:
    found = tuple(genre for genre in GENRES if topic is None or topic in topics(genre))
    if not found:
        known = sorted({name for genre in GENRES for name in topics(genre)})
        raise LocalizeError(f"{caller()}: topic={topic!r} must be one of {_listed(known)}.")
    return found


# --- Writing one paragraph ---------------------------------------------------------------


@dataclass
class _Page:
    """What a paragraph remembers while it is written."""

    draw: Callable[[], float]
    era: int
    cast: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # lexicon words of the present sentence


_Slot: TypeAlias = Callable[[_Page], str]
_Template: TypeAlias = tuple[Any, ...]  # of text, slots, and tuples of alternative templates


@dataclass(frozen=True)
class _Style:
    """A genre's templates, bound to the words of one topic."""

    openings: tuple[_Template, ...]
    sentences: tuple[_Template, ...]
    joint: str


def _write(style: _Style, draw: Callable[[], float]) -> str:
    """An opening, then sentences (none twice) until there are `MIN_WORDS` words."""
    page = _Page(draw, era=1800 + int(draw() * 190))
    text = _sentence(_pick(style.openings, draw()), page)
    words = text.count(" ") + 1
    left = list(style.sentences)
    while words < MIN_WORDS:
        sentence = _sentence(left.pop(int(draw() * len(left))), page)
        words += sentence.count(" ") + 1
        text += style.joint + sentence
    return text


def _sentence(template: _Template, page: _Page) -> str:
    page.used.clear()
    parts: list[str] = []
    _fill(template, page, parts)
    text = _NEEDS_AN.sub(r"\1n ", _SPARE_SPACE.sub("", "".join(parts)))
    return text[0].upper() + text[1:]


def _fill(template: _Template, page: _Page, parts: list[str]) -> None:
    for part in template:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, tuple):
            _fill(part[int(page.draw() * len(part))], page, parts)
        else:
            parts.append(part(page))


# --- Reading templates and words ---------------------------------------------------------


def _lines(folder: str, name: str) -> list[str]:
    text = files("localize.paragraphs").joinpath(f"{folder}/{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@cache
def _genre_file(genre: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Topics, openings and sentences, as written."""
    head, *lines = _lines("genres", genre)
    openings = tuple(line[2:] for line in lines if line.startswith("> "))
    sentences = tuple(line for line in lines if not line.startswith("> "))
    return tuple(head.removeprefix("topics:").split()), openings, sentences


@cache
def _lexicon() -> dict[str, tuple[str, ...]]:
    """Entries by category; a topic's own are called "topic.category"."""
    entries: dict[str, tuple[str, ...]] = {}
    topic = ""
    for line in _lines("lexicon", "general") + _lines("lexicon", "topics"):
        if line.startswith("["):
            topic = line.strip("[]") + "."
        else:
            category, words = line.split(": ", 1)
            entries[topic + category] = tuple(dict.fromkeys(words.split()))
    return entries


@cache
def _style(genre: str, topic: str) -> _Style:
    _, openings, sentences = _genre_file(genre)
    return _Style(
        tuple(_parse(line, genre, topic) for line in openings),
        tuple(_parse(line, genre, topic) for line in sentences),
        _JOINT.get(genre, " "),
    )


def _parse(line: str, genre: str, topic: str) -> _Template:
    """A template's parts: plain text, slots, and a tuple of templates for each choice."""
    choices: list[list[list[Any]]] = [[[]]]  # the open brackets, each with its alternatives so far
    for token in _TEMPLATE_PART.split(line):
        if token == "[":
            choices.append([[]])
        elif token == "|":
            choices[-1].append([])
        elif token == "]":
            options = tuple(tuple(option) for option in choices.pop())
            choices[-1][-1].append(options if len(options) > 1 else (*options, ()))
        elif token.startswith("{"):
            choices[-1][-1].append(_slot(token[1:-1], genre, topic))
        elif token:
            choices[-1][-1].append(token)
    return tuple(choices[0][0])


@cache
def _slot(content: str, genre: str, topic: str) -> _Slot:
    if content in _CAST:
        return _recurring(content)
    if content in INVENTIONS:
        invent = INVENTIONS[content]
        return lambda page: invent(page.draw, page.era)
    category, _, form = content.partition("+")
    entries = _lexicon().get(f"{topic}.{category}") or _lexicon()[category]
    shift = _stable_random("ranks", genre, topic, category).random
    keys = [rank + 0.3 * len(entries) * shift() for rank in range(len(entries))]
    ranked = [entries[rank] for rank in sorted(range(len(entries)), key=keys.__getitem__)]
    forms = tuple(inflected(entry, form, verb=category in _VERBS) for entry in ranked)
    return _word_slot(tuple(lemma(entry) for entry in ranked), forms)


def _word_slot(lemmas: tuple[str, ...], forms: tuple[str, ...]) -> _Slot:
    """Draws with weight 1 / (rank + 1), trying again for a word that its sentence has already."""
    cumulative = list(accumulate(1 / (rank + 1) for rank in range(1, len(forms) + 1)))
    total = cumulative[-1]
    last = len(forms) - 1

    def slot(page: _Page) -> str:
        at = 0
        for _ in range(4):
            at = bisect(cumulative, page.draw() * total, 0, last)
            if lemmas[at] not in page.used:
                break
        page.used.add(lemmas[at])
        return forms[at]

    return slot


def _recurring(member: str) -> _Slot:
    invent = INVENTIONS[_CAST[member]]

    def slot(page: _Page) -> str:
        if member not in page.cast:
            page.cast[member] = invent(page.draw, page.era)
        return page.cast[member]

    return slot
