"""How often the statistics of prefix perturbation and of `distinguish` are wrong, in simulated worlds: two tables in markdown.

    python tests/benchmarks/calibration_perturbation.py [--simulations 2000] [--distinguish 400]

First: two groups of 40 paragraphs of 30 positions and two draws, lost at .01 and .15 errors per token. In all worlds but the last two
the groups have one profile of hazards; "found" is how often p <= .05 for their difference in the share of the top 5 positions and of
the first half: by lost exact match, by NLL rise, and by lost exact match beside saturation alone. Second: AUCs of features of which one
is shifted, with how often intervals hold the mean AUC of all simulations (chance where nothing is shifted), and how often p <= .05.
"""

import argparse

import numpy as np

from localize.analysis.concentration import first_half_share, top_share
from localize.statistics import cluster_permutation_difference, effective_clusters
from localize.statistics.classification import cluster_folds, held_out, pair_interval, parts_of_groups
from localize.statistics.permutation import relabellings
from localize.statistics.retrained import fixed_auc, retrained_auc
from localize.statistics.saturation import fitted

GROUP, POSITIONS, END = 40, 30, 50
LEVELS = (0.01, 0.15)
EARLY = np.arange(POSITIONS) < POSITIONS // 2


def one_for_all(rng, in_a):
    return np.broadcast_to(rng.gamma(0.5, 2.0, POSITIONS), (len(in_a), POSITIONS))


def own(rng, in_a):
    return rng.gamma(0.5, 2.0, (len(in_a), POSITIONS))


def log_normal(rng, in_a):
    return np.exp(1.2 * rng.normal(size=(len(in_a), POSITIONS)) - 0.72)


def few(rng, in_a):
    return np.where(rng.random((len(in_a), POSITIONS)) < 0.15, 5.0, 0.3)


def late(rng, in_a):
    return own(rng, in_a) * np.exp(3 * np.arange(POSITIONS) / POSITIONS) / 6


def narrower(rng, in_a):
    return np.where(
        in_a[:, None], rng.gamma(0.2, 5.0, (len(in_a), POSITIONS)), rng.gamma(1.5, 1 / 1.5, (len(in_a), POSITIONS))
    )


def earlier(rng, in_a):
    return own(rng, in_a) * np.where(in_a[:, None] == EARLY, 1.5, 0.5)


WORLDS = {
    "one profile for all paragraphs": (one_for_all, 0.0), "the same, levels spread": (one_for_all, 0.6),
    "profiles of their own, gamma": (own, 0.0), "profiles of their own, levels spread": (own, 0.6), "log-normal": (log_normal, 0.6),
    "few positions": (few, 0.6), "late positions": (late, 0.6), "**one group's narrower**": (narrower, 0.3),
    "**one group's earlier**": (earlier, 0.3),
}  # fmt: skip


def shares(effect):
    return np.stack([top_share(effect), first_half_share(effect)])


def positions(name, seed):
    """Three times two p-values: exact match, NLL, exact match beside saturation alone."""
    profile, spread = WORLDS[name]
    rng, in_a = np.random.default_rng(seed), np.arange(2 * GROUP) < GROUP
    levels = np.where(in_a, *LEVELS) * np.exp(spread * rng.normal(size=len(in_a)))
    hazard = levels[:, None, None] * np.repeat(profile(rng, in_a)[:, None], 2, axis=1)
    lost = END - np.minimum(np.floor(rng.standard_exponential(hazard.shape) / np.maximum(hazard, 1e-12)), END)
    rise, clusters, before = (
        hazard * rng.gamma(20, 1 / 20, hazard.shape),
        np.arange(len(in_a)),
        np.full(len(in_a), float(END)),
    )
    alone = fitted(lost, before, in_a).expected(shares, lost, before, clusters, seed=seed, repeats=30)
    found = []
    for values in (shares(lost), shares(rise), shares(lost) - alone):
        test = cluster_permutation_difference(values.T, in_a, ~in_a, clusters, seed=seed, permutations=399)
        found += test.p_value.tolist()
    return found


CLASSIFIED = {  # clusters of a and b, paragraphs in each of the four largest, shift of one of 20 features
    "40 against 40": ((40, 40), 1, 0.0), "40 against 40, shifted by .5": ((40, 40), 1, 0.5), "by 1": ((40, 40), 1, 1.0),
    "by 2": ((40, 40), 1, 2.0), "by 3": ((40, 40), 1, 3.0), "4 of 40 hold 8 paragraphs": ((40, 40), 8, 0.0),
    "the same, shifted by 1": ((40, 40), 8, 1.0), "70 against 15": ((70, 15), 1, 0.0), "70 against 15, shifted by 1": ((70, 15), 1, 1.0),
}  # fmt: skip


def classified(name, seed):
    """AUC, ends as scores are and as told, and p."""
    (a, b), largest, shift = CLASSIFIED[name]
    rng = np.random.default_rng(seed)
    sizes = np.ones(a + b, int)
    sizes[:4] = sizes[a : a + 4] = largest
    clusters = np.repeat(np.arange(a + b), sizes)
    in_a = clusters < a
    features = rng.normal(size=(a + b, 20))[clusters]
    features[:, 0] += shift * in_a
    parts, part = parts_of_groups(in_a, clusters)
    labels = relabellings(np.random.default_rng(seed), parts, 100)[:, part]
    found = held_out([features], labels, cluster_folds(in_a, clusters, seed=seed, folds=10, repeats=2))
    plain = pair_interval(found.wins, found.pairs, in_a, clusters, seed=seed, resamples=400)
    fewest = min(effective_clusters(clusters[members]) for members in (in_a, ~in_a))
    wide = retrained_auc(plain, found.auc[1:], fixed_auc(found.ahead, labels)[1:], fewest)
    p_value = np.mean(found.auc >= found.auc[0] - 1e-9)
    return [float(found.auc[0]), float(plain.low), float(plain.high), float(wide.low), float(wide.high), p_value]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="of each world of positions")
    parser.add_argument("--distinguish", type=int, default=400, help="of each world of a classifier")
    asked = parser.parse_args()
    print("| positions | top 5, exact match | NLL | beside saturation | half, exact match | NLL | beside saturation |")
    print("|---|---|---|---|---|---|---|")
    for name in WORLDS:
        p_values = np.array([positions(name, seed) for seed in range(asked.simulations)])
        top, half = (np.mean(p_values[:, place::2] <= 0.05, axis=0) for place in (0, 1))
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in (*top, *half))} |", flush=True)
    print("\n| classifier | mean AUC | scores as they are hold it | as told | p <= .05 |\n|---|---|---|---|---|")
    for name, (_, _, shift) in CLASSIFIED.items():
        rows = np.array([classified(name, seed) for seed in range(asked.distinguish)])
        true = rows[:, 0].mean() if shift else 0.5
        held = [np.mean((rows[:, low] <= true) & (true <= rows[:, low + 1])) for low in (1, 3)]
        print(
            f"| {name} | {rows[:, 0].mean():.3f} | {held[0]:.3f} | {held[1]:.3f} | {np.mean(rows[:, 5] <= 0.05):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
