"""Plurals and verb forms of lexicon entries such as `knife>knives`, `take>took>taken`, `stop*`."""


def lemma(entry: str) -> str:
    """The bare word: `lemma("stop*") == "stop"`."""
    return entry.split(">")[0].rstrip("*")


def inflected(entry: str, form: str, *, verb: bool) -> str:
    """The word in one form: `inflected("take>took>taken", "en", verb=True) == "taken"`.

    Args:
        entry: The word; `*` after it doubles its last letter, `>` leads to irregular forms: a noun's
            plural, or a verb's past and (where it differs) participle.
        form: "" (bare), "s" (plural, or "he takes"), "ed" (past), "en" (participle), "ing".
        verb: Whether the entry is a verb.
    """
    word = lemma(entry)
    irregular = entry.split(">")[1:]
    stem = word + word[-1] if "*" in entry else word
    if form == "":
        return word
    if form == "s":
        return irregular[0] if irregular and not verb else _with_s(word)
    if form == "ing":
        return _with_ing(stem)
    if irregular:
        return irregular[0] if form == "ed" else irregular[-1]
    return _with_ed(stem)


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in "aeiou"


def _with_s(word: str) -> str:
    if _ends_in_consonant_y(word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh", "ch", "x", "z")) else "s")


def _with_ing(stem: str) -> str:
    if stem.endswith("ie"):
        return stem[:-2] + "ying"
    return stem.removesuffix("e") + "ing" if not stem.endswith(("ee", "oe", "ye")) else stem + "ing"


def _with_ed(stem: str) -> str:
    if stem.endswith("e"):
        return stem + "d"
    return stem[:-1] + "ied" if _ends_in_consonant_y(stem) else stem + "ed"
