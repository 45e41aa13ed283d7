"""Tokens of a text's beginning are those of the whole text; tokens given with a text are its own, or are made again from it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import localize as lz
from localize.paragraphs import tokenization as module
from localize.paragraphs.tokenization import Tokenization
from localize.scan.corpus import Corpus
from localize.train.texts import train_tokenizer

PARTS = [
    " ", "  ", "\n", "\n\n\n", "\t ", " \r\n", "\u00a0", "\u3000 ", "\u2028", "\x1c", "\x85", "the",
    " the", "'s", "'re", "don't", "12", "3.14",
    "!?", "...",
    "<|endoftext|>", "x" * 90, "日本語の文、", "長い" * 30, "👩‍👩‍👧", "é", "e\u0301", "\ufffd", "\u200b", "_",
]  # fmt: skip
texts = st.lists(st.sampled_from(PARTS), max_size=80).map("".join) | st.text(st.characters(codec="utf-8"), max_size=80)


@pytest.fixture(scope="module")
def small():
    """A byte-level BPE with tokens for runs of whitespace."""
    return train_tokenizer(["".join(PARTS), *PARTS] * 9, 420)


@pytest.fixture(scope="module")
def real(shared_data):
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast.from_pretrained(str(shared_data / "tokenizer-gpt2"))


@pytest.mark.parametrize("which", ["small", "real"])
@given(text=texts, count=st.integers(1, 40), characters=st.integers(1, 3))
def test_the_first_tokens_are_the_first_ones_of_the_whole_text(which, text, count, characters, request):
    tokenizer = request.getfixturevalue(which)
    before = module.CHARACTERS
    module.CHARACTERS = characters  # so that nearly every text is longer than what is tokenized first
    try:
        found = Tokenization(tokenizer).first_tokens(text, count)
    finally:
        module.CHARACTERS = before
    assert found == tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:count]


def test_one_token_too_few_is_too_few(small, monkeypatch):
    monkeypatch.setattr(module, "CHARACTERS", 2)
    text = "the the the the the"
    assert len(small(text[:7])["input_ids"]) == 2  # up to the first whitespace after 6 characters
    assert Tokenization(small).first_tokens(text, 3) == small(text)["input_ids"][:3]


class Counting:
    """A tokenizer that remembers how much it was given."""

    def __init__(self, tokenizer):
        self.inner, self.given = tokenizer, []

    def __call__(self, text, **options):
        self.given.append(len(text))
        return self.inner(text, **options)

    def __getattr__(self, name):
        if name == "tokenizer":  # which a model has
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)


def test_of_a_long_text_only_the_beginning_is_tokenized_and_kept(small):
    text = "the 12 don't\n" * 100_000
    counting = Counting(small)
    paragraphs = lz.load_paragraphs([text, text[:2000]], counting, prefix_length=50, continuation_length=50)
    assert paragraphs.tokens.tolist() == [small(text[:5000], verbose=False)["input_ids"][:100]] * 2
    assert max(counting.given) < 2000
    assert [len(kept) for kept in paragraphs.texts] == [1600, 1600]
    assert all(text.startswith(kept) for kept in paragraphs.texts)


def test_what_is_kept_holds_all_that_the_tokens_say(small):
    words = "x" * 90 + " "
    tokenization = Tokenization(small)
    tokens = tokenization.first_tokens(words * 1000, 20)
    assert len(small.decode(tokens)) > module.KEPT * 20
    kept = tokenization.kept(words * 1000, tokens)
    assert kept == small.decode(tokens)
    assert tokenization.kept("short", tokens) == "short"
    assert len(Tokenization(None).kept(words * 1000, tokens)) == 20 * module.LONGEST_TOKEN


def test_a_tokenizer_whose_pieces_are_not_known_gets_the_whole_text():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def made(**parts):
        tokenizer = Tokenizer(models.BPE({"a": 0, " ": 1}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        for name, part in parts.items():
            setattr(tokenizer, name, part)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)

    assert Tokenization(made()).divides_at_whitespace
    others = (
        made(normalizer=normalizers.NFC()),
        made(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        made(pre_tokenizer=pre_tokenizers.Whitespace()),
        made(model=models.BPE({"a": 0}, [], dropout=0.5)),
        made(model=models.WordLevel({"a": 0}, unk_token="a")),
    )
    assert [Tokenization(other).divides_at_whitespace for other in others] == [False] * 5
    spaced = made()
    spaced.add_tokens(["a a"])
    assert not Tokenization(spaced).divides_at_whitespace
    assert not Tokenization(Counting).divides_at_whitespace


# Tokens that come with a text.


@pytest.mark.parametrize("which", ["small", "real"])
@given(text=texts.filter(lambda text: len(text) > 3), data=st.data())
def test_a_texts_own_tokens_are_never_made_again_wherever_they_are_cut(which, text, data, request):
    tokenizer = request.getfixturevalue(which)
    whole = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    first = data.draw(st.integers(0, len(whole) - 1))
    window = whole[first : data.draw(st.integers(first + 1, len(whole)))]
    tokenization = Tokenization(tokenizer)
    assert tokenization.are_of(whole[: len(window)], text)  # of a longer text the beginning
    assert tokenization.are_of(window, tokenizer.decode(window))  # as a scan writes it


def test_what_others_do_to_a_text_leaves_its_tokens_its_own(small):
    text = " the don't é the"
    tokens = small(text, add_special_tokens=False)["input_ids"]
    tokenization = Tokenization(small)
    for same in (text.strip(), text + "\n", text + " and more", " \n" + text):
        assert tokenization.are_of(tokens, same)
    assert not tokenization.are_of(tokens, text.replace("the", "The"))
    assert not tokenization.are_of(tokens, text.replace("é", ""))
    assert not tokenization.are_of(tokens, "")
    assert not tokenization.are_of([*tokens[:2], 10**6], text)
    assert not tokenization.are_of([-1], text)
    assert Tokenization(None).are_of(tokens, "no tokenizer, no question")


def test_a_character_cut_at_either_end_is_no_difference(small):
    tokens = small("日本語の 文", add_special_tokens=False)["input_ids"]
    tokenization = Tokenization(train_tokenizer([], 256))  # a token a byte
    tokens = tokenization.tokens("日本語")
    assert len(tokens) == 9
    for first, last in ((0, 8), (0, 7), (1, 9), (2, 8)):
        assert tokenization.are_of(tokens[first:last], "日本語")
        assert not tokenization.are_of(tokens[first:last], "日木語")


@pytest.fixture(scope="module")
def other():
    """A tokenizer of as many tokens, with other numbers."""
    return train_tokenizer(["quite other words than those", "and more of them"] * 9, 420)


def rows_of(tokenizer, texts):
    return [{"text": text, "tokens": tokenizer(text, verbose=False)["input_ids"][:8]} for text in texts]


TEXTS = ["the the don't 12 the é the!?", "3.14 the don't the the the the"]


def test_tokens_of_another_tokenizer_are_made_again_from_the_text_and_that_is_told(small, other):
    rows = [{"tokens": list(range(100, 108))}, *rows_of(small, TEXTS)]
    rows[2]["tokens"] = other(TEXTS[1])["input_ids"][:8]
    with pytest.warns(UserWarning, match="tokenized again") as caught:
        found = lz.load_paragraphs(rows, small, prefix_length=4, continuation_length=4)
    note = "1 row tokenized again from the text, to which the tokens given do not decode (first: row 2)"
    assert [str(warning.message) for warning in caught] == [f"paragraphs list: {note}."]
    assert found.notes == (note,)
    assert note in repr(found)
    assert found.tokens.tolist() == [rows[0]["tokens"], *(small(text)["input_ids"][:8] for text in TEXTS)]
    assert lz.load_paragraphs(rows[:2], small, prefix_length=4, continuation_length=4).notes == ()
    with pytest.warns(UserWarning, match="2 rows tokenized again"):
        lz.load_paragraphs(rows_of(other, TEXTS), small, prefix_length=4, continuation_length=4)


def test_an_empty_text_is_none_to_compare_with(small):
    rows = [{"text": "", "tokens": list(range(100, 108))}]
    assert lz.load_paragraphs(rows, small, prefix_length=4, continuation_length=4).tokens.tolist() == [
        rows[0]["tokens"]
    ]
    (piece,) = Corpus(rows, small).pieces()
    assert piece.tokens.tolist() == rows[0]["tokens"]


def test_a_text_of_too_few_tokens_is_left_out_where_the_given_ones_are_anothers(small, other):
    text = "é the the the the"
    few = len(small(text)["input_ids"])
    rows = [{"text": text, "tokens": other(text)["input_ids"]}, *rows_of(small, TEXTS)]
    assert len(rows[0]["tokens"]) > few
    found = lz.load_paragraphs(rows, small, prefix_length=few, continuation_length=1)
    assert found.skipped[0] == f"row 0: {few} tokens, {few + 1} are needed"
    assert found.notes == ()


def test_a_scan_reads_records_of_anothers_tokens_by_their_text(small, other):
    rows = [*rows_of(other, TEXTS), *rows_of(small, TEXTS)]
    with pytest.warns(UserWarning, match="tokenized again") as caught:
        pieces = list(Corpus(rows, small).pieces())
    told = "corpus list: records hold tokens that do not decode to their text; the text is tokenized again."
    assert [str(warning.message) for warning in caught] == [told]
    assert [piece.tokens.tolist() for piece in pieces[:2]] == [small(text)["input_ids"] for text in TEXTS]
    assert [piece.tokens.tolist() for piece in pieces[2:]] == [row["tokens"] for row in rows[2:]]


def test_the_embedded_rows_keep_their_tokens_with_their_own_tokenizer_and_not_with_another(other):
    model = lz.load_model()
    bare, read = lz.load_paragraphs(), lz.load_paragraphs(None, model)
    assert torch.equal(bare.tokens, read.tokens)
    assert read.notes == ()
    with pytest.warns(UserWarning, match=r"rows? tokenized again"):
        again = lz.load_paragraphs(None, other, prefix_length=20, continuation_length=20)
    rows = np.array([other(text)["input_ids"][:40] for text in again.texts])
    assert np.array_equal(again.tokens, rows)
    assert len(again) == len(bare)
