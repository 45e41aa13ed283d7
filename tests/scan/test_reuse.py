"""Nothing that is stored is used again if anything that it depends on has changed; if nothing has, everything is."""

import json
import os
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import localize as lz
from localize.errors import InputError, LocalizeError
from localize.models.hooks import HookedModel
from localize.scan import claim as claiming
from localize.scan import corpus as reading
from localize.scan import scan as module
from localize.train.texts import train_tokenizer

WORDS = ["the cat sat on the mat", "and the dog sat on the log", "nobody saw them leave the mat", "the log sat still"]
TEXTS = [" ".join([*WORDS[row:], *WORDS[:row]] * 3) for row in range(4)]


@pytest.fixture
def calls(monkeypatch):
    """The model's calls, a line each."""
    told, states = [], HookedModel.final_states

    def counted(model, tokens, **options):
        told.append(tuple(tokens.shape))
        return states(model, tokens, **options)

    monkeypatch.setattr(HookedModel, "final_states", counted)
    return told


@pytest.fixture
def reader(make_reciter, tokenizer):
    """A model with a tokenizer that recites some of the texts: after each token it says what follows it there, else the next number."""
    following = [*range(1, 280), 0]
    for text in [*TEXTS, *(text.upper() for text in TEXTS)]:
        tokens = tokenizer(text)["input_ids"]
        for before, after in pairwise(tokens):
            following[before] = after
    return make_reciter(following, tokenizer)


@pytest.fixture
def options(asked):
    """Everything below a small threshold is kept, so that there is something to give back."""
    return asked | {"threshold": 1, "matched": True}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def corpora(folder):
    """The same texts in every form of a corpus, made anew by each call."""
    rows = [{"text": text, "source": "a"} for text in TEXTS]
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "a.txt").write_text(TEXTS[0])
    write_lines(folder / "texts" / "b.jsonl", rows)
    np.save(folder / "texts" / "c.npy", np.arange(280).reshape(4, 70))
    return {
        "file": folder / "texts" / "a.txt",
        "folder": folder / "texts",
        "texts": list(TEXTS),
        "records": rows,
        "tokens": [list(range(start, start + 60)) for start in range(3)],
        "array": np.arange(240).reshape(4, 60) % 97,
        "dataset": Dataset.from_list(rows),
        "stream": load_dataset("json", data_files=str(folder / "texts" / "b.jsonl"), split="train", streaming=True),
        "mapped": Dataset.from_list(rows).to_iterable_dataset().map(lambda row: {"text": row["text"].upper()}),
    }


FORMS = ("file", "folder", "texts", "records", "tokens", "array", "dataset", "stream", "mapped")


@pytest.mark.parametrize("form", FORMS)
def test_where_nothing_has_changed_all_is_used_again(form, reader, options, tmp_path, calls):
    found = lz.scan_corpus(reader, corpora(tmp_path / "one")[form], tmp_path / "out", **options)
    files = {
        path: path.read_bytes()
        for path in (tmp_path / "out").rglob("*.*")
        if path.name not in ("scan.json", "command.json")
    }
    assert len(files) > 5
    assert len(found.table) > 0
    assert len(calls) > 0
    calls.clear()
    os.utime(tmp_path / "one" / "texts" / "a.txt", (0, 0))  # a time that tells nothing
    again = lz.scan_corpus(reader, corpora(tmp_path / "two")[form], tmp_path / "out", **options)
    assert calls == []
    assert again.table.equals(found.table)
    assert {path: path.read_bytes() for path in files} == files
    assert again.summary | {"corpus": ""} == found.summary | {"corpus": ""}  # its folder, which is free


def with_weight(model):
    with torch.no_grad():
        model.hf.transformer.h[0].mlp.c_fc.weight[0, 0] += 1e-9
    return model


def with_config(model):
    model.hf.transformer.ln_f.eps = 1e-4
    return model


def with_tokenizer(model):
    """Of the same ids, and equally many for each word here; only the rare words differ."""
    model.tokenizer = train_tokenizer([" ".join(WORDS), "zebras quarrel"] * 5, 280)
    return model


MODELS = {
    "weights_hash": with_weight,
    "weights_hash ": with_config,
    "dtype": lambda model: lz.load_model(model.hf.float(), tokenizer=model.tokenizer),
    "tokenizer": with_tokenizer,
}


