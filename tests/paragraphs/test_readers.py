"""Every form in which paragraphs may come, and every way in which a file can be bad."""

import csv
import json
import os
import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from localize.errors import InputError
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs
from localize.statistics import effective_clusters

ROWS = np.random.default_rng(0).integers(0, 97, (4, 8))
TEXTS = ("abcdefgh", 'a "b", c\nd\r\ne', "<script>alert(1)</script>", "ééé👩‍👩‍👧ééé")


class Characters:
    """A tokenizer by hand: one token a character."""

    def __call__(self, text, **_):
        return {"input_ids": [ord(c) % 97 for c in text]}


def read(source, tokenizer=None, prefix_length=4, continuation_length=4, **options):
    return load_paragraphs(
        source,
        tokenizer or Characters(),
        prefix_length=prefix_length,
        continuation_length=continuation_length,
        **options,
    )


def told(source, *args, **options):
    """The whole message of the error that reading raises, which must be one line."""
    with pytest.raises(InputError) as caught:
        read(source, *args, **options)
    assert type(caught.value) is InputError
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def characters(text, count=8):
    return [ord(c) % 97 for c in text][:count]


@pytest.fixture
def file(tmp_path):
    """Write a file of this name and content, text or bytes or one JSON object a line."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def every_warning():
    """torch tells some warnings once a process only; here each time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


# What is read.


def test_a_csv_with_the_columns_of_the_pile(tmp_path):
    path = tmp_path / "mem.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["paragraph", "id", "count", "em", "nll"])
        rows.writerows([text, f"id {i}", 8 + i, 50, 0.044] for i, text in enumerate(TEXTS))
    paragraphs = read(path)
    assert paragraphs.texts == TEXTS
    assert paragraphs.ids == ("id 0", "id 1", "id 2", "id 3")
    assert paragraphs.duplicates == (8, 9, 10, 11)
    assert paragraphs.tokens.tolist() == [characters(text) for text in TEXTS]
    assert paragraphs.groups is None
    assert paragraphs.source == str(path)


def test_a_csv_field_may_be_very_long(file):
    paragraphs = read(file("long.csv", f"text\n{'x' * 300_000}\n"))
    assert paragraphs.tokens.tolist() == [characters("x" * 8)]


def test_jsonl_of_texts_and_of_tokens(file):
    content = [
        {"text": TEXTS[1], "id": "x", "group": "a", "duplicates": 3},
        {"tokens": [*ROWS[1].tolist(), 5], "text": "beside", "id": 7, "label": "b", "copies": "4.0"},
        {"content": TEXTS[3], "id": "z", "group": "a", "count": 0},
    ]
    paragraphs = read(file("p.jsonl", content))
    assert paragraphs.tokens.tolist() == [characters(TEXTS[1]), ROWS[1].tolist(), characters(TEXTS[3])]
    assert paragraphs.ids == ("x", "7", "z")
    assert paragraphs.groups == ("a", "b", "a")
    assert paragraphs.duplicates == (3, 4, 0)
    assert paragraphs.texts == (TEXTS[1], "beside", TEXTS[3])


def test_blank_lines_are_no_rows(file):
    assert len(read(file("p.jsonl", '\n{"text": "abcdefgh"}\n\n  \n{"text": "abcdefgi"}\n'))) == 2


def test_what_a_row_lacks_is_missing_for_that_row_only(file):
    rows = [
        {"text": TEXTS[0], "group": "a", "duplicates": 1, "id": "0"},
        {"tokens": ROWS[1].tolist(), "label": "b", "count": None},
        {"text": TEXTS[2], "group": None, "copies": 3, "id": None},
    ]
    paragraphs = read(file("p.jsonl", rows))
    assert paragraphs.groups == ("a", "b", None)
    assert paragraphs.labels == ("a", "b", "unlabelled")
    assert paragraphs.duplicates == (1, None, 3)
    assert paragraphs.texts == (TEXTS[0], None, TEXTS[2])
    assert paragraphs.ids == ("0", "row 1", "row 2")  # no number alone: it may be another row's id
    assert repr(paragraphs).endswith("true continuation; 1 a, 1 b, 1 unlabelled; duplicates of 1 not known)")


