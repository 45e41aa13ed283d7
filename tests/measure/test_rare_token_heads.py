"""Rare-token scores against scipy, one paragraph, layer and head at a time."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, entropy, kendalltau, spearmanr

import localize as lz
from localize.axes import NULLS, QUERIES
from localize.measure.looking import CONTINUATION, LAST_PREFIX, views
from localize.measure.partners import mismatched
from localize.measure.rare_token_heads import SCORES, UNTRAINED, orders, rare_token_scores
from localize.models.untrained import untrained

PREFIX, LENGTH = 40, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))


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
    counts = torch.tensor([[1, 1, 50, 40, 30, 20]])
    pattern = torch.zeros(1, 1, 6, 6)
    pattern[0, 0, 5] = torch.tensor([0.0, 0.0, 0.2, 0.1, 0.3, 0.4])
    assert rare_token_scores(pattern, counts, query=5, window=3).item() == pytest.approx(1.0)
    assert rare_token_scores(pattern, counts, query=5, window=4).item() == pytest.approx(0.5)
    assert rare_token_scores(pattern, counts, query=5).item() < 0
    with pytest.raises(lz.LocalizeError) as caught:
        rare_token_scores(pattern, counts, query=5, window=2)
    assert str(caught.value) == (
        "rare_token_scores: the window shows fewer than two earlier keys; no rank correlation exists."
    )


@pytest.mark.parametrize("query", [1, 6])
def test_a_query_without_two_earlier_keys_is_refused(query):
    with pytest.raises(lz.LocalizeError) as caught:
        rare_token_scores(torch.zeros(1, 1, 6, 6), torch.ones(1, 6, dtype=torch.int64), query=query)
    assert str(caught.value) == (
        f"rare_token_scores: query={query} must lie in 2..5, because the pattern has 6 positions "
        "and at least two earlier keys are compared."
    )


def seen_from_the_last_prefix_token(pattern, window):
    """Keys before the last prefix token that it sees, and its attention to them, as it is compared and as it is summed."""
    keys = [key for key in range(PREFIX - 1) if window is None or PREFIX - 1 - key < window]
    return keys, pattern[PREFIX - 1, keys], pattern[PREFIX - 1, keys]


def seen_from_the_continuation(pattern, window):
    """Prefix tokens that a fed continuation token sees, and the attention to them: of those that see it, and of all."""
    fed, compared = range(PREFIX, LENGTH - 1), {}
    for key in range(PREFIX):
        from_those_that_see_it = [pattern[query, key] for query in fed if window is None or query - key < window]
        if from_those_that_see_it:
            compared[key] = np.mean(from_those_that_see_it)
    keys = list(compared)
    return keys, np.array(list(compared.values())), pattern[PREFIX : LENGTH - 1, keys].mean(0)


def mass_by_loops(attention, counts, rarest):
    places, total = rarest, 0.0
    for count in np.unique(counts):
        tied = counts == count
        total += min(1.0, places / tied.sum()) * attention[tied].sum()
        places = max(0, places - tied.sum())
    return total


def scores_by_scipy(looking, counts, rarest):
    """Spearman, Kendall and mass of one head's attention by one paragraph's counts."""
    _, compared, summed = looking
    return [
        spearmanr(compared, -counts).statistic,
        kendalltau(compared, -counts).statistic,
        mass_by_loops(summed, counts, rarest),
    ]


def patterns_of(model, paragraphs):
    """(layer, paragraph, head, query, key), of all tokens: what follows a query does not matter to it."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    with torch.no_grad():
        return np.stack(
            [
                p.float().numpy() if p.dtype == torch.bfloat16 else p.numpy()
                for p in model.run_with_cache(paragraphs.tokens, names)[1].values()
            ]
        )


