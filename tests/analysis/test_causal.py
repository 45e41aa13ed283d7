"""Whether removal agrees with a correlation, with the heads as the sample: numbers of loops, and verdicts in words."""

import numpy as np
import pytest
import scipy.stats

from localize.analysis import causal
from localize.analysis.choice import strongest_of
from localize.analysis.draws import Draws
from localize.analysis.head_agreement import over_heads
from localize.analysis.rows import COLUMNS
from localize.analysis.sentences import NOT_KNOWN, sentence
from localize.axes import NULLS, QUERIES
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap, cluster_sign_flip, effective_clusters
from localize.statistics.clusters import choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 40)
CLUSTERS = np.concatenate([np.repeat(np.arange(20), 2), np.arange(100, 140)])
MEMORIZED = GROUPS == "memorized"
LAYERS, HEADS = 3, 4
SCORE, RISE, LOST = (words.format("L1.H2") for words in (causal.SCORE, causal.NLL_RISE, causal.EXACT_MATCH_LOST))
RANKED = [words.format("L1.H2") for words in causal.RANKS.values()]
NUMBERS = ["estimate", "low", "high", "null", "null_mean_low", "null_mean_high"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]


def arrays_of(seed=0, score=0.4, rise=0.0, lost=0.0):
    """Head 2 of layer 1 looks at rare tokens; its removal costs so much more than that of the others, in both groups."""
    rng = np.random.default_rng(seed)
    before = {
        "unperturbed_nll": 1 + rng.gamma(2.0, 0.3, 80),
        "unperturbed_exact_match": rng.integers(20, 50, 80),
    }
    costs = rng.gamma(2.0, 0.05, (80, LAYERS, HEADS)), rng.gamma(2.0, 1.0, (80, LAYERS, HEADS))
    costs[0][:, 1, 2] += rise
    costs[1][:, 1, 2] += lost
    scores = rng.normal(0, 0.1, (80, 2, LAYERS, HEADS))
    scores[:, 0, 1, 2] += score
    return before | {
        "ablated_nll": before["unperturbed_nll"][:, None, None] + costs[0],
        "ablated_exact_match": before["unperturbed_exact_match"][:, None, None] - costs[1],
        "rare_token_score": scores.clip(-1, 1),
        "rare_token_null": rng.normal(0, 0.1, (80, 3, 2, LAYERS, HEADS)).clip(-1, 1),
    }


@pytest.fixture
def look(make_dataset):
    """`look(arrays, ...)`: a signature with the axes of attention named."""

    def made(arrays, group=GROUPS, cluster=CLUSTERS):
        dataset = make_dataset(list(group), arrays, cluster=cluster)
        return MemorizationSignature(dataset.assign_coords(query=list(QUERIES), null=list(NULLS)))

    return made


def effects(arrays):
    """NLL rise and exact match lost of every paragraph and head, by a loop."""
    rise, lost = np.zeros((2, 80, LAYERS, HEADS))
    for at in np.ndindex(80, LAYERS, HEADS):
        rise[at] = arrays["ablated_nll"][at] - arrays["unperturbed_nll"][at[0]]
        lost[at] = arrays["unperturbed_exact_match"][at[0]] - arrays["ablated_exact_match"][at]
    return rise, lost


def test_what_the_chosen_heads_removal_costs_is_described_beside_its_layer_on_the_other_half(look):
    arrays = arrays_of(rise=0.2, lost=3.0)
    table, rest = look(arrays).causal_check(seed=2, resamples=200), ~choosing_half(CLUSTERS, 2)
    assert table.columns.tolist() == [*COLUMNS, *DIFFERENCE, "head", "verdict"]
    of_head = [*RANKED, SCORE, RISE, LOST]
    assert table.index.tolist() == [(causal.TOGETHER, "memorized"), (causal.TOGETHER, "not_memorized")] + [
        (quantity, group) for group in ("memorized", "not_memorized") for quantity in of_head
    ]
    rise, lost = effects(arrays)
    for group, chosen in (("memorized", rest & MEMORIZED), ("not_memorized", rest & ~MEMORIZED)):
        for quantity, effect in ((RISE, rise), (LOST, lost)):
            row, own = table.loc[(quantity, group)], effect[:, 1, 2]
            beside = (effect[:, 1, 0] + effect[:, 1, 1] + effect[:, 1, 3]) / 3
            expected = []
            for values in (own, beside, own - beside):
                interval = cluster_bootstrap(values[chosen], CLUSTERS[chosen], seed=2, resamples=200)
                expected += [interval.estimate, interval.low, interval.high]
            np.testing.assert_allclose(row[NUMBERS + DIFFERENCE].astype(float), np.array(expected, float), rtol=1e-9)
            assert (row["n"], row["effective_clusters"]) == (chosen.sum(), effective_clusters(CLUSTERS[chosen]))
            assert (row["head"], row["verdict"]) == ("L1.H2", "") and np.isnan(row["p_value"])


