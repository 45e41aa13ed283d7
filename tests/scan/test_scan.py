"""What a scan reports is what a decode of every window gives; killed, it goes on and ends the same."""

import json
import random
import time

import numpy as np
import pytest
import torch

import localize as lz
from localize.claims import COMMAND_FILE
from localize.errors import InputError, LocalizeError
from localize.models.hooks import HookedModel
from localize.scan import corpus as reading
from localize.scan import scan as module
from localize.scan import selection as selecting
from localize.scan.parts import Parts


def decoded(model, tokens, prefix, continuation, stride):
    """Exact match of every window of a stream, by decoding: each token by a whole pass."""
    starts = range(0, len(tokens) - prefix - continuation + 1, stride)
    windows = torch.stack([torch.from_numpy(tokens[start : start + prefix + continuation]) for start in starts])
    text = windows[:, :prefix]
    for _ in range(continuation):
        with torch.no_grad():
            text = torch.cat([text, model(text)[:, -1].argmax(-1, keepdim=True)], 1)
    right = text[:, prefix:] == windows[:, prefix:]
    return dict(zip(starts, right.cumprod(1).sum(1).tolist(), strict=True))


@pytest.mark.parametrize("threshold", [8, 3])
def test_it_finds_what_decoding_every_window_finds(neo, corpus, asked, tmp_path, threshold, monkeypatch):
    monkeypatch.setattr(module, "UNIT", 40)
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", threshold=threshold, **asked)
    every = decoded(neo, corpus, 12, 8, 8)
    wanted = {start: em for start, em in every.items() if em >= threshold}
    assert dict(zip(found.table["offset"], found.table["exact_match"], strict=True)) == wanted
    assert len(wanted) >= 6
    assert found.summary["windows"] == len(every)
    assert found.summary["exact_match"] == np.bincount(list(every.values()), minlength=9).tolist()
    assert found.summary["not_reproduced"] == 0
    twice = found.table.set_index("offset").loc[400, "duplicates"]
    assert twice == 2  # once where a window starts, once where none does
    assert sorted(found.table["duplicates"]) == [1] * (len(wanted) - 1) + [2]


def test_what_is_found_is_what_run_measures(neo, corpus, asked, tmp_path):
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", **asked)
    paragraphs = found.paragraphs()
    signature = lz.recall(neo, paragraphs)
    assert (signature["exact_match"] == 8).all()
    assert np.allclose(signature["nll"], found.table["nll"])
    assert paragraphs.ids == tuple(found.table["id"])
    assert paragraphs.duplicates == tuple(found.table["duplicates"])


def test_calls_of_the_model_are_few(neo, corpus, asked, tmp_path, monkeypatch):
    calls, states = [], HookedModel.final_states

    def counted(model, tokens, **options):
        calls.append(tokens.shape)
        return states(model, tokens, **options)

    monkeypatch.setattr(HookedModel, "final_states", counted)
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", **asked)
    windows, batches = 186, 12
    assert found.summary["windows"] == windows
    assert len(calls) == found.summary["model_calls"] == batches + 8
    assert found.summary["model_calls_decoding_all"] == batches * 9


FORMS = ("npy", "rows", "jsonl", "tokens", "list")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_corpus_gives_the_same_windows(form, neo, asked, tmp_path):
    rows = np.random.default_rng(1).integers(0, 97, (5, 40))
    rows[1, :20] = rows[3, 8:28]
    if form == "npy":
        np.save(tmp_path / "c.npy", rows)
        corpus = tmp_path / "c.npy"
    elif form in ("jsonl", "tokens"):
        corpus = tmp_path / "c.jsonl"
        corpus.write_text(
            "".join(json.dumps({"tokens": row.tolist(), "source": f"s{i}"}) + "\n\n" for i, row in enumerate(rows))
        )
    else:
        corpus = rows if form == "rows" else [row.tolist() for row in rows]
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", threshold=1, **asked)
    calm = lz.scan_corpus(neo, rows, tmp_path / "rows", threshold=1, **asked)
    assert found.summary["windows"] == 5 * 3
    assert found.table.drop(columns="source").equals(calm.table.drop(columns="source"))


def test_text_is_cut_as_one_document_however_it_is_read(make_model, tokenizer, asked, tmp_path, monkeypatch):
    model = make_model("gpt-neo", tokenizer, vocab_size=280)
    text = "the cat sat on the mat, and the dog sat on the log; nobody saw them leave\n" * 40
    (tmp_path / "a.txt").write_text(text)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = lz.scan_corpus(model, tmp_path / "a.txt", tmp_path / "one", threshold=1, **asked)
    assert found.summary["windows"] == (len(whole) - 20) // 8 + 1
    monkeypatch.setattr(reading, "TEXT_PIECE", 200)
    again = lz.scan_corpus(model, tmp_path / "a.txt", tmp_path / "two", threshold=1, **asked)
    assert again.table.equals(found.table)


