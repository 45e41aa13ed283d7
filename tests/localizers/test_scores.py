"""Scores by paragraph, layer and unit: what they are, sums and means of them against loops, and what is refused."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.localizers import Scores, WeightScores


@pytest.fixture
def scores(neo, rows):
    """Random scores of both kinds of units for three paragraphs."""
    rng = np.random.default_rng(0)
    return Scores.of(neo, rows[:3], mlp=rng.normal(size=(3, 4, 128)), heads=rng.normal(size=(3, 4, 4)), cost=3.0)


def test_scores_say_which_paragraphs_and_model_they_are_of(scores, neo, rows):
    assert (scores.ids, scores.data_hash) == (rows[:3].ids, rows[:3].data_hash)
    assert (scores.weights_hash, scores.cost, scores.name) == (neo.weights_hash(), 3.0, "")
    assert repr(scores) == "Scores(made by hand: 3 paragraphs, mlp 4 x 128, heads 4 x 4)"


def test_a_layers_score_is_the_sum_over_its_units_of_both_kinds(scores, neo, rows):
    for row in range(3):
        for layer in range(4):
            expected = sum(scores.mlp[row, layer]) + sum(scores.heads[row, layer])
            assert scores.layers()[row, layer] == pytest.approx(expected)
    alone = Scores.of(neo, rows[:3], heads=scores.heads)
    assert np.allclose(alone.layers(), scores.heads.sum(2))


def test_means_are_over_all_paragraphs_or_those_named(scores):
    assert list(scores.mean()) == ["mlp", "heads"]
    assert np.allclose(scores.mean()["mlp"], (scores.mlp[0] + scores.mlp[1] + scores.mlp[2]) / 3)
    assert np.allclose(scores.mean([2, 0])["heads"], (scores.heads[0] + scores.heads[2]) / 2)
    assert np.array_equal(scores.mean(np.array([1]))["mlp"], scores.mlp[1])


@pytest.mark.parametrize("chosen", [[], [3], [0, -1]])
def test_rows_that_were_not_scored_have_no_mean(scores, refusal, chosen):
    assert refusal(scores.mean, chosen) == (
        f"localize: rows={chosen} must be some of 0..2, the paragraphs that were scored."
    )


def test_scores_of_a_kind_that_was_not_scored_are_not_there(neo, rows):
    alone = Scores.of(neo, rows, mlp=np.zeros((7, 4, 128)))
    assert alone.heads is None
    assert list(alone.mean()) == ["mlp"]


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.bfloat16, "float32"), (torch.float16, "float32"), (torch.float32, "float32"), (torch.float64, "float64")],
)
def test_a_tensors_scores_are_an_array_of_float32_at_least(neo, rows, dtype, stored):
    values = torch.randn(7, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = Scores.of(neo, rows, heads=values.requires_grad_())
    assert found.heads.dtype == stored
    assert np.array_equal(found.heads, values.detach().double().numpy().astype(stored))


def with_fault(value, at):
    values = np.zeros((7, 4, 4))
    values[at] = value
    return values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there are scores of neither MLP units nor heads; mlp or heads are needed."),
        ({"mlp": np.zeros((7, 4, 128), int)}, "mlp scores are int64; floating-point numbers are needed."),
        ({"heads": np.zeros((7, 4, 4), bool)}, "heads scores are bool; floating-point numbers are needed."),
        ({"mlp": np.zeros((4, 128))}, "mlp scores are (4, 128); (paragraph, layer, d_mlp) of 7 paragraphs is needed."),
        ({"heads": np.zeros((6, 4, 4))}, "heads scores are (6, 4, 4); (paragraph, layer, head) of 7 paragraphs is needed."),
        (
            {"mlp": np.zeros((7, 3, 128))},
            "mlp scores are (7, 3, 128); in small gpt-neo those of 7 paragraphs are (7, 4, 128), (paragraph, layer, d_mlp).",
        ),
        (
            {"mlp": np.zeros((7, 4, 128)), "heads": np.zeros((7, 4, 3))},
            "heads scores are (7, 4, 3); in small gpt-neo those of 7 paragraphs are (7, 4, 4), (paragraph, layer, head).",
        ),
        (
            {"heads": with_fault(np.nan, (2, 3, 1))},
            "the heads score of paragraph '2', layer 3, unit 1 is nan; a finite number is needed.",
        ),
        (
            {"heads": with_fault(-np.inf, (0, 0, 2))},
            "the heads score of paragraph '0', layer 0, unit 2 is -inf; a finite number is needed.",
        ),
    ],
)  # fmt: skip
def test_what_is_no_score_of_these_units_is_refused(neo, rows, refusal, given, message):
    assert refusal(Scores.of, neo, rows, **given) == f"localize: {message}"


def test_scores_of_other_weights_are_not_this_models(scores, neo, gpt2, refusal):
    scores.check(neo)
    assert refusal(scores.check, gpt2) == (
        "localize: mlp scores are (3, 4, 128); in small gpt2 those of 3 paragraphs are (3, 3, 128), (paragraph, layer, d_mlp)."
    )
    neo.weight(0, "W_in")[0, 0] += 1
    assert refusal(scores.check, neo) == (
        "localize: the scores are of other weights than those of small gpt-neo; score this model, unedited."
    )


# By weight


def test_scores_of_weights_are_of_the_models_matrices(neo, gpt2, rows, refusal):
    values = torch.randn(32, 128)
    found = WeightScores.of(neo, rows, {(1, "W_in"): values}, cost=1.0)
    found.check(neo)
    assert np.array_equal(found.matrices[1, "W_in"], values.numpy())
    assert (found.data_hash, found.weights_hash, found.cost) == (rows.data_hash, neo.weights_hash(), 1.0)
    turned = WeightScores.of(neo, rows, {(1, "W_in"): values.T})
    assert refusal(turned.check, neo) == (
        "localize: scores of layer 1 W_in are (128, 32); the weights of small gpt-neo there are (32, 128)."
    )
    assert refusal(found.check, gpt2) == (
        "localize: the scores are of other weights than those of small gpt2; score this model, unedited."
    )
    nowhere = WeightScores.of(neo, rows, {(4, "W_in"): values})
    assert refusal(nowhere.check, neo, error=lz.ModelError) == "layer=4 must lie in 0..3, the layers of small gpt-neo."
