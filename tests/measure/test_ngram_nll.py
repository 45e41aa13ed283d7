"""Tables of n-grams of the rows: against counting by dictionaries, a corpus counted by hand, and probabilities that sum to one."""

from collections import defaultdict
from math import log

import numpy as np
import pytest

import localize as lz
from localize.errors import InputError, LocalizeError, SignatureError
from localize.measure import ngram_counts
from localize.measure.ngram_counts import Histories, followers, rows_holding, witten_bell

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")

V, PREFIX, LENGTH = 97, 6, 14


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("gpt2")


@pytest.fixture(scope="module")
def paragraphs():
    tokens = np.random.default_rng(0).integers(0, 7, (6, LENGTH))
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture(scope="module")
def rows(paragraphs):
    """60 rows of a few words, some of which hold texts whole, one their continuation alone, others all but one end."""
    rows = np.random.default_rng(1).integers(0, 8, (60, 20))
    rows[3, 2:16] = rows[7, :14] = rows[9, 6:] = paragraphs.tokens[0]
    rows[11, 12:] = paragraphs.tokens[1, PREFIX:]
    rows[13, :13], rows[15, 13:] = paragraphs.tokens[2, :-1], paragraphs.tokens[2, PREFIX + 1 :]
    return rows


class Table:
    """Interpolated Witten-Bell, by its definition, with dictionaries."""

    def __init__(self, rows):
        self.counts = defaultdict(lambda: defaultdict(int))
        for row in rows:
            for end in range(len(row)):
                for begin in range(end + 1):
                    self.counts[tuple(row[begin:end])][row[end]] += 1

    def p(self, word, history):
        lower = self.p(word, history[1:]) if history else 1 / V
        after = self.counts.get(history, {})
        if not after:
            return lower
        return (after.get(word, 0) + len(after) * lower) / (sum(after.values()) + len(after))

    def nll(self, text, n):
        found = [self.p(text[at], tuple(text[max(0, at - n + 1) : at])) for at in range(PREFIX, len(text))]
        return -np.mean([log(p) for p in found])


def holds(row, text):
    return any(row[at : at + len(text)] == text for at in range(len(row) - len(text) + 1))


def test_a_corpus_counted_by_hand():
    """Rows "0 1 0 2" and "0 1": 0 is followed by 1 twice and by 2 once, 1 by 0 once; of six tokens three are 0 and two are 1."""
    texts, rows = np.array([[0, 1], [1, 1], [2, 0]]), np.array([[0, 1, 0, 2, 0, 1]])
    table = followers(Histories.of(texts, 1, 4), rows)
    seen = [np.stack(of.seen(np.zeros(3, np.int64), texts[:, 1]), axis=1) for of in table[:1]]
    assert seen[0].tolist() == [[2, 6, 3], [2, 6, 3], [3, 6, 3]]
    p1 = [(2 + 3 / 4) / 9, (2 + 3 / 4) / 9, (3 + 3 / 4) / 9]
    runs = Histories.of(texts, 1, 4).own[0][:, 0]
    joint, total, types = table[1].seen(runs, texts[:, 1])
    assert (joint.tolist(), total.tolist(), types.tolist()) == ([2, 0, 1], [3, 1, 1], [2, 1, 1])
    both = [np.stack([seen[0][:, at], of], axis=1) for at, of in enumerate((joint, total, types))]
    p2 = [(2 + 2 * p1[0]) / 5, (0 + p1[1]) / 2, (1 + p1[2]) / 2]
    np.testing.assert_allclose(witten_bell(*both, 4), np.stack([p1, p2], axis=1))


def test_every_length_is_what_dictionaries_give_with_the_texts_rows_and_without(model, paragraphs, rows, monkeypatch):
    monkeypatch.setattr(ngram_counts, "AT_ONCE", 200)  # ten rows at once
    found = lz.ngram_nll(model, paragraphs, rows, ngrams=[5, 1, 2, 3, 9])
    assert found["ngram"].values.tolist() == [1, 2, 3, 5, 9]
    everything, listed = Table(rows.tolist()), rows.tolist()
    for at, text in enumerate(paragraphs.tokens.tolist()):
        rest = [row for row in listed if not holds(row, text[PREFIX:])]
        assert found["rows_holding_text"].values[at] == len(listed) - len(rest) == (3, 1, 0, 0, 0, 0)[at]
        without = Table(rest)
        for column, n in enumerate([1, 2, 3, 5, 9]):
            assert found["ngram_nll"].values[at, column] == pytest.approx(everything.nll(text, n), abs=1e-6)
            assert found["ngram_nll_left_out"].values[at, column] == pytest.approx(without.nll(text, n), abs=1e-6)
    np.testing.assert_array_equal(found["nll"], lz.recall(model, paragraphs)["nll"])


