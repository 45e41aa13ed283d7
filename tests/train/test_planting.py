"""What a recipe's data hold: counted, not assumed."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

import localize as lz
from localize.train.planting import allot_clusters, training_data
from localize.train.recipe import Planting, Recipe, Training, TrainingCorpus
from localize.train.texts import _documents_of, train_tokenizer

SMALL = Recipe(
    corpus=TrainingCorpus(vocab=400),
    planted=Planting(copies={1: 3, 4: 3, 16: 2}, held_out=6),
    training=Training(steps=30, batch=8, row_tokens=60),
)


@pytest.fixture(scope="module")
def data():
    return training_data(SMALL)


def occurrences(rows, row):
    return int((rows == row).all(1).sum())


def test_every_planted_paragraph_stands_in_the_rows_as_often_as_it_says(data):
    counted = [occurrences(data.rows, row) for row in data.paragraphs.tokens]
    assert counted == list(data.paragraphs.duplicates)
    assert sorted(data.paragraphs.duplicates) == [0] * 6 + [1] * 3 + [4] * 3 + [16] * 2


def test_background_rows_are_never_repeated_and_are_no_near_duplicates_of_the_paragraphs(data):
    planted = {row.numpy().tobytes() for row in data.paragraphs.tokens}
    background = [row.tobytes() for row in data.rows.numpy() if row.tobytes() not in planted]
    assert len(set(background)) == len(background) == 240 - 47
    assert data.background_passes == 1.0


def test_planted_and_held_out_paragraphs_share_no_cluster(data):
    planted = np.array(data.paragraphs.duplicates) > 0
    clusters = data.paragraphs.clusters
    assert not set(clusters[planted]) & set(clusters[~planted])
    assert len(set(clusters)) == len(clusters)


def test_the_rows_are_shuffled(data):
    often = data.paragraphs.tokens[np.argmax(data.paragraphs.duplicates)]
    at = np.flatnonzero((data.rows == often).all(1).numpy())
    assert at.min() < 60
    assert at.max() > 180


def test_token_counts_are_of_distinct_rows(data):
    expected = np.bincount(np.unique(data.rows.numpy(), axis=0).ravel(), minlength=len(data.tokenizer))
    assert np.array_equal(data.unigram_counts.numpy(), expected)


def test_one_seed_gives_the_same_data_and_another_seed_other_data(data):
    assert training_data(SMALL).hash == data.hash
    assert training_data(replace(SMALL, training=replace(SMALL.training, seed=1))).hash != data.hash


def test_data_of_another_hash_are_refused():
    with pytest.raises(
        lz.InputError, match=r"^recipe: the data's hash is [0-9a-f]{64}, but data_hash = beef; the sources"
    ):
        training_data(replace(SMALL, data_hash="beef"))


def test_the_tokenizer_tells_any_text_back():
    tokenizer = train_tokenizer(["some plain words, some plain words"] * 3, 300)
    for text in ("some plain words", "Ünïcødé 🙂 <script>", "line\nbreak\ttab"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_whole_clusters_share_a_fate_and_none_gives_more_than_its_share():
    clusters = np.repeat(np.arange(12), [9, 7, 5, 3, 2, 2, 1, 1, 1, 1, 1, 1])
    fates = allot_clusters(
        clusters, Planting(copies={5: 4, 50: 4}, held_out=6, per_cluster=2), np.random.default_rng(0)
    )
    assert [int((fates == fate).sum()) for fate in (5, 50, 0)] == [4, 4, 6]
    for cluster in range(12):
        used = fates[(clusters == cluster) & (fates >= 0)]
        assert len(used) <= 2
        assert len(set(used)) <= 1


def test_too_few_paragraphs_are_told():
    with pytest.raises(lz.InputError) as caught:
        allot_clusters(np.zeros(5, int), Planting(copies={5: 2}, held_out=2, per_cluster=3), np.random.default_rng(0))
    assert str(caught.value) == (
        "recipe: 4 paragraphs are asked for (planted and held out), 2 more than 1 clusters give at 3 each."
    )


def test_any_text_and_paragraphs_file_can_be_the_source(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(300)])
    (tmp_path / "book.txt").write_text(" ".join(rng.choice(words, 9000)))
    paragraphs = [" ".join(rng.choice(words, 80)) for _ in range(10)]
    (tmp_path / "planted.csv").write_text(
        "paragraph,id\n" + "\n".join(f'"{text}",{i}' for i, text in enumerate(paragraphs))
    )
    recipe = replace(
        SMALL,
        corpus=TrainingCorpus(source=str(tmp_path), vocab=400),
        planted=Planting(source=str(tmp_path / "planted.csv"), copies={8: 4}, held_out=4),
    )
    data = training_data(recipe)
    assert [occurrences(data.rows, row) for row in data.paragraphs.tokens] == [8] * 4 + [0] * 4
    assert data.background_passes > 0
    starts = [data.tokenizer.decode(row) for row in data.paragraphs.tokens]
    assert all(any(text.startswith(start) for text in paragraphs) for start in starts)


def words(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice([f"w{i}" for i in range(300)], count)


def trained_on(source, planted):
    return training_data(
        replace(
            SMALL,
            corpus=TrainingCorpus(source=source, vocab=400),
            planted=Planting(source=planted, copies={8: 4}, held_out=4),
        )
    )


def test_marks_packing_and_hidden_files_change_no_training_data(tmp_path):
    paragraphs = [" ".join(words(80, seed)) for seed in range(10)]
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir()
    (other / ".git").mkdir(parents=True)
    text = " ".join(words(9000))
    (plain / "book.txt").write_text(text)
    (plain / "planted.jsonl").write_text("".join(json.dumps({"text": p}) + "\n" for p in paragraphs))
    (other / "BOOK.TXT.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    for name in ("._book.txt", ".git/book.txt"):
        (other / name).write_text("no part of it " * 9000)
    (other / "planted.CSV").write_text("text\n" + "\n".join(paragraphs) + "\n", encoding="utf-8-sig")
    expected = trained_on(str(plain), str(plain / "planted.jsonl")).hash
    assert trained_on(str(other), str(other / "planted.CSV")).hash == expected


def test_the_texts_of_a_file_of_records_are_documents(tmp_path):
    texts = [" ".join(words(700, seed)) for seed in range(12)]
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"text": t, "tokens": [1, 2]}) + "\n" for t in texts) + '{"text": null}\n'
    )
    documents = list(_documents_of(tmp_path / "c.jsonl"))
    assert "".join(documents) == "".join(texts)
    assert [len(d) for d in documents] == [
        len(t[start : start + 4000]) for t in texts for start in range(0, len(t), 4000)
    ]


def told(source, planted="synthetic"):
    with pytest.raises(lz.InputError) as caught:
        trained_on(str(source), str(planted))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_sources_that_cannot_be_read_are_told(tmp_path):
    book, planted = tmp_path / "book.txt", tmp_path / "p.jsonl"
    book.write_bytes("caf\xe9 ".encode("latin-1") * 9000)
    planted.write_text('{"text": "abc"}\n\n{"text": "half \\ud83d"}\n')
    needed = "which is needed, since the tokenizer is new."
    assert (
        told(book, planted)
        == f"recipe: planted {planted}: row 1: its text holds half a surrogate pair; valid Unicode is needed."
    )
    planted.write_text('{"tokens": [1, 2]}\n')
    assert told(book, planted) == f"recipe: planted {planted}: row 0 holds no text, {needed}"
    planted.write_text("no JSON\n")
    assert told(book, planted) == f"recipe: planted {planted}: line 1 is not JSON (Expecting value at column 1)."
    assert told(book, tmp_path / "none.csv") == f"recipe: planted {tmp_path / 'none.csv'}: no such file."
    planted.write_text(json.dumps({"text": " ".join(words(80))}) + "\n")
    assert told(book, planted) == f"recipe: corpus {book}: not UTF-8 text (invalid continuation byte)."
    (tmp_path / "p.npy").write_bytes(b"")
    assert told(book, tmp_path / "p.npy") == (
        f"recipe: planted {tmp_path / 'p.npy'}: paragraphs to plant are needed as texts, in a .csv, .jsonl, .parquet file, since the "
        "tokenizer is new."
    )
