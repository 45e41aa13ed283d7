"""Do the heads that carry gradient look at rare tokens? Numbers of loops, a null that keeps layers, and choices scored elsewhere."""

from itertools import permutations, product

import numpy as np
import pytest
import scipy.stats

from localize.analysis.choice import choosers, head_scores, largest, strongest_head
from localize.analysis.draws import Draws
from localize.analysis.head_agreement import (
    CORRELATION,
    RANK,
    SCORE,
    permuted_within_layers,
    rank_among_heads,
    spearman,
)
from localize.analysis.rows import COLUMNS
from localize.axes import ATTENTION_COMPONENTS, NULLS, QUERIES
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap, cluster_bootstrap_statistic, cluster_sign_flip, effective_clusters
from localize.statistics.clusters import choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 40)
CLUSTERS = np.concatenate([np.repeat(np.arange(20), 2), np.arange(100, 140)])
MEMORIZED = GROUPS == "memorized"
LAYERS, HEADS = 3, 4
NUMBERS = ["estimate", "low", "high", "null", "null_mean_low", "null_mean_high", "p_value"]
DRAWS = Draws(0, 100)


def noise(seed=0):
    """Shares and scores of heads that have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(2.0, size=(80, LAYERS, 4, HEADS)) * rng.gamma(4.0, size=(LAYERS, 4, HEADS))
    score = rng.normal(rng.normal(0, 0.1, (LAYERS, HEADS)), 0.1, (80, 2, LAYERS, HEADS))
    null = rng.normal(0, 0.1, (80, 3, 2, LAYERS, HEADS))
    return {
        "head_gradient_share": share / share.sum((1, 2, 3), keepdims=True),
        "rare_token_score": score.clip(-1, 1),
        "rare_token_null": null.clip(-1, 1),
    }


@pytest.fixture
def look(make_dataset):
    """`look(arrays, ...)`: a signature with the axes of attention named."""

    def made(arrays, group=GROUPS, cluster=CLUSTERS, nulls=NULLS):
        dataset = make_dataset(list(group), arrays, cluster=cluster)
        return MemorizationSignature(dataset.assign_coords(query=list(QUERIES), null=list(nulls)))

    return made


def planted(arrays, layer=1, head=2, gradient=0.3, score=0.4):
    """W_V of one head has a large share in every paragraph, and looks at rare tokens."""
    arrays["head_gradient_share"] *= 1 - gradient
    arrays["head_gradient_share"][:, layer, 2, head] += gradient
    arrays["rare_token_score"][:, 0, layer, head] += score
    return arrays


def means(arrays, chosen, component=2):
    share, score = arrays["head_gradient_share"][chosen, :, component], arrays["rare_token_score"][chosen, 0]
    return share.mean(0), score.mean(0)


def test_rho_is_scipys_over_the_mean_of_every_head(look):
    arrays = noise()
    table = look(arrays).head_agreement(resamples=100)
    assert table.columns.tolist() == [*COLUMNS, "head", "heads", "left_out"]
    assert table.index.tolist() == [(q, g) for g in ("memorized", "not_memorized") for q in (CORRELATION, RANK, SCORE)]
    for group, chosen in (("memorized", MEMORIZED), ("not_memorized", ~MEMORIZED)):
        row = table.loc[(CORRELATION, group)]
        share, score = means(arrays, chosen)
        assert row["estimate"] == pytest.approx(scipy.stats.spearmanr(share.ravel(), score.ravel()).statistic)
        assert (row["n"], row["heads"], row["left_out"]) == (40, 12, 0)
        assert row["effective_clusters"] == effective_clusters(CLUSTERS[chosen])


def test_its_interval_is_that_of_scipys_rho_over_the_means_of_drawn_clusters(look):
    arrays = noise()
    row = look(arrays).head_agreement("memorized", seed=5, resamples=150).loc[(CORRELATION, "memorized")]
    share, score = arrays["head_gradient_share"][MEMORIZED][:, :, 2], arrays["rare_token_score"][MEMORIZED][:, 0]
    pairs = np.stack([share.reshape(len(share), -1), score.reshape(len(score), -1)], axis=1)

    def rho(means):
        return np.array([scipy.stats.spearmanr(*both).statistic for both in means])

    expected = cluster_bootstrap_statistic(pairs, CLUSTERS[MEMORIZED], rho, seed=5, resamples=150)
    np.testing.assert_allclose([row["low"], row["high"]], [expected.low, expected.high], rtol=1e-9)


def test_the_null_permutes_heads_within_their_layers_and_no_further():
    """Two layers of three heads: all 36 ways, by hand."""
    rng = np.random.default_rng(0)
    layer = np.repeat([0, 1], 3)
    x, y = rng.normal(size=6) + 9 * layer, rng.normal(size=6) + 9 * layer
    every = []
    for one, other in product(permutations(range(3)), permutations(range(3, 6))):
        every.append(scipy.stats.spearmanr(x, y[[*one, *other]]).statistic)
    every = np.array(every)
    null = permuted_within_layers(x, y, layer, float(every.max()), Draws(0, 20000))
    centre, low, high, p = null.mean, null.range_low, null.range_high, null.p_value
    assert np.isnan([null.mean_low, null.mean_high]).all(), "it is a distribution, not the interval of a mean"
    assert centre == pytest.approx(every.mean(), abs=0.01)
    assert (low, high) == (pytest.approx(every.min()), pytest.approx(every.max()))  # 1 of 36 each
    further = np.abs(every - every.mean()) >= every.max() - every.mean() - 1e-9
    assert p == pytest.approx(further.mean(), abs=0.01)
    assert centre > 0.5, "what the layers differ in stays"


def test_what_layers_alone_differ_in_is_no_agreement(look):
    """Both fall from layer to layer; inside a layer neither knows of the other. Over all heads rho is high all the same."""
    p_values, rhos = [], []
    for seed in range(60):
        arrays = noise(seed)
        fall = np.array([4.0, 2.0, 1.0])
        arrays["head_gradient_share"] *= fall[:, None, None] / 4
        arrays["rare_token_score"] = (arrays["rare_token_score"] + 0.2 * fall[:, None]).clip(-1, 1)
        row = look(arrays).head_agreement("memorized", seed=seed, resamples=200).loc[(CORRELATION, "memorized")]
        p_values.append(row["p_value"])
        rhos.append(row["estimate"])
    assert np.mean(rhos) > 0.5
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


def test_where_gradient_follows_attention_inside_layers_it_is_found(look):
    arrays = noise()
    follow = np.exp(8 * arrays["rare_token_score"][:, 0].mean(0))  # (layer, head)
    arrays["head_gradient_share"][:, :, 2] = follow * np.random.default_rng(1).gamma(8.0, size=(80, LAYERS, HEADS))
    arrays["head_gradient_share"] /= arrays["head_gradient_share"].sum((1, 2, 3), keepdims=True)
    table = look(arrays).head_agreement(resamples=500)
    for group in ("memorized", "not_memorized"):
        row = table.loc[(CORRELATION, group)]
        assert row["p_value"] < 0.05
        assert row["estimate"] > row["null_range_high"]


def test_the_component_and_the_query_are_those_asked_for(look):
    arrays = noise()
    signature = look(arrays)
    for component, share in [
        *((name, arrays["head_gradient_share"][:, :, c]) for c, name in enumerate(ATTENTION_COMPONENTS)),
        (None, arrays["head_gradient_share"].sum(2)),
    ]:
        for query, name in enumerate(QUERIES):
            table = signature.head_agreement("memorized", component=component, query=name, resamples=100)
            score = arrays["rare_token_score"][MEMORIZED, query].mean(0)
            expected = scipy.stats.spearmanr(share[MEMORIZED].mean(0).ravel(), score.ravel()).statistic
            assert table.loc[(CORRELATION, "memorized"), "estimate"] == pytest.approx(expected)


# The head with most gradient.


def test_the_head_with_most_gradient_is_ranked_and_scored_on_the_other_half(look):
    arrays = planted(noise())
    table, rest = look(arrays).head_agreement(seed=2, resamples=200), ~choosing_half(CLUSTERS, 2)
    for group, chosen in (("memorized", rest & MEMORIZED), ("not_memorized", rest & ~MEMORIZED)):
        score, null = arrays["rare_token_score"][chosen, 0], arrays["rare_token_null"][chosen, 0, 0]
        rank, row = table.loc[(RANK, group)], table.loc[(SCORE, group)]
        assert rank["head"] == row["head"] == "L1.H2"
        assert (rank["estimate"], rank["heads"], rank["n"]) == (1, 12, chosen.sum())
        assert (rank["null"], rank["null_range_low"], rank["null_range_high"]) == (6.5, 1.275, 11.725)
        assert rank["p_value"] == pytest.approx(1 / 12)
        own, other = (
            cluster_bootstrap(values[:, 1, 2], CLUSTERS[chosen], seed=2, resamples=200) for values in (score, null)
        )
        test = cluster_sign_flip((score - null)[:, 1, 2], CLUSTERS[chosen], seed=2, permutations=200)
        expected = [own.estimate, own.low, own.high, other.estimate, other.low, other.high, test.p_value]
        np.testing.assert_allclose(row[NUMBERS].astype(float), np.array(expected, float), rtol=1e-12)
        assert row["effective_clusters"] == effective_clusters(CLUSTERS[chosen])


def test_the_scoring_half_has_no_say_in_which_head_it_is(look):
    arrays = planted(noise())
    rest = ~choosing_half(CLUSTERS, 0)
    arrays["head_gradient_share"][rest, 0, 2, 0] = 1.0
    table = look(arrays).head_agreement(resamples=100)
    assert set(table["head"]) == {"", "L1.H2"}


def test_every_group_has_a_head_of_its_own(look):
    arrays = noise()
    arrays["head_gradient_share"][MEMORIZED, 0, 2, 3] = 1.0
    arrays["head_gradient_share"][~MEMORIZED, 2, 2, 1] = 1.0
    table = look(arrays).head_agreement(resamples=100)
    assert table.loc[(RANK, "memorized"), "head"] == "L0.H3"
    assert table.loc[(RANK, "not_memorized"), "head"] == "L2.H1"
    rest = ~choosing_half(CLUSTERS, 0) & MEMORIZED
    above = (arrays["rare_token_score"][:, 0] - arrays["rare_token_null"][:, 0, 0])[rest, 0, 3]
    test = cluster_sign_flip(above, CLUSTERS[rest], seed=0, permutations=100)
    assert table.loc[(SCORE, "memorized"), "p_value"] == test.p_value > 0.05


def test_ranks_count_from_the_highest_and_ties_share_them():
    score = np.zeros((4, 2, 3)) + np.array([[0.5, 0.2, 0.2], [np.nan, 0.9, 0.1]])
    clusters = np.arange(4)
    ranks = {at: rank_among_heads(score, at, clusters, DRAWS)["estimate"] for at in np.ndindex(score[0].shape)}
    np.testing.assert_equal(ranks, {(0, 0): 2, (0, 1): 3.5, (0, 2): 3.5, (1, 0): np.nan, (1, 1): 1, (1, 2): 5})
    tied = rank_among_heads(score, (0, 1), clusters, DRAWS)
    assert (tied["p_value"], tied["heads"], tied["low"], tied["high"]) == (4 / 5, 5, 3.5, 3.5)


def test_heads_whose_means_are_equal_but_for_rounding_share_their_rank():
    """.1 .2 .3 in one order and in the other: 1e-17 apart."""
    score = np.array([[0.1, 0.3, 0.0], [0.2, 0.2, 0.0], [0.3, 0.1, 0.0]])[:, None]
    rows = [rank_among_heads(score, (0, head), np.arange(3), DRAWS) for head in (0, 1)]
    assert [(row["estimate"], row["p_value"]) for row in rows] == [(1.5, pytest.approx(2 / 3))] * 2


def test_a_head_that_never_has_a_score_is_left_out_and_counted(look):
    arrays = planted(noise())
    arrays["rare_token_score"][:, 0, 1, 2] = np.nan  # the one with most gradient
    arrays["rare_token_score"][MEMORIZED, 0, 2, 0] = np.nan
    arrays["rare_token_score"][0, 0, 0, 0] = np.nan  # one paragraph only: that head stays
    table = look(arrays).head_agreement(resamples=100)
    row = table.loc[(CORRELATION, "memorized")]
    assert (row["heads"], row["left_out"]) == (10, 2)
    assert tuple(table.loc[(CORRELATION, "not_memorized"), ["heads", "left_out"]]) == (11, 1)
    share, score = arrays["head_gradient_share"][MEMORIZED, :, 2], arrays["rare_token_score"][MEMORIZED, 0]
    known = np.ones((LAYERS, HEADS), bool)
    known[1, 2] = known[2, 0] = False
    expected = scipy.stats.spearmanr(share.mean(0)[known], np.nanmean(score[:, known], axis=0)).statistic
    assert row["estimate"] == pytest.approx(expected)
    assert table.loc[(RANK, "memorized"), "head"] not in ("", "L1.H2", "L2.H0")


def test_with_nothing_to_rank_there_are_rows_of_nan(look):
    arrays = noise()
    arrays["rare_token_score"][:] = np.nan
    table = look(arrays).head_agreement(resamples=100)
    assert table[NUMBERS].isna().all(axis=None)
    assert (table["left_out"] == 12).all() and (table["head"] == "").all()
    one = look(noise(), cluster=np.zeros(80, int)).head_agreement(resamples=100)
    assert np.isfinite(one.loc[(CORRELATION, "memorized"), "estimate"])
    assert one.loc[[(RANK, "memorized"), (SCORE, "memorized")], NUMBERS].isna().all(axis=None)


def test_rho_leaves_out_what_is_missing_in_each_row():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 20, 9)).astype(float)
    x[rng.random(x.shape) < 0.2] = np.nan
    y[rng.random(y.shape) < 0.2] = np.nan
    x[0] = 3.0
    got = spearman(x, y)
    assert np.isnan(got[0])
    for row in range(1, 20):
        there = ~np.isnan(x[row]) & ~np.isnan(y[row])
        assert got[row] == pytest.approx(scipy.stats.spearmanr(x[row, there], y[row, there]).statistic)


def test_the_same_seed_gives_the_same_table(look):
    signature = look(noise())
    assert signature.head_agreement(seed=3, resamples=100).equals(signature.head_agreement(seed=3, resamples=100))
    assert not signature.head_agreement(seed=3, resamples=100).equals(signature.head_agreement(seed=4, resamples=100))


def test_few_clusters_are_told(look):
    with pytest.warns(UserWarning, match=r"^few effective clusters \(memorized 20\.0 of 40 paragraphs\); below 30"):
        look(noise()).head_agreement("memorized", resamples=100)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("gone",), {}, "signature: no group 'gone'; it has memorized, not_memorized."),
        (
            (),
            {"component": "W_in"},
            "head_agreement: component='W_in' is not one of W_Q, W_K, W_V, W_O, or None for all together.",
        ),
        ((), {"query": "first"}, "signature: no query 'first' in rare_token_null; it has last_prefix, continuation."),
    ],
)
def test_what_is_not_there_is_told_in_one_line(look, arguments, options, message):
    with pytest.raises(SignatureError) as caught:
        look(noise()).head_agreement(*arguments, **options)
    assert str(caught.value) == message


def test_a_null_that_was_not_measured_is_told(look):
    arrays = noise()
    arrays["rare_token_null"] = arrays["rare_token_null"][:, 1:]
    with pytest.raises(SignatureError) as caught:
        look(arrays, nulls=NULLS[1:]).head_agreement()
    assert str(caught.value) == "signature: no null 'mismatched' in rare_token_null; it has permuted, untrained."


@pytest.mark.parametrize(
    ("name", "measurement"),
    [
        ("head_gradient_share", "localize.gradients(model, paragraphs)"),
        ("rare_token_score", "localize.rare_token_heads(model, paragraphs)"),
        ("rare_token_null", "localize.rare_token_heads(model, paragraphs)"),
    ],
)
def test_what_was_not_measured_is_named(look, name, measurement):
    signature = MemorizationSignature(look(noise()).dataset.drop_vars(name))
    with pytest.raises(SignatureError) as caught:
        signature.head_agreement()
    assert str(caught.value) == f"head_agreement: the signature has no {name!r}; measure it with {measurement}."


# The choice that this shares with the summary.


def test_the_strongest_head_is_the_furthest_above_its_null_where_it_is_chosen(look):
    arrays = planted(noise())
    score, null = head_scores(look(arrays).dataset, "last_prefix")
    np.testing.assert_array_equal(score, arrays["rare_token_score"][:, 0])
    np.testing.assert_array_equal(null, arrays["rare_token_null"][:, 0, 0])
    above = score - null
    assert strongest_head(above, choosers(GROUPS, CLUSTERS, 0)).at == (1, 2)
    above[~choosing_half(CLUSTERS, 0), 0, 0] = 1.0
    above[~MEMORIZED, 0, 1] = 1.0
    chosen = strongest_head(above, choosers(GROUPS, CLUSTERS, 0))
    assert chosen.at == (1, 2), "neither the scoring half nor the others have a say"
    chosen = strongest_head(above, choosers(np.full(80, "mine"), CLUSTERS, 0))
    assert chosen.at == (0, 1), "without memorized ones all choose"


def test_the_continuation_has_scores_and_a_null_of_its_own(look):
    arrays = noise()
    score, null = head_scores(look(arrays).dataset, "continuation")
    np.testing.assert_array_equal(score, arrays["rare_token_score"][:, 1])
    np.testing.assert_array_equal(null, arrays["rare_token_null"][:, 0, 1])


def test_the_largest_leaves_out_nan():
    assert largest(np.array([[np.nan, 1.0], [3.0, np.nan]])) == (1, 0)
    assert largest(np.full((2, 2), np.nan)) is None
