"""Counts dealt out over token types: scores of loops, and heads that like tokens whatever their rarity are not called rare-token heads."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from localize.analysis.choice import StrongestHead
from localize.analysis.dealt_counts import DealtScores, dealt_scores, scores_by_deal, seen_alike, unit_ranks

PARAGRAPHS, KEYS, TYPES = 12, 9, 7


def text(rng, paragraphs=PARAGRAPHS, keys=KEYS, types=TYPES):
    """Token types by their rarity, the common ones most often, and how often each is counted in a corpus."""
    share = np.arange(1.0, types + 1) ** -0.8
    drawn = rng.choice(types, (paragraphs, keys), p=share / share.sum())
    return drawn, np.floor(1e5 * share).astype(np.int64)


def read(rng, types, liking, noise=1.0):
    """Ranks of the attention of one layer's heads that like each type so much."""
    attention = liking.T[types] + noise * rng.normal(size=(*types.shape, len(liking)))  # (paragraph, key, head)
    return attention.transpose(0, 2, 1).argsort(-1).argsort(-1).astype(float)[:, None]


def dataset(rng, **options):
    types, counts = text(rng, **options)
    ranks = read(rng, types, rng.normal(size=(3, types.max() + 1)))
    return xr.Dataset(
        {
            "attention_rank": (("paragraph", "query", "layer", "head", "prefix_position"), ranks[:, None]),
            "prefix_counts": (("paragraph", "prefix_position"), counts[types]),
        },
        {"tokens": (("paragraph", "position"), np.pad(types, ((0, 0), (0, 4)))), "query": ["last_prefix"]},
    )


