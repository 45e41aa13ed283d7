import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.errors import LocalizeError, called_as
from localize.statistics import cluster_sums, effective_clusters
from localize.statistics import clusters as clusters_module
from localize.statistics.clusters import cells_sharing_counts, check_paragraphs

RNG = np.random.default_rng(0)


def test_equal_clusters_are_as_many_as_they_are():
    assert effective_clusters(np.repeat([4, 9, -1], 5)) == 3.0


def test_one_large_cluster_leaves_little_more_than_one():
    assert effective_clusters(np.array([0] * 98 + [1, 2])) == pytest.approx(100**2 / (98**2 + 2))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_effective_clusters_lie_between_one_and_the_number_of_clusters(labels):
    assert 1.0 <= effective_clusters(np.array(labels)) <= len(set(labels)) + 1e-12


def test_no_paragraph_has_no_effective_clusters():
    with pytest.raises(LocalizeError) as told:
        effective_clusters(np.array([], dtype=int))
    assert str(told.value) == "effective_clusters: clusters is empty; at least one paragraph is needed."


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (1,), (3,), (2, 3)]))
def test_cluster_sums_are_those_of_a_loop(seed, cell):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    values = rng.normal(size=(n, *cell))
    values[rng.random(values.shape) < 0.3] = np.nan
    clusters, members = rng.integers(-4, 4, n), rng.random(n) < 0.7
    got = cluster_sums(values, clusters, members)
    assert got.labels.tolist() == sorted(set(clusters[members].tolist()))
    assert got.sums.shape == got.counts.shape == (len(got.labels), *cell)
    for row, label in enumerate(got.labels):
        mine = values[members & (clusters == label)]
        np.testing.assert_allclose(got.sums[row], np.nansum(mine, axis=0), atol=1e-13)
        np.testing.assert_array_equal(got.counts[row], (~np.isnan(mine)).sum(0))


def test_cluster_sums_leave_their_input_alone():
    values = np.array([1.0, np.nan])
    cluster_sums(values, np.array([0, 0]), np.array([True, True]))
    np.testing.assert_array_equal(values, [1.0, np.nan])


def test_cells_that_miss_the_same_are_together_and_no_piece_is_too_large(monkeypatch):
    monkeypatch.setattr(clusters_module, "CELLS_TIMES_DRAWS", 20)
    counts = np.array([[1, 1, 2, 1, 1], [3, 3, 3, 0, 3]])
    pieces = list(cells_sharing_counts(counts, 10))
    assert sorted(cell for cells, _ in pieces for cell in cells.tolist()) == [0, 1, 2, 3, 4]
    assert sorted(len(cells) for cells, _ in pieces) == [1, 1, 1, 2]
    for cells, pattern in pieces:
        assert (counts[:, cells] == pattern[:, None]).all()


def test_no_cells_make_no_pieces():
    assert list(cells_sharing_counts(np.zeros((2, 0), dtype=int), 10)) == []


MASK = np.array([True, False, False])


@pytest.mark.parametrize(
    ("values", "clusters", "groups", "message"),
    [
        (
            np.array([0.0, np.inf, 0.0]),
            np.arange(3),
            {},
            "f: values is infinite at paragraph 1; it must be finite, or nan where nothing was measured.",
        ),
        (
            np.zeros(3),
            np.arange(2),
            {},
            "f: clusters has shape (2,); it must be (3,), one label per paragraph of values.",
        ),
        (np.zeros(0), np.arange(0), {}, "f: values has no paragraph; at least one is needed."),
        (
            np.zeros(3),
            np.arange(3),
            {"in_a": MASK.astype(int)},
            "f: in_a is int64 of shape (3,); it must be a bool mask of shape (3,), one entry per paragraph.",
        ),
        (
            np.zeros(3),
            np.arange(3),
            {"in_a": MASK, "in_b": MASK[:2]},
            "f: in_b is bool of shape (2,); it must be a bool mask of shape (3,), one entry per paragraph.",
        ),
        (
            np.zeros(3),
            np.arange(3),
            {"in_a": MASK, "in_b": MASK & False},
            "f: in_b selects 0 of 3 paragraphs; at least one is needed to compare.",
        ),
        (
            np.zeros(3),
            np.arange(3),
            {"in_a": np.array([False, True, True]), "in_b": np.array([True, False, True])},
            "f: paragraph 2 is in both in_a and in_b; the groups must not overlap.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(values, clusters, groups, message):
    with called_as("f"), pytest.raises(LocalizeError) as told:
        check_paragraphs(values, clusters, **groups)
    assert str(told.value) == message


def test_import_brings_neither_scipy_nor_torch():
    code = "import sys, localize.statistics; sys.exit(bool({'scipy', 'torch', 'xarray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