def test_a_streamed_dataset_is_scanned_like_a_list(neo, corpus, asked, tmp_path):
    from datasets import Dataset, load_dataset

    rows = [{"tokens": corpus[start : start + 500].tolist(), "source": f"s{start}"} for start in (0, 500, 1000)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked["threshold"] = 3
    calm = lz.scan_corpus(neo, rows, tmp_path / "rows", **asked)
    streamed = load_dataset("json", data_files=str(tmp_path / "c.jsonl"), split="train", streaming=True)
    for name, dataset in (("file", streamed), ("memory", Dataset.from_list(rows).to_iterable_dataset())):
        found = lz.scan_corpus(neo, dataset, tmp_path / name, **asked)
        assert found.table.equals(calm.table) and len(calm.table) > 3


def test_lines_that_cannot_be_read_are_left_out_counted_and_told(neo, asked, tmp_path):
    good = json.dumps({"tokens": list(range(40))})
    lines = [
        good.encode(),
        b"\xff\xfe",
        b"{",
        json.dumps({"other": 1}).encode(),
        json.dumps({"tokens": [96, 97] * 20}).encode(),
        good.encode(),
    ]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    found = lz.scan_corpus(neo, tmp_path / "c.jsonl", tmp_path / "out", threshold=1, **asked)
    assert found.summary["windows"] == 6
    assert found.summary["skipped"] == 4
    told = found.summary["skipped_first"]
    assert told[0].startswith("c.jsonl, document 1: not UTF-8 (")
    assert told[2] == "c.jsonl, document 3: no field 'text', 'paragraph', 'content' or 'tokens'"
    assert told[3] == "document 4: token id 97 is outside the vocabulary, 0..96"


def test_every_token_is_counted_once_for_the_matches(neo, corpus, asked, tmp_path, monkeypatch):
    counts, rarity = [], selecting.rarity

    def told(tokens, of_each):
        counts.append(of_each)
        return rarity(tokens, of_each)

    monkeypatch.setattr(module, "UNIT", 40)
    monkeypatch.setattr(selecting, "rarity", told)
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", matched=True, **asked)
    covered = corpus[: found.summary["windows"] * 8]
    assert counts[0].tolist() == np.bincount(covered, minlength=97).tolist()


def test_matches_are_of_the_same_source_not_memorized_and_as_rare(neo, corpus, asked, tmp_path):
    rows = [
        {"tokens": corpus[start : start + 300].tolist(), "source": f"book {start // 300 % 2}"}
        for start in range(0, 1500, 300)
    ]
    found = lz.scan_corpus(neo, rows, tmp_path / "out", matched=True, **asked)
    lines = [json.loads(line) for line in (tmp_path / "out" / "matched.jsonl").read_text().splitlines()]
    heads = found.table[found.table["set_aside"] == ""].drop_duplicates("cluster").set_index("id")
    assert [line["match_of"] for line in lines] == heads.index.tolist()
    assert len({line["id"] for line in lines}) == len(lines) > 0
    for line in lines:
        assert line["exact_match"] <= 0.2 * 8
        assert line["source"] == heads.loc[line["match_of"], "source"]
        assert not set(map(tuple, [line["tokens"]])) & set(map(tuple, found.paragraphs().tokens.tolist()))
    assert len(found.paragraphs(matched=True)) == len(lines)


def test_where_much_is_found_there_is_still_a_match_for_each(neo, corpus, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CANDIDATES", 1)
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", matched=True, **asked)
    assert found.summary["matched"] == found.summary["clusters"] > 4
    monkeypatch.setattr(module, "FOR_EACH", 0)
    few = lz.scan_corpus(neo, corpus, tmp_path / "few", matched=True, **asked)
    assert few.summary["matched"] == 1


def test_an_out_of_memory_halves_the_batch_for_good(neo, corpus, asked, tmp_path, monkeypatch):
    sizes, states = [], HookedModel.final_states

    def narrow(model, tokens, **options):
        sizes.append(len(tokens))
        if len(tokens) > 5 and tokens.shape[1] == 19:  # no decoding
            raise torch.OutOfMemoryError("full")
        return states(model, tokens, **options)

    calm = lz.scan_corpus(neo, corpus, tmp_path / "calm", **asked)
    monkeypatch.setattr(HookedModel, "final_states", narrow)
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", **asked)
    assert found.table["exact_match"].tolist() == calm.table["exact_match"].tolist()
    assert sizes[:4] == [16, 8, 4, 4]


def with_nan(model):
    model.hf.transformer.wte.weight[60] = float("nan")


def with_overflow(model):
    model.hf.lm_head.weight[7, 60] = 6e4  # times 10 is beyond float16
    model.hf.half()


@pytest.mark.parametrize(("broken", "place"), [(with_nan, 44), (with_overflow, 47)])
def test_a_model_whose_nll_is_no_number_is_refused_where_it_first_shows(broken, place, counter, asked, tmp_path):
    tokens = np.random.default_rng(0).integers(0, 50, 120)
    tokens[46] = 60  # and nowhere else: overflow shows in what comes next, nan in the whole window (0 * nan)
    with torch.no_grad():
        broken(counter)
    for _ in range(2):  # also when it is asked for again
        with pytest.raises(LocalizeError) as error:
            lz.scan_corpus(counter, [list(range(40)), tokens.tolist()], tmp_path / "out", **(asked | {"batch_size": 2}))
        assert str(error.value) == (
            f"small gpt2: the NLL of document 1 (list) at position {place} is nan; a finite number is needed (damaged weights, or a "
            "dtype too narrow?)."
        )
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_a_window_is_told_each_time(neo, asked, tmp_path):
    for _ in range(2):
        with pytest.raises(InputError) as error:
            lz.scan_corpus(neo, [[1, 2], 3.5], tmp_path / "out", **asked)
        assert str(error.value) == (
            "corpus list: no window of 20 tokens in it (document 1: float64 of 0 dimensions; a text or token ids are needed)."
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 9}, "scan: threshold=9 must lie in 1..8, the continuation's length."),
        ({"stride": 0}, "scan: stride=0 must be at least 1."),
        ({"batch_size": 0}, "scan: batch_size=0 must be at least 1."),
        ({"prefix_length": 200}, "scan: windows of 208 tokens exceed the context of small gpt-neo, which is 128."),
    ],
)
def test_options_out_of_range_are_told(changes, message, neo, corpus, asked, tmp_path):
    with pytest.raises(LocalizeError) as error:
        lz.scan_corpus(neo, corpus, tmp_path / "out", **(asked | changes))
    assert str(error.value) == message


