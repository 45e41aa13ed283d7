"""Attention to each prefix token, against patterns read one layer and head at a time."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

import localize as lz
from localize.axes import QUERIES
from localize.measure.prefix_attention import prefix_attention

PREFIX, LENGTH = 40, 60
EXACT = 1e-12


@pytest.fixture
def paragraphs(tokens):
    """Six rows of 60 tokens, the local window 16."""
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def patterns_of(model, tokens):
    """(layer, paragraph, head, query, key)."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    with torch.no_grad():
        return np.stack([pattern.numpy() for pattern in model.run_with_cache(tokens, names)[1].values()])


def test_it_is_what_the_pattern_says_of_each_prefix_token(hooked, paragraphs):
    signature = prefix_attention(hooked, paragraphs, batch_size=4)
    found, patterns = signature["prefix_attention"], patterns_of(hooked, paragraphs.tokens)
    assert found.dims == ("paragraph", "query", "layer", "head", "prefix_position")
    assert found["query"].values.tolist() == list(QUERIES)
    assert found.attrs["continuation"] == "true"
    for row, layer, head, position in np.ndindex(6, hooked.n_layers, hooked.n_heads, PREFIX):
        pattern = patterns[layer, row, head]
        from_continuation = [pattern[query, position] for query in range(PREFIX, LENGTH - 1)]
        got = found.values[row, :, layer, head, position]
        assert got == pytest.approx([pattern[PREFIX - 1, position], np.mean(from_continuation)], rel=EXACT, abs=EXACT)


def test_the_last_prefix_token_gives_all_of_its_attention_to_the_prefix_and_the_continuation_a_part(hooked, paragraphs):
    sums = prefix_attention(hooked, paragraphs)["prefix_attention"].sum("prefix_position")
    np.testing.assert_allclose(sums.sel(query="last_prefix"), 1, rtol=EXACT)
    assert (sums.sel(query="continuation") < 1).all() and (sums.sel(query="continuation") > 0).all()


def test_a_local_layer_pays_nothing_to_what_it_does_not_see(neo, paragraphs):
    attention = prefix_attention(neo, paragraphs)["prefix_attention"].values
    local = [layer for layer in range(neo.n_layers) if neo.window(layer)]
    assert local and {neo.window(layer) for layer in local} == {16}
    assert (attention[:, 0, local, :, : PREFIX - 16] == 0).all()
    assert (attention[:, 0, local, :, PREFIX - 16 :] > 0).all()
    # The first token of the continuation sees 15 of the prefix, its own place taken off.
    assert (attention[:, 1, local, :, : PREFIX - 15] == 0).all()
    assert (attention[:, 1, local, :, PREFIX - 15 :] > 0).all()
    assert (attention[:, :, [layer for layer in range(neo.n_layers) if layer not in local]] > 0).all()


def test_it_is_that_of_the_continuation_that_the_paragraphs_hold(neo, paragraphs):
    own = paragraphs.with_own_continuation(neo)
    signature = prefix_attention(neo, own)
    assert signature["prefix_attention"].attrs["continuation"] == "own"
    expected = patterns_of(neo, own.tokens)[:, :, :, PREFIX : LENGTH - 1, :PREFIX].mean(3)
    np.testing.assert_allclose(signature["prefix_attention"].values[:, 1], expected.swapaxes(0, 1), rtol=1e-10)
    assert signature["nll"].attrs["continuation"] == "true"


def test_recall_is_that_of_a_measurement_of_its_own(neo, paragraphs):
    for given in (paragraphs, paragraphs.with_own_continuation(neo)):
        signature, recall = prefix_attention(neo, given, batch_size=4), lz.recall(neo, given)
        assert np.array_equal(signature["exact_match"], recall["exact_match"])
        np.testing.assert_allclose(signature["token_nll"], recall["token_nll"], rtol=EXACT)


def test_batches_and_company_do_not_matter(hooked, paragraphs):
    whole = prefix_attention(hooked, paragraphs)["prefix_attention"].values
    for batch_size in (1, 4):
        np.testing.assert_allclose(
            prefix_attention(hooked, paragraphs, batch_size=batch_size)["prefix_attention"], whole, rtol=1e-10
        )
    part = prefix_attention(hooked, paragraphs[[4, 1]])["prefix_attention"].values
    np.testing.assert_allclose(part, whole[[4, 1]], rtol=1e-10)


def test_a_continuation_of_one_token_does_not_look(neo, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=1)
    attention = prefix_attention(neo, paragraphs)["prefix_attention"]
    assert attention.sel(query="continuation").isnull().all()
    np.testing.assert_allclose(attention.sel(query="last_prefix").sum("prefix_position"), 1, rtol=EXACT)


def test_it_joins_with_the_heads(neo, paragraphs):
    joined = prefix_attention(neo, paragraphs) | lz.rare_token_heads(neo, paragraphs)
    assert {"prefix_attention", "rare_token_score"} <= set(joined.variables)
    by_scipy = entropy(joined["prefix_attention"].values[:, 0], axis=-1)
    np.testing.assert_allclose(joined["attention_entropy"].values[:, 0], by_scipy, rtol=1e-9)


def test_half_precision_rows_still_sum_to_one(make_model, paragraphs):
    attention = prefix_attention(make_model("gpt2", dtype=torch.bfloat16), paragraphs)["prefix_attention"]
    assert attention.dtype == np.float32
    np.testing.assert_allclose(attention.sel(query="last_prefix").sum("prefix_position"), 1, rtol=1e-6)


def test_a_batch_of_nothing_is_refused(neo, paragraphs):
    with pytest.raises(lz.LocalizeError) as caught:
        prefix_attention(neo, paragraphs, batch_size=0)
    assert str(caught.value) == "batch_size=0 must be a whole number of at least 1."


def test_paragraphs_longer_than_the_context_are_refused(make_model, paragraphs):
    short = make_model("gpt2", n_positions=50)
    with pytest.raises(lz.InputError) as caught:
        prefix_attention(short, paragraphs)
    assert str(caught.value) == (
        "Tensor: 40 + 20 tokens exceed the context of small gpt2, which is 50; choose a shorter prefix or continuation."
    )
