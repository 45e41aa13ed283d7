"""As many units as hold a text: against edited models tried one number after the other."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.edit.budget import fewest_taking
from localize.localizers import Scores
from localize.measure.unit_means import unit_means


@pytest.fixture
def recited(rows):
    """`recited(model)`: three paragraphs that it says itself, and as others two that it says and three that it does not."""

    def made(model):
        own = rows[:5].with_own_continuation(model).tokens
        tokens = torch.cat([own, rows.tokens[5:8]])
        both = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=16)
        return both[:3], both[3:]

    return made


@torch.no_grad()
def nll(model, paragraphs):
    logits = model(paragraphs.tokens[:, :-1], read=slice(paragraphs.prefix_length - 1, None))
    return cross_entropy(logits.transpose(1, 2), paragraphs.continuations, reduction="none").mean(1).numpy()


@torch.no_grad()
def without(model, units, means):
    """The model with some units constant: what they write on average goes to the bias."""
    edited = model.copied()
    for layer, unit in units:
        w_out = edited.weight(layer, "W_out")
        edited.blocks[layer].mlp.c_proj.bias.data += means[layer, unit] * w_out[unit]
        w_out[unit] = 0.0
    return edited


def first_number(model, forget, row, level, scores, numbers, share):
    """The first of the numbers whose best units take the share, each tried in an edited model; the last one if none does."""
    means = unit_means(model, forget.tokens[:, :-1]).mlp
    before = nll(model, forget)[row]
    order = sorted(np.ndindex(*scores.shape[1:]), key=lambda place: -scores[(row, *place)])
    for number in numbers:
        rise = nll(without(model, order[:number], means), forget)[row] - before
        if rise >= share * (level - before):
            return number
    return numbers[-1]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 1.0])
def test_it_is_the_first_number_at_which_an_edited_model_has_lost_the_share(model, recited, share):
    forget, keep = recited(model)
    level = nll(model, keep)[2:].mean()  # of those that it does not recite
    scores = lz.localizers.get("gradient_activation")(model, forget, keep)
    numbers = [4, 8, 16, 32, 64, 128, 256]
    expected = [first_number(model, forget, row, level, scores.mlp, numbers, share) for row in range(3)]
    found = lz.units_holding(model, forget, keep, scores, share=share)
    assert found.tolist() == expected


def test_own_continuations_are_measured_where_they_are_what_is_forgotten(neo, rows, recited):
    forget, keep = recited(neo)
    own, kept = rows[:3].with_own_continuation(neo), rows[5:8].with_own_continuation(neo)
    assert torch.equal(own.tokens, forget.tokens)
    values = np.random.default_rng(0).normal(size=(3, neo.n_layers, neo.d_mlp))
    plain, scored = (Scores.of(neo, part, mlp=values) for part in (forget, own))
    found = lz.units_holding(neo, own, kept, scored, share=0.3)
    assert found.tolist() == lz.units_holding(neo, forget, keep, plain, share=0.3).tolist()


def test_other_numbers_may_be_tried(neo, recited):
    forget, keep = recited(neo)
    scores = lz.localizers.get("gradient_activation")(neo, forget, keep)
    level = nll(neo, keep)[2:].mean()
    expected = [first_number(neo, forget, row, level, scores.mlp, [2, 50, 100], 0.5) for row in range(3)]
    assert lz.units_holding(neo, forget, keep, scores, numbers=[100, 2, 50]).tolist() == expected
    assert lz.units_holding(neo, forget, keep, scores, numbers=7).tolist() == [7, 7, 7]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_text_that_is_no_better_known_than_others_has_no_place(neo, rows, sign):
    random = nll(neo, rows)
    worst, best = rows[[int(random.argmax())]], rows[np.argsort(random)[:3].tolist()]
    scores = lz.localizers.get("gradient_activation")(neo, worst, best)
    signed = Scores.of(neo, worst, mlp=sign * scores.mlp)  # what helps it, or what hurts it
    assert lz.units_holding(neo, worst, best, signed).tolist() == [256]


def test_the_first_number_that_is_reached_counts_and_the_last_where_none_is():
    taken = np.array([[0.5, 0.1, 0.9], [0.1, 0.7, 0.2], [0.1, 0.2, 0.49], [np.nan, np.nan, np.nan]])
    assert fewest_taking(taken, np.array([4, 8, 16]), 0.5).tolist() == [4, 8, 16, 16]


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(neo, recited, share):
    forget, keep = recited(neo)
    scores = Scores.of(neo, forget, mlp=np.zeros((3, neo.n_layers, neo.d_mlp)))
    with pytest.raises(lz.LocalizeError) as caught:
        lz.units_holding(neo, forget, keep, scores, share=share)
    assert str(caught.value) == f"units_holding: share={share} must lie above 0 and be at most 1."


def test_a_keep_set_that_is_known_throughout_is_refused(neo, recited):
    forget, keep = recited(neo)
    scores = Scores.of(neo, forget, mlp=np.zeros((3, neo.n_layers, neo.d_mlp)))
    with pytest.raises(lz.InputError) as caught:
        lz.units_holding(neo, forget, keep[:2], scores)
    assert str(caught.value) == (
        "units_holding: none of the 2 paragraphs of the keep set is unknown to small gpt-neo; how much a text is remembered is told "
        "beside such text."
    )


def test_scores_of_heads_alone_or_of_other_paragraphs_are_refused(neo, recited):
    forget, keep = recited(neo)
    heads = Scores.of(neo, forget, heads=np.zeros((3, neo.n_layers, neo.n_heads)))
    others = Scores.of(neo, keep, mlp=np.zeros((5, neo.n_layers, neo.d_mlp)))
    for scores, told in ((heads, "has none of MLP units"), (others, "scores are of other paragraphs")):
        with pytest.raises(lz.LocalizeError, match=f"^units_holding: .*{told}"):
            lz.units_holding(neo, forget, keep, scores)
