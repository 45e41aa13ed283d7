"""A correlation that removal does not confirm is visible as such: numbers of loops, and a verdict in words."""

import numpy as np
import pytest
import scipy.stats

from localize.analysis import causal
from localize.analysis.rows import COLUMNS
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
NUMBERS = ["estimate", "low", "high", "null", "null_mean_low", "null_mean_high", "p_value"]
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


def test_the_chosen_head_is_held_against_the_others_of_its_layer_on_the_other_half(look):
    arrays = arrays_of(rise=0.2, lost=3.0)
    table, rest = look(arrays).causal_check(seed=2, resamples=200), ~choosing_half(CLUSTERS, 2)
    assert table.columns.tolist() == [*COLUMNS, *DIFFERENCE, "head", "verdict"]
    assert table.index.tolist() == [
        (quantity, group)
        for group in ("memorized", "not_memorized")
        for quantity in (SCORE, RISE, LOST, causal.TOGETHER)
    ]
    rise, lost = effects(arrays)
    score, null = arrays["rare_token_score"][:, 0, 1, 2], arrays["rare_token_null"][:, 0, 0, 1, 2]
    for group, chosen in (("memorized", rest & MEMORIZED), ("not_memorized", rest & ~MEMORIZED)):
        for quantity, own, beside in (
            (SCORE, score, null),
            (RISE, rise[:, 1, 2], (rise[:, 1, 0] + rise[:, 1, 1] + rise[:, 1, 3]) / 3),
            (LOST, lost[:, 1, 2], (lost[:, 1, 0] + lost[:, 1, 1] + lost[:, 1, 3]) / 3),
        ):
            row = table.loc[(quantity, group)]
            expected = []
            for values in (own, beside, own - beside):
                interval = cluster_bootstrap(values[chosen], CLUSTERS[chosen], seed=2, resamples=200)
                expected += [interval.estimate, interval.low, interval.high]
            test = cluster_sign_flip((own - beside)[chosen], CLUSTERS[chosen], seed=2, permutations=200)
            expected.insert(6, test.p_value)
            np.testing.assert_allclose(row[NUMBERS + DIFFERENCE].astype(float), np.array(expected, float), rtol=1e-9)
            assert (row["n"], row["effective_clusters"]) == (
                chosen.sum(),
                effective_clusters(CLUSTERS[chosen]),
            )
            assert row["head"] == "L1.H2"


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
    ("made", "score", "rise", "lost"),
    [
        ({"rise": 0.2, "lost": 3.0}, causal.ABOVE, causal.CONFIRMED, causal.CONFIRMED),
        ({"rise": 0.2}, causal.ABOVE, causal.CONFIRMED, causal.UNCONFIRMED),
        ({}, causal.ABOVE, causal.UNCONFIRMED, causal.UNCONFIRMED),
        ({"rise": -0.2, "lost": -3.0}, causal.ABOVE, causal.CONTRADICTED, causal.CONTRADICTED),
    ],
    ids=["a cause", "in NLL only", "no cause", "the reverse"],
)
def test_the_verdict_says_whether_removal_confirms(look, made, score, rise, lost):
    table = look(arrays_of(seed=4, **made)).causal_check()
    for group in ("memorized", "not_memorized"):
        assert table.loc[[(SCORE, group), (RISE, group), (LOST, group)], "verdict"].tolist() == [score, rise, lost]
    row = table.loc[(RISE, "memorized")]
    assert (row["difference_low"] <= 0 <= row["difference_high"]) == (rise == causal.UNCONFIRMED)


def test_a_head_that_matters_but_does_not_look_at_rare_tokens_is_not_confirmed(look):
    arrays = arrays_of(seed=1, rise=0.2)
    arrays["rare_token_score"][~choosing_half(CLUSTERS, 0), 0, 1, 2] -= 0.4
    table = look(arrays).causal_check()
    assert table.loc[(SCORE, "memorized"), "verdict"] == causal.NOT_ABOVE
    assert table.loc[(RISE, "memorized"), "verdict"] == causal.NOT_ASKED
    assert not table["verdict"].eq(causal.CONFIRMED).any()


def test_where_no_test_can_reject_nothing_is_confirmed_or_contradicted():
    def row(low, high, p_value):
        return {"difference_low": low, "difference_high": high, "p_value": p_value}

    above, few, less = row(0.1, 0.2, 0.001), row(0.1, 0.2, 0.125), row(-0.2, -0.1, 0.001)
    assert causal._verdicts(above, few, less) == (causal.ABOVE, causal.UNCONFIRMED, causal.CONTRADICTED)
    assert causal._verdicts(few, above, less) == (causal.NOT_ABOVE, causal.NOT_ASKED, causal.NOT_ASKED_EITHER)
    assert causal._verdicts(*[row(np.nan, np.nan, np.nan)] * 3) == (causal.UNKNOWN,) * 3


@pytest.mark.parametrize(("sign", "verdict"), [(1, causal.GO_TOGETHER), (0, causal.GO_APART), (-1, causal.OPPOSED)])
def test_the_verdict_over_heads_says_whether_higher_scores_cost_more(look, sign, verdict):
    arrays = arrays_of(seed=2)
    level = np.random.default_rng(9).normal(0, 0.2, (LAYERS, HEADS))
    arrays["rare_token_score"][:, 0] = (arrays["rare_token_score"][:, 0] + level).clip(-1, 1)
    arrays["ablated_nll"] += sign * level
    table = look(arrays).causal_check()
    assert set(table.loc[causal.TOGETHER, "verdict"]) == {verdict}


def test_of_noise_few_verdicts_confirm_anything(look):
    """The chosen head costs what the others cost: 5 % of the intervals may say otherwise, half of them upwards."""
    verdicts = []
    for seed in range(40):
        table = look(arrays_of(seed=seed)).causal_check(seed=seed, resamples=200)
        verdicts += table["verdict"][table["head"] != ""].tolist()
    assert np.mean([v == causal.ABOVE for v in verdicts]) == pytest.approx(1 / 3)
    share = np.mean([v == causal.CONFIRMED for v in verdicts]) * 3 / 2
    assert share <= 0.025 + 3 * (0.025 * 0.975 / 160) ** 0.5


def test_a_head_that_was_not_removed_is_not_known(look):
    arrays = arrays_of()
    for name in ("ablated_nll", "ablated_exact_match"):
        arrays[name][:, 1, 2] = np.nan
    table = look(arrays).causal_check(resamples=100)
    for quantity in (RISE, LOST):
        row = table.loc[(quantity, "memorized")]
        assert row[NUMBERS + DIFFERENCE].isna().all() and row["n"] == 0
        assert row["verdict"] == causal.UNKNOWN
    assert table.loc[(SCORE, "memorized"), "verdict"] == causal.ABOVE
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
    assert look(arrays).causal_check(resamples=100).loc[(RISE, "memorized"), "verdict"] == causal.UNKNOWN


def test_one_cluster_or_no_score_leaves_only_what_can_be_said(look):
    table = look(arrays_of(), cluster=np.zeros(80, int)).causal_check(resamples=100)
    assert table.index.tolist() == [(causal.TOGETHER, "memorized"), (causal.TOGETHER, "not_memorized")]
    arrays = arrays_of()
    arrays["rare_token_score"][:] = np.nan
    table = look(arrays).causal_check(resamples=100)
    assert table["verdict"].tolist() == [causal.UNKNOWN] * 2
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
