"""One batched backward pass against one backward pass per row, rows of different lengths among them."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.gradient_size import Sizes
from localize.models.parameters import weight_view

PREFIX, LENGTHS = 24, (60, 41, 25, 60, 33, 52)


@pytest.fixture
def scored(tokens):
    return continuation_mask(tokens, PREFIX, torch.tensor(LENGTHS))


def of_one_row(model, row):
    """The gradient of one unpadded row's mean NLL, from `.grad`."""
    model.hf.zero_grad()
    loss = cross_entropy(model(row[None])[0, PREFIX - 1 : -1], row[PREFIX:])
    loss.backward()
    found = {
        (layer, c): weight_view(model, layer, c, grad=True).clone()
        for layer in range(model.n_layers)
        for c in COMPONENTS
    }
    model.hf.zero_grad()
    return float(loss.detach()), found


def test_a_continuations_tokens_are_those_from_the_prefix_to_each_rows_end(tokens):
    mask = continuation_mask(tokens, PREFIX, torch.tensor(LENGTHS))
    assert mask.sum(1).tolist() == [length - PREFIX for length in LENGTHS]
    assert mask[1].nonzero()[:, 0].tolist() == list(range(PREFIX, 41))
    assert torch.equal(continuation_mask(tokens, PREFIX), continuation_mask(tokens, PREFIX, torch.full((6,), 60)))


@pytest.mark.parametrize("rows_at_once", [1, 4, 6])
def test_rows_of_any_length_have_the_gradients_of_their_own_backward_pass(hooked, tokens, scored, rows_at_once):
    sizes, losses = Sizes(hooked, len(tokens)), []
    for start in range(0, len(tokens), rows_at_once):
        rows = slice(start, start + rows_at_once)
        passed = backward_pass(
            hooked, tokens[rows], scored[rows], on_linear=lambda *linear, rows=rows: sizes.fill(rows, *linear)
        )
        losses += passed.loss.tolist()
    oracle = Sizes(hooked, len(tokens))
    for row, length in enumerate(LENGTHS):
        loss, gradients = of_one_row(hooked, tokens[row, :length])
        assert losses[row] == pytest.approx(loss, rel=1e-12)
        for (layer, component), gradient in gradients.items():
            oracle.fill_formed(row, layer, component, gradient)
    for name, expected in oracle.arrays.items():
        assert torch.allclose(sizes.arrays[name], expected, rtol=1e-10, atol=0), name


def test_what_stands_in_the_padding_does_not_matter(hooked, tokens, scored):
    other = torch.where(torch.arange(60) < torch.tensor(LENGTHS)[:, None], tokens, 5)
    arrays = []
    for rows in (tokens, other):
        sizes = Sizes(hooked, len(rows))
        backward_pass(hooked, rows, scored, on_linear=lambda *linear, sizes=sizes: sizes.fill(slice(0, 6), *linear))
        arrays.append(sizes.arrays)
    assert all(torch.equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


def test_exact_match_and_nll_come_from_the_same_pass(hooked, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=60 - PREFIX)
    passed = backward_pass(hooked, tokens, continuation_mask(tokens, PREFIX))
    recall = lz.recall(hooked, paragraphs)
    assert passed.exact_match.tolist() == recall["exact_match"].values.tolist()
    assert torch.allclose(passed.token_loss, torch.tensor(recall["token_nll"].values), rtol=1e-12)


@pytest.mark.parametrize(("position", "what"), [(0, "its first token"), (None, "no token")])
def test_a_row_without_a_predicted_token_is_refused(neo, tokens, scored, position, what):
    scored[2] = False
    if position is not None:
        scored[2, position] = True
    with pytest.raises(lz.LocalizeError) as caught:
        backward_pass(neo, tokens, scored)
    assert str(caught.value) == (
        f"localize: row 2 has {what} scored; at least one of the tokens 1..59 is needed, and nothing predicts the first."
    )
