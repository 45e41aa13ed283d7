"""What is set aside, and why."""

import json

import numpy as np
import pytest

import localize as lz
from localize.errors import LocalizeError
from localize.scan.filters import distinct_share, reasons, repeated_share

ROWS = np.array([[1, 2, 3, 4], [1, 2, 1, 2], [7, 7, 7, 7], [1, 1, 2, 2]])


def test_shares_by_hand():
    assert distinct_share(ROWS).tolist() == [1.0, 0.5, 0.25, 0.5]
    assert repeated_share(ROWS).tolist() == [0.0, 1.0, 1.0, 2 / 3]


def test_every_reason_is_told_and_what_lies_on_a_limit_is_kept():
    texts = ["The Cat", "the CATalogue", "a dog", "nothing"]
    assert reasons(ROWS, texts, min_distinct=0.5, max_repeated=2 / 3, keywords=["cat", "Dog"]) == [
        "holds 'cat'",
        "repeats itself (100%); holds 'cat'",
        "repeats itself (100%); few distinct tokens (25%); holds 'Dog'",
        "",
    ]
    assert reasons(ROWS, texts, min_distinct=0.0, max_repeated=1.0) == [""] * 4
    assert reasons(ROWS, None, min_distinct=0.0, max_repeated=1.0, keywords=["cat"]) == [""] * 4


def test_what_is_set_aside_stands_in_a_file_of_its_own(neo, corpus, asked, tmp_path):
    every = lz.scan_corpus(neo, corpus, tmp_path / "every", **asked)
    shares = distinct_share(every.paragraphs().tokens.numpy())
    limit = float(np.median(shares))
    found = lz.scan_corpus(neo, corpus, tmp_path / "out", **(asked | {"min_distinct": limit}))
    few = set(np.array(every.table["id"])[shares < limit])
    assert 0 < len(few) < len(every.table)
    assert set(found.table.loc[found.table["set_aside"] != "", "id"]) == few
    assert set(found.paragraphs().ids) == set(every.table["id"]) - few
    lines = [json.loads(line) for line in (tmp_path / "out" / "set_aside.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == few
    assert all(line["set_aside"].startswith("few distinct tokens (") for line in lines)
    assert found.summary["set_aside"] == len(few)


@pytest.mark.parametrize("name", ["min_distinct", "max_repeated"])
def test_a_share_lies_between_0_and_1(neo, corpus, asked, tmp_path, name):
    with pytest.raises(LocalizeError, match=f"scan: {name}=1.5 must lie in 0..1."):
        lz.scan_corpus(neo, corpus, tmp_path / "out", **(asked | {name: 1.5}))