@pytest.mark.parametrize(("cost", "in_layer", "in_model"), [(0.5, 1, 1), (-0.5, 4, 12), (0.14, 1, 2)])
def test_the_chosen_head_is_ranked_by_its_cost_among_the_heads(look, cost, in_layer, in_model):
    arrays = arrays_of(rise=cost)
    arrays["ablated_nll"][:, 0, 0] += 0.3
    table = look(arrays).causal_check(resamples=100)
    for quantity, rank, heads in zip(RANKED, (in_layer, in_model), (HEADS, LAYERS * HEADS), strict=True):
        row = table.loc[(quantity, "memorized")]
        assert (row["estimate"], row["null"], row["p_value"]) == (rank, (heads + 1) / 2, rank / heads)
        assert row["n"] == (~choosing_half(CLUSTERS, 0) & MEMORIZED).sum()


def test_of_four_heads_no_rank_is_evidence_and_that_is_said(look):
    table = look(arrays_of(rise=0.5)).causal_check(resamples=100)
    assert table.loc[(RANKED[0], "memorized"), "verdict"] == (
        "no evidence from removal: L1.H2 ranks 1 of 4 in its layer by what its removal costs, where p is 0.250 at the least "
        "(1 [1, 1], null 2.5, p = 0.250; 16 paragraphs in 8 clusters)"
    )


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (0.4, "removal agrees: L1.H2 ranks 1 of 24 in the model by what its removal costs ("),
        (
            -0.4,
            "removal disagrees: L1.H2 ranks 1 of 24 in the model by what its removal costs, and attends to common tokens (",
        ),
    ],
)
def test_the_costliest_of_many_heads_agrees_if_it_looks_at_rare_tokens_and_disagrees_if_at_common_ones(
    look, score, said
):
    arrays = arrays_of(rise=0.5, score=score)
    for name, values in arrays.items():
        if values.ndim > 2:
            other = np.roll(values, 1, axis=-1)  # as many heads again, of which none stands out where L1.H2 does
            other[..., 1, 3] = values[..., 0, 0]
            arrays[name] = np.concatenate([values, other], axis=-1)
    table = look(arrays).causal_check(resamples=100)
    assert table.loc[(RANKED[1], "memorized"), "verdict"].startswith(said)


def test_over_all_heads_rho_is_scipys_between_score_above_null_and_rise(look):
    arrays = arrays_of()
    table = look(arrays).causal_check(resamples=100)
    above, rise = arrays["rare_token_score"][:, 0] - arrays["rare_token_null"][:, 0, 0], effects(arrays)[0]
    for group, chosen in (("memorized", MEMORIZED), ("not_memorized", ~MEMORIZED)):
        row = table.loc[(causal.TOGETHER, group)]
        expected = scipy.stats.spearmanr(above[chosen].mean(0).ravel(), rise[chosen].mean(0).ravel()).statistic
        assert row["estimate"] == pytest.approx(expected)
        assert (row["n"], row["head"]) == (40, "")


@pytest.mark.parametrize(
    ("sign", "verdict"), [(1, "removal agrees: "), (0, "no evidence from removal: "), (-1, "removal disagrees: ")]
)
def test_the_verdict_over_heads_says_whether_higher_scores_cost_more(look, sign, verdict):
    arrays = arrays_of(seed=2)
    level = np.random.default_rng(9).normal(0, 0.2, (LAYERS, HEADS))
    arrays["rare_token_score"][:, 0] = (arrays["rare_token_score"][:, 0] + level).clip(-1, 1)
    arrays["ablated_nll"] += sign * level
    table = look(arrays).causal_check()
    assert all(said.startswith(verdict) for said in table.loc[causal.TOGETHER, "verdict"])


