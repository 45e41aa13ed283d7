"""The strongest head is chosen on either side of its null, and said to attend to rare or common tokens if it is beyond both nulls."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.analysis.choice import StrongestHead, choosers, strongest_head
from localize.analysis.chosen_head import SCORES, ChosenHead, head_sentence, reference_groups, untrained_row
from localize.analysis.dealt_counts import DealtScores
from localize.analysis.draws import Draws
from localize.analysis.html import head_notes
from localize.analysis.rows import Basis, Null, row_of
from localize.axes import NULLS, QUERIES
from localize.models.untrained import untrained
from localize.signature.signature import MemorizationSignature
from localize.statistics import Interval, choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

GROUPS = np.array(["memorized"] * 30 + ["not_memorized"] * 30)
LAYERS, HEADS, MODELS = 2, 3, 4
EVERYTHING = np.ones(60, dtype=bool)


@pytest.fixture
def look(make_dataset):
    """`look(score, ...)`: a signature of scores, the null beside them, of both queries, and of untrained models beside 0."""

    def made(score, untrained=None, group=GROUPS, null=0.0):
        arrays = {
            "rare_token_score": np.repeat(score[:, None], 2, axis=1),
            "rare_token_null": np.full((60, 3, 2, LAYERS, HEADS), null),
        }
        if untrained is not None:
            arrays |= {SCORES[0]: untrained, SCORES[1]: np.where(np.isnan(untrained), np.nan, 0.0)}
        dataset = make_dataset(list(group), arrays, cluster=np.arange(60))
        return MemorizationSignature(dataset.assign_coords(query=list(QUERIES), null=list(NULLS)))

    return made


def scores(rng, *leading):
    return rng.normal(0, 0.1, (60, *leading, LAYERS, HEADS)).clip(-1, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_head_furthest_from_its_null_is_chosen_on_either_side(sign):
    above = scores(np.random.default_rng(0))
    above[:, 1, 2] += sign * 0.4
    above[:, 0, 1] -= sign * 0.2
    assert strongest_head(above, EVERYTHING) == StrongestHead(1, 2, sign)
    assert strongest_head(np.full_like(above, np.nan), EVERYTHING) is None


def test_the_memorized_of_one_half_choose_where_there_are_any():
    clusters, half = np.arange(60), choosing_half(np.arange(60), 3)
    assert np.array_equal(choosers(GROUPS, clusters, 3), half & (GROUPS == "memorized"))
    assert np.array_equal(choosers(np.repeat(["a", "b"], 30), clusters, 3), half)
    assert reference_groups(("memorized", "partial")) == ("memorized",)
    assert reference_groups(("a", "b")) == ("a", "b")


@pytest.mark.parametrize("sign", [1, -1])
def test_untrained_models_choose_their_strongest_head_as_the_model_does(look, sign):
    """By loops: on the same half, in its own direction; p counts the models that reach as far, this one among them."""
    rng = np.random.default_rng(1)
    own, others = scores(rng), scores(rng, MODELS)
    own[:, 1, 2] += sign * 0.35
    others[:, 1, 0, 0] += 0.3
    others[:, 3, 0, 1] -= 0.5
    row = untrained_row(look(own, others).dataset, "last_prefix", "memorized", Draws(0, 100))
    memorized, half = GROUPS == "memorized", choosing_half(np.arange(60), 0)
    reached = []
    for model in range(MODELS):
        mean = others[half & memorized, model].mean(0)
        at = np.unravel_index(np.abs(mean).argmax(), mean.shape)
        reached.append(np.sign(mean[at]) * others[~half & memorized, model][:, *at].mean())
    told = own[~half & memorized, 1, 2].mean()
    assert row["p_value"] == (1 + sum(other >= sign * told for other in reached)) / (1 + MODELS)
    assert row["p_value"] == 2 / 5
    assert (row["estimate"], row["null"]) == (pytest.approx(told), pytest.approx(sign * np.mean(reached)))
    assert row["null_range_low"] < row["null_range_high"]
    assert (row["head"], row["sign"], row["models"], row["n"]) == ("L1.H2", sign, MODELS, (~half & memorized).sum())


def test_model_and_untrained_models_are_told_on_the_paragraphs_that_both_read(look):
    rng = np.random.default_rng(1)
    own, others = scores(rng), scores(rng, MODELS)
    read = np.arange(60) % 2 == 0
    others[~read] = np.nan
    row = untrained_row(look(own, others).dataset, "last_prefix", "memorized", Draws(0, 100))
    assert row["n"] == (read & ~choosing_half(np.arange(60), 0) & (GROUPS == "memorized")).sum()
    own[~read] = 0.9
    assert untrained_row(look(own, others).dataset, "last_prefix", "memorized", Draws(0, 100))["head"] == row["head"]
    for dataset, query in ((look(own).dataset, "last_prefix"), (look(own, others).dataset, "continuation")):
        assert untrained_row(dataset, query, "memorized", Draws(0, 100)) is None
    others[:30] = np.nan
    assert untrained_row(look(own, others).dataset, "last_prefix", "memorized", Draws(0, 100)) is None


def test_the_score_stands_beside_position_and_counts_dealt_out(look, monkeypatch):
    score = scores(np.random.default_rng(0))
    score[:, 1, 2] -= 0.4
    signature = look(score, null=0.1)
    chosen = ChosenHead.of(signature.dataset, "last_prefix", 0)
    assert (chosen.strongest, chosen.name) == (StrongestHead(1, 2, -1), "L1.H2")
    rows = chosen.score_rows(signature.dataset, "last_prefix", ("memorized",), Draws(0, 100))
    assert np.isnan([rows["memorized"][name] for name in ("null", "p_value")]).all(), "attention's ranks were not kept"
    dealt = DealtScores(np.zeros((3, 2, LAYERS, HEADS)), np.ones((3, 2, LAYERS, HEADS)))
    dealt.score[:, :, 1, 2] = np.array([[-0.4, -0.4], [0.2, 0.2], [-0.1, 0.1]])
    monkeypatch.setattr("localize.analysis.chosen_head.dealt_scores", lambda *_: dealt)
    row = chosen.score_rows(signature.dataset, "last_prefix", ("memorized",), Draws(0, 100))["memorized"]
    inside = ~choosing_half(np.arange(60), 0) & (GROUPS == "memorized")
    assert row["estimate"] == pytest.approx(score[inside, 1, 2].mean())
    # In the direction in which each is chosen the deals reach .2 and -.1; position adds .1.
    assert (row["null"], row["p_value"], row["n"]) == (pytest.approx(0.1 - 0.05), 1 / 3, inside.sum())


def numbers(estimate, p_value, null=0.0):
    interval = Interval(*(np.array(end) for end in (estimate, estimate - 0.05, estimate + 0.05)))
    return row_of(interval, Null.dealt(null, null - 0.1, null + 0.1, p_value), Basis(50, 40, 30.0))


BY_DEAL, BY_MODELS = (
    "counts dealt out over token types (p = {})",
    "the strongest heads of 19 models with random weights (p = {}, 0.050 at the least)",
)


@pytest.mark.parametrize(
    ("estimate", "p", "said"),
    [
        (0.3, (0.01, 0.05), "L1.H2 attends to rare tokens, beyond {}"),
        (-0.3, (0.01, 0.05), "L1.H2 attends to common tokens and not to rare ones, beyond {}"),
        (
            0.3,
            (0.01, 0.1),
            "no head found that attends to rare or common tokens: the strongest, L1.H2, is not beyond {}",
        ),
        (
            0.3,
            (0.2, 0.05),
            "no head found that attends to rare or common tokens: the strongest, L1.H2, is not beyond {}",
        ),
    ],
)
def test_a_head_is_claimed_only_beyond_both_nulls(estimate, p, said):
    nulls = f"{BY_DEAL.format(f'{p[0]:.3f}')} and {BY_MODELS.format(f'{p[1]:.3f}')}"
    told = head_sentence("L1.H2", numbers(estimate, p[0]), numbers(estimate, p[1]) | {"models": 19})
    assert told.startswith(said.format(nulls) + " (")
    assert f"p = {max(p):.3f}; 50 paragraphs" in told


def test_of_one_null_alone_only_that_is_told_and_of_none_nothing_is_known():
    assert head_sentence("L1.H2", numbers(0.3, 0.01), None).startswith(
        f"L1.H2 attends to rare tokens, beyond {BY_DEAL.format('0.010')} ("
    )
    assert head_sentence("L1.H2", numbers(0.3, np.nan, np.nan), None).startswith("not known")


@pytest.fixture(scope="module")
def zipf():
    """Sixty paragraphs of tokens that are the rarer the higher their number, and how often each would be counted."""
    rng, share = np.random.default_rng(0), np.arange(1.0, 98) ** -0.9
    tokens = torch.from_numpy(rng.choice(97, (60, 40), p=share / share.sum()))
    paragraphs = lz.load_paragraphs(tokens, prefix_length=30, continuation_length=10)
    return paragraphs, torch.from_numpy((1e5 * share).astype(np.int64))


def test_of_models_with_random_weights_nothing_is_found(make_model, zipf):
    paragraphs, counts = zipf
    claimed, by_position = 0, 0
    for seed in range(8):
        model = untrained(make_model("gpt-neo", dtype=torch.float32), 100 + seed)
        signature = lz.rare_token_heads(model, paragraphs, counts=counts, null_draws=2, seed=seed)
        (note,) = head_notes(signature)
        claimed += not note.startswith(
            "not memorized: no head found that attends to rare or common tokens: the strongest, "
        )
        chosen = ChosenHead.of(signature.dataset, "last_prefix", 0)
        above = (chosen.score - chosen.mismatched)[chosen.told][:, *chosen.strongest.at]
        by_position += abs(above.mean()) > 2 * above.std() / np.sqrt(len(above))
    assert claimed <= 1
    assert by_position >= 3, "beside position alone there would be much"
