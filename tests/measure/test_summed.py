"""The paper's summed statistic by hand, by loops over a model's patterns, and on the real paragraphs."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

import localize as lz
from localize.axes import CORRELATIONS
from localize.measure.summed import RankSums

PREFIX = 40
ORACLES = (pearsonr, spearmanr, kendalltau)


def by_loops(patterns, counts, first):
    """Each head's three correlations, and those of a head that spreads 1 / n over the n tokens that it sees."""
    sums, even = [defaultdict(float) for _ in range(patterns.shape[1])], defaultdict(float)
    for pattern, count in zip(patterns, counts, strict=True):
        for key, rank in zip(range(first, PREFIX - 1), rankdata(count[first:], method="dense") - 1, strict=True):
            even[rank] += 1 / (PREFIX - first)
            for head, attention in enumerate(pattern):
                sums[head][rank] += attention[PREFIX - 1, key]
    ranks = sorted(even)
    assert ranks == list(range(len(ranks)))
    heads = [[oracle(ranks, [of[rank] for rank in ranks]).statistic for of in sums] for oracle in ORACLES]
    return heads, [oracle(ranks, [round(even[rank], 9) for rank in ranks]).statistic for oracle in ORACLES]


def test_two_paragraphs_by_hand():
    """Sums by rank 1, 0.3 and 0.1; three, two and one token have them."""
    sums = RankSums(layers=1, heads=1, ranks=3)
    attention = torch.tensor([[0.1, 0.3, 0.2], [0.5, 0.2, 0.1]], dtype=torch.float64)[:, None, None]
    sums.add([0], attention, torch.tensor([[5, 1, 1], [7, 8, 9]]), np.array(["a", "a"]))
    assert sums.attention["a"][0, 0].tolist() == pytest.approx([1.0, 0.3, 0.1])
    assert sums.tokens["a"][0].tolist() == [3, 2, 1]
    names, found, uniform = sums.correlations()
    assert names == ("a",)
    assert found[0, :, 0, 0].tolist() == pytest.approx([-0.9 / np.sqrt(2 * 0.67 / 1.5), -1, -1])
    assert uniform[0, :, 0].tolist() == pytest.approx([-1, -1, -1])


def test_a_head_that_looks_at_rare_tokens_is_negative_as_in_the_paper():
    sums = RankSums(layers=1, heads=2, ranks=4)
    counts = torch.tensor([[1, 10, 100, 1000]])
    rare, common = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    sums.add([0], torch.stack([rare, common])[None, None], counts, np.array(["a"]))
    _, found, uniform = sums.correlations()
    assert found[0, :, 0].tolist() == [pytest.approx([-1, 1])] * 3
    assert np.isnan(uniform).all(), "each rank has one token: even attention does not vary"


@pytest.mark.parametrize(
    "groups", [["x"] * 6, ["x", "y", "x", "x", "y", "y"], None], ids=["one group", "two", "by recall"]
)
def test_it_is_that_of_loops_over_a_models_patterns(hooked, tokens, groups):
    with torch.no_grad():
        tokens[:3, PREFIX:] = hooked.continue_greedily(tokens[:3, :PREFIX], 20)  # memorized, if no one says otherwise
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(hooked.n_layers)]
        patterns = [p.numpy() for p in hooked.run_with_cache(tokens, names)[1].values()]
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)
    paragraphs = paragraphs if groups is None else paragraphs.with_groups(groups)
    counts = torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, untrained=False, batch_size=4)
    found, uniform = signature["summed_rank_correlation"], signature["summed_rank_correlation_uniform"]
    group = signature["group"].values
    sets = list(dict.fromkeys(groups or ["memorized", "not_memorized"]))
    assert found["set"].values.tolist() == sets
    assert found["correlation"].values.tolist() == list(CORRELATIONS)
    frequency = counts[tokens[:, : PREFIX - 1]].numpy()
    for row, name in enumerate(sets):
        rows = np.flatnonzero(group == name)
        for layer in range(hooked.n_layers):
            window = hooked.window(layer)
            heads, even = by_loops(patterns[layer][rows], frequency[rows], 0 if window is None else PREFIX - window)
            assert found.values[row, :, layer] == pytest.approx(np.array(heads), abs=1e-12)
            assert uniform.values[row, :, layer] == pytest.approx(even, abs=1e-12)


def test_gradients_and_heads_of_several_groups_join(neo, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)
    paragraphs = paragraphs.with_groups(["y", "memorized", "x", "x", "y", "memorized"])
    heads = lz.rare_token_heads(neo, paragraphs, untrained=False, batch_size=2)
    joined = lz.gradients(neo, paragraphs) | heads
    assert joined["set"].values.tolist() == ["y", "memorized", "x"]
    assert joined["summed_rank_correlation"].equals(heads["summed_rank_correlation"])


def test_even_attention_to_the_real_memorized_paragraphs_correlates_strongly(shared_data):
    """Over these 442 it is -.80 -.75 -.62 with the paragraphs' own counts; the value follows the corpus, the sign does not."""
    tokens = torch.load(shared_data / "pile-gpt-neo-125M" / "preds" / "50_50_preds.pt", weights_only=True)
    for counted in (tokens, tokens[:, :50]):
        counts = lz.unigram_counts(counted, vocab_size=50257)
        sums = RankSums(layers=1, heads=1, ranks=49)
        even = torch.full((442, 1, 1, 49), 1 / 50)
        sums.add([0], even, counts[tokens[:, :49]], np.array(["memorized"] * 442))
        _, found, uniform = sums.correlations()
        assert (uniform < -0.6).all()
        assert found[..., 0] == pytest.approx(uniform)