@pytest.mark.parametrize("query", QUERIES)
def test_scores_and_nulls_are_those_of_scipy_for_every_head(hooked, paragraphs, counts, query):
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=3, rarest=4, seed=5, batch_size=4)
    assert signature["rare_token_null"]["null"].values.tolist() == list(NULLS)
    of_query = seen_from_the_last_prefix_token if query == "last_prefix" else seen_from_the_continuation
    patterns, twins = (patterns_of(model, paragraphs) for model in (hooked, untrained(hooked, seed=5)))
    partners, drawn = mismatched(paragraphs, 3, 5), orders(paragraphs.hashes, PREFIX, 3, 5)
    rarity = counts[paragraphs.prefixes].numpy()
    scores = [signature[name].sel(query=query).values for name in SCORES]
    nulls = [signature[name].sel(query=query).values for name in SCORES.values()]
    for layer, row, head in np.ndindex(hooked.n_layers, len(paragraphs), hooked.n_heads):
        looking = of_query(patterns[layer, row, head], hooked.window(layer))
        keys = looking[0]
        own = rarity[row, keys]
        by_partners = [scores_by_scipy(looking, rarity[partner, keys], 4) for partner in partners[row]]
        by_permuted = [scores_by_scipy(looking, own[np.argsort(order[keys])], 4) for order in drawn[row]]
        by_twin = scores_by_scipy(of_query(twins[layer, row, head], hooked.window(layer)), own, 4)
        expected = np.stack([np.mean(by_partners, axis=0), np.mean(by_permuted, axis=0), by_twin], axis=1)
        assert [s[row, layer, head] for s in scores] == pytest.approx(scores_by_scipy(looking, own, 4), abs=1e-12)
        assert np.stack([n[row, :, layer, head] for n in nulls]) == pytest.approx(expected, abs=1e-12)


def test_a_local_layer_is_scored_on_fewer_tokens_than_there_are(neo, paragraphs):
    by_layer = {(view.query, layer): view for view in views(neo, PREFIX, LENGTH) for layer in view.layers}
    assert by_layer[LAST_PREFIX, 0].keys.tolist() == list(range(39))
    assert by_layer[CONTINUATION, 2].keys.tolist() == list(range(40))
    assert by_layer[LAST_PREFIX, 1].keys.tolist() == list(range(24, 39))
    assert by_layer[CONTINUATION, 3].keys.tolist() == list(range(25, 40))
    assert by_layer[CONTINUATION, 3].share.tolist() == pytest.approx([seen / 19 for seen in range(1, 16)])


def test_entropy_and_distance_are_those_of_loops(hooked, paragraphs):
    signature = lz.rare_token_heads(hooked, paragraphs, seed=5, batch_size=4)
    for suffix, model in (("", hooked), ("_untrained", untrained(hooked, seed=5))):
        patterns = patterns_of(model, paragraphs)
        for layer, row, head in np.ndindex(hooked.n_layers, len(paragraphs), hooked.n_heads):
            rows = patterns[layer, row, head][PREFIX - 1 : LENGTH - 1]
            entropies = [entropy(attention) for attention in rows]
            distances = [
                sum(attention[key] * (PREFIX - 1 + index - key) for key in range(LENGTH))
                for index, attention in enumerate(rows)
            ]
            for name, values in (("attention_entropy", entropies), ("attention_distance", distances)):
                found = signature[name + suffix].values[row, :, layer, head]
                assert found == pytest.approx([values[0], np.mean(values[1:])], abs=1e-12)


def test_a_continuation_of_one_token_does_not_look(hooked, tokens, counts):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=40, continuation_length=1)
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=2)
    for name in (*SCORES, *SCORES.values(), "attention_entropy", "attention_distance", "attention_entropy_untrained"):
        assert np.isnan(signature[name].sel(query="continuation")).all(), name
        assert np.isfinite(signature[name].sel(query="last_prefix")).all(), name


def test_in_half_precision_attention_still_sums_to_one(make_model, family, paragraphs, counts):
    model = make_model(family, dtype=torch.bfloat16)
    signature = lz.rare_token_heads(model, paragraphs, counts=counts, null_draws=2, rarest=PREFIX)
    patterns = patterns_of(model, paragraphs).astype(float)[..., PREFIX - 1, :PREFIX]  # (layer, paragraph, head, key)
    assert (patterns.sum(-1) > 1.001).any()
    to_earlier = patterns[..., :-1].sum(-1) / patterns.sum(-1)
    mass = signature["rare_token_mass"].sel(query="last_prefix").transpose("layer", "paragraph", "head")
    assert mass.values == pytest.approx(to_earlier, abs=1e-5)


def test_a_window_that_shows_nothing_else_gives_no_score(make_model, paragraphs, counts):
    narrow = make_model("gpt-neo", window_size=1)
    signature = lz.rare_token_heads(narrow, paragraphs, counts=counts, null_draws=2)
    for name in (*SCORES, *SCORES.values(), "summed_rank_correlation", "summed_rank_correlation_uniform"):
        assert np.isnan(signature[name].sel(layer=[1, 3])).all(), name
        assert np.isfinite(signature[name].sel(layer=[0, 2])).all(), name
    assert (signature["attention_distance"].sel(layer=1) == 0).all()
    two = lz.rare_token_heads(make_model("gpt-neo", window_size=2), paragraphs, counts=counts, null_draws=2).dataset
    local = two.sel(layer=1, query="last_prefix")
    assert np.isnan(local["rare_token_score"]).all(), "one token has no rank correlation"
    assert np.isfinite(local["rare_token_mass"]).all()


