"""Sizes of gradients that are never kept, against the matrices themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from localize.measure import gradient_size
from localize.measure.gradient_size import gradient_products, gradient_sizes, outer_and_inner


def sides(rows, positions, outer, inner, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, positions, size, generator=generator, dtype=torch.float64) for size in (outer, inner))


def formed(outer, inner, heads):
    """The gradients themselves, one matrix per row and head."""
    whole = torch.einsum("pto,pti->poi", outer, inner)
    return whole.unflatten(1, (heads, -1)).flatten(2)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 5), positions=st.integers(1, 6), width=st.integers(1, 4), heads=st.integers(1, 3),
    inner=st.integers(1, 9), at_once=st.sampled_from([1, 20, 10**6]),
)  # fmt: skip
def test_sizes_are_those_of_the_matrices(rows, positions, width, heads, inner, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_size, "MATRICES_AT_ONCE", {"cpu": at_once})
        outer, other = sides(rows, positions, heads * width, inner)
        found = gradient_sizes(outer, other, heads)
        matrices = formed(outer, other, heads)
        assert torch.allclose(found["max"], matrices.abs().amax(-1), rtol=1e-12)
        assert torch.allclose(found["norm"], matrices.norm(dim=-1), rtol=1e-12)


@pytest.mark.parametrize(("positions", "wide"), [(3, 40), (60, 8)])
def test_a_norm_alone_is_the_same_whether_the_matrix_is_formed_or_not(positions, wide):
    outer, inner = sides(4, positions, 2 * wide, wide)
    assert set(gradient_sizes(outer, inner, 2, ("norm",))) == {"norm"}
    expected = formed(outer, inner, 2).norm(dim=-1)
    assert torch.allclose(gradient_sizes(outer, inner, 2, ("norm",))["norm"], expected, rtol=1e-11)


def test_a_gradient_that_cancels_over_positions_has_norm_zero_not_nan():
    outer, inner = sides(2, 1, 50, 50)
    outer, inner = torch.cat([outer, -outer], 1), torch.cat([inner, inner], 1)
    norms = gradient_sizes(outer, inner, 5, ("norm",))["norm"]
    assert float(norms.abs().max()) < 1e-6


def test_products_are_those_of_the_matrices_even_of_different_lengths():
    one, other = tuple(sides(3, 6, 12, 5, seed=1)), tuple(sides(3, 9, 12, 5, seed=2))
    expected = (formed(*one, 4) * formed(*other, 4)).sum(-1)
    assert torch.allclose(gradient_products(one, other, 4), expected, rtol=1e-10)


def test_what_divides_into_heads_comes_first():
    x, d = sides(1, 2, 3, 4)
    assert outer_and_inner("W_O", x, d)[0] is x
    assert all(outer_and_inner(component, x, d)[0] is d for component in ("W_Q", "W_K", "W_V", "W_in", "W_out"))


def test_a_norm_in_single_precision_keeps_its_digits_over_millions_of_entries():
    generator = torch.Generator().manual_seed(0)
    outer, inner = (torch.randn(1, 99, 1500, generator=generator) for _ in range(2))
    precise = formed(outer.double(), inner.double(), 1).norm()
    for statistics in (("norm",), ("max", "norm")):
        assert float(gradient_sizes(outer, inner, 1, statistics)["norm"]) == pytest.approx(float(precise), rel=2e-6)