def test_an_empty_cell_of_a_csv_is_missing_for_its_row(file):
    paragraphs = read(file("p.csv", "text,count,group,id\nabcdefgh,3,a,x\nabcdefgi,,,\n,5,b,y\nabcdefgj,0.0,c,z\n"))
    assert paragraphs.duplicates == (3, None, 0)
    assert paragraphs.groups == ("a", None, "c")
    assert paragraphs.ids == ("x", "row 1", "z")
    assert paragraphs.skipped == ("row 2: no text",)


def test_a_column_that_no_row_fills_is_none(file):
    paragraphs = read(file("p.csv", "text,count,group,id\nabcdefgh,,,\nabcdefgi,,,\n"))
    assert (paragraphs.groups, paragraphs.duplicates, paragraphs.ids) == (None, None, ("0", "1"))


def test_what_a_row_lacks_survives_saving(file, tmp_path):
    saved = read(file("p.csv", "text,count,group,id\nabcdefgh,3,a,x\nabcdefgi,,,\n"))
    saved.save(tmp_path / "saved.jsonl")
    again = read(tmp_path / "saved.jsonl")
    for column in ("ids", "texts", "groups", "duplicates", "data_hash"):
        assert getattr(again, column) == getattr(saved, column)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8", "uint16", ">i4"])
def test_npy_rows_of_any_integer(tmp_path, dtype, every_warning):
    np.save(tmp_path / "rows.npy", ROWS.astype(dtype))
    paragraphs = read(tmp_path / "rows.npy")
    assert paragraphs.tokens.tolist() == ROWS.tolist()
    assert paragraphs.tokens.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_pt_as_a_tensor_and_as_a_list_of_tensors(tmp_path, dtype):
    tokens = torch.from_numpy(ROWS).to(dtype)
    torch.save(tokens, tmp_path / "one.pt")
    torch.save(list(tokens), tmp_path / "list.pt")
    assert read(tmp_path / "one.pt").tokens.equal(torch.from_numpy(ROWS))
    assert read(tmp_path / "list.pt").tokens.equal(torch.from_numpy(ROWS))


def test_lists_tuples_arrays_tensors_and_generators_of_token_rows():
    for source in (
        ROWS,
        torch.from_numpy(ROWS),
        ROWS.tolist(),
        tuple(map(tuple, ROWS.tolist())),
        (row for row in ROWS.tolist()),
    ):
        assert read(source).tokens.tolist() == ROWS.tolist()


def test_an_array_in_any_memory_layout():
    for array in (
        np.asfortranarray(ROWS),
        ROWS[::-1][::-1],
        np.repeat(ROWS, 2, axis=1)[:, ::2],
        ROWS[::-1].copy()[::-1],
    ):
        assert read(array).tokens.tolist() == ROWS.tolist()


def test_what_happens_to_the_array_later_does_not_happen_to_the_paragraphs():
    for array in (ROWS.copy(), torch.from_numpy(ROWS.copy())):
        paragraphs = read(array)
        before = paragraphs.data_hash
        array[0, 0] += 1
        assert Paragraphs(paragraphs.tokens, 4).data_hash == before


def test_strings_are_told_from_token_rows(tokenizer):
    texts = ["the cat sat on the mat and nobody saw them leave", "the dog sat on the log and somebody saw them"]
    paragraphs = load_paragraphs(texts, tokenizer, prefix_length=4, continuation_length=4)
    assert paragraphs.tokens.tolist() == [tokenizer(text)["input_ids"][:8] for text in texts]
    assert paragraphs.texts == tuple(texts)
    assert paragraphs.ids == ("0", "1")
    assert paragraphs.source == "list"


