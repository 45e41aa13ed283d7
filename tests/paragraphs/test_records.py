"""One reader for all: whatever csv and json of the standard library write comes back the same, or the row is named."""

import csv
import gzip
import io
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from localize.errors import InputError
from localize.paragraphs import records as module
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs
from localize.paragraphs.records import kind_of, readable_files, records, rows_of
from localize.paragraphs.unigrams import unigram_counts
from localize.scan.corpus import Corpus

LENGTH = 6
ROWS = [
    {"text": 'a "quoted", word', "id": "x", "group": "one", "count": "3"},
    {"text": "two\nlines, and\r\na third", "id": "y", "group": "two", "count": "4"},
    {"text": "übér 🙂 日本語", "id": "z", "group": "two", "count": "5"},
]


class Characters:
    """A tokenizer by hand: one token a character, the same whatever process asks."""

    def __call__(self, text, **_):
        return {"input_ids": [ord(c) for c in text]}


def read(source):
    return load_paragraphs(source, Characters(), prefix_length=3, continuation_length=3)


def told(source, read=read):
    with pytest.raises(InputError) as caught:
        read(source)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def scanned(source):
    """Each document's tokens in a scan, and the lines that tell what was left out."""
    pieces = list(Corpus(source, Characters()).pieces())
    assert [piece.place for piece in pieces] == sorted({piece.place for piece in pieces})
    documents = {piece.place.document: [] for piece in pieces}
    for piece in pieces:
        documents[piece.place.document] += piece.tokens.tolist()
    return documents, [line for piece in pieces for line in piece.skipped]


def as_csv(rows, end="\n", **options):
    text = io.StringIO()
    out = csv.DictWriter(text, ["text", "id", "group", "count"], lineterminator=end, **options)
    out.writeheader()
    out.writerows(rows)
    return text.getvalue()


def as_jsonl(rows, end="\n", **options):
    return "".join(json.dumps(row, **options) + end for row in rows)


# What the standard library writes is read back, or the row is named.

