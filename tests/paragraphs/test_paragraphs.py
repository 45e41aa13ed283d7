"""What a set of paragraphs is: split, chosen from, labelled, hashed, saved, checked against a model."""

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from localize.errors import InputError, LocalizeError
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.paragraphs.joined import joined
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs

HOSTILE = (
    'quotes " and \' and \\ and \\" and `',
    "lines\nand\r\nmore\rlines\u2028and\u2029others\x85\x0b\x0c",
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "emoji 👩‍👩‍👧 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢, Ελληνικά, 日本語, \u202eright to left",
    "",
    ' \t{"text": "json, in json"}, \x00, null, =1+1, {{ braces }}, %s',
)


def rows(count=6, length=12, seed=0, vocab=97):
    return torch.randint(vocab, (count, length), generator=torch.Generator().manual_seed(seed))


def made(count=6, prefix_length=4, **columns):
    return Paragraphs(tokens=rows(count), prefix_length=prefix_length, **columns)


def labelled(count=6):
    return made(
        count,
        ids=tuple(f"p{i}" for i in range(count)),
        texts=tuple(f"text {i}" for i in range(count)),
        groups=tuple("ab"[i % 2] for i in range(count)),
        duplicates=tuple(10 * i for i in range(count)),
        source="made.csv",
    )


def told(kind, function, *args, **options):
    """The whole message of the error that a call raises, which must be one line."""
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_tokens_are_divided_after_the_prefix():
    paragraphs = made(prefix_length=5)
    assert len(paragraphs) == 6
    assert paragraphs.prefixes.equal(paragraphs.tokens[:, :5])
    assert paragraphs.continuations.equal(paragraphs.tokens[:, 5:])
    assert paragraphs.continuation_length == 7
    assert paragraphs.recall_tokens is paragraphs.tokens
    assert paragraphs.recall_continuation == "true"


def test_ids_are_row_numbers_unless_given():
    assert made(3).ids == ("0", "1", "2")
    assert made(2, ids=("x", "y")).ids == ("x", "y")


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        made().prefix_length = 7


def test_its_words_say_size_split_groups_and_what_was_skipped():
    paragraphs = Paragraphs(
        tokens=rows(3), prefix_length=4, groups=("b", "a", "b"), skipped=("row 3: 2 tokens",), source="x.csv"
    )
    assert repr(paragraphs) == "Paragraphs(x.csv: 3 x (4 + 8) tokens; true continuation; 1 a, 2 b; 1 rows skipped)"


CHOICES = {
    "an int": (2, [2]),
    "the last, from the end": (-1, [5]),
    "a slice": (slice(1, 5, 2), [1, 3]),
    "a slice backwards": (slice(None, None, -1), [5, 4, 3, 2, 1, 0]),
    "a list": ([4, 0, 2], [4, 0, 2]),
    "a mask": (np.array([True, False, False, True, False, True]), [0, 3, 5]),
    "a list of truths": ([False, True, True, False, False, False], [1, 2]),
    "an array": (np.array([5, 1]), [5, 1]),
    "a tensor": (torch.tensor([3, 2]), [3, 2]),
    "an id": ("p4", [4]),
    "ids": (["p4", "p0"], [4, 0]),
    "an array of ids": (np.array(["p3", "p1"]), [3, 1]),
    "ids of a table": (pd.Series(["p3", "p1"], index=[7, 8]), [3, 1]),
    "a number of numpy's": (np.int64(2), [2]),
    "a mask as a tensor": (torch.tensor([False, False, False, False, True, True]), [4, 5]),
}


@pytest.mark.parametrize(("index", "expected"), CHOICES.values(), ids=CHOICES)
def test_choosing_keeps_every_column_in_line(index, expected):
    whole = labelled()
    chosen = whole[index]
    assert chosen.tokens.equal(whole.tokens[expected])
    assert chosen.ids == tuple(f"p{i}" for i in expected)
    assert chosen.texts == tuple(f"text {i}" for i in expected)
    assert chosen.groups == tuple("ab"[i % 2] for i in expected)
    assert chosen.duplicates == tuple(10 * i for i in expected)
    assert chosen.hashes == tuple(whole.hashes[i] for i in expected)
    assert (chosen.prefix_length, chosen.source, chosen.continuation) == (4, "made.csv", "true")


def test_choosing_keeps_the_true_tokens_in_line():
    true = rows(seed=1)
    own = Paragraphs(tokens=rows(), prefix_length=4, true_tokens=true, continuation="own")
    assert own[[3, 1]].true_tokens.equal(true[[3, 1]])
    assert own[[3, 1]].recall_tokens.equal(true[[3, 1]])