def test_a_model_brings_its_tokenizer(tokenizer, make_model):
    text = "the cat sat on the mat and nobody saw them leave"
    model = make_model("gpt2", tokenizer)
    assert read([text], model).tokens.equal(read([text], tokenizer).tokens)


def test_no_special_token_is_added():
    class Adding(Characters):
        def __call__(self, text, add_special_tokens=True, **_):
            return {"input_ids": [0] * add_special_tokens + super().__call__(text)["input_ids"]}

    assert read(["abcdefgh"], Adding()).tokens.tolist() == [characters("abcdefgh")]


def test_a_dataset_in_memory_and_streamed():
    from datasets import Dataset

    by_text = Dataset.from_dict({"text": list(TEXTS), "id": [5, 6, 7, 8], "group": list("abab")})
    by_tokens = Dataset.from_dict({"tokens": ROWS.tolist()})
    for dataset in (by_text, by_text.to_iterable_dataset()):
        paragraphs = read(dataset)
        assert paragraphs.tokens.tolist() == [characters(text) for text in TEXTS]
        assert (paragraphs.ids, paragraphs.groups, paragraphs.texts) == (("5", "6", "7", "8"), tuple("abab"), TEXTS)
    assert read(by_tokens).tokens.tolist() == ROWS.tolist()
    assert read(by_text).source == "Dataset"


def test_paragraphs_are_paragraphs():
    paragraphs = read(ROWS)
    assert load_paragraphs(paragraphs, prefix_length=4, continuation_length=4) is paragraphs
    assert load_paragraphs(paragraphs, prefix_length=4, continuation_length=4, limit=2).ids == ("0", "1")


def test_rows_are_cut_to_the_length_asked_for(file):
    assert read(ROWS, prefix_length=2, continuation_length=3).tokens.tolist() == ROWS[:, :5].tolist()
    assert read(ROWS, prefix_length=2, continuation_length=3).prefix_length == 2
    assert read(["abcdefgh"], prefix_length=1, continuation_length=1).tokens.tolist() == [characters("ab")]
    paragraphs = read(
        file("p.jsonl", [{"tokens": row} for row in ROWS.tolist()]), prefix_length=3, continuation_length=4
    )
    assert paragraphs.tokens.tolist() == ROWS[:, :7].tolist()


def test_a_limit_takes_the_first_ones_that_are_long_enough():
    assert read(ROWS, limit=2).tokens.tolist() == ROWS[:2].tolist()
    assert read(ROWS, limit=9).tokens.tolist() == ROWS.tolist()
    paragraphs = read(["abc", *TEXTS], limit=2)
    assert paragraphs.texts == TEXTS[:2]
    assert paragraphs.skipped == ("row 0: 3 tokens, 8 are needed",)


def test_a_limit_does_not_read_on():
    def endless():
        while True:
            yield f"text number {len(seen)}"
            seen.append(1)

    seen = []
    assert len(read(endless(), limit=3)) == 3


def test_continuation_says_whose_words_they_are():
    assert read(ROWS).continuation == "true"
    assert read(ROWS, continuation="own").continuation == "own"
    assert told(ROWS, continuation="mine") == "ndarray: continuation='mine' is not one of true, own."


def test_texts_of_too_few_tokens_are_skipped_and_told(file):
    texts = ["abc", TEXTS[0], "", TEXTS[1], "abcdefg"]
    paragraphs = read(file("p.jsonl", [{"text": text, "duplicates": i} for i, text in enumerate(texts)]))
    assert paragraphs.texts == (TEXTS[0], TEXTS[1])
    assert paragraphs.duplicates == (1, 3)
    assert paragraphs.ids == ("1", "3")  # the row's number in the source, whatever was skipped before it
    assert paragraphs.skipped == (
        "row 0: 3 tokens, 8 are needed",
        "row 2: 0 tokens, 8 are needed",
        "row 4: 7 tokens, 8 are needed",
    )


# What is refused: the file itself.