@pytest.mark.parametrize("key", MODELS)
def test_another_model_gets_nothing_of_the_first(key, reader, options, tmp_path, calls):
    corpus, out = [{"tokens": list(range(60))}], tmp_path / "out"
    lz.scan_corpus(reader, corpus, out, **options)
    calls.clear()
    with pytest.raises(LocalizeError) as error:
        lz.scan_corpus(MODELS[key](reader), corpus, out, **options)
    first = "weights_hash" if key == "dtype" else key.strip()  # other bytes, too
    assert re.fullmatch(
        rf"scan {out}: holds results of localize scan with {first} = .+, and .+ is asked for; choose another --out, or "
        r"--overwrite replaces it\.",
        str(error.value),
    )
    assert calls == []


def test_weights_of_equal_bytes_in_another_dtype_are_another_model(reader, options, tmp_path, monkeypatch):
    monkeypatch.setattr(HookedModel, "weights_hash", lambda model: "same")
    lz.scan_corpus(reader, [list(range(60))], tmp_path / "out", **options)
    with pytest.raises(
        LocalizeError,
        match=r'holds results of localize scan with dtype = "torch.float64", and "torch.float32" is asked for',
    ):
        lz.scan_corpus(MODELS["dtype"](reader), [list(range(60))], tmp_path / "out", **options)


CHANGES = {
    "prefix": {"prefix_length": 11, "continuation_length": 9},
    "continuation": {"continuation_length": 9},
    "stride": {"stride": 7},
    "threshold": {"threshold": 2},
    "min_distinct": {"min_distinct": 0.1},
    "max_repeated": {"max_repeated": 0.9},
    "keywords": {"keywords": ("cat",)},
    "matched": {"matched": False},
    "count": {"count": False},
    "text_field": {"text_field": "text"},
}


@pytest.mark.parametrize("key", CHANGES)
def test_another_option_gets_nothing_of_the_first(key, reader, options, tmp_path, calls):
    rows, out = [{"text": text} for text in TEXTS], tmp_path / "out"
    lz.scan_corpus(reader, rows, out, **options)
    calls.clear()
    with pytest.raises(LocalizeError, match=f"holds results of localize scan with {key} = "):
        lz.scan_corpus(reader, rows, out, **(options | CHANGES[key]))
    assert calls == []


def test_every_option_is_held_to():
    from inspect import signature

    free = {"model", "corpus", "out", "batch_size", "overwrite", "command"}
    names = {name.removesuffix("_length") for name in signature(lz.scan_corpus).parameters} - free
    assert names == set(CHANGES)


def test_the_batch_size_is_free(reader, options, tmp_path, calls):
    lz.scan_corpus(reader, TEXTS, tmp_path / "out", **options)
    calls.clear()
    lz.scan_corpus(reader, TEXTS, tmp_path / "out", **(options | {"batch_size": 3}))
    assert calls == []


OTHER = [text.replace("cat", "dog") for text in TEXTS]
ROWS = [{"text": text, "other": other, "source": "a"} for text, other in zip(TEXTS, OTHER, strict=True)]


class Twice:
    """A stream: it can be started again, and has no length."""

    def __init__(self, rows, split="train"):
        self.rows, self.split = rows, split

    def __iter__(self):
        return iter(self.rows)


