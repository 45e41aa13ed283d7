"""Sampled n-grams in rows: a set of tuples as the oracle, draws by hand, and what memory makes of both."""

import math

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure import ngrams
from localize.measure.ngrams import drawn_tokens, sampled_continuations, sampling_logits, shares_in_rows, uniforms

pytestmark = pytest.mark.gpt2_is_slow("hooked")

PREFIX, LENGTH, LENGTHS = 24, 40, [1, 2, 3, 5]
SHARE = "sampled_ngrams_in_rows"


def grams(row, n):
    return [tuple(row[at : at + n]) for at in range(len(row) - n + 1)]


def shares_by_sets(texts, rows, lengths):
    """By the definition, a set of tuples for each length."""
    found = []
    for n in lengths:
        known = {gram for row in rows.tolist() for gram in grams(row, n)}
        found.append([np.mean([gram in known for gram in grams(text, n)]) for text in texts.tolist()])
    return np.array(found).T


@pytest.fixture
def paragraphs(tokens):
    """Rows of 40 tokens, longer than the local window."""
    return lz.load_paragraphs(tokens[:5, :LENGTH], prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.mark.parametrize("vocab", [3, 12, 2**31])
@pytest.mark.parametrize("at_once", [1, 20, 2**22])
def test_shares_are_those_of_a_set_of_tuples(vocab, at_once, monkeypatch):
    monkeypatch.setattr(ngrams, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    texts, rows = (rng.choice([0, 1, vocab // 2, vocab - 1], (count, 9)) for count in (7, 12))
    rows[3, 2:8], rows[5, 5:] = texts[0, 3:], texts[1, :4]
    found = shares_in_rows(texts, rows, LENGTHS)
    assert found.tolist() == shares_by_sets(texts, rows, LENGTHS).tolist()
    assert 0 < found[:, 2:].mean() < 1


def test_an_ngram_of_two_rows_or_longer_than_all_rows_stands_in_none():
    rows, texts = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[2, 3, 4, 5], [1, 2, 3, 4], [7, 7, 7, 7]])
    expected = [[1, 2 / 3, 0, 0], [1, 2 / 3, 1 / 2, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(shares_in_rows(texts, rows, [1, 2, 3, 4]), expected)


def test_a_token_is_drawn_where_the_summed_probability_first_exceeds_the_number():
    logits = torch.log(torch.tensor([[0.0, 0.25, 0.5, 0.25, 0.0]], dtype=torch.float64)).expand(6, 5)
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert drawn_tokens(logits, uniform).tolist() == [1, 1, 2, 2, 3, 3]
    assert drawn_tokens(logits.float(), uniform.float()).tolist() == [1, 1, 2, 2, 3, 3], "1 - 2^-53 is 1 there"


def test_samples_are_drawn_by_whole_forward_passes_from_the_top_k_at_the_temperature(hooked, paragraphs):
    said = sampled_continuations(hooked, paragraphs, 3, temperature=0.7, top_k=5, seed=1, batch_size=4)
    for row in range(len(paragraphs)):
        uniform = uniforms(paragraphs.hashes[row], 3, LENGTH - PREFIX, 1)
        for sample in range(3):
            text = paragraphs.tokens[row, :PREFIX].tolist()
            for at in range(LENGTH - PREFIX):
                logits = hooked(torch.tensor([text]))[0, -1].detach().numpy()
                best = np.sort(np.argsort(-logits)[:5])
                weights = np.exp(logits[best] / 0.7)
                text.append(
                    int(best[np.searchsorted(np.cumsum(weights) / weights.sum(), uniform[sample, at], "right")])
                )
            assert said[row, sample].tolist() == text[PREFIX:]


def test_samples_come_as_often_as_extraction_says(make_model):
    """4,000 samples of three tokens: the share that are the true text is the probability of extraction."""
    model, row, samples = make_model("gpt2"), torch.arange(5, 11), 4000
    row[3:] = model.continue_greedily(row[None, :3], 3)[0]
    paragraphs = lz.load_paragraphs(row[None], prefix_length=3, continuation_length=3)
    options = {"temperature": 0.5, "top_k": 6}
    p = lz.memory(model, paragraphs, prefixes=3, **options)["extraction_probability"].item()
    said = sampled_continuations(model, paragraphs, samples, **options, seed=0, batch_size=64)
    hits = (said[0] == row[3:].numpy()).all(1).mean()
    assert 0.02 < p < 0.9 and abs(hits - p) < 4 * math.sqrt(p * (1 - p) / samples)


def test_draws_are_those_of_seed_and_paragraph_alone():
    few, many = uniforms(b"x", 2, 6, 0), uniforms(b"x", 5, 6, 0)
    assert np.array_equal(few, many[:2]) and few.min() >= 0 and few.max() < 1
    assert not np.isin(few, [uniforms(b"y", 2, 6, 0), uniforms(b"x", 2, 6, 1)]).any()


def test_memory_tells_the_mean_share_of_samples_and_the_true_texts_as_its_null(hooked, paragraphs):
    rows = np.random.default_rng(0).integers(0, 97, (300, 30))
    rows[0, :16], rows[1, 4:20] = paragraphs.tokens[2, PREFIX:], paragraphs.tokens[0, 20:36]
    found = lz.memory(hooked, paragraphs, rows=rows, samples=3, ngrams=[3, 1, 2], top_k=8, seed=5, batch_size=2)
    assert found["ngram"].values.tolist() == [1, 2, 3]
    said = sampled_continuations(hooked, paragraphs, 3, temperature=1.0, top_k=8, seed=5, batch_size=64)
    expected = np.mean([shares_by_sets(said[:, sample], rows, [1, 2, 3]) for sample in range(3)], axis=0)
    np.testing.assert_allclose(found[SHARE], expected)
    true = shares_by_sets(paragraphs.tokens[:, PREFIX:], rows, [1, 2, 3])
    np.testing.assert_allclose(found["true_ngrams_in_rows"], true)
    assert true[2].tolist() == [1, 1, 1] and 0 < true[0, 2] < 1
    call = next(call for call in found.dataset.attrs["calls"] if call["measurement"] == "memory")
    assert call["rows"]["shape"] == [300, 30] and (call["samples"], call["ngrams"], call["seed"]) == (3, [1, 2, 3], 5)


def test_what_is_recited_stands_in_the_rows_it_was_learned_from(hooked, tokens):
    """A model that says one thing alone, of rows that hold it, and of rows without."""
    row = tokens[:1, :LENGTH].clone()
    row[:, PREFIX:] = hooked.continue_greedily(row[:, :PREFIX], LENGTH - PREFIX)
    recited = lz.load_paragraphs(row, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    assert (lz.memory(hooked, recited, rows=row, top_k=1)[SHARE] == 1).all()
    assert (lz.memory(hooked, recited, rows=row + 97, top_k=1)[SHARE] == 0).all()


def test_rows_are_an_array_a_tensor_or_a_file_and_without_them_nothing_is_sampled(gpt2, paragraphs, tmp_path):
    rows = np.random.default_rng(0).integers(0, 97, (300, 30)).astype(np.uint16)
    np.save(tmp_path / "rows.npy", rows)
    given = (rows, torch.from_numpy(rows.astype(np.int64)), tmp_path / "rows.npy", str(tmp_path / "rows.npy"))
    found = [lz.memory(gpt2, paragraphs, rows=one) for one in given]
    for other in found[1:]:
        assert np.array_equal(found[0][SHARE], other[SHARE])
        assert found[0].dataset.attrs["calls"][0]["rows"] == other.dataset.attrs["calls"][0]["rows"]
    assert found[0]["ngram"].values.tolist() == [2, 3, 4, 6, 8]
    assert SHARE not in lz.memory(gpt2, paragraphs)


def test_lengths_are_those_that_the_continuation_has(gpt2, tokens):
    for length, expected in ((1, [1]), (3, [2, 3]), (6, [2, 3, 4, 6])):
        paragraphs = lz.load_paragraphs(tokens[:2, : 8 + length], prefix_length=8, continuation_length=length)
        assert lz.memory(gpt2, paragraphs, rows=tokens)["ngram"].values.tolist() == expected


def test_tables_hold_it_beside_the_other_metrics(gpt2, tokens):
    paragraphs = lz.load_paragraphs(tokens[:, :LENGTH], prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    paragraphs = paragraphs.with_groups(["planted"] * 3 + ["never_trained"] * (len(tokens) - 3))
    signature = lz.memory(gpt2, paragraphs, rows=tokens[:3], ngrams=[1, 2], samples=2)
    with pytest.warns(UserWarning, match="few effective clusters"):
        table = lz.memory_table(signature)
    name = "sampled n-grams in the rows, n = 1"
    row, values = table.loc[(name, "mean", "planted")], signature[SHARE].values[:3, 0]
    assert (row["estimate"], row["null"]) == (pytest.approx(values.mean()), 1)
    aside = table.loc[(name, "mean", "never_trained")]
    assert aside["null"] == pytest.approx(signature["true_ngrams_in_rows"].values[3:, 0].mean()) and aside["null"] < 1
    assert table.loc[(name, "AUC", "planted - never_trained"), "null"] == 0.5
    assert "true n-grams in the rows, n = 1" not in table.index.get_level_values("metric")
    with pytest.warns(UserWarning, match="few effective clusters"):
        assert name in lz.memory_agreement(signature, "all").index.get_level_values("metric")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ngrams": [2, 17]}, "ngrams=17 must be a whole number in 1..16, the tokens of the continuation."),
        ({"ngrams": 0}, "ngrams=0 must be a whole number in 1..16, the tokens of the continuation."),
        ({"ngrams": ()}, "ngrams=() is empty; at least one in 1..16 is needed."),
        ({"samples": 0}, "samples=0 must be a whole number of at least 1."),
        ({"rows": np.zeros((2, 2))}, "rows: float64 of shape (2, 2); token ids, (row, position), are needed."),
        ({"rows": np.zeros(3, int)}, "rows: int64 of shape (3,); token ids, (row, position), are needed."),
        ({"rows": np.zeros((0, 3), int)}, "rows: int64 of shape (0, 3); token ids, (row, position), are needed."),
        ({"rows": np.array([[1, -1]])}, "rows: holds -1; token ids are 0 or more."),
        ({"rows": "none.npy"}, "rows none.npy: cannot be read; a .npy file of token ids is needed."),
    ],
)
def test_what_cannot_be_looked_up_is_refused_in_one_line(gpt2, paragraphs, options, told):
    with pytest.raises((lz.InputError, lz.LocalizeError)) as error:
        lz.memory(gpt2, paragraphs, **options)
    assert str(error.value) == f"memory: {told}"


def test_sampling_draws_from_the_top_k_and_those_as_likely_as_the_last():
    logits = torch.tensor([[4.0, 2.0, 2.0, 1.0]])
    assert sampling_logits(logits, 2.0, 2).tolist() == [[2.0, 1.0, 1.0, -math.inf]]
    assert sampling_logits(logits, 2.0, None).tolist() == [[2.0, 1.0, 1.0, 0.5]]
