"""Kernels on attention against scipy and against loops."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, rankdata, spearmanr
from scipy.stats import entropy as scipy_entropy

from localize.measure.attention import (
    average_ranks,
    dense_ranks,
    distance,
    entropy,
    kendall,
    pearson,
    rank_correlations,
    rarest_mass,
    spearman,
    sum_by_rank,
)

ORACLES = [(pearson, pearsonr), (spearman, spearmanr), (kendall, kendalltau)]


def with_ties(*shape, seed=0, high=6, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, high, shape)).to(dtype)


def attention(*shape, seed=0):
    values = np.random.default_rng(seed).gamma(0.5, size=shape)
    return torch.from_numpy(values / values.sum(-1, keepdims=True))


def mass_by_loops(row, counts, rarest):
    """Takes the keys count by count, the rarest first; those of the count that does not fit share the places left."""
    places, total = rarest, 0.0
    for count in sorted(set(counts)):
        tied = [key for key, other in enumerate(counts) if other == count]
        part = min(1.0, places / len(tied))
        total += part * sum(row[key] for key in tied)
        places = max(0, places - len(tied))
    return total


def test_ranks_are_those_of_scipy_ties_included():
    for values in (with_ties(3, 4, 20, dtype=torch.int64), with_ties(3, 4, 20) / 7):
        assert np.array_equal(average_ranks(values).numpy(), rankdata(values, axis=-1) - 1)


def test_a_rank_of_nan_is_nan():
    assert torch.isnan(average_ranks(torch.tensor([0.1, torch.nan, 0.3]))).tolist() == [False, True, False]
    assert torch.isnan(spearman(torch.tensor([[0.1, torch.nan, 0.3]]), torch.tensor([[1, 2, 3]]))).all()


def test_dense_ranks_leave_none_out():
    values = with_ties(5, 20, high=40, dtype=torch.int64)
    assert np.array_equal(dense_ranks(values).numpy(), rankdata(values, method="dense", axis=-1) - 1)
    assert dense_ranks(torch.tensor([900, 7, 7, -1])).tolist() == [2, 1, 1, 0]


@pytest.mark.parametrize(("ours", "theirs"), ORACLES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_correlations_are_those_of_scipy_for_every_pair_of_rows(ours, theirs, dtype):
    x, y = attention(2, 5, 30).to(dtype), with_ties(2, 3, 30, seed=1, dtype=dtype)
    x[0, 0, :4] = x[0, 0, 4]  # ties on this side too
    found = ours(x, y)
    assert found.shape == (2, 5, 3)
    assert found.dtype == torch.float64
    for paragraph, a, b in np.ndindex(2, 5, 3):
        expected = theirs(x[paragraph, a].double().numpy(), y[paragraph, b].double().numpy()).statistic
        assert found[paragraph, a, b].item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("correlate", [spearman, kendall])
def test_leading_axes_broadcast(correlate):
    x, y = attention(2, 5, 12), with_ties(1, 3, 12)
    assert torch.equal(correlate(x, y), correlate(x, y.expand(2, 3, 12)))


@pytest.mark.parametrize("correlate", [spearman, kendall])
def test_counts_too_large_for_a_float_are_still_told_apart(correlate):
    counts = torch.tensor([[2**60, 2**60 + 1, 2**60 + 2]])
    assert correlate(torch.tensor([[0.1, 0.2, 0.3]]), counts).item() == 1
    assert rarest_mass(torch.tensor([[0.1, 0.2, 0.3]]), counts, 1).item() == pytest.approx(0.1)


@pytest.mark.parametrize("correlate", [spearman, kendall])
def test_attention_too_small_for_single_precision_is_still_told_apart(correlate):
    attention = torch.tensor([[2e-60, 1e-60, 3e-60]], dtype=torch.float64)
    assert correlate(attention, torch.tensor([[2, 1, 3]])).item() == 1


@pytest.mark.parametrize(("ours", "theirs"), ORACLES)
def test_what_is_constant_correlates_with_nothing(ours, theirs):
    rises, flat = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 4.0, 4.0]])
    rounded = torch.full((1, 49), 0.3, dtype=torch.float64)
    assert rounded.mean() != 0.3
    assert torch.isnan(ours(rounded, torch.arange(49.0)[None])).all()
    for pair in ((rises, flat), (flat, rises), (flat, flat), (rises[:, :1], rises[:, :1])):
        assert torch.isnan(ours(*pair)).all()
    if theirs is not kendalltau:
        with pytest.warns(ConstantInputWarning):
            assert np.isnan(theirs([1, 2, 3], [4, 4, 4]).statistic)


def test_mass_is_that_of_loops_ties_sharing_the_last_places():
    rows, counts = attention(2, 5, 12), with_ties(2, 3, 12, seed=1, dtype=torch.int64)
    for rarest in (1, 3, 5, 11, 12, 40):
        found = rarest_mass(rows, counts, rarest)
        assert found.shape == (2, 5, 3)
        for paragraph, a, b in np.ndindex(2, 5, 3):
            expected = mass_by_loops(rows[paragraph, a].tolist(), counts[paragraph, b].tolist(), rarest)
            assert found[paragraph, a, b].item() == pytest.approx(expected, abs=1e-12)


def test_of_three_tokens_that_tie_for_two_places_two_thirds_count():
    row, counts = torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([[9, 9, 1, 9]])
    assert rarest_mass(row, counts, 1).item() == pytest.approx(0.3)
    assert rarest_mass(row, counts, 3).item() == pytest.approx(0.3 + 2 / 3 * 0.7)
    assert rarest_mass(row, counts, 4).item() == pytest.approx(1.0)


def test_entropy_is_that_of_scipy_and_unseen_keys_add_nothing():
    rows = attention(3, 4, 9)
    assert entropy(rows).numpy() == pytest.approx(scipy_entropy(rows.numpy(), axis=-1), abs=1e-13)
    one, even = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([0.25] * 4)
    assert entropy(one).item() == 0
    assert entropy(even).item() == pytest.approx(np.log(4))
    assert entropy(torch.cat([even, torch.zeros(5)])).item() == pytest.approx(np.log(4))


def test_distance_is_that_of_loops_where_the_last_query_is_the_last_key():
    rows = attention(2, 3, 4, 9)
    found = distance(rows)
    assert found.shape == (2, 3, 4)
    for paragraph, head, query in np.ndindex(2, 3, 4):
        back = sum(float(rows[paragraph, head, query, key]) * (5 + query - key) for key in range(9))
        assert found[paragraph, head, query].item() == pytest.approx(back, abs=1e-12)
    assert distance(torch.eye(5)).tolist() == [0] * 5
    assert distance(torch.eye(5).roll(-1, 1))[1:].tolist() == [1] * 4


def test_attention_is_summed_by_rank_as_loops_do():
    rows, ranks = attention(4, 3, 8), dense_ranks(with_ties(4, 8, dtype=torch.int64))
    sums = defaultdict(float)
    for paragraph, row, key in np.ndindex(4, 3, 8):
        sums[row, int(ranks[paragraph, key])] += float(rows[paragraph, row, key])
    expected = [[sums[row, rank] for rank in range(8)] for row in range(3)]
    assert sum_by_rank(rows, ranks).numpy() == pytest.approx(np.array(expected), abs=1e-12)


def test_sums_correlate_with_the_rank_as_scipy_has_it():
    sums = attention(3, 10)
    found = rank_correlations(sums)
    assert found.shape == (3, 3)
    for index, (_, theirs) in enumerate(ORACLES):
        for row in range(3):
            expected = theirs(np.arange(10), sums[row].numpy()).statistic
            assert found[index, row].item() == pytest.approx(expected, abs=1e-13)