def test_a_part_keeps_the_clusters_of_the_whole():
    # 0 and 2 share nothing, but each is near 1: without 1 in between they would look unrelated.
    left, right = torch.arange(20), torch.arange(100, 120)
    chain = torch.stack([left, torch.cat([left[:10], right[10:]]), right, torch.arange(200, 220)])
    whole = Paragraphs(tokens=chain, prefix_length=5)
    assert whole.clusters.tolist() == [0, 0, 0, 1]
    assert near_duplicate_clusters(chain[[0, 2, 3]].numpy()).tolist() == [0, 1, 2]
    assert whole[[0, 2, 3]].clusters.tolist() == [0, 0, 1]
    assert whole[[3, 2]][[0, 1]].clusters.tolist() == [1, 0]
    assert whole[[0, 2]].with_groups(["a", "b"]).clusters.tolist() == [0, 0]
    assert whole[[0, 2]].with_em_bins([(0, 15)]).clusters.tolist() == [0, 0]


def test_clusters_that_are_known_are_told_as_they_are_and_go_where_the_paragraphs_go():
    plain, known = made(3), made(3, known_clusters=np.array([7, 4, 7]))
    assert plain.clusters.tolist() == [0, 1, 2]
    assert known.clusters.tolist() == [7, 4, 7]
    assert copy.deepcopy(known).clusters.tolist() == copy.copy(known).clusters.tolist() == [7, 4, 7]
    assert known[[2, 1]].with_groups(["a", "b"]).clusters.tolist() == [7, 4]
    assert repr(known) == repr(plain)


def test_clusters_that_are_known_are_not_those_of_other_tokens():
    known = made(3, known_clusters=np.array([7, 4, 7]))
    assert replace(known, tokens=rows(3, seed=1)).clusters.tolist() == [0, 1, 2]
    assert replace(known[[0, 2]], source="elsewhere").clusters.tolist() == [0, 1]


@pytest.mark.parametrize(
    "index",
    [[], slice(3, 3), np.zeros(6, bool), torch.zeros(6, dtype=torch.bool)],
    ids=["empty list", "empty slice", "mask", "tensor mask"],
)
def test_choosing_nothing_is_refused(index):
    assert told(LocalizeError, lambda: labelled()[index]) == "made.csv: the index selects none of 6 paragraphs."


def test_an_index_past_the_end_ends_a_loop():
    assert told(IndexError, lambda: labelled()[6]) == "made.csv: no paragraph 6; there are 6, from 0."
    assert [p.ids[0] for p in labelled()] == ["p0", "p1", "p2", "p3", "p4", "p5"]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("p9", "made.csv: no paragraph 'p9'; ids are 'p0', 'p1', 'p2', ...."),
        (["p1", "1"], "made.csv: no paragraph '1'; ids are 'p0', 'p1', 'p2', ...."),
        ([0, 6], "made.csv: no paragraph 6; there are 6, from 0."),
        ([-7], "made.csv: no paragraph -7; there are 6, from 0."),
        (np.array([1.0]), "made.csv: an index of float64 of shape (1,) is none; positions, ids, or a mask of 6 are."),
        ([True, False], "made.csv: an index of bool of shape (2,) is none; positions, ids, or a mask of 6 are."),
        (
            np.array([[1, 2]]),
            "made.csv: an index of int64 of shape (1, 2) is none; positions, ids, or a mask of 6 are.",
        ),
    ],
)
def test_an_index_of_no_paragraph_is_told(index, expected):
    assert told(LocalizeError, lambda: labelled()[index]) == expected


def test_the_ids_of_one_paragraph_are_all_that_there_is_to_tell():
    assert told(LocalizeError, lambda: made(1)["x"]) == "in memory: no paragraph 'x'; ids are '0'."


def test_what_some_lack_stays_in_line_and_is_told():
    whole = made(3, groups=("b", None, "a"), duplicates=(None, 4, None), texts=(None, "x", None))
    assert whole.labels == ("b", "unlabelled", "a")
    assert repr(whole).endswith("true continuation; 1 a, 1 b, 1 unlabelled; duplicates of 2 not known)")
    part = whole[[2, 1]]
    assert (part.groups, part.duplicates, part.texts) == (("a", None), (None, 4), (None, "x"))
    assert whole[1].labels == ("unlabelled",)  # as in the whole: labels and exact match are never mixed
    assert made(2).with_groups(pd.Series(["a", None], index=[5, 6])).groups == ("a", None)
    assert joined(whole, made(1, ids=("z",))).texts == (None, "x", None, None)
    assert joined(made(1), made(1, ids=("z",))).texts is None