def test_a_file_that_is_not_there(tmp_path):
    assert told(tmp_path / "no.csv") == f"paragraphs {tmp_path / 'no.csv'}: no such file."
    assert told(tmp_path) == f"paragraphs {tmp_path}: no such file."


def test_a_paragraph_given_as_if_it_were_a_file():
    text = "One paragraph, not in a list. " * 20
    assert told(text).endswith(": no such file.")


def test_a_file_of_another_kind(file):
    allowed = ".csv, .jsonl, .parquet, .npy, .pt are (.csv and .jsonl also as .gz or .zst)."
    for name, kind in (("p.txt", ".txt"), ("plain", "no suffix"), ("p.txt.gz", ".txt"), ("p.npy.gz", ".gz")):
        path = file(name, "abcdefgh")
        assert told(path) == f"paragraphs {path}: {kind} is not a format read here; {allowed}"


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.npy", "p.pt"])
def test_an_empty_file(file, name):
    path = file(name, b"")
    reason = {
        "p.csv": "no column 'text', 'paragraph', 'content'; it has none.",
        "p.jsonl": "no paragraphs; at least one of 8 tokens is needed.",
        "p.npy": "cannot be read as plain tensors (No data left in file).",
        "p.pt": "cannot be read as plain tensors (EOFError).",
    }[name]
    assert told(path) == f"paragraphs {path}: {reason}"


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
def test_a_file_in_another_encoding(file, name):
    good = 'text,id\n"two\nlines, long enough",1\n' * (name == "p.csv")
    path = file(name, good.encode() + '{"text": "café"}\n'.encode("latin-1"))
    line = 4 if name == "p.csv" else 1
    assert told(path) == f"paragraphs {path}: line {line} is not UTF-8 (invalid continuation byte at byte 13)."


@pytest.mark.parametrize("name", ["p.npy", "p.pt"])
def test_a_damaged_file_of_tokens(file, name):
    path = file(name, b"\x93NUMPY no, it is not")
    assert told(path).startswith(f"paragraphs {path}: cannot be read as plain tensors (")


@pytest.mark.parametrize("name", ["p.npy", "p.pt"])
def test_half_a_file_of_tokens(tmp_path, name):
    path = tmp_path / name
    np.save(path, ROWS) if name == "p.npy" else torch.save(torch.from_numpy(ROWS), path)
    path.write_bytes(path.read_bytes()[:-40])
    assert told(path).startswith(f"paragraphs {path}: cannot be read as plain tensors (")


# What is refused: rows.


def test_a_csv_without_a_text_column_names_those_it_has(file):
    path = file("p.csv", "id,words\n1,abcdefgh\n")
    assert told(path) == f"paragraphs {path}: no column 'text', 'paragraph', 'content'; it has id, words."


def test_a_csv_row_with_too_many_or_too_few_columns_is_named(file):
    path = file("p.csv", 'text,id\n"abcd\nefgh",1\nabcdefgh,2,3\n')
    assert told(path) == f"paragraphs {path}: row 1 (line 4) has 3 columns, not 2."
    path = file("p.csv", "text,id\nabcdefgh,1\nabcdefgh\n")
    assert told(path) == f"paragraphs {path}: row 1 (line 3) has 1 columns, not 2."


def test_a_csv_of_a_header_only(file):
    path = file("p.csv", "text,id\n")
    assert told(path) == f"paragraphs {path}: no paragraphs; at least one of 8 tokens is needed."


@pytest.mark.parametrize("count", ["many", "inf", "nan", "1e999", "1.7", "-3", "True", "0x3"])
def test_duplicates_that_are_no_number(file, count):
    needed = "a whole number, at least 0, is needed."
    path = file("p.csv", f"text,count\nabcdefgh,1\nabcdefgi,{count}\n")
    assert told(path) == f"paragraphs {path}: row 1: the number of duplicates is '{count}'; {needed}"


