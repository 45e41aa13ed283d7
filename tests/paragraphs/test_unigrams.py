"""How often each token stands in a corpus, against `collections.Counter`."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import InputError
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import unigram_counts

VOCAB = 30


class Letters:
    """A tokenizer by hand: a is 0, b is 1, ...; other characters are no tokens."""

    def __call__(self, text, **_):
        return {"input_ids": [ord(c) - ord("a") for c in text if c.islower()]}


def counted(documents):
    counter = Counter(token for document in dict.fromkeys(tuple(d) for d in documents) for token in document)
    return [counter[token] for token in range(VOCAB)]


def told(*args, **options):
    with pytest.raises(InputError) as caught:
        unigram_counts(*args, vocab_size=VOCAB, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


documents = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=8), min_size=1, max_size=12).filter(any)


@given(documents)
def test_counts_are_those_of_a_counter_over_different_documents(given_documents):
    counts = unigram_counts(given_documents, vocab_size=VOCAB)
    assert counts.dtype == torch.int64
    assert counts.tolist() == counted(given_documents)


def test_of_equal_documents_only_the_first_counts():
    assert unigram_counts([[1, 1, 2], [3], [1, 1, 2]], vocab_size=5).tolist() == [0, 2, 1, 1, 0]
    assert unigram_counts([[1, 2], [2, 1]], vocab_size=5).tolist() == [0, 2, 2, 0, 0]


def test_equal_documents_are_equal_in_every_form():
    as_tensor, as_small, as_tuple = torch.tensor([4, 5]), np.array([4, 5], np.uint8), (4, 5)
    assert unigram_counts([[4, 5], as_tensor, as_small, as_tuple], vocab_size=VOCAB).sum() == 2


def test_arrays_tensors_files_and_generators_count_alike(tmp_path):
    rows = np.random.default_rng(0).integers(0, VOCAB, (40, 3))
    np.save(tmp_path / "rows.npy", rows.astype(np.uint16))
    expected = counted(rows.tolist())
    for corpus in (
        rows,
        torch.from_numpy(rows),
        tmp_path / "rows.npy",
        str(tmp_path / "rows.npy"),
        (row for row in rows),
        rows.tolist(),
    ):
        assert unigram_counts(corpus, vocab_size=VOCAB).tolist() == expected


def test_of_paragraphs_the_true_tokens_count():
    tokens, true = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 2, 7], [4, 5, 8]])
    assert unigram_counts(Paragraphs(tokens, 2), vocab_size=VOCAB).tolist() == counted(tokens.tolist())
    own = Paragraphs(tokens, 2, continuation="own", true_tokens=true)
    assert unigram_counts(own, vocab_size=VOCAB).tolist() == counted(true.tolist())


def test_a_text_file_is_one_document_a_line(tmp_path):
    (tmp_path / "corpus.txt").write_text("abba\n\n   \ncab\nabba\nz", encoding="utf-8")
    expected = unigram_counts(["abba", "cab", "z"], vocab_size=VOCAB, tokenizer=Letters())
    assert expected[:3].tolist() == [3, 3, 1]
    assert expected[25] == 1
    assert unigram_counts(tmp_path / "corpus.txt", vocab_size=VOCAB, tokenizer=Letters()).equal(expected)


def test_a_real_tokenizer_adds_no_special_tokens(tokenizer):
    text = "the cat sat on the mat"
    counts = unigram_counts([text], vocab_size=len(tokenizer), tokenizer=tokenizer)
    assert counts.tolist() == [
        tokenizer(text, add_special_tokens=False)["input_ids"].count(i) for i in range(len(tokenizer))
    ]


def test_a_streamed_dataset_is_read_row_by_row():
    from datasets import IterableDataset

    read = []

    def rows():
        for text in ("ab", "bc", "ab"):
            read.append(text)
            yield {"text": text, "body": text * 2}

    stream = IterableDataset.from_generator(rows)
    assert unigram_counts(stream, vocab_size=VOCAB, tokenizer=Letters())[:3].tolist() == [1, 2, 1]
    assert unigram_counts(stream, vocab_size=VOCAB, tokenizer=Letters(), text_field="body")[:3].tolist() == [2, 4, 2]
    assert read.count("bc") == 2


def test_what_cannot_be_counted_is_told(tmp_path):
    assert told([[1, 2], [3, 30, 31]]) == "corpus document 1: token id 30 is outside the vocabulary, 0..29."
    assert told([[1, -2]]) == "corpus document 0: token id -2 is outside the vocabulary, 0..29."
    assert told([[0.5, 1.0]]) == "corpus document 0: float64 values; token ids are integers."
    assert told([[True, False]]) == "corpus document 0: bool values; token ids are integers."
    assert told([[1], None]) == "corpus document 1: object values; token ids are integers."
    assert told(["abc"]) == "corpus document 0 is text; pass tokenizer= to count its tokens."
    assert told([{"body": "abc", "id": 1}]) == "corpus document 0: no field 'text' or 'tokens'; it has body, id."
    assert told([]) == "corpus: no documents; at least one is needed to count tokens."
    assert told([[], []]) == "corpus: no documents; at least one is needed to count tokens."
    assert told(tmp_path / "none.txt") == f"corpus {tmp_path / 'none.txt'}: no such file."
    assert told(tmp_path) == f"corpus {tmp_path}: no such file."
    (tmp_path / "empty.txt").write_text("\n\n")
    assert (
        told(tmp_path / "empty.txt", tokenizer=Letters())
        == "corpus: no documents; at least one is needed to count tokens."
    )


@pytest.mark.parametrize(
    "stream", [np.array([1, 1, 2]), torch.tensor([1, 1, 2]), [1, 1, 2]], ids=["array", "tensor", "list"]
)
def test_a_bare_stream_of_tokens_is_one_document(stream):
    # As documents of one token each, of which only the first of equals counts, every token would count once.
    assert unigram_counts(stream, vocab_size=4).tolist() == [0, 2, 1, 0]


def test_a_damaged_file_of_rows_is_told_in_one_line(tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"no array")
    assert told(tmp_path / "bad.npy").startswith(f"corpus {tmp_path / 'bad.npy'}: ")


def test_pickled_rows_are_never_read(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    assert told(tmp_path / "objects.npy").startswith(f"corpus {tmp_path / 'objects.npy'}: ")


def test_a_text_file_in_another_encoding_is_told_in_one_line(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    assert told(tmp_path / "latin.txt", tokenizer=Letters()).startswith(f"corpus {tmp_path / 'latin.txt'}: ")


def test_half_a_character_is_left_out_and_told(tmp_path):
    texts = ["abba", "half \ud83d", "cab", "\udc00"]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for corpus in (texts, tmp_path / "c.jsonl"):
        with pytest.warns(UserWarning, match="left out") as caught:
            counts = unigram_counts(corpus, vocab_size=VOCAB, tokenizer=Letters())
        assert [str(warning.message) for warning in caught] == [
            "corpus: 2 of 4 documents left out, the first number 1: its text holds half a surrogate pair; valid Unicode is needed."
        ]
        assert counts[:3].tolist() == [3, 3, 1]


def test_rows_count_by_their_text_or_by_their_tokens(tmp_path):
    rows = [{"text": "abba", "id": 1}, {"tokens": [5, 5]}, {"text": None}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for corpus in (rows, tmp_path / "c.jsonl"):
        counts = unigram_counts(corpus, vocab_size=VOCAB, tokenizer=Letters())
        assert counts[:6].tolist() == [2, 2, 0, 0, 0, 2]
    (tmp_path / "bad.jsonl").write_text('{"text": "abba"}\n{\n')
    bad = tmp_path / "bad.jsonl"
    assert told(bad, tokenizer=Letters()).startswith(f"corpus {bad}: line 2 is not JSON (")
    assert told([{"tokens": [[1], [2, 3]]}]).startswith("corpus document 0: no token ids (")
