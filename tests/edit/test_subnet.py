"""Zeroing by learned scores: steps against autograd through an explicit mask, counts to the weight, and what is left alone."""

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.edit.masks import choose_weights
from localize.edit.subnet import first_scores
from localize.edit.weight_edit import WeightEdit
from localize.measure.scoring import recall_of
from localize.models.parameters import weight_view


def cells_of(model):
    return [(layer, name) for layer in range(model.n_layers) for name in COMPONENTS]


def flat(model, grad=False):
    """Every block weight, or its gradient, one matrix after the other."""
    return torch.cat([weight_view(model, *cell, grad=grad).reshape(-1) for cell in cells_of(model)])


def mask_gradient(model, sets, dropped, c):
    """dJ/dM of an explicit mask M that all parameters are multiplied by, 0 where a weight is dropped."""
    masks, start = model.copied(), 0
    for parameter in masks.hf.parameters():
        parameter.data.fill_(1.0)
    for cell in cells_of(model):
        weight = masks.weight(*cell)
        weight.copy_(1.0 - dropped[start : start + weight.numel()].view(weight.shape).to(weight))
        start += weight.numel()
    leaves = {name: parameter.detach().clone().requires_grad_() for name, parameter in masks.hf.named_parameters()}
    masked = {name: parameter.detach() * leaves[name] for name, parameter in model.hf.named_parameters()}

    def loss(rows):
        logits = functional_call(model.hf, masked, (rows.tokens,)).logits[:, rows.prefix_length - 1 : -1]
        return cross_entropy(logits.flatten(0, 1), rows.continuations.flatten())

    (loss(sets[1]) - c * loss(sets[0])).backward()
    for name, parameter in masks.hf.named_parameters():
        parameter.grad = leaves[name].grad
    return flat(masks, grad=True).detach()


def dropped_by_hand(model, sets, count, steps, learning_rate, c, seed):
    """Adam written out on the scores; which weights have the highest at the end."""
    scores = first_scores(flat(model).detach(), model.d_model, seed)
    first, second = torch.zeros_like(scores), torch.zeros_like(scores)
    for step in range(1, steps + 1):
        slope = -mask_gradient(model, sets, among_highest(scores, count), c)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        scores = scores - learning_rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    return among_highest(scores, count)


def among_highest(scores, count):
    marked = torch.zeros(len(scores), dtype=torch.bool)
    marked[scores.topk(count).indices] = True
    return marked


def places(edit, model):
    """The edit's weights, marked among all."""
    return torch.cat([edit.mask.matrix(*cell).flatten() for cell in cells_of(model)])


@pytest.mark.parametrize("steps", [1, 3])
def test_scores_move_as_autograd_through_an_explicit_mask_says(model, sets, steps):
    fraction, c = 0.05, 0.7
    edit = lz.balanced_subnet(model, *sets, fraction, steps=steps, learning_rate=0.1, c=c, seed=3)
    count = round(fraction * len(choose_weights(model)))
    expected = dropped_by_hand(model, sets, count, steps, 0.1, c, seed=3)
    assert torch.equal(places(edit, model), expected)
    assert not torch.equal(expected, among_highest(first_scores(flat(model).detach(), model.d_model, 3), count))


def test_so_many_weights_are_zeroed_the_others_keep_their_bits_and_all_is_undone(model, sets, all_weights):
    before, hash_before = all_weights(model), model.weights_hash()
    edit = lz.balanced_subnet(model, *sets, 0.037, steps=2)
    assert model.weights_hash() == hash_before
    total = sum(weight.numel() for weight in before.values())
    assert len(edit) == round(0.037 * total) == edit.call["masked"]
    assert edit.call["of"] == total
    with edit.applied(model):
        for cell, weight in all_weights(model).items():
            chosen = edit.mask.matrix(*cell)
            assert (weight[chosen] == 0).all()
            assert torch.equal(weight[~chosen], before[cell][~chosen])
    assert model.weights_hash() == hash_before