@pytest.mark.parametrize("count", [1.7, -3, True, [1], 2**70, float("inf")])
def test_duplicates_in_memory_that_are_no_number(count):
    needed = "a whole number, at least 0, is needed."
    rows = [{"text": "abcdefgh", "count": 3}, {"text": "abcdefgi", "count": count}]
    assert told(rows) == f"paragraphs list: row 1: the number of duplicates is {count!r}; {needed}"


def test_whole_numbers_of_duplicates_in_every_form():
    counts = [3, 3.0, "3", "3.0", " 3 ", np.int64(3), np.float32(3), None, float("nan")]
    rows = [{"text": f"abcdefgh{number}", "count": count} for number, count in enumerate(counts)]
    assert read(rows).duplicates == (*[3] * 7, None, None)


def test_a_broken_line_of_jsonl_is_named(file):
    path = file("p.jsonl", '{"text": "abcdefgh"}\n\n{"text": \n')
    assert told(path) == f"paragraphs {path}: line 3 is not JSON (Expecting value at column 1)."


@pytest.mark.parametrize(
    "line", ["[" * 200_000, '{"tokens": [' + "1" * 5000 + "]}"], ids=["very deep", "very long number"]
)
def test_json_that_python_will_not_read_is_named(file, line):
    path = file("p.jsonl", f'{{"text": "abcdefgh"}}\n{line}\n')
    assert told(path).startswith(f"paragraphs {path}: line 2 is not JSON (")


def test_rows_that_are_no_rows_are_named(file):
    path = file("p.jsonl", [{"text": "abcdefgh"}, 5])
    needed = "a text, token ids, or an object with a field 'text' or 'tokens' is needed."
    assert told(path) == f"paragraphs {path}: row 1 is a int; {needed}"
    assert told([None]) == f"paragraphs list: row 0 is a NoneType; {needed}"
    fields = "no field 'tokens' or 'text', 'paragraph', 'content'"
    assert told([{"words": "abcdefgh", "id": 3}]) == f"paragraphs list: row 0 has {fields}; it has words, id."
    assert told([{}]) == f"paragraphs list: row 0 has {fields}; it has none."
    assert told([{"text": 5}]) == "paragraphs list: row 0: its text is a int, not a string."


def test_half_a_character_in_a_text_is_refused_when_read(file, tokenizer):
    # A lone surrogate: neither a tokenizer nor any file that is written here can hold it.
    path = file("p.jsonl", '{"text": "half a character \\ud83d"}\n')
    assert told(path, tokenizer).startswith(f"paragraphs {path}: row 0")


@pytest.mark.parametrize("tokens", [[1.5] * 8, [True] * 8, ["1"] * 8, "12345678", [[1] * 8], {"a": 1}, 5])
def test_tokens_that_are_no_list_of_integers(tokens):
    assert told([{"tokens": tokens}]) == "paragraphs list: row 0: 'tokens' must be a list of integers."


@pytest.mark.parametrize("token", [2**63, -(2**63) - 1, 2**70])
def test_a_token_id_that_no_vocabulary_has(file, token):
    path = file("p.jsonl", [{"tokens": [1] * 8}, {"tokens": [1] * 7 + [token]}])
    assert told(path).startswith(f"paragraphs {path}: row 1")


def test_a_text_without_a_tokenizer(file):
    path = file("p.jsonl", [{"text": "abcdefgh"}])
    with pytest.raises(InputError) as caught:
        load_paragraphs(path, prefix_length=4, continuation_length=4)
    assert (
        str(caught.value)
        == f"paragraphs {path} are text; pass the model or its tokenizer: load_paragraphs(..., model)."
    )


def test_ragged_rows_are_named(tmp_path):
    assert (
        told([[1] * 8, [1] * 9, [1] * 7])
        == "paragraphs list: row 2 has 7 tokens; 8 are needed (prefix + continuation)."
    )
    path = tmp_path / "ragged.pt"
    torch.save(
        [torch.ones(9, dtype=torch.int64), torch.ones(8, dtype=torch.int64), torch.ones(12, dtype=torch.int64)], path
    )
    assert told(path) == f"paragraphs {path}: ragged rows, of 8 to 12 tokens; rows of one length are needed."