cells = st.none() | st.text(st.characters(codec="utf-8"), max_size=12)
tables = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none()
            | st.text(st.characters(codec="utf-8"), max_size=14)
            | st.sampled_from([r["text"] for r in ROWS]),
            "group": cells,
            "count": st.none() | st.integers(0, 10**6).map(str),
        }
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@given(
    table=tables,
    named=st.sets(st.integers(0, 5)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    plain=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_table_gives_the_same_paragraphs_or_an_error_that_names_the_row(
    form, table, named, end, mark, plain, tmp_path
):
    rows = [row | {"id": f"name {n}" if n in named else None} for n, row in enumerate(table)]
    quoting = csv.QUOTE_MINIMAL if plain else csv.QUOTE_ALL
    text = as_csv(rows, end, quoting=quoting) if form == "csv" else as_jsonl(rows, end, ensure_ascii=plain)
    path = tmp_path / f"table.{form}"
    path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
    broken = False
    if form == "csv":  # what it says, an empty cell being none; some versions write a foreign line end without quotes
        theirs = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
        broken = any(len(row) != 4 for row in theirs)
        written = [[row[name] or "" for name in ("text", "id", "group", "count")] for row in rows]
        assert theirs == written or (plain and not set("\r\n").isdisjoint("".join(map("".join, written))))
        rows = [
            dict(zip(("text", "id", "group", "count"), (cell or None for cell in row), strict=False)) for row in theirs
        ]
    long = [n for n, row in enumerate(rows) if row.get("text") is not None and len(row["text"]) >= LENGTH]
    if broken:
        assert ": row " in told(path, scanned)
        assert ": row " in told(path)
        return
    if not long:
        assert told(path).endswith(f"at least one of {LENGTH} tokens is needed.")
        return
    found, (documents, skipped) = read(path), scanned(path)
    assert found.texts == tuple(rows[n]["text"] for n in long)
    assert found.tokens.tolist() == [[ord(c) for c in rows[n]["text"][:LENGTH]] for n in long]
    groups = tuple(rows[n]["group"] for n in long)
    assert (found.groups or (None,) * len(long)) == groups
    counts = tuple(None if rows[n]["count"] is None else int(rows[n]["count"]) for n in long)
    assert (found.duplicates or (None,) * len(long)) == counts
    unnamed = "row {}" if any(rows[n]["id"] for n in long) else "{}"
    assert found.ids == tuple(rows[n]["id"] or unnamed.format(n) for n in long)
    assert [line.split(":")[0] for line in found.skipped] == [f"row {n}" for n in range(len(rows)) if n not in long]
    assert documents == {n: [ord(c) for c in row["text"] or ""] for n, row in enumerate(rows)}
    missing = [n for n, row in enumerate(rows) if row["text"] is None]
    assert skipped == [f"{path.name}, document {n}: no text" for n in missing]


@pytest.mark.parametrize(
    "name", ["p.jsonl", "P.JSONL", "p.csv", "p.CSV", "p.jsonl.gz", "p.JSONL.GZ", "p.csv.zst", "p.parquet"]
)
@pytest.mark.parametrize("mark", [True, False], ids=["marked", "unmarked"])
def test_suffix_mark_and_packing_change_nothing(name, mark, tmp_path):
    path = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    else:
        content = (as_csv if "csv" in name.lower() else as_jsonl)(ROWS).encode("utf-8-sig" if mark else "utf-8")
        packed = {".gz": gzip.compress, ".zst": lambda b: pa.compress(b, codec="zstd", asbytes=True)}
        if name.endswith(".zst"):
            with pa.output_stream(str(path), compression="zstd") as out:
                out.write(content)
        else:
            path.write_bytes(packed.get(path.suffix.lower(), bytes)(content))
    found = read(path)
    assert found.texts == tuple(row["text"] for row in ROWS)
    assert (found.ids, found.groups, found.duplicates) == (("x", "y", "z"), ("one", "two", "two"), (3, 4, 5))
    assert scanned(path) == ({n: [ord(c) for c in row["text"]] for n, row in enumerate(ROWS)}, [])
    expected = unigram_counts([row["text"] for row in ROWS], vocab_size=2**17, tokenizer=Characters())
    assert unigram_counts(path, vocab_size=2**17, tokenizer=Characters()).equal(expected)


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.txt.gz", "a.md.zst"])
def test_a_packed_text_has_the_tokens_of_the_plain_one(name, tmp_path):
    content = b"\xef\xbb\xbf" + "the cat\r\nsat — on\n\nthe mat".encode()
    if name.endswith(".zst"):
        with pa.output_stream(str(tmp_path / name), compression="zstd") as out:
            out.write(content)
    else:
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert scanned(tmp_path / name) == ({0: [ord(c) for c in "the cat\r\nsat — on\n\nthe mat"]}, [])


def test_the_kind_of_a_file_is_that_of_what_is_packed():
    names = {
        "a.jsonl.gz": ".jsonl",
        "A.TXT.ZST": ".txt",
        "a.npy": ".npy",
        "a.npy.gz": ".gz",
        "b.parquet.gz": ".gz",
        "gz": "",
        "a.b.csv": ".csv",
    }
    assert {name: kind_of(Path(name)) for name in names} == names


# Strict CSV.


def test_an_unclosed_quote_is_named_and_drops_no_row(tmp_path):
    rows = [f"text number {n},{n}" for n in range(10)]
    rows[3] = '"text number 3,3'
    path = tmp_path / "p.csv"
    path.write_text("text,count\n" + "\n".join(rows) + "\n")
    found = (
        'row 3, which begins on line 5, is no CSV up to line 11 (unexpected end of data); is a quote left open, or not doubled ("") '
        "inside a cell?"
    )
    assert told(path) == f"paragraphs {path}: {found}"
    assert told(path, scanned) == f"corpus {path}: {found}"
    rows[6] = '"text number 6",6'
    path.write_text("text,count\n" + "\n".join(rows) + "\n")
    found = found.replace("line 11 (unexpected end of data)", "line 8 (',' expected after '\"')")
    assert told(path) == f"paragraphs {path}: {found}"
    counted = told(path, lambda path: unigram_counts(path, vocab_size=128, tokenizer=Characters()))
    assert counted == f"corpus {path}: {found}"


@pytest.mark.parametrize(("separator", "words"), [("\t", "tabs"), (";", "';'"), ("|", "'|'")])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_of_another_separator_is_told(separator, words, quoting, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(as_csv(ROWS, delimiter=separator, quoting=quoting), encoding="utf-8-sig")
    assert told(path) == f"paragraphs {path}: its columns are separated by {words}; commas are needed."
    assert scanned(path)[1] == [f"p.csv, document 0: its columns are separated by {words}; commas are needed"]


def test_a_column_that_stands_twice_is_told(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("text,group,text\nabcdefgh,a,ijklmnop\n")
    assert told(path) == f"paragraphs {path}: the column 'text' stands twice; names of columns must differ."
    frame = pd.DataFrame([["abcdefgh", "a", "b"]], columns=["text", "group", "group"])
    assert told(frame) == "paragraphs DataFrame: the column 'group' stands twice; names of columns must differ."


def test_an_index_written_by_pandas_and_spaces_around_names_do_no_harm(tmp_path):
    path = tmp_path / "p.csv"
    pd.DataFrame(ROWS).to_csv(path)
    assert read(path).groups == ("one", "two", "two")
    path.write_text("text, group ,id\nabcdefgh,one,x\n")
    assert read(path).groups == ("one",)


def test_cells_may_hold_nul_and_any_quote(tmp_path):
    path = tmp_path / "p.csv"
    texts = ("nul \0 inside", "say \"hi\", 'you'", '"', '""""" and, more')
    path.write_text(as_csv([{"text": text, "id": n} for n, text in enumerate(texts)]))
    assert read(path).texts == tuple(text for text in texts if len(text) >= LENGTH)


# Damaged files.


@pytest.mark.parametrize("name", ["p.jsonl.gz", "p.csv.gz", "p.jsonl.zst", "p.parquet"])
def test_a_damaged_file_is_told_in_one_line(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(as_jsonl(ROWS * 50).encode())[:-9] if "jsonl.gz" in name else b"no such thing")
    reason = "not a readable Parquet file (" if name == "p.parquet" else "cannot be read ("
    assert told(path).startswith(f"paragraphs {path}: {reason}")
    assert told(path, scanned).startswith(f"corpus {path}: {reason}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "text,id\nabcdefgh,1\nabcdefgh,2,3\nabcdefgh,4\n"),
        ("p.csv", 'text,id\nabcdefgh,1\n"abcdefgh"x,2\nabcdefgh,4\n'),
        ("p.csv", "text,count\nabcdefgh,1\nabcdefgh,many\nabcdefgh,4\n"),
        ("p.jsonl", '{"text": "abcdefgh"}\n{\n{"text": "abcdefgh"}\n'),
        ("p.jsonl", '{"text": "abcdefgh"}\n5\n{"text": "abcdefgh"}\n'),
    ],
)
def test_a_file_is_closed_once_its_error_is_there(name, content, tmp_path, monkeypatch):
    opened, events = module.opened, []

    @contextmanager
    def watched(path, what):
        events.append("opened")
        try:
            with opened(path, what) as file:
                yield file
        finally:
            events.append("closed")

    monkeypatch.setattr(module, "opened", watched)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert events == ["opened", "closed"]
    assert caught.value.__traceback__ is not None  # the frames that could hold the file are still there


def test_records_before_a_start_are_counted_and_not_read(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"text": "a"}\nno JSON\n\n{"text": "b"}\n')
    parquet.write_table(pa.table({"text": list("abcdefg")}), tmp_path / "p.parquet", row_group_size=3)
    (tmp_path / "p.csv").write_text("text\na\nb\nc\n")
    for name, count in (("p.jsonl", 3), ("p.parquet", 7), ("p.csv", 3)):
        whole = list(records(tmp_path / name, "corpus"))
        assert [record.number for record in whole] == list(range(count))
        for start in range(count + 2):
            found = list(records(tmp_path / name, "corpus", start=start))
            assert found[start:] == whole[start:]
            assert [(r.number, r.value, r.problem) for r in found[:start]] == [
                (n, None, "") for n in range(min(start, count))
            ]


def test_a_parquet_file_without_a_text_names_its_columns(tmp_path):
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.table({"words": ["abcdefgh"], "id": [1]}), path)
    found = "no column 'text', 'paragraph', 'content', 'tokens'; it has words, id"
    assert told(path) == f"paragraphs {path}: {found}."
    assert scanned(path) == ({0: []}, [f"p.parquet, document 0: {found}"])


def test_parquet_rows_may_be_tokens(tmp_path):
    path = tmp_path / "p.parquet"
    tokens = np.arange(21).reshape(3, 7).tolist()
    parquet.write_table(pa.table({"tokens": tokens, "count": [1.0, None, 3.0]}), path)
    assert read(path).tokens.tolist() == [row[:LENGTH] for row in tokens]
    assert read(path).duplicates == (1, None, 3)


# Folders.


def test_what_is_hidden_is_no_part_of_a_folder(tmp_path):
    folder = tmp_path / ".kept" / "corpus"  # the folder itself may be
    for name in (
        "a.txt",
        "b/c.TXT",
        "b/d.jsonl.gz",
        ".git/e.txt",
        ".ipynb_checkpoints/a-checkpoint.txt",
        "._a.txt",
        "b/.f.txt",
        "g.bin",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("the same text")
    found = [path.relative_to(folder).as_posix() for path in readable_files(folder, (".txt", ".jsonl"))]
    assert found == ["a.txt", "b/c.TXT", "b/d.jsonl.gz"]
    assert [path.name for path in readable_files(folder, (".txt",), deep=False)] == ["a.txt"]


# Tables in memory.


def test_a_data_frame_is_read_by_its_rows_and_its_index_is_no_part_of_it(tokenizer):
    frame = pd.DataFrame(
        {"text": ["abcdefgh", None, "abcdefgj"], "group": [1, None, 2], "count": [1, None, 3], "id": [7, 8, 9]},
        index=[2, 1, 0],
    )
    found = read(frame)
    assert (found.texts, found.groups, found.duplicates) == (("abcdefgh", "abcdefgj"), ("1", "2"), (1, 3))
    assert (found.ids, found.skipped, found.source) == (("7", "9"), ("row 1: no text",), "DataFrame")
    assert scanned(frame) == (
        {0: [ord(c) for c in "abcdefgh"], 1: [], 2: [ord(c) for c in "abcdefgj"]},
        ["document 1: no text"],
    )
    assert unigram_counts(frame, vocab_size=128, tokenizer=Characters()).sum() == 16
    assert read(frame["text"]).texts == ("abcdefgh", "abcdefgj")
    assert read(frame["text"]).skipped == ("row 1: no text",)
    assert read(frame["text"].dropna()).ids == ("0", "1")


def test_a_dict_of_columns_is_read_by_its_rows():
    columns = {"text": np.array(["abcdefgh", "abcdefgi"]), "group": ["a", None], "count": (1, 2)}
    found = read(columns)
    assert (found.texts, found.groups, found.duplicates) == (("abcdefgh", "abcdefgi"), ("a", None), (1, 2))
    assert read({"tokens": np.arange(12).reshape(2, 6)}).tokens.tolist() == np.arange(12).reshape(2, 6).tolist()
    assert (
        told({"text": ["a", "b"], "group": ["x"]})
        == "paragraphs dict: columns of one length are needed; there are 2 text, 1 group."
    )
    assert (
        told({"text": "abcdefgh"})
        == "paragraphs dict: one mapping is no set of rows; a list of them, or a dict of columns, is needed."
    )


def test_of_several_splits_one_is_asked_for():
    from datasets import Dataset, DatasetDict

    split = Dataset.from_dict({"text": ["abcdefgh"]})
    assert (
        told(DatasetDict(train=split, test=split))
        == "paragraphs DatasetDict: one of its splits is needed: train, test."
    )
    assert read(split).texts == ("abcdefgh",)


def test_whatever_is_no_table_is_itself():
    for source in ([1], "a", np.zeros(3), Paragraphs):
        assert rows_of(source, "corpus") is source
