"""What the generator of invented paragraphs promises."""

import re
from collections import Counter
from itertools import combinations, pairwise

import pytest

from localize.errors import LocalizeError
from localize.paragraphs.inflection import inflected, lemma
from localize.paragraphs.synthetic import (
    GENRES,
    MIN_WORDS,
    synthetic_paragraph,
    synthetic_paragraphs,
    topics,
)


@pytest.fixture(scope="module")
def many():
    return list(synthetic_paragraphs(2000, seed=11))


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(*(words[shift:] for shift in range(5)), strict=False))


def test_the_same_call_gives_the_same_paragraph_and_another_seed_or_index_does_not():
    first = synthetic_paragraph(3, 40)
    assert synthetic_paragraph(3, 40) == first
    assert synthetic_paragraph(4, 40).text != first.text
    assert synthetic_paragraph(3, 41).text != first.text


def test_any_shard_holds_the_paragraphs_of_the_whole_series():
    whole = list(synthetic_paragraphs(30, seed=5))
    shard = list(synthetic_paragraphs(10, seed=5, start=20))
    assert shard == whole[20:]
    assert [synthetic_paragraph(5, index) for index in reversed(range(30))] == whole[::-1]


def test_asking_for_the_genre_and_topic_that_would_be_drawn_changes_nothing():
    for index in range(20):
        drawn = synthetic_paragraph(9, index)
        assert synthetic_paragraph(9, index, genre=drawn.genre, topic=drawn.topic) == drawn


def test_a_held_out_match_has_the_same_genre_and_topic_but_hardly_a_five_gram_in_common():
    for genre in GENRES:
        for topic in topics(genre):
            planted = synthetic_paragraph(1, 0, genre=genre, topic=topic)
            match = synthetic_paragraph(1, 1, genre=genre, topic=topic)
            assert (match.genre, match.topic) == (planted.genre, planted.topic) == (genre, topic)
            shared = five_grams(planted.text) & five_grams(match.text)
            assert len(shared) < 0.1 * len(five_grams(match.text))


def test_every_genre_has_at_least_five_topics_and_all_of_them_are_drawn(many):
    drawn = {(paragraph.genre, paragraph.topic) for paragraph in many}
    assert drawn == {(genre, topic) for genre in GENRES for topic in topics(genre)}
    assert min(len(topics(genre)) for genre in GENRES) >= 5


def test_a_topic_alone_is_enough_to_draw_a_genre_that_knows_it():
    paragraph = synthetic_paragraph(2, 8, topic="network")
    assert (paragraph.genre, paragraph.topic) == ("changelog", "network")


def test_every_paragraph_is_long_enough_for_a_prefix_and_a_continuation(many):
    lengths = [len(paragraph.text.split()) for paragraph in many]
    assert min(lengths) >= MIN_WORDS
    assert max(lengths) <= 130


def test_no_two_paragraphs_of_two_thousand_share_a_tenth_of_their_word_five_grams(many):
    grams = [five_grams(paragraph.text) for paragraph in many]
    holders: dict[tuple[str, ...], list[int]] = {}
    for index, own in enumerate(grams):
        for gram in own:
            holders.setdefault(gram, []).append(index)
    shared = Counter(pair for indices in holders.values() for pair in combinations(indices, 2))
    worst = max(count / min(len(grams[a]), len(grams[b])) for (a, b), count in shared.items())
    assert 0 < worst < 0.1


def test_matter_of_its_own_is_spread_through_each_paragraph_from_beginning_to_end(many):
    split = [paragraph.text.split() for paragraph in many]
    spread = Counter(word for words in split for word in set(words))
    for words in split:
        own = [place for place, word in enumerate(words) if spread[word] == 1]
        gaps = [later - earlier for earlier, later in pairwise([-1, *own, len(words)])]
        assert len(own) >= 4 and max(gaps) <= 60, " ".join(words)
    ends = [any(spread[word] == 1 for word in words[-30:]) for words in split]
    assert sum(ends) > 0.98 * len(ends)