def test_rows_that_are_too_short(tmp_path):
    np.save(tmp_path / "short.npy", ROWS)
    assert told(ROWS, prefix_length=8) == "paragraphs ndarray: rows of 8 tokens; 12 are needed (prefix + continuation)."
    assert (
        told(ROWS.tolist(), prefix_length=8)
        == "paragraphs list: row 0 has 8 tokens; 12 are needed (prefix + continuation)."
    )
    assert (
        told(torch.from_numpy(ROWS), prefix_length=8)
        == "paragraphs Tensor: rows of 8 tokens; 12 are needed (prefix + continuation)."
    )


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (ROWS.astype(float), "torch.float64 of shape (4, 8)"),
        (ROWS.astype(np.float16), "torch.float16 of shape (4, 8)"),
        (ROWS > 3, "torch.bool of shape (4, 8)"),
        (ROWS[0], "torch.int64 of shape (8,)"),
        (ROWS[None], "torch.int64 of shape (1, 4, 8)"),
        (np.array(3), "torch.int64 of shape ()"),
    ],
    ids=["float64", "float16", "bool", "one axis", "three axes", "no axis"],
)
def test_arrays_that_are_no_token_rows(array, found):
    expected = f"{found}; integer token rows (paragraph, position) are needed."
    assert told(array) == f"paragraphs ndarray: {expected.removeprefix('torch.')}"
    assert told(torch.from_numpy(array.copy())) == f"paragraphs Tensor: {expected}"


@pytest.mark.parametrize(
    "array",
    [ROWS.astype(complex), ROWS.astype(str), np.array(TEXTS), ROWS.astype(object)],
    ids=["complex", "digits", "texts", "objects"],
)
def test_arrays_of_no_numbers_at_all(array):
    assert told(array).startswith("paragraphs ndarray: ")
    assert told(array).endswith("integer token rows (paragraph, position) are needed.")


def test_no_rows_at_all():
    assert told([]) == "paragraphs list: no paragraphs; at least one of 8 tokens is needed."
    assert told(ROWS[:0]) == "paragraphs ndarray: no paragraphs; at least one of 8 tokens is needed."
    assert told(ROWS.tolist(), limit=0) == "limit=0 must be at least 1."
    expected = "paragraphs list: no paragraphs (2 rows skipped: row 0: 1 tokens, 8 are needed); at least one of 8 tokens is needed."
    assert told(["a", "bc"]) == expected


@pytest.mark.parametrize("source", [5, 1.5, object(), csr_array((2, 8))], ids=["int", "float", "object", "sparse"])
def test_a_source_of_no_known_form(source):
    told(source)


@pytest.mark.parametrize("limit", [-1, -3])
def test_a_limit_below_zero_is_refused(limit):
    told(ROWS, limit=limit)
    told(ROWS.tolist(), limit=limit)


@pytest.mark.parametrize(("prefix", "continuation"), [(0, 4), (4, 0), (-1, 4)])
def test_prefix_and_continuation_need_a_token_each(prefix, continuation):
    expected = f"prefix_length={prefix} and continuation_length={continuation} must both be at least 1."
    assert told(ROWS, prefix_length=prefix, continuation_length=continuation) == expected


def test_an_id_that_stands_twice(file):
    path = file("p.csv", "text,id\nabcdefgh,x\nabcdefgi,x\n")
    assert told(path) == f"{path}: the id 'x' stands twice; ids must differ."


# What is refused: what could run.


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_a_pt_file_is_refused_and_not_run(tmp_path):
    path, trap = tmp_path / "evil.pt", tmp_path / "sprung"
    for content in (Trap(trap), [torch.ones(8, dtype=torch.int64), Trap(trap)], {"tokens": Trap(trap)}):
        torch.save(content, path)
        assert told(path).startswith(f"paragraphs {path}: cannot be read as plain tensors (Weights only load failed.")
    path.write_bytes(pickle.dumps(Trap(trap)))
    assert told(path).startswith(f"paragraphs {path}: cannot be read as plain tensors (")
    assert not trap.exists()