def test_one_paragraph_cannot_be_taken_twice():
    assert told(InputError, lambda: labelled()[[1, 1]]) == "made.csv: the id 'p1' stands twice; ids must differ."


def test_what_does_not_fit_together_is_refused():
    assert told(InputError, made, 3, ids=("x", "y", "x"), source="s") == "s: the id 'x' stands twice; ids must differ."
    assert told(InputError, made, 3, ids=("x", "y"), source="s") == "s: 2 ids for 3 paragraphs; one each is needed."
    assert told(InputError, made, 3, texts=("x",), source="s") == "s: 1 texts for 3 paragraphs; one each is needed."
    assert told(InputError, made, 3, groups=("x",) * 4) == "in memory: 4 groups for 3 paragraphs; one each is needed."
    assert (
        told(InputError, made, 3, known_clusters=np.arange(2))
        == "in memory: 2 known_clusters for 3 paragraphs; one each is needed."
    )
    assert told(InputError, made, 3, duplicates=()) == "in memory: 0 duplicates for 3 paragraphs; one each is needed."
    assert told(InputError, made, 0, source="s") == "s: no paragraphs; at least one is needed."
    assert told(InputError, made, 2, continuation="mine") == "in memory: continuation='mine' is not one of true, own."


@pytest.mark.parametrize("prefix_length", [0, -1, 12, 13])
def test_both_prefix_and_continuation_need_a_token(prefix_length):
    expected = f"in memory: prefix_length={prefix_length} must lie in 1..11, for 12 tokens a paragraph."
    assert told(InputError, made, 2, prefix_length=prefix_length) == expected


def test_groups_are_the_users_words_and_replace_bins():
    paragraphs = made(3).with_em_bins([(0, 8)]).with_groups(["one", "two", "two"])
    assert paragraphs.groups == ("one", "two", "two")
    assert paragraphs.em_bins is None
    assert told(InputError, made(3).with_groups, ["a"]) == "in memory: 1 groups for 3 paragraphs; one each is needed."


def test_bins_name_every_exact_match_and_replace_groups():
    binned = labelled().with_em_bins([(0, 2), (3, 3), (4, 7), (8, 8)])
    assert binned.groups is None
    assert [binned.em_bin(em) for em in range(9)] == ["EM 0-2"] * 3 + ["EM 3"] + ["EM 4-7"] * 4 + ["EM 8"]


BAD_BINS = {
    "gap": [(0, 3), (5, 8)],
    "overlap": [(0, 4), (4, 8)],
    "too few": [(0, 7)],
    "too many": [(0, 9)],
    "below zero": [(-1, 8)],
    "none": [],
}


@pytest.mark.parametrize("bins", BAD_BINS.values(), ids=BAD_BINS)
def test_bins_with_gaps_or_overlaps_are_refused(bins):
    assert told(InputError, made().with_em_bins, bins) == f"em_bins={bins} must cover 0..8 once each."


def test_the_own_continuation_is_what_a_plain_greedy_loop_says(model):
    paragraphs = Paragraphs(tokens=rows(5, 40), prefix_length=20, groups=tuple("aabbb"), ids=tuple("vwxyz"))
    own = paragraphs.with_own_continuation(model, batch_size=2)
    said = paragraphs.prefixes
    for _ in range(20):
        with torch.no_grad():
            said = torch.cat([said, model.hf.eval()(said).logits[:, -1:].argmax(-1)], dim=1)
    assert own.tokens.equal(said)
    assert not own.tokens.equal(paragraphs.tokens)
    assert (own.ids, own.groups, own.prefix_length) == (paragraphs.ids, paragraphs.groups, 20)


def test_with_its_own_continuation_a_paragraph_is_still_the_same_paragraph(neo):
    paragraphs = Paragraphs(tokens=rows(4, 24), prefix_length=12)
    own = paragraphs.with_own_continuation(neo)
    assert (own.continuation, own.recall_continuation) == ("own", "true")
    assert own.true_tokens.equal(paragraphs.tokens)
    assert own.recall_tokens.equal(paragraphs.tokens)
    assert own.hashes == paragraphs.hashes
    assert own.data_hash == paragraphs.data_hash
    assert own.clusters.tolist() == paragraphs.clusters.tolist()
    assert own.with_own_continuation(neo) is own


def test_rows_that_hold_own_continuations_only_have_no_true_one(neo):
    own = Paragraphs(tokens=rows(4, 24), prefix_length=12, continuation="own")
    assert own.recall_tokens is own.tokens
    assert own.recall_continuation == "own"
    assert own.with_own_continuation(neo) is own