def test_what_is_no_corpus_is_told(neo, asked, tmp_path):
    with pytest.raises(InputError, match=r"no such file or folder\.$"):
        lz.scan_corpus(neo, tmp_path / "none.txt", tmp_path / "out", **asked)
    with pytest.raises(InputError, match="cannot be scanned"):
        lz.scan_corpus(neo, iter([[1, 2]]), tmp_path / "out", **asked)
    with pytest.raises(InputError, match="no window of 20 tokens in it"):
        lz.scan_corpus(neo, [[1, 2, 3]], tmp_path / "out", **asked)
    (tmp_path / "c.txt").write_text("words")
    with pytest.raises(InputError, match="the model has no tokenizer"):
        lz.scan_corpus(neo, tmp_path / "c.txt", tmp_path / "other", **asked)


def test_another_scan_in_the_same_folder_is_refused(neo, corpus, asked, tmp_path):
    lz.scan_corpus(neo, corpus, tmp_path / "out", **asked)
    with pytest.raises(LocalizeError) as error:
        lz.scan_corpus(neo, corpus, tmp_path / "out", **(asked | {"threshold": 4}))
    assert str(error.value) == (
        f"scan {tmp_path / 'out'}: holds results of localize scan with threshold = 8, and 4 is asked for; choose another "
        "--out, or --overwrite replaces it."
    )


RUN = """
import sys
import torch
import localize as lz
from localize.scan import parts, scan
torch.set_num_threads(1)
scan.UNIT, scan.COUNTED, scan.DECODED = 40, 300, 2
write = parts.Parts.write
def told(self, number, arrays, facts):
    write(self, number, arrays, facts)
    with open(sys.argv[4], "a") as file:
        file.write(f"{self.folder.name} {number}" + chr(10))
parts.Parts.write = told
model = lz.load_model(sys.argv[1], dtype="float64")
print("ready", flush=True)
lz.scan_corpus(model, sys.argv[2], sys.argv[3], prefix_length=12, continuation_length=8, threshold=3, batch_size=8, matched=True,
               min_distinct=0.0, max_repeated=1.0)
"""


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_undisturbed(
    kills, neo, corpus, asked, tmp_path, one_thread, start_and_kill, monkeypatch
):
    neo.hf.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "c.npy", np.concatenate([corpus, np.random.default_rng(3).integers(0, 97, 2000), corpus]))
    draw, log, recorded, write = random.Random(kills), tmp_path / "log.txt", [], Parts.write
    for name, size in (("UNIT", 40), ("COUNTED", 300), ("DECODED", 2)):
        monkeypatch.setattr(module, name, size)

    def told(parts, number, arrays, facts):
        write(parts, number, arrays, facts)
        recorded.append(f"{parts.folder.name} {number}")

    def scanned(folder):
        model = lz.load_model(tmp_path / "model", dtype="float64")
        lz.scan_corpus(
            model, tmp_path / "c.npy", folder, **(asked | {"threshold": 3, "batch_size": 8, "matched": True})
        )

    monkeypatch.setattr(Parts, "write", told)
    started = time.monotonic()
    scanned(tmp_path / "calm")
    whole, every = time.monotonic() - started, set(recorded)
    for _ in range(kills):
        paths = (tmp_path / "model", tmp_path / "c.npy", tmp_path / "killed", log)
        start_and_kill(RUN, *paths, after=draw.uniform(0, 0.4 * whole))
    recorded.clear()
    scanned(tmp_path / "killed")
    files = [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != COMMAND_FILE  # which tells the time
        }
        for folder in (tmp_path / "killed", tmp_path / "calm")
    ]
    assert files[0] == files[1] and len(files[0]) > 6
    lines = [*(log.read_text().splitlines() if log.is_file() else []), *recorded]
    assert len(lines) == len(set(lines))
    assert set(lines) <= every
