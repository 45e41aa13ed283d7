"""A signature as a table: what it says, and that no text in it can become markup."""

from html.parser import HTMLParser

import numpy as np
import pytest

from localize.analysis.html import ROUGH, signature_html, summary_rows

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (SCRIPT, '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "</title></style></table><b>")


class Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def network_references(reader):
    """Every attribute that makes a browser fetch something from elsewhere."""
    fetching = ("src", "href", "srcset", "data", "poster", "action", "background")
    return [
        (t, n, v)
        for t, attrs in reader.tags
        for n, v in attrs.items()
        if n in fetching and not (v or "").startswith("#")
    ]


def cells(reader):
    return " ".join(" ".join(reader.text).split())


@pytest.fixture
def hostile(make, layered):
    rng = np.random.default_rng(0)
    group = ["memorized", *HOSTILE] * 2
    arrays = layered([3.0, 1.0], 10) | {
        "rare_token_score": rng.uniform(-1, 1, (10, 2, 2, 2)),
        "rare_token_null": rng.uniform(-1, 1, (10, 3, 2, 2, 2)),
        "unperturbed_exact_match": np.full(10, 4),
        "perturbed_exact_match": rng.integers(0, 4, (10, 2, 6)),
        "unperturbed_token_nll": rng.gamma(2.0, size=(10, 4)),
    }
    return make(
        group,
        arrays,
        ids=[f"{i}{text}" for i, text in enumerate(["", *HOSTILE] * 2)],
        text=["", *HOSTILE] * 2,
        model={
            "name": SCRIPT,
            "family": HOSTILE[1],
            "revision": HOSTILE[0],
            "weights": HOSTILE[3],
            "weights_hash": SCRIPT,
        },
        about={"source": HOSTILE[1], "skipped": [HOSTILE[3], SCRIPT], "data_hash": SCRIPT},
        call={"measurement": SCRIPT, "counts": HOSTILE[1], HOSTILE[3]: SCRIPT, "versions": {SCRIPT: HOSTILE[1]}},
        continuation=SCRIPT,
    )


def test_hostile_texts_come_out_as_text_everywhere(hostile):
    for html in (hostile._repr_html_(), signature_html(hostile)):
        reader = Reader(html)
        allowed = {"div", "style", "p", "strong", "table", "caption", "tr", "th", "td", "details", "summary", "code"}
        assert {tag for tag, _ in reader.tags} <= allowed
        assert not [name for _, attrs in reader.tags for name in attrs if name.startswith("on") or name == "src"]
        assert SCRIPT not in html
        assert "49" not in cells(reader).split()
        for text in HOSTILE:
            assert text in cells(reader)


def test_the_places_where_a_hostile_text_stands(hostile):
    text = cells(Reader(signature_html(hostile)))
    assert f"in {SCRIPT} ({HOSTILE[1]}, 2 layers × 2 heads, {HOSTILE[3]} weights)" in text  # the model
    assert f"10 paragraphs ({HOSTILE[1]}, 6 + 4 tokens)" in text  # the source
    assert f"2 rows were skipped: {HOSTILE[3]}, …" in text  # a skipped row
    assert f"counts {HOSTILE[1]}; {HOSTILE[3]} {SCRIPT};" in text  # an option of a call
    assert text.count(SCRIPT) >= 8


def test_nothing_is_fetched(hostile, measured):
    for signature in (hostile, measured):
        assert network_references(Reader(signature_html(signature))) == []


def test_it_says_what_is_held_and_what_made_it(make):
    signature = make(
        ["memorized", "not_memorized", "memorized"], cluster=[0, 1, 0], about={"skipped": ["row 5: 3 tokens"]}
    )
    text = cells(Reader(signature_html(signature)))
    nll, matched = signature["nll"].values, signature["exact_match"].values
    assert (
        "Memorization signature of 3 paragraphs (made.csv, 6 + 4 tokens) in made (gpt2, 2 layers × 2 heads, raw weights)."
        in text
    )
    assert "1 rows were skipped: row 5: 3 tokens." in text
    assert f"memorized 2 1.0 {matched[[0, 2]].mean():.1f} {nll[[0, 2]].mean():.3f}" in text
    assert f"not memorized 1 1.0 {matched[1]:.1f} {nll[1]:.3f}" in text
    assert "3 variables" in text
    assert "token_nll paragraph 3 × continuation_position 4 nats true negative log-likelihood" in text
    assert "weights " + "a" * 64 in text
    assert "paragraphs " + "d" * 64 in text
    assert "made seed 0; localize 0, torch 0" in text


def test_the_summary_stands_in_it_with_its_notes(make, layered):
    text = cells(Reader(signature_html(make(["memorized", "not_memorized"] * 3, layered([3.0, 1.0], 6)))))
    assert "sensitivity: low-layer share of the gradient memorized 0.750 ~[0.750, 0.750] 0.500 · 3 / 3" in text
    assert "memorized − not memorized 0.000" in text
    assert f"Note: {ROUGH}" in text
    assert "Note: few effective clusters (memorized 3.0 of 3 paragraphs, not_memorized 3.0 of 3 paragraphs)" in text
    assert "What stands out" not in cells(Reader(signature_html(make(["a", "b"]))))


def losing(make, group, surety, lost, **options):
    """Paragraphs of a confidence that lose so many of 50 tokens wherever one is replaced."""
    count = len(group)
    arrays = {
        "unperturbed_exact_match": np.full(count, 50),
        "perturbed_exact_match": np.broadcast_to(50 - lost[:, None, None], (count, 2, 6)),
        "unperturbed_token_nll": np.broadcast_to(-np.log(surety)[:, None], (count, 4)),
        "perturbed_token_error": np.broadcast_to(lost[:, None, None] / 50, (count, 1, 4)),
    }
    return cells(Reader(signature_html(make(group, arrays, **options))))


def test_it_says_whether_a_group_is_harder_to_corrupt_or_only_surer(make):
    rng, group = np.random.default_rng(0), ["memorized"] * 40 + ["not_memorized"] * 40
    surety = rng.uniform(0.3, 0.7, 80)
    told = losing(make, group, surety, np.where(np.array(group) == "memorized", 5.0, 20.0) + rng.uniform(0, 1, 80))
    start = "Note: Tokens that a replaced prefix token makes wrong: "
    words = start + "at like confidence memorized is harder to corrupt than not memorized ("
    assert words in told
    assert "% of the tokens of memorized and" in told
    surety[:40] += 0.29
    surety[40:] -= 0.29
    words = start + "not known: no common support, nothing of the two groups is alike in confidence."
    told = losing(make, group, np.sort(surety)[::-1], rng.uniform(5, 20, 80))
    assert words in told
    assert start not in losing(make, ["a", "b", "c"] * 10, surety[:30], rng.uniform(5, 20, 30))


def test_numbers_that_are_not_known_are_a_dot_and_tiny_p_values_a_bound():
    import pandas as pd

    columns = [
        "estimate",
        "low",
        "high",
        "null",
        "null_mean_low",
        "null_mean_high",
        "null_range_low",
        "null_range_high",
        "p_value",
        "rough",
        "n",
        "effective_clusters",
    ]
    nan = float("nan")
    table = pd.DataFrame(
        [
            [0.12345, 0.1, 0.2, 0.5, 0.4, 0.6, nan, nan, 0.00012, True, 12, 7.6],
            [nan, nan, nan, 0.5, nan, nan, nan, nan, nan, pd.NA, 0, 0.0],
            [1, nan, nan, nan, nan, nan, nan, nan, 0.2, True, 3, 1.4],
            [2, nan, nan, 0, nan, nan, -0.1, 0.1, 0.2, False, 3, 1.4],
        ],
        columns=columns,
        index=pd.MultiIndex.from_tuples(
            [("q", "a_b"), ("q", "c"), ("q", "a_b - c"), ("q", "d")], names=["quantity", "group"]
        ),
    )
    assert [list(row.values()) for row in summary_rows(table)] == [
        ["q", "a b", "0.123 ~[0.100, 0.200]", "0.500 [0.400, 0.600]", "~< 0.001", "12 / 8"],
        ["q", "c", "·", "0.500", "·", "0 / 0"],
        ["q", "a b − c", "1.000", "·", "~0.200", "3 / 1"],
        ["q", "d", "2.000", "0.000 [-0.100, 0.100]", "0.200", "3 / 1"],
    ]