def test_where_all_tokens_are_equally_rare_there_is_no_correlation_and_mass_is_shared(hooked, paragraphs):
    even = lz.rare_token_heads(hooked, paragraphs, counts=torch.full((97,), 7), null_draws=2, rarest=3)
    for name in ("rare_token_score", "rare_token_kendall", "rare_token_null", "rare_token_kendall_null"):
        assert np.isnan(even[name]).all(), name
    assert np.isnan(even["summed_rank_correlation"]).all()
    patterns = patterns_of(hooked, paragraphs)[0, :, :, PREFIX - 1, : PREFIX - 1]
    mass = even["rare_token_mass"].sel(query="last_prefix", layer=0).values
    assert mass == pytest.approx(3 / (PREFIX - 1) * patterns.sum(-1), abs=1e-12)


def test_a_partner_whose_tokens_are_all_equally_rare_is_left_out_of_the_null(hooked, tokens, counts):
    tokens[0, :PREFIX] = 5
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)
    assert (mismatched(paragraphs, 8, 0)[1:] == 0).any()
    signature = lz.rare_token_heads(hooked, paragraphs, counts=counts)
    for name in ("rare_token_score", "rare_token_kendall"):
        null = signature[SCORES[name]]
        assert np.isnan(signature[name][0]).all() and np.isfinite(signature[name][1:]).all()
        assert np.isnan(null[0].sel(null=["permuted", "untrained"])).all()
        assert np.isfinite(null[0].sel(null="mismatched")).all() and np.isfinite(null[1:]).all()


def test_the_numbers_do_not_depend_on_the_batch_size(hooked, paragraphs, counts):
    one, four, all_at_once = (
        lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=2, batch_size=size).dataset
        for size in (1, 4, 50)
    )
    for other in (four, all_at_once):
        for name in one.data_vars:
            np.testing.assert_allclose(one[name], other[name], atol=1e-10, err_msg=name)


def test_the_seed_decides_the_nulls_and_nothing_else(hooked, paragraphs, counts):
    first, again, other = (
        lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=2, seed=seed).dataset for seed in (1, 1, 2)
    )
    assert first.drop_attrs().identical(again.drop_attrs())
    for name in first.data_vars:
        drawn = "null" in name or "untrained" in name
        assert first[name].equals(other[name]) != drawn, name
    changed = first["rare_token_null"] != other["rare_token_null"]
    assert changed.any(["paragraph", "query", "layer", "head"]).all(), "each of the nulls follows the seed"


def test_without_a_twin_there_is_no_untrained_null_and_the_rest_is_the_same(hooked, paragraphs, counts):
    with_twin, without = (
        lz.rare_token_heads(hooked, paragraphs, counts=counts, null_draws=2, untrained=asked).dataset
        for asked in (True, False)
    )
    assert without["null"].values.tolist() == ["mismatched", "permuted"]
    assert set(with_twin.data_vars) - set(without.data_vars) == {
        "attention_entropy_untrained",
        "attention_distance_untrained",
        *UNTRAINED,
    }
    for name in without.data_vars:
        rest = with_twin[name].isel(null=[0, 1]) if "null" in with_twin[name].dims else with_twin[name]
        assert np.array_equal(without[name], rest, equal_nan=True), name
    assert with_twin.attrs["calls"][0]["untrained"] and not without.attrs["calls"][0]["untrained"]


def test_recall_comes_from_the_same_pass_and_is_that_of_recall(hooked, paragraphs, monkeypatch):
    passes = []
    forward = type(hooked).final_states
    counted = lambda self, *args, **options: passes.append(self) or forward(self, *args, **options)  # noqa: E731
    expected = lz.recall(hooked, paragraphs)
    monkeypatch.setattr(type(hooked), "final_states", counted)
    signature = lz.rare_token_heads(hooked, paragraphs, untrained=False, batch_size=6)
    assert passes == [hooked]
    assert np.array_equal(signature["exact_match"], expected["exact_match"])
    assert np.array_equal(signature["group"], expected.dataset["group"])
    np.testing.assert_allclose(signature["token_nll"], expected["token_nll"], rtol=1e-12)


