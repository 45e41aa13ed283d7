"""Untrained models' scores are those that measuring each of them gives, and attention's ranks are those that scores are made of."""

import numpy as np
import pytest
import scipy.stats
import torch

import localize as lz
from localize.analysis.dealt_counts import dealt_scores
from localize.measure import untrained_heads
from localize.measure.looking import LAST_PREFIX, views
from localize.measure.rare_token_heads import UNTRAINED
from localize.measure.untrained_heads import model_seed, rows_scored
from localize.models.untrained import untrained

PREFIX, LENGTH = 40, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))


def test_each_untrained_model_scores_what_measuring_it_gives(hooked, paragraphs, counts):
    measure = {"counts": counts, "null_draws": 3, "seed": 5}
    found = lz.rare_token_heads(hooked, paragraphs, untrained_models=3, batch_size=4, **measure)
    assert found["rare_token_score_untrained"].dims == ("paragraph", "untrained_model", "layer", "head")
    for number in range(3):
        alone = lz.rare_token_heads(untrained(hooked, model_seed(5, number)), paragraphs, untrained=False, **measure)
        score = alone["rare_token_score"].sel(query="last_prefix")
        null = alone["rare_token_null"].sel(query="last_prefix", null="mismatched")
        for name, expected in zip(UNTRAINED, (score, null), strict=True):
            np.testing.assert_allclose(
                found[name][:, number], expected.transpose("paragraph", "layer", "head"), atol=1e-6
            )
    assert len({model_seed(seed, number) for seed in range(3) for number in range(5)}) == 15


def test_without_untrained_models_there_are_none_of_their_scores(hooked, paragraphs, counts):
    assert not set(UNTRAINED) & set(lz.rare_token_heads(hooked, paragraphs, counts=counts, untrained=False).variables)
    with pytest.raises(lz.LocalizeError) as caught:
        lz.rare_token_heads(hooked, paragraphs, untrained_models=0)
    assert str(caught.value) == (
        "rare_token_heads: untrained_models=0 must be at least 1; untrained=False measures none."
    )


def test_the_memorized_are_read_where_there_are_any_and_of_many_some_at_random(monkeypatch):
    hashes = [bytes([row]) for row in range(20)]
    group = np.array(["memorized", "partial"] * 10)
    assert rows_scored(group, hashes, 0).tolist() == list(range(0, 20, 2))
    assert rows_scored(np.repeat(["a", "b"], 10), hashes, 0).tolist() == list(range(20))
    monkeypatch.setattr(untrained_heads, "MOST_PARAGRAPHS", 4)
    one, other = (rows_scored(group, hashes, seed) for seed in (0, 1))
    assert len(one) == 4 and (one % 2 == 0).all() and (np.diff(one) > 0).all()
    assert one.tolist() != other.tolist()
    assert [hashes[row] for row in one] == [hashes[::-1][row] for row in rows_scored(group[::-1], hashes[::-1], 0)][
        ::-1
    ]


def test_paragraphs_that_untrained_models_did_not_read_are_missing(hooked, paragraphs, counts, monkeypatch):
    monkeypatch.setattr(untrained_heads, "MOST_PARAGRAPHS", 4)
    found = lz.rare_token_heads(hooked, paragraphs, counts=counts, untrained_models=2, null_draws=2)
    for name in UNTRAINED:
        there = found[name].notnull().values
        assert there.any((1, 2, 3)).sum() == there.all((1, 2, 3)).sum() == 4


def test_the_ranks_of_attention_and_the_counts_give_the_scores_back(hooked, paragraphs, counts):
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, untrained=False)
    rarity = signature["prefix_counts"].values
    assert np.array_equal(rarity, counts[paragraphs.prefixes].numpy())
    for query in signature["query"].values:
        ranks, score = (signature[name].sel(query=query).values for name in ("attention_rank", "rare_token_score"))
        for row, layer, head in np.ndindex(score.shape):
            own = ranks[row, layer, head]
            seen = ~np.isnan(own)
            assert scipy.stats.spearmanr(own[seen], -rarity[row, seen]).statistic == pytest.approx(
                score[row, layer, head]
            )
    last = signature["attention_rank"].sel(query="last_prefix")
    for view in views(hooked, PREFIX, LENGTH):
        if view.query == LAST_PREFIX:
            seen = last.sel(layer=view.layers).notnull().values.all((0, 1, 2))
            assert np.flatnonzero(seen).tolist() == view.keys.tolist()


def test_what_is_kept_lets_counts_be_dealt_out(hooked, paragraphs, counts):
    """With counts as they are and all paragraphs alike in position, the score above position is the score less its position's."""
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, untrained=False)
    everything = np.ones(len(paragraphs), dtype=bool)
    for query in signature["query"].values:
        found = dealt_scores(signature.dataset, str(query), [everything], 0, 5)
        score = signature["rare_token_score"].sel(query=query).values
        mean = np.zeros_like(score)
        ranks, rarity = signature["attention_rank"].sel(query=query).values, signature["prefix_counts"].values
        for row, layer, head in np.ndindex(score.shape):
            seen = ~np.isnan(ranks[row, layer, head])
            own = ranks[row, layer, head, seen]
            others = [scipy.stats.spearmanr(own, -rarity[other, seen]).statistic for other in range(len(paragraphs))]
            mean[row, layer, head] = np.mean(others)
        np.testing.assert_allclose(found.score[0, 0], (score - mean).mean(0), atol=1e-6)
