"""Rare matter for a paragraph: invented names, places, codes, dates and amounts.

Each function of `INVENTIONS` takes a source of uniform numbers in [0, 1) and the paragraph's
era (a year), and returns a few characters that no other paragraph is likely to hold.
"""

from collections.abc import Callable, Sequence

Draw = Callable[[], float]

_ONSETS = tuple("b br c ch cl d dr f fl g gl gr h j k kr l m n p pr qu r s sh sk st t th tr v w z".split())
_VOWELS = tuple("a e i o u a e o ai ea ie oa au y".split())
_CODAS = tuple("b ck d g l ll m n nd ng nt p r rd rk rn s sk st t th v x z".split())
_NAME_ENDS = tuple("a ec el en er ick in ish o ov ow um us".split())
_PLACE_ENDS = tuple("beck by combe croft dal fell gard holm inge mere ness stow thorpe vik wick wold".split())
_FIRST = tuple("ABCDEFGHJKLMNOPRSTVW")
_LETTERS = tuple("ABCDEFGHKLMNPQRSTVWXYZ")
_MONTHS = tuple("January February March April May June July August September October November December".split())
_CURRENCIES = tuple("crowns marks florins pounds ducats guilders thalers shillings dollars francs pesos kronor".split())
_STEMS = tuple("map init len buf next at size key flag cache list node max log step ref ctx mask slot iter".split())
_EXTENSIONS = tuple("c py rs go h js lua java rb sh".split())
_WORD_STARTS = (*_ONSETS, "", "", "")


def _pick(options: Sequence[str], draw: Draw) -> str:
    return options[int(draw() * len(options))]


def _whole(low: int, high: int, draw: Draw) -> int:
    """A whole number in low..high, both included."""
    return low + int(draw() * (high - low + 1))


def _syllables(draw: Draw) -> str:
    """One closed syllable, or an open and a closed one."""
    word = _pick(_WORD_STARTS, draw) + _pick(_VOWELS, draw)
    if draw() < 0.6:
        word += _pick(_ONSETS, draw) + _pick(_VOWELS, draw)
    return word + _pick(_CODAS, draw)


def _ended(word: str, ends: Sequence[str], draw: Draw) -> str:
    """A proper name; a short word always gets an ending, lest it be an ordinary one."""
    return (word + _pick(ends, draw) if len(word) < 5 or draw() < 0.5 else word).capitalize()


def _name(draw: Draw, era: int) -> str:
    return _ended(_syllables(draw), _NAME_ENDS, draw)


def _full_name(draw: Draw, era: int) -> str:
    return f"{_pick(_FIRST, draw)}. {_name(draw, era)}"


def _place(draw: Draw, era: int) -> str:
    return _ended(_syllables(draw), _PLACE_ENDS, draw)


def _code(draw: Draw, era: int) -> str:
    """KV-4817-q, 7/RTE/219, B93.448 or QX20718."""
    shape = int(draw() * 4)
    first, second, third = (_pick(_LETTERS, draw) for _ in range(3))
    if shape == 0:
        return f"{first}{second}-{_whole(1000, 9999, draw)}-{third.lower()}"
    if shape == 1:
        return f"{_whole(2, 9, draw)}/{first}{second}{third}/{_whole(100, 999, draw)}"
    if shape == 2:
        return f"{first}{_whole(10, 99, draw)}.{_whole(100, 999, draw)}"
    return f"{first}{second}{_whole(10000, 99999, draw)}"


def _hexadecimal(draw: Draw, era: int) -> str:
    return f"0x{int(draw() * 16**6):06x}" if draw() < 0.5 else f"{int(draw() * 16**8):08x}"


def _year(draw: Draw, era: int) -> str:
    return str(era + int(draw() * 30))


def _date(draw: Draw, era: int) -> str:
    day, month = _whole(1, 28, draw), int(draw() * 12)
    shape = draw()
    if shape < 0.6:
        return f"{day} {_MONTHS[month]} {_year(draw, era)}"
    if shape < 0.8:
        return f"{_MONTHS[month]} {day}"
    return f"{_year(draw, era)}-{month + 1:02d}-{day:02d}"


def _small(draw: Draw, era: int) -> str:
    """2..99, small numbers more often."""
    return str(2 + int(98 * draw() * draw()))


def _big(draw: Draw, era: int) -> str:
    """100..9999, half of them below 1000."""
    return str(_whole(100, 999, draw) if draw() < 0.5 else _whole(1000, 9999, draw))


def _amount(draw: Draw, era: int) -> str:
    cents = f".{int(draw() * 100):02d}" if draw() < 0.5 else ""
    return f"{_whole(3, 999, draw)}{cents} {_pick(_CURRENCIES, draw)}"


def _clock(draw: Draw, era: int) -> str:
    return f"{int(draw() * 24):02d}:{int(draw() * 60):02d}"


def _version(draw: Draw, era: int) -> str:
    return f"{_whole(0, 9, draw)}.{_whole(0, 30, draw)}.{_whole(0, 30, draw)}"


def _identifier(draw: Draw, era: int) -> str:
    return f"{_syllables(draw)}_{_pick(_STEMS, draw)}"


def _percent(draw: Draw, era: int) -> str:
    return f"{_whole(1, 90, draw)}.{int(draw() * 10)} percent"


def _temperature(draw: Draw, era: int) -> str:
    return f"{_whole(3, 240, draw)} degrees"


def _age(draw: Draw, era: int) -> str:
    return str(_whole(19, 91, draw))


def _extension(draw: Draw, era: int) -> str:
    return _pick(_EXTENSIONS, draw)


INVENTIONS: dict[str, Callable[[Draw, int], str]] = {
    "name": _name,
    "full": _full_name,
    "place": _place,
    "code": _code,
    "hex": _hexadecimal,
    "year": _year,
    "date": _date,
    "n": _small,
    "big": _big,
    "amount": _amount,
    "clock": _clock,
    "ver": _version,
    "ident": _identifier,
    "pct": _percent,
    "temp": _temperature,
    "age": _age,
    "ext": _extension,
}
