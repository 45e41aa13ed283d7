"""What stands before a change: the text asked for, and its recall beside that of the paragraphs."""

import numpy as np
import pytest

import localize as lz
from localize.measure.before import Before
from localize.measure.scoring import measure_recall

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def test_the_own_text_is_recited_whole_and_recall_stays_that_of_the_true_one(hooked, paragraphs):
    before = Before.measured(hooked, paragraphs, "own")
    said = hooked.continue_greedily(paragraphs.prefixes, LENGTH - PREFIX)
    assert before.tokens[:, :PREFIX].equal(paragraphs.prefixes)
    assert before.tokens[:, PREFIX:].equal(said)
    assert before.arrays["unperturbed_exact_match"].tolist() == [LENGTH - PREFIX] * 6
    own, true = (measure_recall(hooked, rows, PREFIX) for rows in (before.tokens, paragraphs.tokens))
    assert np.array_equal(before.unperturbed.token_nll, own.token_nll)
    assert np.array_equal(before.recall.token_nll, true.token_nll)
    assert before.recall.exact_match.tolist() == true.exact_match.tolist() != own.exact_match.tolist()


def test_of_the_true_text_both_are_recall(hooked, paragraphs):
    before = Before.measured(hooked, paragraphs.with_own_continuation(hooked), "true", batch_size=64)
    assert before.tokens.equal(paragraphs.tokens)
    for of_both in zip(before.recall, before.unperturbed, strict=True):
        assert np.array_equal(*of_both)


def test_its_variables_are_those_that_a_signature_keeps(hooked, paragraphs):
    before, kept = Before.measured(hooked, paragraphs, "own"), lz.perturb_prefix(hooked, paragraphs, draws=1)
    assert list(before.arrays) == ["unperturbed_exact_match", "unperturbed_nll"]
    assert list(before.token_arrays) == ["unperturbed_token_nll", "unperturbed_tokens"]
    for name, values in (before.arrays | before.token_arrays).items():
        assert np.array_equal(kept[name], values), name
    assert np.allclose(kept["unperturbed_nll"], kept["unperturbed_token_nll"].mean("continuation_position"), rtol=1e-12)
    assert before.dtype == kept["perturbed_nll"].dtype == np.float64


def test_an_unknown_continuation_is_refused(neo, paragraphs):
    with pytest.raises(lz.LocalizeError) as caught:
        Before.measured(neo, paragraphs, "both")
    assert str(caught.value) == "localize: continuation='both' is not one of true, own."
