"""Rows of a Markov chain, against the chain itself."""

from itertools import islice

import numpy as np
import pytest

from localize.errors import InputError
from localize.train.chain import BLOCK, chain_rows, chain_text, chain_tokenizer, transitions
from localize.train.recipe import TrainingCorpus

CHAIN = TrainingCorpus("chain", 24, words=(4, 20), mark=23)


def first(count, corpus=CHAIN, key=(0,), length=12, **options):
    return np.stack(list(islice(chain_rows(corpus, key, length, **options), count)))


def test_rows_follow_the_transitions():
    matrix, rows = transitions(CHAIN), first(6000)
    assert (rows[:, 0] == 23).all()
    assert set(rows[:, 1:].ravel().tolist()) <= set(range(4, 20))
    begun = np.bincount(rows[:, 1], minlength=24)[4:20] / len(rows)
    assert np.abs(begun - 1 / 16).max() < 0.015  # 4.7 standard errors
    pairs = np.zeros((24, 24))
    np.add.at(pairs, (rows[:, 1:-1].ravel(), rows[:, 2:].ravel()), 1)
    seen = pairs.sum(1)
    assert (pairs[matrix == 0] == 0).all()
    share, often = pairs / seen.clip(1)[:, None], seen > 500
    error = np.sqrt(matrix * (1 - matrix) / seen.clip(1)[:, None])
    assert (np.abs(share - matrix)[often] <= 5 * error[often] + 1e-12).all()


def test_a_series_is_the_same_wherever_it_is_entered_and_another_key_is_another_series():
    whole = first(BLOCK + 20)
    assert np.array_equal(first(15, start=BLOCK - 5), whole[BLOCK - 5 : BLOCK + 10])
    assert not np.array_equal(first(15, key=(1,)), whole[:15])
    assert not np.array_equal(transitions(CHAIN), transitions(TrainingCorpus("chain", 24, rules=1, words=(4, 20))))


def test_of_64_words_the_rules_have_about_one_and_a_quarter_nats_of_entropy():
    matrix = transitions(TrainingCorpus("chain", 64))
    stationary = np.full(64, 1 / 64)
    for _ in range(500):
        stationary = stationary @ matrix
    entropy = -(stationary[:, None] * matrix * np.log(matrix.clip(1e-300))).sum()
    assert entropy == pytest.approx(1.24, abs=0.01)


def test_the_tokenizer_reads_a_rows_text_back():
    tokenizer, (row,) = chain_tokenizer(24), first(1)
    assert tokenizer(chain_text(row))["input_ids"] == row.tolist()
    assert tokenizer.decode(row) == chain_text(row)
    assert len(tokenizer) == 24


@pytest.mark.parametrize("wrong", [{"words": (4, 25)}, {"words": (5, 5)}, {"mark": 24}])
def test_words_outside_the_vocabulary_are_refused(wrong):
    with pytest.raises(InputError, match=r"^recipe: a chain of the words .* 0\.\.23 are its vocabulary\.$"):
        transitions(TrainingCorpus("chain", 24, **wrong))