def test_a_pickle_in_a_npy_file_is_refused_and_not_run(tmp_path):
    path, trap = tmp_path / "evil.npy", tmp_path / "sprung"
    np.save(path, np.array([[Trap(trap)]], dtype=object), allow_pickle=True)
    expected = (
        f"paragraphs {path}: cannot be read as plain tensors (Array can't be memory-mapped: Python objects in dtype.)."
    )
    assert told(path) == expected
    path.write_bytes(pickle.dumps(Trap(trap)))
    assert told(path).startswith(f"paragraphs {path}: cannot be read as plain tensors (")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [({"a": torch.ones(2)}, "dict"), ([], "list"), ([[1] * 8], "list"), (5, "int"), ("text", "str")],
)
def test_a_pt_file_of_something_else(tmp_path, content, kind):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    assert told(path) == f"paragraphs {path}: holds a {kind}; a tensor of token rows is needed."


def test_a_pt_file_of_a_parameter_or_a_sparse_tensor(tmp_path):
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Parameter(torch.ones(4, 8)), path)
    assert (
        told(path)
        == f"paragraphs {path}: torch.float32 of shape (4, 8); integer token rows (paragraph, position) are needed."
    )
    torch.save(torch.from_numpy(ROWS).to_sparse(), path)
    assert told(path).startswith(f"paragraphs {path}: ")


# The real data.


@pytest.fixture(scope="module")
def pile(shared_data):
    return shared_data / "pile-gpt-neo-125M"


@pytest.fixture(scope="module")
def real_tokenizer(shared_data):
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast.from_pretrained(str(shared_data / "tokenizer-gpt2"))


def test_of_441_real_texts_430_are_read_and_429_are_rows_of_the_token_file(pile, real_tokenizer):
    texts = load_paragraphs(pile / "mem_strings.csv", real_tokenizer)
    assert len(texts) == 430
    assert len(texts.skipped) == 11
    assert all(line.endswith(": 99 tokens, 100 are needed") for line in texts.skipped)
    assert len(set(texts.ids)) == 430
    assert (min(texts.duplicates), max(texts.duplicates)) == (8, 40382)
    assert any("\n" in text for text in texts.texts)
    assert any("<script" in text for text in texts.texts)
    rows = load_paragraphs(pile / "preds" / "50_50_preds.pt", continuation="own")
    known = set(rows.hashes)
    assert sum(key in known for key in texts.hashes) == 429


def test_real_texts_survive_saving(pile, real_tokenizer, tmp_path):
    texts = load_paragraphs(pile / "mem_strings.csv", real_tokenizer)
    texts.save(tmp_path / "p.jsonl")
    again = load_paragraphs(tmp_path / "p.jsonl")
    assert again.tokens.equal(texts.tokens)
    assert (again.texts, again.ids, again.duplicates) == (texts.texts, texts.ids, texts.duplicates)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("preds/50_50_preds.pt", 442),
        ("preds/30_49_preds.pt", 141),
        ("preds/11_29_preds.pt", 436),
        ("perturbed/mem_toks.pt", 90),
        ("perturbed/perturbed_mem_toks.pt", 90),
    ],
)
def test_real_token_files_are_read(pile, name, count):
    paragraphs = load_paragraphs(pile / name, continuation="own")
    assert paragraphs.tokens.shape == (count, 100)
    assert (paragraphs.prefix_length, paragraphs.continuation) == (50, "own")
    assert paragraphs.tokens.max() <= 50256


def test_the_442_real_paragraphs_are_70_clusters(pile):
    clusters = load_paragraphs(pile / "preds" / "50_50_preds.pt", continuation="own").clusters
    sizes = np.bincount(clusters)
    assert len(sizes) == 70
    assert (sizes[clusters] > 1).sum() == 405
    assert effective_clusters(clusters) == pytest.approx(15.865, abs=0.001)