def test_unit_ranks_multiply_to_spearmans_rho_and_are_0_where_all_are_equal():
    x, y = np.random.default_rng(0).integers(0, 5, (2, 12))
    assert unit_ranks(x) @ unit_ranks(y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert (unit_ranks(np.ones(4)) == 0).all()


def test_score_and_error_are_those_of_a_loop_over_types():
    rng = np.random.default_rng(0)
    types, of_type = text(rng)
    ranks = rng.permuted(np.tile(np.arange(KEYS, dtype=float), (PARAGRAPHS, 2, 3, 1)), axis=-1)
    ranks[:, 1, :, :4] = np.nan  # a local layer
    counts, of_set = np.stack([of_type, rng.permutation(of_type)]), np.repeat([0, 1], [5, 7])
    found = scores_by_deal(ranks, types, counts, of_set, 2)
    for deal, number, layer, head in np.ndindex(2, 2, 2, 3):
        members, keys = np.flatnonzero(of_set == number), range(4 * layer, KEYS)
        parts, apart = dict.fromkeys(range(TYPES), 0.0), dict.fromkeys(range(TYPES), 0.0)
        rarity = {p: unit_ranks(-counts[deal][types[p, list(keys)]]) for p in members}
        for p in members:
            own = unit_ranks(ranks[p, layer, head, list(keys)])
            for place, key in enumerate(keys):
                at_this_position = np.mean([rarity[other][place] for other in members])
                part = own[place] * (rarity[p][place] - at_this_position) / len(members)
                others = sum(types[p, other] != types[p, key] for other in keys)
                parts[types[p, key]] += part
                apart[types[p, key]] += part * len(keys) / others
        assert found.score[deal, number, layer, head] == pytest.approx(sum(parts.values()))
        assert found.error[deal, number, layer, head] == pytest.approx(np.sqrt(sum(part**2 for part in apart.values())))


def test_layers_are_scored_on_what_they_see_and_one_that_sees_nothing_has_no_score():
    ranks = np.zeros((2, 4, 1, 5))
    ranks[:, 1, :, :2] = np.nan
    ranks[:, 2] = np.nan
    alike = sorted((layers.tolist(), keys.tolist()) for layers, keys in seen_alike(ranks))
    assert alike == [([0, 3], [0, 1, 2, 3, 4]), ([1], [2, 3, 4])]
    rng = np.random.default_rng(0)
    data = dataset(rng)
    data["attention_rank"] = data["attention_rank"] * np.nan
    found = dealt_scores(data, "last_prefix", [np.ones(PARAGRAPHS, dtype=bool)], 0, 10)
    assert np.isnan(found.p_values(0)).all()


def test_a_deal_gives_every_type_the_count_of_another_in_all_paragraphs_alike():
    """With a single head that ranks by count, a deal's score is 1 only where it leaves the order: two types have two deals."""
    types = np.array([[0, 1, 0, 1], [1, 0, 1, 0]])
    data = xr.Dataset(
        {
            "attention_rank": (
                ("paragraph", "query", "layer", "head", "prefix_position"),
                types[:, None, None, None] * 1.0,
            ),
            "prefix_counts": (("paragraph", "prefix_position"), np.array([90, 2])[types]),
        },
        {"tokens": (("paragraph", "position"), types), "query": ["last_prefix"]},
    )
    found = dealt_scores(data, "last_prefix", [np.ones(2, dtype=bool)], 0, 50)
    assert np.unique(np.round(found.score, 12)).tolist() == [-1.0, 1.0]
    assert found.score[0] == pytest.approx(1.0)


def test_the_same_deals_are_made_whatever_is_told():
    rng, whole = np.random.default_rng(0), np.ones(PARAGRAPHS, dtype=bool)
    data, some = dataset(rng), np.arange(PARAGRAPHS) < 5
    one = dealt_scores(data, "last_prefix", [some, ~some], 3, 20)
    other = dealt_scores(data, "last_prefix", [~some], 3, 20)
    np.testing.assert_allclose(one.score[:, 1], other.score[:, 0], atol=1e-12)
    assert not np.allclose(other.score, dealt_scores(data, "last_prefix", [~some], 4, 20).score)
    assert dealt_scores(data.drop_vars("attention_rank"), "last_prefix", [whole], 3) is None


def test_p_counts_the_deals_at_least_as_far_and_the_counts_as_they_are_among_them():
    score = np.array([3.0, -4.0, 1.0, 2.0, -3.0])[:, None, None, None]
    dealt = DealtScores(score, np.array([1.0, 1.0, 1.0, 0.5, 2.0])[:, None, None, None])
    assert dealt.p_values(0).item() == 3 / 5  # 3, then -4 and 2 / .5; -3 / 2 and 1 fall short
    assert dealt.ends(0)[:, 0, 0] == pytest.approx(np.quantile([-4, 1, 4, -1.5], [0.025, 0.975]))


def test_the_null_of_a_choice_chooses_anew_under_every_deal():
    """Two heads, told on the second set: under each deal the one further from 0 on the first, in its direction there."""
    choosing = np.array([[5.0, 1.0], [1.0, -2.0], [3.0, 2.0]])
    told = np.array([[4.0, 0.0], [9.0, -3.0], [-1.0, 9.0]])
    score = np.stack([choosing, told], axis=1)[:, :, None]
    dealt = DealtScores(score, np.full_like(score, 0.1))
    null = dealt.null_of_choice(StrongestHead(0, 0, 1), 0, 1, 0.0)
    assert null.p_value == 1 / 3  # 30 and -10 against 40
    assert null.mean == pytest.approx(1.0)  # their mean times the error, moved to where a score can lie
    small = DealtScores(score / 10, np.full_like(score, 0.1)).null_of_choice(StrongestHead(0, 0, 1), 0, 1, 0.05)
    assert small.mean == pytest.approx(0.05 + (0.3 - 0.1) / 2)


def simulated(seed, liking, paragraphs=60, keys=30, types=500):
    """p of the heads of one simulated text."""
    rng = np.random.default_rng(seed)
    drawn, counts = text(rng, paragraphs, keys, types)
    ranks = read(rng, drawn, liking(rng, types))
    present, of = np.unique(drawn, return_inverse=True)
    dealt = np.stack([counts[present], *(rng.permutation(counts[present]) for _ in range(199))])
    found = scores_by_deal(ranks, of.reshape(drawn.shape), dealt, np.zeros(paragraphs, int), 1)
    return found, found.p_values(0).ravel()


def test_heads_that_like_tokens_whatever_their_rarity_are_seldom_significant_and_would_be_by_the_mean_alone():
    by_ratio, by_mean = [], []
    for seed in range(12):
        found, p = simulated(seed, lambda rng, types: rng.normal(size=(50, types)))
        mean = np.abs(found.score[:, 0, 0])
        by_ratio.append(p)
        by_mean.append((mean >= mean[0]).mean(0))
    assert 0.03 <= np.mean(np.array(by_ratio) <= 0.05) <= 0.07
    assert np.mean(np.array(by_mean) <= 0.05) > 0.1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_that_likes_rare_or_common_tokens_is_found(sign):
    """Twice as much of the spread of its liking goes with rarity as does not."""

    def liking(rng, types):
        rarity = scipy.stats.zscore(np.arange(types))
        return sign * 1.5 * rarity + rng.normal(size=(20, types))

    found, p = simulated(0, liking)
    assert np.mean(p <= 0.05) >= 0.9
    assert (np.sign(found.score[0]) == sign).mean() >= 0.9


def test_a_head_that_likes_a_position_is_not_found():
    rng = np.random.default_rng(0)
    drawn, counts = text(rng, 60, 30, 300)
    drawn[:, -5:] = rng.integers(200, 300, (60, 5))  # rare tokens stand last in every paragraph
    ranks = (np.arange(30) + rng.normal(0, 3, (60, 1, 100, 30))).argsort(-1).argsort(-1).astype(float)
    present, of = np.unique(drawn, return_inverse=True)
    dealt = np.stack([counts[present], *(rng.permutation(counts[present]) for _ in range(99))])
    found = scores_by_deal(ranks, of.reshape(drawn.shape), dealt, np.zeros(60, int), 1)
    plain = [scipy.stats.spearmanr(ranks[p, 0, 0], -counts[drawn[p]]).statistic for p in range(60)]
    assert np.mean(plain) > 0.2, "its score is"
    assert np.mean(found.p_values(0) <= 0.05) <= 0.05
    assert np.abs(found.score[0]).max() < 0.05


def test_a_set_without_paragraphs_has_no_score():
    data, whole = dataset(np.random.default_rng(0)), np.ones(PARAGRAPHS, dtype=bool)
    found = dealt_scores(data, "last_prefix", [~whole, whole], 0, 10)
    assert np.isnan(found.p_values(0)).all() and np.isfinite(found.p_values(1)).all()
    assert np.isnan(found.null_of_choice(StrongestHead(0, 0, 1), 1, 0, 0.0).p_value)
