"""Spans against slow and obvious implementations; what a scan tells of them, and which matches stand beside."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import localize as lz
from localize.models.hooks import HookedModel
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.scan import scan as module
from localize.scan.spans import apart, overlaps, spans
from localize.statistics.clusters import effective_clusters

WINDOWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), unique=True, max_size=12).map(sorted)
LENGTH = st.integers(1, 12)


def columns(windows):
    document, offset = np.array(windows, dtype=np.int64).reshape(-1, 2).T
    return document, offset


@given(WINDOWS, LENGTH, st.randoms(use_true_random=False))
def test_a_span_is_what_its_windows_cover_without_a_gap(windows, length, random):
    match = np.array([random.randrange(4) for _ in windows], dtype=np.int64)
    groups = []
    for row, (document, offset) in enumerate(windows):
        before = windows[row - 1] if row else None
        if before is not None and before[0] == document and offset < before[1] + length:
            groups[-1].append(row)
        else:
            groups.append([row])
    found = spans(*columns(windows), match, length)
    assert found.window.tolist() == [max(group, key=lambda row: (match[row], -row)) for group in groups]
    assert found.start.tolist() == [windows[group[0]][1] for group in groups]
    covered = [{windows[row][1] + place for row in group for place in range(length)} for group in groups]
    assert found.length.tolist() == [len(tokens) for tokens in covered]
    assert found.windows.tolist() == [len(group) for group in groups]


def shares(one, other, length):
    return one[0] == other[0] and abs(one[1] - other[1]) < length


@given(WINDOWS, WINDOWS, LENGTH)
def test_overlaps_are_those_that_share_a_token(windows, others, length):
    found = overlaps(*columns(windows), *columns(others), length)
    assert found.tolist() == [any(shares(window, other, length) for other in others) for window in windows]


@given(WINDOWS, LENGTH)
def test_windows_apart_share_no_token_and_no_more_could_be_taken(windows, length):
    chosen = [windows[row] for row in apart(*columns(windows), length)]
    assert not any(shares(one, other, length) for one in chosen for other in chosen if one != other)

    def most(rest):  # the largest set without overlap, by trying
        if not rest:
            return 0
        return max(most(rest[1:]), 1 + most([other for other in rest[1:] if not shares(rest[0], other, length)]))

    assert len(chosen) == most(windows)


def run_of(first, count):
    """Ascending tokens, which `counter` recites."""
    return [(first + step) % 97 for step in range(count)]


@pytest.fixture
def counted():
    """400 random tokens, of which 100..159 and 300..321 ascend."""
    tokens = np.random.default_rng(2).integers(0, 97, 400)
    tokens[100:160], tokens[300:322] = run_of(5, 60), run_of(70, 22)
    return tokens


def test_of_overlapping_windows_one_is_told_with_its_span(counter, counted, asked, tmp_path):
    found = lz.scan_corpus(counter, counted, tmp_path / "out", **asked)
    told = found.table[["id", "span_offset", "span_length", "span_windows"]].to_numpy().tolist()
    # A window from s asks for s + 12 .. s + 19 and sees s + 11: those from 89 .. 140 and from 289 .. 302 are recited.
    assert told == [["0:96", 96, 60, 6], ["0:296", 296, 20, 1]]
    counts = ("found", "distinct_windows", "spans", "distinct", "clusters", "effective_clusters")
    assert [found.summary[name] for name in counts] == [7, 7, 2, 2, 2, 2.0]
    assert found.paragraphs().ids == ("0:96", "0:296")


def test_of_a_span_the_first_of_the_highest_exact_match_is_told(counter, counted, asked, tmp_path):
    found = lz.scan_corpus(counter, counted, tmp_path / "out", threshold=3, **asked)
    # 144 (ascending to 159, its continuation 156 ..) has 4 right, 304 has 6: they belong to the spans.
    assert found.table["id"].tolist() == ["0:96", "0:296"]
    assert found.table["span_windows"].tolist() == [7, 2]
    assert found.table["span_length"].tolist() == [68, 28]
    tokens = counted.copy()
    tokens[115] = (
        0  # 96 (continuation from 108) has 7 right, 104 (from 116) begins with a surprise: 112 is the first whole one
    )
    found = lz.scan_corpus(counter, tokens, tmp_path / "later", threshold=3, **asked)
    assert found.table["id"].tolist()[0] == "0:112"
    assert found.table["exact_match"].tolist()[0] == 8


def test_where_a_decode_does_not_reproduce_a_window_another_of_its_span_is_told(
    counter, counted, asked, tmp_path, monkeypatch
):
    said = HookedModel.continue_greedily

    def other(model, prefix, length):
        tokens = said(model, prefix, length)
        tokens[(prefix[:, 0] == int(counted[96])) & (prefix[:, 4] == 5), 3] = 0
        return tokens

    monkeypatch.setattr(HookedModel, "continue_greedily", other)
    found = lz.scan_corpus(counter, counted, tmp_path / "out", **asked)
    assert found.table["id"].tolist() == ["0:104", "0:296"]
    assert found.table["span_length"].tolist() == [52, 20]
    assert (found.summary["not_reproduced"], found.summary["found"]) == (1, 7)


def test_what_passes_the_filters_and_what_is_set_aside_are_spans_of_their_own(counter, counted, asked, tmp_path):
    tokens = counted.copy()
    tokens[140:160] = run_of(40, 20)
    every = lz.scan_corpus(counter, tokens, tmp_path / "every", **asked | {"stride": 4})
    assert every.summary["spans"] == len(every.table) == 2
    found = lz.scan_corpus(counter, tokens, tmp_path / "out", **asked | {"stride": 4, "min_distinct": 1.0})
    assert found.summary["spans"] == len(found.table) > 2
    assert set(found.table["set_aside"] == "") == {True, False}
    assert found.table["offset"].is_monotonic_increasing  # both kinds in the order of the corpus
    assert found.table["set_aside"].iloc[0] != ""
    for _, row in found.table.iterrows():
        window = tokens[row["offset"] : row["offset"] + 20]
        assert (len(set(window.tolist())) == 20) == (row["set_aside"] == "")

    def covered(table):
        spans = table[["span_offset", "span_length"]].to_numpy().tolist()
        return {place for start, length in spans for place in range(start, start + length)}

    assert covered(found.table) == covered(every.table)


def test_a_text_of_several_spans_is_told_once_where_it_stands_first(counter, counted, asked, tmp_path):
    found = lz.scan_corpus(counter, [counted[322:350], counted[96:160], counted[96:160]], tmp_path / "out", **asked)
    assert found.table["id"].tolist() == ["1:0"]
    assert (found.summary["spans"], found.summary["distinct"], found.summary["distinct_windows"]) == (2, 1, 6)
    assert found.table["duplicates"].tolist() == [2]


# Matches.


def test_windows_that_overlap_each_other_do_not_take_the_matches_away(counter, counted, asked, tmp_path):
    found = lz.scan_corpus(counter, counted, tmp_path / "out", matched=True, **asked)
    assert found.summary["matched"] == found.summary["clusters"] == 2
    assert found.summary["unmatched"] == {}
    lines = [json.loads(line) for line in (tmp_path / "out" / "matched.jsonl").read_text().splitlines()]
    both = np.array([*found.paragraphs().tokens.tolist(), *(line["tokens"] for line in lines)])
    assert effective_clusters(near_duplicate_clusters(both)) == 4.0
    recited = [*range(96, 160), *range(296, 316)]
    assert not any(place in recited for line in lines for place in range(line["offset"], line["offset"] + 20))


def test_a_long_text_has_many_matches_although_its_windows_overlap(counter, asked, tmp_path):
    noise = np.random.default_rng(1).integers(0, 97, 120).tolist()
    documents = [run_of(0, 20), run_of(30, 20), run_of(60, 20), noise]
    found = lz.scan_corpus(counter, documents, tmp_path / "out", matched=True, **asked)
    assert (found.summary["clusters"], found.summary["matched"]) == (3, 3)


def test_matches_tell_how_often_they_stand_in_the_corpus(counter, asked, tmp_path):
    noise = np.random.default_rng(3).integers(0, 97, 40).tolist()
    documents = [[*noise, *run_of(5, 20)], [1, 2, 3, *noise]]  # the noise where a window starts, and where none does
    found = lz.scan_corpus(counter, documents, tmp_path / "out", matched=True, **asked)
    lines = [json.loads(line) for line in (tmp_path / "out" / "matched.jsonl").read_text().splitlines()]
    assert [line["duplicates"] for line in lines] == [2]
    assert found.table["duplicates"].tolist() == [1]
    assert found.paragraphs(matched=True).duplicates == (2,)
    lz.scan_corpus(counter, documents, tmp_path / "uncounted", matched=True, count=False, **asked)
    assert "duplicates" not in json.loads((tmp_path / "uncounted" / "matched.jsonl").read_text().splitlines()[0])


def test_why_a_cluster_has_no_match_is_told(counter, asked, tmp_path):
    rng = np.random.default_rng(4)

    def noise(count):
        return rng.integers(0, 97, count).tolist()

    rows = [
        {"source": "all of it", "tokens": run_of(0, 20)},
        {"source": "beside", "tokens": [*noise(8), *run_of(20, 12), *noise(8)]},
        {"source": "copies", "tokens": run_of(40, 20)},
        {"source": "copies", "tokens": [*run_of(40, 12), *noise(8)]},
        {"source": "few", "tokens": run_of(60, 20)},
        {"source": "few", "tokens": run_of(80, 20)},
        {"source": "few", "tokens": noise(20)},
    ]
    found = lz.scan_corpus(counter, rows, tmp_path / "out", matched=True, **asked)
    assert found.summary["clusters"] == 5
    assert found.summary["matched"] == 1
    assert found.summary["unmatched"] == {
        "no window of the same source is not memorized": 1,
        "each window of the same source that is not memorized overlaps a found one": 1,
        "each window of the same source that is not memorized is a near-duplicate of a found one": 1,
        "no window of the same source is left: more clusters are found in it than windows to match them with": 1,
    }
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["unmatched"] == found.summary["unmatched"]


def test_the_best_window_of_all_parts_has_the_highest_exact_match_and_of_equals_the_lowest_nll(
    neo, asked, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "UNIT", 5)
    rows = np.random.default_rng(0).integers(0, 97, (50, 20))
    measured = lz.recall(neo, lz.load_paragraphs(rows, prefix_length=12, continuation_length=8))
    match, nll = measured["exact_match"].values, measured["nll"].values
    best = lz.scan_corpus(neo, rows, tmp_path / "out", **asked).summary["best"]
    row = max(range(50), key=lambda row: (match[row], -nll[row]))
    assert (match == match.max()).sum() > 1
    assert (best["id"], best["exact_match"]) == (f"{row}:0", match[row])
    assert best["nll"] == pytest.approx(nll[row])


def test_the_best_window_is_told_also_where_none_is_found(counter, asked, tmp_path):
    tokens = np.random.default_rng(5).integers(0, 97, 200)
    tokens[60:80] = run_of(5, 20)  # 56 asks for 68 .. 75; 64 for 76 .. 83, of which 4 ascend
    tokens[68] = 0
    found = lz.scan_corpus(counter, [tokens[:30], tokens], tmp_path / "out", **asked)
    assert len(found.table) == found.summary["clusters"] == 0
    assert found.summary["effective_clusters"] == 0.0
    best = found.summary["best"]
    assert (best["id"], best["exact_match"], best["source"]) == ("1:64", 4, "list")
    assert best["nll"] == pytest.approx(float(lz.scan_corpus(
        counter, tokens[64:84], tmp_path / "alone", threshold=4, **asked).table["nll"].iloc[0]
    ))  # fmt: skip
