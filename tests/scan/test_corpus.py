"""A corpus's pieces are the whole, wherever one starts; text in pieces has the tokens of the whole text."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import GPT2TokenizerFast

from localize.scan import corpus as module
from localize.scan.corpus import Corpus
from localize.train.texts import train_tokenizer

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
    (tmp_path / "e.csv").write_text('text,source\n"the ""cat"", sat",x\n,\nthe dog sat on the log,\n')
    parquet.write_table(
        pa.table({"text": ["the", None, "cat sat on the mat", "a"]}), tmp_path / "f.parquet", row_group_size=2
    )
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"text": "the mat"}\n{"text": "the cat"}'))
    (tmp_path / "h.txt.gz").write_bytes(gzip.compress(b"the cat\n\nsat\non the mat\n"))
    (tmp_path / "i.csv").write_text("words,id\nthe cat,1\n")
    corpus = Corpus(tmp_path, tokenizer)
    pieces = list(corpus.pieces())
    assert len({piece.place for piece in pieces}) == len(pieces) > 24
    assert pieces[-1].skipped == (
        "i.csv, document 0: no column 'text', 'paragraph', 'content'; it has words, id".replace(
            "0", str(pieces[-1].place.document)
        ),
    )
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


def test_two_files_of_one_name_in_different_folders_are_two_sources(tokenizer, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("the cat sat")
        (tmp_path / folder / "b.jsonl").write_text('{"text": "the dog sat"}\n')
    sources = [piece.source for piece in Corpus(tmp_path, tokenizer).pieces() if piece.ends]
    assert sources == ["one/a.txt", "one/b.jsonl", "two/a.txt", "two/b.jsonl"]
    assert {piece.source for piece in Corpus(tmp_path / "one" / "a.txt", tokenizer).pieces()} == {"a.txt"}


def test_what_is_hidden_is_not_scanned(tokenizer, tmp_path):
    for name in ("a.txt", ".ipynb_checkpoints/a-checkpoint.txt", ".git/b.txt", "._a.txt", "c/.d.jsonl", "c/e.JSONL"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "the cat"}\n')
    assert [piece.source for piece in Corpus(tmp_path, tokenizer).pieces() if piece.ends] == ["a.txt", "c/e.JSONL"]


HALF = "half a surrogate pair; valid Unicode is needed"


@pytest.mark.parametrize("form", ["file", "list"])
def test_half_a_character_is_left_out_and_told_and_the_scan_goes_on(form, tokenizer, tmp_path):
    rows = [
        {"text": "the cat"},
        {"text": "half \ud83d"},
        {"text": "the mat", "source": "\udc00"},
        {"text": "the log", "id": "\ud800"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = "c.jsonl, document" if form == "file" else "document"
    pieces = list(Corpus(tmp_path / "c.jsonl" if form == "file" else rows, tokenizer).pieces())
    assert [line for piece in pieces for line in piece.skipped] == [
        f"{where} 1: its text holds {HALF}", f"{where} 2: its source holds {HALF}",
    ]  # fmt: skip
    assert [piece.tokens.tolist() for piece in pieces] == [
        tokenizer("the cat")["input_ids"], [], [], tokenizer("the log")["input_ids"],
    ]  # fmt: skip


def test_a_file_name_that_is_no_unicode_is_told_so_that_any_file_can_hold_it(tokenizer, tmp_path):
    path = tmp_path / "a\udcff.txt"
    try:
        path.write_text("the cat")
    except (OSError, UnicodeEncodeError):
        pytest.skip("no such names on this file system")
    assert {piece.source for piece in Corpus(tmp_path, tokenizer).pieces()} == {"a\\udcff.txt"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": "[1, 2]"}, "<U6 of 1 dimensions; a text or token ids are needed"),
        ({"tokens": [[1], [2, 3]]}, "no token ids ("),
        ({"tokens": [1.5, 2]}, "float64 of 2 dimensions; a text or token ids are needed"),
        ([[1], [2, 3]], "no token ids ("),
        ({"text": None}, "no text"),
        ({"text": float("nan")}, "no text"),
        ({"words": "the"}, "no field 'text', 'paragraph', 'content' or 'tokens'"),
        ({"text": 5}, "int64 of 0 dimensions; a text or token ids are needed"),
    ],
)
def test_a_record_of_no_known_form_is_told(row, reason, tokenizer):
    (piece,) = Corpus([row], tokenizer).pieces()
    assert piece.skipped[0].startswith(f"document 0: {reason}")
    assert len(piece.tokens) == 0
