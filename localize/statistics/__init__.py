"""Statistics on plain arrays: intervals and tests that draw whole clusters, effect sizes, many tests."""

from localize.statistics.bootstrap import (
    Interval,
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_bootstrap_statistic,
)
from localize.statistics.clusters import ClusterSums, choosing_half, cluster_sums, effective_clusters
from localize.statistics.correction import LEVEL, false_discovery
from localize.statistics.effects import auc, paired_difference, share_rising, standardized_difference
from localize.statistics.matching import Matched, matched_difference
from localize.statistics.permutation import (
    PermutationTest,
    cluster_permutation_difference,
    cluster_sign_flip,
    pair_differences,
)
from localize.statistics.ranges import MINUS_ONE_TO_ONE, UNBOUNDED, ZERO_TO_ONE, Range
from localize.statistics.roughness import rough_difference, rough_mean
from localize.statistics.shares import cumulated_share, gini

__all__ = [
    "LEVEL",
    "MINUS_ONE_TO_ONE",
    "UNBOUNDED",
    "ZERO_TO_ONE",
    "ClusterSums",
    "Interval",
    "Matched",
    "PermutationTest",
    "Range",
    "auc",
    "choosing_half",
    "cluster_bootstrap",
    "cluster_bootstrap_difference",
    "cluster_bootstrap_statistic",
    "cluster_permutation_difference",
    "cluster_sign_flip",
    "cluster_sums",
    "cumulated_share",
    "effective_clusters",
    "false_discovery",
    "gini",
    "matched_difference",
    "pair_differences",
    "paired_difference",
    "rough_difference",
    "rough_mean",
    "share_rising",
    "standardized_difference",
]