def test_a_hash_follows_the_tokens_and_nothing_else():
    tokens = rows(4)
    plain = Paragraphs(tokens=tokens, prefix_length=4)
    named = Paragraphs(
        tokens=tokens, prefix_length=4, ids=tuple("wxyz"), groups=tuple("abab"), texts=tuple("stuv"), source="elsewhere"
    )
    assert named.hashes == plain.hashes
    assert named.data_hash == plain.data_hash
    assert Paragraphs(tokens=tokens.to(torch.int32), prefix_length=4).hashes == plain.hashes
    changed = tokens.clone()
    changed[2, 7] += 1
    other = Paragraphs(tokens=changed, prefix_length=4)
    assert [a == b for a, b in zip(other.hashes, plain.hashes, strict=True)] == [True, True, False, True]
    assert len(set(plain.hashes)) == 4


def test_the_hash_of_the_set_follows_tokens_order_and_split():
    tokens = rows(4)
    plain = Paragraphs(tokens=tokens, prefix_length=4)
    hashes = {
        plain.data_hash,
        Paragraphs(tokens=tokens, prefix_length=5).data_hash,
        plain[[3, 2, 1, 0]].data_hash,
        plain[:3].data_hash,
        Paragraphs(tokens=tokens + 1, prefix_length=4).data_hash,
    }
    assert len(hashes) == 5
    assert plain[[3, 2, 1, 0]][[3, 2, 1, 0]].data_hash == plain.data_hash


def test_saved_paragraphs_are_read_back(tmp_path):
    saved = labelled()
    saved.save(tmp_path / "p.jsonl")
    read = load_paragraphs(tmp_path / "p.jsonl", prefix_length=4, continuation_length=8)
    assert read.tokens.equal(saved.tokens)
    assert read.tokens.dtype == torch.int64
    for column in ("ids", "texts", "groups", "duplicates", "prefix_length", "hashes", "data_hash"):
        assert getattr(read, column) == getattr(saved, column)


def test_what_is_not_known_is_not_saved(tmp_path):
    made(2).save(tmp_path / "p.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [{"id": str(i), "tokens": row} for i, row in enumerate(rows(2).tolist())]
    read = load_paragraphs(tmp_path / "p.jsonl", prefix_length=4, continuation_length=8)
    assert read.texts is read.groups is read.duplicates is None


def test_hostile_texts_ids_and_groups_come_back_as_they_were(tmp_path):
    saved = made(ids=tuple(f"{i}{text}" for i, text in enumerate(HOSTILE)), texts=HOSTILE, groups=HOSTILE)
    saved.save(tmp_path / "p.jsonl")
    read = load_paragraphs(tmp_path / "p.jsonl", prefix_length=4, continuation_length=8)
    assert read.texts == HOSTILE
    assert read.groups == HOSTILE
    assert read.ids == saved.ids


@pytest.mark.parametrize("column", ["texts", "ids", "groups"])
def test_half_a_character_is_refused_in_one_line_and_leaves_the_old_file(tmp_path, column):
    # A lone surrogate: JSON can say it, UTF-8 and so every file that is written here cannot.
    path = tmp_path / "p.jsonl"
    made(2).save(path)
    before = path.read_bytes()
    told(InputError, lambda: made(2, **{column: ("half \ud83d", "x")}).save(path))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_paragraphs_longer_than_the_context_are_refused(neo):
    paragraphs = Paragraphs(tokens=rows(2, 129), prefix_length=100, source="long.npy")
    expected = "long.npy: 100 + 29 tokens exceed the context of small gpt-neo, which is 128; choose a shorter prefix or continuation."
    assert told(InputError, paragraphs.check_fits, neo) == expected
    assert told(InputError, paragraphs.with_own_continuation, neo) == expected
    assert Paragraphs(tokens=rows(2, 128), prefix_length=100).check_fits(neo) is None


@pytest.mark.parametrize(("token", "position"), [(97, 11), (-1, 0), (50256, 5)])
def test_a_token_outside_the_vocabulary_is_named(gpt2, token, position):
    tokens = rows(3)
    tokens[1, position] = token
    tokens[2, 3] = 98
    paragraphs = Paragraphs(tokens=tokens, prefix_length=4, ids=("x", "y", "z"), source="far.npy")
    assert told(InputError, paragraphs.check_fits, gpt2) == (
        f"far.npy: paragraph 'y' (row 1) has token id {token} at position {position}; the vocabulary of small gpt2 allows 0..96."
    )
    edge = rows(2)
    edge[0, 0], edge[1, 1] = 0, 96
    assert Paragraphs(tokens=edge, prefix_length=4).check_fits(gpt2) is None