def test_the_log_tells_both_terms_of_the_model_as_it_was_masked(model, sets):
    edit = lz.balanced_subnet(model, *sets, 0.05, steps=2)
    assert [line["step"] for line in edit.call["log"]] == [0, 1, 2]
    with edit.applied(model):
        for name, part in zip(("forget", "keep"), sets, strict=True):
            recall = recall_of(model, part)
            assert edit.call["log"][-1][f"{name}_loss"] == pytest.approx(recall.token_nll.mean())
            assert edit.call["log"][-1][f"{name}_exact_match"] == pytest.approx(recall.exact_match.mean())
    assert edit.call["forget"] == [digest.hex() for digest in sets[0].hashes]


def test_a_seed_says_what_is_drawn_and_batches_do_not(model, sets):
    one = lz.balanced_subnet(model, *sets, 0.05, steps=2, batch_size=2)
    assert torch.equal(places(one, model), places(lz.balanced_subnet(model, *sets, 0.05, steps=2), model))
    other = lz.balanced_subnet(model, *sets, 0.05, steps=2, seed=1)
    assert not torch.equal(places(one, model), places(other, model))
    fewer = lz.balanced_subnet(model, *sets, 0.05, steps=2, per_step=2)
    assert not torch.equal(places(one, model), places(fewer, model))


def zeroed(model, mask):
    """An edit that zeroes a mask's weights."""
    before = {cell: model.weight(*cell).reshape(-1)[chosen].clone() for cell, chosen in mask.indices.items()}
    after = {cell: torch.zeros_like(values) for cell, values in before.items()}
    return WeightEdit.of(mask, before, after, {"measurement": "zeroed"})


def test_the_embedded_model_forgets_more_than_without_as_many_random_weights_and_holds_more_than_it_forgets():
    model, paragraphs = lz.load_model(), lz.load_paragraphs()
    dealt = lz.edit_sets(model, paragraphs, forget=4, seed=1)
    forget, keep = dealt.forget, dealt.keep[:30]
    edit = lz.balanced_subnet(model, forget, keep, steps=4)

    def share(part):
        return recall_of(model, part).exact_match.mean() / part.continuation_length

    before = share(keep)
    with edit.applied(model):
        ours, held = share(forget), share(keep)
    with zeroed(model, edit.mask.random_like(0)).applied(model):
        random = share(forget)
    assert ours < 0.5 * random
    assert held > 0.7 * before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fraction": 0.0}, "balanced_subnet: fraction=0.0 must lie above 0 and be at most 1."),
        ({"c": 0.0}, "balanced_subnet: c=0.0 must be finite and above 0."),
        ({"steps": 0}, "balanced_subnet: steps=0 must be a whole number of at least 1."),
        ({"learning_rate": -1.0}, "balanced_subnet: learning_rate=-1.0 must be finite and above 0."),
        ({"per_step": 0}, "balanced_subnet: per_step=0 must be a whole number of at least 1."),
    ],
)
def test_bad_options_are_refused_in_a_line(neo, sets, options, told):
    with pytest.raises(lz.LocalizeError) as error:
        lz.balanced_subnet(neo, *sets, **options)
    assert str(error.value) == told


def test_sets_that_overlap_are_refused_and_a_model_that_gives_no_number_too(neo, rows):
    with pytest.raises(lz.InputError, match="the sets must not overlap"):
        lz.balanced_subnet(neo, rows[:3], rows[2:5])
    neo.hf.transformer.ln_f.weight.data.fill_(float("inf"))
    hash_before = neo.weights_hash()
    with pytest.raises(
        lz.LocalizeError, match="balanced_subnet: the loss of the forget set is nan before the first step"
    ):
        lz.balanced_subnet(neo, rows[:3], rows[3:5])
    assert neo.weights_hash() == hash_before