def test_names_recur_inside_their_paragraph_and_nowhere_else(many):
    names = [set(re.findall(r"\b[A-Z][a-z]{6,}\b", paragraph.text)) for paragraph in many]
    spread = Counter(name for own in names for name in own)
    recurring = [
        name
        for paragraph, own in zip(many, names, strict=True)
        for name in own
        if spread[name] == 1 and paragraph.text.count(name) > 1
    ]
    assert len(recurring) > len(many) / 2


def test_few_words_are_common_and_many_are_rare(many):
    counts = Counter(word for paragraph in many for word in re.findall(r"\b[a-z]+\b", paragraph.text))
    total = counts.total()
    assert sum(count for _, count in counts.most_common(100)) > 0.4 * total
    assert sum(1 for count in counts.values() if count < 20) > 1000


def test_no_template_mark_double_space_or_stray_punctuation_is_left(many):
    broken = re.compile(r"[{}\[\]|^]|  | [,.;:?!]|[,;:][,.;:]|\n[^-]|\bthe the\b|\b(a|an) the\b|\ba a\b")
    assert [paragraph.text for paragraph in many if broken.search(paragraph.text)] == []


def test_an_stands_before_vowels_and_a_before_consonants(many):
    text = " ".join(paragraph.text for paragraph in many)
    assert re.findall(r"(?<![\w./-])[Aa] (?:[aioAIO]\w*|hour\w*|honest\w*)", text) == []
    assert re.findall(r"(?<![\w./-])[Aa]n (?:[b-df-gj-np-tv-z]\w*|useful|uni\w*on|ewe)\b", text) == []
    assert {"an", "a"} <= set(text.split())


@pytest.mark.parametrize(
    ("entry", "form", "verb", "expected"),
    [
        ("knife>knives", "s", False, "knives"),
        ("cherry", "s", False, "cherries"),
        ("box", "s", False, "boxes"),
        ("day", "s", False, "days"),
        ("take>took>taken", "s", True, "takes"),
        ("take>took>taken", "ed", True, "took"),
        ("take>took>taken", "en", True, "taken"),
        ("keep>kept", "en", True, "kept"),
        ("stop*", "ed", True, "stopped"),
        ("cut*>cut", "ing", True, "cutting"),
        ("carry", "ed", True, "carried"),
        ("carry", "ing", True, "carrying"),
        ("dye", "ing", True, "dyeing"),
        ("tie", "ing", True, "tying"),
        ("move", "ing", True, "moving"),
        ("stop*", "", True, "stop"),
    ],
)
def test_words_are_inflected_as_english_does(entry, form, verb, expected):
    assert inflected(entry, form, verb=verb) == expected
    assert lemma(entry) == re.split(r"[>*]", entry)[0]


def test_an_unknown_genre_topic_or_place_is_refused_with_what_is_allowed():
    with pytest.raises(LocalizeError) as refusal:
        synthetic_paragraph(1, 0, genre="poem")
    genres = "licence, news, recipe, changelog, letter, encyclopaedia, minutes, fieldnotes, manual"
    assert str(refusal.value) == f"synthetic_paragraph: genre='poem' must be one of {genres}."
    with pytest.raises(LocalizeError) as refusal:
        topics("poem")
    assert str(refusal.value) == f"topics: genre='poem' must be one of {genres}."
    with pytest.raises(LocalizeError) as refusal:
        synthetic_paragraph(1, 0, genre="recipe", topic="mining")
    assert str(refusal.value) == (
        "synthetic_paragraph: topic='mining' of genre 'recipe' must be one of bread, soup, seafood, preserves, roasts, sweets."
    )
    with pytest.raises(LocalizeError, match=r"^synthetic_paragraph: topic='cheese' must be one of bread, farm, "):
        synthetic_paragraph(1, 0, topic="cheese")
    with pytest.raises(LocalizeError) as refusal:
        synthetic_paragraph(1, -1)
    assert str(refusal.value) == "synthetic_paragraph: index=-1 must be 0 or more, a place in the series."
    with pytest.raises(LocalizeError) as refusal:
        synthetic_paragraphs(-2, seed=1)
    assert str(refusal.value) == "synthetic_paragraphs: count=-2 and start=0 must both be 0 or more."
