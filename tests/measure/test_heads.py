"""Rare-token scores against scipy, one paragraph, layer and head at a time."""

import numpy as np
import pytest
import torch
from scipy.stats import ConstantInputWarning, rankdata, spearmanr

import localize as lz
from localize.measure.heads import average_ranks, mismatched, rare_token_scores, spearman

PREFIX = 40


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))


def test_ranks_are_those_of_scipy_ties_included():
    values = torch.from_numpy(np.random.default_rng(1).integers(0, 6, (3, 4, 20)))
    assert np.array_equal(average_ranks(values).numpy(), rankdata(values, axis=-1) - 1)


def test_the_score_tells_rare_from_common_from_indifferent():
    counts = torch.tensor([[500, 400, 300, 200, 100, 7]])
    rare = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3, 0.0])
    common = rare[[4, 3, 2, 1, 0, 5]]
    even = torch.tensor([0.2] * 5 + [0.0])
    pattern = torch.zeros(1, 3, 6, 6)
    pattern[0, :, 5] = torch.stack([rare, common, even])
    scores = rare_token_scores(pattern, counts, query=5)[0]
    assert scores[:2].tolist() == pytest.approx([1.0, -1.0])
    assert torch.isnan(scores[2])


def test_a_local_head_is_scored_on_what_it_sees():
    counts = torch.tensor([[1, 1000, 50, 40, 30, 20]])
    pattern = torch.zeros(1, 1, 6, 6)
    pattern[0, 0, 5] = torch.tensor([0.0, 0.0, 0.1, 0.2, 0.3, 0.4])
    assert rare_token_scores(pattern, counts, query=5, window=4).item() == pytest.approx(1.0)
    assert rare_token_scores(pattern, counts, query=5).item() < 0.5


@pytest.mark.parametrize("query", [1, 6])
def test_a_query_without_two_earlier_keys_is_refused(query):
    with pytest.raises(lz.LocalizeError) as caught:
        rare_token_scores(torch.zeros(1, 1, 6, 6), torch.ones(1, 6, dtype=torch.int64), query=query)
    assert str(caught.value) == (
        f"rare_token_scores: query={query} must lie in 2..5, because the pattern has 6 positions "
        "and at least two earlier keys are compared."
    )


def test_constant_rarity_gives_no_score():
    with pytest.warns(ConstantInputWarning):
        assert np.isnan(spearmanr([1, 2, 3], [4, 4, 4]).statistic)
    assert torch.isnan(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 4.0, 4.0])))


@torch.no_grad()
def test_scores_and_nulls_are_those_of_scipy_on_the_attention_of_the_last_prefix_token(hooked, paragraphs, counts):
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=3, seed=5, batch_size=4)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(hooked.n_layers)]
    _, patterns = hooked.run_with_cache(
        paragraphs.tokens, names
    )  # the whole paragraph: what follows the query does not matter
    partners = mismatched(paragraphs, 3, 5)
    query = PREFIX - 1
    rarity = counts[paragraphs.prefixes].numpy()
    for layer, name in enumerate(names):
        first = 0 if hooked.window(layer) is None else query - hooked.window(layer) + 1
        for row in range(len(paragraphs)):
            for head in range(hooked.n_heads):
                attention = patterns[name][row, head, query, first:query].numpy()
                own = spearmanr(attention, -rarity[row, first:query]).statistic
                others = [spearmanr(attention, -rarity[partner, first:query]).statistic for partner in partners[row]]
                assert signature["rare_token_score"].values[row, layer, head] == pytest.approx(own, abs=1e-6)
                assert signature["rare_token_null"].values[row, layer, head] == pytest.approx(np.mean(others), abs=1e-6)


def test_partners_come_from_other_clusters_and_do_not_depend_on_the_order(tokens):
    rows = tokens.repeat(2, 1)
    rows[6:, -1] = (rows[6:, -1] + 1) % 97  # near-duplicates of the first six
    paragraphs = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=20)
    partners = mismatched(paragraphs, 20, 0)
    assert not (paragraphs.clusters[partners] == paragraphs.clusters[:, None]).any()
    assert len(np.unique(partners)) == 12
    assert np.array_equal(mismatched(paragraphs, 5, 0), partners[:, :5])


def test_a_head_wired_to_rare_tokens_scores_high_and_its_null_does_not(neo, paragraphs, counts):
    """Layer 0's head 1 is given keys along one direction, by the logarithm of the token's rarity, and queries along it."""
    with torch.no_grad():
        body = neo.hf.transformer
        rarity = -torch.log(counts.double() + 1)
        direction = torch.zeros(neo.d_model, dtype=torch.float64)
        direction[0], direction[1] = 1, -1  # survives the layer norm's centring
        body.wte.weight.copy_(0.1 * body.wte.weight + 3 * (rarity - rarity.mean())[:, None] * direction)
        body.wpe.weight.zero_()
        neo.weight(0, "W_Q", 1).zero_()
        neo.weight(0, "W_K", 1).zero_()
        neo.weight(0, "W_K", 1)[:, 0] = 5 * direction
        body.h[0].ln_1.bias[2] = 1.0
        neo.weight(0, "W_Q", 1)[2, 0] = 1.0
    signature = lz.rare_token_heads(neo, paragraphs, counts=counts)
    mean = signature["rare_token_score"].mean("paragraph")
    assert np.unravel_index(np.nanargmax(mean.values), mean.shape) == (0, 1)
    assert float(mean[0, 1]) > 0.8
    assert abs(float(signature["rare_token_null"].mean("paragraph")[0, 1])) < 0.3


def test_the_counts_that_were_used_are_told(neo, paragraphs, counts):
    def told(signature):
        return signature.dataset.attrs["calls"][0]["counts"]

    assert told(lz.rare_token_heads(neo, paragraphs, counts=counts)) == "given"
    assert told(lz.rare_token_heads(neo, paragraphs)) == "the paragraphs measured"
    neo.unigram_counts = counts
    assert told(lz.rare_token_heads(neo, paragraphs)) == "training corpus"
    assert np.array_equal(
        lz.rare_token_heads(neo, paragraphs)["rare_token_score"],
        lz.rare_token_heads(neo, paragraphs, counts=counts)["rare_token_score"],
    )


def test_one_cluster_has_no_null(neo, tokens):
    alone = lz.load_paragraphs(tokens[:1], prefix_length=PREFIX, continuation_length=20)
    with pytest.raises(lz.InputError) as caught:
        lz.rare_token_heads(neo, alone)
    assert str(caught.value) == (
        "Tensor: 1 paragraph(s) in one cluster of near-duplicates; the null of rare_token_heads needs at least two clusters."
    )


def test_counts_of_another_vocabulary_are_refused(neo, paragraphs):
    with pytest.raises(
        lz.LocalizeError, match=r"^rare_token_heads: counts has 5 entries; the vocabulary of .* has 97\.$"
    ):
        lz.rare_token_heads(neo, paragraphs, counts=torch.ones(5, dtype=torch.int64))
