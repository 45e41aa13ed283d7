"""The curvature edit: factors against loops, parts against the explicit Kronecker product, and what is left alone."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.edit.curvature import smallest_parts, without_flat_parts
from localize.keyed import keyed_integer
from localize.measure.curvature_factors import Factors, curvature_factors
from localize.models.parameters import linear_modules


def random_factors(shape, seed):
    rng = torch.Generator().manual_seed(seed)
    return Factors(*(m @ m.T for m in (torch.randn(n, n, generator=rng, dtype=torch.float64) for n in shape)))


def drawn_by_hand(model, text, seed):
    """Each row's drawn tokens, one position at a time."""
    drawn = torch.zeros(len(text), text.tokens.shape[1] - 1, dtype=torch.int64)
    for row, digest in enumerate(text.hashes):
        u = np.random.default_rng(keyed_integer(2**63, "drawn tokens", seed, digest)).random(drawn.shape[1])
        p = model(text.tokens[row : row + 1])[0, :-1].softmax(-1).detach().numpy()
        for at in range(drawn.shape[1]):
            drawn[row, at] = int(np.flatnonzero(p[at].cumsum() > u[at])[0])
    return drawn


def test_factors_are_the_second_moments_of_what_a_loop_of_backward_passes_sees(model, rows):
    text, cells = rows[:3], [(1, "W_in"), (1, "W_out"), (0, "W_Q")]
    drawn = drawn_by_hand(model, text, seed=4)
    expected = {cell: [0.0, 0.0] for cell in cells}
    seen, handles = {}, []
    for cell in cells:
        module, part = linear_modules(model.blocks[cell[0]], model.family)[cell[1]]

        def keep(_, inputs, output, cell=cell, part=part):
            output.retain_grad()
            seen[cell] = (inputs[0], output, part)

        handles.append(module.register_forward_hook(keep))
    for row in range(len(text)):
        logits = model.hf(text.tokens[row : row + 1]).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, drawn[row], reduction="sum").backward()
        for cell in cells:
            x, output, part = seen[cell]
            width = model.weight(*cell).shape[1]
            d = output.grad[0, :-1, part * width : (part + 1) * width]
            for at in range(len(d)):
                expected[cell][0] = expected[cell][0] + torch.outer(x[0, at], x[0, at]).detach()
                expected[cell][1] = expected[cell][1] + torch.outer(d[at], d[at])
        model.hf.zero_grad(set_to_none=True)
    for handle in handles:
        handle.remove()
    for batch_size in (1, 3):
        found = curvature_factors(model, text, cells, seed=4, batch_size=batch_size)
        for cell in cells:
            for have, want in zip(found[cell], expected[cell], strict=True):
                want = want / drawn.numel()
                assert torch.allclose(have, want, rtol=1e-5, atol=1e-6 * float(want.abs().max()))


def test_what_is_kept_are_the_largest_eigenvectors_of_the_explicit_kronecker_product():
    weight, factors = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), None
    factors = random_factors((4, 3), 1)
    values, vectors = np.linalg.eigh(np.kron(factors.inputs.numpy(), factors.outputs.numpy()))
    order = values.argsort()[::-1]
    kept = order[: int((values[order].cumsum() < 0.9 * values.sum()).sum()) + 1]
    flat = weight.numpy().reshape(-1)  # row-major: input x output, as in kron(A, G)
    expected = (vectors[:, kept] @ (vectors[:, kept].T @ flat)).reshape(4, 3)
    lost, gone = without_flat_parts(weight, factors, 0.9)
    assert int(gone.sum()) == 12 - len(kept) > 0
    assert np.allclose((weight - lost).numpy(), expected, atol=1e-10)


def test_at_a_share_of_1_nothing_is_lost_and_there_is_no_edit(neo, rows):
    weight = torch.randn(4, 3, dtype=torch.float64)
    lost, gone = without_flat_parts(weight, random_factors((4, 3), 2), 1.0)
    assert torch.equal(weight - lost, weight) and not gone.any()
    with pytest.raises(lz.LocalizeError, match=r"curvature_edit: none of the .* weights changed; there is no edit"):
        lz.curvature_edit(neo, rows, 1.0)


def test_parts_are_dropped_once_those_before_hold_the_share():
    curvature = torch.tensor([[6.0, 1.0], [2.0, 1.0]])
    assert smallest_parts(curvature, 0.8).tolist() == [[False, True], [False, True]]
    assert smallest_parts(curvature, 0.81).tolist() == [[False, False], [False, True]]
    assert smallest_parts(curvature, 0.1).tolist() == [[False, True], [True, True]]


def test_only_the_matrices_asked_for_change_and_undo_is_exact(model, rows, all_weights):
    before, hashed = all_weights(model), model.weights_hash()
    edit = lz.curvature_edit(model, rows, 0.8, layers=1, components="W_out")
    assert model.weights_hash() == hashed
    ((layer, component, gone, parts, share),) = edit.call["dropped"]
    assert (layer, component, parts) == (1, "W_out", model.weight(1, "W_out").numel())
    assert 0 < gone < parts and 0 < share < 1
    with edit.applied(model):
        after = all_weights(model)
        changed = {cell for cell in before if not torch.equal(before[cell], after[cell])}
        assert changed == {(1, "W_out")}
        lost = (before[1, "W_out"] - after[1, "W_out"]).square().sum() / before[1, "W_out"].square().sum()
        assert float(lost) == pytest.approx(share, rel=1e-6)
    assert model.weights_hash() == hashed


def test_the_upper_half_is_edited_if_nobody_says_which_and_the_null_drops_as_many_parts(neo, rows):
    found, null = (lz.curvature_edit(neo, rows, 0.8, random=random) for random in (False, True))
    assert found.call["layers"] == list(range(neo.n_layers // 2, neo.n_layers))
    counts = [[one[:4] for one in edit.call["dropped"]] for edit in (found, null)]
    assert counts[0] == counts[1]
    general = [float(lz.recall(neo, rows)["nll"].mean())]
    for edit in (found, null):
        with edit.applied(neo):
            general.append(float(lz.recall(neo, rows)["nll"].mean()))
    # as many random parts do more to what the text needs
    assert abs(general[1] - general[0]) < abs(general[2] - general[0])


def test_an_edit_that_names_no_text_is_judged_by_groups_of_recall_and_by_other_general_text(neo, rows):
    edit = lz.curvature_edit(neo, rows[:4], 0.8)
    change = lz.evaluate_edit(neo, edit, rows[4:8], general=rows[8:], draws=1)
    assert set(change.groups) == {"not_memorized", "general"}
    with pytest.raises(
        lz.InputError, match=r"is among what the curvature was measured on \(1 of 5\); an edit is judged by other text"
    ):
        lz.evaluate_edit(neo, edit, rows[4:7], general=rows[[3, 8, 9, 10, 11]], draws=1)


@pytest.mark.parametrize("rho", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_told(neo, rows, rho):
    with pytest.raises(lz.LocalizeError) as told:
        lz.curvature_edit(neo, rows, rho)
    assert str(told.value) == f"curvature_edit: rho={rho} must lie above 0 and be at most 1, where nothing is dropped."


def test_text_that_is_known_by_heart_is_no_general_text(neo, rows):
    said = rows[:4].with_own_continuation(neo).tokens
    with pytest.raises(lz.InputError) as caught:
        lz.curvature_edit(neo, lz.load_paragraphs(said, prefix_length=24, continuation_length=16))
    assert str(caught.value).startswith("curvature_edit: 4 of 4 paragraphs of ")
    assert str(caught.value).endswith("it is no general text, and what their recital needs would be kept.")