PAIRS = {
    "a list of as many texts": (TEXTS, OTHER, r"corpus\.content"),
    "a list in another order": (TEXTS, TEXTS[::-1], r"corpus\.content"),
    "another source": (ROWS, [row | {"source": "b"} for row in ROWS], r"corpus\.content"),
    "a text that is divided elsewhere": (["".join(TEXTS[:2]), TEXTS[2]], [TEXTS[0], "".join(TEXTS[1:3])], r"corpus\.content"),
    "an array of the same shape": (np.arange(60) % 50, (np.arange(60) + 1) % 50, r"corpus\.content"),
    "an array of another shape": (np.arange(120) % 50, np.arange(120).reshape(2, 60) % 50, r"corpus\.content"),
    "a list instead of an array": (np.arange(60) % 50, [(np.arange(60) % 50).tolist()], r"corpus\.type"),
    "a dataset of as many rows": (Dataset.from_list(ROWS[:3]), Dataset.from_list(ROWS[1:]), r"corpus\.content"),
    "another split": (Twice(ROWS), Twice(ROWS, "test"), r"corpus\.split"),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_another_corpus_gets_nothing_of_the_first(pair, reader, options, tmp_path, calls):
    first, second, key = PAIRS[pair]
    lz.scan_corpus(reader, first, tmp_path / "out", **options)
    calls.clear()
    with pytest.raises(LocalizeError, match=f"holds results of localize scan with {key} = "):
        lz.scan_corpus(reader, second, tmp_path / "out", **options)
    assert calls == []


def test_files_of_the_same_name_size_and_time_are_told_apart(reader, options, tmp_path, calls):
    folder = tmp_path / "texts"
    (folder / "x").mkdir(parents=True)
    (folder / "x" / "a.txt").write_text(TEXTS[0])
    os.utime(folder / "x" / "a.txt", (1, 1))
    lz.scan_corpus(reader, folder, tmp_path / "out", **options)
    calls.clear()
    (folder / "x" / "a.txt").write_text(TEXTS[0].replace("cat", "dog"))
    os.utime(folder / "x" / "a.txt", (1, 1))
    with pytest.raises(LocalizeError, match=r"holds results of localize scan with corpus\.files\.x/a\.txt = "):
        lz.scan_corpus(reader, folder, tmp_path / "out", **options)
    assert calls == []


def test_a_file_that_moves_to_another_folder_or_a_new_one_is_another_corpus(reader, options, tmp_path):
    folder = tmp_path / "texts"
    for name in ("x", "y"):
        (folder / name).mkdir(parents=True)
    (folder / "x" / "a.txt").write_text(TEXTS[0])
    lz.scan_corpus(reader, folder, tmp_path / "out", **options)
    (folder / "y" / "a.txt").write_text(TEXTS[1])
    with pytest.raises(LocalizeError, match=r"corpus\.files\.y/a\.txt = null, and "):
        lz.scan_corpus(reader, folder, tmp_path / "out", **options)
    (folder / "x" / "a.txt").unlink()
    (folder / "y" / "a.txt").write_text(TEXTS[0])
    with pytest.raises(LocalizeError, match=r"corpus\.files\.y/a\.txt = null, and "):
        lz.scan_corpus(reader, folder, tmp_path / "out", **options)


def test_a_stream_of_another_content_is_refused_where_it_differs(reader, options, tmp_path, calls):
    lz.scan_corpus(reader, Twice(TEXTS), tmp_path / "out", **options)
    calls.clear()
    needed = "than when it was read before; a corpus that stays the same, in order too, is needed (shuffle with a seed), or another --out."
    for rows, how in (
        (OTHER, "its first 4 documents are others"),
        (TEXTS[:3], "it ends after 3 of 4 documents"),
        ([*TEXTS, TEXTS[0]], "it goes on after 4 documents"),
        (TEXTS[::-1], "its first 4 documents are others"),
        ([{"text": text, "source": "b"} for text in TEXTS], "its first 4 documents are others"),
    ):
        with pytest.raises(InputError) as error:
            lz.scan_corpus(reader, Twice(rows), tmp_path / "out", **options)
        assert str(error.value) == f"corpus Twice: {how} {needed}"
    assert calls == []


def test_a_dataset_that_is_streamed_tells_its_name_and_split(reader, options, tmp_path, calls):
    (tmp_path / "texts").mkdir()
    for name in ("train", "test"):
        write_lines(tmp_path / "texts" / f"{name}.jsonl", ROWS)
    train, test = (load_dataset(str(tmp_path / "texts"), split=name, streaming=True) for name in ("train", "test"))
    lz.scan_corpus(reader, train, tmp_path / "out", **options)
    asked = json.loads((tmp_path / "out" / "command.json").read_text())["asked"]["corpus"]
    assert asked == {
        "type": "IterableDataset", "builder_name": "json", "dataset_name": "texts", "config_name": "default", "version": "0.0.0",
        "split": "train",
    }  # fmt: skip
    calls.clear()
    with pytest.raises(
        LocalizeError, match=r'holds results of localize scan with corpus\.split = "train", and "test" is asked for'
    ):
        lz.scan_corpus(reader, test, tmp_path / "out", **options)
    with pytest.raises(LocalizeError, match="holds results of localize scan with text_field = null"):
        lz.scan_corpus(reader, train, tmp_path / "out", **options, text_field="other")
    assert calls == []


class Stopped(Exception):
    """Somebody pulled the plug."""


def stopped_after(parts, monkeypatch, *arguments, **options):
    """A scan that is stopped when so many parts are finished."""
    measured = module._Scan._measured

    def until(scan, unit):
        if len(scan.windows) == parts:
            raise Stopped
        return measured(scan, unit)

    with monkeypatch.context() as patch:
        patch.setattr(module._Scan, "_measured", until)
        with pytest.raises(Stopped):
            lz.scan_corpus(*arguments, **options)


@pytest.mark.parametrize("piece", [7, 2**18])
def test_a_stream_goes_on_only_if_what_it_has_read_is_the_same(piece, neo, options, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(module, "UNIT", 6)
    monkeypatch.setattr(reading, "TOKEN_PIECE", piece)
    rows = [np.random.default_rng(seed).integers(0, 97, 60).tolist() for seed in range(5)]
    calm = lz.scan_corpus(neo, Twice(rows), tmp_path / "calm", **options)
    whole = len(calls)
    calls.clear()
    stopped_after(2, monkeypatch, neo, Twice(rows), tmp_path / "out", **options)
    for place in range(2):  # documents of finished parts
        other = [*rows[:place], [*rows[place][:30], rows[place][30] ^ 1, *rows[place][31:]], *rows[place + 1 :]]
        before = len(calls)
        with pytest.raises(InputError, match=r"corpus Twice: its first \d documents are others than"):
            lz.scan_corpus(neo, Twice(other), tmp_path / "out", **options)
        assert len(calls) == before
    with pytest.raises(InputError, match="corpus Twice: it ends after 0 of"):
        lz.scan_corpus(neo, Twice([]), tmp_path / "out", **options)
    found = lz.scan_corpus(neo, Twice(rows), tmp_path / "out", **options)
    assert found.table.equals(calm.table)
    assert len(calls) == whole  # what was finished was not done again


def test_a_stream_that_is_another_at_the_second_reading_is_told(neo, options, tmp_path):
    class Shuffled(Twice):
        def __iter__(self):
            self.rows = self.rows[1:] + self.rows[:1]
            return iter(self.rows)

    rows = [np.random.default_rng(seed).integers(0, 97, 60).tolist() for seed in range(5)]
    with pytest.raises(InputError, match="corpus Shuffled: its first 5 documents are others than"):
        lz.scan_corpus(neo, Shuffled(rows), tmp_path / "out", **options)


def test_a_file_that_changes_while_it_is_scanned_is_told(neo, corpus, options, tmp_path, monkeypatch):
    np.save(tmp_path / "c.npy", corpus)
    decode = module._Scan.decode

    def meanwhile(scan):
        decode(scan)
        np.save(tmp_path / "c.npy", corpus[:-1])

    monkeypatch.setattr(module._Scan, "decode", meanwhile)
    with pytest.raises(InputError) as error:
        lz.scan_corpus(neo, tmp_path / "c.npy", tmp_path / "out", **options)
    path = tmp_path / "c.npy"
    assert (
        str(error.value) == f"corpus {path}: c.npy was changed while it was scanned; scan it again with another --out."
    )


def test_parts_of_other_code_are_not_used(neo, corpus, options, tmp_path, monkeypatch, calls):
    lz.scan_corpus(neo, corpus, tmp_path / "out", **options)
    monkeypatch.setattr(claiming, "code_hash", lambda module: f"another {module}")
    calls.clear()
    with pytest.raises(
        LocalizeError, match=r'holds results of localize scan with code = ".+, and "another localize\.scan\.scan"'
    ):
        lz.scan_corpus(neo, corpus, tmp_path / "out", **options)
    assert calls == []


def test_what_may_be_replaced_is_found_anew(neo, corpus, options, tmp_path, calls):
    lz.scan_corpus(neo, corpus, tmp_path / "out", **options)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    calls.clear()
    other = options | {"threshold": 4}
    again = lz.scan_corpus(neo, corpus, tmp_path / "out", **other, overwrite=True)
    assert calls != []
    assert again.table.equals(lz.scan_corpus(neo, corpus, tmp_path / "another", **other).table)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("told", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_told_and_nothing_is_used(told, neo, corpus, options, tmp_path, calls):
    lz.scan_corpus(neo, corpus, tmp_path / "out", **options)
    path = tmp_path / "out" / "command.json"
    path.write_text(told)
    calls.clear()
    with pytest.raises(LocalizeError) as error:
        lz.scan_corpus(neo, corpus, tmp_path / "out", **options)
    assert str(tmp_path / "out") in str(error.value)
    assert "\n" not in str(error.value)
    assert calls == []


DOCUMENTS = st.lists(st.lists(st.integers(0, 96), min_size=20, max_size=40), min_size=1, max_size=4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=DOCUMENTS, data=st.data(), streamed=st.booleans())
def test_one_changed_token_anywhere_and_nothing_is_used_again(
    documents, data, streamed, counter, tmp_path_factory, asked, calls
):
    out, given_as = tmp_path_factory.mktemp("scan") / "out", Twice if streamed else list
    lz.scan_corpus(counter, given_as(documents), out, **asked)
    calls.clear()
    lz.scan_corpus(counter, given_as(documents), out, **asked)
    assert calls == []
    row = data.draw(st.integers(0, len(documents) - 1))
    place = data.draw(st.integers(0, len(documents[row]) - 1))
    other = [list(document) for document in documents]
    other[row][place] = (other[row][place] + 1) % 97
    with pytest.raises(LocalizeError):
        lz.scan_corpus(counter, given_as(other), out, **asked)
    assert calls == []
