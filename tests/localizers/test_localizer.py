"""A localizer calls a function and believes nothing that it gives."""

import dataclasses

import numpy as np
import pytest
import torch

import localize as lz
from localize.localizers import Localizer, Scores, WeightScores, localizer


def zeros(model, paragraphs, others):
    return Scores.of(model, paragraphs, mlp=np.zeros((len(paragraphs), model.n_layers, model.d_mlp)), cost=0.0)


def test_scores_carry_the_localizers_name(model, rows, toy):
    found = toy(zeros)(model, rows)
    assert (found.name, found.ids, found.cost) == ("toy", rows.ids, 0.0)
    assert repr(found) == f"Scores(toy: 7 paragraphs, mlp {model.n_layers} x 128)"


def test_the_function_is_given_model_paragraphs_and_others(neo, rows, toy):
    given = []
    toy(lambda *arguments: given.append(arguments) or zeros(*arguments))(neo, rows[:3], rows[3:])
    assert given[0][0] is neo
    assert [part.ids for part in given[0][1:]] == [rows.ids[:3], rows.ids[3:]]


def test_a_decorated_function_is_a_localizer_of_its_name(neo, rows):
    made = localizer("zeros", "this test", needs_others=True)(zeros)
    assert made == Localizer("zeros", zeros, "zeros", "this test", True)
    assert made(neo, rows[:3], rows[3:]).name == "zeros"


def test_models_and_paragraphs_are_read_as_by_every_measurement(neo, rows, toy, refusal):
    wanted = "a HookedModel as load_model gives it, or what it reads, is needed."
    assert refusal(toy(zeros), 5, rows, error=lz.ModelError) == f"toy: model is a int; {wanted}"
    assert refusal(toy(zeros), neo, neo, error=lz.InputError) == (
        "toy: paragraphs is a HookedModel; Paragraphs as load_paragraphs gives them, or what it reads, are needed."
    )
    assert refusal(toy(zeros), neo, rows, neo, error=lz.InputError) == (
        "toy: others is a HookedModel; Paragraphs as load_paragraphs gives them, or what it reads, are needed."
    )


def test_others_are_asked_for_where_they_are_needed(neo, rows, toy, refusal):
    picky = toy(zeros, needs_others=True)
    assert refusal(picky, neo, rows) == "toy: others=None: paragraphs to tell these apart from are needed."
    assert picky(neo, rows[:3], rows[3:]).ids == rows.ids[:3]


@pytest.mark.parametrize("place", [0, 1])
def test_paragraphs_and_others_must_fit_the_model(neo, rows, toy, refusal, place):
    outside = lz.load_paragraphs(torch.full((2, 40), 97), prefix_length=24, continuation_length=16)
    given = [rows, rows]
    given[place] = outside
    assert refusal(toy(zeros), neo, *given, error=lz.InputError) == (
        "Tensor: paragraph '0' (row 0) has token id 97 at position 0; the vocabulary of small gpt-neo allows 0..96."
    )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda *_: None, "gave a NoneType; Scores or WeightScores are needed."),
        (lambda *_: np.zeros((7, 4, 128)), "gave a ndarray; Scores or WeightScores are needed."),
        (
            lambda model, paragraphs, _: Scores.of(model, paragraphs, mlp=np.zeros((7, 4, 127))),
            "mlp scores are (7, 4, 127); in small gpt-neo those of 7 paragraphs are (7, 4, 128), (paragraph, layer, d_mlp).",
        ),
        (
            lambda model, paragraphs, _: Scores.of(model, paragraphs, heads=torch.full((7, 4, 4), torch.nan)),
            "the heads score of paragraph '0', layer 0, unit 0 is nan; a finite number is needed.",
        ),
        (
            lambda model, paragraphs, _: zeros(model, paragraphs[:3], None),
            "gave scores of other paragraphs than those asked for.",
        ),
        (
            lambda model, paragraphs, _: dataclasses.replace(zeros(model, paragraphs, None), weights_hash="0" * 64),
            "the scores are of other weights than those of small gpt-neo; score this model, unedited.",
        ),
        (
            lambda model, paragraphs, _: WeightScores.of(model, paragraphs, {(0, "W_in"): np.zeros((3, 4))}),
            "scores of layer 0 W_in are (3, 4); the weights of small gpt-neo there are (32, 128).",
        ),
    ],
)
def test_what_a_function_gives_is_checked_in_the_localizers_name(neo, rows, toy, refusal, function, message):
    assert refusal(toy(function), neo, rows) == f"toy: {message}"


def test_a_name_is_one_that_python_takes(toy, refusal):
    assert refusal(toy, zeros, name="my scores") == (
        "localizer 'my scores': the name must be one that Python takes, such as 'my_scores'."
    )