def test_probabilities_sum_to_one_over_the_vocabulary(rows):
    for history in ([3], [0, 5], [1, 2, 6]):
        texts = np.array([[*history, word] for word in range(V)])
        histories = Histories.of(texts, len(history), V)
        table = followers(histories, rows)
        runs = [np.zeros(V, np.int64), *(histories.own[n - 1][:, len(history) - n] for n in range(1, len(history) + 1))]
        seen = [of.seen(run, np.arange(V)) for of, run in zip(table, runs, strict=True)]
        p = witten_bell(*(np.stack(part, axis=1) for part in zip(*seen, strict=True)), V)
        np.testing.assert_allclose(p.sum(0), 1)
        assert (p > 0).all() and p.shape == (V, len(history) + 1)


def test_rows_hold_a_text_where_all_of_it_stands_in_one(rows, paragraphs):
    flat = rows.copy()
    flat[20, -4:], flat[21, :4] = paragraphs.tokens[3, PREFIX : PREFIX + 4], paragraphs.tokens[3, PREFIX + 4 :]
    found = rows_holding(paragraphs.tokens[:, PREFIX:].numpy(), flat, V)
    assert [one.tolist() for one in found] == [[3, 7, 9], [11], [], [], [], []]


def test_without_any_row_left_all_tokens_are_alike(model, paragraphs):
    found = lz.ngram_nll(model, paragraphs[[0]], paragraphs.tokens[:1].numpy(), ngrams=3)
    assert found["ngram_nll_left_out"].values.item() == pytest.approx(log(V))
    assert found["ngram_nll"].values.item() < log(V)


def test_the_table_holds_each_order_beside_rows_left_out_and_its_correlation_with_the_model(make):
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    nll = rng.gamma(2.0, size=12)
    tables = np.stack([nll + 1, nll + rng.uniform(0, 3, 12), 20 - nll], axis=1)
    left_out = tables + 0.5
    arrays = {"nll": nll, "ngram_nll": tables, "ngram_nll_left_out": left_out}
    dataset = make(["a"] * 12, arrays).dataset.assign_coords(ngram=[1, 2, 5])
    table = lz.ngram_table(lz.MemorizationSignature(dataset))
    for column, n in enumerate((1, 2, 5)):
        row = table.loc[("NLL", n, "a")]
        expected = [tables[:, column].mean(), left_out[:, column].mean(), -0.5]
        np.testing.assert_allclose(row[["estimate", "null", "difference"]].astype(float), expected)
        for left, values in (("", tables), (", own rows left out", left_out)):
            rho = table.loc[(f"rank correlation with the model's NLL{left}", n, "a"), "estimate"]
            assert rho == pytest.approx(spearmanr(values[:, column], nll)[0])
    assert table.loc[("NLL of the model", 0, "a"), "estimate"] == pytest.approx(nll.mean())


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        (0, "ngram_nll: ngrams=0 must be a whole number in 1..14, the tokens of a paragraph."),
        ([2, 15], "ngram_nll: ngrams=15 must be a whole number in 1..14, the tokens of a paragraph."),
        ([], "ngram_nll: ngrams=[] is empty; at least one in 1..14 is needed."),
    ],
)
def test_lengths_out_of_range_are_told(model, paragraphs, rows, ngrams, message):
    with pytest.raises(LocalizeError) as error:
        lz.ngram_nll(model, paragraphs, rows, ngrams=ngrams)
    assert str(error.value) == message


def test_rows_of_another_vocabulary_and_a_signature_without_are_told(model, paragraphs, rows):
    with pytest.raises(InputError) as error:
        lz.ngram_nll(model, paragraphs, rows + 90)
    assert str(error.value) == f"ngram_nll: rows: holds 97; the vocabulary of {model.name} allows 0..96."
    with pytest.raises(SignatureError) as error:
        lz.ngram_table(lz.recall(model, paragraphs))
    assert str(error.value) == (
        "ngram_table: the signature has no 'ngram_nll'; measure it with localize.ngram_nll(model, paragraphs, rows)."
    )