def test_where_score_and_cost_of_heads_are_independent_removal_seldom_agrees_or_disagrees():
    """Each head has a mean of its own in both, so that one head against others over paragraphs would nearly always say something."""
    rng, said, over_paragraphs = np.random.default_rng(0), [], []
    for seed in range(200):
        level, cost = rng.normal(0, 0.1, (4, 8)), rng.gamma(1.0, 0.05, (4, 8))
        above = level + rng.normal(0, 0.3, (40, 4, 8))
        rise = cost * rng.gamma(2.0, 0.5, (40, 4, 8))
        row = over_heads(above, rise, np.arange(40), Draws(seed, 200))
        said.append(sentence(row, causal.CORRELATED, part="null").split(":")[0])
        own, others = causal.with_control(rise, strongest_of(above.mean(0)).at)
        over_paragraphs.append(cluster_sign_flip(own - others, np.arange(40), seed=seed, permutations=200).p_value)
    assert np.mean([words != "no evidence from removal" for words in said]) <= 0.07
    assert np.mean(np.array(over_paragraphs) <= 0.05) > 0.5


def test_a_head_that_was_not_removed_is_not_known(look):
    arrays = arrays_of()
    for name in ("ablated_nll", "ablated_exact_match"):
        arrays[name][:, 1, 2] = np.nan
    table = look(arrays).causal_check(resamples=100)
    for quantity in (RISE, LOST, *RANKED):
        row = table.loc[(quantity, "memorized")]
        assert row[NUMBERS + DIFFERENCE].isna().all()
        assert row["verdict"] == (NOT_KNOWN if quantity in RANKED else "")
    assert np.isfinite(table.loc[(SCORE, "memorized"), "estimate"])
    assert np.isfinite(table.loc[(causal.TOGETHER, "memorized"), "estimate"])


def test_only_heads_that_were_removed_are_the_control(look):
    arrays = arrays_of(rise=0.2)
    for name in ("ablated_nll", "ablated_exact_match"):
        arrays[name][:, 1, [0, 3]] = np.nan
    table, rest = look(arrays).causal_check(resamples=100), ~choosing_half(CLUSTERS, 0) & MEMORIZED
    rise = effects(arrays)[0][rest, 1]
    assert table.loc[(RISE, "memorized"), "null"] == pytest.approx(rise[:, 1].mean())
    assert table.loc[(RISE, "memorized"), "estimate"] == pytest.approx(rise[:, 2].mean())
    for name in ("ablated_nll", "ablated_exact_match"):
        arrays[name][:, 1, 1] = np.nan
    alone = look(arrays).causal_check(resamples=100)
    assert np.isnan(alone.loc[(RISE, "memorized"), "null"])
    assert alone.loc[(RANKED[0], "memorized"), "p_value"] == 1, "it is alone in its layer"


def test_one_cluster_or_no_score_leaves_only_what_can_be_said(look):
    table = look(arrays_of(), cluster=np.zeros(80, int)).causal_check(resamples=100)
    assert table.index.tolist() == [(causal.TOGETHER, "memorized"), (causal.TOGETHER, "not_memorized")]
    arrays = arrays_of()
    arrays["rare_token_score"][:] = np.nan
    table = look(arrays).causal_check(resamples=100)
    assert table["verdict"].tolist() == [NOT_KNOWN] * 2
    assert table[NUMBERS].isna().all(axis=None)


def test_the_query_is_the_one_asked_for(look):
    arrays = arrays_of()
    arrays["rare_token_score"][:, 1, 0, 3] += 0.5
    table = look(arrays).causal_check(query="continuation", resamples=100)
    assert set(table["head"]) == {"", "L0.H3"}


def test_the_same_seed_gives_the_same_table(look):
    signature = look(arrays_of())
    one, same, other = (signature.causal_check(seed=seed, resamples=100) for seed in (3, 3, 4))
    assert one.equals(same)
    assert not one.equals(other)


@pytest.mark.parametrize(
    ("name", "measurement"),
    [
        ("rare_token_null", "localize.rare_token_heads(model, paragraphs)"),
        ("ablated_nll", "localize.ablate(model, paragraphs)"),
        ("unperturbed_exact_match", "localize.ablate(model, paragraphs)"),
    ],
)
def test_what_was_not_measured_is_named(look, name, measurement):
    signature = MemorizationSignature(look(arrays_of()).dataset.drop_vars(name))
    with pytest.raises(SignatureError) as caught:
        signature.causal_check()
    assert str(caught.value) == f"causal_check: the signature has no {name!r}; measure it with {measurement}."