def test_recall_is_of_the_true_continuation_where_the_own_one_looks(hooked, paragraphs, counts):
    own = paragraphs.with_own_continuation(hooked)
    of_own, of_true = (
        lz.rare_token_heads(hooked, p, counts=counts, untrained=False).dataset for p in (own, paragraphs)
    )
    for name in ("exact_match", "token_nll", "group"):
        assert np.array_equal(of_own[name], lz.recall(hooked, paragraphs).dataset[name]), name
    assert of_own["attention_entropy"].attrs["continuation"] == "own"
    same, other = (of_own["rare_token_score"] - of_true["rare_token_score"]).transpose("query", ...).values
    assert np.abs(same).max() < 1e-9, "the last prefix token looks before it sees the continuation"
    assert np.abs(other).max() > 0.01


def test_a_damaged_model_is_told_as_in_recall(hooked, paragraphs):
    hooked.hf.transformer.ln_f.weight.data[0] = torch.nan
    with pytest.raises(lz.LocalizeError) as alone:
        lz.recall(hooked, paragraphs)
    with pytest.raises(lz.LocalizeError) as caught:
        lz.rare_token_heads(hooked, paragraphs)
    assert str(caught.value) == str(alone.value)


def test_permutations_are_keyed_by_paragraph_and_draw_and_reach_every_order():
    hashes = [bytes([row]) for row in range(40)]
    drawn = orders(hashes, 3, 50, 0)
    assert np.array_equal(orders(hashes[7:9], 3, 20, 0), drawn[7:9, :20])
    assert not np.array_equal(orders(hashes, 3, 50, 1), drawn)
    _, counts = np.unique(drawn.argsort(-1).reshape(-1, 3), axis=0, return_counts=True)
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 0.01


def test_a_head_wired_to_rare_tokens_ranks_first_and_its_nulls_do_not(neo, paragraphs, counts):
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
    for name, null_name in SCORES.items():
        for query in QUERIES:
            mean = signature[name].sel(query=query).mean("paragraph")
            nulls = signature[null_name].sel(query=query).mean("paragraph")
            assert (abs(nulls[:, 0, 1]) < 0.3).all()
            assert (nulls[:, 0, 1] < mean[0, 1]).all()
            if name == "rare_token_mass":
                continue  # where few tokens are seen the rarest get much by chance: it does not compare between layers
            assert float(mean[0, 1]) > 0.7
            for above in (mean, *(mean - one for one in nulls)):
                assert np.unravel_index(np.nanargmax(above.values), above.shape) == (0, 1)


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


def test_of_equal_paragraphs_only_the_first_is_counted(neo, tokens):
    once = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=20)
    twice = lz.load_paragraphs(torch.cat([tokens, tokens[:2]]), prefix_length=PREFIX, continuation_length=20)
    calls = [
        lz.rare_token_heads(neo, p, null_draws=1, untrained=False).dataset.attrs["calls"][0] for p in (once, twice)
    ]
    counted = np.bincount(tokens.flatten(), minlength=97).astype("<i8")
    assert [call["counts_hash"] for call in calls] == [hashlib.sha256(counted.tobytes()).hexdigest()] * 2


@pytest.mark.parametrize(("draws", "rarest"), [(0, 5), (8, 0)])
def test_too_few_draws_or_tokens_are_refused(neo, paragraphs, draws, rarest):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.rare_token_heads(neo, paragraphs, null_draws=draws, rarest=rarest)
    assert str(caught.value) == (f"rare_token_heads: null_draws={draws} and rarest={rarest} must both be at least 1.")


def test_one_cluster_has_no_null(neo, tokens):
    alone = lz.load_paragraphs(tokens[:1], prefix_length=PREFIX, continuation_length=20)
    with pytest.raises(lz.InputError) as caught:
        lz.rare_token_heads(neo, alone)
    assert str(caught.value) == (
        "Tensor: 1 paragraph(s) in one cluster of near-duplicates; the null of rare_token_heads needs at least two clusters."
    )


def test_three_prefix_tokens_are_enough_and_two_are_refused(neo, tokens):
    enough = lz.load_paragraphs(tokens, prefix_length=3, continuation_length=20)
    assert np.isfinite(lz.rare_token_heads(neo, enough)["rare_token_mass"]).all()
    short = lz.load_paragraphs(tokens, prefix_length=2, continuation_length=20)
    with pytest.raises(lz.InputError) as caught:
        lz.rare_token_heads(neo, short)
    assert str(caught.value) == (
        "Tensor: prefix_length=2 must be at least 3 for rare_token_heads, to rank two earlier tokens."
    )


def test_counts_of_another_vocabulary_are_refused(neo, paragraphs):
    with pytest.raises(
        lz.LocalizeError, match=r"^rare_token_heads: counts has 5 entries; the vocabulary of .* has 97\.$"
    ):
        lz.rare_token_heads(neo, paragraphs, counts=torch.ones(5, dtype=torch.int64))
