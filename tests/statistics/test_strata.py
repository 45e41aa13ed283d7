"""Labels move inside strata of clusters that are alike, and nowhere else."""

import numpy as np

from localize.statistics.groups import cluster_parts
from localize.statistics.permutation import relabelled_among_alike
from localize.statistics.strata import quantile_part, strata_of_clusters


def test_parts_are_equally_full_and_equal_values_share_one():
    assert quantile_part(np.array([3.0, 1.0, 2.0, 4.0]), 2).tolist() == [1, 0, 0, 1]
    assert quantile_part(np.full(3, 7.0), 4).tolist() == [2, 2, 2]


def test_labels_move_among_alike_clusters_only_and_the_parts_of_one_cluster_swap():
    rng = np.random.default_rng(7)
    clusters = np.concatenate([np.arange(30), np.arange(1000, 1024), np.arange(24, 30)])  # the last six in both groups
    a = np.arange(60) < 30
    (parts,) = cluster_parts(rng.normal(size=60), a, ~a, clusters, draws=50)
    both, alone_count = parts.both, parts.only_a + parts.only_b
    assert (both, parts.only_a, parts.only_b) == (6, 24, 24)
    own = np.arange(alone_count) < parts.only_a
    means = rng.normal(np.where(own, 0.5, -0.5), 1.0)
    stratum = strata_of_clusters(means, own, 6)
    labels = relabelled_among_alike(np.random.default_rng(0), parts, stratum, 50)
    assert (labels[0] == parts.in_a).all()
    alone = labels[:, :alone_count]
    for one in np.unique(stratum):
        inside = alone[:, stratum == one]
        assert (inside.sum(1) == inside[0].sum()).all()
    assert (labels[:, -2 * both : -both] == ~labels[:, -both:]).all()
    assert len(np.unique(labels, axis=0)) > 45
    # Outside the range of both, a cluster is alike to none.
    outside = (means < max(means[own].min(), means[~own].min())) | (means > min(means[own].max(), means[~own].max()))
    assert outside.any()
    assert (alone[:, outside] == alone[0, outside]).all()
