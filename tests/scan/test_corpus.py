"""A corpus's pieces are the whole, wherever one starts; text in pieces has the tokens of the whole text."""

import numpy as np
import pytest
from transformers import GPT2TokenizerFast

from localize.scan import corpus as module
from localize.scan.corpus import Corpus
from localize.train.planting import train_tokenizer

BREAKS = ["the\n\ncat\r\n\r\nsat\n\n\non  \n the\t\n    mat\n\n", "!\x1c\n\n", "\n  the\r\n", "cat\n\n"]

TEXTS = [
    "the cat\n\nsat on\n\n\nthe mat\n",
    "the cat\r\nsat\r\n\r\non the mat",
    "the cat\n  sat\n\t on\n    \n the mat  \n\n",
    "\n\n  the cat\u00a0\n\u00a0sat! \n?\n\n",
    " \n\n \n",
    "the cat\x1c\nsat!\x1c\n\nmat",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_in_pieces_has_the_tokens_of_the_whole(text, tmp_path, monkeypatch):
    tokenizer = train_tokenizer([*BREAKS, *TEXTS] * 9, 400)  # with tokens for runs of whitespace
    (tmp_path / "a.txt").write_bytes(text.encode())
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    for size in (1, 7, 12, 1000):
        monkeypatch.setattr(module, "TEXT_PIECE", size)
        pieces = list(Corpus(tmp_path / "a.txt", tokenizer).pieces())
        assert np.concatenate([piece.tokens for piece in pieces]).tolist() == whole
        assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_book_in_pieces_has_the_tokens_of_the_whole(shared_data, monkeypatch):
    book = shared_data / "books" / "alice-s-adventures-in-wonderland.txt"
    tokenizer = GPT2TokenizerFast.from_pretrained(str(shared_data / "tokenizer-gpt2"))
    whole = tokenizer(book.read_bytes().decode("utf-8-sig"), verbose=False)["input_ids"]
    monkeypatch.setattr(module, "TEXT_PIECE", 500)
    pieces = list(Corpus(book, tokenizer).pieces())
    assert len(pieces) > 200
    assert np.concatenate([piece.tokens for piece in pieces]).tolist() == whole


def test_a_corpus_is_entered_at_any_piece(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TEXT_PIECE", 9)
    monkeypatch.setattr(module, "TOKEN_PIECE", 5)
    (tmp_path / "a.txt").write_text("the cat\n\nsat\non the mat\n" * 3)
    np.save(tmp_path / "b.npy", np.arange(12))
    np.save(tmp_path / "c.npy", np.arange(24).reshape(2, 12))
    (tmp_path / "d.jsonl").write_text('{"text": "the dog"}\nno\n\n{"tokens": [1, 2]}\n')
    corpus = Corpus(tmp_path, tokenizer)
    pieces = list(corpus.pieces())
    assert len({piece.place for piece in pieces}) == len(pieces) > 14
    for number, piece in enumerate(pieces):
        rest = list(corpus.pieces(piece.place))
        assert [other.place for other in rest] == [other.place for other in pieces[number:]]
        for one, other in zip(rest, pieces[number:], strict=True):
            assert one.tokens.tolist() == other.tokens.tolist()
            assert (one.ends, one.source, one.skipped) == (other.ends, other.source, other.skipped)


def test_a_line_that_is_not_utf8_is_left_out_and_told(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"the cat\n\xff\xfe\nsat\n")
    pieces = list(Corpus(tmp_path / "a.txt", tokenizer).pieces())
    assert np.concatenate([piece.tokens for piece in pieces]).tolist() == tokenizer("the cat\nsat\n")["input_ids"]
    assert pieces[0].skipped == ("a.txt, line 2: not UTF-8 (invalid start byte at byte 0)",)
